"""A program in a run that sets its experiment by the name from before it was renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.conftest import mlproject, orch_json
from e2e.tracked import Homes, mlflow_homes, mlflow_yaml
from orchestrator import ledger
from orchestrator.paths import open_home

TRAIN = """\
import mlflow

mlflow.set_experiment("alpha1")
with mlflow.start_run():
    mlflow.log_metric("loss", 0.5)
"""


@pytest.fixture
def mlflow_home(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_channel: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Homes]:
    with mlflow_homes(tmp_path, tmp_path_factory, mlflow_channel, monkeypatch) as homes:
        yield homes


def test_the_run_goes_into_the_experiment_as_it_is_called_now(
    mlflow_home: Homes, make_project: Callable[..., Path]
) -> None:
    mlflow_home("mlflow 3")
    files = {"MLproject": mlproject("python train.py"), "conda.yaml": mlflow_yaml("mlflow 3"), "train.py": TRAIN}
    project = make_project(files)
    first = orch_json("run", project, "-q")
    assert first["experiment"] == "alpha1"
    home = open_home()
    connection = ledger.connect(home)
    made = ledger.find_experiment(connection, name="alpha1")
    assert made is not None
    ledger.change_experiment(home, connection, made.experiment_id, {"name": "alpha2"})
    connection.close()
    again = orch_json("run", project, "-q")
    assert (again["status"], again["experiment"], again["metrics"]) == ("finished", "alpha2", first["metrics"])
    listed = orch_json("list", "--experiment-name", "alpha2")
    assert {run["run_id"] for run in listed} == {first["run_id"], again["run_id"]}
