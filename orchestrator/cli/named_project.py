"""The project that a command line names, as far as it is on this machine: nothing is made, fetched or executed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.paths import Home
    from orchestrator.project import Project
    from orchestrator.project import Tree as Files
    from orchestrator.source.location import Remote

_LARGEST_FILE = 1_000_000
"""Bytes of a file of the work tree that is read."""

_GIT_SECONDS = 2.0


def existing_home() -> Home | None:
    """The home if there is one; `open_home` would make it."""
    import os
    from pathlib import Path

    from orchestrator.paths import MOVABLE, Home

    root = Path(os.environ.get("ORCH_HOME") or "~/.local/share/orch").expanduser().resolve()
    return Home(root, *(root / name for name in MOVABLE)) if root.is_dir() else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a project is on this machine: a git directory, a folder with its files, or both.

    `mirrored` is the remote repository whose mirror `git_dir` is.
    """

    git_dir: Path | None
    folder: Path | None
    subdir: str
    mirrored: Remote | None = None


def open_project(repository: str, revision: str) -> AbstractContextManager[tuple[Project, Files]]:
    """A project with the files of a revision ("" for none): of the work tree, of a repository, or of a mirror."""
    from orchestrator.project import read_project
    from orchestrator.source.tree import Tree

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Project, Files]]:
        place = find_place(repository)
        if place.folder is not None and not revision:
            folder = WorkTree(place.folder)
            yield read_project(folder, place.subdir), folder
        elif place.git_dir is not None:
            with Tree(place.git_dir, _tree_id(place, revision)) as tree:
                yield read_project(tree, place.subdir), tree
        else:
            raise FileNotFoundError

    return opened()


def find_place(repository: str) -> Place:
    """Where a repository is, as `orch run` would take its name. Raises what it meets when it is nowhere."""
    import posixpath

    from orchestrator.source.location import Folder, Remote, parse_location, path_of
    from orchestrator.source.mirror import mirror_path
    from orchestrator.source.repository import find_repository

    location = parse_location(repository)
    if isinstance(location, Folder):
        found = find_repository(location.path)
        if found is None or found.work_tree is None:
            return Place(found.git_dir if found else None, None if found else location.path, location.subdir)
        above = location.path.relative_to(found.work_tree).as_posix()
        subdir = posixpath.normpath(posixpath.join(above, location.subdir))
        return Place(found.git_dir, found.work_tree, "" if subdir == "." else subdir)
    if isinstance(location, Remote):
        path, home = path_of(location.url), existing_home()
        there = find_repository(path) if path is not None else None
        if there is not None:
            return Place(there.git_dir, None, location.subdir)
        if home is not None and (mirror := mirror_path(home, location.url)).is_dir():
            return Place(mirror, None, location.subdir, location)
    raise FileNotFoundError


def _tree_id(place: Place, revision: str) -> str:
    from orchestrator.source.gitprogram import GitFailed, local_env, run_git
    from orchestrator.source.location import check_revision

    git_dir = place.git_dir
    if git_dir is None:
        raise FileNotFoundError
    names = [check_revision(revision), f"refs/remotes/origin/{revision}"] if revision else ["HEAD"]
    if place.mirrored is not None:
        names = [_commit_in_mirror(place.mirrored, revision)]
    for name in names:
        words = ("rev-parse", "--verify", "-q", "--end-of-options", name + "^{tree}")
        with contextlib.suppress(GitFailed):
            return run_git(*words, env=local_env(git_dir), timeout=_GIT_SECONDS).decode().strip()
    raise FileNotFoundError(revision)


def _commit_in_mirror(remote: Remote, revision: str) -> str:
    from orchestrator.report import silent
    from orchestrator.source.mirror import World
    from orchestrator.source.remote import resolve_name

    home = existing_home()
    if home is None:
        raise FileNotFoundError
    # Offline, nobody is asked but the mirror.
    return resolve_name(remote, revision or None, World(replace(home, offline=True), silent)).commit


class WorkTree:
    """The files of a folder, read as those of a commit; what leads out of it is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, or None where no file is, or a very large one."""
        place = (self._root / path).resolve()
        # No pipe or device is opened: that could wait for ever.
        if not place.is_relative_to(self._root) or not place.is_file() or place.stat().st_size > _LARGEST_FILE:
            return None
        return place.read_bytes()

    def names(self, directory: str = "") -> tuple[str, ...]:
        """The entries of a directory; those of directories end with "/"."""
        place = (self._root / directory).resolve()
        if not place.is_relative_to(self._root) or not place.is_dir():
            return ()
        return tuple(sorted(entry.name + "/" * entry.is_dir() for entry in place.iterdir()))
