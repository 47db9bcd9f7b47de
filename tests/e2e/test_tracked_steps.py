"""Projects of several steps, of the form of MLflow's own multistep example: each step is a child run of orch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json
from e2e.tracked import MLFLOW, Homes, mlflow_homes, mlflow_yaml

PROJECT = """\
name: steps
conda_env: conda.yaml
entry_points:
  main:
    parameters:
      limit: {type: int, default: 2}
    command: "python main.py {limit}"
  load:
    command: "bash load.sh"
  prepare:
    parameters:
      data: string
      limit: {type: int, default: 10}
    command: "python prepare.py {data} {limit}"
  train:
    parameters:
      rows: uri
    command: "python train.py {rows}"
  fails:
    command: "exit 3"
  sleeps:
    command: "touch began; sleep 60"
"""
MAIN = """\
import os
import subprocess
import sys
import time

import mlflow
from mlflow.exceptions import ExecutionException
from mlflow.tracking import MlflowClient
from mlflow.utils import mlflow_tags

client = MlflowClient()


def found_before(entry_point, parameters, commit, experiment_id):
    for run in client.search_runs([experiment_id]):
        tags = run.data.tags
        same = all(run.data.params.get(key) == str(value) for key, value in parameters.items())
        ours = tags.get(mlflow_tags.MLFLOW_PROJECT_ENTRY_POINT) == entry_point
        if ours and same and run.info.status == "FINISHED" and tags.get(mlflow_tags.MLFLOW_GIT_COMMIT) == commit:
            return run
    return None


def get_or_run(entry_point, parameters, commit, experiment_id):
    before = found_before(entry_point, parameters, commit, experiment_id)
    if before is not None:
        print("found", entry_point)
        return before
    print("launching", entry_point)
    submitted = mlflow.run(".", entry_point, parameters=parameters, env_manager="local")
    return client.get_run(submitted.run_id)


mlflow.set_experiment("steps")
with mlflow.start_run() as active:
    commit, experiment = active.data.tags[mlflow_tags.MLFLOW_GIT_COMMIT], active.info.experiment_id
    load = get_or_run("load", {}, commit, experiment)
    data = os.path.join(load.info.artifact_uri, "data")
    prepared = get_or_run("prepare", {"data": data, "limit": sys.argv[1]}, commit, experiment)
    assert prepared.data.metrics == {"rows": int(sys.argv[1])}
    assert prepared.info.experiment_id == experiment
    rows = os.path.join(prepared.info.artifact_uri, "rows.txt")
    get_or_run("train", {"rows": rows}, commit, experiment)
    if len(sys.argv) > 3:
        exec(open(sys.argv[3]).read())
"""
OTHERS = """\
both = [mlflow.projects.run(".", "load", synchronous=False) for _ in range(2)]
assert [one.wait() for one in both] == [True, True]
assert [one.get_status() for one in both] == ["FINISHED"] * 2

for entry_point, parameters in (("fails", None), ("nowhere", None), ("prepare", {"data": data, "limit": "many"})):
    try:
        mlflow.run(".", entry_point, parameters=parameters, backend="local", env_manager="virtualenv")
    except ExecutionException as error:
        print("refused", error)
    else:
        raise AssertionError(entry_point)
try:
    mlflow.run(".", "load", docker_args={"gpus": "all"})
except ExecutionException as error:
    print("refused", error)

slow = mlflow.projects.run(".", "sleeps", synchronous=False)
assert slow.get_status() == "RUNNING"
slow.cancel()
assert slow.get_status() == "FAILED"

mlflow.run(os.environ["ELSEWHERE"], parameters={"word": "remote"})
subprocess.run([os.environ["ORCH_EXE"], "run", ".", "-e", "load", "--run-name", "by hand"], check=True)
subprocess.run([sys.executable, "-m", "mlflow", "run", ".", "-e", "load", "--env-manager", "local"], check=True)
with mlflow.start_run(nested=True, run_name="given") as given:
    submitted = mlflow.projects.run(".", "load", run_id=given.info.run_id, synchronous=False)
    assert submitted.wait() and submitted.run_id != given.info.run_id
mlflow.projects.run(".", "load", synchronous=False)  # not waited for
"""
FILES = {
    "MLproject": PROJECT,
    "main.py": MAIN,
    "others.py": OTHERS,
    "load.sh": "mkdir data; seq 1 9 > data/numbers.txt; echo x > data/other.txt; orch log artifact data\n",
    "prepare.py": (
        "import sys\nfrom pathlib import Path\nimport mlflow\n"
        "data = Path(mlflow.artifacts.download_artifacts(sys.argv[1]))\n"
        'lines = (data / "numbers.txt").read_text().splitlines()[: int(sys.argv[2])]\n'
        'mlflow.log_metric("rows", len(lines))\nmlflow.log_text("\\n".join(lines), "rows.txt")\n'
    ),
    "train.py": (
        "import sys\nfrom pathlib import Path\nimport mlflow\n"
        "rows = Path(mlflow.artifacts.download_artifacts(sys.argv[1])).read_text()\n"
        'Path("sorted.txt").write_text("\\n".join(sorted(rows.splitlines(), reverse=True)))\n'
    ),
}


@pytest.fixture
def mlflow_home(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_channel: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Homes]:
    """A function: a fresh `ORCH_HOME` with an environment of MLFLOW."""
    with mlflow_homes(tmp_path, tmp_path_factory, mlflow_channel, monkeypatch) as homes:
        yield homes


@pytest.fixture
def steps(mlflow_home: Homes, make_project: Callable[..., Path]) -> Callable[..., Path]:
    """A function: the project, for a generation of MLflow."""

    def make(generation: str) -> Path:
        mlflow_home(generation)
        return make_project({**FILES, "conda.yaml": mlflow_yaml(generation)})

    return make


def below(run_id: str) -> list[dict[str, Any]]:
    """The child runs, oldest first."""
    found = [orch_json("show", row["run_id"]) for row in orch_json("list", "-n", "100")]
    return sorted((record for record in found if record["parent"] == run_id), key=lambda record: record["run_id"])


@pytest.mark.parametrize("generation", list(MLFLOW))
def test_each_step_is_a_run_of_its_own_and_is_found_again(
    steps: Callable[..., Path], tmp_path: Path, generation: str
) -> None:
    project = steps(generation)
    done = orch("run", project, "--json")
    record = json.loads(done.stdout)
    children = below(record["run_id"])
    assert [child["spec"]["entry_point"] for child in children] == ["load", "prepare", "train"]
    for child in children:
        assert child["status"] == "finished"
        assert child["experiment"] == "steps"
        assert child["spec"]["source"] == record["spec"]["source"]
        assert child["spec"]["environment"] == record["spec"]["environment"]
    load, prepare, train = children
    assert prepare["params"] == {"data": prepare["params"]["data"], "limit": "2"}
    assert prepare["params"]["data"].endswith(f"/{load['run_id']}/artifacts/data")
    assert train["params"]["rows"].endswith(f"/{prepare['run_id']}/artifacts/rows.txt")
    assert [output["path"] for output in train["outputs"]] == ["sorted.txt"]

    if generation == "mlflow 3":
        replayed = orch_json("replay", train["run_id"])
        assert replayed["verdict"]["result"] == "reproduced"
        assert replayed["parent"] is None
        again = orch_json("run", project, "-P", "limit=3", "-q")
        assert "found load\nlaunching prepare\n" in orch("logs", again["run_id"]).stdout
        assert [child["spec"]["entry_point"] for child in below(again["run_id"])] == ["prepare", "train"]


def test_steps_are_begun_in_every_way_that_mlflow_has(
    steps: Callable[..., Path], tmp_path: Path, make_project: Callable[..., Path]
) -> None:
    project = steps("mlflow 3")
    elsewhere = {
        "MLproject": mlproject("echo {word} > word.txt", "word: string"),
        "conda.yaml": mlflow_yaml("mlflow 3"),
    }
    url = make_project(elsewhere, "elsewhere").as_uri()
    command = ["run", project, "--json", "--env", f"ELSEWHERE={url}"]
    done = orch(*command, "-P", "others=others.py", code=None)
    record = json.loads(done.stdout)
    printed = orch("logs", record["run_id"]).stdout
    assert done.returncode == 0, printed + done.stderr
    children = below(record["run_id"])
    told = [(child["spec"] and child["spec"]["entry_point"], child["status"], child["name"]) for child in children]
    assert told[3:] == [
        ("load", "finished", None),
        ("load", "finished", None),
        ("fails", "failed", None),
        ("sleeps", "stopped", None),
        ("main", "finished", None),
        ("load", "finished", "by hand"),
        ("load", "finished", None),
        (None, "finished", "given"),
        ("load", "finished", None),
        ("load", "finished", None),
    ]
    remote, given, instead = children[7], children[10], children[11]
    assert remote["spec"]["source"]["url"] == url
    said = [line for line in printed.splitlines() if line.startswith(("refused", "orch: "))]
    failed = children[5]["run_id"]
    assert said == [
        f"refused Run (ID '{failed}') failed",
        "orch: there is no entry point 'nowhere'; there are main, load, prepare, train, fails, sleeps; "
        "a .py, .sh or .R file of the project can be named too.",
        "refused orch could not run nowhere of .; what was wrong stands above",
        "orch: parameter 'limit' is an int, and 'many' is none; give a whole number.",
        "refused orch could not run prepare of .; what was wrong stands above",
        "refused docker_args and build_image belong to docker projects, which orch does not run",
        f"orch: run {given['run_id']} is not continued: this step is run {instead['run_id']}.",
    ]


@pytest.mark.parametrize("seen", [False, True], ids=["nobody has seen it yet", "somebody has seen it"])
def test_a_step_belongs_to_a_run_whose_supervisor_was_killed(
    orch_home: Path, make_project: Callable[..., Path], tmp_path: Path, *, seen: bool
) -> None:
    main = "touch {folder}/began; until test -e {folder}/go; do sleep 0.05; done; orch run . -e step.sh"
    files = {"MLproject": mlproject(main, "folder: string"), "conda.yaml": CONDA_YAML, "step.sh": "echo step\n"}
    command: list[str | Path] = [ORCH, "run", make_project(files), "-P", f"folder={tmp_path}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "began").exists)
    (run_id,) = os.listdir(orch_home / "work")
    os.kill(json.loads((orch_home / "runs" / run_id / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    if seen:
        process.wait(30)
        assert orch_json("show", run_id)["status"] == "orphaned"
    else:
        process.kill()
        process.wait()
    (tmp_path / "go").touch()

    wait_for(lambda: [row["status"] for row in orch_json("list") if row["run_id"] != run_id] == ["finished"])
    (step,) = [row for row in orch_json("list") if row["run_id"] != run_id]
    assert step["parent"] == run_id


def wait_for(condition: Callable[[], object]) -> None:
    """Wait half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
