"""The folders of `$ORCH_HOME`: whose they are, and what can be done in them. Each thing is tried, with a small file."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from orchestrator.doctor.check import Check, fault, note, ok
from orchestrator.paths import Home

_LONGEST_PREFIX = 255
"""Binaries of conda packages have so many bytes for the path of their environment."""

_LOCK_ID = 64
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
_SCRIPT = b"#!/bin/sh\nexit 0\n"
_SECONDS = 2.0
_NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

Look = tuple[str, Callable[[], Iterator[Check]]]


def looks(home: Home) -> tuple[Look, ...]:
    """What can be looked at here, each by its name."""
    looks = {
        "home": _home,
        "prefixes": _prefixes,
        "programs": _programs,
        "locks": _locks,
        "links": _links,
        "store": _store,
        "names": _names,
    }
    return tuple((name, partial(_tried, look, home)) for name, look in looks.items())


def _tried(look: Callable[[Home], Iterator[Check]], home: Home) -> Iterator[Check]:
    """What `look` finds; nothing where no file can be written, which the look at the disks tells once."""
    try:
        yield from look(home)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise


def _home(home: Home) -> Iterator[Check]:
    facts = home.root.stat()
    mode = stat.S_IMODE(facts.st_mode)
    found = f"{home.root}, mode {mode:04o}"
    if facts.st_uid != os.geteuid():
        yield note("home", f"{found}, of user {facts.st_uid}", "Set ORCH_HOME to a folder of your own.")
    elif mode & 0o022:
        advice = f"Who can write there decides what you run: chmod 700 {shlex.quote(str(home.root))}"
        yield fault("home", f"{found}: others can write to it", advice)
    elif mode & 0o077:
        advice = f"Logs and records are for whoever can read them: chmod 700 {shlex.quote(str(home.root))}"
        yield note("home", f"{found}: others can read it", advice)
    else:
        yield ok("home", found)


def _prefixes(home: Home) -> Iterator[Check]:
    """The path of environments: it stands in the first lines of their scripts, and in their binaries."""
    place = str(home.envs)
    longest = len(os.fsencode(place)) + 1 + _LOCK_ID
    move = f"Name a place with a shorter path as envs, in [paths] of {home.config}."
    if longest > _LONGEST_PREFIX:
        yield fault("prefixes", f"the paths of environments have {longest} bytes, 255 are possible", move)
    elif any(c.isspace() for c in place):
        advice = f"Its programs run; what does not expect one may not. Name one without, as envs in {home.config}."
        yield note("prefixes", f"{place} has a blank in its path", advice)
    else:
        yield ok("prefixes", f"{place}, {longest} of {_LONGEST_PREFIX} bytes")


def _programs(home: Home) -> Iterator[Check]:
    """Whether programs can be started from where environments and work directories are."""
    held = [(name, folder) for name, folder in (("envs", home.envs), ("work", home.work)) if not _starts(folder)]
    for name, folder in held:
        move = f"Move it to another disk ({name} in [paths] of {home.config}), or have this one mounted without noexec."
        tell = fault if name == "envs" else note
        yield tell("programs", f"none can be started from {folder}", move)
    if not held:
        yield ok("programs", "can be started from envs and work")


def _starts(folder: Path) -> bool:
    with _room(folder) as room:
        script = room / "script"
        script.write_bytes(_SCRIPT)
        script.chmod(0o700)
        try:
            # A shell would read what the system refuses to start: no shell here.
            done = subprocess.run(
                [script], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
            )
        except PermissionError:
            return False
        return done.returncode == 0


def _locks(home: Home) -> Iterator[Check]:
    """Whether files can be locked, as SQLite does and as orch does, where that is needed."""
    places = {folder.stat().st_dev: folder for folder in (home.cache, home.envs, home.root)}
    refused = []
    for folder in places.values():
        with _room(folder) as room, (room / "lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                refused.append((folder, error.strerror))
    for folder, why in refused:
        advice = "Runs at the same time would damage each other's: use another disk, or mount it with locks (flock)."
        yield fault("locks", f"files in {folder} can't be locked ({why})", advice)
    if not refused:
        yield ok("locks", "files can be locked")


def _links(home: Home) -> Iterator[Check]:
    """Whether environments can share the files of the package cache."""
    with _room(home.cache) as cache, _room(home.envs) as envs:
        (cache / "file").write_bytes(_SCRIPT)
        try:
            (envs / "file").hardlink_to(cache / "file")
        except OSError as error:
            other = error.errno == errno.EXDEV
            why = "they are on different disks" if other else f"{error.strerror}"
            advice = f"Every environment takes its full size; put both on one disk ([paths] in {home.config})."
            yield note("links", f"environments can't share files with the cache: {why}", advice if other else "")
        else:
            yield ok("links", "environments share their files with the cache")


def _store(home: Home) -> Iterator[Check]:
    """What it takes to bring an output into the store, and an input into a work directory."""
    if home.work.stat().st_dev != home.store.stat().st_dev:
        advice = f"Outputs are copied; on one disk they would be moved ([paths] in {home.config})."
        yield note("store", "on another disk than the work directories", advice)
        return
    with _room(home.store) as store, _room(home.work) as work:
        shared = _clones(store / "file", work / "file")
    inputs = "share their blocks" if shared else "are copies, for the file system has no reflinks"
    yield ok("store", f"outputs are moved to it; files brought from it {inputs}")


def _clones(source: Path, target: Path) -> bool:
    source.write_bytes(_SCRIPT)
    try:
        with source.open("rb") as original, target.open("xb") as clone:
            fcntl.ioctl(clone, _FICLONE, original.fileno())
    except OSError:
        return False
    return True


def _names(home: Home) -> Iterator[Check]:
    """Whether names that differ in case only are two files where projects are checked out."""
    with _room(home.work) as room:
        (room / "a").touch()
        if (room / "A").exists():
            advice = "A project with both is checked out wrong: put work on a case-sensitive disk, in [paths]."
            yield note("names", f"{home.work} takes A and a for one file", advice)
        else:
            yield ok("names", "upper and lower case are told apart")


@contextmanager
def _room(folder: Path) -> Iterator[Path]:
    """A folder to try things in; removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder, ignore_cleanup_errors=True) as name:
        yield Path(name)
