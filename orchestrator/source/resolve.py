"""From what the user typed to a pinned source: which commit, of which repository, and which directory of it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from orchestrator.errors import OrchError, UsageError
from orchestrator.model import Source
from orchestrator.paths import Home
from orchestrator.report import Report, silent
from orchestrator.source.contents import Owner, complete, obtain
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.location import (
    Archive,
    Folder,
    Remote,
    check_revision,
    file_url,
    is_full_id,
    parse_location,
    parse_remote,
    path_of,
)
from orchestrator.source.mirror import (
    CommitFacts,
    World,
    import_objects,
    known_facts,
    make_mirror,
    mirror_path,
    remove_folder,
)
from orchestrator.source.repository import (
    Facts,
    Repository,
    branch_and_tag_names,
    find_repository,
    find_revision,
    read_facts,
    read_head,
)
from orchestrator.source.snapshot import (
    NO_HEAD_TIME,
    LargeFile,
    Snapshot,
    is_part,
    list_ignored,
    make_commit,
    take_snapshot,
)
from orchestrator.source.tree import Tree

_SHOWN_IGNORED = 20


@dataclass(frozen=True, slots=True)
class Resolved:
    """A pinned source, and what the person or the run must know besides.

    `notes` are sentences. `large_files` are untracked files that a snapshot left out for their size: inputs.
    """

    source: Source
    notes: tuple[str, ...] = ()
    large_files: tuple[LargeFile, ...] = ()


def resolve_source(text: str, revision: str | None, *, home: Home, report: Report = silent) -> Resolved:
    """The commit that `text` (a URL, folder or zip, with an optional `#subdirectory`) and `revision` name.

    Afterwards the commit is complete in its mirror, submodules too: `open_tree` and `checkout` need no network. A full
    commit id that the mirror has, and a clean local folder, need none now. When the home is offline nothing is asked:
    the mirror serves what it has. Raises UsageError for text that names no repository or revision, OrchError when what
    it names is not there or can't be reached.
    """
    location = parse_location(text)
    revision = check_revision(revision) if revision is not None else None
    world = World(home, report)
    try:
        if isinstance(location, Folder):
            resolved = _resolve_folder(location, revision, world)
        elif isinstance(location, Archive):
            resolved = _resolve_archive(location, revision, world)
        else:
            resolved = _resolve_remote(location, revision, world)
        resolved = _in_subdir(resolved, home)
        large = _tell_large(resolved.large_files, resolved.source.subdir)
        return replace(resolved, notes=(*resolved.notes, *large))
    except OSError as error:
        raise OrchError(f"{error.filename or home.sources} can't be used: {error.strerror}.") from error


def local_directory(source: Source) -> Path | None:
    """The folder of this machine that a source was taken from, the root of its repository; None if there is none."""
    path = path_of(source.url)
    return path if path is not None and path.is_dir() else None


def kind_of(source: Source) -> Literal["commit", "work tree", "folder", "zip"]:
    """What was taken: a commit, or the state of a work tree, of a folder that has no commit, or of a zip archive.

    It is read from the source alone: `work tree` is a snapshot on a commit, and has its time.
    """
    if not source.dirty:
        return "commit"
    if source.commit_time != NO_HEAD_TIME:
        return "work tree"
    return "zip" if source.url.lower().endswith(".zip") else "folder"


def ignored_files(text: str) -> tuple[str, ...]:
    """What git ignores in the local folder that `text` names, relative to its repository, whole directories with "/".

    At most 20 names, caches of Python not among them; () for anything but a local folder. Never raises.
    """
    import tempfile

    try:
        location = parse_location(text)
        if not isinstance(location, Folder):
            return ()
        repository = find_repository(location.path)
        root = repository.work_tree if repository is not None else location.path
        if root is None:
            return ()
        with tempfile.TemporaryDirectory(prefix="orch-") as folder:
            git_dir = Path(folder)
            run_git("init", "-q", "--bare", "--template=", "-b", "main", folder, env=local_env(git_dir))
            names = list_ignored(root, repository, git_dir)
    except (OrchError, GitFailed, OSError):
        return ()
    kept: list[str] = []
    for name in sorted(names):
        # a folder of nothing but ignored files is listed, and its files again
        below = any(name.startswith(folder) for folder in kept if folder.endswith("/"))
        if not below and "__pycache__/" not in name and not name.endswith(".pyc"):
            kept.append(name)
    return tuple(kept[:_SHOWN_IGNORED])


# --- a remote --------------------------------------------------------------------------------------------------------


def _resolve_remote(remote: Remote, revision: str | None, world: World) -> Resolved:
    notes: tuple[str, ...] = ()
    if revision is not None and is_full_id(revision):
        commit = revision
    else:
        from orchestrator.source.remote import resolve_name

        named = resolve_name(remote, revision, world)
        commit, notes = named.commit, named.notes
    facts = obtain(remote, commit, world)
    return Resolved(_source(remote.url, commit, facts, remote.subdir, revision=revision), notes + facts.notes)


def _source(
    url: str,
    commit: str,
    facts: CommitFacts,
    subdir: str,
    *,
    revision: str | None = None,
    origin: str | None = None,
    dirty: bool = False,
) -> Source:
    return Source(url, commit, facts.tree, facts.commit_time, subdir, facts.submodules, revision, origin, dirty)


# --- a folder --------------------------------------------------------------------------------------------------------


def _resolve_folder(folder: Folder, revision: str | None, world: World) -> Resolved:
    repository = find_repository(folder.path)
    if repository is None:
        if revision is not None:
            return _recorded_folder(folder, revision, world)
        return _snapshot_folder(folder.path, folder.subdir, world)
    above = os.path.relpath(folder.path, repository.root)
    inside = replace(folder, subdir=_joined(above, folder.subdir))
    if revision is not None or repository.work_tree is None:
        return _resolve_revision(repository, inside, revision, world)
    facts = read_facts(repository)
    here = Remote(file_url(repository.root))
    mirror = make_mirror(world.home, here.url, facts.object_format)
    if above != "." and not is_part(repository, above, mirror, facts):
        note = f"{folder.path} is not part of the repository {repository.root}; it is taken as a folder without git."
        resolved = _snapshot_folder(folder.path, folder.subdir, world)
        return replace(resolved, notes=(note, *resolved.notes))
    return _resolve_work_tree(repository, inside, facts, mirror, world)


def _resolve_revision(repository: Repository, folder: Folder, revision: str | None, world: World) -> Resolved:
    """A commit of a repository of this machine; its work tree is not looked at."""
    from orchestrator.source.remote import unknown_revision

    here = Remote(file_url(repository.root))
    facts = read_facts(repository)
    if revision is None:
        head = read_head(repository)
        if head is None:
            raise OrchError(f"the repository {repository.root} has no commit yet.")
        commit = head.commit
    elif found_id := find_revision(repository, revision):
        commit = found_id
    elif is_full_id(revision) and known_facts(mirror_path(world.home, here.url), revision):
        commit = revision  # a snapshot, or gone from the repository since
    else:
        raise unknown_revision(revision, str(repository.root), branch_and_tag_names(repository.git_dir))
    found = obtain(here, commit, world, local=repository, base=_base(facts.origin, here))
    source = _source(here.url, commit, found, folder.subdir, revision=revision, origin=facts.origin)
    return Resolved(source, found.notes)


def _resolve_work_tree(repository: Repository, folder: Folder, facts: Facts, mirror: Path, world: World) -> Resolved:
    here = Remote(file_url(repository.root))
    snapshot = take_snapshot(repository.root, repository, mirror, facts=facts, report=world.report)
    base = _base(facts.origin, here)
    if snapshot.clean and snapshot.head is not None:
        commit = snapshot.head.commit
        found = obtain(here, commit, world, local=repository, base=base)
    else:
        commit, found = _commit_snapshot(here, mirror, snapshot, base, world)
    source = _source(here.url, commit, found, folder.subdir, origin=facts.origin, dirty=not snapshot.clean)
    return Resolved(source, found.notes, snapshot.large_files)


def _snapshot_folder(path: Path, subdir: str, world: World, *, url: str | None = None, ignore: bool = True) -> Resolved:
    """A folder without git; with `url`, the unpacked archive of that URL."""
    here = Remote(url or file_url(path))
    mirror = make_mirror(world.home, here.url)
    snapshot = take_snapshot(path, None, mirror, facts=Facts(None, "sha1", ()), report=world.report, ignore=ignore)
    commit, found = _commit_snapshot(here, mirror, snapshot, here, world)
    source = _source(here.url, commit, found, subdir, dirty=True)
    return Resolved(source, found.notes, snapshot.large_files)


def _commit_snapshot(
    here: Remote, mirror: Path, snapshot: Snapshot, base: Remote, world: World
) -> tuple[str, CommitFacts]:
    try:
        commit = make_commit(mirror, snapshot.tree, snapshot.head)
        found = known_facts(mirror, commit, base.url)
        if found is None:
            repositories = snapshot.repositories
            import_objects(mirror, commit, [r.objects for r in repositories.values()])
            owners = {prefix: Owner(_base_of(r, base, prefix), r) for prefix, r in repositories.items()}
            found = complete(here, mirror, commit, {"": Owner(base), **owners}, base.url, world)
    except GitFailed as error:
        raise OrchError(f"the work tree of {here.url} can't be recorded: {error.line}.") from error
    if found.pointers:
        from orchestrator.source.lfs import collect_objects

        collect_objects(mirror, commit, found.pointers, here, list(snapshot.repositories.values()), world)
    return commit, found


def _base(origin: str | None, here: Remote) -> Remote:
    """Where relative submodule URLs start: the origin as git-submodule has it, else the repository itself."""
    if origin is None:
        return here
    try:
        return Remote(file_url(Path(origin))) if origin.startswith("/") else parse_remote(origin)
    except UsageError:
        return here


def _base_of(repository: Repository, base: Remote, prefix: str) -> Remote:
    return base if prefix == "" else _base(read_facts(repository).origin, Remote(file_url(repository.root)))


def _recorded_folder(folder: Folder, revision: str, world: World) -> Resolved:
    """A snapshot of a folder without git, by the commit id that an earlier run recorded."""
    url = file_url(folder.path)
    found = known_facts(mirror_path(world.home, url), revision)
    if found is None:
        raise OrchError(f"{folder.path} is no git repository, and no recorded state of it is {revision!r}.")
    return Resolved(_source(url, revision, found, folder.subdir, revision=revision, dirty=True))


# --- an archive ------------------------------------------------------------------------------------------------------


def _resolve_archive(archive: Archive, revision: str | None, world: World) -> Resolved:
    """A zip, as a snapshot commit of what it holds. A revision can only be the commit id of an earlier run."""
    if revision is not None:
        found = known_facts(mirror_path(world.home, archive.url), revision) if is_full_id(revision) else None
        if found is not None:
            source = _source(archive.url, revision, found, archive.subdir, revision=revision, dirty=True)
            return Resolved(source, found.notes)
        if not is_full_id(revision):
            raise UsageError(f"{archive.url} is an archive, which has no revision {revision!r}.")
    if archive.path is None and world.offline:
        raise OrchError(
            f"{archive.url} would have to be fetched, and --offline asks no network: run it once without, and then "
            "name the commit that was recorded with --version; or give the archive as a file."
        )
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix=".zip-", dir=world.home.sources))
    try:
        resolved = _unpacked(archive, folder, world)
    finally:
        remove_folder(folder)
    if revision not in (None, resolved.source.commit):
        raise OrchError(f"{archive.url} now holds {resolved.source.commit}, no longer {revision}.")
    return resolved


def _unpacked(archive: Archive, folder: Path, world: World) -> Resolved:
    from orchestrator.source.archive import download, unpack_zip

    packed = archive.path
    if packed is None:
        world.report("source", f"fetching {archive.url}")
        packed = folder / "archive.zip"
        download(archive, packed)
    into = folder / "files"
    into.mkdir()
    unpack_zip(packed, into)
    return _snapshot_folder(into, archive.subdir, world, url=archive.url, ignore=False)


# --- the project in it -----------------------------------------------------------------------------------------------


def _in_subdir(resolved: Resolved, home: Home) -> Resolved:
    """The subdirectory as it really is in the tree. Raises OrchError when there is none."""
    source = resolved.source
    if not source.subdir:
        return resolved
    if not source.subdir.isprintable():
        raise OrchError(f"the name of the directory {source.subdir!r} can't be recorded; rename it.")
    subdir = _directory(source, source.subdir, home)
    if subdir is None:
        raise OrchError(f"{source.url} has no directory {source.subdir!r} at commit {source.commit[:12]}.")
    return replace(resolved, source=replace(source, subdir=subdir))


def _directory(source: Source, path: str, home: Home) -> str | None:
    with Tree(mirror_path(home, source.url), source.tree) as tree:
        return tree.directory(path)


def _joined(above: str, subdir: str) -> str:
    return subdir if above == "." else posixpath.normpath(posixpath.join(Path(above).as_posix(), subdir))


def _tell_large(files: Iterable[LargeFile], subdir: str) -> tuple[str, ...]:
    notes = []
    for item in files:
        if not subdir or item.path.startswith(f"{subdir}/"):
            fate = "it becomes an input of the run, beside the code"
        else:
            fate = "it is left out, being outside the project (--input FILE gives it to the run)"
        notes.append(f"{item.path} is larger than 100 MB and not committed: {fate}.")
    return tuple(notes)
