"""The JSON of specs and records: what is hashed, kept in run directories, and printed by `--json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from orchestrator.canonical import number_to_json, sha256_of
from orchestrator.errors import OrchError
from orchestrator.fields import fields_to_json, metric_from_json, metric_to_json
from orchestrator.model import (
    EnvironmentRef,
    Input,
    Metric,
    Output,
    ProcessIdentity,
    RunRecord,
    RunSpec,
    Source,
    Status,
    Submodule,
    Tracking,
    Usage,
    latest_metrics,
)
from orchestrator.tracked import TRACKED_STEPS, tracking_to_json

SPEC_VERSION = 1
"""Version of the JSON form of a RunSpec. An unknown one is refused."""


def spec_id(spec: RunSpec) -> str:
    """The identity of a spec: sha256 of its portable part."""
    return sha256_of(portable_spec(spec))


def portable_spec(spec: RunSpec) -> dict[str, Any]:
    """The JSON of what decides the result on any machine.

    URLs, revisions' names, original paths and what the project calls the command do not enter.
    """
    portable = spec_to_json(spec)
    del portable["entry_point"]
    source = portable["source"]
    portable["source"] = {
        "tree": source["tree"],
        "subdir": source["subdir"],
        "submodules": [{"path": s["path"], "commit": s["commit"]} for s in source["submodules"]],
    }
    environment = portable["environment"]
    portable["environment"] = {key: environment[key] for key in ("lock_id", "platform", "paths")}
    if environment["link_scripts"]:
        portable["environment"]["link_scripts"] = environment["link_scripts"]
    portable["inputs"] = [{k: v for k, v in i.items() if k != "origin"} for i in portable["inputs"]]
    return portable


# --- their JSON -------------------------------------------------------------------------------------------------


def spec_to_json(spec: RunSpec) -> dict[str, Any]:
    """The JSON object of a spec, every key present."""
    source = spec.source
    return {
        "version": SPEC_VERSION,
        "source": {
            "url": source.url,
            "commit": source.commit,
            "tree": source.tree,
            "commit_time": source.commit_time,
            "subdir": source.subdir,
            "submodules": [{"path": s.path, "commit": s.commit, "url": s.url} for s in source.submodules],
            "revision": source.revision,
            "origin": source.origin,
            "dirty": source.dirty,
        },
        "entry_point": spec.entry_point,
        "command": spec.command,
        "parameters": dict(spec.parameters),
        "environment": {
            "lock_id": spec.environment.lock_id,
            "platform": spec.environment.platform,
            "paths": list(spec.environment.paths),
            "as_of": spec.environment.as_of,
            "others": dict(spec.environment.others),
            "link_scripts": list(spec.environment.link_scripts),
        },
        "paths": sorted(spec.paths),
        "inputs": [fields_to_json(i) for i in spec.inputs],
        "variables": dict(spec.variables),
        "stdin": spec.stdin,
        "secret_parameters": sorted(spec.secret_parameters),
        "secret_variables": sorted(spec.secret_variables),
    }


def spec_from_json(value: Mapping[str, Any]) -> RunSpec:
    """The inverse of `spec_to_json`. Raises OrchError for an unknown version or a missing key."""
    version = value.get("version")
    if version != SPEC_VERSION:
        raise OrchError(f"a RunSpec of version {version!r} can't be read; this orch knows version {SPEC_VERSION}.")
    try:
        source = dict(value["source"])
        source["submodules"] = tuple(Submodule(**s) for s in source["submodules"])
        environment = dict(value["environment"])
        for key in ("paths", "link_scripts"):
            environment[key] = tuple(environment.get(key, ()))
        return RunSpec(
            source=Source(**source),
            entry_point=value["entry_point"],
            command=value["command"],
            parameters=dict(value["parameters"]),
            environment=EnvironmentRef(**environment),
            paths=tuple(value["paths"]),
            inputs=tuple(Input(**i) for i in value["inputs"]),
            variables=dict(value["variables"]),
            stdin=value["stdin"],
            secret_parameters=tuple(value["secret_parameters"]),
            secret_variables=tuple(value["secret_variables"]),
        )
    except (KeyError, TypeError) as error:
        raise OrchError(f"a RunSpec is damaged: {error}.") from error


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """The JSON object that `orch show --json` prints. `metrics` holds each one's last value."""
    return {
        "run_id": record.run_id,
        "status": record.status,
        "exit_code": record.exit_code,
        "reason": record.reason,
        "name": record.name,
        "experiment": record.experiment,
        "spec": None if record.pinned is None else spec_to_json(record.pinned),
        "spec_id": None if record.pinned is None else spec_id(record.pinned),
        "params": dict(record.params),
        "metrics": {name: number_to_json(value) for name, value in latest_metrics(record).items()},
        "tags": dict(record.tags),
        "outputs": [output_to_json(o) for o in record.outputs],
        "usage": usage_to_json(record.usage),
        "host": dict(record.host),
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "replay_of": record.replay_of,
        "verdict": None if record.verdict is None else dict(record.verdict),
        "parent": record.parent,
        "bundle": record.bundle,
        "notes": list(record.notes),
        "tracking": tracking_to_json(record.tracking),
    }


def usage_to_json(usage: Usage) -> dict[str, float | None]:
    """The JSON object of what a run used; nulls where nobody measured it."""
    return fields_to_json(usage) if usage != Usage() else dict.fromkeys(Usage.__slots__)


def output_to_json(output: Output) -> dict[str, Any]:
    """The JSON object of an output; `link` only where it is one."""
    value = fields_to_json(output)
    if output.link is None:
        del value["link"]
    return value


# --- the journal of a run ---------------------------------------------------------------------------------------


def record_from_journal(run_id: str, events: Sequence[Mapping[str, Any]]) -> RunRecord | None:
    """The record that a run's journal tells, or None while no spec has been resolved.

    Each event is an object with a key `event`: `created` (spec, started_at, name, experiment, params, tags, host,
    supervisor, replay_of, parent, bundle), `started` (child), `logged` (metrics, params, tags: what the program said),
    `tags` (values; null removes), `note` (text), `orphaned`, `ended` (status, exit_code, reason, ended_at,
    outputs, usage), `verdict` (verdict), `named` (name). Of the tracking API: `output` (output), `moved` (experiment),
    `resumed`, `deleted` (deleted), `dataset` (dataset), `model` (model), `measured` (model_id, measure), `model gone`
    (model_id), `models used` (models_in, models_out). Unknown events are passed over.

    A run that was given up as `lost` may live after all, on a machine that could not be heard: the end that its own
    supervisor tells stands, whichever of the two was written first.
    """
    record: RunRecord | None = None
    metrics: list[Metric] = []
    for event in events:
        kind = event.get("event")
        if kind == "created":
            record, metrics = _created(run_id, event), []
        elif record is not None and kind in _STEPS:
            metrics.extend(metric_from_json(point) for point in event.get("metrics", ()))
            record = _STEPS[kind](record, event)
    return record and replace(record, metrics=tuple(metrics))


def record_after(record: RunRecord, event: Mapping[str, Any]) -> RunRecord:
    """The record, without the metric points of `event`, when that has been added to its journal."""
    step = _STEPS.get(str(event.get("event")))
    return record if step is None else step(record, event)


def journal_events(record: RunRecord) -> list[dict[str, Any]]:
    """The events that make `record` when `record_from_journal` reads them."""
    created = {
        "event": "created",
        "spec": None if record.pinned is None else spec_to_json(record.pinned),
        "started_at": record.started_at,
        "name": record.name,
        "experiment": record.experiment,
        "params": dict(record.params),
        "tags": dict(record.tags),
        "host": dict(record.host),
        "replay_of": record.replay_of,
        "parent": record.parent,
        "bundle": record.bundle,
        "supervisor": record.supervisor and fields_to_json(record.supervisor),
        "notes": list(record.notes),
    }
    events: list[dict[str, Any]] = [created]
    events.append({"event": "started", "child": record.child and fields_to_json(record.child)})
    if record.metrics:
        events += [{"event": "logged", "metrics": [metric_to_json(point) for point in record.metrics]}]
    if record.status != "running":
        ended = {
            "event": "ended",
            "status": record.status,
            "exit_code": record.exit_code,
            "reason": record.reason,
            "ended_at": record.ended_at,
            "outputs": [output_to_json(output) for output in record.outputs],
            "usage": fields_to_json(record.usage),
        }
        events.append(ended)
    if record.verdict is not None:
        events += [{"event": "verdict", "verdict": dict(record.verdict)}]
    if record.tracking != Tracking():
        events += [{"event": "tracking", "tracking": tracking_to_json(record.tracking)}]
    return events


def _created(run_id: str, event: Mapping[str, Any]) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        pinned=None if event["spec"] is None else spec_from_json(event["spec"]),
        status="running",
        started_at=event["started_at"],
        params=dict(event.get("params", {})),
        tags=dict(event.get("tags", {})),
        host=dict(event.get("host", {})),
        name=event.get("name"),
        experiment=event.get("experiment", "Default"),
        replay_of=event.get("replay_of"),
        parent=event.get("parent"),
        bundle=event.get("bundle"),
        supervisor=_identity(event.get("supervisor")),
        notes=tuple(event.get("notes", ())),
    )


def _tagged(record: RunRecord, values: Mapping[str, str | None]) -> RunRecord:
    tags = {**record.tags, **values}
    return replace(record, tags={name: value for name, value in tags.items() if value is not None})


def _ended(record: RunRecord, event: Mapping[str, Any]) -> RunRecord:
    status = event["status"]
    if status not in get_args(Status):
        raise OrchError(f"the journal of run {record.run_id} has an unknown status {status!r}.")
    if status == "lost" and record.status not in ("running", "orphaned"):
        return record
    return replace(
        record,
        status=status,
        exit_code=event.get("exit_code"),
        reason=event.get("reason"),
        ended_at=event.get("ended_at"),
        outputs=_added(record.outputs, [Output(**o) for o in event.get("outputs", ())]),
        usage=Usage(**event.get("usage", {})),
    )


def _added(outputs: Sequence[Output], more: Sequence[Output]) -> tuple[Output, ...]:
    """All of them; the later of two with one path stands where the earlier stood."""
    return tuple({output.path: output for output in (*outputs, *more)}.values())


_STEPS: dict[str, Callable[[RunRecord, Mapping[str, Any]], RunRecord]] = {
    "started": lambda r, e: replace(r, child=_identity(e.get("child"))),
    "logged": lambda r, e: _tagged(replace(r, params={**r.params, **e.get("params", {})}), e.get("tags", {})),
    "tags": lambda r, e: _tagged(r, e["values"]),
    "note": lambda r, e: replace(r, notes=(*r.notes, e["text"])),
    "orphaned": lambda r, _: replace(r, status="orphaned") if r.status == "running" else r,
    "verdict": lambda r, e: replace(r, verdict=e["verdict"]),
    "named": lambda r, e: replace(r, name=e["name"]),
    "ended": _ended,
    "output": lambda r, e: replace(r, outputs=_added(r.outputs, [Output(**e["output"])])),
    "moved": lambda r, e: replace(r, experiment=e["experiment"]),
    "resumed": lambda r, _: replace(r, status="running", ended_at=None, reason=None),
    **TRACKED_STEPS,
}


def _identity(value: Mapping[str, Any] | None) -> ProcessIdentity | None:
    return None if value is None else ProcessIdentity(**value)
