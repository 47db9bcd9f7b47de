"""Which process is that: a name for a process that a later one with the same pid can't take."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from orchestrator.model import ProcessIdentity


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a process of this machine, or None when there is none with that pid."""
    start = _start_of(pid)
    return None if start is None else ProcessIdentity(machine_id(), boot_id(), pid, start)


def state_of(identity: ProcessIdentity) -> Literal["alive", "dead", "elsewhere"]:
    """Whether that very process still lives; `elsewhere` when another machine would have to be asked."""
    if identity.machine != machine_id():
        return "elsewhere"
    boot, _, namespace = identity.boot.partition("/")
    own_boot, _, own_namespace = boot_id().partition("/")
    if boot != own_boot:
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
        import psutil

        # The clock may have been set since: a minute's tolerance is enough to tell one start from the next.
        return f"boot-{round(psutil.boot_time() / 60)}"


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
        return round(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
