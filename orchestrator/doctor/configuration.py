"""The configuration, as orch and rattler read it: what decides which servers are asked, and how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.doctor import engine
from orchestrator.doctor.check import Check, fault, note, ok
from orchestrator.environment.config import Settings, config_files, read_settings
from orchestrator.errors import OrchError
from orchestrator.paths import Home

_NOT_LOOKED_AT = "Channels and credentials were not looked at."


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the ways to packages."""

    settings: Settings
    channels: tuple[str, ...]
    """The URLs of the default channels."""
    proxies: Mapping[str, str]
    """By scheme; those of the configuration stand before the environment's."""
    no_proxy: tuple[str, ...]
    auth_file: str


def read(home: Home, environ: Mapping[str, str] = os.environ) -> tuple[Found | None, list[Check]]:
    """What the configuration says, None where it can't be read; and whether it can be used."""
    try:
        settings = read_settings(home, environ)
    except OrchError as error:
        return None, [fault("configuration", str(error), _NOT_LOOKED_AT)]
    files = ", ".join(str(path) for path, _ in config_files(home, environ)) or f"none (it would be {home.config})"
    read = ok("configuration", files)
    try:
        said = engine.ask(home)
    except OrchError as error:
        return None, [read, fault("conda engine", str(error), _NOT_LOOKED_AT)]
    proxies, no_proxy = _proxies(environ)
    found = Found(
        settings,
        tuple(said["channels"]),
        {**proxies, **said["proxies"]},
        (*no_proxy, *said["no_proxy"]),
        said["auth_file"],
    )
    checks = [read, ok("conda engine", f"py-rattler {said['version']}")]
    if said["tls_no_verify"]:
        found_so = "tls-no-verify is set: any server can pass for a channel"
        checks.append(note("configuration", found_so, "Better name your site's certificates, as SSL_CERT_FILE."))
    return found, checks


def _proxies(environ: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The proxies of the environment by scheme, and the hosts that need none. Lower case counts more, as for curl."""
    found = {}
    for scheme in ("http", "https"):
        names = (f"{scheme}_proxy", f"{scheme}_PROXY".upper(), "all_proxy", "ALL_PROXY")
        if value := next((environ[name] for name in names if environ.get(name)), None):
            found[scheme] = value if "://" in value else f"http://{value}"
    hosts = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return found, tuple(host.strip() for host in hosts.split(",") if host.strip())
