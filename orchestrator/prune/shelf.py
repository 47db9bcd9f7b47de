"""Things are moved to a shelf, a hidden folder on their own disk, and removed there: each is there whole, or gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from orchestrator.files import remove_tree
from orchestrator.paths import Home

SHELF = ".pruned"


def roots(home: Home) -> tuple[Path, ...]:
    """The folders that have a shelf each."""
    return home.envs, home.cache, home.locks, home.sources


def left_on_shelves(home: Home) -> list[Path]:
    """What is on the shelves: when nobody prunes, what a killed one left."""
    return sorted(path for root in roots(home) if (root / SHELF).is_dir() for path in (root / SHELF).iterdir())


def put_aside(home: Home, paths: Iterable[Path]) -> Path:
    """Move files and folders of the same root to a new folder on its shelf; that folder."""
    first, *others = paths
    root = next(root for root in roots(home) if first.is_relative_to(root))
    place = root / SHELF / f"{first.name}.{os.urandom(4).hex()}"
    place.mkdir(mode=0o700, parents=True)
    for path in (first, *others):
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)  # to move a directory to another parent, one must be able to write it
            path.rename(place / path.name)
    return place


def remove(place: Path) -> int:
    """Remove a tree; the bytes that the disk got back. Raises OSError."""
    freed = Measure().freed([place])
    remove_tree(place)
    with contextlib.suppress(OSError):
        if place.parent.name == SHELF:
            place.parent.rmdir()  # when it was the last
    return freed


class Measure:
    """The bytes that the disk gets back when trees go one after the other.

    Files are linked from the package cache into environments. Only the last link that goes frees a file, so the links
    that went are counted.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], int] = {}

    def freed(self, paths: Iterable[Path]) -> int:
        """What comes back when these go too."""
        freed = 0
        for path in paths:
            freed += self._own(path)
            for folder, folders, files in os.walk(path):
                freed += sum(self._own(f"{folder}/{name}") for name in (*folders, *files))
        return freed

    def _own(self, path: str | Path) -> int:
        try:
            status = os.lstat(path)
        except OSError:
            return 0
        if not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            self._links[key] = self._links.get(key, 0) + 1
            if self._links[key] < status.st_nlink:
                return 0
        return status.st_blocks * 512


def hold(path: Path, held: ExitStack, *, wait: bool = False) -> bool:
    """An exclusive `flock` on a file or folder until `held` ends; False when another process has one on it.

    What is not there is held by nobody.
    """
    how = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR
    try:
        fd = os.open(path, how | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    held.callback(os.close, fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
