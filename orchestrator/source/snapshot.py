"""A work tree, as it is, as a tree object in a mirror. The user's repository is read, never written.

git works here with a git directory and an index of our own; the objects of the user's repository are alternates. The
index starts as a copy of the user's, whose stat data tell which files were touched, and is kept, so that the next
snapshot only reads what changed since.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from orchestrator.errors import OrchError
from orchestrator.report import Report, silent
from orchestrator.source.contents import submodule_urls
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.lfs import file_matches, read_pointers
from orchestrator.source.mirror import make_snapshot_repository
from orchestrator.source.repository import Facts, Head, Repository, read_facts, read_head, repository_at

LARGE_BYTES = 100_000_000
"""Untracked files above this size stay out of a snapshot; they become inputs of the run."""

NO_HEAD_TIME = 315_532_800
"""The time of a snapshot that has no commit below it: 1980-01-01, the earliest that a zip (a wheel) can hold."""

_MANY = 1000

_NEVER = ("-x", "__pycache__/", "-x", ".hg/", "-x", ".svn/", "-x", ".bzr/")
"""Untracked folders that are no one's work: caches of Python, and other version control."""

_FAST = (("core.looseCompression", "1"), ("core.preloadIndex", "true"))
_DEFAULTS = {"core.filemode": "true", "core.symlinks": "true", "core.ignorecase": "false"}


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

    def env(self, index: Path, alternates: Sequence[Path] = ()) -> dict[str, str]:
        """git's environment for this work tree and an index file; `alternates` are further object folders."""
        config = dict(_FAST) | _DEFAULTS | dict(self.facts.settings)
        if self.repository is not None:
            alternates = [self.repository.objects, *alternates]
            config["core.excludesFile"] = str(self.repository.common / "info" / "exclude")
            config["core.attributesFile"] = str(self.repository.common / "info" / "attributes")
        return local_env(
            self.git_dir,
            work_tree=self.root,
            index=index,
            objects=self.mirror / "objects",
            alternates=alternates,
            config=config.items(),
        )

    def git(self, index: Path, *args: str, data: bytes = b"", alternates: Sequence[Path] = ()) -> bytes:
        """Run git on this work tree. Raises GitFailed."""
        return run_git(*args, env=self.env(index, alternates), cwd=self.root, data=data)


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

    Without `repository` it is a plain folder. Ignored files stay out, unless `ignore` is off. Nested repositories and
    changed submodules become plain content. Raises OrchError when a file can't be read.
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
    """Whether any file below `path` of a work tree is tracked, or would be recorded. Raises GitFailed."""
    git_dir = make_snapshot_repository(mirror, facts.object_format)
    place = Place(repository.root, repository, mirror, git_dir, facts, silent, ignore=True)
    options = ("-z", "-c", "-o", "--exclude-standard", "--directory", "--no-empty-directory")
    return bool(place.git(repository.git_dir / "index", "ls-files", *options, "--", path))


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
        with _own_index(place, kept=False) as index:
            tree = _clean_tree(place, index)
        if tree == head.tree:
            return Snapshot(head.tree, head, place.facts, _own(place))
    with _own_index(place, kept=True) as index:
        large, nested_paths = _record_changes(place, index, head)
        nested = _nested_snapshots(place, index, nested_paths)
        tree = _write_tree(place, index)
        _keep_index(place, index)
        if nested:
            tree = _graft(place, index, nested)
    repositories = _own(place)
    for path, snapshot in nested.items():
        repositories |= {f"{path}/{inner}": repository for inner, repository in snapshot.repositories.items()}
        large += [LargeFile(f"{path}/{item.path}", item.place) for item in snapshot.large_files]
    return Snapshot(tree, head, place.facts, repositories, tuple(large))


def _own(place: Place) -> dict[str, Repository]:
    return {"": place.repository} if place.repository is not None else {}


# --- the index -----------------------------------------------------------------------------------------------------


@contextmanager
def _own_index(place: Place, *, kept: bool) -> Iterator[Path]:
    """A private index file: the kept one if the user's has not changed since, else a copy of the user's."""
    index = place.git_dir / f".index.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        if not (kept and _copy_index(_kept_index(place), index)):
            _copy_users_index(place, index)
        yield index
    finally:
        for leftover in (index, index.with_name(index.name + ".lock")):
            leftover.unlink(missing_ok=True)


def _copy_users_index(place: Place, index: Path) -> None:
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


def _keep_index(place: Place, index: Path) -> None:
    kept = _kept_index(place)
    for older in place.git_dir.glob(_index_key(place) + "*"):
        if older != kept:
            older.unlink(missing_ok=True)
    aside = index.with_name(index.name + ".keep")
    if _copy_index(index, aside):
        aside.replace(kept)


def _index_entries(place: Place, index: Path) -> dict[str, tuple[str, str]]:
    """What the index holds: path -> (mode, id)."""
    entries = {}
    for line in place.git(index, "ls-files", "-s", "-z").split(b"\0")[:-1]:
        info, _, path = line.partition(b"\t")
        mode, object_id, _ = info.decode().split(" ")
        entries[os.fsdecode(path)] = (mode, object_id)
    return entries


def _write_tree(place: Place, index: Path, alternates: Sequence[Path] = ()) -> str:
    try:
        return place.git(index, "write-tree", alternates=alternates).decode().strip()
    except GitFailed as error:
        # in the middle of a merge the files are what the user sees, with the marks of the conflict in them
        unmerged = place.git(index, "ls-files", "-u", "-z").split(b"\0")[:-1]
        if not unmerged:
            raise error
        paths = dict.fromkeys(os.fsdecode(line.partition(b"\t")[2]) for line in unmerged)
        _update_index(place, index, list(paths), ())
        return place.git(index, "write-tree", alternates=alternates).decode().strip()


def _update_index(place: Place, index: Path, add: Sequence[str], remove: Sequence[str]) -> None:
    for options, paths in ((("--force-remove",), remove), (("--add", "--remove", "--replace"), add)):
        if paths:
            data = b"".join(os.fsencode(path) + b"\0" for path in paths)
            place.git(index, "update-index", *options, "-z", "--stdin", data=data)


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
        _copy_users_index(place, index)
        changes = _list_changes(place, index)
    nested = [path.rstrip("/") for path in changes if path.endswith("/")]
    untracked = {path for path, unknown in changes.items() if unknown}
    add, remove, big = _sorted_changes(place, [path for path in changes if not path.endswith("/")], untracked)
    pointers = _pointers(place, index, [path for path in (*add, *big) if path not in untracked])
    unchanged = {p for p, (oid, size) in pointers.items() if file_matches(place.root / p, oid, size)}
    tracked = _users_paths(place) if set(big) - untracked else set()
    left_out = [p for p in big if p not in unchanged and (p not in tracked or p in pointers)]
    add = [p for p in (*add, *big) if p not in unchanged and p not in left_out]
    if len(add) > _MANY:
        place.report("source", f"recording {len(add)} files of {place.root}")
    _update_index(place, index, add, [*remove, *left_out, *_newly_ignored(place, index)])
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
        elif stat.S_ISREG(status.st_mode) and status.st_size > LARGE_BYTES:
            big.append(path)
        else:
            add.append(path)
    return add, remove, big


def _pointers(place: Place, index: Path, paths: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Which of these paths are Git LFS pointers in the index: path -> (sha256, size) of the file they stand for."""
    if not paths:
        return {}
    entries = _index_entries(place, index)
    ids = {path: entries[path][1] for path in paths if entries.get(path, ("", ""))[0].startswith("100")}
    alternates = [place.repository.objects] if place.repository is not None else []
    found = read_pointers(place.mirror, ids.values(), alternates)
    return {path: found[object_id] for path, object_id in ids.items() if object_id in found}


def _users_paths(place: Place) -> set[str]:
    """The paths that the user's own index holds."""
    if place.repository is None:
        return set()
    out = place.git(place.repository.git_dir / "index", "ls-files", "-z")
    return {os.fsdecode(path) for path in out.split(b"\0")[:-1]}


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
    entries = _index_entries(place, index)
    links = {path: object_id for path, (mode, object_id) in entries.items() if mode == "160000"}
    if not links and not untracked:
        return {}
    urls: dict[str, tuple[str, str]] = {}
    if links and ".gitmodules" in entries:
        alternates = [place.repository.objects] if place.repository is not None else []
        urls = submodule_urls(place.mirror, entries[".gitmodules"][1], alternates)
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
            line = f"160000 {snapshot.head.commit}\t".encode() + os.fsencode(path) + b"\0"
            place.git(index, "update-index", "-z", "--index-info", data=line)
    return nested


def _graft(place: Place, index: Path, nested: Mapping[str, Snapshot]) -> str:
    """The tree with the nested repositories' trees in it."""
    objects = [r.objects for snapshot in nested.values() for r in snapshot.repositories.values()]
    _update_index(place, index, (), list(nested))
    for path, snapshot in nested.items():
        place.git(index, "read-tree", f"--prefix={path}/", snapshot.tree, alternates=objects)
    return _write_tree(place, index, objects)
