from __future__ import annotations

import math

import pytest
from made_records import finished

from orchestrator.compare import MetricRule, MetricVerdict, Rules, Tolerance, compare_metrics
from orchestrator.model import Metric, RunRecord


def run(*points: tuple[str, float, int], late: int = 0) -> RunRecord:
    return finished(metrics=tuple(Metric(name, value, step, late + n) for n, (name, value, step) in enumerate(points)))


def test_every_metric_of_both_runs_has_a_verdict() -> None:
    recorded = run(("rmse", 0.5, 0), ("gone", 1, 0), ("mae", 0.25, 0), ("nan", math.nan, 0))
    replayed = run(("nan", math.nan, 0), ("rmse", 0.5, 0), ("mae", 0.3, 0), ("new", 2, 0), late=10**6)
    assert [(v.name, v.result, v.recorded, v.replayed, v.step) for v in compare_metrics(recorded, replayed, Rules())][
        :3
    ] == [
        ("rmse", "equal", 0.5, 0.5, None),
        ("gone", "missing", 1, None, None),
        ("mae", "different", 0.25, 0.3, 0),
    ]
    rest = compare_metrics(recorded, replayed, Rules())[3:]
    assert [(v.name, v.result) for v in rest] == [("nan", "equal"), ("new", "new")]


@pytest.mark.parametrize(
    ("recorded", "replayed", "result"),
    [
        (100.0, 100.0, "equal"),
        (100.0, 101.0, "within tolerance"),
        (100.0, 101.1, "different"),
        (0.0, 1e-9, "different"),
        (math.inf, math.inf, "equal"),
        (math.inf, -math.inf, "different"),
        (1e308, math.inf, "different"),
        (math.nan, 1.0, "different"),
        (1.0, math.nan, "different"),
        (-1e308, 1e308, "different"),
    ],
)
def test_a_tolerance_is_relative_to_the_recorded_value(recorded: float, replayed: float, result: str) -> None:
    rules = Rules(everything=Tolerance(relative=0.01))
    (verdict,) = compare_metrics(run(("m", recorded, 0)), run(("m", replayed, 0)), rules)
    assert verdict.result == result


def test_all_points_count_not_only_the_last() -> None:
    recorded = run(("loss", 0.5, 1), ("loss", 0.25, 2), ("loss", 0.1, 3))
    other = run(("loss", 0.5, 1), ("loss", 0.3, 2), ("loss", 0.1, 3))
    assert compare_metrics(recorded, other, Rules()) == (MetricVerdict("loss", "different", 0.25, 0.3, 2),)
    near = compare_metrics(recorded, other, Rules(everything=Tolerance(absolute=0.1)))
    assert near == (MetricVerdict("loss", "within tolerance", 0.25, 0.3, 2, ("tolerance abs=0.1",)),)
    mixed = run(("loss", 0.1, 3), ("loss", 0.5, 1), ("loss", 0.25, 2))
    assert compare_metrics(recorded, mixed, Rules())[0].result == "equal"


def test_another_number_of_points_differs() -> None:
    recorded = run(("loss", 0.5, 1), ("loss", 0.25, 2), ("loss", 0.1, 3))
    rules = Rules(everything=Tolerance(9.0))
    less = run(("loss", 0.5, 1), ("loss", 0.1, 3))
    assert compare_metrics(recorded, less, rules) == (MetricVerdict("loss", "different", 0.25, None, 2),)
    assert compare_metrics(less, recorded, rules) == (MetricVerdict("loss", "different", None, 0.25, 2),)
    more = run(("loss", 0.5, 1), ("loss", 0.25, 2), ("loss", 0.1, 3), ("loss", 0.1, 4))
    assert compare_metrics(recorded, more, rules) == (MetricVerdict("loss", "different", None, 0.1, 4),)


def test_a_metric_that_is_ignored_is_so_when_it_is_missing_or_new_too() -> None:
    rules = Rules(metrics=(MetricRule("*seconds"), MetricRule("mae", Tolerance(1.0))))
    recorded = run(("seconds", 1.5, 0), ("mae", 0.5, 0), ("rmse", 0.5, 0), ("idle_seconds", 1, 0))
    replayed = run(("seconds", 9.5, 0), ("seconds", 9.5, 1), ("mae", 0.6, 0), ("rmse", 0.6, 0), ("wait_seconds", 2, 0))
    assert [(v.name, v.result, v.rules) for v in compare_metrics(recorded, replayed, rules)] == [
        ("seconds", "ignored", ("*seconds: ignore",)),
        ("mae", "within tolerance", ("mae: tolerance rel=1.0",)),
        ("rmse", "different", ()),
        ("idle_seconds", "ignored", ("*seconds: ignore",)),
        ("wait_seconds", "ignored", ("*seconds: ignore",)),
    ]
    assert compare_metrics(recorded, recorded, rules)[0].result == "equal"


def test_what_mlflow_samples_of_the_machine_is_ignored_unless_a_rule_says_how_near_it_must_be() -> None:
    recorded, replayed = run(("system/cpu", 10, 0), ("rmse", 1, 0)), run(("system/cpu", 90, 0), ("rmse", 1, 0))
    first, second = compare_metrics(recorded, replayed, Rules())
    assert (first.result, first.rules, second.result) == ("ignored", ("system-metrics-1",), "equal")
    rules = Rules(metrics=(MetricRule("system/*", Tolerance(relative=0.1)),))
    assert compare_metrics(recorded, replayed, rules)[0].result == "different"
