"""What the ledger knows of things that runs share: who is live, and which stored bytes are still named."""

from __future__ import annotations

import sqlite3
from collections import Counter

from orchestrator.ledger.connection import telling


def live_runs(connection: sqlite3.Connection) -> list[str]:
    """The ids of the runs that the ledger holds for running or orphaned; not those that are only logged."""
    query = "SELECT run_id FROM runs WHERE status IN ('running', 'orphaned') AND spec_id IS NOT NULL"
    with telling(connection):
        rows = connection.execute(query).fetchall()
    return [row[0] for row in rows]


def left_behind(connection: sqlite3.Connection) -> list[str]:
    """The ids of logged runs that say they are running, and were begun inside a run that has ended."""
    with telling(connection):
        return [row[0] for row in connection.execute(_LEFT_BEHIND).fetchall()]


_LEFT_BEHIND = """
WITH RECURSIVE above(run_id, id) AS (
    SELECT run_id, parent FROM runs WHERE status = 'running' AND spec_id IS NULL AND parent IS NOT NULL
    UNION SELECT above.run_id, parent FROM above JOIN runs ON runs.run_id = above.id WHERE spec_id IS NULL
)
SELECT above.run_id FROM above JOIN runs ON runs.run_id = above.id
WHERE spec_id IS NOT NULL AND status NOT IN ('running', 'orphaned')
"""


def is_logged(connection: sqlite3.Connection, run_id: str) -> bool:
    """Whether a run of the ledger was only logged: it has no supervisor, and no program of ours."""
    query = "SELECT EXISTS (SELECT 1 FROM runs WHERE run_id = ? AND spec_id IS NULL)"
    with telling(connection):
        return bool(connection.execute(query, (run_id,)).fetchone()[0])


def logged_running(connection: sqlite3.Connection) -> list[str]:
    """The ids of the runs that are only logged and say that they are running: their journals may have more to tell."""
    with telling(connection):
        rows = connection.execute("SELECT run_id FROM runs WHERE status = 'running' AND spec_id IS NULL").fetchall()
    return [row[0] for row in rows]


def logged_below(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """The ids of the logged runs that were begun in a run, and in those again; not of steps and what is in them."""
    with telling(connection):
        return [row[0] for row in connection.execute(_LOGGED_BELOW, {"run_id": run_id})]


_LOGGED_BELOW = """
WITH RECURSIVE below(id) AS (
    SELECT run_id FROM runs WHERE parent = :run_id AND spec_id IS NULL
    UNION SELECT run_id FROM runs JOIN below ON runs.parent = below.id WHERE spec_id IS NULL
)
SELECT id FROM below WHERE id != :run_id ORDER BY id DESC
"""


def live_around(connection: sqlite3.Connection, run_id: str) -> str | None:
    """The run whose program has begun a logged one, where that lives by the ledger; of two, the nearer."""
    with telling(connection):
        row = connection.execute(_LIVE_AROUND, (run_id,)).fetchone()
    return None if row is None else str(row[0])


_LIVE_AROUND = """
WITH RECURSIVE above(id) AS (
    SELECT parent FROM runs WHERE run_id = ? AND spec_id IS NULL
    UNION SELECT parent FROM above JOIN runs ON runs.run_id = above.id WHERE spec_id IS NULL
)
SELECT run_id FROM above JOIN runs ON runs.run_id = above.id
WHERE spec_id IS NOT NULL AND status IN ('running', 'orphaned')
"""


def uncompared_runs(connection: sqlite3.Connection) -> list[str]:
    """The ids of the replays that have ended here, and have no verdict: one may be in the making."""
    query = (
        "SELECT run_id FROM runs WHERE replay_of IS NOT NULL AND verdict IS NULL AND bundle IS NULL "
        "AND status IN ('finished', 'failed')"
    )
    with telling(connection):
        return [row[0] for row in connection.execute(query)]


def runs_by_lock(connection: sqlite3.Connection) -> Counter[str]:
    """How many runs name each lock, as theirs or as the one of another platform."""
    query = (
        "SELECT lock_id FROM runs WHERE lock_id IS NOT NULL UNION ALL SELECT value FROM runs, json_each(other_locks)"
    )
    with telling(connection):
        return Counter(row[0] for row in connection.execute(query))


def blobs_of(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """The sha256 of each output and input that a run names."""
    with telling(connection):
        rows = connection.execute(
            "SELECT sha256 FROM outputs WHERE run_id = ? UNION SELECT sha256 FROM inputs WHERE run_id = ?",
            (run_id, run_id),
        ).fetchall()
    return [row[0] for row in rows]


def folder_inputs(connection: sqlite3.Connection) -> list[str]:
    """The sha256 of the listing of each input folder that any run names."""
    with telling(connection):
        rows = connection.execute("SELECT DISTINCT sha256 FROM inputs WHERE kind = 'folder'").fetchall()
    return [row[0] for row in rows]


def is_named(connection: sqlite3.Connection, sha256: str) -> bool:
    """Whether any run has an output or an input of that sha256."""
    query = "SELECT EXISTS (SELECT 1 FROM outputs WHERE sha256 = ?) OR EXISTS (SELECT 1 FROM inputs WHERE sha256 = ?)"
    with telling(connection):
        return bool(connection.execute(query, (sha256, sha256)).fetchone()[0])


def package_count(connection: sqlite3.Connection, lock_id: str, platform: str) -> int | None:
    """How many packages an environment has, or None when the ledger does not know."""
    query = "SELECT packages FROM environments WHERE lock_id = ? AND platform = ?"
    with telling(connection):
        row = connection.execute(query, (lock_id, platform)).fetchone()
    return None if row is None else row[0]
