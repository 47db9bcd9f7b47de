"""Prefixes: one installed environment per lock, built once, shared by all who need it, mended when it drifted.

A prefix is `envs/<lock id>`, or `envs/<lock id>-<hash>` when link scripts of some packages ran in it. It is built
aside, in `envs/.building`, and moved into place complete or not at all. Only link scripts must run in the final place:
a prefix has its manifest when they are done, and one without is not there for anybody.

Who needs it holds a shared `flock` on `envs/.locks/<name>`, so it is never replaced under a live run: then the next
generation, `envs/<lock id>.1`, is built beside it. All locks here are `flock`s: the death of their holder, by
whatever signal, lets them go.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from orchestrator.canonical import sha256_of
from orchestrator.environment.manifest import FOLDER, built, drift, verify_prefix
from orchestrator.errors import OrchError
from orchestrator.files import remove_tree
from orchestrator.paths import Home
from orchestrator.report import Report, silent

__all__ = [
    "PREFIX_NAME",
    "Prefix",
    "build_lock",
    "drift",
    "last_use",
    "prefix_locks",
    "use_lock",
    "use_prefix",
    "verify_prefix",
]

PREFIX_NAME = re.compile(r"(?P<base>(?P<lock_id>[0-9a-f]{64})(-[0-9a-f]{16})?)(\.(?P<generation>[0-9]+))?")
"""The name of a prefix; those of all its generations have the same base."""

_LOCK_ID = re.compile(r"[0-9a-f]{64}")
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Prefix:
    """A ready environment, in use as long as `use_fd` is open in any process."""

    path: Path
    lock_id: str
    use_fd: int
    """An open file descriptor with a shared flock, inheritable: a program that has it keeps the prefix in use even
    when the process that started it is gone."""
    packages: int
    """How many packages it has."""
    installed: bool
    """True when this call installed it."""
    mended: str | None
    """A sentence when drift was found and mended."""
    notes: tuple[str, ...] = ()
    """Sentences of the build: packages whose link scripts were not run, and what those said that were."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The environment that a call is about. `name` is that of its folder, without a generation."""

    lock_id: str
    link_scripts: tuple[str, ...]
    name: str
    home: Home
    report: Report
    look: Callable[[Path], tuple[str, ...]]


@contextmanager
def use_prefix(
    lock_id: str,
    *,
    home: Home,
    report: Report = silent,
    verify: Literal["quick", "full"] = "quick",
    link_scripts: tuple[str, ...] = (),
) -> Iterator[Prefix]:
    """The ready prefix of a lock, in use while the block runs.

    It is installed when it is missing, and mended when it changed since it was built: `quick` sees what `drift` sees,
    `full` compares every file's hash. Among processes that need the same prefix one installs, the others wait for it.

    Of the packages named in `link_scripts` the post-link scripts are run when it is installed, by the right of who
    calls; each set of such packages has a prefix of its own.

    Raises OrchError when it can't be installed (a package is gone or its hash differs, a link script fails, no space,
    no permission); then nothing is left behind but downloads in the cache.
    """
    if not _LOCK_ID.fullmatch(lock_id):
        raise OrchError(f"{lock_id!r} is not a lock id: 64 hex digits are.")
    look = _full_look if verify == "full" else drift
    scripts = tuple(sorted(set(link_scripts)))
    name = f"{lock_id}-{sha256_of(list(scripts))[:16]}" if scripts else lock_id
    wanted = _Wanted(lock_id, scripts, name, home, report, look)
    with _explained(lock_id, home):
        prefix, _ = _sound(wanted)
        if prefix is None:
            prefix = _made(wanted)
    try:
        yield prefix
    finally:
        os.close(prefix.use_fd)


def use_lock(home: Home, prefix: str) -> Path:
    """The file that all who use a prefix of this name hold with a shared `flock`."""
    return home.envs / ".locks" / prefix


def build_lock(home: Home, base: str) -> Path:
    """The file that the one builder of a prefix, of whatever generation, holds with an exclusive `flock`."""
    return home.envs / ".locks" / f"{base}.build"


def prefix_locks(home: Home, lock_id: str) -> Iterator[Path]:
    """The files that are held by all who use or build the prefixes of a lock, as far as they are there."""
    return (home.envs / ".locks").glob(f"{lock_id}*")


def last_use(home: Home, prefix: str) -> float:
    """When a prefix was last taken into use, in seconds since the epoch; 0 when it is not there."""
    for place in (use_lock(home, prefix), home.envs / prefix):
        with suppress(OSError):
            return place.lstat().st_mtime
    return 0.0


def _full_look(path: Path) -> tuple[str, ...]:
    return drift(path) or verify_prefix(path)


def _sound(wanted: _Wanted) -> tuple[Prefix | None, tuple[str, ...]]:
    """The first generation that is as it was built, now in use; else None and what changed in the last one seen.

    A prefix is looked at before it is held: one that has drifted must not seem in use to who would mend it. Prefixes
    are only ever replaced whole, so a folder that is the same afterwards is the one that was looked at.
    """
    changes: tuple[str, ...] = ()
    for path in _generations(wanted):
        if not (path / FOLDER).is_dir():
            continue  # its link scripts did not come to their end
        seen = _identity(path)
        said = built(path)
        changes = wanted.look(path)
        if said is None or said.lock_id != wanted.lock_id or changes:
            continue
        use_fd = _flock(use_lock(wanted.home, path.name), fcntl.LOCK_SH | fcntl.LOCK_NB)
        if use_fd is not None and _identity(path) == seen:
            os.set_inheritable(use_fd, True)
            os.utime(use_fd)  # when the environment was last used
            notes = said.notes
            return Prefix(path, wanted.lock_id, use_fd, said.packages, installed=False, mended=None, notes=notes), ()
        if use_fd is not None:
            os.close(use_fd)
    return None, changes


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _made(wanted: _Wanted) -> Prefix:
    with _only_builder(wanted):
        installed, mended = False, None
        for _ in range(_TRIES):
            prefix, changes = _sound(wanted)
            if prefix is not None:
                return replace(prefix, installed=installed, mended=mended)
            mended = _install(wanted, changes) or mended
            installed = True
        raise OrchError(
            f"the environment {wanted.lock_id[:12]} changes faster than it can be installed: {'; '.join(changes[:3])}."
        )


def _install(wanted: _Wanted, changes: tuple[str, ...]) -> str | None:
    """Install the first generation that nobody uses; returns the sentence about what was mended."""
    from orchestrator.environment.worker import run_job

    final, use_fd = _unused(wanted)
    try:
        mended = _mending(wanted.lock_id, changes, replaced=final.exists()) if changes else None
        if mended:
            wanted.report("environment", mended)
        with _aside(wanted.home, final.name) as aside:
            places = {"aside": str(aside), "final": str(final), "guard": str(_guard(aside))}
            job = {"lock_id": wanted.lock_id, "link_scripts": list(wanted.link_scripts), **places}
            done = run_job("install", job, home=wanted.home, report=wanted.report)
            _publish(aside, final)
            if wanted.link_scripts:
                _linked(job | done, final, wanted)
            final.chmod(0o555)
    finally:
        os.close(use_fd)
    return mended


def _linked(job: dict[str, Any], final: Path, wanted: _Wanted) -> None:
    """Run the link scripts of an installed prefix and finish it, or take it away."""
    from orchestrator.environment.worker import run_job

    try:
        run_job("link", job, home=wanted.home, report=wanted.report)
    except BaseException:
        remove_tree(final)
        raise


def _mending(lock_id: str, changes: tuple[str, ...], *, replaced: bool) -> str:
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    how = "it is installed again" if replaced else "a run uses it, so it is installed again beside it"
    return f"the environment {lock_id[:12]} changed since it was built ({changes[0]}{more}); {how}."


# --- generations and their use ------------------------------------------------------------------------------------


def _generations(wanted: _Wanted) -> Iterator[Path]:
    envs, name = wanted.home.envs, wanted.name
    base = envs / name
    if base.exists():
        yield base
    numbers = [path.suffix[1:] for path in envs.glob(f"{name}.*")]
    for number in sorted(int(n) for n in numbers if n.isdecimal()):
        yield envs / f"{name}.{number}"


def _unused(wanted: _Wanted) -> tuple[Path, int]:
    """The first generation that no run holds, and an exclusive hold on it. Only the builder of this prefix asks."""
    number = 0
    while True:
        path = wanted.home.envs / (f"{wanted.name}.{number}" if number else wanted.name)
        use_fd = _flock(use_lock(wanted.home, path.name), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if use_fd is not None:
            return path, use_fd
        number += 1


@contextmanager
def _only_builder(wanted: _Wanted) -> Iterator[None]:
    """Be the one process that builds this prefix; wait for another one, and say so."""
    path = build_lock(wanted.home, wanted.name)
    fd = _flock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if fd is None:
        wanted.report("environment", f"waiting for {path.read_text('utf-8') or 'another process'}, which installs it")
        fd = _flock(path, fcntl.LOCK_EX)
    if fd is None:
        raise OrchError(f"{path} can't be locked; is it on a file system without locks?")
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
        yield
    finally:
        os.close(fd)


def _flock(path: Path, how: int) -> int | None:
    """An open descriptor of the file with the lock on it; None when another process holds it and `how` won't wait."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return fd


# --- building aside -----------------------------------------------------------------------------------------------


@contextmanager
def _aside(home: Home, name: str) -> Iterator[Path]:
    """A fresh name to build a prefix under; whatever is there at the end is removed.

    Its guard, a file that the builder and its worker hold a shared lock on, says that they live. The name is longer
    than the final one, so that a script's first line that is short enough here is so there.
    """
    building = home.envs / ".building"
    building.mkdir(mode=0o700, exist_ok=True)
    _sweep(building)
    while True:
        aside = building / f"{name}.{os.urandom(4).hex()}"
        fd = _flock(_guard(aside), fcntl.LOCK_SH)
        if fd is not None and os.fstat(fd).st_nlink:
            break
        if fd is not None:
            os.close(fd)  # a sweeper saw it before it was locked
    try:
        yield aside
    finally:
        _clear(aside)
        os.close(fd)


def _sweep(building: Path) -> None:
    """Remove what dead builders left."""
    for guard in building.glob("*.lock"):
        fd = _flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if fd is not None:
            _clear(guard.with_suffix(""))
            os.close(fd)


def _clear(aside: Path) -> None:
    """Remove a build and its guard. What can't be removed (a dying uv still writes there) is for the next sweep."""
    try:
        remove_tree(aside)
        remove_tree(_replaced(aside))
        aside.with_name(f"{aside.name}.txt").unlink(missing_ok=True)
        _guard(aside).unlink(missing_ok=True)
    except OSError:
        return


def _guard(aside: Path) -> Path:
    return aside.with_name(f"{aside.name}.lock")


def _replaced(aside: Path) -> Path:
    return aside.with_name(f"{aside.name}.old")


def _publish(aside: Path, final: Path) -> None:
    """Move a finished prefix into its place; what was there goes aside, to be removed. Nobody uses either."""
    if final.is_symlink() or final.exists():
        if not final.is_symlink():
            final.chmod(0o700)  # to move a directory to another parent, one must be able to write it
        final.rename(_replaced(aside))
    aside.rename(final)
    for folder in (final.parent, aside.parent):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextmanager
def _explained(lock_id: str, home: Home) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OrchError(
            f"the environment {lock_id[:12]} can't be used in {home.envs}: {error.strerror or error} "
            f"({error.filename or home.envs})."
        ) from error
