"""Who takes what clients log: into the journals of the runs at once, and from there into the ledger soon after.

An answer is given when the journal has it, which a killed server does not take back. The ledger is brought up before
anything is read from it.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator import journal, ledger
from orchestrator.errors import DiskFullError, OrchError
from orchestrator.ledger.connection import transaction
from orchestrator.ledger.write import point_count, put_facts, put_points, put_record
from orchestrator.model import Metric, RunRecord, new_run_id
from orchestrator.paths import Home
from orchestrator.tracking.asked import ApiError, invalid, missing
from orchestrator.tracking.followed import Followed, begin, catch_up, follow, tell, tell_points

if TYPE_CHECKING:
    from orchestrator.tracking.registry import Registry

_MOST_RUNS = 256
"""Runs that are held in memory."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the program says of the run that it is: that it has ended, which its supervisor alone decides."""

    status: str
    end_time: int | None


@dataclass(slots=True)
class Tracker:
    """`own` is the run whose program asks: it, and what belongs to it, may be written, and no other run. None: all."""

    home: Home
    connection: sqlite3.Connection
    own: str | None = None
    may_move: bool = False
    """Nobody said to which experiment the own run belongs, so its program may."""
    may_name: bool = False
    runs: dict[str, Followed] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """Runs of which the ledger has not heard all."""
    replaced: dict[str, float] = field(default_factory=dict)
    """The sha256 of files whose place another has taken, and when, by the monotonic clock."""
    chosen: str | None = None
    """The experiment that the program named last, before it went on with its own run."""
    told: Told | None = None
    registry: Registry | None = None


def run_of(tracker: Tracker, run_id: str) -> Followed:
    """A run as it is now. Raises ApiError when there is none."""
    run = tracker.runs.pop(run_id, None)
    try:
        if run is None:
            run = follow(tracker.home, run_id)
        else:
            catch_up(run)
    except FileNotFoundError:
        run = None
    if run is None:
        raise missing(f"Run with id={run_id} not found")
    if run.told is not run.record or run.points:
        tracker.changed.add(run_id)  # another has written to it, and may have been killed before the ledger heard
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


def run_to_log(tracker: Tracker, run_id: str) -> Followed:
    """`run_to_write`, for who has a result to add. Raises ApiError too for a run of `orch run` that has ended."""
    run = run_to_write(tracker, run_id)
    if run.record.pinned is not None and run.record.status not in ("running", "orphaned"):
        raise invalid(
            f"The run {run_id} was made by orch run and has ended: what came of it stands, "
            "for replays are held against it. Log to a run of its own, or set a tag."
        )
    return run


def check_own(tracker: Tracker, run: Followed) -> None:
    """Raise ApiError unless whoever asks may write to this run.

    A program may write to all that the same run has started, steps and nested runs: they tell one another's stories, as
    a step that registers what another has trained.
    """
    if tracker.own is None or run.record.run_id == tracker.own:
        return
    if _first_of(tracker, run.record) != _first_of(tracker, run_of(tracker, tracker.own).record):
        raise ApiError(
            "PERMISSION_DENIED",
            f"A program logs to its own run, and to those that belong to it; run {run.record.run_id} does not.",
        )


def _first_of(tracker: Tracker, record: RunRecord) -> str:
    """The run that was there before all others that a run belongs to; its own id where that is none."""
    seen = {record.run_id}
    while record.parent is not None and record.parent not in seen:
        seen.add(record.parent)
        try:
            record = run_of(tracker, record.parent).record
        except ApiError:  # it was removed
            break
    return record.run_id


def tell_of(tracker: Tracker, run: Followed, *events: Mapping[str, Any], sync: bool = False) -> None:
    """Record what happened to a run."""
    with _heard(tracker, run):
        tell(run, *events, sync=sync)


def log_points(tracker: Tracker, run: Followed, points: Sequence[Metric]) -> None:
    """Record metric points of a run."""
    if points:
        with _heard(tracker, run):
            tell_points(run, points)


@contextlib.contextmanager
def _heard(tracker: Tracker, run: Followed) -> Iterator[None]:
    """While something is added to a journal: the ledger hears of it soon.

    Of a run that has ended it hears at once: after a kill only those that it holds for live are looked after.
    """
    live = run.record.status in ("running", "orphaned")
    yield
    tracker.changed.add(run.record.run_id)
    if not live:
        flush(tracker)


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
        "inside": tracker.own,
        "host": dict(record.host),
    }
    try:
        run = begin(tracker.home, record, event)
    except OSError as error:
        raise OrchError(f"{tracker.home.runs} can't be written: {error.strerror}.") from error
    tracker.runs[record.run_id] = run
    tracker.changed.add(record.run_id)
    try:
        flush(tracker)
    except DiskFullError:  # who asked will ask again, for another one
        tracker.runs.pop(record.run_id)
        tracker.changed.discard(record.run_id)
        shutil.rmtree(run.journal.parent, ignore_errors=True)
        raise
    return run


def heal(tracker: Tracker) -> None:
    """Bring into the ledger what a server that was killed had only written into the journals of logged runs."""
    query = "SELECT run_id FROM runs WHERE spec_id IS NULL AND status = 'running'"
    for (run_id,) in tracker.connection.execute(query).fetchall():
        with contextlib.suppress(OrchError):
            ledger.index_run(tracker.home, tracker.connection, run_id)


def flush(tracker: Tracker) -> sqlite3.Connection:
    """The ledger, once it has all that was taken.

    Others may write to the same journals and to the ledger. Whoever has the ledger's write lock brings in all that a
    journal has by then, each point once: those that the ledger has of a run are always the first ones of its journal.
    """
    if tracker.changed:
        known = [run for run_id in tracker.changed if (run := _known(tracker, run_id)) is not None]
        with transaction(tracker.connection):
            done = [(run, *_put(tracker, run)) for run in known]
        for run, record, points in done:  # only now is it kept
            run.told = record
            run.passed += points
            del run.points[:points]
        tracker.changed.clear()
    return tracker.connection


def _put(tracker: Tracker, run: Followed) -> tuple[RunRecord, int]:
    """Tell the ledger what is new of a run: the record that it has then, and how many points of `run.points`."""
    connection, run_id = tracker.connection, run.record.run_id
    with contextlib.suppress(FileNotFoundError, OrchError):  # it was removed meanwhile, or its journal is damaged
        catch_up(run)
        there = connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone() is not None
        if not there or run.told is not run.record:
            put_facts(connection, run.record)
        new = point_count(connection, run_id) - run.passed
        if 0 <= new <= len(run.points):
            put_points(connection, run_id, run.points[new:])
        elif (record := ledger.read_run(tracker.home, run_id)) is not None:  # somebody has made the ledger again
            put_record(connection, record)
    return run.record, len(run.points)


def experiment_of(tracker: Tracker, identity: str) -> ledger.Experiment:
    """The experiment of this id. Raises ApiError when there is none."""
    found = ledger.find_experiment(flush(tracker), identity=identity)
    if found is None:
        raise missing(f"No Experiment with id={identity} exists")
    return found


def active_experiment(tracker: Tracker, identity: str) -> ledger.Experiment:
    """`experiment_of`, for who wants to begin something in it. Raises ApiError for one that is deleted."""
    found = experiment_of(tracker, identity)
    if found.deleted:
        raise invalid(f"The experiment {identity} must be in the 'active' state.")
    return found


def experiment_id_of(tracker: Tracker, run_id: str) -> str:
    """The id of the experiment of a run."""
    query = "SELECT experiment_id FROM runs WHERE run_id = ?"
    found: str = flush(tracker).execute(query, (run_id,)).fetchone()[0]
    return found


def _known(tracker: Tracker, run_id: str) -> Followed | None:
    """A run of which the ledger can be told; a damaged journal must not keep it from hearing of the others."""
    try:
        run = tracker.runs.get(run_id) or follow(tracker.home, run_id)
    except OrchError:
        return None
    return run if run is not None and run.journal.exists() else None


def _forget_oldest(tracker: Tracker) -> None:
    flush(tracker)
    del tracker.runs[next(iter(tracker.runs))]
