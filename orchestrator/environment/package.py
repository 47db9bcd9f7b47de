"""A conda package (`.conda`): what it is before it is written, and its file.

The same recipe always gives the same bytes: no time, user or host enters them. `wheel.py` and `interpreter.py` make
recipes. This is for `scripts/channel`; it needs the packages of the extra `channel`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from conda_package_streaming.create import conda_builder

from orchestrator.errors import OrchError

REVISION = 2
"""Raised when the same wheel or interpreter gives other bytes than before; it is part of each file name."""

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
ABI = f"cp{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}"
SITE_PACKAGES = f"lib/python{MINOR}/" + (
    # Debian's interpreter has a module search path of its own.
    "dist-packages" if "deb_system" in sysconfig.get_scheme_names() else "site-packages"
)
FILE_TIME = 1_700_000_000
"""Seconds since the epoch: the time of every file in a package."""

ZSTD_LEVEL, ZSTD_THREADS = 3, 2


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a package, or a symbolic link when it has a `target`.

    `placeholder` is the text in `data` that stands for the prefix; who installs the package replaces it.
    """

    path: str
    data: bytes = b""
    executable: bool = False
    placeholder: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A package before it is written: `info/index.json`, `info/about.json`, and its files, one at a time."""

    index: Mapping[str, Any]
    about: Mapping[str, Any]
    members: Callable[[], Iterable[Member]]
    entry_points: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The file name without `.conda`. It changes whenever the content would."""
        return f"{self.index['name']}-{self.index['version']}-{self.index['build']}"


def conda_platform() -> str:
    """conda's name of the running platform, as `linux-64`. Raises OrchError for one that conda has no name for."""
    systems = {"Linux": "linux", "Darwin": "osx"}
    machines = {"x86_64": "64", "amd64": "64", "arm64": "arm64" if sys.platform == "darwin" else "aarch64"}
    machines |= {"aarch64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
    system, machine = platform.system(), platform.machine()
    if system not in systems or machine not in machines:
        raise OrchError(f"a channel can't be built on {system} {machine}: Linux and macOS machines can.")
    return f"{systems[system]}-{machines[machine]}"


def site_packages(platform: str) -> str:
    """The folder of this Python's packages, on this platform or another one."""
    if platform == conda_platform():
        return SITE_PACKAGES
    return "Lib/site-packages" if platform.startswith("win-") else f"lib/python{MINOR}/site-packages"


def digest(*parts: str) -> str:
    """Seven hex digits for a build string, that tell packages made from different `parts` apart."""
    return hashlib.sha256("\n".join((str(REVISION), *parts)).encode()).hexdigest()[:7]


def write_package(recipe: Recipe, folder: Path) -> Path:
    """Write `<stem>.conda` in `folder`, which has none of that name, and return its path."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        builder = conda_builder(recipe.stem, work, compression_level=ZSTD_LEVEL, compression_threads=ZSTD_THREADS)
        with builder as archive:
            paths = [_add_member(archive, member) for member in recipe.members()]
            paths = _with_link_hashes(sorted(paths, key=lambda p: str(p["_path"])))
            for name, value in _information(recipe, paths).items():
                _add_file(archive, f"info/{name}", value, 0o644)
        final = folder / f"{recipe.stem}.conda"
        _copy_without_times(Path(work) / final.name, final)
    return final


def _information(recipe: Recipe, paths: list[dict[str, Any]]) -> dict[str, bytes]:
    files = {
        "index.json": _json(recipe.index),
        "about.json": _json(recipe.about),
        "paths.json": _json({"paths": paths, "paths_version": 1}),
        "files": "".join(f"{entry['_path']}\n" for entry in paths).encode(),
    }
    if recipe.index.get("noarch") == "python":
        noarch = {"type": "python", "entry_points": list(recipe.entry_points)}
        files["link.json"] = _json({"noarch": noarch, "package_metadata_version": 1})
    return files


def _add_member(archive: tarfile.TarFile, member: Member) -> dict[str, Any]:
    parts = PurePosixPath(member.path).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in member.path:
        raise OrchError(f"a package can't hold the path {member.path!r}.")
    entry: dict[str, Any] = {"_path": member.path, "path_type": "hardlink"}
    if member.target is not None:
        info = _tar_info(member.path, 0o777)
        info.type, info.linkname = tarfile.SYMTYPE, member.target
        archive.addfile(info)
        return entry | {"path_type": "softlink", "_target": member.target}
    _add_file(archive, member.path, member.data, 0o755 if member.executable else 0o644)
    entry |= {"sha256": hashlib.sha256(member.data).hexdigest(), "size_in_bytes": len(member.data)}
    if member.placeholder is not None:
        entry |= {"prefix_placeholder": member.placeholder, "file_mode": "text"}
    return entry


def _with_link_hashes(paths: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # conda-build records for a link the hash and size of what it leads to.
    by_path = {entry["_path"]: entry for entry in paths}
    for entry in paths:
        seen = entry
        while "_target" in seen:
            seen = by_path[os.path.normpath(PurePosixPath(seen["_path"]).parent / seen["_target"])]
        entry |= {"sha256": seen["sha256"], "size_in_bytes": seen["size_in_bytes"]}
    return [{key: value for key, value in entry.items() if key != "_target"} for entry in paths]


def _add_file(archive: tarfile.TarFile, path: str, data: bytes, mode: int) -> None:
    info = _tar_info(path, mode)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _tar_info(path: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = mode, FILE_TIME
    return info


def _copy_without_times(made: Path, final: Path) -> None:
    # conda_builder stamps a member of the outer zip with the time of day.
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(final, "x") as target:
        for member in source.infolist():
            plain = zipfile.ZipInfo(member.filename)
            plain.external_attr, plain.file_size = 0o644 << 16, member.file_size
            with source.open(member) as read, target.open(plain, "w") as write:
                shutil.copyfileobj(read, write, 1 << 20)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
