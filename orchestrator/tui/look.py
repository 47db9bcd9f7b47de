"""Reads what the dashboard shows: from the ledger, the run directories and the processes. One thread's work."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Condition

from orchestrator import ledger
from orchestrator.beginning import Beginning, read_beginning
from orchestrator.errors import OrchError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.ledger.browse import PageRow, count_runs, matching_runs, page_rows
from orchestrator.model import ProcessIdentity
from orchestrator.paths import Home
from orchestrator.sweep import sweep
from orchestrator.tui.logtail import last_lines
from orchestrator.tui.metrics import MetricTail, read_on
from orchestrator.tui.processes import Meter, measure
from orchestrator.tui.snapshot import LiveRow, Question, Snapshot, Use

SECONDS = 1.0
"""Between two looks at what changes by itself."""

_SWEEP_SECONDS = 5.0
"""Between two sweeps when something may have died; other commands sweep too."""


@dataclass(slots=True)
class Desk:
    """Where the screen lays down its newest question, and a reader waits for it."""

    question: Question = field(default_factory=Question)
    closed: bool = False
    changed: Condition = field(default_factory=Condition)


def ask(desk: Desk, question: Question) -> None:
    """Lay down a question; an older one that nobody has read yet is forgotten."""
    with desk.changed:
        if question != desk.question:
            desk.question = question
            desk.changed.notify()


def close(desk: Desk) -> None:
    """Let the reader end."""
    with desk.changed:
        desk.closed = True
        desk.changed.notify()


def keep_looking(home: Home, desk: Desk, tell: Callable[[Snapshot], None]) -> None:
    """Answer each question at once, and the newest one every second, until the desk is closed."""
    eye = Eye(home)
    answered = None
    try:
        while not desk.closed:
            with desk.changed:
                if desk.question == answered and not desk.closed:
                    desk.changed.wait(SECONDS)
                answered = desk.question
            tell(look(eye, answered))
    finally:
        eye.close()


@dataclass(slots=True)
class Eye:
    """What one look remembers for the next: a connection, what it read from it, and when."""

    home: Home
    connection: sqlite3.Connection | None = None
    file: tuple[int, int] | None = None
    version: object = None
    last: Snapshot = field(default_factory=lambda: Snapshot(Question()))
    live_at: float = 0.0
    swept_at: float | None = None
    meter: Meter = field(default_factory=Meter)
    metrics: dict[str, MetricTail] = field(default_factory=dict)
    unknown: tuple[object, list[str]] = (None, [])
    """The run directories that the ledger does not have, and what told so."""

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def look(eye: Eye, question: Question) -> Snapshot:
    """What there is to see now. Errors of the ledger, or of a disk, are in the snapshot."""
    try:
        eye.last = _look(eye, question)
    except (OrchError, OSError) as error:
        eye.close()
        eye.version = None
        old = eye.last
        eye.last = Snapshot(question, old.live, old.total, old.history, old.rows, old.log, _sentence(error))
    return eye.last


def _sentence(error: OrchError | OSError) -> str:
    return str(error) if isinstance(error, OrchError) or not error.strerror else f"{error.strerror}: {error.filename}."


def _look(eye: Eye, question: Question) -> Snapshot:
    connection = _connection(eye)
    now, old, live = time.monotonic(), eye.last, eye.last.live
    if now - eye.live_at >= SECONDS * 0.9 or _version(connection) != eye.version:
        live = _live(eye, connection)
        eye.live_at = now
    version = _version(connection)
    changed = version != eye.version
    asked = question.filter, question.first, question.count
    total, history, rows = old.total, old.history, old.rows
    if changed or question.filter != old.question.filter:
        total, history = count_runs(connection), matching_runs(connection, question.filter)
        if comparing := {run.run_id for run in live if run.status == "comparing"}:
            history = tuple(run_id for run_id in history if run_id not in comparing)
    if changed or asked != (old.question.filter, old.question.first, old.question.count):
        rows = page_rows(connection, history[question.first : question.first + question.count])
    eye.version = version
    return Snapshot(question, live, total, history, rows, _log(eye.home, question))


def _connection(eye: Eye) -> sqlite3.Connection:
    """The connection, opened again when a rebuild has put another file in its place."""
    with contextlib.suppress(FileNotFoundError):
        found = eye.home.ledger.stat()
        if eye.file != (found.st_dev, found.st_ino):
            eye.close()
    if eye.connection is None:
        eye.connection = ledger.connect(eye.home)
        found = eye.home.ledger.stat()
        eye.file, eye.version = (found.st_dev, found.st_ino), None
    return eye.connection


def _version(connection: sqlite3.Connection) -> object:
    """Another one when anybody has changed the ledger."""
    return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes


def _log(home: Home, question: Question) -> tuple[str, ...]:
    """The last lines of what was written last: the output, or the errors."""
    if question.log_of is None or question.log_lines <= 0:
        return ()
    directory = RunDirectory(home.run(question.log_of))
    return last_lines(max(directory.stdout, directory.stderr, key=_written), question.log_lines)


def _written(path: Path) -> float:
    try:
        found = path.stat()
    except OSError:
        return -1.0
    return found.st_mtime if found.st_size else 0.0


# --- what lives -------------------------------------------------------------------------------------------------


def _live(eye: Eye, connection: sqlite3.Connection) -> tuple[LiveRow, ...]:
    rows = _recorded(connection)
    supervisors = {row.run_id: RunDirectory(eye.home.run(row.run_id)).supervised_by() for row in rows}
    if _must_sweep(eye, rows, supervisors):
        sweep(eye.home, connection)
        eye.swept_at = time.monotonic()
        rows = _recorded(connection)
    begun = [item for item in _beginnings(eye, connection) if item.cached is None]
    supervisors |= {item.run_id: item.supervisor for item in begun}
    here = {
        run_id: identity.pid
        for run_id, identity in supervisors.items()
        if identity is not None and state_of(identity) == "alive"
    }
    uses = measure(eye.meter, set(here.values()))
    eye.metrics = {row.run_id: eye.metrics.get(row.run_id, MetricTail()) for row in rows}
    found = [_unrecorded(item, uses.get(here.get(item.run_id, -1))) for item in begun]
    for row in rows:
        # A replay that has ended lives as long as its supervisor compares it.
        if row.status in ("running", "orphaned") or row.run_id in here:
            use = uses.get(here.get(row.run_id, -1))
            found.append(_running(eye, row, supervisors.get(row.run_id), use))
    return tuple(sorted(found, key=lambda run: (run.status != "never began", run.run_id), reverse=True))


def _recorded(connection: sqlite3.Connection) -> list[PageRow]:
    ids = [*ledger.live_runs(connection), *ledger.uncompared_runs(connection)]
    return list(page_rows(connection, ids).values())


def _must_sweep(eye: Eye, rows: list[PageRow], supervisors: Mapping[str, ProcessIdentity | None]) -> bool:
    """Whether a run that seems to live may not; not at the very first look, which has to be quick."""
    if eye.swept_at is None:
        eye.swept_at = 0.0
        return False
    if time.monotonic() - eye.swept_at < _SWEEP_SECONDS:
        return False
    doubtful = (supervisors.get(row.run_id) for row in rows if row.status in ("running", "orphaned"))
    return eye.swept_at == 0.0 or any(identity is not None and state_of(identity) == "dead" for identity in doubtful)


def _beginnings(eye: Eye, connection: sqlite3.Connection) -> list[Beginning]:
    """The runs without a record. Looking for them costs a listing, which is made only when there is news."""
    news = eye.home.runs.stat().st_mtime_ns, _version(connection)
    if eye.unknown[0] != news:
        eye.unknown = news, ledger.missing_runs(eye.home, connection)
    found = [read_beginning(RunDirectory(eye.home.run(run_id))) for run_id in eye.unknown[1]]
    return [item for item in found if item is not None]


def _unrecorded(item: Beginning, use: Use | None) -> LiveRow:
    text = item.text.partition("\n")[0]
    remark = f"{item.phase}: {text}" if item.phase and item.state == "preparing" else text
    called = item.asked.get("name") or item.asked.get("source", "")
    return LiveRow(item.run_id, item.state, called, item.asked_at, use, remark=remark)


def _running(eye: Eye, row: PageRow, supervisor: ProcessIdentity | None, use: Use | None) -> LiveRow:
    directory = RunDirectory(eye.home.run(row.run_id))
    status, remark = row.status, ""
    if status == "orphaned":
        remark = "its supervisor was killed"
    elif status != "running":
        status, remark = "comparing", "its outputs and metrics with the record"
    elif (state := "elsewhere" if supervisor is None else state_of(supervisor)) == "dead":
        remark = "its supervisor has ended"
    elif state == "elsewhere":
        remark = f"on {row.hostname or 'another machine'}{_heard_of(directory)}"
    metric = read_on(eye.metrics[row.run_id], directory.journal)
    return LiveRow(row.run_id, status, label(row), _epoch(row.started_at), use, metric, remark)


def _heard_of(directory: RunDirectory) -> str:
    heard = directory.heard()
    if heard is None:
        return ""
    age = max(0.0, time.time() - heard)
    return f", seen {age:.0f} s ago" if age < 120 else f", not seen for {age / 60:.0f} min"


def label(row: PageRow) -> str:
    """What a run is called: its name, else its project and commit."""
    return row.name or project(row)


def project(row: PageRow) -> str:
    """The project and the commit of a run."""
    name = row.url.rstrip("/").rpartition("/")[2].removesuffix(".git")
    subdir = f"#{row.subdir}" if row.subdir else ""
    return f"{name}{subdir}@{row.commit[:7]}{'*' if row.dirty else ''}"


def _epoch(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return time.time()
