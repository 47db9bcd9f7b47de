"""Credentials that are there for hosts: where, and for which. What they are is sent to their host, and never shown."""

from __future__ import annotations

import base64
import json
import netrc
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from orchestrator.doctor.check import Check, fault, note, ok
from orchestrator.doctor.configuration import Found


@dataclass(frozen=True, slots=True)
class Credential:
    """Something to log in with at `host` (`*.example.com` is for all below). `place` is a file, or the key of one."""

    host: str
    place: str
    header: str = field(default="", repr=False)
    """The value of `Authorization`; "" where it is sent otherwise."""
    token: str = field(default="", repr=False)
    """conda's, which stands in the path (`/t/TOKEN/`)."""

    def fits(self, host: str) -> bool:
        """Whether it is for this host (name, or name and port)."""
        name = host.partition(":")[0]
        return self.host in (host, name) or (self.host.startswith("*.") and name.endswith(self.host[1:]))


@dataclass(frozen=True, slots=True)
class Known:
    """The credentials, in the order in which rattler takes them, and what is wrong with the files that hold them."""

    credentials: tuple[Credential, ...] = ()
    troubles: tuple[Check, ...] = ()

    def for_host(self, host: str) -> Credential | None:
        """The one for a host."""
        return next((one for one in self.credentials if one.fits(host)), None)


def known(found: Found, environ: Mapping[str, str] = os.environ) -> Known:
    """Credentials of the configured URLs, of rattler's auth files and of the netrc file."""
    user = Path(environ.get("HOME") or "/")
    credentials = list(_in_urls(found))
    troubles: list[Check] = []
    files = (environ.get("RATTLER_AUTH_FILE"), found.auth_file, str(user / ".rattler/credentials.json"))
    for path in dict.fromkeys(Path(name).expanduser() for name in files if name):
        _take(path, _of_auth_file, credentials, troubles)
    _take(Path(environ.get("NETRC") or user / ".netrc"), _of_netrc, credentials, troubles)
    return Known(tuple(credentials), tuple(troubles))


def look(known: Known) -> Iterator[Check]:
    """What was found, by place."""
    yield from known.troubles
    by_place: dict[str, list[str]] = {}
    for one in known.credentials:
        by_place.setdefault(one.place, []).append(one.host)
    shown = "; ".join(f"{place}: {', '.join(dict.fromkeys(hosts))}" for place, hosts in by_place.items())
    yield ok("credentials", shown or "none in files (a keyring is not opened)")


def header_of(user: str, password: str) -> str:
    """The value of `Authorization` for a name and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _in_urls(found: Found) -> Iterator[Credential]:
    settings = found.settings
    indexes = (settings.pypi_index or "", *settings.pypi_extra_indexes)
    places = [place for mirrors in settings.mirrors.values() for place in mirrors]
    for name, urls in (("default-channels", found.channels), ("mirrors", places), ("pypi", indexes)):
        for parts in map(urlsplit, urls):
            host = parts.netloc.rpartition("@")[2]
            if parts.username:
                header = header_of(unquote(parts.username), unquote(parts.password or ""))
                yield Credential(host, f"{name} of the configuration", header)
            elif parts.path.startswith("/t/"):
                yield Credential(host, f"{name} of the configuration")  # the address has it already


def _take(path: Path, read: Any, credentials: list[Credential], troubles: list[Check]) -> None:
    try:
        facts = path.stat()
        credentials += read(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        troubles.append(
            fault("credentials", f"{path} can't be read: {error.strerror}", "Mend its rights, or remove it.")
        )
        return
    except netrc.NetrcParseError as error:
        # Its message may quote a password.
        troubles.append(fault("credentials", f"{path}, line {error.lineno}, is not as netrc files are", "Mend it."))
        return
    except (ValueError, AttributeError, TypeError, KeyError):
        troubles.append(
            fault("credentials", f"{path} is not as rattler's auth files are", "Log in again, or remove it.")
        )
        return
    if stat.S_IMODE(facts.st_mode) & 0o077:
        troubles.append(note("credentials", f"others can read {path}", f"chmod 600 {path}"))


def _of_auth_file(path: Path) -> list[Credential]:
    # https://rattler.build/latest/authentication_and_upload/: {host: {kind: value}}
    return [
        _of_entry(host, kind, value, str(path))
        for host, entry in json.loads(path.read_bytes()).items()
        for kind, value in entry.items()
    ]


def _of_entry(host: str, kind: str, value: Any, place: str) -> Credential:
    if kind == "BasicHTTP":
        return Credential(host, place, header_of(value["username"], value["password"]))
    if kind == "BearerToken":
        return Credential(host, place, f"Bearer {value}")
    return Credential(host, place, token=value if kind == "CondaToken" else "")


def _of_netrc(path: Path) -> list[Credential]:
    # Given its path, the reader does not refuse a file that others can read: rattler reads it too.
    hosts = netrc.netrc(str(path)).hosts
    return [
        Credential(host, str(path), header_of(login or "", password or ""))
        for host, (login, _, password) in hosts.items()
    ]
