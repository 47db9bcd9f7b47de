"""Runs: the calls below `runs/`, and the history of a metric."""

from __future__ import annotations

from typing import Any, Literal

from orchestrator import ledger
from orchestrator.execute.rundir import now_text
from orchestrator.ledger.connection import telling
from orchestrator.ledger.values import from_real, to_text
from orchestrator.model import Status
from orchestrator.sweep import begun_in
from orchestrator.tracked import ENDED_FIRST
from orchestrator.tracking.asked import ApiError, Asked, invalid, missing, number
from orchestrator.tracking.followed import Followed
from orchestrator.tracking.paging import size, start, token
from orchestrator.tracking.points import log_metrics, points_of
from orchestrator.tracking.recorded import public_value, public_values
from orchestrator.tracking.shown import PARENT, RUN_NAME, milliseconds, runs_json, time_text
from orchestrator.tracking.tracker import (
    Told,
    Tracker,
    active_experiment,
    alone_with,
    check_own,
    flush,
    new_run,
    run_of,
    run_to_log,
    run_to_write,
    tell_of,
)

_MOST = {"metrics": 1000, "params": 100, "tags": 100}
_MOST_IN_ALL = 1000
_ENDS: dict[str, Status] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped"}
_VIEWS: dict[str, Literal["active", "deleted", "all"]] = {
    "ACTIVE_ONLY": "active",
    "DELETED_ONLY": "deleted",
    "ALL": "all",
}


def create(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/create`: a run that is only logged. Inside a run it is a child of that one."""
    experiment = active_experiment(tracker, asked.text("experiment_id", "0"))
    told = asked.pairs("tags")
    if len(told) != len(asked.items("tags")):
        raise ApiError("BAD_REQUEST", "A tag is there twice.")
    tags = public_values(told)
    name, user = (public_value(field, asked.text(field, "")) for field in ("run_name", "user_id"))
    named, parent = tags.pop(RUN_NAME, ""), tags.pop(PARENT, None) or tracker.own
    if name and named and name != named:
        raise invalid(f"Both 'run_name' and the tag '{RUN_NAME}' are there, and differ: {name!r} and {named!r}.")
    if parent is not None:
        parent = run_of(tracker, parent).record.run_id
        check_own(tracker, run_of(tracker, parent))
    run = new_run(
        tracker,
        started_at=_time(asked, "start_time") or now_text(),
        name=name or named or None,
        experiment=experiment.name,
        tags=tags,
        parent=parent,
        host={"variables": {"USER": user}} if user else {},
    )
    return {"run": _shown(tracker, run.record.run_id)}


def get(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET runs/get`."""
    run = run_of(tracker, asked.run_id())
    shown = _shown(tracker, run.record.run_id)
    if run.record.run_id == tracker.own and tracker.told is None and tracker.chosen is not None:
        # MLflow's client does not go on with a run of another experiment than the one that its program has set.
        chosen = ledger.find_experiment(tracker.connection, identity=tracker.chosen)
        if chosen is not None:
            shown["info"]["experiment_id"] = chosen.experiment_id
    return {"run": shown}


def update(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/update`: status, end and name. Of the own run its supervisor alone knows the end."""
    run = run_to_write(tracker, asked.run_id())
    status, end = asked.text("status", ""), _time(asked, "end_time")
    if status not in ("", "RUNNING", "SCHEDULED", *_ENDS):
        raise invalid(f"Invalid value {status!r} for parameter 'status' supplied.")
    name = public_value("run_name", asked.text("run_name", ""))
    supervised = run.record.pinned is not None
    if name and name != run.record.name and (not supervised or tracker.may_name):
        tell_of(tracker, run, {"event": "named", "name": name})
    if supervised:
        _tell_of_own(tracker, run, status, end)
    elif status in _ENDS:
        ended = {"event": "ended", "status": _ENDS[status], "ended_at": end or now_text()}
        tell_of(tracker, run, ended, sync=True)
    elif status and run.record.status != "running":
        tell_of(tracker, run, {"event": "resumed"})
    return {"run_info": _shown(tracker, run.record.run_id)["info"]}


def delete(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/delete`: it is put away."""
    put_away(tracker, asked.run_id(), deleted=True)
    return {}


def restore(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/restore`."""
    put_away(tracker, asked.run_id(), deleted=False)
    return {}


def put_away(tracker: Tracker, run_id: str, *, deleted: bool) -> None:
    """Let lists leave a run out, or no more."""
    run = run_of(tracker, run_id)
    check_own(tracker, run)
    if run.record.tracking.deleted != deleted:
        tell_of(tracker, run, {"event": "deleted", "deleted": deleted})


def log_metric(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/log-metric`."""
    run = run_to_log(tracker, asked.run_id())
    log_metrics(tracker, run, points_of(tracker, run, [asked]))
    return {}


def log_parameter(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/log-parameter`."""
    run = run_to_log(tracker, asked.run_id())
    _log_texts(tracker, run, {asked.key(): asked.text("value", "")}, {})
    return {}


def set_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/set-tag`."""
    run = run_to_write(tracker, asked.run_id())
    _log_texts(tracker, run, {}, {asked.key(): asked.text("value", "")})
    return {}


def delete_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/delete-tag`."""
    run, key = run_to_write(tracker, asked.run_id()), asked.text("key")
    if key == RUN_NAME:
        return {}  # a run has a name
    if key not in run.record.tags:
        raise missing(f"No tag with name: {key} in run with id {run.record.run_id}")
    tell_of(tracker, run, {"event": "tags", "values": {key: None}})
    return {}


def log_batch(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/log-batch`. All of it is looked at before any of it is taken."""
    items = {name: asked.items(name) for name in _MOST}
    run = (run_to_log if items["metrics"] or items["params"] else run_to_write)(tracker, asked.run_id())
    for name, most in _MOST.items():
        if len(items[name]) > most:
            raise invalid(f"A batch logging request can contain at most {most} {name}. Got {len(items[name])} {name}.")
    if sum(map(len, items.values())) > _MOST_IN_ALL:
        raise invalid(f"A batch logging request can contain at most {_MOST_IN_ALL} metrics, params, and tags.")
    params: dict[str, str] = {}
    for item in items["params"]:
        if (key := item.key()) in params:
            raise invalid(f"Duplicate parameter keys have been submitted: {[key]}.")
        params[key] = item.text("value", "")
    tags = asked.pairs("tags")
    points = points_of(tracker, run, items["metrics"])
    _log_texts(tracker, run, params, tags)
    log_metrics(tracker, run, points)
    return {}


def metric_history(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET metrics/get-history`: every point of a metric, each once."""
    run, key = run_of(tracker, asked.run_id()), asked.text("metric_key")
    offset = start(asked)
    count = size(asked, most=25_000, usual=25_000) if asked.has("max_results") else None
    query = (
        "SELECT DISTINCT timestamp, step, value FROM metrics WHERE run_id = ? AND key = ? "
        "ORDER BY timestamp, step, value LIMIT ? OFFSET ?"
    )
    connection = flush(tracker)
    with telling(connection):
        wanted = (run.record.run_id, to_text(key), -1 if count is None else count + 1, offset)
        rows = connection.execute(query, wanted).fetchall()
    points = [
        {"key": key, "value": number(from_real(value)), "timestamp": timestamp, "step": step}
        for timestamp, step, value in rows[:count]
    ]
    more = token(offset + count) if count is not None and len(rows) > count else {}
    return {**({"metrics": points} if points else {}), **more}


def search(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST runs/search`."""
    from orchestrator.questions.grammar import parse_filter, parse_order_by
    from orchestrator.questions.search import search_runs

    view = asked.text("run_view_type", "ACTIVE_ONLY")
    if view not in _VIEWS:
        raise invalid(f"Invalid view type {view!r}.")
    offset, count = start(asked), size(asked, most=50_000, usual=1_000)
    experiments = asked.texts("experiment_ids")
    for identity in experiments:
        if not identity.isdecimal():
            raise invalid(f"Invalid experiment ID: {identity!r}.")
    connection = flush(tracker)
    found = search_runs(
        connection,
        experiment_ids=experiments,
        comparisons=parse_filter(asked.text("filter", "")),
        order=parse_order_by(asked.texts("order_by")),
        view=_VIEWS[view],
        limit=count + 1,
        offset=offset,
    )
    shown = runs_json(connection, found[:count], told=_told(tracker))
    return {**({"runs": shown} if shown else {}), **(token(offset + count) if len(found) > count else {})}


def end_left(tracker: Tracker) -> None:
    """When the program of the own run has ended: what it began to log and did not end, nobody will."""
    query = (
        "WITH RECURSIVE below (id) AS (SELECT ? UNION SELECT run_id FROM runs JOIN below ON parent = id) "
        "SELECT run_id FROM runs JOIN below ON run_id = id WHERE spec_id IS NULL AND status = 'running'"
    )
    for (run_id,) in flush(tracker).execute(query, (tracker.own,)).fetchall():
        if begun_in(tracker.home, run_id) is None:
            continue  # somebody else logs it, and may go on
        ended = {"event": "ended", "status": "failed", "reason": ENDED_FIRST, "ended_at": now_text()}
        tell_of(tracker, run_of(tracker, run_id), ended, sync=True)
    if tracker.told is not None and tracker.told.status in ("FAILED", "KILLED"):
        text = f"the program told MLflow that the run is {tracker.told.status}."
        tell_of(tracker, run_of(tracker, str(tracker.own)), {"event": "note", "text": text})


# --- what the calls share ---------------------------------------------------------------------------------------


def _shown(tracker: Tracker, run_id: str) -> dict[str, Any]:
    return runs_json(flush(tracker), [run_id], told=_told(tracker))[0]


def _told(tracker: Tracker) -> dict[str, Told]:
    return {tracker.own: tracker.told} if tracker.own is not None and tracker.told is not None else {}


def _tell_of_own(tracker: Tracker, run: Followed, status: str, end: str | None) -> None:
    if run.record.run_id != tracker.own or not status:
        return
    if tracker.told is None and tracker.may_move and tracker.chosen is not None:
        chosen = ledger.find_experiment(flush(tracker), identity=tracker.chosen)
        if chosen is not None and chosen.name != run.record.experiment:
            tell_of(tracker, run, {"event": "moved", "experiment": chosen.name})
    tracker.told = Told(status, None if end is None or status not in _ENDS else milliseconds(end))


def _log_texts(tracker: Tracker, run: Followed, params: dict[str, str], tags: dict[str, str]) -> None:
    """Record parameters, which never change, and tags."""
    params, tags = public_values(params), public_values(tags)
    named, parent = tags.pop(RUN_NAME, None), tags.pop(PARENT, None)
    if parent is not None and parent != run.record.parent:
        raise invalid(f"The parent of run {run.record.run_id} can't be changed.")
    with alone_with(run):
        for key, value in params.items():
            if run.logged.get(key, value) != value:
                raise invalid(
                    f"Changing param values is not allowed. Param with key={key!r} was already logged with value="
                    f"{run.logged[key]!r} for run ID={run.record.run_id!r}. Attempted logging new value {value!r}."
                )
        new = {key: value for key, value in params.items() if key not in run.logged}
        if new or tags:
            tell_of(tracker, run, {"event": "logged", "params": new, "tags": tags})
    if named and named != run.record.name and (run.record.pinned is None or tracker.may_name):
        tell_of(tracker, run, {"event": "named", "name": named})


def _time(asked: Asked, name: str) -> str | None:
    if not asked.has(name):
        return None
    try:
        return time_text(asked.int64(name))
    except ValueError:
        raise invalid(f"Invalid value for parameter '{name}' supplied: it is no time.") from None
