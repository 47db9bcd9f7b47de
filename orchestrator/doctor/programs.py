"""The programs that orch starts, and what it is made of."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from orchestrator import __version__
from orchestrator.doctor.check import Check, fault, note, ok
from orchestrator.report import plural
from orchestrator.variables import SYSTEM_PATH

_OLDEST_GIT = (2, 32)
"""The first that knows GIT_CONFIG_GLOBAL, without which the user's configuration would count where it must not."""

_SECONDS = 2.0

Look = tuple[str, Callable[[], Iterator[Check]]]


def looks(environ: Mapping[str, str]) -> tuple[Look, ...]:
    """What can be looked at here, each by its name."""
    return (
        ("orch", _orch),
        ("packages", _packages),
        ("git", _git),
        ("git-lfs", _git_lfs),
        ("bash", _bash),
        ("uv", _uv),
        ("ssh", _ssh),
        ("ssh agent", lambda: _agent(environ)),
    )


def _orch() -> Iterator[Check]:
    found = f"{__version__}, Python {platform.python_version()}, {platform.system()} on {platform.machine()}"
    if sys.platform.startswith(("linux", "darwin")):
        yield ok("orch", found)
    else:
        yield note("orch", found, "orch is made for Linux and macOS; here only a part of it works.")


def _packages() -> Iterator[Check]:
    """Whether the packages that orch needs are there in the versions that it needs."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        named = map(Requirement, requires("orch") or ())
        needed = [one for one in named if one.marker is None or one.marker.evaluate({"extra": ""})]
    except PackageNotFoundError:
        return
    wrong = []
    for requirement in needed:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, and orch needs {requirement.specifier}")
    if wrong:
        yield fault("packages", "; ".join(wrong), "Install orch again, into an environment of its own.")
    else:
        yield ok("packages", f"the {len(needed)} that orch names, in versions that it takes")


def _git() -> Iterator[Check]:
    said = _said(["git", "--version"])
    if said is None:
        yield fault("git", "not on PATH, or it does not work", "Install git: orch reads every project with it.")
        return
    found = re.search(r"(\d+)\.(\d+)\S*", said)
    oldest = ".".join(map(str, _OLDEST_GIT))
    if found is None:
        yield note("git", f"a version that can't be read: {said[:60]!r}", f"orch needs {oldest} or newer.")
    elif (int(found[1]), int(found[2])) < _OLDEST_GIT:
        yield fault("git", f"{found[0]}, too old", f"Install git {oldest} or newer.")
    else:
        yield ok("git", f"{found[0]} ({shutil.which('git')})")


def _git_lfs() -> Iterator[Check]:
    said = _said(["git-lfs", "version"])
    if said is None:
        yield note("git-lfs", "not there", "Only repositories that keep files in Git LFS need it: install git-lfs.")
    else:
        yield ok("git-lfs", said.split()[0].removeprefix("git-lfs/"))


def _bash() -> Iterator[Check]:
    place = shutil.which("bash", path=SYSTEM_PATH)
    if place is None:
        yield fault("bash", f"not in {SYSTEM_PATH}", "Install bash: the commands of entry points are bash's.")
    else:
        yield ok("bash", place)


def _uv() -> Iterator[Check]:
    try:
        from uv import find_uv_bin

        said = _said([find_uv_bin(), "--version"])
    except (ImportError, FileNotFoundError):
        said = None
    if said is None:
        yield fault("uv", "not there, or it does not work", "Install orch again: uv comes with it.")
    else:
        yield ok("uv", said.split()[1])


def _ssh() -> Iterator[Check]:
    if shutil.which("ssh") is None:
        yield note("ssh", "not on PATH", "Only repositories over ssh need it: install an ssh client.")
    else:
        said = _said(["ssh", "-V"])
        yield ok("ssh", said.partition(",")[0] if said else "there")


def _agent(environ: Mapping[str, str]) -> Iterator[Check]:
    place = environ.get("SSH_AUTH_SOCK")
    start = 'eval "$(ssh-agent)" && ssh-add'
    if not place:
        yield note("ssh agent", "none", f"Only keys with a passphrase, for repositories over ssh, need it: {start}")
        return
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_SECONDS / 2)
            probe.connect(place)
    except OSError as error:
        yield note(
            "ssh agent",
            f"SSH_AUTH_SOCK names {place}, where no agent answers ({error.strerror or error})",
            "In a session that outlived its connection (tmux, screen) the agent went with it: export the SSH_AUTH_SOCK "
            f"of a new login, or start one: {start}",
        )
        return
    yield _keys(place)


def _keys(place: str) -> Check:
    """What the agent that answers at `place` says of its keys."""
    try:
        done = _run(["ssh-add", "-l"])
    except FileNotFoundError:
        return ok("ssh agent", "answers (without ssh-add, its keys can't be counted)")
    except subprocess.TimeoutExpired:
        return note("ssh agent", f"{place} takes a connection, and says nothing", "Start another: eval $(ssh-agent)")
    if done.returncode == 1:
        return note("ssh agent", "answers, and has no keys", "Only repositories over ssh need one: ssh-add")
    if done.returncode:
        return note("ssh agent", f"refuses to list its keys: {done.stderr.strip()[:100]}", "Look with: ssh-add -l")
    return ok("ssh agent", f"answers, {plural(len(done.stdout.splitlines()), 'key')}")


def _said(command: Sequence[str]) -> str | None:
    """What a program says of itself, on either stream; None when it is not there, fails or hangs."""
    try:
        done = _run(command)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = (done.stdout or done.stderr).strip()
    return said if done.returncode == 0 and said else None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        cwd=os.sep,
        check=False,
    )
