"""What lives now: runs that are prepared, run or are compared, here and on machines that share the home."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from orchestrator import ledger
from orchestrator.beginning import Beginning, beginnings
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.tree import processes_of
from orchestrator.model import RunRecord
from orchestrator.paths import Home
from orchestrator.project import shown_command

if TYPE_CHECKING:
    import psutil

_SAMPLE_SECONDS = 0.1


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
    """Of one processor, over a tenth of a second."""
    memory: int | None = None


def live_runs(home: Home, connection: sqlite3.Connection) -> list[LiveRun]:
    """The live runs, newest first, after a sweep; what they use is sampled once, which takes a moment."""
    records = [_read(home, run_id) for run_id in {*ledger.live_runs(connection), *ledger.uncompared_runs(connection)}]
    found = [_recorded(home, record) for record in records if record is not None and _lives(record)]
    found += [_unrecorded(home, beginning) for beginning in beginnings(home, connection) if beginning.cached is None]
    return _sampled(sorted(found, key=lambda run: run.run_id, reverse=True))


def _read(home: Home, run_id: str) -> RunRecord | None:
    with contextlib.suppress(Exception):  # a damaged journal is told of by `orch ledger rebuild`
        return ledger.read_run(home, run_id)
    return None


def _lives(record: RunRecord) -> bool:
    if record.status in ("running", "orphaned"):
        return True
    # A replay that has ended lives as long as its supervisor compares it.
    return record.verdict is None and record.supervisor is not None and state_of(record.supervisor) == "alive"


def _recorded(home: Home, record: RunRecord) -> LiveRun:
    spec, directory = record.spec, RunDirectory(home.run(record.run_id))
    away = record.supervisor is not None and state_of(record.supervisor) == "elsewhere"
    comparing = record.status not in ("running", "orphaned")
    status: Any = "comparing" if comparing else record.status
    processes: Iterable[int] = ()
    if not away:
        orphaned = record.status == "orphaned" or record.supervisor is None
        processes = (
            processes_of(record.run_id) if orphaned else _below(record.supervisor.pid if record.supervisor else 0)
        )
    source = spec.source
    return LiveRun(
        run_id=record.run_id,
        status=status,
        since=datetime.fromisoformat(record.started_at).timestamp(),
        source=source.url.rstrip("/").rpartition("/")[2].removesuffix(".git")
        + (f"#{source.subdir}" if source.subdir else ""),
        commit=source.commit,
        entry_point=spec.entry_point,
        command=shown_command(spec.command, {**spec.parameters, **dict.fromkeys(spec.secret_parameters, "***")}),
        name=record.name,
        text="its outputs and metrics with the record" if comparing else "",
        host=str(record.host.get("hostname", "another machine")) if away else None,
        heard=directory.heard() if away else None,
        processes=tuple(processes),
    )


def _unrecorded(home: Home, beginning: Beginning) -> LiveRun:
    asked, supervisor = beginning.asked, beginning.supervisor
    away = supervisor is not None and state_of(supervisor) == "elsewhere"
    here = supervisor is not None and not away and beginning.state == "preparing"
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
        processes=tuple(_below(supervisor.pid)) if supervisor is not None and here else (),
    )


def _below(supervisor: int) -> list[int]:
    """The pids of what a supervisor runs."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return [process.pid for process in psutil.Process(supervisor).children(recursive=True)]
    return []


def _sampled(runs: list[LiveRun]) -> list[LiveRun]:
    """The runs with what their processes use now."""
    from dataclasses import replace

    import psutil

    processes: dict[int, psutil.Process] = {}
    for pid in {pid for run in runs for pid in run.processes}:
        with contextlib.suppress(psutil.Error):
            processes[pid] = psutil.Process(pid)
    if not processes:
        return runs
    before, begin = _cpu_seconds(processes), time.monotonic()
    time.sleep(_SAMPLE_SECONDS)
    after, took = _cpu_seconds(processes), time.monotonic() - begin
    sampled = []
    for run in runs:
        if run.processes:
            used = sum(after[pid] - before[pid] for pid in run.processes if pid in after and pid in before)
            memory = sum(_memory(processes[pid]) for pid in run.processes if pid in processes)
            run = replace(run, cpu_percent=round(100 * used / took, 1), memory=memory)
        sampled.append(run)
    return sampled


def _cpu_seconds(processes: Mapping[int, psutil.Process]) -> dict[int, float]:
    import psutil

    seconds = {}
    for pid, process in processes.items():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds[pid] = times.user + times.system
    return seconds


def _memory(process: psutil.Process) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


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
