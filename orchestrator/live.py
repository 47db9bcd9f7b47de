"""What lives now: runs that are prepared, run or are compared, here and on machines that share the home."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from orchestrator import ledger
from orchestrator.beginning import Beginning, read_beginning
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.tree import processes_of
from orchestrator.ledger.browse import PageRow, change_mark, page_rows
from orchestrator.model import ProcessIdentity
from orchestrator.paths import Home
from orchestrator.project import shown_command
from orchestrator.report import project_name

if TYPE_CHECKING:
    import psutil

_SAMPLE_SECONDS = 0.1

_ORPHANS_SECONDS = 5.0
"""Between two searches for the processes of a run that has no supervisor: every process is asked for its variables."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that lives, or that never began. Times are in seconds since the epoch, `memory` is in bytes.

    `host` and `heard` (when its supervisor last said that it lives) are those of a run on another machine; nothing is
    known there of its processes. `text` says what is being prepared or compared, or why it never began.
    """

    run_id: str
    status: Literal["preparing", "running", "comparing", "orphaned", "never began"]
    since: float
    source: str
    commit: str | None
    entry_point: str
    command: str
    name: str | None
    text: str = ""
    host: str | None = None
    heard: float | None = None
    processes: tuple[int, ...] = ()
    cpu_percent: float | None = None
    """Of one processor, since the last look."""
    memory: int | None = None
    unsupervised: bool = False
    """Its supervisor is dead: a sweep says what became of the run."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What the journal says of a run from its beginning to its end."""

    entry_point: str
    command: str
    supervisor: ProcessIdentity | None


@dataclass(slots=True)
class _Meter:
    """What was seen at the last look: when (monotonic, and since the epoch), and the CPU seconds of each process."""

    at: float | None = None
    clock: float = 0.0
    seconds: dict[psutil.Process, float] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """What one look remembers for the next one, so that this costs little."""

    fixed: dict[str, _Fixed | None] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    """Replays without a verdict whose supervisor is not there to give one."""
    unrecorded: tuple[object, list[str]] = (None, [])
    """The run directories that the ledger does not have, and the state of both that told so."""
    orphans: dict[str, tuple[float, list[int]]] = field(default_factory=dict)
    """The pids of a run that has no supervisor, and when they were looked for (monotonic)."""
    meter: _Meter = field(default_factory=_Meter)


def live_runs(home: Home, connection: sqlite3.Connection) -> list[LiveRun]:
    """The live runs as `what_lives` tells them, after a sweep; what they use is sampled once, which takes a moment."""
    memory = Memory()
    runs = what_lives(home, connection, memory)
    if not any(run.processes for run in runs):
        return runs
    time.sleep(_SAMPLE_SECONDS)
    return what_lives(home, connection, memory)


def what_lives(home: Home, connection: sqlite3.Connection, memory: Memory) -> list[LiveRun]:
    """The live runs, newest first, then those that never began; what they have used since the last look.

    As the ledger has them: nothing is swept. At the first look nothing is known of their use of processors.
    """
    ids = [*ledger.live_runs(connection), *(i for i in ledger.uncompared_runs(connection) if i not in memory.over)]
    rows = page_rows(connection, ids)
    memory.fixed = {run_id: memory.fixed.get(run_id) or _fixed(home, run_id) for run_id in rows}
    found = [_recorded(home, row, memory) for row in rows.values()]
    begun = _beginnings(home, connection, memory)
    runs = [run for run in found if run is not None] + [_unrecorded(home, item) for item in begun]
    supervisors = {run_id: fixed.supervisor for run_id, fixed in memory.fixed.items() if fixed is not None}
    supervisors |= {item.run_id: item.supervisor for item in begun}
    runs = _measured(runs, supervisors, memory)
    return sorted(runs, key=lambda run: (run.status != "never began", run.run_id), reverse=True)


def _fixed(home: Home, run_id: str) -> _Fixed | None:
    with contextlib.suppress(Exception):  # a damaged journal is told of by `orch ledger rebuild`
        record = ledger.read_run(home, run_id, logged=False)
        if record is not None:
            spec = record.spec
            values = {**spec.parameters, **dict.fromkeys(spec.secret_parameters, "***")}
            return _Fixed(spec.entry_point, shown_command(spec.command, values), record.supervisor)
    return None


def _recorded(home: Home, row: PageRow, memory: Memory) -> LiveRun | None:
    fixed = memory.fixed[row.run_id] or _Fixed("", "", None)
    state = None if fixed.supervisor is None else state_of(fixed.supervisor)
    status: Any = row.status
    text = ""
    if status not in ("running", "orphaned"):
        # A replay that has ended lives as long as its supervisor compares it.
        if state != "alive":
            memory.over.add(row.run_id)
            return None
        status, text = "comparing", "its outputs and metrics with the record"
    elif status == "orphaned" or state == "dead":
        text = "its supervisor was killed"
    away = state == "elsewhere"
    return LiveRun(
        run_id=row.run_id,
        status=status,
        since=datetime.fromisoformat(row.started_at).timestamp(),
        source=project_name(row.url, row.subdir),
        commit=row.commit,
        entry_point=fixed.entry_point,
        command=fixed.command,
        name=row.name,
        text=text,
        host=(row.hostname or "another machine") if away else None,
        heard=RunDirectory(home.run(row.run_id)).heard() if away else None,
        unsupervised=state == "dead",
    )


def _beginnings(home: Home, connection: sqlite3.Connection, memory: Memory) -> list[Beginning]:
    """The runs without a record. Looking for them costs a listing, which is made only when there is news."""
    news = home.runs.stat().st_mtime_ns, change_mark(connection)
    if memory.unrecorded[0] != news:
        memory.unrecorded = news, ledger.missing_runs(home, connection)
    found = [read_beginning(RunDirectory(home.run(run_id))) for run_id in memory.unrecorded[1]]
    return [item for item in found if item is not None and item.cached is None]


def _unrecorded(home: Home, beginning: Beginning) -> LiveRun:
    asked, supervisor = beginning.asked, beginning.supervisor
    away = supervisor is not None and state_of(supervisor) == "elsewhere"
    doing = f"{beginning.phase}: {beginning.text}" if beginning.phase else beginning.text
    return LiveRun(
        run_id=beginning.run_id,
        status=beginning.state,
        since=beginning.asked_at,
        source=asked.get("source", "?"),
        commit=None,
        entry_point=asked.get("entry_point", "main"),
        command="",
        name=asked.get("name") or None,
        text=doing if beginning.state == "preparing" else beginning.text,
        host=supervisor.machine.rpartition("@")[2] if supervisor is not None and away else None,
        heard=RunDirectory(home.run(beginning.run_id)).heard() if away else None,
    )


# --- what they use ----------------------------------------------------------------------------------------------


def _measured(runs: list[LiveRun], supervisors: Mapping[str, ProcessIdentity | None], memory: Memory) -> list[LiveRun]:
    """The runs with their processes: all that is below a supervisor, itself not counted, or what an orphan has left."""
    trees: dict[str, list[psutil.Process]] = {}
    here = [run for run in runs if run.host is None and run.status != "never began"]
    orphans = {run.run_id for run in here if run.status == "orphaned"}
    memory.orphans = {run_id: _searched(run_id, memory.orphans.get(run_id)) for run_id in orphans}
    for run_id, (_, pids) in memory.orphans.items():
        trees[run_id] = list(_processes(pids))
    children = _children() if len(here) > len(orphans) else {}
    for run in here:
        supervisor = supervisors.get(run.run_id)
        if run.run_id not in orphans and supervisor is not None and not run.unsupervised:
            trees[run.run_id] = _below(supervisor.pid, children)
    uses = _use(memory.meter, trees)
    return [replace(run, **uses[run.run_id]) if run.run_id in uses else run for run in runs]


def _searched(run_id: str, before: tuple[float, list[int]] | None) -> tuple[float, list[int]]:
    now = time.monotonic()
    return before if before is not None and now - before[0] < _ORPHANS_SECONDS else (now, processes_of(run_id))


def _processes(pids: Collection[int]) -> Iterable[psutil.Process]:
    import psutil

    for pid in pids:
        with contextlib.suppress(psutil.Error):
            yield psutil.Process(pid)


def _children() -> dict[int, list[psutil.Process]]:
    """All processes, by their parents' pids. One pass."""
    import psutil

    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process)
    return children


def _below(root: int, children: Mapping[int, list[psutil.Process]]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    waiting = list(children.get(root, ()))
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children.get(process.pid, ())
    return found


def _use(meter: _Meter, trees: Mapping[str, list[psutil.Process]]) -> dict[str, dict[str, Any]]:
    """What LiveRun says of its processes, for each tree."""
    if not trees:
        meter.at = None
        return {}
    import psutil

    now, before, clock, meter.seconds = time.monotonic(), meter.seconds, meter.clock, {}
    passed = None if meter.at is None else max(now - meter.at, 0.001)
    meter.at, meter.clock = now, time.time()
    found: dict[str, dict[str, Any]] = {}
    for run_id, processes in trees.items():
        busy, resident, pids = 0.0, 0, []
        for process in processes:
            try:
                times, size, is_new = process.cpu_times(), process.memory_info().rss, process.create_time() >= clock
            except psutil.Error:
                continue
            meter.seconds[process] = seconds = times.user + times.system
            # What an older process, unseen so far, used before nobody knows.
            busy += max(0.0, seconds - before.get(process, 0.0 if is_new else seconds))
            resident += size
            pids.append(process.pid)
        percent = None if passed is None or not pids else round(100 * busy / passed, 1)
        found[run_id] = {"processes": tuple(pids), "cpu_percent": percent, "memory": resident if pids else None}
    return found


def live_to_json(run: LiveRun) -> dict[str, Any]:
    """What `orch ps --json` prints of a run."""
    now = time.time()
    return {
        "run_id": run.run_id,
        "status": run.status,
        "seconds": round(max(0.0, now - run.since), 1),
        "source": run.source,
        "commit": run.commit,
        "entry_point": run.entry_point,
        "command": run.command,
        "name": run.name,
        "text": run.text,
        "host": run.host or os.uname().nodename,
        "heartbeat_age": None if run.heard is None else round(max(0.0, now - run.heard), 1),
        "processes": list(run.processes),
        "cpu_percent": run.cpu_percent,
        "memory": run.memory,
    }
