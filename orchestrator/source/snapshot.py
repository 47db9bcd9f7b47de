"""A work tree, as it is, as a tree object in a mirror. The user's repository is read, never written.

The index of a snapshot is kept, so that the next one only reads what changed since; but what it says must never make
the same state another commit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from orchestrator.errors import OrchError
from orchestrator.report import Report, silent
from orchestrator.source.contents import list_tree, submodule_urls
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.lfs import file_matches, read_pointers
from orchestrator.source.mirror import make_snapshot_repository
from orchestrator.source.repository import Facts, Head, Repository, read_facts, read_head, repository_at
from orchestrator.source.worktree import (
    Place,
    copy_users_index,
    index_entries,
    keep_index,
    own_index,
    set_entries,
    update_index,
    write_tree,
)

LARGE_BYTES = 100_000_000
"""Untracked files above this size stay out of a snapshot; they become inputs of the run."""

NO_HEAD_TIME = 315_532_800
"""The time of a snapshot that has no commit below it: 1980-01-01, the earliest that a zip (a wheel) can hold."""

_MANY = 1000

_NEVER = ("-x", "__pycache__/", "-x", ".hg/", "-x", ".svn/", "-x", ".bzr/")
"""Untracked folders that are no one's work: caches of Python, and other version control."""


@dataclass(frozen=True, slots=True)
class LargeFile:
    """A file that a snapshot left out for its size: its path in the tree (POSIX), and where it is."""

    path: str
    place: Path


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The tree of a work tree. `repositories` are those of the path prefixes of the tree ("" is the whole)."""

    tree: str
    head: Head | None
    facts: Facts
    repositories: dict[str, Repository] = field(default_factory=dict)
    large_files: tuple[LargeFile, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether the work tree is what its HEAD holds."""
        return self.head is not None and self.tree == self.head.tree


def take_snapshot(
    root: Path,
    repository: Repository | None,
    mirror: Path,
    *,
    facts: Facts,
    report: Report = silent,
    ignore: bool = True,
) -> Snapshot:
    """Record the work tree at `root` in `mirror`; a tree that equals HEAD is found so without reading its files.

    Without `repository` it is a plain folder. Ignored and large untracked files stay out, unless `ignore` is off.
    Nested repositories and changed submodules become plain content. Raises OrchError when a file can't be read.
    """
    try:
        git_dir = make_snapshot_repository(mirror, facts.object_format)
        head = read_head(repository) if repository is not None else None
        return _take(Place(root, repository, mirror, git_dir, facts, report, ignore), head)
    except GitFailed as error:
        raise OrchError(f"the files of {root} can't be recorded: {error.line}.") from error
    except OSError as error:
        raise OrchError(f"the files of {root} can't be recorded: {error.strerror} ({error.filename}).") from error


def list_ignored(root: Path, repository: Repository | None, git_dir: Path) -> list[str]:
    """What git ignores in a work tree; whole directories end with "/". Raises GitFailed.

    `git_dir` is an empty repository to work from.
    """
    place = Place(root, repository, git_dir, git_dir, Facts(None, "sha1", ()), silent, ignore=True)
    index = repository.git_dir / "index" if repository is not None else git_dir / "index"
    # ls-files reads the index and never writes it
    out = place.git(index, "ls-files", "-z", "-o", "-i", "--exclude-standard", "--directory")
    return [os.fsdecode(name) for name in out.split(b"\0")[:-1]]


def is_part(repository: Repository, path: str, mirror: Path, facts: Facts) -> bool:
    """Whether any file below `path` of a work tree is tracked, or would be recorded."""
    git_dir = make_snapshot_repository(mirror, facts.object_format)
    place = Place(repository.root, repository, mirror, git_dir, facts, silent, ignore=True)
    options = ("-z", "-c", "-o", "--exclude-standard", "--directory", "--no-empty-directory")
    try:
        return bool(place.git(repository.git_dir / "index", "ls-files", *options, "--", path))
    except GitFailed:
        return True  # an index that can't be read by itself (a split one): the snapshot will see


def make_commit(mirror: Path, tree: str, head: Head | None) -> str:
    """A commit of `tree` on `head`, and of nothing else: the same state is the same commit. Raises GitFailed."""
    time = head.time if head is not None else NO_HEAD_TIME
    parent = f"parent {head.commit}\n" if head is not None else ""
    who = f"orch <orch@localhost> {time} +0000"
    content = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\nThe work tree as it was run.\n"
    out = run_git("hash-object", "-t", "commit", "-w", "--stdin", env=local_env(mirror), data=content.encode())
    return out.decode().strip()


def _take(place: Place, head: Head | None) -> Snapshot:
    if head is not None:
        with own_index(place, kept=False) as index:
            tree = _clean_tree(place, index)
        if tree == head.tree:
            return Snapshot(head.tree, head, place.facts, _own(place))
    with own_index(place, kept=True) as index:
        large, nested_paths = _record_changes(place, index, head)
        nested = _nested_snapshots(place, index, nested_paths)
        tree = write_tree(place, index)
        keep_index(place, index)
        if nested:
            tree = _graft(place, index, nested)
    repositories = _own(place)
    for path, snapshot in nested.items():
        repositories |= {f"{path}/{inner}": repository for inner, repository in snapshot.repositories.items()}
        large += [LargeFile(f"{path}/{item.path}", item.place) for item in snapshot.large_files]
    return Snapshot(tree, head, place.facts, repositories, tuple(large))


def _own(place: Place) -> dict[str, Repository]:
    return {"": place.repository} if place.repository is not None else {}


# --- what changed --------------------------------------------------------------------------------------------------


def _clean_tree(place: Place, index: Path) -> str | None:
    """The tree of the index, if the work tree is exactly that and has no submodule; else None."""
    try:
        if place.git(index, *_changes_command(place)):
            return None
        if b"\x00160000 " in b"\x00" + place.git(index, "ls-files", "-s", "-z"):
            return None
        return place.git(index, "write-tree").decode().strip()
    except GitFailed:
        return None


def _changes_command(place: Place) -> tuple[str, ...]:
    standard = ("--exclude-standard",) if place.ignore else ()
    return ("ls-files", "-z", "-t", "-m", "-d", "-o", *standard, *_NEVER)


def _list_changes(place: Place, index: Path) -> dict[str, bool]:
    """The paths whose file differs from the index, and whether the index lacks it; nested repositories end in "/"."""
    lines = place.git(index, *_changes_command(place)).split(b"\0")[:-1]
    return {os.fsdecode(line[2:]): line.startswith(b"? ") for line in lines}


def _record_changes(place: Place, index: Path, head: Head | None) -> tuple[list[LargeFile], list[str]]:
    """Bring the index up to the work tree. Returns the large files left out, and the untracked nested repositories."""
    try:
        changes = _list_changes(place, index)
    except GitFailed:
        # an index that can't be used by itself (a split one): begin with the commit, and read every file
        index.unlink(missing_ok=True)
        if head is not None:
            place.git(index, "read-tree", head.tree)
        changes = _list_changes(place, index)
    if any(path.rpartition("/")[2] == ".gitattributes" for path in changes):
        # how other files compare to their blobs may have changed, which a kept index can't tell
        copy_users_index(place, index)
        changes = _list_changes(place, index)
    nested = [path.rstrip("/") for path in changes if path.endswith("/")]
    untracked = {path for path, unknown in changes.items() if unknown}
    add, remove, big = _sorted_changes(place, [path for path in changes if not path.endswith("/")], untracked)
    # the user's index tells what is tracked, and as what: a kept one holds what was recorded before
    tracked = _users_entries(place, head) if add or big else {}
    pointers = _pointers(place, tracked, (*add, *big))
    unchanged = [p for p, (oid, size) in pointers.items() if file_matches(place.root / p, oid, size)]
    left_out = [p for p in big if p not in unchanged and (p not in tracked or p in pointers)]
    add = [p for p in (*add, *big) if p not in unchanged and p not in left_out]
    if len(add) > _MANY:
        place.report("source", f"recording {len(add)} files of {place.root}")
    update_index(place, index, add, [*remove, *left_out, *_newly_ignored(place, index)])
    set_entries(place, index, {path: tracked[path] for path in unchanged})
    return [LargeFile(path, place.root / path) for path in left_out], nested


def _sorted_changes(place: Place, paths: Iterable[str], untracked: set[str]) -> tuple[list[str], list[str], list[str]]:
    """The changed paths to add, to remove, and (regular files above the limit) to look at."""
    add: list[str] = []
    remove: list[str] = []
    big: list[str] = []
    for path in paths:
        file = place.root / path
        try:
            status = file.lstat()
        except (FileNotFoundError, NotADirectoryError):
            remove.append(path)
            continue
        parents = [parent.as_posix() for parent in PurePosixPath(path).parents]
        if any(parent in untracked for parent in parents):
            remove.append(path)  # a folder became a symbolic link; its files are seen through it
        elif stat.S_ISDIR(status.st_mode):
            (add if repository_at(file) is not None else remove).append(path)
        elif place.ignore and stat.S_ISREG(status.st_mode) and status.st_size > LARGE_BYTES:
            big.append(path)
        else:
            add.append(path)
    return add, remove, big


def _pointers(place: Place, entries: Mapping[str, tuple[str, str]], paths: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Which of these paths are Git LFS pointers in `entries`: path -> (sha256, size) of the file they stand for."""
    ids = {path: entries[path][1] for path in paths if entries.get(path, ("", ""))[0].startswith("100")}
    found = read_pointers(place.mirror, ids.values(), place.objects)
    return {path: found[object_id] for path, object_id in ids.items() if object_id in found}


def _users_entries(place: Place, head: Head | None) -> dict[str, tuple[str, str]]:
    """What the user's own index holds: path -> (mode, id); of HEAD where the index can't be read by itself."""
    if place.repository is None:
        return {}
    try:
        return index_entries(place, place.repository.git_dir / "index")
    except GitFailed:
        entries = list_tree(place.mirror, head.tree, place.objects) if head is not None else []
        return {entry.path: (entry.mode, entry.id) for entry in entries}


def _newly_ignored(place: Place, index: Path) -> list[str]:
    """What a kept index still holds though the user ignores it now and never added it."""
    if not place.ignore:
        return []
    command = ("ls-files", "-z", "-c", "-i", "--exclude-standard")
    ignored = place.git(index, *command).split(b"\0")[:-1]
    if not ignored:
        return []
    own = set()
    if place.repository is not None:
        own = set(place.git(place.repository.git_dir / "index", *command).split(b"\0"))
    return [os.fsdecode(path) for path in ignored if path not in own]


# --- repositories inside -------------------------------------------------------------------------------------------


def _nested_snapshots(place: Place, index: Path, untracked: Sequence[str]) -> dict[str, Snapshot]:
    """The repositories inside the work tree that must become plain content; clean submodules stay links."""
    entries = index_entries(place, index)
    links = {path: object_id for path, (mode, object_id) in entries.items() if mode == "160000"}
    if not links and not untracked:
        return {}
    urls: dict[str, tuple[str, str]] = {}
    if links and ".gitmodules" in entries:
        urls = submodule_urls(place.mirror, entries[".gitmodules"][1], place.objects)
    nested = {}
    for path in (*links, *untracked):
        repository = repository_at(place.root / path)
        if repository is None:
            continue
        inner = replace(place, root=place.root / path, repository=repository, facts=read_facts(repository))
        snapshot = _take(inner, read_head(repository))
        if not (path in urls and snapshot.clean):
            nested[path] = snapshot
        elif snapshot.head is not None and snapshot.head.commit != links[path]:
            set_entries(place, index, {path: ("160000", snapshot.head.commit)})
    return nested


def _graft(place: Place, index: Path, nested: Mapping[str, Snapshot]) -> str:
    """The tree with the nested repositories' trees in it."""
    objects = [r.objects for snapshot in nested.values() for r in snapshot.repositories.values()]
    update_index(place, index, (), list(nested))
    for path, snapshot in nested.items():
        place.git(index, "read-tree", f"--prefix={path}/", snapshot.tree, alternates=objects)
    return write_tree(place, index, objects)
