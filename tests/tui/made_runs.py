"""Ledgers with runs for the dashboard: a few made ones, or very many."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from made_records import finished, journal_events, running

from orchestrator import journal, ledger
from orchestrator.execute.rundir import RunDirectory
from orchestrator.fields import fields_to_json
from orchestrator.ledger.connection import transaction
from orchestrator.model import ProcessIdentity, RunRecord
from orchestrator.paths import Home


def id_at(number: int) -> str:
    """A run id; a greater number is a later run."""
    return f"{0x018F00000000 + number:012x}7{number:019x}"


def time_text(seconds_ago: float = 0.0) -> str:
    """RFC 3339."""
    then = datetime.fromtimestamp(time.time() - seconds_ago, UTC)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def add(home: Home, record: RunRecord) -> RunRecord:
    """A run with its directory, in the ledger too."""
    directory = RunDirectory(home.run(record.run_id))
    directory.path.mkdir(parents=True)
    journal.append(directory.journal, journal_events(record))
    if record.supervisor is not None:
        directory.supervisor.write_text(json.dumps(fields_to_json(record.supervisor)))
    connection = ledger.connect(home)
    ledger.write_record(connection, record)
    connection.close()
    return record


def ended(number: int, **changes: Any) -> RunRecord:
    """A run that has ended."""
    return finished(run_id=id_at(number), started_at=time_text(3600 - number), **changes)


def live(number: int, supervisor: ProcessIdentity | None, **changes: Any) -> RunRecord:
    """A run that the ledger holds for running."""
    return running(run_id=id_at(number), started_at=time_text(60), supervisor=supervisor, **changes)


def fill(home: Home, count: int) -> None:
    """A ledger of `count` ended runs, every tenth failed, named try-N, with parameter seed=N; no directories."""
    connection = ledger.connect(home)
    template = replace(ended(0), params={"seed": "0", "alpha": "5.1"})
    ledger.write_record(connection, template)
    with transaction(connection):
        connection.execute("CREATE TEMP TABLE made (run_id TEXT, n INTEGER)")
        connection.executemany("INSERT INTO made VALUES (?, ?)", [(id_at(n), n) for n in range(1, count)])
        for table in ("runs", "params", "latest_metrics"):
            _multiply(connection, table, template.run_id)
        connection.execute("UPDATE runs SET name = 'try-' || n FROM made WHERE made.run_id = runs.run_id")
        connection.execute(
            "UPDATE runs SET status = 'failed', exit_code = 3 FROM made WHERE made.run_id = runs.run_id AND n % 10 = 0"
        )
        connection.execute(
            "UPDATE params SET value = n FROM made WHERE made.run_id = params.run_id AND params.key = 'seed'"
        )
    connection.close()


def _multiply(connection: sqlite3.Connection, table: str, template: str) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join("made.run_id" if column == "run_id" else f"{table}.{column}" for column in columns)
    connection.execute(f"INSERT INTO {table} SELECT {values} FROM {table}, made WHERE {table}.run_id = ?", (template,))
