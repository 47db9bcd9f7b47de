"""Packages that are kept as files: what a bundle brought, and wheels that were built here.

Each has a folder by its sha256, so that locks share what is the same, and what is not has its place. It stays as long
as a lock names it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.environment.lock import LockedPackage, kept_wheel
from orchestrator.errors import OrchError
from orchestrator.files import sha256_of_file
from orchestrator.paths import Home

_ENDING = ".keeping"
_OLD_SECONDS = 3600.0
"""How the name of a file ends that is not yet whole."""


def kept_place(home: Home, package: LockedPackage) -> Path:
    """Where the file of a package is kept, if it is."""
    name = Path(package.file_name).name  # what a lock may say, when it is of a project
    return kept_wheel(home, package.sha256, name) if package.manager == "pip" else home.archives / package.sha256 / name


def kept_whole(home: Home, packages: Iterable[LockedPackage]) -> dict[str, Path]:
    """The files of those packages that are kept with the sha256 of the lock, by that sha256."""
    places = {package.sha256: kept_place(home, package) for package in packages}
    return {sha256: place for sha256, place in places.items() if _is_whole(place, sha256)}


def keep_packages(home: Home, packages: Iterable[LockedPackage], places: Mapping[str, Path]) -> None:
    """Keep the files of packages that `places` has, by sha256; each is kept whole or not at all.

    Files in `places` stay as they are, and must not be written to any more: on the same disk they are the same files.
    The lock that names them must be there before (`adopt_lock`), for what no lock names `orch env prune` removes.
    Raises OrchError for a file that does not have its sha256, and when one can't be written.
    """
    for package in packages:
        if (source := places.get(package.sha256)) is not None:
            try:
                _keep(source, kept_place(home, package), package.sha256)
            except OSError as error:
                raise OrchError(
                    f"{package.file_name} can't be kept in {home.cache}: {error.strerror} ({error.filename})."
                ) from error


def _keep(source: Path, place: Path, sha256: str) -> None:
    if _is_whole(place, sha256):
        return
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in place.parent.glob(f".{place.name}.*{_ENDING}"):
        if time.time() - left.stat().st_mtime > _OLD_SECONDS:
            left.unlink(missing_ok=True)  # of one that was killed
    # A name of its own for each who keeps it at once: locks on folders mean nothing on a network disk.
    aside = place.with_name(f".{place.name}.{os.urandom(4).hex()}{_ENDING}")
    try:
        _link_or_copy(source, aside)
        if (found := sha256_of_file(aside)) != sha256:
            raise OrchError(f"{place.name} is not the package of the lock: its sha256 is {found}, not {sha256}.")
        _flush(aside)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)
    _flush(place.parent)


def _link_or_copy(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, place)


def _is_whole(place: Path, sha256: str) -> bool:
    with suppress(OSError):
        return place.is_file() and sha256_of_file(place) == sha256
    return False


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
