"""Reads what the dashboard shows: from the ledger, the run directories and the processes. One thread's work."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Condition

from orchestrator import ledger
from orchestrator.errors import OrchError
from orchestrator.execute.rundir import RunDirectory
from orchestrator.ledger.browse import change_mark, count_runs, matching_runs, page_rows, searched_texts
from orchestrator.live import LiveRun, Memory, what_lives
from orchestrator.paths import Home
from orchestrator.sweep import sweep
from orchestrator.tui.logtail import LogTail, last_lines
from orchestrator.tui.metrics import MetricTail, read_on
from orchestrator.tui.snapshot import Log, Question, Series, Snapshot

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
    live: tuple[LiveRun, ...] = ()
    live_at: float = 0.0
    swept_at: float | None = None
    memory: Memory = field(default_factory=Memory)
    metrics: dict[str, MetricTail] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    varying: dict[str, bool] = field(default_factory=dict)
    logs: tuple[LogTail, LogTail] = field(default_factory=lambda: (LogTail(), LogTail()))

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
        eye.last = replace(eye.last, question=question, log=Log(), error=_sentence(error))
    return eye.last


def _sentence(error: OrchError | OSError) -> str:
    return str(error) if isinstance(error, OrchError) or not error.strerror else f"{error.strerror}: {error.filename}."


def _look(eye: Eye, question: Question) -> Snapshot:
    connection = _connection(eye)
    now, old = time.monotonic(), eye.last
    if now - eye.live_at >= SECONDS * 0.9 or change_mark(connection) != eye.version:
        _look_at_what_lives(eye, connection)
        eye.live_at = now
    version = change_mark(connection)
    changed = version != eye.version
    asked = question.filter, question.first, question.count
    total, history, rows = old.total, old.history, old.rows
    if changed or question.filter != old.question.filter:
        total, history = count_runs(connection), matching_runs(connection, question.filter)
        if comparing := {run.run_id for run in eye.live if run.status == "comparing"}:
            history = tuple(run_id for run_id in history if run_id not in comparing)
    if changed or asked != (old.question.filter, old.question.first, old.question.count):
        eye.varying = {} if changed else eye.varying
        rows = page_rows(connection, history[question.first : question.first + question.count], eye.varying)
    eye.version = version
    return Snapshot(
        question=question,
        live=_matching(connection, eye.live, question.filter),
        alive=sum(run.status != "never began" for run in eye.live),
        metrics=eye.series,
        total=total,
        history=history,
        rows=rows,
        log=_log(eye, question),
    )


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


def _look_at_what_lives(eye: Eye, connection: sqlite3.Connection) -> None:
    if _must_sweep(eye):
        sweep(eye.home, connection)
        eye.swept_at = time.monotonic()
    eye.live = tuple(what_lives(eye.home, connection, eye.memory))
    recorded = {run.run_id for run in eye.live if run.status in ("running", "orphaned", "comparing")}
    eye.metrics = {run_id: eye.metrics.get(run_id, MetricTail()) for run_id in recorded}
    read = {i: read_on(tail, RunDirectory(eye.home.run(i)).journal) for i, tail in eye.metrics.items()}
    eye.series = {run_id: series for run_id, series in read.items() if series is not None}


def _must_sweep(eye: Eye) -> bool:
    """Whether a run that seemed to live may not; not at the very first look, which has to be quick."""
    if eye.swept_at is None:
        eye.swept_at = 0.0
        return False
    if eye.swept_at == 0.0:
        return True
    return time.monotonic() - eye.swept_at >= _SWEEP_SECONDS and any(run.unsupervised for run in eye.live)


def _matching(connection: sqlite3.Connection, runs: tuple[LiveRun, ...], text: str) -> tuple[LiveRun, ...]:
    """The live runs in which each word occurs: where it would be looked for of ended ones, or in what is seen."""
    words = text.lower().split()
    if not words or not runs:
        return runs
    texts = searched_texts(connection, [run.run_id for run in runs])

    def matches(run: LiveRun) -> bool:
        seen = run.run_id, run.status, run.name, run.source, run.entry_point, run.text, run.host
        where = " ".join([texts.get(run.run_id, ""), *(part.lower() for part in seen if part)])
        return all(word in where for word in words)

    return tuple(run for run in runs if matches(run))


def _log(eye: Eye, question: Question) -> Log:
    if question.log_of is None or question.log_lines <= 0:
        return Log()
    directory = RunDirectory(eye.home.run(question.log_of))
    output, errors = eye.logs
    return Log(
        last_lines(output, directory.stdout, question.log_lines),
        last_lines(errors, directory.stderr, question.log_lines),
    )
