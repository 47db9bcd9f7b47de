"""Where packages come from: rattler's own configuration files, then `$ORCH_HOME/config.toml` with the same keys.

Keys read here: `default-channels`, `mirrors`, `conda-defaults` (what the channel name `defaults` means), and
`[pypi]` with `index` and `extra-indexes`. Proxies, certificates, credentials and S3 options are read from the same
files by rattler itself (see `engine`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError
from orchestrator.paths import Home

DEFAULT_CHANNELS = ("conda-forge",)
"""The channels of an environment that names none."""

CONDA_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""What conda means by `defaults` (its own `default_channels`, on systems that are not Windows)."""

KNOWN_KEYS = (
    *("allow-hard-links", "allow-ref-links", "allow-symbolic-links", "authentication-override-file", "build"),
    *("concurrency", "default-channels", "index-config", "mirrors", "proxy-config", "repodata-config"),
    *("run-post-link-scripts", "s3-options", "tls-no-verify", "tls-root-certs", "virtual-package-detectors"),
    *("conda-defaults", "paths", "pypi"),
)
"""The keys on the top of a configuration file: rattler's, then orch's own."""

_PYPI_KEYS = ("index", "extra-indexes")
_NEAR = 0.75
"""How alike (difflib's ratio) an unknown key and a known one are when the first is taken for a slip."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration that decides where packages come from. `mirrors` maps a channel URL to those asked instead."""

    default_channels: tuple[str, ...] = DEFAULT_CHANNELS
    conda_defaults: tuple[str, ...] = CONDA_DEFAULTS
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pypi_index: str | None = None
    pypi_extra_indexes: tuple[str, ...] = ()


def config_files(home: Home, environ: Mapping[str, str] = os.environ) -> tuple[tuple[Path, bool], ...]:
    """The configuration files that exist, lowest precedence first, each with whether all rattler tools share it."""
    user = Path(environ.get("HOME") or "/")
    xdg = Path(environ.get("XDG_CONFIG_HOME") or user / ".config")
    places = (
        (Path("/etc/rattler/config.toml"), True),
        (Path("/etc/orch/config.toml"), False),
        (xdg / "rattler/config.toml", True),
        (xdg / "orch/config.toml", False),
        (user / ".orch/config.toml", False),
        (home.config, False),
    )
    return tuple((path, shared) for path, shared in places if path.is_file())


def read_settings(home: Home, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of all configuration files together. Raises OrchError that names the file and the key."""
    files = config_files(home, environ)
    if not files:
        return Settings()
    merged: dict[str, Any] = {}
    for path, shared in files:
        table = _read_toml(path)
        if not shared:
            _refuse_slips(table, path)
        mirrors = {**merged.get("mirrors", {}), **_mirrors(table.get("mirrors", {}), path)}
        pypi = {**merged.get("pypi", {}), **_table(table.get("pypi", {}), "pypi", path)}
        merged |= table | {"mirrors": mirrors, "pypi": pypi}
        for key in ("default-channels", "conda-defaults"):
            _strings(table.get(key, []), key, path)
        _strings(pypi.get("extra-indexes", []), "pypi.extra-indexes", path)
        if not isinstance(pypi.get("index", ""), str):
            raise OrchError(f"{path}: pypi.index takes the URL of a package index.")
    return Settings(
        default_channels=tuple(merged.get("default-channels") or DEFAULT_CHANNELS),
        conda_defaults=tuple(merged.get("conda-defaults") or CONDA_DEFAULTS),
        mirrors=merged["mirrors"],
        pypi_index=merged["pypi"].get("index"),
        pypi_extra_indexes=tuple(merged["pypi"].get("extra-indexes", ())),
    )


def rattler_text(path: Path) -> str:
    """The text of a configuration file as rattler takes it, line by line: a mirror that is a folder is a URL there."""
    text = path.read_text("utf-8")
    for place in (place for places in _read_toml(path).get("mirrors", {}).values() for place in places):
        for quote in "\"'":
            text = text.replace(f"{quote}{place}{quote}", f"{quote}{_place_url(place)}{quote}")
    return text


def _refuse_slips(table: Mapping[str, Any], path: Path) -> None:
    # Other unknown keys are let pass: a newer rattler may know them.
    for key in [key for key in table if key not in KNOWN_KEYS]:
        from difflib import get_close_matches

        if near := get_close_matches(key, KNOWN_KEYS, 1, _NEAR):
            raise OrchError(f"{path} has an unknown key {key!r}; one that it may have is {near[0]}.")
    for key in _table(table.get("pypi", {}), "pypi", path):
        if key not in _PYPI_KEYS:
            raise OrchError(f"{path} has an unknown key {key!r} in [pypi]; it takes {', '.join(_PYPI_KEYS)}.")


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OrchError(f"{path} is not valid TOML: {error}.") from error
    except OSError as error:
        raise OrchError(f"the configuration {path} can't be read: {error.strerror}.") from error


def _mirrors(value: object, path: Path) -> dict[str, tuple[str, ...]]:
    table = _table(value, "mirrors", path)
    found = {}
    for url, places in table.items():
        key = f'mirrors."{url}"'
        for place in _strings(places, key, path):
            if not re.match(r"/|[A-Za-z][A-Za-z0-9+.-]*:", place):
                raise OrchError(f"{path}: {key} takes URLs and folders from / on; {place!r} is neither.")
        found[url.rstrip("/")] = tuple(map(_place_url, places))
    return found


def _place_url(place: str) -> str:
    return Path(place).as_uri() if place.startswith("/") else place


def _table(value: object, key: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OrchError(f"{path}: {key} must be a table.")
    return value


def _strings(value: object, key: str, path: Path) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise OrchError(f"{path}: {key} takes a list of texts.")
    return value
