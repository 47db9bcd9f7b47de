"""Which process is that: a name for a process that a later one with the same pid can't take."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from orchestrator.model import ProcessIdentity

_MINUTES = "boot-"
"""Where a start of the machine has no name of its own: the minute of it, since the epoch."""


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a process of this machine, or None when there is none with that pid."""
    start = _start_of(pid)
    return None if start is None else ProcessIdentity(machine_id(), boot_id(), pid, start)


def state_of(identity: ProcessIdentity) -> Literal["alive", "dead", "elsewhere"]:
    """Whether that very process still lives; `elsewhere` when another machine would have to be asked.

    The kernel's name of its start is no other machine's, whatever this one is called by now.
    """
    boot, _, namespace = identity.boot.partition("/")
    own_boot, _, own_namespace = boot_id().partition("/")
    same = is_same_start(boot, own_boot)
    if identity.machine != machine_id() and not (same and _is_unique(boot)):
        return "elsewhere"
    if not same:
        return "dead"
    if namespace != own_namespace:
        return "elsewhere"  # another container on this machine, whose pids are not ours
    return "alive" if _start_of(identity.pid) == identity.start else "dead"


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to that very process, never to a later one with its pid; whether it was there to get it."""
    if not hasattr(os, "pidfd_open"):  # as close as it gets elsewhere
        if state_of(identity) != "alive":
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)
        return True
    try:
        process = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        if state_of(identity) != "alive":
            return False
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


def machine_id() -> str:
    """A name of this machine that stays when it is started again."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(path).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return f"{text}@{os.uname().nodename}"
    return os.uname().nodename


def boot_id() -> str:
    """A name of this start of the machine, and of the pid namespace (a container's pids are its own)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return _boot_session() or _boot_minute()


def is_same_start(one: str, other: str) -> bool:
    """Whether two names of a start, both of one machine, are of the same one. Minutes may be rounded differently."""
    minutes = [boot.removeprefix(_MINUTES) for boot in (one, other) if boot.startswith(_MINUTES)]
    if len(minutes) == 2 and all(minute.isdecimal() for minute in minutes):
        return abs(int(minutes[0]) - int(minutes[1])) <= 1
    return one == other


def _is_unique(boot: str) -> bool:
    return not boot.startswith(_MINUTES)  # many machines start in the same minute


def _boot_session() -> str | None:
    """What macOS calls this start: a UUID."""
    import ctypes

    text, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    try:
        failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0)
    except (AttributeError, OSError, TypeError):  # another system
        return None
    return None if failed else text.value.decode("ascii", "replace") or None


def _boot_minute() -> str:
    import psutil

    # The clock may have been set since: a minute's tolerance is enough to tell one start from the next.
    return f"{_MINUTES}{round(psutil.boot_time() / 60)}"


def _start_of(pid: int) -> float | None:
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        # The command's name may hold blanks and brackets: fields count from the last bracket (proc(5)).
        fields = stat[stat.rindex(b")") + 2 :].split()
        return None if fields[0] in (b"Z", b"X") else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except psutil.Error:
        return None
