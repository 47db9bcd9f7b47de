"""What was begun inside a run that has ended has ended too, also when nobody was left to say so."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tui.made_runs import add, ended, id_at, live

from orchestrator import ledger
from orchestrator.model import RunRecord
from orchestrator.paths import Home, open_home
from orchestrator.sweep import sweep


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return open_home()


def logged(number: int, parent: int | None) -> RunRecord:
    return live(number, None, pinned=None, parent=None if parent is None else id_at(parent))


def swept(home: Home) -> dict[str, str]:
    with closing(ledger.connect(home)) as connection:
        sweep(home, connection)
        return {row.run_id: row.status for row in ledger.find_runs(connection)}


def test_children_that_were_only_logged_end_with_their_run(home: Home) -> None:
    add(home, ended(1))
    for number, parent in ((2, 1), (3, 2), (4, 3)):
        add(home, logged(number, parent))
    assert swept(home) == {id_at(1): "finished"} | {id_at(number): "failed" for number in (2, 3, 4)}
    record = ledger.read_run(home, id_at(4))
    assert record is not None
    assert (record.status, record.reason) == ("failed", "its program ended first")


def test_what_is_logged_elsewhere_or_in_a_run_that_lives_goes_on(home: Home) -> None:
    add(home, live(1, None))
    for number, parent in ((2, 1), (3, None), (4, 3), (5, 9)):
        add(home, logged(number, parent))
    assert set(swept(home).values()) == {"running"}
