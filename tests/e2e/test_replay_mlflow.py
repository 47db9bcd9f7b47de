"""`orch replay` of real MLflow projects: their program logs to a store of its own where it runs, or into the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import mlproject, orch, orch_json
from e2e.tracked import Homes, mlflow_homes, mlflow_yaml

OWN_STORE = {"mlflow 3": "sqlite:///mlflow.db", "mlflow 2": "mlruns"}
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
def mlflow_home(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_channel: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Homes]:
    """A function: a fresh `ORCH_HOME` with an environment of MLFLOW."""
    with mlflow_homes(tmp_path, tmp_path_factory, mlflow_channel, monkeypatch) as homes:
        yield homes


@pytest.fixture
def project(mlflow_home: Homes, make_project: Callable[..., Path]) -> Callable[..., Path]:
    """A function that makes an MLflow project for a generation; the tests share the environments."""

    def make(generation: str, train: str) -> Path:
        mlflow_home(generation)
        files = {
            "MLproject": mlproject("python train.py {alpha}", "alpha: float"),
            "conda.yaml": mlflow_yaml(generation),
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
def test_what_is_in_a_store_of_the_projects_own_is_reproduced_and_a_model_without_a_seed_is_not(
    project: Callable[..., Path], tmp_path: Path, generation: str
) -> None:
    seedless = tmp_path / "seedless"
    store = f"MLFLOW_TRACKING_URI={OWN_STORE[generation]}"
    train = TRAIN.replace("SEEDLESS", str(seedless)) + AUTOLOG
    run = orch_json("run", project(generation, train), *ASKED, "--env", store)
    assert run["status"] == "finished"
    assert run["metrics"] == {}

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


@pytest.mark.parametrize("generation", ["mlflow 3", "mlflow 2"])
def test_what_is_in_the_ledger_is_reproduced_and_the_nested_runs_of_a_replay_are_its_own(
    project: Callable[..., Path], generation: str
) -> None:
    train = TRAIN.replace('        registered_model_name="diabetes",\n', "")
    run = orch_json("run", project(generation, train + AUTOLOG), *ASKED)
    assert run["status"] == "finished"
    again = replayed(run, 0)
    verdict = again["verdict"]
    assert verdict["result"] == "reproduced"
    results = {item["path"]: item["result"] for item in verdict["outputs"]}
    assert results["predicted.csv"] == "identical"
    assert results["artifacts/model/MLmodel"] == "equivalent"
    assert {item["name"] for item in verdict["metrics"]} >= {"rmse"}
    below = [
        orch_json("show", row["run_id"]) for row in orch_json("list", "-n", "100") if row["run_id"] != run["run_id"]
    ]
    own = {
        parent: sorted(json.dumps(r["metrics"]) for r in below if r["parent"] == parent)
        for parent in (run["run_id"], again["run_id"])
    }
    assert own[run["run_id"]] == own[again["run_id"]] != []
    assert {record["status"] for record in below} == {"finished"}
