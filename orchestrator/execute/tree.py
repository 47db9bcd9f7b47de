"""The process tree of a run: who belongs to it, what it uses, and how it is ended. psutil does the asking."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


@dataclass(slots=True)
class ProcessTree:
    """All processes that descend from the program, those included whose parents have ended.

    `memory` is the largest sum of resident sizes seen, in bytes.
    """

    root: int
    reaped: bool = False
    """The program was waited for: its number, and that of its group, may be somebody else's from now on."""
    known: dict[int, psutil.Process] = field(default_factory=dict)
    memory: int = 0
    read: dict[tuple[int, float], int] = field(default_factory=dict)
    written: dict[tuple[int, float], int] = field(default_factory=dict)


def adopt_orphans() -> None:
    """Make processes whose parent ended children of this one, so that none gets out of sight (Linux, prctl(2))."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def look(tree: ProcessTree) -> list[psutil.Process]:
    """The living processes of the tree."""
    import psutil

    # With orphans adopted, everything below this process is the program's; elsewhere remember whom we saw.
    found = psutil.Process().children(recursive=True)
    for process in found:
        tree.known.setdefault(process.pid, process)
    for pid, process in list(tree.known.items()):
        if not process.is_running() or _is_zombie(process):
            del tree.known[pid]
    return list(tree.known.values())


def sample(tree: ProcessTree) -> None:
    """Add what the tree uses now to what was seen before."""
    import psutil

    memory = 0
    for process in look(tree):
        try:
            with process.oneshot():
                memory += process.memory_info().rss
                key = process.pid, process.create_time()
                if hasattr(process, "io_counters"):
                    counters = process.io_counters()
                    tree.read[key], tree.written[key] = counters.read_bytes, counters.write_bytes
        except psutil.Error:
            continue
    tree.memory = max(tree.memory, memory)


def signal_tree(tree: ProcessTree, number: int) -> None:
    """Send a signal to the program's process group, and to each descendant that has left it."""
    if not tree.reaped:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(tree.root, number)
    for process in look(tree):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            in_group = os.getpgid(process.pid) == tree.root
            if in_group and tree.reaped:
                os.kill(process.pid, number)
            elif not in_group:
                os.kill(process.pid, signal.SIGTERM if number == signal.SIGINT else number)


def processes_of(run_id: str) -> list[int]:
    """The pids of living processes that a run started, by the `ORCH_RUN_ID` in their variables.

    For a run whose supervisor is gone; processes of other users can't be asked, and this process is not one of them.
    """
    import psutil

    return [pid for pid in psutil.pids() if pid != os.getpid() and belongs_to(pid, run_id)]


def belongs_to(pid: int, run_id: str) -> bool:
    """Whether that process lives, and was started by the run."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.environ().get("ORCH_RUN_ID") == run_id and not _is_zombie(process)
    except (psutil.Error, OSError):
        return False


def _is_zombie(process: psutil.Process) -> bool:
    import psutil

    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
