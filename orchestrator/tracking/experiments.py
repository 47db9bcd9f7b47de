"""Experiments: the calls below `experiments/`."""

from __future__ import annotations

from typing import Any

from orchestrator import ledger
from orchestrator.tracking.asked import ApiError, Asked, invalid, missing
from orchestrator.tracking.paging import page
from orchestrator.tracking.runs import put_away
from orchestrator.tracking.shown import experiment_json
from orchestrator.tracking.tracker import Tracker, experiment_of, flush

_LONGEST_NAME, _LONGEST_TAG = 500, 20_000
_VIEWS = {"ACTIVE_ONLY": {False}, "DELETED_ONLY": {True}, "ALL": {False, True}}


def create(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST experiments/create`. Where artifacts are kept is not for clients to say: that field is passed over."""
    name = _name(asked, "name")
    try:
        identity = ledger.create_experiment(tracker.home, flush(tracker), name, asked.pairs("tags"))
    except ledger.NameTakenError as error:
        raise ApiError("RESOURCE_ALREADY_EXISTS", f"Experiment(name={name}) already exists: {error}") from error
    tracker.chosen = identity
    return {"experiment_id": identity}


def get(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET experiments/get`."""
    found = experiment_of(tracker, asked.text("experiment_id"))
    tracker.chosen = found.experiment_id
    return {"experiment": experiment_json(found)}


def get_by_name(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET experiments/get-by-name`. One that was renamed is found by the name that it was made with, too: a program
    that makes what it does not find would be refused, since that name is taken.
    """
    name = asked.text("experiment_name")
    found = ledger.find_experiment(flush(tracker), name=name)
    if found is None:
        raise missing(f"Could not find experiment with name '{name}'")
    tracker.chosen = found.experiment_id
    return {"experiment": experiment_json(found)}


def update(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST experiments/update`: another name."""
    experiment = _to_write(tracker, asked)
    try:
        _change(tracker, experiment, name=_name(asked, "new_name"))
    except ledger.NameTakenError as error:
        raise ApiError("BAD_REQUEST", str(error)) from error
    return {}


def set_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST experiments/set-experiment-tag`."""
    experiment, key, value = _to_write(tracker, asked), asked.key(), asked.text("value", "")
    if len(value) > _LONGEST_TAG:
        raise invalid(f"The value of {key!r} exceeds the maximum length of {_LONGEST_TAG} characters.")
    _change(tracker, experiment, tags={key: value})
    return {}


def delete_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST experiments/delete-experiment-tag`."""
    experiment, key = _to_write(tracker, asked), asked.text("key")
    if key not in experiment.tags:
        raise missing(f"No tag with name: {key} in experiment with id {experiment.experiment_id}")
    _change(tracker, experiment, tags={key: None})
    return {}


def delete(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST experiments/delete`: it is put away, with its runs."""
    return _put_away(tracker, asked, deleted=True)


def restore(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST experiments/restore`."""
    return _put_away(tracker, asked, deleted=False)


def search(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST` and `GET experiments/search`."""
    from orchestrator.questions.grammar import parse_filter, parse_order_by
    from orchestrator.questions.matching import in_order, matches
    from orchestrator.questions.vocabulary import EXPERIMENTS

    view = asked.text("view_type", "ACTIVE_ONLY")
    if view not in _VIEWS:
        raise invalid(f"Invalid view type {view!r}.")
    conditions, order = (
        parse_filter(asked.text("filter", ""), EXPERIMENTS),
        parse_order_by(asked.texts("order_by"), EXPERIMENTS),
    )
    found = []
    for experiment in ledger.all_experiments(flush(tracker)):
        created, updated = experiment.created or 0, experiment.updated or experiment.created or 0
        facts: dict[str, str | int | float | None] = {
            "name": experiment.name,
            "experiment_id": experiment.experiment_id,
            "creation_time": created,
            "last_update_time": updated,
        }
        if experiment.deleted in _VIEWS[view] and all(matches(c, facts, tags=experiment.tags) for c in conditions):
            found.append((facts, experiment))
    direction = -1 if order else 1
    found.sort(key=lambda pair: (-(pair[1].created or 0), direction * int(pair[1].experiment_id)))
    ordered = in_order(found, order)
    shown, token = page(ordered, asked, most=50_000, usual=1_000)
    return {"experiments": [experiment_json(e) for _, e in shown], **token}


def _name(asked: Asked, field: str) -> str:
    name = asked.text(field)
    if len(name) > _LONGEST_NAME:
        raise invalid(f"'{field}' exceeds the maximum length of {_LONGEST_NAME} characters")
    return name


def _to_write(tracker: Tracker, asked: Asked) -> ledger.Experiment:
    experiment = experiment_of(tracker, asked.text("experiment_id"))
    if tracker.own is not None:
        raise ApiError("PERMISSION_DENIED", "A program that runs under orch does not change experiments.")
    return experiment


def _change(tracker: Tracker, experiment: ledger.Experiment, **change: Any) -> None:
    if experiment.deleted and "deleted" not in change:
        raise invalid(f"The experiment {experiment.experiment_id} must be in the 'active' state.")
    ledger.change_experiment(tracker.home, flush(tracker), experiment.experiment_id, change)


def _put_away(tracker: Tracker, asked: Asked, *, deleted: bool) -> dict[str, Any]:
    experiment = _to_write(tracker, asked)
    if experiment.deleted == deleted:
        raise missing(
            f"No Experiment with id={experiment.experiment_id} exists that is {'active' if deleted else 'deleted'}"
        )
    _change(tracker, experiment, deleted=deleted)
    for row in ledger.find_runs(flush(tracker), experiment=experiment.name):
        put_away(tracker, row.run_id, deleted=deleted)
    return {}
