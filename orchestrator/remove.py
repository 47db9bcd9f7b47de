"""`orch rm`: a run's record, logs and index rows, and the stored bytes that nothing else names."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import ledger, store
from orchestrator.beginning import read_beginning
from orchestrator.elsewhere import host_of, way_to_end
from orchestrator.errors import OrchError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.inputs import listed_blobs
from orchestrator.ledger.kept import live_around, logged_below, logged_running
from orchestrator.model import ProcessIdentity, RunRecord
from orchestrator.paths import Home
from orchestrator.sweep import sweep


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with a run: `freed` bytes of the store and of a work directory that was left, and the `nested` runs."""

    freed: int
    nested: Sequence[str]


def remove_run(home: Home, connection: sqlite3.Connection, run_id: str, *, waiting: Callable[[], None]) -> Removed:
    """Remove a run that nobody works on, and what was logged inside it; its steps, which are runs of orch, stay.

    `waiting` is called before it waits for others that store or compare outputs. Raises OrchError for a live run, for
    a replay that its supervisor still compares, and for a run that is being replayed. The order is such that a kill in
    the middle leaves the run whole, or gone with some bytes left over.
    """
    beginning = read_beginning(RunDirectory(home.run(run_id)))
    if beginning is not None and beginning.state == "preparing":
        way = _way_to_end(home, None, beginning.supervisor, run_id)
        raise OrchError(f"run {run_id} is being prepared; end it before you remove it: {way}")
    _refuse_busy(home, connection, run_id)
    with store.removing(home, waiting=waiting):
        # Whoever stored something before we got the lock has recorded it; the ledger must know it too.
        sweep(home, connection)
        _refuse_busy(home, connection, run_id)
        nested = logged_below(connection, run_id)
        listings = {folder: listed_blobs(folder, home=home) for folder in ledger.folder_inputs(connection)}
        named = {blob for one in (*nested, run_id) for blob in ledger.blobs_of(connection, one)}
        named |= _told_by(home, (*nested, run_id))
        named |= {blob for folder in named for blob in listings.get(folder, ())}
        for one in (*nested, run_id):  # the run last: with it goes the way to the others
            _remove_record(home, connection, one)
        listed = {blob for folder in ledger.folder_inputs(connection) for blob in listings.get(folder, ())}
        kept = listed | _told_by(home, logged_running(connection))
        doomed = [sha256 for sha256 in named - kept if not ledger.is_named(connection, sha256)]
        freed = sum(store.remove_blob(home, sha256) for sha256 in doomed)
    work = home.work / run_id
    return Removed(freed + (_remove_folder(work) if work.exists() else 0), nested)


def _told_by(home: Home, run_ids: Sequence[str]) -> set[str]:
    """The sha256 of each output that the journals of runs name: a tracking server tells the ledger a little later."""
    found: set[str] = set()
    for run_id in run_ids:
        with contextlib.suppress(OrchError):  # a damaged journal; the ledger has what it had before
            record = ledger.read_run(home, run_id, logged=False)
            found |= {output.sha256 for output in record.outputs} if record is not None else set()
    return found


def _remove_record(home: Home, connection: sqlite3.Connection, run_id: str) -> None:
    ledger.remove_run(connection, run_id)
    directory = home.run(run_id)
    if directory.exists():
        gone = directory.with_name(f".removed-{run_id}")
        directory.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _remove_folder(folder: Path) -> int:
    """Remove what a killed run left; the bytes that this frees. What can't be removed stays."""
    from orchestrator.prune.shelf import remove

    try:
        return remove(folder)
    except OSError:
        return 0


def _way_to_end(home: Home, record: RunRecord | None, supervisor: ProcessIdentity | None, run_id: str) -> str:
    if supervisor is None or state_of(supervisor) != "elsewhere":
        return f"orch stop {run_id[:16]}"
    return way_to_end(home, RunDirectory(home.run(run_id)), host_of(record, supervisor))


def _refuse_busy(home: Home, connection: sqlite3.Connection, run_id: str) -> None:
    record = ledger.read_run(home, run_id)
    if record is not None and record.pinned is None:
        _refuse_logged(home, connection, record)
    elif record is not None and record.status in ("running", "orphaned"):
        way = _way_to_end(home, record, record.supervisor, run_id)
        raise OrchError(f"run {run_id} is {record.status}; end it before you remove it: {way}")
    if record is not None and _is_replaying(record):
        raise OrchError(f"run {run_id} is being compared with its original; {_ways(record)}.")
    for row in ledger.find_runs(connection, replay_of=run_id):
        again = ledger.read_run(home, row.run_id)
        if again is not None and _is_replaying(again):
            raise OrchError(f"run {run_id} is being replayed by run {again.run_id}; {_ways(again)}.")


def _refuse_logged(home: Home, connection: sqlite3.Connection, record: RunRecord) -> None:
    """Of those that are only logged: one that a living program writes to, and one that may still be written to."""
    run_id, around = record.run_id, live_around(connection, record.run_id)
    if around is not None:
        for one in (run_id, *logged_below(connection, run_id)):
            now = ledger.read_run(home, one, logged=False)
            if now is not None and now.status == "running":
                raise OrchError(f"run {one} is running inside run {around}; end that before: orch stop {around[:16]}")
    if record.status == "running" and not _is_left_behind(home, record):
        raise OrchError(f"run {run_id} is running; end it before you remove it: orch stop {run_id[:16]}")


def _is_left_behind(home: Home, record: RunRecord) -> bool:
    """Whether the run around a run has ended, or was removed."""
    if record.parent is None:
        return False
    around = ledger.read_run(home, record.parent, logged=False)
    return around is None or around.status not in ("running", "orphaned")


def _is_replaying(record: RunRecord) -> bool:
    """Whether the run is a replay that is still to be compared: it runs, or its supervisor lives and does it now."""
    if record.replay_of is None or record.verdict is not None:
        return False
    if record.status in ("running", "orphaned"):
        return True
    return record.supervisor is not None and state_of(record.supervisor) == "alive"


def _ways(record: RunRecord) -> str:
    return f"remove it when that is done, or stop it with orch stop {record.run_id[:16]}"
