"""The process tree of a run: who belongs to it, what it uses, and how it is ended. psutil does the asking."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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
    refused: set[int] = field(default_factory=set)
    """The living pids that could not be signalled: they are another user's by now."""
    others: set[int] = field(default_factory=set)
    """The processes of this machine that are not of the tree, so that only new ones are looked at."""
    memory: int = 0
    counted: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Bytes read from and written to disks, of each that lives; those of the others are summed up."""
    read_before: int = 0
    written_before: int = 0

    @property
    def read(self) -> int:
        """Bytes read from disks, as far as seen."""
        return self.read_before + sum(read for read, _ in self.counted.values())

    @property
    def written(self) -> int:
        """Bytes written to disks, as far as seen."""
        return self.written_before + sum(written for _, written in self.counted.values())


def adopt_orphans() -> None:
    """Make processes whose parent ended children of this one, so that none gets out of sight (Linux, prctl(2))."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def look(tree: ProcessTree, *, afresh: bool = False) -> list[psutil.Process]:
    """The living processes of the tree. One whose number was another's a moment ago is only seen `afresh`."""
    import psutil

    # With orphans adopted, everything below this process is the program's; elsewhere remember whom we saw.
    if sys.platform == "linux":
        if afresh:
            tree.others.clear()
        for pid in _newborn(tree):
            with contextlib.suppress(psutil.Error):
                tree.known[pid] = psutil.Process(pid)
    else:
        for process in psutil.Process().children(recursive=True):
            tree.known.setdefault(process.pid, process)
    for pid, process in list(tree.known.items()):
        if not process.is_running() or _is_zombie(process):
            del tree.known[pid]
            tree.refused.discard(pid)
            read, written = tree.counted.pop(pid, (0, 0))
            tree.read_before, tree.written_before = tree.read_before + read, tree.written_before + written
    return list(tree.known.values())


def _newborn(tree: ProcessTree) -> list[int]:
    """The pids below this process that are not known, parents first (Linux).

    To read all of /proc each second would cost more the more others run: once seen, they are passed over.
    """
    me = os.getpid()
    there = {int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()} - {me}
    tree.others &= there
    parents = {pid: parent for pid in there - tree.others - tree.known.keys() if (parent := _parent_of(pid)) >= 0}
    mine, found = {me, *tree.known}, list[int]()
    for pid in parents:
        line = list[int]()
        while pid in parents and pid not in mine:
            line.append(pid)
            pid = parents[pid]
        if pid in mine:
            found += reversed(line)
            mine |= set(line)
        elif pid in tree.others or pid == 0:
            tree.others |= set(line)
        # Else a parent has ended meanwhile: whose child that is by now is found out the next time.
    return found


def _parent_of(pid: int) -> int:
    """The pid of a process's parent, 0 where that is none of ours, -1 when the process has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return -1
    return int(stat[stat.rindex(b")") + 2 :].split()[1])


def sample(tree: ProcessTree) -> None:
    """Add what the tree uses now to what was seen before."""
    import psutil

    memory = 0
    for process in look(tree):
        try:
            with process.oneshot():
                memory += process.memory_info().rss
                if hasattr(process, "io_counters"):
                    counters = process.io_counters()
                    tree.counted[process.pid] = counters.read_bytes, counters.write_bytes
        except psutil.Error:
            continue
    tree.memory = max(tree.memory, memory)


def signal_tree(tree: ProcessTree, number: int) -> None:
    """Send a signal to the program's process group, and to each descendant that has left it."""
    if not tree.reaped:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(tree.root, number)
    for process in look(tree, afresh=True):
        with _noting_refusal(tree, process.pid):
            in_group = os.getpgid(process.pid) == tree.root
            if in_group and tree.reaped:
                os.kill(process.pid, number)
            elif not in_group:
                os.kill(process.pid, signal.SIGTERM if number == signal.SIGINT else number)


@contextlib.contextmanager
def _noting_refusal(tree: ProcessTree, pid: int) -> Iterator[None]:
    with contextlib.suppress(ProcessLookupError):
        try:
            yield
        except PermissionError:
            tree.refused.add(pid)


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
