"""Who takes what clients log: into the journals of the runs at once, and from there into the ledger soon after.

An answer is given when the journal has it, which a killed server does not take back. The ledger is brought up before
anything is read from it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator import journal, ledger
from orchestrator.errors import OrchError
from orchestrator.fields import metric_to_json
from orchestrator.ledger.connection import transaction
from orchestrator.ledger.write import put_facts, put_points
from orchestrator.model import Metric, RunRecord, new_run_id
from orchestrator.paths import Home
from orchestrator.tracking.asked import ApiError, invalid, missing
from orchestrator.tracking.followed import Followed, begin, catch_up, follow, tell, tell_points

_MOST_RUNS = 256
"""Runs that are held in memory."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the program says of the run that it is: that it has ended, which its supervisor alone decides."""

    status: str
    end_time: int | None


@dataclass(slots=True)
class Tracker:
    """`own` is the run whose program asks: it, and its children, are all that may be written. None: no such limit."""

    home: Home
    connection: sqlite3.Connection
    own: str | None = None
    may_move: bool = False
    """Nobody said to which experiment the own run belongs, so its program may."""
    may_name: bool = False
    runs: dict[str, Followed] = field(default_factory=dict)
    points: dict[str, list[Metric]] = field(default_factory=dict)
    """Points that the ledger does not have yet, by run."""
    changed: set[str] = field(default_factory=set)
    """Runs of whose other facts the ledger has not heard."""
    chosen: str | None = None
    """The experiment that the program named last, before it went on with its own run."""
    told: Told | None = None


def run_of(tracker: Tracker, run_id: str) -> Followed:
    """A run as it is now. Raises ApiError when there is none."""
    run = tracker.runs.pop(run_id, None)
    try:
        if run is None:
            run = follow(tracker.home, run_id)
            tracker.changed.add(run_id)  # whoever wrote to it before may have been killed before the ledger heard
        else:
            catch_up(run)
    except FileNotFoundError:
        run = None
    if run is None:
        raise missing(f"Run with id={run_id} not found")
    tracker.runs[run_id] = run  # the last one of them is the one that was asked for last
    if len(tracker.runs) > _MOST_RUNS:
        _forget_oldest(tracker)
    return run


def run_to_write(tracker: Tracker, run_id: str) -> Followed:
    """`run_of`, for who wants to change it. Raises ApiError for one that is deleted, or not the program's own."""
    run = run_of(tracker, run_id)
    check_own(tracker, run)
    if run.record.tracking.deleted:
        raise invalid(f"The run {run_id} must be in the 'active' state. Current state is deleted.")
    return run


def check_own(tracker: Tracker, run: Followed) -> None:
    """Raise ApiError unless whoever asks may write to this run."""
    if tracker.own is None:
        return
    record = run.record
    while record.run_id != tracker.own:
        if record.parent is None:
            raise ApiError(
                "PERMISSION_DENIED",
                f"A program logs to its own run, and to those it starts; run {run.record.run_id} is neither.",
            )
        record = run_of(tracker, record.parent).record


def tell_of(tracker: Tracker, run: Followed, *events: Mapping[str, Any], sync: bool = False) -> None:
    """Record what happened to a run."""
    tell(run, *events, sync=sync)
    tracker.changed.add(run.record.run_id)


def log_points(tracker: Tracker, run: Followed, points: Sequence[Metric]) -> None:
    """Record metric points of a run."""
    if points:
        tell_points(run, [metric_to_json(point) for point in points])
        tracker.points.setdefault(run.record.run_id, []).extend(points)


@contextlib.contextmanager
def alone_with(run: Followed) -> Iterator[None]:
    """The run as it is now, and for the block nobody else who asks for the same changes it."""
    with journal.alone(run.journal):
        catch_up(run)
        yield


def new_run(tracker: Tracker, **values: Any) -> Followed:
    """Begin a run that is only logged; `values` are fields of its record."""
    record = RunRecord(run_id=new_run_id(), pinned=None, status="running", **values)
    event = {
        "event": "created",
        "spec": None,
        "started_at": record.started_at,
        "name": record.name,
        "experiment": record.experiment,
        "tags": dict(record.tags),
        "parent": record.parent,
    }
    try:
        run = begin(tracker.home, record, event)
    except OSError as error:
        raise OrchError(f"{tracker.home.runs} can't be written: {error.strerror}.") from error
    tracker.runs[record.run_id] = run
    tracker.changed.add(record.run_id)
    return run


def heal(tracker: Tracker) -> None:
    """Bring into the ledger what a server that was killed had only written into the journals of logged runs."""
    query = "SELECT run_id FROM runs WHERE spec_id IS NULL AND status = 'running'"
    for (run_id,) in tracker.connection.execute(query).fetchall():
        with contextlib.suppress(OrchError):
            ledger.index_run(tracker.home, tracker.connection, run_id)


def flush(tracker: Tracker) -> sqlite3.Connection:
    """The ledger, once it has all that was taken."""
    if tracker.changed or tracker.points:
        with transaction(tracker.connection):
            for run_id in tracker.changed:
                if (run := _known(tracker, run_id)) is not None:
                    put_facts(tracker.connection, run.record)
            for run_id, points in tracker.points.items():
                with contextlib.suppress(OrchError):  # it was removed meanwhile
                    put_points(tracker.connection, run_id, points)
        tracker.changed.clear()
        tracker.points.clear()
    return tracker.connection


def experiment_of(tracker: Tracker, identity: str) -> ledger.Experiment:
    """The experiment of this id. Raises ApiError when there is none."""
    found = ledger.find_experiment(flush(tracker), identity=identity)
    if found is None:
        raise missing(f"No Experiment with id={identity} exists")
    return found


def experiment_id_of(tracker: Tracker, run_id: str) -> str:
    """The id of the experiment of a run."""
    query = "SELECT experiment_id FROM runs WHERE run_id = ?"
    found: str = flush(tracker).execute(query, (run_id,)).fetchone()[0]
    return found


def _known(tracker: Tracker, run_id: str) -> Followed | None:
    run = tracker.runs.get(run_id) or follow(tracker.home, run_id)
    return run if run is not None and run.journal.exists() else None


def _forget_oldest(tracker: Tracker) -> None:
    del tracker.runs[next(iter(tracker.runs))]
