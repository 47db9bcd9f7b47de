"""The ledger as something to leaf through: all runs that match a text, a page of them. Reading only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.connection import telling
from orchestrator.ledger.query import varying_outputs
from orchestrator.ledger.values import from_real, from_text


@dataclass(frozen=True, slots=True)
class PageRow:
    """A run as a line shows it. `verdict` is a replay's result; metrics are last values, by name.

    `is_uncompared` is a replay that ended without a verdict, `varies` one of whose spec other runs came to something
    else. One that was only logged has no url, commit, subdir and entry point.
    """

    run_id: str
    status: str
    exit_code: int | None
    name: str | None
    started_at: str
    wall_seconds: float | None
    url: str | None
    commit: str | None
    subdir: str | None
    dirty: bool
    hostname: str | None
    verdict: str | None
    entry_point: str | None
    metrics: tuple[tuple[str, float], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    is_uncompared: bool = False
    varies: bool = False


def lacks_verdict(status: str, replay_of: str | None, verdict: object, bundle: str | None) -> bool:
    """Whether it is a replay made here that ended, and was stopped or killed before it was compared."""
    return replay_of is not None and verdict is None and bundle is None and status in ("finished", "failed")


def change_mark(connection: sqlite3.Connection) -> object:
    """Another one when anybody has changed the ledger since this connection gave the last one."""
    return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes


def count_runs(connection: sqlite3.Connection) -> int:
    """How many runs there are."""
    with telling(connection):
        count: int = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    return count


def matching_runs(connection: sqlite3.Connection, text: str = "") -> tuple[str, ...]:
    """The ids of the runs that have ended, newest first, in which each word of `text` occurs.

    It is looked for, whatever its case, in id, name, status, verdict, URL, subdirectory, commit, entry point and
    experiment, and in `name=value` of the parameters.
    """
    words = text.lower().split()
    with telling(connection):
        rows = connection.execute(_MATCHING if words else _ENDED, {"words": json.dumps(words)} if words else {})
        return tuple(run_id for (run_id,) in rows)


_ENDED = "SELECT run_id FROM runs WHERE status NOT IN ('running', 'orphaned') AND NOT deleted ORDER BY run_id DESC"

_SEARCHED = """
lower(
    run_id || ' ' || coalesce(runs.name, '') || ' ' || status || ' '
    || coalesce(url || '#' || subdir || ' ' || commit_id || ' ' || entry_point, '(logged)')
    || ' ' || experiments.name || ' ' || coalesce(json_extract(verdict, '$.result'), '')
)
"""

_MATCHING = """
SELECT run_id FROM runs JOIN experiments USING (experiment_id)
WHERE status NOT IN ('running', 'orphaned') AND NOT runs.deleted AND NOT EXISTS (
    SELECT 1 FROM json_each(:words) AS word
    WHERE NOT instr(SEARCHED, word.value) AND NOT EXISTS (
        SELECT 1 FROM params WHERE params.run_id = runs.run_id AND instr(lower(key || '=' || params.value), word.value)
    )
)
ORDER BY run_id DESC
""".replace("SEARCHED", _SEARCHED)


def searched_texts(connection: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, str]:
    """The text, in lower case, in which `matching_runs` would look for each word, of these runs, live or not."""
    with telling(connection):
        rows = connection.execute(_SEARCHED_OF, (json.dumps(run_ids),))
        return {run_id: text.decode("utf-8", "replace") for run_id, text in rows}


_SEARCHED_OF = """
SELECT run_id, CAST(SEARCHED || coalesce(
    (SELECT group_concat(' ' || lower(key || '=' || params.value), '') FROM params WHERE params.run_id = runs.run_id),
    ''
) AS BLOB)
FROM runs JOIN experiments USING (experiment_id) WHERE run_id IN (SELECT value FROM json_each(?))
""".replace("SEARCHED", _SEARCHED)


def page_rows(
    connection: sqlite3.Connection, run_ids: Sequence[str], known: dict[str, bool] | None = None
) -> dict[str, PageRow]:
    """The rows of a page, by id, newest first; runs that are gone are not in it.

    `known` says which specs vary, and learns it of those it does not have, which takes long where a spec has many
    runs; it holds as long as nobody changes the ledger. Without it, nothing is said to vary.
    """
    page = (json.dumps(run_ids),)
    with telling(connection):
        rows = connection.execute(_PAGE, page).fetchall()
        metrics: dict[str, list[tuple[str, float]]] = {}
        for run_id, key, value in connection.execute(_PAGE_METRICS, page):
            metrics.setdefault(run_id, []).append((str(from_text(key)), from_real(value)))
        params: dict[str, list[tuple[str, str]]] = {}
        for run_id, key, value in connection.execute(_PAGE_PARAMS, page):
            params.setdefault(run_id, []).append((str(from_text(key)), str(from_text(value))))
        if known is not None:
            for spec_id in {row[-1] for row in rows if row[1] == "finished"} - {None, *known}:
                known[spec_id] = bool(varying_outputs(connection, spec_id))
    return {
        row[0]: _page_row(
            row, tuple(metrics.get(row[0], ())), tuple(params.get(row[0], ())), bool(known and known.get(row[-1]))
        )
        for row in rows
    }


# Of a run that was only logged nobody measured how long it took.
_PAGE = """
SELECT run_id, status, exit_code, name, started_at,
    CASE WHEN spec_id IS NOT NULL THEN wall_seconds
        ELSE max((julianday(ended_at) - julianday(started_at)) * 86400, 0.0) END,
    url, commit_id, subdir, dirty, hostname, json_extract(verdict, '$.result'), entry_point, replay_of, bundle, spec_id
FROM runs JOIN hosts USING (host_id) WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY run_id DESC
"""
_PAGE_METRICS = (
    "SELECT run_id, key, value FROM latest_metrics WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY key"
)
_PAGE_PARAMS = "SELECT run_id, key, value FROM params WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY key"


def _page_row(
    row: Sequence[Any], metrics: tuple[tuple[str, float], ...], params: tuple[tuple[str, str], ...], varies: bool
) -> PageRow:
    # Any text column may hold a BLOB (see `values`); the one boolean is the dirty flag.
    values: list[Any] = [from_text(value) if isinstance(value, bytes) else value for value in row]
    values[9] = bool(values[9])
    *shown, replay_of, bundle, _ = values
    is_uncompared = lacks_verdict(shown[1], replay_of, shown[11], bundle)
    return PageRow(*[*shown, metrics, params, is_uncompared, varies])
