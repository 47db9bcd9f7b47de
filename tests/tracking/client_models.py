"""Programs that log models of scikit-learn, by themselves or by autologging."""

from __future__ import annotations

import json
import uuid

import joblib
import mlflow
import pandas as pd
from client_script import THREE, check, refused
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import ElasticNet
from sklearn.model_selection import GridSearchCV

# Else it is found out in a process that loads the model once more, which takes seconds.
REQUIREMENTS = {"pip_requirements": ["scikit-learn"]}


def data() -> tuple[pd.DataFrame, pd.Series]:
    frame = pd.DataFrame({"a": [float(n % 7) for n in range(40)], "b": [float(n % 5) for n in range(40)]})
    return frame, frame["a"] * 2 - frame["b"]


def fitted() -> tuple[ElasticNet, pd.DataFrame]:
    frame, target = data()
    return ElasticNet(alpha=0.1).fit(frame, target), frame


def a_model() -> None:
    model, frame = fitted()
    named = {"name" if THREE else "artifact_path": "model"}
    with mlflow.start_run() as run:
        mlflow.log_param("alpha", 0.1)
        mlflow.log_metric("rmse", 0.5)
        signature = infer_signature(frame, model.predict(frame))
        info = mlflow.sklearn.log_model(model, **named, signature=signature, input_example=frame[:2], **REQUIREMENTS)
    for uri in (info.model_uri, f"runs:/{run.info.run_id}/model"):
        loaded = mlflow.pyfunc.load_model(uri)
        check(loaded.predict(frame).tolist(), model.predict(frame).tolist())
        check(loaded.metadata.signature, signature)
    check(mlflow.sklearn.load_model(info.model_uri).coef_.tolist(), model.coef_.tolist())
    if not THREE:
        (logged,) = json.loads(mlflow.get_run(run.info.run_id).data.tags["mlflow.log-model.history"])
        check(logged["artifact_path"], "model")
        return
    (output,) = mlflow.get_run(run.info.run_id).outputs.model_outputs
    check(output.model_id, info.model_id)
    known = mlflow.get_logged_model(info.model_id)
    check((str(known.status), known.name, known.source_run_id), ("READY", "model", run.info.run_id))
    check((known.params, {m.key: m.value for m in known.metrics}), ({"alpha": "0.1"}, {"rmse": 0.5}))


def models_of_mlflow_3() -> None:
    if not THREE:
        return
    experiment = mlflow.set_experiment(f"models {uuid.uuid4().hex}").experiment_id
    model, frame = fitted()
    with mlflow.start_run() as run:
        ids = []
        for n in range(2):
            mlflow.sklearn.log_model(model, name=f"m{n}", step=n, params={"n": n}, tags={"t": str(n)}, **REQUIREMENTS)
            ids.append(mlflow.last_logged_model().model_id)
            mlflow.log_metric("rmse", 0.5 - n / 4, step=n, model_id=ids[n], dataset=mlflow.data.from_pandas(frame))
        external = mlflow.initialize_logged_model(name="outside", model_type="agent")
        mlflow.log_model_params({"k": "v"}, model_id=external.model_id)
        mlflow.finalize_logged_model(external.model_id, "READY")
    found = mlflow.search_logged_models([experiment], filter_string="metrics.rmse < 0.3", output_format="list")
    check([known.model_id for known in found], ids[1:])
    ordered = [{"field_name": "metrics.rmse", "ascending": True}]
    found = mlflow.search_logged_models([experiment], order_by=ordered, output_format="list", max_results=1)
    check([known.model_id for known in found], ids[1:])
    frame = mlflow.search_logged_models([experiment], filter_string="name LIKE 'm%' AND tags.t = '0'")
    check(frame["model_id"].tolist(), ids[:1])
    check(mlflow.get_logged_model(external.model_id).params, {"k": "v"})
    mlflow.set_logged_model_tags(ids[0], {"a": "1", "b": "2"})
    mlflow.delete_logged_model_tag(ids[0], "b")
    tags = mlflow.get_logged_model(ids[0]).tags
    check((tags["a"], tags["t"], tags.get("b")), ("1", "0", None))
    check(sorted(o.model_id for o in mlflow.get_run(run.info.run_id).outputs.model_outputs)[:2], sorted(ids)[:2])
    MlflowClient().delete_logged_model(ids[0])
    refused("RESOURCE_DOES_NOT_EXIST", lambda: mlflow.get_logged_model(ids[0]))
    with mlflow.start_run() as later:
        mlflow.sklearn.load_model(f"models:/{ids[1]}")
        MlflowClient().log_inputs(later.info.run_id, models=[mlflow.entities.LoggedModelInput(ids[1])])
    check([i.model_id for i in mlflow.get_run(later.info.run_id).inputs.model_inputs], [ids[1]])


def autologging() -> None:
    frame, target = data()
    mlflow.sklearn.autolog(silent=True)
    try:
        with mlflow.start_run() as run:
            model = ElasticNet(alpha=0.1).fit(frame, target)
            model.score(frame, target)
    finally:
        mlflow.sklearn.autolog(disable=True)
    known = mlflow.get_run(run.info.run_id)
    check((known.data.params["alpha"], known.data.tags["estimator_name"]), ("0.1", "ElasticNet"))
    assert "training_r2_score" in known.data.metrics
    assert "ElasticNet_score_frame" in known.data.metrics or "ElasticNet_score_X" in known.data.metrics
    check([item.tags[0].value for item in known.inputs.dataset_inputs], ["train"])
    files = [file.path for file in MlflowClient().list_artifacts(run.info.run_id)]
    assert {"estimator.html", "metric_info.json"} <= {*files}, files
    check(mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model").coef_.tolist(), model.coef_.tolist())


def a_grid_search_in_threads() -> None:
    frame, target = data()
    experiment = mlflow.set_experiment(f"grid {uuid.uuid4().hex}").experiment_id
    mlflow.sklearn.autolog(silent=True, log_models=False, max_tuning_runs=4)
    try:
        with mlflow.start_run() as run, joblib.parallel_backend("threading", n_jobs=2):
            GridSearchCV(ElasticNet(), {"alpha": [0.1, 0.2], "l1_ratio": [0.3, 0.6]}, cv=2).fit(frame, target)
    finally:
        mlflow.sklearn.autolog(disable=True)
    parent = mlflow.get_run(run.info.run_id)
    tried = [(alpha, ratio) for alpha in ("0.1", "0.2") for ratio in ("0.3", "0.6")]
    children = mlflow.search_runs(
        [experiment], filter_string=f"tags.`mlflow.parentRunId` = '{run.info.run_id}'", output_format="list"
    )
    check(sorted((c.data.params["alpha"], c.data.params["l1_ratio"]) for c in children), tried)
    check({child.info.status for child in children}, {"FINISHED"})
    best = max(child.data.metrics["mean_test_score"] for child in children)
    check(parent.data.metrics["best_cv_score"], best)
    assert "cv_results.csv" in [file.path for file in MlflowClient().list_artifacts(run.info.run_id)]
