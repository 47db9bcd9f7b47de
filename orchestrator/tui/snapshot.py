"""What the dashboard wants to know, and what it is told. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.ledger.browse import PageRow


@dataclass(frozen=True, slots=True)
class Question:
    """What the screen shows now: a filter, a window of the history, and the run whose log it wants lines of."""

    filter: str = ""
    first: int = 0
    count: int = 100
    log_of: str | None = None
    log_lines: int = 10


@dataclass(frozen=True, slots=True)
class Use:
    """What a process tree uses: percent of one processor since the last look (None at the first), resident bytes."""

    cpu: float | None
    memory: int


@dataclass(frozen=True, slots=True)
class Series:
    """The last points of a metric, oldest first; there is at least one."""

    name: str
    points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LiveRow:
    """A run that lives now, or never began. `began` in seconds since the epoch.

    `status` is `preparing`, `running`, `comparing`, `orphaned` or `never began`; `use` is None where it can't be known;
    `metric` is the one that was logged last. `remark` says what else there is to know: what is being prepared, or on
    which machine it is.
    """

    run_id: str
    status: str
    label: str
    began: float
    use: Use | None = None
    metric: Series | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer. `history` has the ids of all ended runs that match, newest first; `rows` those asked for, by id."""

    question: Question
    live: tuple[LiveRow, ...] = ()
    total: int = 0
    history: tuple[str, ...] = ()
    rows: Mapping[str, PageRow] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    error: str | None = None
