"""Metric points that clients send: of a run, and of the models for which they were measured."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.connection import telling
from orchestrator.ledger.values import from_real, from_text
from orchestrator.model import Measure, Metric
from orchestrator.tracked import measured_event
from orchestrator.tracking.asked import ApiError, Asked, number
from orchestrator.tracking.followed import Followed
from orchestrator.tracking.models import find_model
from orchestrator.tracking.recorded import public_text
from orchestrator.tracking.tracker import Tracker, log_points, run_to_write, tell_of


@dataclass(frozen=True, slots=True)
class Point:
    """A point as it was sent. `of` is the run that made the model for which it was measured, if it was for one."""

    metric: Metric
    of: Followed | None = None
    model_id: str = ""
    dataset: str | None = None
    digest: str | None = None


def points_of(tracker: Tracker, run: Followed, asked: list[Asked]) -> list[Point]:
    """The points that are sent. Raises ApiError for what is none, and for a model that there is not or is another's."""
    points, makers = [], {model.model_id: run for model in run.record.tracking.models}
    for item in asked:
        metric = Metric(item.key(), item.double("value"), item.int64("step", 0), item.int64("timestamp"))
        model_id = item.text("model_id", "")
        if not model_id:
            points.append(Point(metric))
            continue
        if model_id not in makers:
            makers[model_id] = run_to_write(tracker, _maker(tracker, model_id))
        dataset, digest = (public_text(item.text(f"dataset_{field}", "")) or None for field in ("name", "digest"))
        points.append(Point(metric, makers[model_id], model_id, dataset, digest))
    return points


def _maker(tracker: Tracker, model_id: str) -> str:
    try:
        return find_model(tracker, model_id)[0].record.run_id
    except ApiError as error:
        raise ApiError("BAD_REQUEST", str(error)) from error


def log_metrics(tracker: Tracker, run: Followed, points: Sequence[Point]) -> None:
    """Record the points: those of the run in its journal, and those of a model in that of the run that made it."""
    known = _known(tracker, run, [point.metric for point in points if point.of is not None])
    log_points(tracker, run, [p.metric for p in points if p.of is None or _place(p.metric) not in known])
    measured: dict[str, tuple[Followed, list[dict[str, Any]]]] = {}
    for p in points:
        if p.of is not None:
            event = measured_event(p.model_id, Measure(p.metric, p.dataset, p.digest))
            measured.setdefault(p.of.record.run_id, (p.of, []))[1].append(event)
    for of, events in measured.values():
        tell_of(tracker, of, *events)


def _known(tracker: Tracker, run: Followed, points: Sequence[Metric]) -> set[_Place]:
    """Where the run has points like these: MLflow 3 sends those of a step again for a model that it logs."""
    if not points:
        return set()
    names = {point.name for point in points}
    known = {_place(point) for point in run.points if point.name in names}
    last = _stored(tracker, _LAST, run, names)
    newest = {place[0]: place[1:3] for place in last}
    # What comes behind the last one is new; only for the others all that there are need be looked at.
    older = [p for p in points if _place(p) not in last and (p.step, p.timestamp) <= newest.get(p.name, (-math.inf, 0))]
    return known | last | _stored(tracker, _OLDER, run, {p.name for p in older}, {p.step for p in older})


_Place = tuple[str, int, int, float | str]
_LAST = """
SELECT key, step, timestamp, value FROM latest_metrics
WHERE run_id = ? AND key IN (SELECT value FROM json_each(?))
"""
_OLDER = """
SELECT key, step, timestamp, value FROM metrics
WHERE run_id = ? AND key IN (SELECT value FROM json_each(?)) AND step IN (SELECT value FROM json_each(?))
"""


def _stored(tracker: Tracker, query: str, run: Followed, *wanted: Collection[str | int]) -> set[_Place]:
    with telling(tracker.connection):
        rows = tracker.connection.execute(query, (run.record.run_id, *(json.dumps([*some]) for some in wanted)))
        return {_place(Metric(str(from_text(key)), from_real(value), step, at)) for key, step, at, value in rows}


def _place(point: Metric) -> _Place:
    """What makes two points the same. An infinity comes back as clients are answered it."""
    return point.name, point.step, point.timestamp, number(point.value)
