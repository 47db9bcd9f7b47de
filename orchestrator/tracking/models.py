"""Logged models, datasets, and which of them a run used or made: `logged-models`, `runs/log-inputs`, `runs/outputs`."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.ledger.connection import telling
from orchestrator.model import Dataset, LoggedModel
from orchestrator.tracked import dataset_to_json, model_to_json, tracking_from_json
from orchestrator.tracking.asked import Asked, invalid, missing
from orchestrator.tracking.followed import Followed
from orchestrator.tracking.paging import page
from orchestrator.tracking.recorded import public_text, public_value, public_values
from orchestrator.tracking.shown import model_json, time_text
from orchestrator.tracking.tracker import (
    Tracker,
    active_experiment,
    alone_with,
    experiment_id_of,
    flush,
    new_run,
    run_of,
    run_to_log,
    run_to_write,
    tell_of,
)

if TYPE_CHECKING:
    from orchestrator.questions.grammar import Order

HISTORY = "mlflow.log-model.history"
_LONGEST_FOLDER, _LONGEST_DATASET, _LONGEST_DIGEST = 100, 500, 36
_NOT_IN_NAMES = "/:.%\"'"
_PLAIN = re.compile(r"[^\w\-. ]")
_STATES: dict[str, Literal["pending", "ready", "failed"]] = {
    "LOGGED_MODEL_PENDING": "pending",
    "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "failed",
}


def create(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST logged-models`. A model belongs to the run that makes it, and its files are outputs of that.

    Where no run makes it, it has one of its own, of its name, which is over at once.
    """
    experiment, identity = active_experiment(tracker, asked.text("experiment_id")), os.urandom(16).hex()
    name, kind = (public_value(field, asked.text(field, "")) for field in ("name", "model_type"))
    name = name or identity[:16]
    if not {*name}.isdisjoint(_NOT_IN_NAMES):
        raise invalid(f"Invalid model name {name!r}: it may contain none of {' '.join(_NOT_IN_NAMES)}")
    params, tags = public_values(asked.pairs("params")), public_values(asked.pairs("tags"))
    source = asked.text("source_run_id", "") or tracker.own
    now = time.time_ns() // 1_000_000
    if source is not None:
        run = run_to_log(tracker, source)
    else:
        run = new_run(tracker, started_at=time_text(now), name=name, experiment=experiment.name)
        tell_of(tracker, run, {"event": "ended", "status": "finished", "ended_at": time_text(now)})
    model = LoggedModel(
        model_id=f"m-{identity}",
        name=name,
        folder=_folder(run, name),
        created=now,
        updated=now,
        kind=kind,
        params=params,
        tags=tags,
    )
    tell_of(tracker, run, {"event": "model", "model": model_to_json(model)})
    return _answer(tracker, run, model)


def get(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET logged-models/<id>`."""
    return _answer(tracker, *find_model(tracker, asked.text("model_id")))


def finalize(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`PATCH logged-models/<id>`: whether it is ready."""
    state = _STATES.get(asked.text("status"))
    if state is None:
        raise invalid(f"Invalid model status: {asked.text('status')}. Expected one of {sorted(_STATES)}.")
    return _change(tracker, asked, lambda model: replace(model, state=state))


def set_tags(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`PATCH logged-models/<id>/tags`."""
    tags = public_values(asked.pairs("tags"))
    _change(tracker, asked, lambda model: replace(model, tags={**model.tags, **tags}))
    return {}


def delete_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`DELETE logged-models/<id>/tags/<key>`."""
    key = asked.text("key")

    def without(model: LoggedModel) -> LoggedModel:
        if key not in model.tags:
            raise missing(f"No tag with key {key!r} found for model with ID {model.model_id!r}.")
        return replace(model, tags={name: value for name, value in model.tags.items() if name != key})

    _change(tracker, asked, without)
    return {}


def log_params(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST logged-models/<id>/params`."""
    params = public_values(asked.pairs("params"))

    def with_params(model: LoggedModel) -> LoggedModel:
        for key, value in params.items():
            if model.params.get(key, value) != value:
                raise invalid(f"The parameter {key!r} of model {model.model_id} can't be changed.")
        return replace(model, params={**model.params, **params})

    _change(tracker, asked, with_params)
    return {}


def delete(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`DELETE logged-models/<id>`. Its files stay outputs of the run."""
    run, model = find_model(tracker, asked.text("model_id"))
    run = run_to_write(tracker, run.record.run_id)
    tell_of(tracker, run, {"event": "model gone", "model_id": model.model_id})
    return {}


def search(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST logged-models/search`."""
    from orchestrator.questions.grammar import parse_filter
    from orchestrator.questions.matching import in_order, matches
    from orchestrator.questions.vocabulary import MODELS

    wanted, conditions = asked.texts("experiment_ids"), parse_filter(asked.text("filter", ""), MODELS)
    if not asked.has("experiment_ids"):
        raise invalid("Missing value for required parameter 'experiment_ids'.")
    order = [_order(item) for item in asked.items("order_by")]
    connection = flush(tracker)
    query = (
        "SELECT run_id, experiment_id, tracking FROM runs WHERE run_id IN (SELECT run_id FROM models) "
        "AND experiment_id IN (SELECT value FROM json_each(?)) AND NOT deleted"
    )
    with telling(connection):
        rows = connection.execute(query, (json.dumps(wanted),)).fetchall()
    known = {run_id: (experiment, tracking_from_json(json.loads(told))) for run_id, experiment, told in rows}
    found = []
    for run_id, model in ((run_id, model) for run_id, (_, tracking) in known.items() for model in tracking.models):
        facts: dict[str, str | int | float | None] = {
            "name": model.name,
            "model_id": model.model_id,
            "model_type": model.kind,
            "status": model.state.upper(),
            "source_run_id": run_id,
            "creation_timestamp": model.created,
            "creation_time": model.created,
            "last_updated_timestamp": model.updated,
        }
        metrics = [(m.metric.name, m.metric.value) for m in model.measures]
        if all(matches(c, facts, tags=model.tags, params=model.params, metrics=metrics) for c in conditions):
            found.append((facts | {f"metrics.{name}": value for name, value in metrics}, (model, run_id)))
    found.sort(key=lambda pair: (-pair[1][0].created, pair[1][0].model_id))
    asked = Asked({**asked.values, "max_results": asked.int64("max_results", 0) or 100})
    shown, token = page(in_order(found, order), asked, most=50_000, usual=100)
    models = [model_json(model, run_id, known[run_id][0]) for _, (model, run_id) in shown]
    return {**({"models": models} if models else {}), **token}


def find_model(tracker: Tracker, model_id: str) -> tuple[Followed, LoggedModel]:
    """A model, and the run that made it. Raises ApiError when there is none of this id."""
    connection = flush(tracker)
    with telling(connection):
        row = connection.execute("SELECT run_id FROM models WHERE model_id = ?", (model_id,)).fetchone()
    if row is not None:
        run = run_of(tracker, row[0])
        for model in run.record.tracking.models:
            if model.model_id == model_id:
                return run, model
    raise missing(f"Logged model with ID '{model_id}' not found.")


def log_inputs(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/log-inputs`."""
    run = run_to_log(tracker, asked.run_id())
    events: list[dict[str, Any]] = []
    for item in asked.items("datasets"):
        told = _object(item, "dataset")
        dataset = Dataset(
            name=public_text(told.text("name")),
            digest=public_text(told.text("digest")),
            source_type=told.text("source_type"),
            source=public_text(told.text("source")),
            schema=public_text(told.text("schema", "")) or None,
            profile=public_text(told.text("profile", "")) or None,
            tags=public_values(item.pairs("tags")),
        )
        for value, most in ((dataset.name, _LONGEST_DATASET), (dataset.digest, _LONGEST_DIGEST)):
            if len(value) > most:
                raise invalid(f"A dataset's {value[:40]!r}... exceeds the maximum length of {most} characters.")
        events.append({"event": "dataset", "dataset": dataset_to_json(dataset)})
    if models := [item.text("model_id") for item in asked.items("models")]:
        events.append({"event": "models used", "models_in": models})
    if events:
        tell_of(tracker, run, *events)
    return {}


def log_outputs(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/outputs`: the models that a run calls its own."""
    run = run_to_log(tracker, asked.run_id())
    models = [[item.text("model_id"), item.int64("step", 0)] for item in asked.items("models")]
    if models:
        tell_of(tracker, run, {"event": "models used", "models_out": models})
    return {}


def log_model(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/log-model`, as MLflow 2 says it: what it tells of the model is kept in a tag."""
    run, told = run_to_log(tracker, asked.run_id()), asked.text("model_json")
    model = _json_of(told)
    if not isinstance(model, dict) or not {"artifact_path", "flavors", "utc_time_created", "run_id"} <= model.keys():
        raise invalid("Model json is missing mandatory fields: artifact_path, flavors, utc_time_created, run_id.")
    kept = public_text(told)
    if not kept:
        return {}
    model = _json_of(kept)
    with alone_with(run):
        history = _json_of(run.record.tags.get(HISTORY) or "[]")
        history = [*history, model] if isinstance(history, list) else [model]
        tell_of(tracker, run, {"event": "tags", "values": {HISTORY: json.dumps(history)}})
    return {}


def _object(item: Asked, name: str) -> Asked:
    value = item.values.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid value for parameter '{item.where}{name}' supplied: it is no object.")
    return Asked(value, f"{item.where}{name}.")


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise invalid(f"Malformed model info. \n {text[:200]} \n is not valid JSON.") from None


def _order(item: Asked) -> Order:
    """An order by a field; what stands behind `metrics.` is a metric's name as it is."""
    from orchestrator.questions.grammar import Order, parse_order_by
    from orchestrator.questions.vocabulary import MODELS

    name, ascending = item.text("field_name"), item.values.get("ascending") is not False
    if (metric := name.removeprefix("metrics.")) != name:
        return Order("metrics", metric, ascending, 0)
    (order,) = parse_order_by([name], MODELS)
    return replace(order, ascending=ascending)


def _folder(run: Followed, name: str) -> str:
    """Where the model's files are among the artifacts of its run: under its name, unless that is another's."""
    plain = _PLAIN.sub("_", name).strip(". ")[:_LONGEST_FOLDER] or "model"
    taken = {model.folder for model in run.record.tracking.models}
    taken |= {output.path.split("/")[1] for output in run.record.outputs if output.path.startswith("artifacts/")}
    candidates = (plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3)))
    return next(folder for folder in candidates if folder not in taken)


def _change(tracker: Tracker, asked: Asked, change: Callable[[LoggedModel], LoggedModel]) -> dict[str, Any]:
    run, found = find_model(tracker, asked.text("model_id"))
    run = run_to_write(tracker, run.record.run_id)
    with alone_with(run):
        model = next((m for m in run.record.tracking.models if m.model_id == found.model_id), found)
        model = replace(change(model), updated=time.time_ns() // 1_000_000)
        tell_of(tracker, run, {"event": "model", "model": model_to_json(model)})
    return _answer(tracker, run, model)


def _answer(tracker: Tracker, run: Followed, model: LoggedModel) -> dict[str, Any]:
    return {"model": model_json(model, run.record.run_id, experiment_id_of(tracker, run.record.run_id))}
