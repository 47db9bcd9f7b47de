"""`orch stop`: runs and their whole process trees, gently, then firmly. It ends when the runs have ended."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator import journal, ledger
from orchestrator.beginning import Beginning, read_beginning
from orchestrator.elsewhere import SILENT_SECONDS, ago, host_of, silent_seconds, way_to_end
from orchestrator.errors import OrchError
from orchestrator.execute.identity import identify, send_signal, state_of
from orchestrator.execute.rundir import RunDirectory, now_text
from orchestrator.execute.tree import belongs_to, processes_of
from orchestrator.ledger.kept import live_around, logged_below
from orchestrator.model import ProcessIdentity, RunRecord
from orchestrator.paths import Home
from orchestrator.report import Report, plural
from orchestrator.sweep import record_end, sweep

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 10.0
"""For a run whose supervisor, which knew its own, is dead."""
_PATIENCE_SECONDS = 3.0
"""For how long a supervisor that does not end is waited for without a word, once its program has had its grace."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of a wish to stop a run.

    `ended` is what was ended: the run, or only the comparison of a replay, or nothing, for it had ended before.
    `record` is None for one that had not begun.
    """

    run_id: str
    ended: Literal["run", "comparison", "nothing"]
    record: RunRecord | None


@dataclass(frozen=True, slots=True)
class _Target:
    """A run as it was found."""

    directory: RunDirectory
    beginning: Beginning | None
    record: RunRecord | None

    @property
    def supervisor(self) -> ProcessIdentity | None:
        if self.beginning is not None:
            return self.beginning.supervisor
        return self.record.supervisor if self.record is not None else None

    @property
    def lives(self) -> bool:
        """Whether it is said to live, wherever that is."""
        if self.beginning is not None:
            return self.beginning.state == "preparing"
        return self.record is not None and self.record.status in ("running", "orphaned")

    @property
    def is_logged(self) -> bool:
        """Whether it was only logged: nobody supervises it."""
        return self.record is not None and self.record.pinned is None

    @property
    def is_elsewhere(self) -> bool:
        """Whether nobody here can ask for its supervisor, or knows who that is."""
        if self.supervisor is None:
            return self.lives and self.record is not None and not self.is_logged
        return self.lives and state_of(self.supervisor) == "elsewhere"


@dataclass(slots=True)
class _Asked:
    """A run that was asked for its end: its supervisor, or what lives of an orphan."""

    directory: RunDirectory
    supervisor: ProcessIdentity | None
    orphan: RunRecord | None
    begun: float
    grace: float
    killed: bool = False
    told: bool = False


def stop_runs(
    home: Home, connection: sqlite3.Connection, run_ids: Sequence[str], *, grace: float | None, report: Report
) -> list[Stopped]:
    """End runs, all at once, and say what each is then.

    What still lives `grace` seconds (None: those of the run) after it was asked is killed. One that has ended is left
    as it is. A supervisor that does not end is waited for; `report` hears of it. Of one that was only logged the end is
    recorded, and of what was logged inside it. Raises OrchError, before anything is stopped, for a run of another
    machine, and for one that was logged inside a run that lives.
    """
    targets = {run_id: _find(home, run_id) for run_id in run_ids}
    for target in targets.values():
        _refuse_to_stop(home, connection, target)
    ended = {run_id: _what_is_ended(target) for run_id, target in targets.items()}
    for target in targets.values():
        if target.is_logged and target.lives:
            _end_logged(home, connection, target.directory.run_id)
    waiting = [target for target in targets.values() if not target.is_logged]
    while waiting:
        asked = [_ask(target, grace) for target in waiting]
        if any(asked):
            report("stopping", "the run" if len(targets) == 1 else plural(len(targets), "run"))
        _wait_for([one for one in asked if one is not None], report)
        for one in asked:
            if one is not None and one.orphan is not None:
                _record_orphan(home, one, one.orphan)
        sweep(home, connection)
        # It was being handed over to its supervisor when it was asked, or that was killed meanwhile.
        again = [_find(home, target.directory.run_id) for target in waiting]
        waiting = [target for target in again if target.lives and not target.is_elsewhere]
        if waiting:
            time.sleep(_POLL_SECONDS)
    return [Stopped(run_id, ended[run_id], _record_of(home, connection, run_id)) for run_id in targets]


def _refuse_to_stop(home: Home, connection: sqlite3.Connection, target: _Target) -> None:
    run_id = target.directory.run_id
    if target.is_elsewhere:
        way = way_to_end(home, target.directory, host_of(target.record, target.supervisor))
        raise OrchError(f"nothing was stopped: run {run_id} is not of this machine; {way}")
    if target.is_logged and target.lives and (around := live_around(connection, run_id)) is not None:
        raise OrchError(
            f"nothing was stopped: run {run_id} was logged inside run {around}, whose program ends it; "
            f"orch stop {around[:16]} ends both."
        )


def _end_logged(home: Home, connection: sqlite3.Connection, run_id: str) -> None:
    """Record the end of a run that was only logged, and before it of what was logged inside it.

    The end that its client tells later stands.
    """
    for one in (*logged_below(connection, run_id), run_id):
        directory = RunDirectory(home.run(one))
        with journal.alone(directory.journal):
            record = ledger.read_run(home, one, logged=False)
            if record is not None and record.status == "running":
                directory.record("ended", status="stopped", reason="ended by orch stop", ended_at=now_text())
        ledger.index_run(home, connection, one)


def give_up_runs(home: Home, connection: sqlite3.Connection, run_ids: Sequence[str]) -> list[Stopped]:
    """Record runs as `lost` whose machines are gone, and forget what was only prepared there.

    Raises OrchError, before any is given up, for a run of this machine, and for one whose supervisor is heard of.
    Should that live after all, the end that it tells later stands (see `records.record_from_journal`).
    """
    targets = [_find(home, run_id) for run_id in run_ids]
    for target in targets:
        if target.lives:
            _refuse_to_give_up(home, target)
    return [_give_up(home, connection, target) for target in targets]


def _refuse_to_give_up(home: Home, target: _Target) -> None:
    run_id, silent = target.directory.run_id, silent_seconds(home, target.directory)
    if not target.is_elsewhere:
        what = "was only logged" if target.is_logged else "is of this machine"
        raise OrchError(f"run {run_id} {what}, and is not given up but ended: orch stop {run_id[:16]}")
    if silent < SILENT_SECONDS:
        raise OrchError(
            f"run {run_id} lives: its supervisor on {host_of(target.record, target.supervisor)} was last heard of "
            f"{ago(silent)}. Stop it there; it can be given up when it was silent for {SILENT_SECONDS:.0f} s."
        )


def _give_up(home: Home, connection: sqlite3.Connection, target: _Target) -> Stopped:
    directory, run_id = target.directory, target.directory.run_id
    if not target.lives:
        return Stopped(run_id, "nothing", _record_of(home, connection, run_id))
    if target.beginning is not None:
        shutil.rmtree(home.work / run_id, ignore_errors=True)
        shutil.rmtree(directory.path, ignore_errors=True)
        return Stopped(run_id, "run", None)
    heard = ago(silent_seconds(home, directory))
    with journal.alone(directory.journal):
        if _find(home, run_id).lives:
            where = host_of(target.record, target.supervisor)
            record_end(home, directory, "lost", f"given up: its supervisor on {where} was last heard of {heard}")
    return Stopped(run_id, "run", ledger.index_run(home, connection, run_id))


def _find(home: Home, run_id: str) -> _Target:
    directory = RunDirectory(home.run(run_id))
    beginning = read_beginning(directory)
    return _Target(directory, beginning, None if beginning else ledger.read_run(home, run_id))


def _what_is_ended(target: _Target) -> Literal["run", "comparison", "nothing"]:
    if target.lives:
        return "run"
    record, supervisor = target.record, target.supervisor
    compared = record is not None and record.replay_of is not None and record.verdict is None
    return "comparison" if compared and supervisor is not None and state_of(supervisor) == "alive" else "nothing"


def _record_of(home: Home, connection: sqlite3.Connection, run_id: str) -> RunRecord | None:
    directory = RunDirectory(home.run(run_id))
    if read_beginning(directory) is not None:
        shutil.rmtree(directory.path, ignore_errors=True)  # it never began, and who asked for that knows
        return None
    return ledger.index_run(home, connection, run_id)


# --- asking and waiting -------------------------------------------------------------------------------------------


def _ask(target: _Target, grace: float | None) -> _Asked | None:
    """Ask a run for its end; None where there is nobody to ask."""
    directory, supervisor, record = target.directory, target.supervisor, target.record
    now, given = time.monotonic(), _GRACE_SECONDS if grace is None else grace
    if supervisor is not None and state_of(supervisor) == "alive":
        if grace is not None:
            with contextlib.suppress(OSError):
                directory.ask_grace(grace)
        _signal(directory, supervisor, signal.SIGTERM)
        return _Asked(directory, supervisor, None, now, given)
    if record is not None and record.status == "orphaned":
        for identity in _living(record):
            _signal(directory, identity, signal.SIGTERM)
        return _Asked(directory, None, record, now, given)
    return None


def _wait_for(asked: Sequence[_Asked], report: Report) -> None:
    waiting = list(asked)
    while True:
        waiting = [one for one in waiting if not _is_over(one)]
        if not waiting:
            return
        for one in waiting:
            if one.supervisor is not None and not one.told and (reason := _why_late(one, one.supervisor)):
                one.told = True
                report("waiting", reason)
        time.sleep(_POLL_SECONDS)


def _is_over(asked: _Asked) -> bool:
    """Whether a run has ended. What is left of an orphan after its grace is killed here."""
    if asked.supervisor is not None:
        return state_of(asked.supervisor) != "alive"
    if asked.orphan is None or not (living := _living(asked.orphan)):
        return True
    if time.monotonic() >= asked.begun + asked.grace:
        asked.killed = True
        for identity in living:
            _signal(asked.directory, identity, signal.SIGKILL)
    return False


def _why_late(asked: _Asked, supervisor: ProcessIdentity) -> str | None:
    """What a supervisor is waited for, when that takes longer than it should; what to do about it."""
    import psutil

    waited = time.monotonic() - asked.begun
    if waited < _PATIENCE_SECONDS:
        return None
    pid, run = supervisor.pid, f"run {asked.directory.run_id[:16]}"
    with contextlib.suppress(psutil.Error):
        if psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
            return f"the supervisor of {run} is frozen: kill -CONT {pid} lets it end the run, kill -9 {pid} gives it up"
    if waited < asked.grace + _PATIENCE_SECONDS:
        return None
    told = [line for line in asked.directory.told() if {"phase", "text"} <= line.keys()]
    doing = f" ({told[-1]['phase']}: {told[-1]['text']})" if told else ""
    return f"for the supervisor of {run}, process {pid}{doing}; should it hang, kill -9 {pid} gives it up"


def _signal(directory: RunDirectory, identity: ProcessIdentity, number: signal.Signals) -> None:
    try:
        send_signal(identity, number)
    except PermissionError as error:
        raise OrchError(
            f"process {identity.pid} of run {directory.run_id} is another user's; only they can stop it."
        ) from error


# --- orphans ------------------------------------------------------------------------------------------------------


def _record_orphan(home: Home, asked: _Asked, record: RunRecord) -> None:
    how = "SIGTERM, then killed" if asked.killed else "SIGTERM"
    with journal.alone(asked.directory.journal):
        now = ledger.read_run(home, record.run_id)
        if now is not None and now.status == "orphaned":  # else somebody else saw its end
            record_end(home, asked.directory, "stopped", f"its supervisor was killed; stopped by {how}")


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
