"""What the process trees of live runs use. psutil does the asking."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.tui.snapshot import Use

if TYPE_CHECKING:
    import psutil


@dataclass(slots=True)
class Meter:
    """What was seen at the last look: when (monotonic, and since the epoch), and the CPU seconds of each process."""

    at: float | None = None
    clock: float = 0.0
    seconds: dict[psutil.Process, float] = field(default_factory=dict)


def measure(meter: Meter, roots: Collection[int]) -> dict[int, Use]:
    """What everything below each root process (not itself) uses, by the root's pid. One pass over all processes."""
    if not roots:
        return {}
    import psutil

    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process)
    now, before, clock, meter.seconds = time.monotonic(), meter.seconds, meter.clock, {}
    passed = None if meter.at is None else max(now - meter.at, 0.001)
    meter.at, meter.clock = now, time.time()
    found = {}
    for root in roots:
        busy, memory = 0.0, 0
        for process in _below(root, children):
            try:
                times, resident, is_new = process.cpu_times(), process.memory_info().rss, process.create_time() >= clock
            except psutil.Error:
                continue
            meter.seconds[process] = seconds = times.user + times.system
            # What an older process, unseen so far, used before nobody knows.
            busy += max(0.0, seconds - before.get(process, 0.0 if is_new else seconds))
            memory += resident
        found[root] = Use(None if passed is None else 100 * busy / passed, memory)
    return found


def _below(root: int, children: dict[int, list[psutil.Process]]) -> Iterator[psutil.Process]:
    waiting = list(children.get(root, ()))
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children.get(process.pid, ())
