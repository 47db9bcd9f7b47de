"""What the machine, or the session, allows: limits, memory, containers, and variables that name files."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from orchestrator.doctor.check import Check, amount, fault, note, ok

_FEW_FILES, _TOO_FEW_FILES = 1024, 128
_FEW_PROCESSES = 100
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h
_NAME_FILES = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"),
    *("PIP_CERT", "NETRC", "RATTLER_AUTH_FILE", "TMPDIR"),
)

Look = tuple[str, Callable[[], Iterator[Check]]]


def looks(environ: Mapping[str, str]) -> tuple[Look, ...]:
    """What can be looked at here, each by its name."""
    return (
        ("limits", _limits),
        ("memory", _memory),
        ("container", lambda: _container(environ)),
        ("variables", lambda: _variables(environ)),
    )


def _limits() -> Iterator[Check]:
    troubles = list(_low_limits())
    yield from troubles
    if not troubles:
        files = _soft(resource.RLIMIT_NOFILE)
        yield ok("limits", f"{'any number of' if files is None else files} open files, nothing else that hurts")


def _low_limits() -> Iterator[Check]:
    files = _soft(resource.RLIMIT_NOFILE)
    if files is not None and files < _FEW_FILES:
        tell = fault if files < _TOO_FEW_FILES else note
        advice = f"Large environments and many outputs need more: ulimit -n {_FEW_FILES * 4}"
        yield tell("limits", f"{files} open files", advice)
    left = _processes_left()
    if left is not None and left < _FEW_PROCESSES:
        advice = "Builds and parallel programs need more: end some of yours, or raise ulimit -u."
        yield note("limits", f"{max(left, 0)} more processes", advice)
    size = _soft(resource.RLIMIT_FSIZE)
    if size is not None:
        yield note("limits", f"files of {amount(size)}", "Larger outputs can't be written: ulimit -f unlimited")
    space = _soft(resource.RLIMIT_AS)
    if space is not None:
        yield note("limits", f"{amount(space)} of address space", "Programs that map more fail: ulimit -v unlimited")


def _soft(kind: int) -> int | None:
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft


def _processes_left() -> int | None:
    """How many more processes (Linux: threads) the user may start; None where there is no limit, as for root."""
    limit = _soft(resource.RLIMIT_NPROC)
    if limit is None or os.geteuid() == 0 or not sys.platform.startswith("linux"):
        return None
    return limit - sum(_threads(place) for place in Path("/proc").iterdir() if place.name.isdigit())


def _threads(process: Path) -> int:
    try:
        return sum(1 for _ in (process / "task").iterdir()) if process.stat().st_uid == os.geteuid() else 0
    except OSError:
        return 0


def _memory() -> Iterator[Check]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _group_limit()
    if limit is not None and limit < total:
        found = f"{amount(limit)} for this session, of {amount(total)}"
        yield note(
            "memory", found, "A run that takes more is killed by the system (signal 9): ask for more if it must."
        )
    else:
        yield ok("memory", amount(total))


def _group_limit() -> int | None:
    """The least memory (bytes) that a control group of this process, or one above it, allows."""
    found = []
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = Path("/sys/fs/cgroup/memory") if kinds else Path("/sys/fs/cgroup")
        name = "memory.limit_in_bytes" if kinds else "memory.max"
        group = root / path.lstrip("/")
        # In a container the path may be that of the host, which is not there.
        found += [_number(place / name) for place in (group, *group.parents) if place.is_relative_to(root)]
    return min((limit for limit in found if limit is not None), default=None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _container(environ: Mapping[str, str]) -> Iterator[Check]:
    kind = next(
        (
            name
            for name, is_there in (
                ("Docker", Path("/.dockerenv").exists()),
                ("Podman", Path("/run/.containerenv").exists()),
                ("Apptainer", "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ),
                ("a container", "container" in environ or _has_own_pids()),
            )
            if is_there
        ),
        None,
    )
    if kind is None:
        yield ok("container", "none")
    else:
        yield note(
            "container",
            kind if kind != "a container" else "one, of an unknown kind",
            "Keep ORCH_HOME in a folder that outlives it. Whether its runs still live is seen from inside only.",
        )


def _has_own_pids() -> bool:
    try:
        return os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE  # noqa: PTH115 - no path, but a name
    except OSError:
        return False


def _variables(environ: Mapping[str, str]) -> Iterator[Check]:
    missing = [name for name in _NAME_FILES if environ.get(name) and not Path(environ[name]).exists()]
    for name in missing:
        yield fault("variables", f"{name} names {environ[name]}, which is not there", f"Mend it, or: unset {name}")
    if not missing:
        yield ok("variables", "those that name files name files that are there")
