"""What was begun inside a run that has ended has ended too, also when nobody was left to say so."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from tui.made_runs import add, ended, id_at, live

from orchestrator import journal, ledger
from orchestrator.execute.rundir import RunDirectory
from orchestrator.model import RunRecord
from orchestrator.paths import Home, open_home
from orchestrator.sweep import sweep


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return open_home()


def logged(number: int, parent: int | None) -> RunRecord:
    return live(number, None, pinned=None, parent=None if parent is None else id_at(parent))


def begin_inside(home: Home, number: int, parent: int, inside: int) -> None:
    """A run that the program of another began to log."""
    path = RunDirectory(home.run(add(home, logged(number, parent)).run_id)).journal
    created, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps({**json.loads(created), "inside": id_at(inside)}) + "\n", *rest]))


def swept(home: Home) -> dict[str, str]:
    with closing(ledger.connect(home)) as connection:
        sweep(home, connection)
        return {row.run_id: row.status for row in ledger.find_runs(connection)}


def test_children_that_were_only_logged_end_with_their_run(home: Home) -> None:
    add(home, ended(1))
    for number, parent in ((2, 1), (3, 2), (4, 3)):
        begin_inside(home, number, parent, 1)
    assert swept(home) == {id_at(1): "finished"} | {id_at(number): "failed" for number in (2, 3, 4)}
    record = ledger.read_run(home, id_at(4))
    assert record is not None
    assert (record.status, record.reason) == ("failed", "its program ended first")


def test_what_is_logged_elsewhere_or_in_a_run_that_lives_goes_on(home: Home) -> None:
    add(home, live(1, None))
    for number, parent in ((2, 1), (3, None), (4, 3), (5, 9)):
        add(home, logged(number, parent))
    assert set(swept(home).values()) == {"running"}


def test_what_somebody_else_logs_for_a_run_that_has_ended_goes_on(home: Home) -> None:
    """As a notebook that evaluates what a finished run has trained, on a server of its own."""
    add(home, ended(1))
    add(home, logged(2, 1))
    assert swept(home) == {id_at(1): "finished", id_at(2): "running"}


def test_what_a_step_that_lives_logs_below_one_that_has_ended_goes_on(home: Home) -> None:
    add(home, live(1, None))
    add(home, ended(2, parent=id_at(1)))
    begin_inside(home, 3, 2, 1)
    assert swept(home)[id_at(3)] == "running"


def test_a_damaged_journal_keeps_nobody_from_looking_after_the_others(home: Home) -> None:
    for number in (1, 2):
        path = RunDirectory(home.run(add(home, live(number, None)).run_id)).journal
        journal.append(path, [{"event": "logged", "metrics": [{}] if number == 1 else [], "params": {"depth": "7"}}])
    assert set(swept(home).values()) == {"running"}
    with closing(ledger.connect(home)) as connection:
        assert ledger.load_run(connection, id_at(2))["params"]["depth"] == "7"
