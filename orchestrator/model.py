"""The data of orch: a RunSpec decides a result, a RunRecord tells what came of it. No actions here; see `records`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.errors import OrchError

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
    as_of: str | None = None
    """Only packages that existed at this time (RFC 3339, UTC) were let in; the record only."""
    others: Mapping[str, str] = field(default_factory=dict)
    """The lock ids of the same environment for other platforms, by platform; the record only."""
    link_scripts: tuple[str, ...] = ()
    """The packages, sorted by name, whose post-link scripts were let run when it was installed."""


@dataclass(frozen=True, slots=True)
class Input:
    """Data that is not in git: placed at `path` (relative, POSIX) before the program starts.

    `path` is relative to the project's directory, where the program starts. For a folder, `sha256` is that of
    the canonical JSON of its listing: a sorted list of `[path, sha256, size, executable]`. `origin` is where it
    was found; the record only.
    """

    name: str
    path: str
    sha256: str
    size: int
    kind: Literal["file", "folder"] = "file"
    executable: bool = False
    """Of a file; a folder's listing has it for each."""
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that decides the result of a run, with no question left open.

    `command` is the shell template as the project wrote it, `{name}` for a parameter; `parameters` are the
    values as text, in the project's order; those named in `paths` are relative to the project's directory
    and are made absolute when the command is run. `variables` are set for the process (fixed, the
    environment file's own, and the user's). `stdin` is the path of the input that the program reads as its
    standard input. The values of `secret_parameters` and `secret_variables` are passed on but never recorded:
    their text here is empty.
    """

    source: Source
    entry_point: str
    command: str
    parameters: Mapping[str, str]
    environment: EnvironmentRef
    paths: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    stdin: str | None = None
    secret_parameters: tuple[str, ...] = ()
    secret_variables: tuple[str, ...] = ()


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
class Dataset:
    """Data that a program says it used. What it is, in the program's words: nothing here was looked at."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """What it was used for is `mlflow.data.context`."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The last point of a metric that was logged for a model, on a dataset if one was named."""

    metric: Metric
    dataset: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run logged, as MLflow 3 has it. Its files are outputs of the run, below `folder`.

    Times are in milliseconds since the epoch.
    """

    model_id: str
    name: str
    folder: str
    created: int
    updated: int
    state: Literal["pending", "ready", "failed"] = "pending"
    kind: str = ""
    """`model_type` in MLflow: what the program calls it, as "agent"; often nothing."""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True, slots=True)
class Tracking:
    """What a program told through the tracking API that has no other place in the record."""

    datasets: tuple[Dataset, ...] = ()
    models: tuple[LoggedModel, ...] = ()
    """Those that this run made."""
    models_in: tuple[str, ...] = ()
    """The ids of models that it used."""
    models_out: tuple[tuple[str, int], ...] = ()
    """The ids of models that it calls its own, with the step at which it had them."""
    deleted: bool = False
    """It was put away: lists leave it out. Nothing of it is gone."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the process tree used: seconds, and bytes (peak resident memory is sampled over the whole tree).

    Of a run that has not ended, or whose supervisor died before it, nobody measured it: all is 0.
    """

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
    """A run: its spec and what became of it. Times are RFC 3339 in UTC. `reason` says how an unusual end came.

    A run that was only logged, through the tracking API, has no spec: nobody knows what made its results.
    """

    run_id: str
    pinned: RunSpec | None
    """The spec, asked for by those who can do without; others ask for `spec`."""
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
    verdict: Mapping[str, Any] | None = None
    """Of a replay: what holding it against its original came to (see `replay.Verdict`)."""
    parent: str | None = None
    bundle: str | None = None
    """Of a run that was imported: the sha256 of its bundle's manifest. It was not made on this machine."""
    supervisor: ProcessIdentity | None = None
    child: ProcessIdentity | None = None
    notes: tuple[str, ...] = ()
    """Sentences for people: what orch noticed (a drifted environment, an input written through a link, ...)."""
    tracking: Tracking = field(default_factory=Tracking)

    @property
    def spec(self) -> RunSpec:
        """What was run. Raises OrchError of a run that was only logged."""
        if self.pinned is None:
            raise OrchError(
                f"run {self.run_id[:16]} was only logged, not run by orch: its commit, command and environment "
                "are not known, so it can't be replayed, bundled or compared as a run."
            )
        return self.pinned


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
