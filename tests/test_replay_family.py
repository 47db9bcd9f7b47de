"""Which run of a replay belongs to which of its original."""

from __future__ import annotations

from pathlib import Path

import pytest
from tui.made_runs import add, ended, id_at

from orchestrator.model import RunRecord
from orchestrator.paths import Home, open_home
from orchestrator.replay_family import Family, family_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return open_home()


def logged(home: Home, number: int, parent: int, name: str, **params: str) -> None:
    add(home, ended(number, pinned=None, exit_code=None, parent=id_at(parent), name=name, params=params))


def family(home: Home) -> Family:
    original, replayed = (add(home, ended(number)) for number in (1, 2))
    return family_of(original, replayed, home=home)


def pairs(found: Family) -> list[tuple[str, str, str]]:
    def digits(record: RunRecord) -> str:
        return next(str(number) for number in range(100) if id_at(number) == record.run_id)

    return [(pair.label, digits(pair.original), digits(pair.replayed)) for pair in found.pairs]


def test_parameters_tell_runs_apart_whose_names_are_invented_and_that_began_in_another_order(home: Home) -> None:
    logged(home, 11, 1, "calm-finch", depth="1")
    logged(home, 12, 1, "bold-crow", depth="2")
    logged(home, 21, 2, "shy-rook", depth="2")
    logged(home, 22, 2, "bold-crow", depth="1")
    assert pairs(family(home)) == [("calm-finch", "11", "22"), ("bold-crow", "12", "21")]


def test_names_tell_them_apart_where_parameters_are_random(home: Home) -> None:
    logged(home, 11, 1, "a", seed="0.1")
    logged(home, 12, 1, "b", seed="0.2")
    logged(home, 21, 2, "b", seed="0.3")
    logged(home, 22, 2, "a", seed="0.4")
    assert pairs(family(home)) == [("a", "11", "22"), ("b", "12", "21")]


def test_else_the_order_does_and_what_has_no_partner_is_told(home: Home) -> None:
    for number, parent in ((11, 1), (12, 1), (13, 1), (21, 2), (22, 2)):
        logged(home, number, parent, f"invented-{number}", seed=str(number))
    found = family(home)
    assert pairs(found) == [("invented-11", "11", "21"), ("invented-12", "12", "22")]
    assert (found.missing, found.new) == (("invented-13",), ())


def test_a_step_is_no_nested_run(home: Home) -> None:
    logged(home, 11, 1, "x")
    add(home, ended(21, parent=id_at(2), name="x", params={}))
    found = family(home)
    assert (pairs(found), found.missing, found.new) == ([], ("x",), ("x",))


def test_those_of_those_belong_to_it_too_and_have_labels_of_their_own(home: Home) -> None:
    for first, parent in ((10, 1), (20, 2)):
        logged(home, first, parent, "grid")
        for number in (1, 2):
            logged(home, first + number, first, "fit")
    assert pairs(family(home)) == [("grid", "10", "20"), ("grid/fit", "11", "21"), ("grid/fit 2", "12", "22")]


def test_what_was_logged_is_of_the_program_of_its_run(home: Home) -> None:
    logged(home, 11, 1, "x")
    logged(home, 21, 2, "x")
    (pair,) = family(home).pairs
    assert pair.original.spec == ended(1).spec
