"""What notebooks and small programs call every day, besides logging."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from tempfile import mkdtemp

import mlflow
from client_script import THREE, check, refused
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType


def runs_as_a_list_and_a_table() -> None:
    experiment = mlflow.set_experiment(f"tables {uuid.uuid4().hex}")
    for n in range(3):
        with mlflow.start_run(run_name=f"run {n}"):
            mlflow.log_metric("m", n)
    listed = mlflow.search_runs(experiment_names=[experiment.name], output_format="list", order_by=["metrics.m DESC"])
    check([run.data.metrics["m"] for run in listed], [2.0, 1.0, 0.0])
    table = mlflow.search_runs(search_all_experiments=True, filter_string="metrics.m = 1 AND run_name = 'run 1'")
    assert experiment.experiment_id in table["experiment_id"].tolist()
    check(mlflow.last_active_run().info.run_name, "run 2")


def a_long_history() -> None:
    client = MlflowClient()
    with mlflow.start_run() as run:
        for start in range(0, 3000, 1000):
            points = [Metric("m", n / 2, 1000 + n, n) for n in range(start, start + 1000)]
            client.log_batch(run.info.run_id, metrics=points)
    history = client.get_metric_history(run.info.run_id, "m")
    check([(point.step, point.value) for point in history], [(n, n / 2) for n in range(3000)])
    check(list(client.get_metric_history(run.info.run_id, "absent")), [])


def an_artifact_is_written_again() -> None:
    with mlflow.start_run() as run:
        for text in ("first", "second", ""):
            mlflow.log_text(text, "notes/a.txt")
        for n in range(2):
            mlflow.log_dict({"n": n}, "notes/d.json")
    uri = f"runs:/{run.info.run_id}/notes"
    check(mlflow.artifacts.load_text(f"{uri}/a.txt"), "")
    check(mlflow.artifacts.load_dict(f"{uri}/d.json"), {"n": 1})
    files = MlflowClient().list_artifacts(run.info.run_id, "notes")
    check([file.path for file in files], ["notes/a.txt", "notes/d.json"])
    to = mkdtemp()
    copied = mlflow.artifacts.download_artifacts(artifact_uri=f"{run.info.artifact_uri}/notes", dst_path=to)
    check(sorted(os.listdir(copied)), ["a.txt", "d.json"])
    check([file.path for file in mlflow.artifacts.list_artifacts(artifact_uri=uri)], ["notes/a.txt", "notes/d.json"])


def tags_of_an_experiment() -> None:
    experiment = mlflow.set_experiment(f"tagged {uuid.uuid4().hex}").experiment_id
    mlflow.set_experiment_tags({"team": "red", "mlflow.note.content": "# about\n"})
    mlflow.set_experiment_tag("team", "blue")
    check(mlflow.get_experiment(experiment).tags["team"], "blue")
    if THREE:
        MlflowClient().delete_experiment_tag(experiment, "team")
        check("team" in mlflow.get_experiment(experiment).tags, False)


def runs_put_away() -> None:
    experiment = mlflow.set_experiment(f"away {uuid.uuid4().hex}").experiment_id
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1)
    mlflow.delete_run(run.info.run_id)
    check(mlflow.search_runs([experiment], output_format="list"), [])
    found = mlflow.search_runs([experiment], run_view_type=ViewType.ALL, output_format="list")
    check([one.info.lifecycle_stage for one in found], ["deleted"])
    MlflowClient().restore_run(run.info.run_id)
    check(len(mlflow.search_runs([experiment], output_format="list")), 1)
    mlflow.delete_experiment(experiment)
    check(mlflow.get_experiment(experiment).lifecycle_stage, "deleted")
    said = refused("INVALID_PARAMETER_VALUE", lambda: MlflowClient().create_run(experiment))
    assert "active" in said, said


def the_command_line_of_mlflow() -> None:
    experiment = mlflow.set_experiment(f"commands {uuid.uuid4().hex}")
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1)
    folder = mkdtemp()

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", *arguments], capture_output=True, text=True, check=False, cwd=folder
        )
        check((done.returncode, done.stderr if done.returncode else ""), (0, ""))
        return done.stdout

    assert experiment.name in command("experiments", "search")
    assert run.info.run_id in command("runs", "list", "--experiment-id", experiment.experiment_id)


def a_system_metric_logger() -> None:
    """It logs from a thread of its own while the run goes on."""
    try:
        import psutil  # noqa: F401
    except ImportError:
        return
    mlflow.set_system_metrics_sampling_interval(0.1)
    with mlflow.start_run(log_system_metrics=True) as run:
        time.sleep(1.5)
    assert [key for key in mlflow.get_run(run.info.run_id).data.metrics if key.startswith("system/")]
