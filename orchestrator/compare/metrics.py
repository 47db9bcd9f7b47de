"""Whether the metrics of a run came out again: every point, not only the last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

from orchestrator.compare.differences import near
from orchestrator.compare.rules import EXACT, Rules, Tolerance, declared_for_metric
from orchestrator.model import Metric, RunRecord, latest_metrics


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """What came of one metric. The values are the last ones; of one whose points are not all equal (be it within the
    tolerance), those of its first differing point.

    `step` is that point's step. `rules` are the names of the rules that were used.
    """

    name: str
    result: Literal["equal", "within tolerance", "ignored", "different", "missing", "new"]
    recorded: float | None = None
    replayed: float | None = None
    step: int | None = None
    rules: tuple[str, ...] = ()


SYSTEM_METRICS = "system-metrics-1"
"""MLflow samples the machine into metrics `system/...`: what they say is of the machine, and other each time."""


def compare_metrics(recorded: RunRecord, replayed: RunRecord, rules: Rules) -> tuple[MetricVerdict, ...]:
    """A verdict for each metric of either run, in the order of their first points; when they were logged is no matter.

    A metric that has other steps, or more points, is different.
    """
    before, after = _series(recorded), _series(replayed)
    last = latest_metrics(recorded), latest_metrics(replayed)
    verdicts = []
    for name in before | after:
        values = last[0].get(name), last[1].get(name)
        differing = _first_differing(before.get(name, []), after.get(name, []), EXACT)
        declared = declared_for_metric(name, rules)
        if differing is None:
            verdicts.append(MetricVerdict(name, "equal", *values))
        elif declared.ignores_all and declared.ignore_rule:
            verdicts.append(MetricVerdict(name, "ignored", *values, rules=(declared.ignore_rule,)))
        elif name.startswith("system/") and declared.tolerance_rule is None:
            verdicts.append(MetricVerdict(name, "ignored", *values, rules=(SYSTEM_METRICS,)))
        elif name not in before or name not in after:
            verdicts.append(MetricVerdict(name, "missing" if name in before else "new", *values))
        elif declared.tolerance_rule is None:
            verdicts.append(differing)
        else:
            beyond = _first_differing(before[name], after[name], declared.tolerance)
            within = replace(differing, result="within tolerance", rules=(declared.tolerance_rule,))
            verdicts.append(beyond or within)
    return tuple(verdicts)


def _series(record: RunRecord) -> dict[str, list[Metric]]:
    """The points of each metric by step, those of one step in the order logged."""
    series: dict[str, list[Metric]] = {}
    for point in record.metrics:
        series.setdefault(point.name, []).append(point)
    return {name: sorted(points, key=lambda point: point.step) for name, points in series.items()}


def _first_differing(one: list[Metric], other: list[Metric], tolerance: Tolerance) -> MetricVerdict | None:
    for a, b in zip_longest(one, other):
        if a is not None and b is not None and a.step == b.step:
            if not near(a.value, b.value, tolerance):
                return MetricVerdict(a.name, "different", a.value, b.value, a.step)
            continue
        if a is not None and (b is None or a.step < b.step):
            return MetricVerdict(a.name, "different", a.value, None, a.step)
        if b is not None:
            return MetricVerdict(b.name, "different", None, b.value, b.step)
    return None
