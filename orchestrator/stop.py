"""`orch stop`: a run and its whole process tree, gently, then firmly. It ends when the run has ended."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable

from orchestrator import journal, ledger
from orchestrator.beginning import Beginning, read_beginning
from orchestrator.errors import OrchError
from orchestrator.execute.identity import identify, send_signal, state_of
from orchestrator.execute.rundir import RunDirectory, now_text
from orchestrator.execute.tree import belongs_to, processes_of
from orchestrator.model import ProcessIdentity, RunRecord
from orchestrator.paths import Home
from orchestrator.sweep import logged_unread, sweep

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 10.0
"""For a run whose supervisor, which knew its own, is dead."""


def stop_run(
    home: Home, connection: sqlite3.Connection, run_id: str, *, grace: float | None, waiting: Callable[[], None]
) -> RunRecord | None:
    """End a run, and say what it is then: its record, or None for one that had not begun.

    What still lives `grace` seconds (None: those of the run) after it was asked is killed. `waiting` is called before
    the run is waited for. One that has ended is left as it is. Raises OrchError for a run of another machine.
    """
    directory = RunDirectory(home.run(run_id))
    beginning = read_beginning(directory)
    record = None if beginning else ledger.read_run(home, run_id)
    supervisor = beginning.supervisor if beginning else record.supervisor if record else None
    if supervisor is not None and state_of(supervisor) == "elsewhere" and _is_live(beginning, record):
        raise OrchError(_where(run_id, record, supervisor, directory))
    if supervisor is not None and state_of(supervisor) == "alive":
        if grace is not None:
            with contextlib.suppress(OSError):
                directory.asked_grace.write_text(str(grace))
        send_signal(supervisor, signal.SIGTERM)
        waiting()
        _wait(lambda: state_of(supervisor) != "alive")
    elif record is not None and record.status == "orphaned":
        waiting()
        _stop_orphans(home, record, _GRACE_SECONDS if grace is None else grace)
    sweep(home, connection)
    if (beginning := read_beginning(directory)) is not None:
        if beginning.state == "preparing":  # it was being handed over to its supervisor
            return stop_run(home, connection, run_id, grace=grace, waiting=waiting)
        shutil.rmtree(directory.path, ignore_errors=True)  # it never began, and who asked for that knows
        return None
    ledger.index_run(home, connection, run_id)
    return ledger.read_run(home, run_id)


def _is_live(beginning: Beginning | None, record: RunRecord | None) -> bool:
    return beginning is not None or (record is not None and record.status in ("running", "orphaned"))


def _where(run_id: str, record: RunRecord | None, supervisor: ProcessIdentity, directory: RunDirectory) -> str:
    host = str(record.host.get("hostname")) if record is not None else supervisor.machine.rpartition("@")[2]
    heard = directory.heard()
    age = "" if heard is None else f", last heard of {max(0.0, time.time() - heard):.0f} s ago"
    return f"run {run_id} is on {host}{age}; it can be stopped there: orch stop {run_id[:16]}"


def _stop_orphans(home: Home, record: RunRecord, grace: float) -> None:
    """End what a run has left that has no supervisor any more, and record it as stopped."""
    how = _end_processes(record, grace)
    directory = RunDirectory(home.run(record.run_id))
    with journal.alone(directory.journal):
        now = ledger.read_run(home, record.run_id)
        if now is None or now.status != "orphaned":
            return  # somebody else saw its end
        if logged := logged_unread(directory):
            directory.record(**logged)
        work = home.work / record.run_id
        left = f"; what it wrote is in {work}" if work.exists() else ""
        reason = f"its supervisor was killed; stopped by {how}{left}"
        directory.record("ended", status="stopped", reason=reason, ended_at=now_text())


def _end_processes(record: RunRecord, grace: float) -> str:
    """SIGTERM, then SIGKILL, to every process of a run, each looked at again before it is signalled; what it took."""

    def ask(number: signal.Signals) -> None:
        for identity in _living(record):
            send_signal(identity, number)

    end = time.monotonic() + grace
    ask(signal.SIGTERM)
    while _living(record):
        if time.monotonic() >= end:
            ask(signal.SIGKILL)
            _wait(lambda: not _living(record))
            return "SIGTERM, then killed"
        time.sleep(_POLL_SECONDS)
    return "SIGTERM"


def _living(record: RunRecord) -> list[ProcessIdentity]:
    """What lives of a run: its program, what that has started, and what carries the run's id."""
    import psutil

    found: dict[int, ProcessIdentity | None] = {}
    if record.child is not None and state_of(record.child) == "alive":
        found[record.child.pid] = record.child
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(record.child.pid).children(recursive=True):
                found[process.pid] = identify(process.pid)
    for pid in processes_of(record.run_id):
        identity = identify(pid)
        if belongs_to(pid, record.run_id):  # asked again: the number may be another's by now
            found[pid] = identity
    return [identity for identity in found.values() if identity is not None]


def _wait(over: Callable[[], bool]) -> None:
    while not over():
        time.sleep(_POLL_SECONDS)
