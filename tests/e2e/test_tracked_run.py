"""`orch run` of programs that log with MLflow, unchanged: real clients of both generations, inside a run."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import mlproject, orch, orch_json
from e2e.tracked import MLFLOW, Homes, mlflow_homes, mlflow_yaml

TRAIN = """\
import os
import sys
import tempfile
from pathlib import Path

import joblib
import mlflow
import mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

me = os.environ["MLFLOW_RUN_ID"]
mlflow.set_experiment("iris")
with mlflow.start_run(run_name="the best") as run:
    assert run.info.run_id == me
    mlflow.log_params({"depth": 3, "kind": "logistic", "alpha": sys.argv[1]})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"accuracy": 0.9, "none": float("nan")})
    mlflow.set_tags({"stage": "trial", "gone": "soon"})
    mlflow.delete_tag("gone")

    mlflow.log_text("hello\\n", "notes/hello 1?.txt")
    mlflow.log_dict({"a": 1}, "a.json")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plot.png").write_bytes(b"\\x89PNG\\r\\n\\x1a\\n")
        (Path(folder) / "empty.txt").touch()
        mlflow.log_artifact(Path(folder) / "plot.png")
        mlflow.log_artifacts(folder, "folder")

    for number in range(2):
        with mlflow.start_run(nested=True, run_name=f"child {number}"):
            mlflow.log_metric("which", number)
            mlflow.log_text(str(number), "which.txt")

    mlflow.sklearn.autolog(log_models=False, log_datasets=False)
    X, y = load_iris(return_X_y=True)
    with joblib.parallel_backend("threading", n_jobs=2):
        GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0, 10.0]}, cv=2).fit(X, y)
    mlflow.sklearn.autolog(disable=True)

    model = LogisticRegression(max_iter=500).fit(X, y)
    log_model = dict(NAME="model", pip_requirements=["scikit-learn"])
    mlflow.sklearn.log_model(model, **log_model)
    assert mlflow.sklearn.load_model(f"runs:/{me}/model").predict(X[:1]) == [0]
    found = mlflow.search_runs(experiment_names=["iris"], filter_string="metrics.which >= 0")
    assert sorted(found["metrics.which"]) == [0, 1]
    Path("looked.txt").write_text(str(sorted(os.listdir("."))))

with mlflow.start_run(run_id=me):  # goes on with it
    mlflow.log_metric("again", 1)
    for step in range(300):
        mlflow.log_metric("soon", step, step=step, synchronous=False)
"""

SAYS_FAILED = """\
import mlflow

mlflow.start_run()
mlflow.log_metric("loss", 0.5)
mlflow.end_run("FAILED")
mlflow.set_experiment("others")
with mlflow.start_run(run_name="a second one"):
    mlflow.log_metric("loss", 0.25)
"""
DIES = """\
import os

import mlflow

mlflow.start_run()
mlflow.log_metric("loss", 0.5)
mlflow.start_run(nested=True, run_name="open")
mlflow.log_metric("last", 7)
mlflow.log_text("half", "half.txt")
os._exit(7)
"""
LOOKS = {
    "sets.py": """\
import mlflow

mlflow.set_experiment("baseline")
with mlflow.start_run():
    mlflow.log_metric("loss", 0.5)
""",
    "reads.py": """\
import mlflow

found = mlflow.search_runs(experiment_names=["baseline"])
assert mlflow.get_experiment_by_name("baseline").experiment_id == found["experiment_id"][0]
with mlflow.start_run():
    mlflow.log_metric("loss", found["metrics.loss"].min() / 2)
""",
    "both.py": """\
import mlflow

mlflow.set_experiment("better")
found = mlflow.search_runs(experiment_names=["baseline"])
with mlflow.start_run():
    mlflow.log_metric("loss", found["metrics.loss"].min() / 2)
""",
    "starts.py": """\
import subprocess
import sys

import mlflow

mlflow.set_experiment("from above")
logs = 'import mlflow; mlflow.get_experiment_by_name("baseline"); mlflow.log_metric("loss", 0.125)'
subprocess.run([sys.executable, "-c", logs], check=True)
""",
}
HAS_ITS_OWN = """\
import os

import mlflow

print(sorted(name for name in os.environ if name.startswith("MLFLOW_")))
mlflow.log_metric("loss", 0.5)
mlflow.log_text("hello", "hello.txt")
"""


@pytest.fixture
def mlflow_home(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_channel: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Homes]:
    """A function: a fresh `ORCH_HOME` with an environment of MLFLOW."""
    with mlflow_homes(tmp_path, tmp_path_factory, mlflow_channel, monkeypatch) as homes:
        yield homes


@pytest.fixture
def run(mlflow_home: Homes, make_project: Callable[..., Path]) -> Callable[..., Path]:
    """A function: the folder of a project of one script, for a generation of MLflow."""

    def make(generation: str, script: str) -> Path:
        mlflow_home(generation)
        name = "name" if generation == "mlflow 3" else "artifact_path"
        files = {
            "MLproject": mlproject("python train.py {alpha}", "alpha: {type: float, default: 0.5}"),
            "conda.yaml": mlflow_yaml(generation),
            "train.py": script.replace("NAME=", f"{name}="),
        }
        return make_project(files)

    return make


def children(run_id: str) -> list[dict[str, Any]]:
    """The records of the runs below a run, oldest first."""
    found = [orch_json("show", row["run_id"]) for row in orch_json("list", "-n", "100")]
    return sorted((record for record in found if record["parent"] == run_id), key=lambda record: record["run_id"])


@pytest.mark.parametrize("generation", list(MLFLOW))
def test_what_a_program_logs_is_in_the_ledger_and_nowhere_else(
    run: Callable[..., Path], tmp_path: Path, generation: str
) -> None:
    project = run(generation, TRAIN)
    record = json.loads(orch("run", project, "-P", "alpha=0.25", "--json").stdout)

    assert record["experiment"] == "iris"
    assert record["name"] == ("the best" if generation == "mlflow 3" else None)  # MLflow 2 names no run that is there
    assert {"alpha": "0.25", "depth": "3", "kind": "logistic", "best_C": "10.0", "cv": "2"}.items() <= record[
        "params"
    ].items()
    metrics = record["metrics"]
    assert metrics["loss"] == 0.2
    assert metrics["accuracy"] == 0.9
    assert metrics["none"] == "NaN"
    assert metrics["again"] == 1
    assert metrics["soon"] == 299
    assert {"best_cv_score", "training_score"} <= {*metrics}
    assert record["tags"]["stage"] == "trial"
    assert "gone" not in record["tags"]
    assert record["notes"] == []

    paths = {output["path"] for output in record["outputs"]}
    assert {path for path in paths if not path.startswith("artifacts/")} == {"looked.txt"}
    assert {f"artifacts/{name}" for name in ("notes/hello 1?.txt", "a.json", "plot.png", "model/MLmodel")} <= paths
    orch("get", record["run_id"], "-o", tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "looked.txt").read_text() == str(["MLproject", "conda.yaml", "train.py"])
    assert (out / "artifacts/notes/hello 1?.txt").read_text() == "hello\n"
    assert json.loads((out / "artifacts/a.json").read_text()) == {"a": 1}
    assert (out / "artifacts/folder/plot.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "artifacts/folder/empty.txt").stat().st_size == 0
    assert sorted(os.listdir(project)) == [".git", "MLproject", "conda.yaml", "train.py"]

    found = children(record["run_id"])
    named = [child for child in found if child["name"]]
    assert [(child["name"], child["metrics"]) for child in named] == [
        ("child 0", {"which": 0}),
        ("child 1", {"which": 1}),
    ]
    assert [[output["path"] for output in child["outputs"]] for child in named] == [["artifacts/which.txt"]] * 2
    searched = [child for child in found if not child["name"]]
    assert sorted(child["params"]["C"] for child in searched) == ["0.1", "1.0", "10.0"]
    assert all(math.isfinite(child["metrics"]["mean_test_score"]) for child in searched)
    assert {child["status"] for child in found} == {"finished"}
    assert {child["experiment"] for child in found} == {"iris"}


@pytest.mark.parametrize("generation", list(MLFLOW))
def test_a_run_moves_to_the_experiment_that_its_program_sets_not_to_one_that_it_reads(
    run: Callable[..., Path], generation: str
) -> None:
    project = run(generation, "")
    for name, text in LOOKS.items():
        (project / name).write_text(text)
    told = {name: json.loads(orch("run", project, "-e", name, "--json").stdout) for name in LOOKS}
    assert {name: (record["experiment"], record["metrics"]["loss"]) for name, record in told.items()} == {
        "sets.py": ("baseline", 0.5),
        "reads.py": ("Default", 0.25),
        "both.py": ("better", 0.25),
        "starts.py": ("from above", 0.125),
    }


def test_what_a_program_says_of_its_end_is_told_and_what_it_left_open_is_ended(run: Callable[..., Path]) -> None:
    project = run("mlflow 3", SAYS_FAILED)
    (project / "dies.py").write_text(DIES)

    said = json.loads(orch("run", project, "--json").stdout)
    assert said["status"] == "finished"
    assert said["notes"][-1] == "the program told MLflow that the run is FAILED."
    assert said["metrics"] == {"loss": 0.5}
    (second,) = children(said["run_id"])
    assert (second["name"], second["experiment"], second["status"]) == ("a second one", "others", "finished")
    assert said["experiment"] == "Default"

    died = json.loads(orch("run", project, "-e", "dies.py", "--run-name", "dies", "--json", code=7).stdout)
    assert (died["status"], died["exit_code"], died["metrics"]) == ("failed", 7, {"loss": 0.5})
    (left,) = children(died["run_id"])
    assert (left["name"], left["status"], left["reason"]) == ("open", "failed", "its program ended first")
    assert left["metrics"] == {"last": 7}
    assert [output["path"] for output in left["outputs"]] == ["artifacts/half.txt"]
    assert not (Path(os.environ["ORCH_HOME"]) / "runs" / died["run_id"] / "tracking.log").exists()


def test_a_tracking_server_of_the_users_own_is_theirs(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = run("mlflow 3", HAS_ITS_OWN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mine.db'}")  # --env: see the tests of replays
    done = orch("run", project, "--json")
    record = json.loads(done.stdout)
    text = "MLFLOW_TRACKING_URI is set: what the program logs through MLflow goes to"
    assert record["notes"] == [f"{text} sqlite:///{tmp_path / 'mine.db'}, not into this run."]
    assert text in " ".join(done.stderr.split())
    assert record["metrics"] == {}
    assert children(record["run_id"]) == []
    assert not [output for output in record["outputs"] if output["path"].startswith("artifacts/")]
    printed = orch("logs", record["run_id"]).stdout
    assert "'MLFLOW_TRACKING_URI'" in printed
    assert "MLFLOW_RUN_ID" not in printed
    assert "MLFLOW_TRACKING_TOKEN" not in printed
    with contextlib.closing(sqlite3.connect(tmp_path / "mine.db")) as database:
        assert database.execute("SELECT key, value FROM metrics").fetchall() == [("loss", 0.5)]


def test_a_step_that_logs_to_a_server_of_the_users_own_gets_nothing_of_the_run(run: Callable[..., Path]) -> None:
    project = run("mlflow 3", "")
    (project / "main.sh").write_text("MLFLOW_TRACKING_URI=http://127.0.0.1:9 orch run . -e step.sh\n")
    (project / "step.sh").write_text("env\n")
    record = json.loads(orch("run", project, "-e", "main.sh", "--json").stdout)
    (step,) = children(record["run_id"])
    names = {line.partition("=")[0] for line in orch("logs", step["run_id"]).stdout.splitlines()}
    assert {name for name in names if "MLFLOW" in name} == {
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
        "MLFLOW_TRACKING_URI",
    }
