"""Makes the ledger true again after supervisors were killed: nothing says `running` for ever."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from typing import Literal

from orchestrator import journal, ledger
from orchestrator.beginning import read_beginning
from orchestrator.errors import DiskFullError, OrchError
from orchestrator.execute.events import EventReader
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory, now_text
from orchestrator.execute.tree import processes_of
from orchestrator.ledger.news import index_news
from orchestrator.ledger.rebuild import UnreadableError
from orchestrator.model import RunRecord, Status
from orchestrator.paths import Home
from orchestrator.tracked import ENDED_FIRST

_KEPT_SECONDS = 24 * 3600.0


def sweep(home: Home, connection: sqlite3.Connection) -> None:
    """Look after every run that the ledger holds for live, or does not know.

    A run whose supervisor died becomes `orphaned` while its program lives, `lost` after; one that ended unindexed is
    indexed. The directory of a run that never began, and that nobody saw fail, is removed after a day. Runs of other
    machines are left alone. Nothing is killed.
    """
    for run_id in {*ledger.live_runs(connection), *ledger.missing_runs(home, connection)}:
        try:
            _look_after(home, connection, run_id)
        except OrchError:
            raise
        except Exception:  # noqa: S112 - whatever a program has done to its own run, the others are looked after
            continue
    for run_id in ledger.left_behind(connection):
        _end_left_behind(home, connection, run_id)


def fate(record: RunRecord) -> Literal["supervised", "orphaned", "lost", "ended"]:
    """What is true of a run now, whatever its journal says: of one of another machine, that it is supervised there."""
    if record.status not in ("running", "orphaned"):
        return "ended"
    if record.supervisor is None or state_of(record.supervisor) != "dead":
        return "supervised"
    alive = record.child is not None and state_of(record.child) == "alive"
    return "orphaned" if alive or processes_of(record.run_id) else "lost"


def begun_in(home: Home, run_id: str) -> str | None:
    """The run whose program began to log this one, and which it can't outlive.

    None for a run that somebody else logs, whatever its parent is. Raises OrchError when its journal can't be read.
    """
    events, _ = journal.read(RunDirectory(home.run(run_id)).journal, without="logged")
    return next((event.get("inside") for event in events if event.get("event") == "created"), None)


def _look_after(home: Home, connection: sqlite3.Connection, run_id: str) -> None:
    try:
        record = ledger.read_run(home, run_id, logged=False)
        has_news = record is not None and _settle(home, record)
    except OrchError:
        return  # a damaged journal: `orch ledger rebuild` says which, and nothing is guessed
    with contextlib.suppress(UnreadableError):
        if record is None:
            ledger.remove_run(connection, run_id)
            _remove_if_abandoned(home, RunDirectory(home.run(run_id)))
        elif has_news:
            index_news(home, connection, run_id)


def _end_left_behind(home: Home, connection: sqlite3.Connection, run_id: str) -> None:
    """End what a program began to log, when its run has ended, and its server was killed with the supervisor."""
    directory = RunDirectory(home.run(run_id))
    try:
        around = begun_in(home, run_id)
        program = None if around is None else ledger.read_run(home, around, logged=False)
        if around is None or (program is not None and program.status in ("running", "orphaned")):
            return
        with journal.alone(directory.journal):
            record = ledger.read_run(home, run_id, logged=False)
            if record is not None and record.status == "running":
                directory.record("ended", status="failed", reason=ENDED_FIRST, ended_at=now_text())
        index_news(home, connection, run_id)
    except DiskFullError:
        raise
    except OrchError:
        return  # a damaged journal


def record_end(home: Home, directory: RunDirectory, status: Status, reason: str) -> None:
    """Write into the journal how a run ended that has no supervisor to tell; its outputs stay where they are."""
    events, _ = journal.read(directory.journal)
    # What the program logged after its supervisor had last written down how far it had read.
    unread = EventReader(directory.events, offset=max((event.get("upto", 0) for event in events), default=0))
    for logged in unread.rest():
        directory.record(**logged)
    for text in unread.broken:
        directory.record("note", text=text)
    work = home.work / directory.run_id
    left = f"; what it wrote is in {work}" if work.exists() else ""
    directory.record("ended", status=status, reason=f"{reason}{left}", ended_at=now_text())


def _settle(home: Home, record: RunRecord) -> bool:
    """Tell the journal what became of a run whose supervisor died; whether the ledger has to hear of the run."""
    supervisor = record.supervisor
    if record.status not in ("running", "orphaned") or supervisor is None or state_of(supervisor) != "dead":
        return True
    directory = RunDirectory(home.run(record.run_id))
    with journal.alone(directory.journal):
        # It may have ended, or somebody else have seen its end, between our reading and our look at its process.
        record = ledger.read_run(home, record.run_id, logged=False) or record
        found = fate(record)
        if found == "lost":
            record_end(home, directory, "lost", "its supervisor was killed")
        elif found == "orphaned":
            if record.status == "orphaned":
                return False
            directory.record("orphaned")
    return True


def _remove_if_abandoned(home: Home, directory: RunDirectory) -> None:
    beginning = read_beginning(directory)
    if beginning is None or beginning.state != "never began":
        return
    shutil.rmtree(home.work / directory.run_id, ignore_errors=True)
    if time.time() - beginning.told_at > _KEPT_SECONDS:
        shutil.rmtree(directory.path, ignore_errors=True)
