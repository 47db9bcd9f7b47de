"""Calls that say nothing of sense, which MLflow takes all the same, or fails at with a 500: orch refuses them.

MLflow's client asks again for minutes after a 500. And what is taken as 0, or as empty, was never meant.
"""

from __future__ import annotations

from tracking.calls import ARTIFACTS, START, Call, experiment, get, listed, metric, pairs, patch, post, put, run, seen

MADE: list[Call] = [
    experiment(),
    run(),
    post(
        "logged-models",
        {"experiment_id": "{exp}", "name": "m", "source_run_id": "{run}"},
        keep={"model": "model.info.model_id"},
    ),
    experiment("gone", keep="gone"),
    post("experiments/delete", {"experiment_id": "{gone}"}),
    put("folder/inside.txt", b"x"),
]
"""What the calls below are about."""


def _batch(**more: object) -> Call:
    return post("runs/log-batch", {"run_id": "{run}", "tags": pairs(seen="yes"), **more})


def _dataset(**fields: object) -> Call:
    dataset = {"name": "wine", "digest": "a545a3dc", "source_type": "local", "source": "s", **fields}
    return post("runs/log-inputs", {"run_id": "{run}", "datasets": [{"tags": [], "dataset": dataset}]})


def _runs(text: str, **more: object) -> Call:
    return post("runs/search", {"experiment_ids": ["{exp}"], "filter": text, **more})


REFUSED: dict[str, list[Call]] = {
    "a body that is no object": [
        post("experiments/create", b"[]"),
        post("runs/log-batch", b"no JSON"),
        post("runs/log-batch", b"[]"),
        post("experiments/create", b"no JSON"),
        post("runs/create", b"{"),
        post("runs/log-metric", b'"text"'),
        post("runs/log-metric", b"\xff\xfe"),
    ],
    "a value of the wrong type": [
        post("runs/create", {"experiment_id": "{exp}", "start_time": 1.5}),
        post("runs/create", {"experiment_id": "{exp}", "user_id": []}),
        post("runs/create", {"experiment_id": "{exp}", "tags": {"a": "b"}}),
        post("runs/create", {"experiment_id": "{exp}", "tags": [{"key": "a", "value": 5}]}),
        post("runs/update", {"run_id": "{run}", "status": "DONE"}),
        metric("m", [1]),
        metric("m", {}),
        metric("m", 1, START, 1.5),
        metric("m", 1, START, 2**63),
        metric("m", 1, -(2**63) - 1),
        _batch(params=[{"key": "p", "value": 5}]),
        _batch(params=["p"]),
        _batch(metrics=[{"key": "m", "value": "high", "timestamp": START}]),
        _batch(metrics=["m"]),
        _batch(metrics=[{"key": "m", "value": 1, "timestamp": START, "step": 0.5}]),
        post("runs/log-inputs", {"run_id": "{run}", "datasets": ["text"]}),
        _dataset(name=5),
        patch("logged-models/{model}", {"model_id": "{model}", "status": "DONE"}),
    ],
    "a value that is missing": [
        post("runs/create", {"experiment_id": "{exp}", "tags": [{"value": "no key"}]}),
        post("runs/log-inputs", {"run_id": "{run}", "datasets": [{"tags": []}]}),
        _dataset(name=None),
        _dataset(name=""),
        _dataset(digest=None),
    ],
    "an id or a path that cannot be": [
        get("experiments/get", experiment_id="no-number"),
        run(keep="never", experiment="no-number"),
        post("runs/create", {"experiment_id": 0.5}),
        *(get("runs/get", run_id=text) for text in ("../up", "/etc", "a\0b", "x" * 10_000)),
        post("runs/log-batch", {"run_id": "../up", "params": pairs(k="v")}),
        post("runs/update", {"run_id": "../up", "status": "FINISHED"}),
        get("logged-models/..%2Fup"),
        post("logged-models/m-absent/params", {"params": pairs(a="b")}),
        Call("GET", ARTIFACTS, query={"path": "/etc"}),
        Call("GET", f"{ARTIFACTS}//etc/passwd"),
        Call("GET", f"{ARTIFACTS}/%2Fetc/passwd"),
        Call("GET", f"{ARTIFACTS}/file:///etc/passwd"),
        Call("GET", f"{ARTIFACTS}/{{exp}}/{'0' * 32}/artifacts/a.txt"),
        Call("PUT", f"{ARTIFACTS}/{{exp}}/{'0' * 32}/artifacts/a.txt", body=b"of no run"),
        Call("PUT", f"{ARTIFACTS}/elsewhere.txt", body=b"in no run"),
        put("a%00b", b"x"),
    ],
    "a call that there is not": [
        post("runs/no-such-call", {"run_id": "{run}"}),
        post("runs/get", {"run_id": "{run}"}),
        get("runs/update", run_id="{run}"),
        get("../../etc/passwd"),
    ],
    "a key that cannot be": [
        post("runs/create", {"experiment_id": "{exp}", "tags": [{"key": "a$b", "value": "x"}]}),
        post("logged-models", {"experiment_id": "{exp}", "name": "m", "params": [{"key": "k" * 251, "value": "v"}]}),
        post("logged-models", {"experiment_id": "{exp}", "name": "m", "tags": [{"key": "a$b", "value": "v"}]}),
        patch("logged-models/{model}/tags", {"tags": pairs(**{"a$b": "x"})}),
    ],
    "a search that says nothing": [
        _runs("status = 'FINISHED' AND"),
        _runs("AND status = 'FINISHED'"),
        _runs("status = 'FINISHED' status = 'FAILED'"),
        _runs("", order_by=["metrics.rmse", "metrics.rmse DESC"]),
        _runs("", run_view_type="SOME"),
        post("experiments/search", {"max_results": 10, "view_type": "SOME"}),
        post("logged-models/search", {"experiment_ids": ["{exp}"], "filter": "colour = 'red'"}),
        post("logged-models/search", {"experiment_ids": ["{exp}"], "filter": "metrics.m > 'x'"}),
        post("logged-models/search", {"experiment_ids": ["{exp}"], "page_token": "no token"}),
        post("logged-models/search", {"experiment_ids": ["{exp}"], "max_results": -1}),
    ],
    "a change of what is deleted": [
        post("experiments/update", {"experiment_id": "{gone}", "new_name": "other-{salt}"}),
    ],
    "a file where a folder is, or below a file": [
        put("folder", b"x"),
        put("folder/inside.txt/deeper.txt", b"x"),
    ],
}

STATE: list[Call] = [
    seen(),
    get("logged-models/{model}"),
    get("experiments/get", experiment_id="{gone}"),
    post("runs/search", {"experiment_ids": ["{exp}"]}),
    listed("/folder"),
]
"""What the calls above must not have changed."""
