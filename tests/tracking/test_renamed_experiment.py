"""A name that an experiment was made with still means it, as it does in the records of its runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tracking.calls import API
from tracking.real_mlflow import QUIET, plain_environ
from tracking.serving import Server, ask, orch_serving

AGAIN = """\
import mlflow

client = mlflow.MlflowClient()
first = mlflow.set_experiment("alpha1").experiment_id
with mlflow.start_run() as before:
    pass
client.rename_experiment(first, "alpha2")
found = mlflow.set_experiment("alpha1")
assert (found.experiment_id, found.name) == (first, "alpha2"), found
with mlflow.start_run() as after:
    pass
runs = mlflow.search_runs(experiment_names=["alpha2"], output_format="list")
assert {run.info.run_id for run in runs} == {before.info.run_id, after.info.run_id}, runs
assert [found.name for found in client.search_experiments()] == ["alpha2", "Default"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with orch_serving(tmp_path_factory.mktemp("renamed")) as server:
        yield server


def made(server: Server, name: str) -> str:
    return str(ask(server, "POST", f"{API}experiments/create", {"name": name}).said["experiment_id"])


def rename(server: Server, identity: str, name: str) -> int:
    told = {"experiment_id": identity, "new_name": name}
    return ask(server, "POST", f"{API}experiments/update", told).status


def known(server: Server, name: str) -> Any:
    """The experiment of this name, or the code of the error that is answered."""
    said = ask(server, "GET", f"{API}experiments/get-by-name?experiment_name={quote(name)}").said
    return said["experiment"] if "experiment" in said else said["error_code"]


@pytest.mark.parametrize("generation", ["2", "3"])
def test_a_program_that_has_the_former_name_goes_on(
    generation: str, mlflow_python: Callable[[str], Path], tmp_path: Path
) -> None:
    with orch_serving(tmp_path) as server:
        environ = {
            **plain_environ(tmp_path),
            **QUIET,
            "MLFLOW_TRACKING_URI": server.url,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        }
        command = [mlflow_python(generation), "-c", AGAIN]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_former_name_gives_the_experiment_as_it_is_called_now(server: Server) -> None:
    identity = made(server, "first")
    assert rename(server, identity, "second") == 200
    for name in ("first", "second"):
        assert (known(server, name)["experiment_id"], known(server, name)["name"]) == (identity, "second")
    assert rename(server, identity, "first") == 200
    assert known(server, "first")["name"] == "first"
    assert known(server, "second") == "RESOURCE_DOES_NOT_EXIST"


def test_whoever_has_a_name_now_is_meant_by_it(server: Server) -> None:
    one, other = made(server, "one"), made(server, "other")
    assert rename(server, one, "one, later") == 200
    assert rename(server, other, "one") == 400  # runs of the first one have it in their records
    assert known(server, "one")["experiment_id"] == one
    assert known(server, "other")["experiment_id"] == other


def test_a_deleted_experiment_is_found_by_its_former_name_as_deleted(server: Server) -> None:
    identity = made(server, "to go")
    assert rename(server, identity, "gone") == 200
    assert ask(server, "POST", f"{API}experiments/delete", {"experiment_id": identity}).status == 200
    assert (known(server, "to go")["name"], known(server, "to go")["lifecycle_stage"]) == ("gone", "deleted")


def test_the_default_experiment_may_be_called_otherwise(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        ask(server, "POST", f"{API}runs/create", {"experiment_id": "0"})
        assert rename(server, "0", "mine") == 200
        for name in ("Default", "mine"):
            assert (known(server, name)["experiment_id"], known(server, name)["name"]) == ("0", "mine")
        found = ask(server, "POST", f"{API}experiments/search", {"max_results": 9}).said["experiments"]
        assert [experiment["name"] for experiment in found] == ["mine"]


def test_a_name_that_nobody_has_or_had_is_not_there(server: Server) -> None:
    for name in ("absent", "", "0"):
        assert known(server, name) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
