"""Outputs: what the run created or changed in its work directory, hashed and moved into the store."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import store
from orchestrator.canonical import portable_path
from orchestrator.errors import OrchError
from orchestrator.model import Output
from orchestrator.paths import Home

CACHES = frozenset({"__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
"""Directories that a program leaves for its own next start; nobody asks for them again."""

_FEW = 4  # below that, threads cost more than they bring
_AT_ONCE = 8  # files that wait for the disk, which writes several in one go

Inventory = dict[str, tuple[int, ...]]
"""Path below the checkout -> what stat said of it."""


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """The directories of one run: a fresh checkout, the project in it, and where artifacts are put."""

    root: Path
    subdir: str

    @property
    def checkout(self) -> Path:
        """The commit's files; no .git."""
        return self.root / "checkout"

    @property
    def project(self) -> Path:
        """Where the program starts."""
        return self.checkout / self.subdir

    @property
    def artifacts(self) -> Path:
        """`$ORCH_ARTIFACTS`."""
        return self.root / "artifacts"


def take_inventory(checkout: Path) -> Inventory:
    """What is there before the program starts."""
    return {path: _signature(info) for path, _, info in _files(checkout, [])}


def collect_outputs(
    work: WorkDirectory, before: Inventory, *, home: Home, keep: bool
) -> tuple[list[Output], list[str], list[str]]:
    """The outputs, in the store when this returns; what is none, and what could not be read, as sentences.

    Files are moved out of the work directory, or copied with `keep`. Raises OrchError when the store does not take
    them.
    """
    unreadable: list[str] = []
    found = [
        (_output_path(path, work.subdir), place, info)
        for path, place, info in _files(work.checkout, unreadable)
        if before.get(path) != _signature(info)
    ]
    found += [(f"artifacts/{path}", place, info) for path, place, info in _files(work.artifacts, unreadable)]
    taken: dict[str, tuple[Path, os.stat_result]] = {}
    notes: list[str] = []
    for path, place, info in found:
        # A project may have a folder `artifacts` of its own: the logged artifact keeps the name.
        if path in taken:
            taken[f"checkout/{path}"] = taken.pop(path)
        if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
            taken[path] = place, info
        else:
            notes.append(f"{path} is neither a file nor a link, so it is no output.")
    return _keep_all(taken, home, keep), notes, unreadable


def _keep_all(taken: dict[str, tuple[Path, os.stat_result]], home: Home, keep: bool) -> list[Output]:
    def keep_one(path: str) -> Output:
        return _keep(path, *taken[path], home, keep)

    if len(taken) <= _FEW:
        return [keep_one(path) for path in sorted(taken)]
    from concurrent.futures import ThreadPoolExecutor

    # Hashing and waiting for the disk release the interpreter's lock.
    with ThreadPoolExecutor(max(_AT_ONCE, os.cpu_count() or 1)) as threads:
        return list(threads.map(keep_one, sorted(taken)))


def _output_path(path: str, subdir: str) -> str:
    if not subdir:
        return path
    return path[len(subdir) + 1 :] if path.startswith(f"{subdir}/") else f"checkout/{path}"


def _keep(path: str, place: Path, info: os.stat_result, home: Home, keep: bool) -> Output:
    if stat.S_ISLNK(info.st_mode):
        target = os.fsencode(place.readlink())
        link = portable_path(os.fsdecode(target))
        return Output(portable_path(path), hashlib.sha256(target).hexdigest(), len(target), 0o777, link)
    mode = stat.S_IMODE(info.st_mode)
    if not mode & stat.S_IRUSR:
        place.chmod(mode | stat.S_IRUSR)
    try:
        # A file with a second name may be one of the environment or an input: it must not become read-only there.
        digest, size = store.put_file(home, place, move=not keep and info.st_nlink == 1)
    except OSError as error:
        raise OrchError(f"the output {path} can't be read: {error.strerror}.") from error
    return Output(portable_path(path), digest, size, mode)


def _files(top: Path, unreadable: list[str]) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Every file below `top` with its path there; folders that can't be read are told in `unreadable`."""
    folders = [(top, "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            entries = [(entry, entry.stat(follow_symlinks=False)) for entry in _entries(folder)]
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append(f"{prefix[:80]} could not be read ({error.strerror}); what is in it is no output.")
            continue
        for entry, info in entries:
            if not stat.S_ISDIR(info.st_mode):
                if not entry.name.endswith(".pyc"):
                    yield prefix + entry.name, Path(entry.path), info
            elif entry.name not in CACHES:
                folders.append((Path(entry.path), f"{prefix}{entry.name}/"))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except PermissionError:
        folder.chmod(0o700)
        return list(os.scandir(folder))


def _signature(info: os.stat_result) -> tuple[int, ...]:
    return info.st_ino, info.st_size, info.st_mode, info.st_mtime_ns, info.st_ctime_ns
