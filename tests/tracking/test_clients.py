"""Programs that log with the real MLflow, of both generations, log into the ledger unchanged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking.calls import get, post
from tracking.conversation import Conversation
from tracking.real_mlflow import QUIET, plain_environ

CLIENTS = Path(__file__).with_name("clients.py")

COMMON = [
    "params_metrics_and_tags",
    "batches",
    "asynchronous_logging",
    "many_threads",
    "artifacts",
    "datasets",
    "a_model",
    "models_of_mlflow_3",
    "autologging",
    "a_grid_search_in_threads",
    "a_run_is_resumed",
    "nested_runs",
    "searches",
    "experiments",
    "runs_of_a_client",
    "a_traced_function",
    "runs_as_a_list_and_a_table",
    "a_long_history",
    "an_artifact_is_written_again",
    "tags_of_an_experiment",
    "runs_put_away",
    "the_command_line_of_mlflow",
    "a_system_metric_logger",
    "a_registered_model",
    "a_model_registered_later",
    "a_model_that_is_only_named",
]

Python = Callable[[str], Path]


# One process for all: it takes seconds to import MLflow and scikit-learn.
@pytest.mark.parametrize("generation", ["2", "3"])
def test_programs_log_into_the_ledger(generation: str, mlflow_python: Python, orch_server: str, tmp_path: Path) -> None:
    assert_run(COMMON, mlflow_python(generation), orch_server, tmp_path)


@pytest.mark.parametrize("generation", ["2", "3"])
def test_the_same_programs_log_into_mlflow(
    generation: str, mlflow_python: Python, real_server: Callable[[str], str], tmp_path: Path
) -> None:
    """So that what they check is right."""
    assert_run(COMMON, mlflow_python(generation), real_server(generation), tmp_path)


def test_what_a_program_logged_is_read_without_a_library(
    mlflow_python: Python, orch_server: str, tmp_path: Path
) -> None:
    assert_run(["params_metrics_and_tags"], mlflow_python("3"), orch_server, tmp_path)
    conversation = Conversation(orch_server)
    (experiments,) = conversation.answers([post("experiments/search", {"max_results": 1000})])
    assert experiments.content["experiments"]
    found = conversation.answers(
        [
            post("experiments/search", {"max_results": 1}, keep={"exp": "experiments.0.experiment_id"}),
            post("runs/search", {"experiment_ids": ["{exp}"]}, keep={"run": "runs.0.info.run_id"}),
            get("metrics/get-history", run_id="{run}", metric_key="m"),
        ]
    )
    (run,) = found[1].content["runs"]
    assert run["info"]["run_name"] == "all of it"
    assert {"key": "alpha", "value": "5.1"} in run["data"]["params"]
    assert [(point["step"], point["value"]) for point in found[2].content["metrics"]] == [
        (0, 0.25),
        (1, 0.5),
        (-3, -0.5),
    ]


def assert_run(scripts: list[str], python: Path, url: str, folder: Path) -> None:
    """Run the scripts in one process against the server at `url`; each must end well."""
    environ = {
        **plain_environ(folder),
        **QUIET,
        "MLFLOW_TRACKING_URI": url,
        # What fails should fail at once, not after the client's four minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        # Else a program that logs a model waits for one that loads it again.
        "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "MPLBACKEND": "Agg",
    }
    done = subprocess.run(
        [python, CLIENTS, *scripts],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"script"')]
    failed = [f"{result['script']}:\n{result['error']}" for result in results if result["error"]]
    assert not failed, "\n".join(failed)
    assert [result["script"] for result in results] == scripts, done.stderr[-4000:]
    assert not (folder / "mlruns").exists()
