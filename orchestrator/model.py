"""The data of orch: a RunSpec decides a result, a RunRecord tells what came of it. No actions here.

`*_to_json` and `*_from_json` give the JSON that is hashed, kept in run directories and printed by `--json`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from orchestrator.canonical import number_from_json, number_to_json, sha256_of
from orchestrator.errors import OrchError

SPEC_VERSION = 1
"""Version of the JSON form of a RunSpec. An unknown one is refused."""

Status = Literal["running", "finished", "failed", "stopped", "lost", "orphaned"]
"""`failed`: ended with another exit code than 0. `stopped`: by a person or a signal to orch. `lost`: its supervisor
died and so did the program. `orphaned`: its supervisor died, the program lives."""


def new_run_id() -> str:
    """32 lower-case hex digits, ordered by time: a UUID version 7 (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return f"{value:032x}"


# --- what decides the result ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule at the commit its parent records. `url` carries no credentials."""

    path: str
    commit: str
    url: str


@dataclass(frozen=True, slots=True)
class Source:
    """The code: a commit of a repository, and the directory in it that is the project.

    `url` is where orch took it from, without credentials (`file:///...` for a local path). `commit` and
    `tree` are full object ids; `tree` is the root tree of the commit, also when `subdir` is set.
    `subdir` is a POSIX path, "" for the root. `commit_time` is in seconds since the epoch.
    """

    url: str
    commit: str
    tree: str
    commit_time: int
    subdir: str = ""
    submodules: tuple[Submodule, ...] = ()
    revision: str | None = None
    """What the user called it (a branch, a tag); the record only."""
    origin: str | None = None
    """For a local path: the URL of its `origin` remote, without credentials; the record only."""
    dirty: bool = False
    """The commit is a snapshot of a work tree that differs from its HEAD, or of a folder without git."""


@dataclass(frozen=True, slots=True)
class EnvironmentRef:
    """The environment: a lock for one platform (conda's name of it, as `linux-64`).

    `paths` are directories of the checkout, relative to its root, that stand on the program's import path
    (`-e .` in a `pip:` section).
    """

    lock_id: str
    platform: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """Data that is not in git: placed at `path` (relative, POSIX) in the work directory before the program starts.

    `path` is relative to the project's directory, where the program starts. For a folder, `sha256` is that of
    the canonical JSON of its listing: a sorted list of `[path, sha256, size, executable]`. `origin` is where it
    was found; the record only.
    """

    name: str
    path: str
    sha256: str
    size: int
    kind: Literal["file", "folder"] = "file"
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that decides the result of a run, with no question left open.

    `command` is the shell template as the project wrote it, `{name}` for a parameter; `parameters` are the
    values as text, in the project's order; those named in `paths` are relative to the project's directory
    and are made absolute when the command is run. `variables` are set for the process (fixed, the
    environment file's own, and the user's). `secrets` are names of parameters and variables whose values
    are passed on but never recorded (the text here is then empty).
    """

    source: Source
    entry_point: str
    command: str
    parameters: Mapping[str, str]
    environment: EnvironmentRef
    paths: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


def spec_id(spec: RunSpec) -> str:
    """The identity of a spec: sha256 of its portable part."""
    return sha256_of(portable_spec(spec))


def portable_spec(spec: RunSpec) -> dict[str, Any]:
    """The JSON of what decides the result on any machine: URLs, revisions' names and original paths do not enter."""
    portable = spec_to_json(spec)
    source = portable["source"]
    portable["source"] = {
        "tree": source["tree"],
        "subdir": source["subdir"],
        "submodules": [{"path": s["path"], "commit": s["commit"]} for s in source["submodules"]],
    }
    portable["inputs"] = [{k: v for k, v in i.items() if k != "origin"} for i in portable["inputs"]]
    return portable


# --- what came of it --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Output:
    """A file that the run made.

    `path` is relative to the project's directory; a file made elsewhere in the checkout stands under
    `checkout/`, one put into `$ORCH_ARTIFACTS` under `artifacts/`. It is a portable path (`canonical`).
    `mode` holds the permission bits. A symbolic link is an output of its own: `link` is its target, and
    `sha256` and `size` are those of the target's text.
    """

    path: str
    sha256: str
    size: int
    mode: int = 0o644
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One point of a metric. `timestamp` is in milliseconds since the epoch, as in MLflow."""

    name: str
    value: float
    step: int = 0
    timestamp: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What the process tree used: seconds, and bytes (peak resident memory is sampled over the whole tree)."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that can't be mistaken for another one later.

    `start` is the start time in clock ticks since boot on Linux (field 22 of /proc/PID/stat), elsewhere
    seconds since the epoch.
    """

    machine: str
    boot: str
    pid: int
    start: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: its spec and what became of it. Times are RFC 3339 in UTC. `reason` says how an unusual end came."""

    run_id: str
    spec: RunSpec
    status: Status
    started_at: str
    ended_at: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    outputs: tuple[Output, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    """Every point, in the order logged."""
    tags: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    host: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the machine: hostname, os, kernel, cpu, cpus, memory, and the host variables that were passed on."""
    name: str | None = None
    experiment: str = "Default"
    replay_of: str | None = None
    parent: str | None = None
    supervisor: ProcessIdentity | None = None
    child: ProcessIdentity | None = None
    notes: tuple[str, ...] = ()
    """Sentences for people: what orch noticed (a drifted environment, an input written through a link, ...)."""

    @property
    def spec_id(self) -> str:
        """The identity of the record's spec."""
        return spec_id(self.spec)


def latest_metrics(record: RunRecord) -> dict[str, float]:
    """The last value of each metric (see `latest_metric_points`)."""
    return {metric.name: metric.value for metric in latest_metric_points(record.metrics)}


def latest_metric_points(points: Iterable[Metric]) -> list[Metric]:
    """The last point of each metric: highest step, then latest time, then last logged, as MLflow has it."""
    latest: dict[str, Metric] = {}
    for point in points:
        before = latest.get(point.name)
        if before is None or (point.step, point.timestamp) >= (before.step, before.timestamp):
            latest[point.name] = point
    return list(latest.values())


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
        },
        "paths": sorted(spec.paths),
        "inputs": [_slots(i) for i in spec.inputs],
        "variables": dict(spec.variables),
        "secrets": sorted(spec.secrets),
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
        environment["paths"] = tuple(environment.get("paths", ()))
        return RunSpec(
            source=Source(**source),
            entry_point=value["entry_point"],
            command=value["command"],
            parameters=dict(value["parameters"]),
            environment=EnvironmentRef(**environment),
            paths=tuple(value["paths"]),
            inputs=tuple(Input(**i) for i in value["inputs"]),
            variables=dict(value["variables"]),
            secrets=tuple(value["secrets"]),
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
        "spec": spec_to_json(record.spec),
        "spec_id": record.spec_id,
        "params": dict(record.params),
        "metrics": {name: number_to_json(value) for name, value in latest_metrics(record).items()},
        "tags": dict(record.tags),
        "outputs": [output_to_json(o) for o in record.outputs],
        "usage": _slots(record.usage),
        "host": dict(record.host),
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "replay_of": record.replay_of,
        "parent": record.parent,
        "notes": list(record.notes),
    }


def output_to_json(output: Output) -> dict[str, Any]:
    """The JSON object of an output; `link` only where it is one."""
    value = _slots(output)
    if output.link is None:
        del value["link"]
    return value


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


# --- the journal of a run ---------------------------------------------------------------------------------------


def record_from_journal(run_id: str, events: Sequence[Mapping[str, Any]]) -> RunRecord | None:
    """The record that a run's journal tells, or None while no spec has been resolved.

    Each event is an object with a key `event`: `created` (spec, started_at, name, experiment, params, tags, host,
    supervisor, replay_of, parent), `started` (child), `logged` (metrics, params, tags: what the program said),
    `tags` (values; null removes), `note` (text), `orphaned`, `ended` (status, exit_code, reason, ended_at,
    outputs, usage), `named` (name). Unknown events are passed over.
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


def _created(run_id: str, event: Mapping[str, Any]) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        spec=spec_from_json(event["spec"]),
        status="running",
        started_at=event["started_at"],
        params=dict(event.get("params", {})),
        tags=dict(event.get("tags", {})),
        host=dict(event.get("host", {})),
        name=event.get("name"),
        experiment=event.get("experiment", "Default"),
        replay_of=event.get("replay_of"),
        parent=event.get("parent"),
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
    return replace(
        record,
        status=status,
        exit_code=event.get("exit_code"),
        reason=event.get("reason"),
        ended_at=event.get("ended_at"),
        outputs=tuple(Output(**o) for o in event.get("outputs", ())),
        usage=Usage(**event.get("usage", {})),
    )


_STEPS = {
    "started": lambda r, e: replace(r, child=_identity(e.get("child"))),
    "logged": lambda r, e: _tagged(replace(r, params={**r.params, **e.get("params", {})}), e.get("tags", {})),
    "tags": lambda r, e: _tagged(r, e["values"]),
    "note": lambda r, e: replace(r, notes=(*r.notes, e["text"])),
    "orphaned": lambda r, _: replace(r, status="orphaned"),
    "named": lambda r, e: replace(r, name=e["name"]),
    "ended": _ended,
}


def _identity(value: Mapping[str, Any] | None) -> ProcessIdentity | None:
    return None if value is None else ProcessIdentity(**value)


def _slots(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
