"""`orch run` of programs that register their models, as MLflow's examples do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import mlproject, orch_json
from e2e.tracked import MLFLOW, mlflow_homes, mlflow_yaml

TRAIN = """\
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import mlflow.sklearn
from mlflow import MlflowClient
from sklearn.linear_model import ElasticNet

model = ElasticNet(alpha=0.1).fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.5])
with mlflow.start_run():
    assert urlparse(mlflow.get_tracking_uri()).scheme != "file"
    mlflow.sklearn.log_model(
        model, NAME="model", registered_model_name="ElasticnetWineModel", pip_requirements=["scikit-learn"]
    )
client = MlflowClient()
versions = client.search_model_versions("name = 'ElasticnetWineModel'")
last = max(int(version.version) for version in versions)
client.set_registered_model_alias("ElasticnetWineModel", "champion", str(last))
client.set_model_version_tag("ElasticnetWineModel", str(last), "validation", "passed")
for uri in (f"models:/ElasticnetWineModel/{last}", "models:/ElasticnetWineModel@champion"):
    assert mlflow.sklearn.load_model(uri).coef_.tolist() == model.coef_.tolist()
if last > 1:
    mlflow.sklearn.load_model("models:/ElasticnetWineModel/1")
Path("last.txt").write_text(f"version {last}\\n")
"""


@pytest.fixture
def project(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_channel: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_project: Callable[..., Path],
) -> Iterator[Callable[[str], tuple[Path, Path]]]:
    """A function: the project of a generation of MLflow, and a fresh `ORCH_HOME` with its environment."""
    with mlflow_homes(tmp_path, tmp_path_factory, mlflow_channel, monkeypatch) as homes:

        def make(generation: str) -> tuple[Path, Path]:
            home = homes(generation)
            train = TRAIN.replace("NAME", "name" if generation == "mlflow 3" else "artifact_path")
            files = {"MLproject": mlproject("python train.py"), "conda.yaml": mlflow_yaml(generation)}
            return make_project({**files, "train.py": train}), home

        yield make


@pytest.mark.parametrize("generation", MLFLOW)
def test_models_are_registered_and_a_replay_registers_none(
    generation: str, project: Callable[[str], tuple[Path, Path]]
) -> None:
    folder, home = project(generation)
    first = orch_json("run", folder)
    assert (first["status"], outputs(first)["last.txt"]["size"]) == ("finished", len("version 1\n"))
    second = orch_json("run", folder) if generation == "mlflow 3" else first
    registry = (home / "registry.jsonl").read_bytes()
    assert (second["status"], f'"last":{1 + (second != first)}' in registry.decode()) == ("finished", True)
    again = orch_json("replay", first["run_id"], "-q")
    assert again["verdict"]["result"] == "reproduced"
    # It says which version the program got.
    assert outputs(again)["last.txt"]["sha256"] == outputs(first)["last.txt"]["sha256"]
    assert (home / "registry.jsonl").read_bytes() == registry


def outputs(run: dict[str, Any]) -> dict[str, Any]:
    return {output["path"]: output for output in run["outputs"]}
