"""Locks as a bundle carries them: made of the home's, checked when they come from somebody else, and adopted.

A carried lock is two files. `packages.json` is the home's, in canonical JSON, without credentials and without any place
of the machine that it leaves: what has no address in the network has one that names nobody (`NO_ADDRESS`), and its file
is carried. `conda-lock.yml` says the same to conda-lock and its kind, for each platform whose lock this is.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator.canonical import canonical_json
from orchestrator.environment.carried_check import (
    CONDA_LOCK,
    LOCK_FILES,
    PACKAGE_NAME,
    PACKAGES,
    check_lock,
    is_file_at,
    refuse_name,
)
from orchestrator.environment.export.folder_channel import without_its_address
from orchestrator.environment.export.public import published
from orchestrator.environment.kept import keep_packages
from orchestrator.environment.lock import LOCK_VERSION, Lock, LockedPackage, lock_id_of, read_lock
from orchestrator.environment.offline import NO_ADDRESS
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report, silent

__all__ = [
    "LOCK_FILES",
    "PACKAGE_NAME",
    "CarriedLock",
    "adopt_lock",
    "carried_locks",
    "check_lock",
    "fetch_packages",
    "keep_packages",
    "without_address",
]


@dataclass(frozen=True, slots=True)
class CarriedLock:
    """A lock to put into a bundle: for which platforms it is, and its `files` by name.

    `packages` are as this home has them, with the addresses that they are fetched from.
    """

    lock_id: str
    platforms: tuple[str, ...]
    files: Mapping[str, bytes]
    packages: tuple[LockedPackage, ...]


# --- out of this home ---------------------------------------------------------------------------------------------


def carried_locks(home: Home, locks: Mapping[str, str]) -> tuple[CarriedLock, ...]:
    """The locks of these ids (by platform), each once, as they may leave this machine. Sorted by id.

    The same locks give the same bytes. Raises OrchError when one is not there, or has what no bundle could carry.
    """
    from orchestrator.environment.worker import run_job

    of: dict[str, list[Lock]] = {}
    for platform, lock_id in sorted(locks.items(), key=lambda item: (item[1], item[0])):
        of.setdefault(lock_id, []).append(read_lock(home, lock_id, platform))
    if not of:
        return ()
    shown = {lock_id: [_carried(lock) for lock in some] for lock_id, some in of.items()}
    job = {"locks": {lock_id: [asdict(lock) for lock in some] for lock_id, some in shown.items()}}
    texts = run_job("carried", job, home=home)["texts"]
    found = []
    for lock_id, some in of.items():
        platforms = tuple(lock.platform for lock in some)
        files = {CONDA_LOCK: texts[lock_id].encode(), PACKAGES: _table(shown[lock_id][0])}
        for platform in platforms:
            check_lock(lock_id, platform, files)  # what nobody could import is better known now
        found.append(CarriedLock(lock_id, platforms, files, some[0].packages))
    return tuple(found)


def without_address(package: LockedPackage) -> bool:
    """Whether nobody but this home, or a bundle, has the file of a package: it is no file of a server, was built here,
    or came in a bundle itself."""
    url = package.url
    if package.source_sha256 is not None or re.match(rf"{re.escape(NO_ADDRESS)}(/|$)", url):
        return True
    return not is_file_at(without_credentials(url), package.file_name)


def fetch_packages(
    packages: Sequence[LockedPackage], folder: Path, *, home: Home, report: Report = silent
) -> dict[str, Path]:
    """Bring the files of packages to `<folder>/<sha256>/<file name>`, checked by sha256; their places by sha256.

    What is there already stays. Raises OrchError that names a package that can't be had, offline all of them.
    """
    from orchestrator.environment.worker import run_job

    if not packages:
        return {}
    for package in packages:
        refuse_name(package)
    job = {"folder": str(folder.absolute()), "packages": [asdict(package) for package in packages]}
    run_job("packages", job, home=home, report=report)
    return {package.sha256: folder / package.sha256 / package.file_name for package in packages}


def _carried(lock: Lock) -> Lock:
    """The lock without what is of this machine."""
    packages = tuple(without_its_address(p) if without_address(p) else p for p in lock.packages)
    shown = replace(lock, packages=packages, solved=False)
    while (public := published(shown)[0]) != shown:
        shown = public
    return shown


def _table(lock: Lock) -> bytes:
    table = {"version": LOCK_VERSION, **asdict(lock)}
    del table["lock_id"]
    return canonical_json(table)


# --- into this home -----------------------------------------------------------------------------------------------


def adopt_lock(home: Home, lock_id: str, platform: str, files: Mapping[str, bytes]) -> None:
    """Check a lock, and put it among those of the home: whole, or not at all.

    A lock that is there stays as it is, for a bundle has no say in where other projects' packages come from; only what
    is missing or damaged of it is replaced. Raises OrchError.
    """
    check_lock(lock_id, platform, files)
    final = home.locks / lock_id
    staged = home.locks / f".{lock_id}.{os.urandom(4).hex()}"
    try:
        staged.mkdir(mode=0o700)
        for name in LOCK_FILES:
            _write(staged / name, files[name])
        try:
            staged.rename(final)
        except OSError:
            if not final.is_dir():
                raise
            for name in LOCK_FILES:
                if not _is_sound(home, lock_id, name):
                    (staged / name).replace(final / name)
            os.utime(final)  # when it was last asked for
    except OSError as error:
        raise OrchError(f"the lock {lock_id[:12]} can't be written in {home.locks}: {error.strerror}.") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _is_sound(home: Home, lock_id: str, name: str) -> bool:
    from orchestrator.environment.conda_lock_file import load_lock

    try:
        if name == CONDA_LOCK:
            return bool(load_lock(name, (home.locks / lock_id / name).read_bytes()))
        return lock_id_of(read_lock(home, lock_id).packages) == lock_id
    except (OrchError, OSError):
        return False
