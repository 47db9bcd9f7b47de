"""The JSON of data whose fields are plain, and of metric points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.canonical import number_from_json, number_to_json
from orchestrator.model import Metric


def fields_to_json(value: Any) -> dict[str, Any]:
    """The JSON object of a slotted dataclass whose fields are plain: a Usage, a ProcessIdentity, an Input."""
    return {name: getattr(value, name) for name in value.__slots__}


def metric_to_json(point: Metric) -> dict[str, Any]:
    """The JSON object of a metric point."""
    return fields_to_json(point) | {"value": number_to_json(point.value)}


def metric_from_json(value: Mapping[str, Any]) -> Metric:
    """A metric point of a journal or an events file.

    Raises ValueError, KeyError or TypeError when it is none; `step` and `timestamp` are signed 64-bit numbers.
    """
    name, number = str(value["name"]), number_from_json(value["value"])
    return Metric(name, number, _int64(value.get("step", 0)), _int64(value.get("timestamp", 0)))


def _int64(value: Any) -> int:
    try:
        number = int(value)
    except OverflowError as error:  # of an infinity
        raise ValueError(f"not an integer: {value!r}") from error
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"no 64-bit integer: {value!r}")
    return number
