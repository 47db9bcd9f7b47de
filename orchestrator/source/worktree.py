"""A work tree of the user, seen through a git directory and an index of our own.

The objects of the user's repository are alternates, and its configuration is never read here. The index starts as a
copy of the user's, whose stat data tell which files were touched, or as the one kept from the last time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.report import Report
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.repository import Facts, Repository

_FAST = (("core.looseCompression", "1"), ("core.preloadIndex", "true"))
_DEFAULTS = {"core.filemode": "true", "core.symlinks": "true", "core.ignorecase": "false"}


@dataclass(frozen=True, slots=True)
class Place:
    """One work tree to record: where it is, the repository of it, and what git needs to work on it."""

    root: Path
    repository: Repository | None
    mirror: Path
    git_dir: Path
    facts: Facts
    report: Report
    ignore: bool

    @property
    def objects(self) -> list[Path]:
        """The object folders of the user's repository."""
        return [self.repository.objects] if self.repository is not None else []

    def env(self, index: Path, alternates: Sequence[Path] = ()) -> dict[str, str]:
        """git's environment for this work tree and an index file; `alternates` are further object folders."""
        config = dict(_FAST) | _DEFAULTS | dict(self.facts.settings)
        if self.repository is not None:
            config["core.excludesFile"] = str(self.repository.common / "info" / "exclude")
            config["core.attributesFile"] = str(self.repository.common / "info" / "attributes")
        return local_env(
            self.git_dir,
            work_tree=self.root,
            index=index,
            objects=self.mirror / "objects",
            alternates=(*self.objects, *alternates),
            config=config.items(),
        )

    def git(self, index: Path, *args: str, data: bytes = b"", alternates: Sequence[Path] = ()) -> bytes:
        """Run git on this work tree. Raises GitFailed."""
        return run_git(*args, env=self.env(index, alternates), cwd=self.root, data=data)


@contextmanager
def own_index(place: Place, *, kept: bool) -> Iterator[Path]:
    """A private index file: the kept one if the user's has not changed since, else a copy of the user's."""
    index = place.git_dir / f".index.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        if not (kept and _copy_index(_kept_index(place), index)):
            copy_users_index(place, index)
        yield index
    finally:
        for leftover in (index, index.with_name(index.name + ".lock")):
            leftover.unlink(missing_ok=True)


def copy_users_index(place: Place, index: Path) -> None:
    index.unlink(missing_ok=True)
    if place.repository is not None:
        _copy_index(place.repository.git_dir / "index", index)


def _copy_index(source: Path, index: Path) -> bool:
    """Copy an index with its time: git reads again what was changed in the second in which the index was written."""
    try:
        status = source.stat()
        index.write_bytes(source.read_bytes())
    except FileNotFoundError:
        return False
    os.utime(index, ns=(status.st_atime_ns, status.st_mtime_ns))
    return True


def _kept_index(place: Place) -> Path:
    """Where the index of the last snapshot is, if the user's index was then what it is now."""
    stamp = "none"
    if place.repository is not None and (place.repository.git_dir / "index").exists():
        status = (place.repository.git_dir / "index").stat()
        stamp = f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"
    return place.git_dir / f"{_index_key(place)}{stamp}"


def _index_key(place: Place) -> str:
    return f"index-{hashlib.sha256(os.fsencode(place.root)).hexdigest()[:16]}-"


def keep_index(place: Place, index: Path) -> None:
    kept = _kept_index(place)
    for older in place.git_dir.glob(_index_key(place) + "*"):
        if older != kept:
            older.unlink(missing_ok=True)
    aside = index.with_name(index.name + ".keep")
    if _copy_index(index, aside):
        aside.replace(kept)


def index_entries(place: Place, index: Path) -> dict[str, tuple[str, str]]:
    """What the index holds: path -> (mode, id)."""
    entries = {}
    for line in place.git(index, "ls-files", "-s", "-z").split(b"\0")[:-1]:
        info, _, path = line.partition(b"\t")
        mode, object_id, _ = info.decode().split(" ")
        entries[os.fsdecode(path)] = (mode, object_id)
    return entries


def write_tree(place: Place, index: Path, alternates: Sequence[Path] = ()) -> str:
    try:
        return place.git(index, "write-tree", alternates=alternates).decode().strip()
    except GitFailed as error:
        # in the middle of a merge the files are what the user sees, with the marks of the conflict in them
        unmerged = place.git(index, "ls-files", "-u", "-z").split(b"\0")[:-1]
        if not unmerged:
            raise error
        paths = dict.fromkeys(os.fsdecode(line.partition(b"\t")[2]) for line in unmerged)
        update_index(place, index, list(paths), ())
        return place.git(index, "write-tree", alternates=alternates).decode().strip()


def set_entries(place: Place, index: Path, entries: Mapping[str, tuple[str, str]]) -> None:
    if entries:
        lines = [f"{mode} {i}\t".encode() + os.fsencode(path) + b"\0" for path, (mode, i) in entries.items()]
        place.git(index, "update-index", "-z", "--index-info", data=b"".join(lines))


def update_index(place: Place, index: Path, add: Sequence[str], remove: Sequence[str]) -> None:
    for options, paths in ((("--force-remove",), remove), (("--add", "--remove", "--replace"), add)):
        if paths:
            data = b"".join(os.fsencode(path) + b"\0" for path in paths)
            place.git(index, "update-index", *options, "-z", "--stdin", data=data)
