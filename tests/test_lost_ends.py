"""A run that was given up as lost, and whose own supervisor tells another end: before, or after."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from made_records import finished, made_home, running

from orchestrator import journal, ledger
from orchestrator.records import journal_events, record_from_journal

LOST: dict[str, Any] = {
    "event": "ended",
    "status": "lost",
    "reason": "given up",
    "ended_at": "2026-11-23T08:00:00.000Z",
}


@pytest.mark.parametrize("order", [*permutations(["lost", "ended", "orphaned"])])
def test_the_end_that_the_supervisor_told_stands(order: tuple[str, ...]) -> None:
    record = finished(metrics=())
    created, started, ended = journal_events(record)
    events = {"lost": LOST, "ended": ended, "orphaned": {"event": "orphaned"}}
    told = record_from_journal(record.run_id, [created, started, *(events[name] for name in order)])
    assert told is not None
    assert (told.status, told.reason, told.exit_code) == ("finished", None, 0)
    assert told.outputs == record.outputs


def test_without_another_word_it_is_lost(tmp_path: Path) -> None:
    home, record = made_home(tmp_path), running()
    home.run(record.run_id).mkdir()
    journal.append(home.run(record.run_id) / "journal.jsonl", [*journal_events(record), LOST, {"event": "orphaned"}])
    connection = ledger.connect(home)
    ledger.index_run(home, connection, record.run_id)
    run = ledger.load_run(connection, record.run_id)
    assert (run["status"], run["reason"]) == ("lost", "given up")
    assert run["usage"] == dict.fromkeys(run["usage"])
    connection.close()
