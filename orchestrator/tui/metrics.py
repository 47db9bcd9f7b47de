"""What a live run logs, read from its journal as that grows: the ledger has it only at the end."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.fields import metric_from_json
from orchestrator.tui.snapshot import Series

_POINTS = 60
_MOST_BYTES = 1 << 20
"""Of a journal, at one look: of a long one the end is enough."""


@dataclass(slots=True)
class MetricTail:
    """How far a journal was read, in bytes; the last points of each metric; and the one that was logged last."""

    offset: int = 0
    points: dict[str, deque[float]] = field(default_factory=dict)
    last: str | None = None


def read_on(tail: MetricTail, journal: Path) -> Series | None:
    """The metric that was logged last, with what the journal says since the last call; None where there is none."""
    for line in _new_lines(tail, journal):
        try:
            event = json.loads(line)
            for point in event.get("metrics", ()):
                _add(tail, point)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # the journal's reader complains of it, when the run has ended
    return None if tail.last is None else Series(tail.last, tuple(tail.points[tail.last]))


def _add(tail: MetricTail, value: Mapping[str, Any]) -> None:
    point = metric_from_json(value)
    tail.points.setdefault(point.name, deque(maxlen=_POINTS)).append(point.value)
    tail.last = point.name


def _new_lines(tail: MetricTail, journal: Path) -> list[bytes]:
    try:
        with journal.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = max(tail.offset, size - _MOST_BYTES)
            file.seek(start)
            data = file.read(size - start)
    except OSError:
        return []
    whole = data[: data.rfind(b"\n") + 1]
    tail.offset = start + len(whole)
    return whole.splitlines()
