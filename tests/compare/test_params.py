from __future__ import annotations

from made_records import finished

from orchestrator.compare import ParamVerdict, compare_params
from orchestrator.model import new_run_id
from orchestrator.paths import Home

GIVEN = {"alpha": "5.1", "l1_ratio": "0.1"}


def test_each_parameter_that_a_program_logged_has_a_verdict(home: Home) -> None:
    recorded = finished(params={**GIVEN, "depth": "7", "best": "a", "gone": "1"})
    replayed = finished(params={**GIVEN, "new": "1", "best": "b", "depth": "7"})
    assert compare_params(recorded, replayed, home=home) == (
        ParamVerdict("depth", "equal", "7", "7"),
        ParamVerdict("best", "different", "a", "b"),
        ParamVerdict("gone", "missing", "1", None),
        ParamVerdict("new", "new", None, "1"),
    )


def test_a_given_parameter_has_one_only_where_the_program_logged_another_value(home: Home) -> None:
    assert compare_params(finished(params=GIVEN), finished(params=GIVEN), home=home) == ()
    (verdict,) = compare_params(finished(params=GIVEN), finished(params={**GIVEN, "alpha": "6"}), home=home)
    assert verdict == ParamVerdict("alpha", "different", "5.1", "6")


def test_what_a_run_calls_itself_is_no_difference(home: Home) -> None:
    ids = new_run_id(), new_run_id()
    both = [finished(run_id=i, params={"id": f"run {i}", "data": f"{home.work / i}/in.csv"}) for i in ids]
    assert [(v.name, v.result, v.rules) for v in compare_params(both[0], both[1], home=home)] == [
        ("id", "equivalent", ("own-run-id-1",)),
        ("data", "equivalent", ("own-paths-1",)),
    ]
    (other,) = compare_params(finished(params={"x": ids[0]}), finished(params={"x": ids[0] + "1"}), home=home)
    assert other.result == "different"
