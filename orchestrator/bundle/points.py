"""The points of a run's metrics in a bundle: a line each, in the order in which they were logged.

    ["rmse", 0.79, 3, 1700000000000]        name, value, step, milliseconds since the epoch

There may be millions, for which canonical JSON is too slow. The lines are as Python's json writes them, in ASCII.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from orchestrator.canonical import number_to_json
from orchestrator.errors import OrchError
from orchestrator.fields import metric_from_json
from orchestrator.model import Metric

MAX_BYTES = 1 << 30


def points_to_lines(points: Iterable[Metric]) -> bytes:
    """The lines. Raises ValueError for a name that is no Unicode."""
    return b"".join(map(_line, points))


def points_from_lines(data: bytes) -> tuple[Metric, ...]:
    """The points of lines that may be anybody's. Raises OrchError unless `points_to_lines` would have written them."""
    try:
        return tuple(_points(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise OrchError("the metrics of the bundle are damaged: they have a line that orch does not write.") from error


def _line(point: Metric) -> bytes:
    point.name.encode()
    row = [point.name, number_to_json(point.value), point.step, point.timestamp]
    return json.dumps(row, allow_nan=False).encode("ascii") + b"\n"


def _points(data: bytes) -> Iterator[Metric]:
    for line in data.splitlines(keepends=True):
        name, value, step, timestamp = json.loads(line)
        point = metric_from_json({"name": name, "value": value, "step": step, "timestamp": timestamp})
        if _line(point) != line:
            raise ValueError("not as orch writes it")
        yield point
