"""Experiments: each change is first a line in their journal, `experiments.jsonl` in the home."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import journal
from orchestrator.errors import OrchError
from orchestrator.ledger.connection import telling, transaction
from orchestrator.ledger.values import from_text, to_text
from orchestrator.ledger.write import DEFAULT_EXPERIMENT, experiment_id, put_experiment
from orchestrator.paths import Home

EXPERIMENTS = "experiments.jsonl"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A group of runs. Times are in milliseconds since the epoch; None where nobody said."""

    experiment_id: str
    name: str
    deleted: bool
    created: int | None
    updated: int | None
    tags: Mapping[str, str]


class NameTakenError(OrchError):
    """An experiment of this name is there, or was once called so."""


def create_experiment(
    home: Home, connection: sqlite3.Connection, name: str, tags: Mapping[str, str] | None = None
) -> str:
    """Make an experiment, also before it has a run; its id. Raises NameTakenError."""
    event = {"event": "created", "name": name, "tags": dict(tags or {}), "time": _now()}
    with transaction(connection):
        taken = "SELECT name FROM experiments WHERE name = ? OR experiment_id = ?"
        if connection.execute(taken, (to_text(name), experiment_id(name))).fetchone():
            raise NameTakenError(f"an experiment {name!r} is there, or was once called so.")
        _tell(home, connection, event)
    return experiment_id(name)


def change_experiment(home: Home, connection: sqlite3.Connection, identity: str, change: Mapping[str, Any]) -> None:
    """Record a change of an experiment that is there.

    `change` has one of the keys `name` (text), `deleted` (bool) and `tags` (text by key, None to remove it). Raises
    NameTakenError.
    """
    event = {"event": "changed", "experiment_id": identity, **change, "time": _now()}
    with transaction(connection):
        name = change.get("name")
        taken = "SELECT 1 FROM experiments WHERE (name = ?1 OR experiment_id = ?2) AND experiment_id != ?3"
        if name is not None and connection.execute(taken, (to_text(name), experiment_id(name), identity)).fetchone():
            raise NameTakenError(f"an experiment {name!r} is there, or was once called so.")
        _tell(home, connection, event)


def put_experiments(connection: sqlite3.Connection, home: Home) -> None:
    """Make the ledger say of all experiments what their journal says."""
    events, _ = journal.read(home.root / EXPERIMENTS)
    names = _names(events)
    with transaction(connection):
        # A name may have gone from one experiment to another: all are let go before any is given.
        let_go = "UPDATE experiments SET name = char(0) || experiment_id WHERE experiment_id = ?"
        connection.executemany(let_go, ((identity,) for identity in names))
        connection.executemany(_NAME, ((identity, to_text(name)) for identity, name in names.items()))
        for event in events:
            _apply(connection, {**event, "name": None} if event.get("event") == "changed" else event)


_NAME = """
INSERT INTO experiments (experiment_id, name) VALUES (?, ?)
ON CONFLICT (experiment_id) DO UPDATE SET name = excluded.name
"""


def _names(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The last name of each experiment that was made or renamed."""
    names: dict[str, str] = {}
    for event in events:
        name, identity = event.get("name"), event.get("experiment_id")
        if isinstance(name, str) and event.get("event") == "created":
            names.setdefault(experiment_id(name), name)
        elif isinstance(name, str) and event.get("event") == "changed" and isinstance(identity, str):
            names[identity] = name
    return names


def find_experiment(
    connection: sqlite3.Connection, *, name: str | None = None, identity: str | None = None
) -> Experiment | None:
    """The experiment of this name or id, or None. The default one is always there.

    The name that it was made with still means it when it has another, as it does in the records of its runs.
    """
    made = identity if name is None else experiment_id(name)
    with telling(connection):
        query = f"{_SELECT} WHERE name = ?1 OR experiment_id = ?2 ORDER BY name = ?1 DESC"
        row = connection.execute(query, (to_text(name), made)).fetchone()
        if row is None:
            default = identity == "0" or name == DEFAULT_EXPERIMENT
            return Experiment("0", DEFAULT_EXPERIMENT, False, None, None, {}) if default else None
        return _experiment(connection, row)


def all_experiments(connection: sqlite3.Connection) -> list[Experiment]:
    """Every experiment, the deleted ones too."""
    with telling(connection):
        rows = connection.execute(_SELECT).fetchall()
        found = [_experiment(connection, row) for row in rows]
    if not any(experiment.experiment_id == "0" for experiment in found):
        found.append(Experiment("0", DEFAULT_EXPERIMENT, False, None, None, {}))
    return found


_SELECT = "SELECT experiment_id, name, deleted, created, updated FROM experiments"


def _experiment(connection: sqlite3.Connection, row: tuple[Any, ...]) -> Experiment:
    identity, name, deleted, created, updated = row
    pairs = connection.execute(
        "SELECT key, value FROM experiment_tags WHERE experiment_id = ? ORDER BY key", (identity,)
    )
    tags = {str(from_text(key)): str(from_text(value)) for key, value in pairs}
    return Experiment(identity, str(from_text(name)), bool(deleted), created, updated, tags)


def _tell(home: Home, connection: sqlite3.Connection, event: Mapping[str, Any]) -> None:
    journal.append(home.root / EXPERIMENTS, [event], sync=True)
    _apply(connection, event)


def _apply(connection: sqlite3.Connection, event: Mapping[str, Any]) -> None:
    """Idempotent; what is no such event is passed over."""
    moment, identity = event.get("time"), event.get("experiment_id")
    if event.get("event") == "created" and isinstance(name := event.get("name"), str):
        identity = put_experiment(connection, name)
        connection.execute("UPDATE experiments SET created = ? WHERE experiment_id = ?", (moment, identity))
    elif event.get("event") == "changed" and isinstance(identity, str):
        if isinstance(name := event.get("name"), str):
            connection.execute("UPDATE experiments SET name = ? WHERE experiment_id = ?", (to_text(name), identity))
        if isinstance(deleted := event.get("deleted"), bool):
            connection.execute("UPDATE experiments SET deleted = ? WHERE experiment_id = ?", (deleted, identity))
    else:
        return
    connection.execute("UPDATE experiments SET updated = ? WHERE experiment_id = ?", (moment, identity))
    for key, value in dict(event.get("tags", {})).items():
        connection.execute("DELETE FROM experiment_tags WHERE experiment_id = ? AND key = ?", (identity, to_text(key)))
        if value is not None:
            row = (identity, to_text(key), to_text(value))
            connection.execute(_TAG, row)


# One that only its runs told of is not there before them, nor when they were removed.
_TAG = "INSERT INTO experiment_tags SELECT experiment_id, ?2, ?3 FROM experiments WHERE experiment_id = ?1"


def _now() -> int:
    return time.time_ns() // 1_000_000
