"""Calls about what a run reads and makes: datasets, models logged in MLflow 2's way, logged models of MLflow 3."""

from __future__ import annotations

from typing import Any

from tracking.calls import (
    ARTIFACTS,
    START,
    Call,
    delete,
    experiment,
    get,
    metric,
    pairs,
    param,
    patch,
    post,
    run,
    seen,
    unlike,
)

_DATASET = {
    "name": "wine",
    "digest": "a545a3dc",
    "source_type": "local",
    "source": '{"uri": "wine.csv"}',
    "schema": '{"mlflow_colspec": []}',
    "profile": '{"num_rows": 3}',
}

_MODEL_JSON = (
    '{"run_id": "{run}", "artifact_path": "model", "utc_time_created": "2026-01-02 03:04:05", "model_uuid": "u", '
    '"flavors": {"sklearn": {}}}'
)


def _input(context: str | None, **changes: Any) -> dict[str, Any]:
    tags = [] if context is None else [{"key": "mlflow.data.context", "value": context}]
    return {"tags": tags, "dataset": {**_DATASET, **changes}}


def _inputs(*datasets: Any, **more: Any) -> Call:
    return post("runs/log-inputs", {"run_id": "{run}", "datasets": list(datasets), **more})


DATASETS: dict[str, list[Call]] = {
    "datasets of runs": [
        experiment(),
        run(),
        _inputs(_input("training")),
        seen(),
        _inputs(_input("training")),
        _inputs(_input("testing")),
        seen(),
        _inputs(_input(None, name="bare", schema=None, profile=None)),
        _inputs(_input("training", digest="b0000000"), _input("training", name="other", digest="c0000000")),
        seen(),
        run(keep="second", start_time=START + 1),
        post("runs/log-inputs", {"run_id": "{second}", "datasets": [_input("training")]}),
        seen("{second}"),
        post("runs/search", {"experiment_ids": ["{exp}"], "filter": "datasets.digest = 'a545a3dc'"}),
        post("runs/search", {"experiment_ids": ["{exp}"], "filter": "dataset.name = 'other'"}),
        post("runs/search", {"experiment_ids": ["{exp}"], "filter": "datasets.context = 'testing'"}),
    ],
    "a dataset that cannot be logged": [
        experiment(),
        run(),
        _inputs(),
        _inputs(_input("training", name="n" * 501)),
        _inputs(_input("training", digest="d" * 37)),
        post("runs/log-inputs", {"run_id": "0" * 32, "datasets": [_input("training")]}),
        post("runs/log-inputs", {"datasets": [_input("training")]}),
        post("runs/log-inputs", {"run_id": "{run}", "datasets": "text"}),
        seen(),
    ],
    "models logged in MLflow 2's way": [
        experiment(),
        run(),
        post("runs/log-model", {"run_id": "{run}", "model_json": _MODEL_JSON}),
        seen(),
        post("runs/log-model", {"run_id": "{run}", "model_json": "no JSON"}),
        post("runs/log-model", {"run_id": "{run}", "model_json": "{}"}),
        post("runs/log-model", {"run_id": "{run}"}),
        post("runs/log-model", {"run_id": "0" * 32, "model_json": _MODEL_JSON}),
        seen(),
    ],
}


def _model(name: str, keep: str = "model", **fields: Any) -> Call:
    body = {"experiment_id": "{exp}", "name": name, "source_run_id": "{run}", **fields}
    return post("logged-models", body, keep={keep: "model.info.model_id"})


def _measured(model: str, key: str = "m") -> dict[str, Any]:
    return {"key": key, "value": 0.5, "timestamp": START, "step": 0, "model_id": model}


def _found(text: str | None = None, **more: Any) -> Call:
    return post("logged-models/search", {"experiment_ids": ["{exp}"], **({"filter": text} if text else {}), **more})


LOGGED_MODELS: dict[str, list[Call]] = {
    "a logged model from its beginning to its end": [
        experiment(),
        run(),
        metric("rmse", 0.8),
        param("alpha", "5.1"),
        _model("model", params=pairs(alpha="5.1"), tags=pairs(**{"mlflow.user": "ada", "k": "v"}), model_type="lin"),
        get("logged-models/{model}"),
        post("runs/outputs", {"run_id": "{run}", "models": [{"model_id": "{model}", "step": 3}]}),
        seen(),
        post(
            "runs/log-batch",
            {
                "run_id": "{run}",
                "metrics": [
                    {
                        "key": "rmse",
                        "value": 0.8,
                        "timestamp": START,
                        "step": 0,
                        "model_id": "{model}",
                        "run_id": "{run}",
                    }
                ],
            },
        ),
        post(
            "runs/log-metric",
            {
                "run_id": "{run}",
                "key": "r2",
                "value": 0.25,
                "timestamp": START,
                "step": 2,
                "model_id": "{model}",
                "dataset_name": "wine",
                "dataset_digest": "a545a3dc",
            },
        ),
        get("logged-models/{model}"),
        seen(),
        get("metrics/get-history", run_id="{run}", metric_key="rmse"),
        get("metrics/get-history", run_id="{run}", metric_key="r2"),
        Call("PUT", f"{ARTIFACTS}/{{exp}}/models/{{model}}/artifacts/MLmodel", body=b"flavors: {}\n"),
        Call("GET", ARTIFACTS, query={"path": "{exp}/models/{model}/artifacts"}),
        Call("GET", f"{ARTIFACTS}/{{exp}}/models/{{model}}/artifacts/MLmodel"),
        get("logged-models/{model}/artifacts/directories"),
        patch("logged-models/{model}", {"model_id": "{model}", "status": "LOGGED_MODEL_READY"}),
        patch("logged-models/{model}/tags", {"tags": pairs(k="w", other="x")}),
        post("logged-models/{model}/params", {"model_id": "{model}", "params": pairs(zz="1")}),
        get("logged-models/{model}"),
        delete("logged-models/{model}/tags/other"),
        delete("logged-models/{model}/tags/absent"),
        post("runs/log-inputs", {"run_id": "{run}", "models": [{"model_id": "{model}"}]}),
        seen(),
        get("logged-models/{model}"),
        delete("logged-models/{model}"),
        get("logged-models/{model}"),
        _found(),
    ],
    "a logged model with less said of it": [
        experiment(),
        run(),
        post(
            "logged-models",
            {"experiment_id": "{exp}", "source_run_id": "{run}"},
            keep={"model": "model.info.model_id"},
        ),
        post("logged-models", {"experiment_id": "{exp}", "source_run_id": "{run}", "name": ""}),
        _model("ünï", keep="other"),
        patch("logged-models/{model}", {"model_id": "{model}", "status": "LOGGED_MODEL_UPLOAD_FAILED"}),
    ],
    "a logged model that cannot be made or changed": [
        experiment(),
        run(),
        post("logged-models", {"name": "model"}),
        post("logged-models", {"experiment_id": "999999", "name": "model"}),
        post("logged-models", {"experiment_id": "{exp}", "name": 5}),
        post("logged-models", {"experiment_id": "{exp}", "name": "a/b"}),
        post("logged-models", {"experiment_id": "{exp}", "name": "a.b:c%d\"e'f"}),
        get("logged-models/m-absent"),
        patch("logged-models/m-absent", {"model_id": "m-absent", "status": "LOGGED_MODEL_READY"}),
        patch("logged-models/m-absent/tags", {"tags": pairs(a="b")}),
        delete("logged-models/m-absent/tags/k"),
        delete("logged-models/m-absent"),
        _model("model", params=pairs(alpha="1")),
        patch("logged-models/{model}", {"model_id": "{model}"}),
        post("logged-models/{model}/params", {"params": pairs(alpha="2")}),
        post("runs/outputs", {"run_id": "0" * 32, "models": [{"model_id": "{model}", "step": 0}]}),
        post("runs/outputs", {"run_id": "{run}", "models": []}),
        post("runs/outputs", {"models": [{"model_id": "{model}", "step": 0}]}),
        get("logged-models/{model}"),
        seen(),
        post("runs/log-metric", {"run_id": "{run}", **_measured("m-absent")}),
        post("runs/log-batch", {"run_id": "{run}", "metrics": [_measured("m-absent")]}),
        *unlike("MLflow 3 refuses the call, and keeps the point of the run", seen()),
    ],
    "a metric of a model that another run made": [
        experiment(),
        run(),
        _model("model"),
        run(keep="evaluation"),
        post("runs/log-metric", {"run_id": "{evaluation}", **_measured("{model}")}),
        post("runs/log-batch", {"run_id": "{evaluation}", "metrics": [_measured("{model}", key="auc")]}),
        seen(),
        seen("{evaluation}"),
        *unlike(
            "MLflow 3 says which run has logged a model's metric, orch which has made the model",
            _found("metrics.auc = 0.5"),
            get("logged-models/{model}"),
        ),
        _found("metrics.auc < 0.5"),
    ],
    "logged models are searched": [
        experiment(),
        run(),
        _model("first", keep="a", params=pairs(alpha="1"), tags=pairs(k="red"), model_type="lin"),
        _model("second", keep="b", params=pairs(alpha="2"), tags=pairs(k="Blue")),
        _model("first", keep="c", params=pairs(alpha="1")),
        patch("logged-models/{a}", {"model_id": "{a}", "status": "LOGGED_MODEL_READY"}),
        *(
            post(
                "runs/log-batch",
                {
                    "run_id": "{run}",
                    "metrics": [
                        {
                            "key": "m",
                            "value": value,
                            "timestamp": START,
                            "step": 0,
                            "model_id": model,
                            "run_id": "{run}",
                        }
                    ],
                },
            )
            for model, value in (("{a}", 0.5), ("{b}", 0.25))
        ),
        *(
            _found(text)
            for text in (
                None,
                "name = 'first'",
                "name != 'first'",
                "name LIKE 'sec%'",
                "name ILIKE 'SEC%'",
                "name IN ('second', 'third')",
                "attributes.name = 'second'",
                "model_id = '{b}'",
                "model_type = 'lin'",
                "source_run_id = '{run}'",
                "creation_timestamp > 0",
                "creation_time > 0",
                "last_updated_timestamp < 5",
                "params.alpha = '1'",
                "params.alpha != '1'",
                "tags.k = 'red'",
                "tags.k ILIKE 'blue'",
                "metrics.m > 0.3",
                "metrics.m = 0.25 AND name = 'second'",
                "name >",
                "nonsense",
                "name = first",
                "name = 'first' OR name = 'second'",
                "params.alpha > 1",
            )
        ),
        _found(
            order_by=[{"field_name": "name", "ascending": True}, {"field_name": "creation_time", "ascending": True}]
        ),
        *unlike(
            "MLflow 3.17 finds no model by its status",
            _found("status = 'READY'"),
            _found("status = 'LOGGED_MODEL_READY'"),
        ),
        _found(order_by=[{"field_name": "metrics.m", "ascending": False}]),
        _found(order_by=[{"field_name": "metrics.m", "ascending": True}]),
        _found(order_by=[{"field_name": "creation_timestamp", "ascending": True}]),
        _found(order_by=[{"field_name": "colour", "ascending": True}]),
        _found(order_by=["name"]),
        _found(max_results=0),
        _found(max_results="x"),
        post("logged-models/search", {"experiment_ids": []}),
        post("logged-models/search", {}),
        post("logged-models/search", {"experiment_ids": ["999999"]}),
        post(
            "logged-models/search", {"experiment_ids": ["{exp}"], "max_results": 2}, keep={"token": "next_page_token"}
        ),
        post("logged-models/search", {"experiment_ids": ["{exp}"], "max_results": 2, "page_token": "{token}"}),
    ],
}
