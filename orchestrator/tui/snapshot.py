"""What the dashboard wants to know, and what it is told. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.ledger.browse import PageRow
from orchestrator.live import LiveRun


@dataclass(frozen=True, slots=True)
class Question:
    """What the screen shows now: a filter, a window of the history, and the run whose log it wants lines of."""

    filter: str = ""
    first: int = 0
    count: int = 100
    log_of: str | None = None
    log_lines: int = 10


@dataclass(frozen=True, slots=True)
class Series:
    """The last points of a metric, oldest first; there is at least one."""

    name: str
    points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """The last lines that a run printed: its output, and its errors where they were kept apart."""

    output: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer. `live` are the live runs that match, `alive` counts all; `metrics` has what each logged last, by id.

    `total` counts all runs of the ledger. `history` has the ids of all ended runs that match, newest first; `rows`
    those asked for, by id.
    """

    question: Question
    live: tuple[LiveRun, ...] = ()
    alive: int = 0
    metrics: Mapping[str, Series] = field(default_factory=dict)
    total: int = 0
    history: tuple[str, ...] = ()
    rows: Mapping[str, PageRow] = field(default_factory=dict)
    log: Log = field(default_factory=Log)
    error: str | None = None
