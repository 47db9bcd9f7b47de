"""Indexing a run that lives, and may have logged very much: only what the ledger has not heard is looked at."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import journal
from orchestrator.fields import metric_from_json
from orchestrator.ledger.connection import telling, transaction
from orchestrator.ledger.rebuild import JOURNAL, index_run, read_run, reading
from orchestrator.ledger.write import point_count, put_facts, put_points, put_record
from orchestrator.paths import Home
from orchestrator.records import record_after, record_from_journal

_POINTS = b'{"event":"logged","metrics":['
_AND_NO_MORE = re.compile(rb'\](,"params":\{\},"tags":\{\},"upto":\d+)?\}\n\Z')
_A_POINT = b'"timestamp":'
"""Stands once in each point: in a text its first quotation mark would be escaped."""


@dataclass(frozen=True, slots=True)
class _Read:
    """The events of a journal without the `passed` points at its start; `offset` is how far it was read, in bytes."""

    events: list[dict[str, Any]]
    passed: int
    offset: int


def index_news(home: Home, connection: sqlite3.Connection, run_id: str) -> None:
    """`index_run` of a run that lives: the points that the ledger has of it are taken for the first of its journal.

    The journal is read before the write transaction, and in there what has come meanwhile: others, who write as the
    run's program logs, do not wait for long. Raises UnreadableError, and OrchError when the ledger can't be written.
    """
    path = home.run(run_id) / JOURNAL
    with telling(connection):
        known = point_count(connection, run_id)
    with reading(path):
        read = _read(path, 0, known)
        record = record_from_journal(run_id, read.events)
    if record is None:
        index_run(home, connection, run_id)
        return
    points = list(record.metrics)
    with transaction(connection):
        with reading(path):
            for event in _read(path, read.offset, 0).events:
                record = record_after(record, event)
                points += [metric_from_json(point) for point in event.get("metrics", ())]
        put_facts(connection, record)
        new = point_count(connection, run_id) - read.passed
        if 0 <= new <= len(points):
            put_points(connection, run_id, points[new:])
        elif (whole := read_run(home, run_id)) is not None:  # somebody has made the ledger again
            put_record(connection, whole)


def _read(path: Path, offset: int, known: int) -> _Read:
    """What a journal says from `offset` on, but for the first points, `known` of them at most."""
    events: list[dict[str, Any]] = []
    passed = 0
    with journal.open_plain(path) as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            if passed < known and line.startswith(_POINTS) and _AND_NO_MORE.search(line, max(0, len(line) - 64)):
                # Of such a line nothing else has to be known, and reading it takes long.
                count = line.count(_A_POINT)
                if passed + count <= known:
                    passed += count
                    continue
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(event, dict):
                continue
            if passed < known and (points := event.get("metrics")):
                if passed + len(points) <= known:
                    passed += len(points)
                    event = event | {"metrics": []}
                else:
                    known = 0
            events.append(event)
    return _Read(events, passed, offset)
