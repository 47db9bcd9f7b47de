"""Which runs answer a question."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from orchestrator.ledger.connection import snapshot
from orchestrator.questions.grammar import Comparison, Order
from orchestrator.questions.sql import Condition, View, condition, counted, of_experiments, ordered

FEW = 8
"""Runs that are fewer than one in so many are looked up one by one; else all runs are gone through."""


def search_runs(
    connection: sqlite3.Connection,
    *,
    experiment_ids: Sequence[str] | None,
    comparisons: Sequence[Comparison],
    order: Sequence[Order],
    view: View,
    limit: int,
    offset: int,
) -> list[str]:
    """The ids of the runs of these experiments (None: of all) of which all comparisons hold, in the order asked for.

    Values that are NaN come behind others, missing ones last; ties are sorted by start, the newest first, then by run
    id. At most `limit` runs, after the first `offset`. Raises OrchError when the ledger can't be read.
    """
    conditions = [condition(comparison) for comparison in comparisons]
    if experiment_ids is not None:
        conditions.append(of_experiments(experiment_ids))
    with snapshot(connection):
        first = _narrowest(connection, conditions)
        query = ordered(conditions, order, view, limit, offset, first=first)
        return [str(run_id) for (run_id,) in connection.execute(query.text, query.values)]


def _narrowest(connection: sqlite3.Connection, conditions: Sequence[Condition]) -> int | None:
    """The index of the condition that few runs meet, fewer than meet any other; None if many meet each of them.

    SQLite has no idea how many runs a value has, and counting them in an index is quick.
    """
    if not any(one.among for one in conditions):
        return None
    fewest: int = connection.execute("SELECT count(*) FROM runs").fetchone()[0] // FEW + 1
    narrowest = None
    for index, one in enumerate(conditions):
        if one.among is not None:
            count = counted(one, fewest)
            found: int = connection.execute(count.text, count.values).fetchone()[0]
            if found < fewest:
                narrowest, fewest = index, found
    return narrowest
