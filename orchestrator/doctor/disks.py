"""The disks that hold orch's folders: what they are, what is left of them, and their clock."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from orchestrator.doctor.check import Check, amount, fault, note, ok
from orchestrator.environment.space import is_full
from orchestrator.ledger.connection import NETWORK_FILE_SYSTEMS
from orchestrator.paths import MOVABLE, Home

_LITTLE, _TOO_LITTLE = 2 << 30, 64 << 20
_FEW_INODES, _TOO_FEW_INODES = 50_000, 1_000
_TRIED_BYTES = 1 << 18
_FREE = "Free some space there (orch env prune, orch rm), or move large folders to another disk with [paths]."
_CLOCK_SECONDS = 5.0

Look = tuple[str, Callable[[], Iterator[Check]]]


def looks(home: Home) -> tuple[Look, ...]:
    """What can be looked at here, each by its name."""
    return (("disk", partial(_disks, home)), ("file system", partial(_kinds, home)))


def _disks(home: Home) -> Iterator[Check]:
    for folders in _by_disk(home):
        yield from _disk(folders)


def _by_disk(home: Home) -> list[dict[str, Path]]:
    """The folders on each disk, by name."""
    places = {"home": home.root} | {name: getattr(home, name) for name in MOVABLE}
    by_device: dict[int, dict[str, Path]] = {}
    for name, folder in places.items():
        by_device.setdefault(folder.stat().st_dev, {})[name] = folder
    return list(by_device.values())


def _disk(folders: Mapping[str, Path]) -> Iterator[Check]:
    folder = next(iter(folders.values()))
    facts = os.statvfs(folder)
    free, inodes = facts.f_bavail * facts.f_frsize, facts.f_favail
    counts_inodes = facts.f_files > 0  # btrfs and some network file systems have no fixed number
    found = f"{amount(free)} free of {amount(facts.f_blocks * facts.f_frsize)} ({', '.join(folders)})"
    if counts_inodes and inodes < _FEW_INODES:
        found += f", {inodes} more files"
    troubles = list(_write_troubles(folders))
    yield from troubles
    if troubles:
        return
    if free < _TOO_LITTLE or (counts_inodes and inodes < _TOO_FEW_INODES):
        yield fault("disk", found, _FREE)
    elif free < _LITTLE or (counts_inodes and inodes < _FEW_INODES):
        yield note("disk", found, _FREE)
    else:
        yield ok("disk", found)
    yield from _clock(folder)


def _write_troubles(folders: Mapping[str, Path]) -> Iterator[Check]:
    """Folders where no file can be written: a full or read-only disk, a quota, missing rights."""
    for name, folder in folders.items():
        try:
            with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as file:
                file.write(os.urandom(_TRIED_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            moved = "set ORCH_HOME" if name == "home" else f"name another as {name} in [paths]"
            advice = _FREE if is_full(error) else f"Make it writable for you, or {moved}."
            yield fault("disk", f"{folder} can't be written: {error.strerror}", advice)
            if is_full(error) or error.errno == errno.EROFS:  # so are the others of this disk
                return


def _clock(folder: Path) -> Iterator[Check]:
    """Whether the server of the disk has our time: heartbeats, and what was used last, are told by times of files."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x")
            file.flush()
            ahead = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError:
        return
    if abs(ahead) > _CLOCK_SECONDS:
        found = f"the clock of the disk of {folder} is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
        yield note("disk", found, "Whether runs of other machines live is judged by it: let both keep network time.")


def _kinds(home: Home) -> Iterator[Check]:
    """What file systems hold what orch keeps; a network file system under the ledger, the runs or the store."""
    places = {"ledger": home.root, "runs": home.runs, "store": home.store, "envs": home.envs}
    kinds = {name: _kind(folder) for name, folder in places.items()}
    remote = {name: kind for name, kind in kinds.items() if kind in NETWORK_FILE_SYSTEMS}
    if "ledger" in remote:
        yield note(
            "file system",
            f"the ledger {home.ledger} is on a network file system ({remote['ledger']})",
            "SQLite is slower there, and relies on the server's locks: set ORCH_HOME to a local disk if you can. The "
            "large folders may stay, with [paths] in config.toml.",
        )
    for name in [name for name in ("store", "envs") if name in remote]:
        advice = {
            "store": "Outputs travel over the network once; that is all.",
            "envs": f"Programs start slowly from there: name a local disk as envs, in [paths] of {home.config}.",
        }[name]
        yield note("file system", f"{places[name]} is on a network file system ({remote[name]})", advice)
    if not remote:
        known = sorted({kind for kind in kinds.values() if kind})
        yield ok("file system", f"{', '.join(known) or 'of an unknown kind'}, on this machine")


def _kind(folder: Path) -> str | None:
    """The type of the file system of a folder, as the system names it; None where it is not told."""
    import psutil

    best, kind = -1, None
    for mount in psutil.disk_partitions(all=True):
        if folder.is_relative_to(mount.mountpoint) and len(mount.mountpoint) >= best:
            best, kind = len(mount.mountpoint), mount.fstype
    return kind
