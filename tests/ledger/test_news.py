"""Indexing a run that lives gives what indexing it anew gives, and holds nobody up."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ledger_dumps import dump
from made_records import journal_events, made_home, running

from orchestrator import journal, ledger
from orchestrator.errors import OrchError
from orchestrator.ledger.connection import transaction
from orchestrator.ledger.news import index_news
from orchestrator.ledger.write import point_count
from orchestrator.paths import Home

RUN = "1" * 32


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path)


@pytest.fixture
def connection(home: Home) -> Iterator[sqlite3.Connection]:
    with closing(ledger.connect(home)) as opened:
        home.run(RUN).mkdir()
        journal.append(journal_of(home), journal_events(running(run_id=RUN)))
        yield opened


def journal_of(home: Home) -> Path:
    return home.run(RUN) / "journal.jsonl"


def points(name: str, *steps: int) -> list[dict[str, Any]]:
    return [{"name": name, "value": step / 2, "step": step, "timestamp": 1} for step in steps]


def logged(name: str, *steps: int, **more: Any) -> dict[str, Any]:
    return {"event": "logged", "metrics": points(name, *steps), **more}


def tell(home: Home, *events: dict[str, Any]) -> None:
    journal.append(journal_of(home), events)


def assert_true(home: Home, connection: sqlite3.Connection) -> None:
    """The ledger says what one says that is made again."""
    index_news(home, connection, RUN)
    found = dump(connection)
    with transaction(connection):
        connection.execute("DELETE FROM runs")
    ledger.index_run(home, connection, RUN)
    assert dump(connection) == found


PARTS = (
    [logged("a", 1, 2)],
    [logged("b", 1, params={}, tags={}, upto=10)],
    [logged("a", 3, 4, params={"depth": "7"}, tags={"who": "ada"}, upto=2000)],
    [logged('x"timestamp":', 1), logged('x"timestamp', 2)],
    [{"event": "logged", "metrics": [], "params": {'x"timestamp': "v", "timestamp": "1"}, "tags": {"t": "2"}}],
    [{"event": "logged", "metrics": [{"name": "n", "value": "NaN", "step": 0, "timestamp": 5}]}],
    [{"event": "note", "text": "slow"}, {"event": "tags", "values": {"who": None}}],
    [logged("é]}", 1), logged("a", 2, 2)],
)


def test_each_piece_of_news_makes_the_ledger_true(home: Home, connection: sqlite3.Connection) -> None:
    for part in PARTS:
        tell(home, *part)
        assert_true(home, connection)
    index_news(home, connection, RUN)
    assert point_count(connection, RUN) == 11


def test_all_of_it_at_once_or_nothing_new_makes_it_true_too(home: Home, connection: sqlite3.Connection) -> None:
    tell(home, *(event for part in PARTS for event in part))
    assert_true(home, connection)
    assert_true(home, connection)


def test_points_that_the_ledger_has_of_half_a_line_are_not_doubled(home: Home, connection: sqlite3.Connection) -> None:
    tell(home, logged("a", 1, 2, 3, 4), logged("b", 1))
    index_news(home, connection, RUN)
    with transaction(connection):
        connection.execute("DELETE FROM metrics WHERE key = 'b' OR position > 1")
        connection.execute("DELETE FROM latest_metrics WHERE key = 'b'")
    assert_true(home, connection)


def test_a_torn_line_is_passed_over(home: Home, connection: sqlite3.Connection) -> None:
    tell(home, logged("a", 1))
    with journal_of(home).open("a") as file:
        file.write('{"event":"logged","metrics":[{"name":"a","value":1,"step":9,"timestamp":1}')
    assert_true(home, connection)
    tell(home, logged("a", 2))
    assert_true(home, connection)
    assert point_count(connection, RUN) == 2


def test_a_ledger_that_has_more_than_the_journal_is_made_true(home: Home, connection: sqlite3.Connection) -> None:
    tell(home, logged("a", 1, 2, 3))
    index_news(home, connection, RUN)
    journal_of(home).unlink()
    tell(home, *journal_events(running(run_id=RUN)), logged("a", 7))
    assert_true(home, connection)


def test_a_run_that_is_gone_or_has_not_begun_is_none(home: Home, connection: sqlite3.Connection) -> None:
    index_news(home, connection, RUN)
    journal_of(home).write_text("")
    index_news(home, connection, RUN)
    assert not ledger.find_runs(connection)


def test_a_damaged_event_is_one_sentence(home: Home, connection: sqlite3.Connection) -> None:
    tell(home, {"event": "logged", "metrics": [{"name": "a"}]})
    with pytest.raises(OrchError, match=f"the journal {journal_of(home)} is damaged"):
        index_news(home, connection, RUN)


def test_a_writer_does_not_wait_while_much_is_read(home: Home, connection: sqlite3.Connection) -> None:
    tell(home, *(logged("a", step) for step in range(50_000)))
    ledger.index_run(home, connection, RUN)
    begun, held = 0.0, 0.0

    def trace(statement: str) -> None:
        nonlocal begun, held
        begun = time.perf_counter() if statement.startswith("BEGIN") else begun
        held += time.perf_counter() - begun if statement.startswith("COMMIT") else 0.0

    tell(home, logged("a", 50_000))
    start = time.perf_counter()
    index_of_all = ledger.read_run(home, RUN)
    reading = time.perf_counter() - start
    connection.set_trace_callback(trace)
    index_news(home, connection, RUN)
    connection.set_trace_callback(None)
    assert index_of_all is not None
    assert point_count(connection, RUN) == len(index_of_all.metrics) == 50_001
    assert 0 < held < reading / 4
