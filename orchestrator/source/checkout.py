"""Fresh files of a commit, without `.git`: the work directory of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.model import Source
from orchestrator.paths import Home, stays_below
from orchestrator.report import Report, silent
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.location import Remote
from orchestrator.source.mirror import World, forget_facts, known_facts, mirror_path

_SETTINGS = (("core.symlinks", "true"), ("core.fileMode", "true"))


@contextmanager
def checkout_aside(source: Source, *, home: Home) -> Iterator[Callable[[], Path]]:
    """A function that writes the tree of a commit into a temporary folder, a new one at each call.

    All are removed when the block ends.
    """
    from tempfile import TemporaryDirectory

    with ExitStack() as cleanup:

        def checked_out() -> Path:
            place = Path(cleanup.enter_context(TemporaryDirectory(prefix="orch-"))) / "checkout"
            checkout(source, place, home=home)
            return place

        yield checked_out


def checkout(source: Source, into: Path, *, home: Home, report: Report = silent) -> tuple[str, ...]:
    """Write the whole tree of a commit, submodules too, into `into`, which must not exist or be empty.

    Files are byte for byte what the commit holds, on every machine: no line ends are converted, no export-ignore is
    followed; modes are 644 and 755. LFS pointers become the files they stand for. When a mirror lacks the commit
    (a record from elsewhere), it is fetched from `source.url`. Returns sentences for the person. Raises OrchError
    when `into` is in use, the commit can't be had, or a file of the project is an LFS pointer without its bytes.
    """
    try:
        return _checkout(source, into.absolute(), World(home, report))
    except OSError as error:
        raise OrchError(f"{error.filename or into} can't be written: {error.strerror}.") from error


def _checkout(source: Source, into: Path, world: World) -> tuple[str, ...]:
    pointers = _write_commit(Remote(source.url), source.commit, into, "", world)
    for submodule in source.submodules:
        place = into / submodule.path
        # git made this folder; behind a symbolic link it would be another
        if not stays_below(submodule.path) or place.resolve() != into.resolve() / submodule.path:
            raise OrchError(f"the submodule path {submodule.path!r} leaves the commit {source.commit}.")
        pointers += _write_commit(Remote(submodule.url), submodule.commit, place, submodule.path + "/", world)
    return _tell_pointers(source, pointers)


def _write_commit(remote: Remote, commit: str, into: Path, prefix: str, world: World) -> list[str]:
    """Write the files of a commit; returns the paths (with `prefix`) that stay LFS pointers."""
    _make_empty(into)
    mirror = mirror_path(world.home, remote.url)
    facts = known_facts(mirror, commit)
    try:
        if facts is None:
            raise GitFailed(f"the mirror {mirror} does not have it")
        _write_files(mirror, commit, into)
    except GitFailed:
        from orchestrator.source.contents import obtain

        forget_facts(mirror, commit)
        facts = obtain(remote, commit, world)
        try:
            _write_files(mirror, commit, into)
        except GitFailed as error:
            raise OrchError(f"{commit} of {remote.url} can't be checked out into {into}: {error.line}.") from error
    if not facts.pointers:
        return []
    from orchestrator.source.lfs import copy_object

    return [prefix + p.path for p in facts.pointers if not copy_object(mirror, p, into / p.path)]


def _write_files(mirror: Path, commit: str, into: Path) -> None:
    index = mirror / f".index.{os.getpid()}.{os.urandom(4).hex()}"
    env = local_env(mirror, work_tree=into, index=index, config=_SETTINGS)
    try:
        run_git("read-tree", "--reset", "-u", commit, env=env, cwd=into, umask=0o022)
    finally:
        for leftover in (index, index.with_name(index.name + ".lock")):
            leftover.unlink(missing_ok=True)


def _make_empty(into: Path) -> None:
    try:
        into.mkdir(parents=True, exist_ok=True)
        if any(into.iterdir()):
            raise OrchError(f"{into} is not empty; a check-out needs a fresh folder.")
    except OSError as error:
        raise OrchError(f"the folder {into} can't be used: {error.strerror}.") from error


def _tell_pointers(source: Source, pointers: list[str]) -> tuple[str, ...]:
    """A note on files that stay LFS pointers; an error when one is in the project: it would be read as data."""
    inside = [path for path in pointers if not source.subdir or path.startswith(source.subdir + "/")]
    if inside:
        shown = ", ".join(inside[:3]) + (f" and {len(inside) - 3} more" if len(inside) > 3 else "")
        raise OrchError(
            f"{shown}: Git LFS pointers whose contents are not there; install git-lfs, or fetch them where the "
            "repository is (git lfs pull), and run again."
        )
    if pointers:
        return (f"{len(pointers)} files outside the project stay Git LFS pointers, {pointers[0]} among them.",)
    return ()
