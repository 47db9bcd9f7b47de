"""`orch show`: what a program logged, and the runs that were started in one another."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tui.made_runs import add, ended, id_at

from orchestrator import ledger
from orchestrator.cli.show import show
from orchestrator.model import Dataset, LoggedModel, Tracking
from orchestrator.paths import Home, open_home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return open_home()


def add_family(home: Home) -> None:
    for number, parent in ((1, None), (2, 1), (3, 2), (4, 2), (5, 1), (6, None)):
        add(home, ended(number, name=f"run-{number}", parent=None if parent is None else id_at(parent)))


def tree_of(number: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show(id_at(number), as_json=False)
    _, _, section = capsys.readouterr().out.partition("\nruns that belong together\n")
    return [line.partition("finished")[0].rstrip() for line in section.partition("\n\n")[0].splitlines()[1:]]


def test_every_member_shows_the_whole_tree_and_itself_in_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    add_family(home)
    short = {number: id_at(number)[:16] for number in range(1, 6)}
    with closing(ledger.connect(home)) as connection:
        short = {number: ledger.short_id(connection, id_at(number)) for number in range(1, 6)}
    assert [line.split("  ")[0] for line in tree_of(4, capsys)] == [
        short[1],
        f"├ {short[2]}",
        f"│ ├ {short[3]}",
        f"│ └ {short[4]} *",
        f"└ {short[5]}",
    ]
    assert [line.split()[-1] for line in tree_of(1, capsys)] == ["run-1", "run-2", "run-3", "run-4", "run-5"]


def test_a_run_that_stands_for_itself_has_no_tree(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    add_family(home)
    assert tree_of(6, capsys) == []


def test_a_child_of_a_run_that_is_gone_stands_for_itself(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    add(home, ended(2, parent=id_at(1)))
    assert tree_of(2, capsys) == []


def test_a_run_that_says_it_is_its_own_grandparent_is_shown(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    add(home, ended(1, parent=id_at(2)))
    add(home, ended(2, parent=id_at(1)))
    assert tree_of(1, capsys)


def test_of_very_many_children_the_first_are_shown_and_the_others_counted(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    add(home, ended(1))
    for number in range(2, 122):
        add(home, ended(number, parent=id_at(1)))
    assert tree_of(1, capsys)[-1] == "... 21 more"


def test_datasets_and_models_that_the_program_logged_are_shown(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    data = Dataset("wine", "2ae0ee6a", "local", "{}", tags={"mlflow.data.context": "training"})
    model = LoggedModel("m-1", "lin", "lin", 1, 2, "ready")
    add(home, ended(1, tracking=Tracking(datasets=(data,), models=(model,))))
    show(id_at(1), as_json=False)
    told = capsys.readouterr().out
    assert "\ndatasets\n  wine  training  2ae0ee6a  local\n" in told
    assert "\nmodels\n  lin  ready  m-1\n" in told


def test_what_was_deleted_through_mlflow_says_so_and_a_nested_run_where_it_is_from(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    add(home, ended(1))
    add(home, ended(2, pinned=None, parent=id_at(1), tracking=Tracking(deleted=True)))
    show(id_at(2), as_json=False)
    told = capsys.readouterr().out
    assert "\ndeleted      through MLflow, which can restore it" in told
    assert "\nsource       that of the run it was logged in\n" in told
