"""One HTTP call of a sequence, as data. Texts may hold `{name}`: what an earlier call kept, or `{salt}`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

START = 1_700_000_000_000
"""A time in milliseconds that is no time of a test."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what of its answer later calls need.

    `keep` maps a name to a place in the JSON of the answer (`run.info.run_id`, `models.0.info.model_id`). `body` is
    JSON, or bytes as they are; `chunked` sends them without a length. `only` is the one generation of MLflow whose
    answer counts, where the other knows no such call or answers another way; `unlike` says why orch answers otherwise
    than both, and the answers are not compared.
    """

    method: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    keep: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    only: str | None = None
    unlike: str = ""


def get(path: str, /, keep: dict[str, str] | None = None, **query: Any) -> Call:
    return Call("GET", path, query=query, keep=keep or {})


def post(path: str, body: Any = None, keep: dict[str, str] | None = None) -> Call:
    return Call("POST", path, body={} if body is None else body, keep=keep or {})


def patch(path: str, body: Any) -> Call:
    return Call("PATCH", path, body=body)


def delete(path: str, body: Any = None) -> Call:
    return Call("DELETE", path, body=body)


def put(path: str, content: bytes, *, chunked: bool = False) -> Call:
    """An upload below the artifacts of the run kept as `run`; `path` is as it stands in a URL."""
    return Call("PUT", f"{ARTIFACTS}/{{exp}}/{{run}}/artifacts/{path}", body=content, chunked=chunked)


def fetch(path: str) -> Call:
    """A download of what `put` uploads."""
    return Call("GET", f"{ARTIFACTS}/{{exp}}/{{run}}/artifacts/{path}")


def listed(path: str = "") -> Call:
    """The list of a folder of the run's artifacts; `path` begins with a slash, or is empty."""
    return Call("GET", ARTIFACTS, query={"path": f"{{exp}}/{{run}}/artifacts{path}"})


def only(generation: str, *calls: Call) -> list[Call]:
    """These calls, compared with that generation alone."""
    return [replace(call, only=generation) for call in calls]


def unlike(reason: str, *calls: Call) -> list[Call]:
    """These calls, made and not compared."""
    return [replace(call, unlike=reason) for call in calls]


def experiment(name: str = "main", keep: str = "exp") -> Call:
    return post("experiments/create", {"name": f"{name}-{{salt}}"}, keep={keep: "experiment_id"})


def run(keep: str = "run", experiment: str = "{exp}", **fields: Any) -> Call:
    """A new run that began at START."""
    body = {"experiment_id": experiment, "user_id": "ada", "start_time": START, **fields}
    return post("runs/create", body, keep={keep: "run.info.run_id"})


def metric(key: Any, value: Any, timestamp: Any = START, step: Any = 0, run: str = "{run}") -> Call:
    return post("runs/log-metric", {"run_id": run, "key": key, "value": value, "timestamp": timestamp, "step": step})


def param(key: Any, value: Any, run: str = "{run}") -> Call:
    return post("runs/log-parameter", {"run_id": run, "key": key, "value": value})


def tag(key: Any, value: Any, run: str = "{run}") -> Call:
    return post("runs/set-tag", {"run_id": run, "key": key, "value": value})


def pairs(**items: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in items.items()]


def seen(run: str = "{run}") -> Call:
    return get("runs/get", run_id=run, run_uuid=run)
