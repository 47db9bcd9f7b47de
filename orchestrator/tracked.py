"""What the tracking API adds to a record: its JSON, and what the events that tell of it change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.fields import fields_to_json
from orchestrator.model import Dataset, LoggedModel, Measure, Metric, RunRecord, Tracking, latest_metric_points

ENDED_FIRST = "its program ended first"
"""Why a run has ended that its program began to log, and never ended."""


def tracking_to_json(tracking: Tracking) -> dict[str, Any] | None:
    """The JSON object of what a program told through the tracking API; None where that is nothing."""
    if tracking == Tracking():
        return None
    return {
        "datasets": [dataset_to_json(dataset) for dataset in tracking.datasets],
        "models": [model_to_json(model) for model in tracking.models],
        "models_in": list(tracking.models_in),
        "models_out": [list(pair) for pair in tracking.models_out],
        "deleted": tracking.deleted,
    }


def tracking_from_json(value: Mapping[str, Any] | None) -> Tracking:
    """The inverse of `tracking_to_json`. Raises KeyError or TypeError where it is none."""
    if value is None:
        return Tracking()
    return Tracking(
        tuple(Dataset(**dataset) for dataset in value["datasets"]),
        tuple(model_from_json(model) for model in value["models"]),
        tuple(value["models_in"]),
        tuple((model_id, step) for model_id, step in value["models_out"]),
        value["deleted"],
    )


def dataset_to_json(dataset: Dataset) -> dict[str, Any]:
    """The JSON object of a dataset that a program named."""
    return fields_to_json(dataset) | {"tags": dict(dataset.tags)}


def model_to_json(model: LoggedModel) -> dict[str, Any]:
    """The JSON object of a logged model."""
    return fields_to_json(model) | {
        "params": dict(model.params),
        "tags": dict(model.tags),
        "measures": [measure_to_json(measure) for measure in model.measures],
    }


def model_from_json(value: Mapping[str, Any]) -> LoggedModel:
    """The inverse of `model_to_json`. Raises KeyError, TypeError or ValueError where it is none."""
    measures = tuple(measure_from_json(measure) for measure in value["measures"])
    return LoggedModel(**{**value, "measures": measures})


def measure_to_json(measure: Measure) -> dict[str, Any]:
    """The JSON object of a model's metric point. Its value is text: canonical JSON has not every double."""
    point = fields_to_json(measure.metric) | {"value": repr(measure.metric.value)}
    return point | {"dataset": measure.dataset, "digest": measure.digest}


def measure_from_json(value: Mapping[str, Any]) -> Measure:
    """The inverse of `measure_to_json`. Raises KeyError, TypeError or ValueError where it is none."""
    point = {name: value[name] for name in Metric.__slots__} | {"value": float(value["value"])}
    return Measure(Metric(**point), value["dataset"], value["digest"])


def measured_event(model_id: str, measure: Measure) -> dict[str, Any]:
    """The event that a metric was logged for a model."""
    return {"event": "measured", "model_id": model_id, "measure": measure_to_json(measure)}


# --- the events of a journal -----------------------------------------------------------------------------------------


def _tracked(record: RunRecord, **changes: Any) -> RunRecord:
    return replace(record, tracking=replace(record.tracking, **changes))


def _dataset(record: RunRecord, event: Mapping[str, Any]) -> RunRecord:
    dataset = Dataset(**event["dataset"])
    if any((dataset.name, dataset.digest) == (known.name, known.digest) for known in record.tracking.datasets):
        return record
    return _tracked(record, datasets=(*record.tracking.datasets, dataset))


def _model(record: RunRecord, event: Mapping[str, Any]) -> RunRecord:
    model = model_from_json(event["model"])
    return _tracked(record, models=tuple({**_models(record), model.model_id: model}.values()))


def _models(record: RunRecord) -> dict[str, LoggedModel]:
    return {model.model_id: model for model in record.tracking.models}


def _measured(record: RunRecord, event: Mapping[str, Any]) -> RunRecord:
    models, found = _models(record), measure_from_json(event["measure"])
    model = models.get(event["model_id"])
    if model is None:
        return record
    latest = {(m.metric.name, m.dataset, m.digest): m for m in model.measures}
    key = (found.metric.name, found.dataset, found.digest)
    before = latest.get(key)
    if before and latest_metric_points([before.metric, found.metric]) != [found.metric]:
        return record
    models[model.model_id] = replace(model, measures=tuple({**latest, key: found}.values()))
    return _tracked(record, models=tuple(models.values()))


def _model_gone(record: RunRecord, event: Mapping[str, Any]) -> RunRecord:
    return _tracked(record, models=tuple(m for m in record.tracking.models if m.model_id != event["model_id"]))


def _models_used(record: RunRecord, event: Mapping[str, Any]) -> RunRecord:
    models_in = dict.fromkeys((*record.tracking.models_in, *event.get("models_in", ())))
    models_out = dict(record.tracking.models_out) | dict(event.get("models_out", ()))
    return _tracked(record, models_in=tuple(models_in), models_out=tuple(models_out.items()))


TRACKED_STEPS: dict[str, Callable[[RunRecord, Mapping[str, Any]], RunRecord]] = {
    "deleted": lambda record, event: _tracked(record, deleted=event["deleted"]),
    "dataset": _dataset,
    "model": _model,
    "measured": _measured,
    "model gone": _model_gone,
    "models used": _models_used,
    "tracking": lambda record, event: replace(record, tracking=tracking_from_json(event["tracking"])),
}
"""What each event changes; see `records.record_from_journal`."""
