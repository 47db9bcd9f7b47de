"""`orch replay` of real MLflow projects, whose program logs to the store that MLflow makes where it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import make_home

from e2e.conftest import mlproject, orch, orch_json

DEPENDENCIES = {
    "mlflow 3": "[python, mlflow-skinny>=3, alembic, sqlalchemy, skops, pandas, scikit-learn]",
    "mlflow 2": "[python, mlflow-skinny=2, pandas, scikit-learn]",
}
RULES = {
    "mlflow 3": {"mlflow-store-1", "skops-addresses-1", "zip-content-1"},
    "mlflow 2": {"mlflow-files-1"},
}
ASKED = ("-P", "alpha=0.1", "-q")
TRAIN = """\
import os
import sys

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.linear_model import SGDRegressor
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

alpha = float(sys.argv[1])
seed = None if os.path.exists("SEEDLESS") else 0
X, y = load_diabetes(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
mlflow.set_experiment("diabetes")
with mlflow.start_run():
    model = make_pipeline(StandardScaler(), SGDRegressor(alpha=alpha, random_state=seed)).fit(X_train, y_train)
    predicted = model.predict(X_test)
    mlflow.log_param("alpha", alpha)
    mlflow.log_metric("rmse", mean_squared_error(y_test, predicted) ** 0.5)
    mlflow.sklearn.log_model(
        model,
        NAME="model",
        signature=infer_signature(X_test, predicted),
        input_example=X_train.head(3),
        pip_requirements=["scikit-learn"],
        registered_model_name="diabetes",
    )
    np.savetxt("predicted.csv", predicted)
"""
AUTOLOG = """\
mlflow.sklearn.autolog()
with mlflow.start_run(run_name="automatic"):
    SGDRegressor(alpha=alpha, random_state=0).fit(X, y)
    mlflow.log_text(mlflow.active_run().info.run_id, "who.txt")
    with mlflow.start_run(nested=True):
        mlflow.log_metrics({"mae": 1.5, "r2": 0.25}, step=3)
"""


@pytest.fixture
def project(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_channel: Path,
    make_project: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """A function that makes an MLflow project for a generation; the tests share the environments."""
    home = make_home(tmp_path / "orch-home", mlflow_channel.as_uri(), monkeypatch)
    session = tmp_path_factory.getbasetemp()
    shared = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "mlflow"
    with (home / "config.toml").open("a") as config:
        config.write("[paths]\n" + "".join(f'{name} = "{shared / name}"\n' for name in ("envs", "cache")))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")

    def make(generation: str, train: str) -> Path:
        files = {
            "MLproject": mlproject("python train.py {alpha}", "alpha: float"),
            "conda.yaml": f"channels: [conda-forge]\ndependencies: {DEPENDENCIES[generation]}\n",
            "train.py": train.replace("NAME=", "name=" if generation == "mlflow 3" else "artifact_path=")
            # Two threads of its own trip over one another when they write this to its files.
            .replace("autolog()", "autolog()" if generation == "mlflow 3" else "autolog(log_datasets=False)"),
        }
        return make_project(files)

    return make


def replayed(run: dict[str, Any], code: int) -> dict[str, Any]:
    """The record of a replay; `code` is its exit code."""
    return json.loads(orch("replay", run["run_id"], "--json", "-q", code=code).stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("generation", ["mlflow 3", "mlflow 2"])
def test_logged_models_metrics_and_params_are_reproduced_and_a_model_without_a_seed_is_not(
    project: Callable[..., Path], tmp_path: Path, generation: str
) -> None:
    seedless = tmp_path / "seedless"
    run = orch_json("run", project(generation, TRAIN.replace("SEEDLESS", str(seedless)) + AUTOLOG), *ASKED)
    assert run["status"] == "finished"

    verdict = replayed(run, 0)["verdict"]
    assert verdict["result"] == "reproduced"
    results = {item["path"]: item["result"] for item in verdict["outputs"]}
    assert results.pop("predicted.csv") == "identical"
    assert set(results.values()) == {"equivalent"}
    assert len([path for path in results if path.endswith("/MLmodel")]) == 2
    rules = {rule for item in verdict["outputs"] for rule in item["rules"]}
    assert rules == {"mlflow-ids-1", "mlmodel-volatile-1", "own-paths-1"} | RULES[generation]
    said = orch("show").stdout
    assert "reproduced" in said
    assert "mlflow-ids-1" in said
    assert "varies" not in orch("list").stdout

    if generation == "mlflow 3":
        seedless.touch()
        verdict = replayed(run, 1)["verdict"]
        assert verdict["result"] == "differs"
        different = {Path(item["path"]).name: item for item in verdict["outputs"] if item["result"] != "equivalent"}
        assert {name: item["result"] for name, item in different.items()} == dict.fromkeys(
            ["mlflow.db", "model.skops", "predicted.csv"], "different"
        )
        assert different["mlflow.db"]["place"] == "/runs/0/metrics/rmse/0/1"
