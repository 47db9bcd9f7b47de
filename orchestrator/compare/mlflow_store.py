"""MLflow's own database, which it leaves in the work directory of a run that was told of no tracking server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any

MLFLOW_STORE = "mlflow-store-1"
"""Of a `mlflow.db` counts what was logged in it: the experiments, parameters, metrics and tags of runs, the names,
parameters and tags of models, and how much of anything else. Ids, times, invented names and MLflow's own tags do not.
"""

NAME = "mlflow.db"
_MAGIC = b"SQLite format 3\0"
_MOST_STEPS = 200_000_000  # of SQLite's machine, some seconds: a table may be a view without end
_COUNTED_NOT = ("alembic_version", "sqlite_sequence")
_OWN_TAG = "mlflow."
_RUNS = (
    "SELECT run_uuid, status, runs.lifecycle_stage, experiments.name FROM runs "
    "LEFT JOIN experiments USING (experiment_id) ORDER BY start_time, runs.rowid"
)
_MODELS = "SELECT model_id, name, status, model_type FROM logged_models ORDER BY creation_timestamp_ms, rowid"


def is_store(name: str, content: bytes) -> bool:
    """Whether an output is such a database."""
    return PurePosixPath(name).name == NAME and content.startswith(_MAGIC)


def logged_in(content: bytes) -> str:
    """What counts in it, as JSON. Raises ValueError when it can't be read as one."""
    try:
        with closing(_opened(content)) as connection:
            found = {"runs": _runs(connection), "models": _models(connection), "rows": _rows(connection)}
        return json.dumps(found, indent=1, sort_keys=True)
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"no database of MLflow that can be read: {error}") from error


def ids_in(content: bytes) -> list[str]:
    """The ids of its runs and models, each in the order in which they were made; none when it can't be read."""
    try:
        with closing(_opened(content)) as connection:
            queries = [_RUNS, _MODELS] if _has_models(connection) else [_RUNS]
            return [str(row[0]) for query in queries for row in connection.execute(query)]
    except (sqlite3.Error, ValueError):
        return []


def _opened(content: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.set_progress_handler(lambda: 1, _MOST_STEPS)
    return connection


def _runs(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """The runs in the order of their start."""
    runs = connection.execute(_RUNS).fetchall()
    return [
        {
            "experiment": experiment,
            "status": [status, stage],
            "params": _named(connection, "SELECT key, value FROM params WHERE run_uuid = ?", run),
            "tags": _tags(connection, "SELECT key, value FROM tags WHERE run_uuid = ?", run),
            "metrics": _metrics(connection, run),
        }
        for run, status, stage, experiment in runs
    ]


def _models(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """The logged models in their order, which databases of older versions do not have."""
    if not _has_models(connection):
        return []
    models = connection.execute(_MODELS).fetchall()
    return [
        {
            "about": about,
            "params": _named(
                connection, "SELECT param_key, param_value FROM logged_model_params WHERE model_id = ?", model
            ),
            "tags": _tags(connection, "SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ?", model),
        }
        for model, *about in models
    ]


def _has_models(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'logged_models'").fetchone() is not None


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    quoted = {name: name.replace('"', '""') for (name,) in tables if name not in _COUNTED_NOT}
    counts = {name: connection.execute(f'SELECT count(*) FROM "{text}"').fetchone()[0] for name, text in quoted.items()}  # noqa: S608 - a quoted name
    return {name: count for name, count in counts.items() if count}


def _metrics(connection: sqlite3.Connection, run: str) -> dict[str, list[Sequence[float]]]:
    points = connection.execute(
        "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp, rowid", (run,)
    )
    metrics: dict[str, list[Sequence[float]]] = {}
    for key, step, value, is_nan in points:
        metrics.setdefault(str(key), []).append((step, float("nan") if is_nan else value))
    return metrics


def _tags(connection: sqlite3.Connection, query: str, owner: str) -> dict[str, Any]:
    return {key: value for key, value in _named(connection, query, owner).items() if not key.startswith(_OWN_TAG)}


def _named(connection: sqlite3.Connection, query: str, owner: str) -> dict[str, Any]:
    return {str(key): value for key, value in connection.execute(query, (owner,))}
