"""What differs between the commits of two runs, in one mirror or in two."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.model import Source
from orchestrator.paths import Home
from orchestrator.report import Report, silent
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.location import Remote, is_full_id
from orchestrator.source.mirror import World, forget_facts, known_facts, mirror_path

_LINK_TO_COMMIT = 0o160000

# Without it, newer versions of git take attributes from HEAD of the mirror: a third commit would hide files as binary.
_SETTINGS = (("attr.tree", ""),)


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that differs, at its path in the later commit, or in the earlier one if only that has it.

    `old_path` is the other name that it had. Modes are git's (0o100644, 0o100755, 0o120000 for a symbolic link), None
    where it is not there. `added` and `deleted` count lines; they are None for what is not text. Paths may hold
    surrogate escapes.
    """

    path: str
    old_mode: int | None
    new_mode: int | None
    added: int | None
    deleted: int | None
    old_path: str | None = None


@dataclass(frozen=True, slots=True)
class SubmoduleChange:
    """A submodule at another commit; None where there is none."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class CodeChange:
    """What differs between two commits; what submodules hold is told by their commits only.

    `patch` is a unified diff, in git's form, of all text files; bytes that are no UTF-8 are surrogate escapes. It is
    None when it was not asked for.
    """

    files: tuple[FileChange, ...] = ()
    submodules: tuple[SubmoduleChange, ...] = ()
    patch: str | None = None

    def __bool__(self) -> bool:
        return bool(self.files or self.submodules)


def code_changes(one: Source, other: Source, *, home: Home, patch: bool = False, report: Report = silent) -> CodeChange:
    """What differs between the commits of two sources; sorted by path.

    What the mirrors lack of the commits is fetched. Raises OrchError when it can't be had.
    """
    if one.tree == other.tree and one.submodules == other.submodules:
        return CodeChange(patch="" if patch else None)
    for source in (one, other):
        if not is_full_id(source.commit):  # git would take another text for a name, or for an option
            raise OrchError(f"{source.commit!r} is not the full id of a commit.")
    if len(one.commit) != len(other.commit):
        raise OrchError(
            f"{one.url} and {other.url} can't be compared: their git ids are of two kinds, sha1 and sha256."
        )
    world = World(home, report)
    try:
        return _changes(one, other, world, patch=patch)
    except GitFailed:
        for source in (one, other):
            forget_facts(mirror_path(home, source.url), source.commit)
    try:
        return _changes(one, other, world, patch=patch)
    except GitFailed as error:
        raise OrchError(
            f"{one.commit} of {one.url} and {other.commit} of {other.url} can't be compared: {error.line}."
        ) from error


def _changes(one: Source, other: Source, world: World, *, patch: bool) -> CodeChange:
    mirrors = [_complete(source, world) for source in (one, other)]
    alternates = [mirrors[1] / "objects"] if mirrors[0] != mirrors[1] else []
    env = local_env(mirrors[0], alternates=alternates, config=_SETTINGS)
    commits = (one.commit, other.commit)
    entries = list(_entries(_git_diff("--raw", "--numstat", "--no-abbrev", "-z", commits=commits, env=env)))
    text = os.fsdecode(_git_diff("--patch", "--binary", "--full-index", commits=commits, env=env)) if patch else None
    return CodeChange(
        tuple(sorted((f for e in entries for f in e.files), key=lambda file: file.path)),
        _submodule_changes(one, other, entries),
        text,
    )


def _complete(source: Source, world: World) -> Path:
    """The mirror of a source, with its commit."""
    mirror = mirror_path(world.home, source.url)
    if known_facts(mirror, source.commit) is None:
        from orchestrator.source.contents import obtain

        obtain(Remote(source.url), source.commit, world)
    return mirror


def _git_diff(*options: str, commits: tuple[str, str], env: Mapping[str, str]) -> bytes:
    safe = ("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
    return run_git("diff-tree", "-r", "--find-renames", *safe, *options, "--end-of-options", *commits, "--", env=env)


# --- what git says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """A difference between two trees: of a file, a submodule, or of one in the place of the other."""

    old: tuple[int, str, str]
    """Mode (0 where there is nothing), object id, path."""
    new: tuple[int, str, str]
    lines: tuple[int | None, int | None]

    @property
    def files(self) -> Iterator[FileChange]:
        """The files among the two."""
        (old_mode, _, old_path), (new_mode, _, new_path) = self.old, self.new
        old, new = old_mode not in (0, _LINK_TO_COMMIT), new_mode not in (0, _LINK_TO_COMMIT)
        if old or new:
            renamed = old and new and old_path != new_path
            yield FileChange(
                path=new_path if new else old_path,
                old_mode=old_mode if old else None,
                new_mode=new_mode if new else None,
                added=self.lines[0],
                deleted=self.lines[1],
                old_path=old_path if renamed else None,
            )


def _entries(out: bytes) -> Iterator[_Entry]:
    """The output of `--raw --numstat -z` (git-diff-tree(1), "raw output format" and "other diff formats")."""
    fields = iter(os.fsdecode(field) for field in out.split(b"\0")[:-1])
    raw: list[tuple[tuple[int, str, str], tuple[int, str, str]]] = []
    lines: dict[str, tuple[int | None, int | None]] = {}
    for field in fields:
        if field.startswith(":"):
            old_mode, new_mode, old_id, new_id, status = field[1:].split(" ")
            old_path = next(fields)
            new_path = next(fields) if status[0] in "RC" else old_path
            raw.append(((int(old_mode, 8), old_id, old_path), (int(new_mode, 8), new_id, new_path)))
        else:
            added, deleted, path = field.split("\t", 2)
            if not path:  # a renamed file: its old path, then its new one
                _, path = next(fields), next(fields)
            lines[path] = (None, None) if added == "-" else (int(added), int(deleted))
    for old, new in raw:
        yield _Entry(old, new, lines.get(new[2], (0, 0)))


def _submodule_changes(one: Source, other: Source, entries: Iterable[_Entry]) -> tuple[SubmoduleChange, ...]:
    """Those that the sources know, nested ones too, and those that were left empty for want of a URL."""
    before = {s.path: s.commit for s in one.submodules}
    after = {s.path: s.commit for s in other.submodules}
    for entry in entries:
        for commits, (mode, commit, path) in ((before, entry.old), (after, entry.new)):
            if mode == _LINK_TO_COMMIT:
                commits.setdefault(path, commit)
    paths = sorted(before.keys() | after.keys())
    return tuple(
        SubmoduleChange(path, before.get(path), after.get(path))
        for path in paths
        if before.get(path) != after.get(path)
    )
