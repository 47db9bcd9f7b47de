"""The tracking server of a run is killed, or its supervisor: what was acknowledged stays, and the program goes on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from e2e.conftest import ORCH, mlproject, orch, orch_json
from e2e.tracked import Homes, mlflow_homes, mlflow_yaml

# A call whose answer is cut off in its middle fails; all others wait for the next server.
LOGGING = """\
import json
import os
import sys
import time
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

folder = Path(sys.argv[1])
client = MlflowClient()
child = client.create_run("0", run_name="child").info.run_id
quiet = client.create_run("0", run_name="quiet").info.run_id
runs = {"own": os.environ["MLFLOW_RUN_ID"], "child": child}
failed = step = 0
with (folder / "acknowledged").open("a", buffering=1) as acknowledged:
    while not (folder / "enough").exists():
        step += 1
        if (folder / "say").exists():
            client.log_metric(quiet, "said", step)
            (folder / "say").rename(folder / "said")
        for name, run_id in runs.items():
            points = [Metric(key, step, 0, step) for key in ("a", "b")]
            try:
                if step % 2:
                    client.log_batch(run_id, metrics=points)
                else:
                    client.log_metric(run_id, "a", step, step=step)
            except mlflow.MlflowException:
                failed += 1
                continue
            acknowledged.write(f"{name} {step}\\n")
print("failed", failed)
client.set_terminated(child)
"""


@pytest.fixture
def mlflow_home(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_channel: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Homes]:
    """A function: a fresh `ORCH_HOME` with an environment of MLFLOW."""
    with mlflow_homes(tmp_path, tmp_path_factory, mlflow_channel, monkeypatch) as homes:
        yield homes


@pytest.fixture
def start(
    mlflow_home: Homes, make_project: Callable[..., Path], tmp_path: Path
) -> Callable[[], subprocess.Popen[bytes]]:
    """A function that starts a run whose program logs until the file `enough` is there."""
    mlflow_home("mlflow 3")
    command = mlproject("python train.py {folder}", "folder: string")
    project = make_project({"MLproject": command, "conda.yaml": mlflow_yaml("mlflow 3"), "train.py": LOGGING})
    silent = subprocess.DEVNULL
    return lambda: subprocess.Popen([ORCH, "run", project, "-P", f"folder={tmp_path}"], stdout=silent, stderr=silent)


def acknowledged(folder: Path) -> dict[str, set[int]]:
    """The steps that were acknowledged, of the run itself and of its child."""
    found: dict[str, set[int]] = {"own": set(), "child": set()}
    with (folder / "acknowledged").open() as lines:
        for line in lines:
            name, step = line.split()
            found[name].add(int(step))
    return found


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def wait_for_more(folder: Path) -> None:
    """Until more calls have been acknowledged than now."""

    def count() -> int:
        return (folder / "acknowledged").stat().st_size if (folder / "acknowledged").exists() else 0

    before = count()
    wait_for(lambda: count() > before + 100, "no call is answered any more")


def servers() -> list[psutil.Process]:
    """The processes that serve the runs of this home: the one that keeps the server comes first."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = "orchestrator.tracking.kept" in process.cmdline()
            if ours and process.environ().get("ORCH_HOME") == os.environ["ORCH_HOME"]:
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.create_time())


def journal_points(run_id: str, key: str) -> list[tuple[int, float]]:
    """The step and value of each point that the journal of a run has."""
    text = (Path(os.environ["ORCH_HOME"]) / "runs" / run_id / "journal.jsonl").read_text()
    points = [point for line in text.splitlines() for point in json.loads(line).get("metrics", ())]
    return [(point["step"], point["value"]) for point in points if point["name"] == key]


def check_ledger(run_id: str, folder: Path, kills: int) -> None:
    """Whether all that was acknowledged is in the ledger, each point of the journals once.

    The journal itself may have a point twice for each kill: a client sends again what it got no answer to.
    """
    (child,) = [row["run_id"] for row in orch_json("list", "-n", "10") if row["name"] == "child"]
    with closing(sqlite3.connect(Path(os.environ["ORCH_HOME"]) / "ledger.db")) as database:
        for name, run in (("own", run_id), ("child", child)):
            query = "SELECT step, value FROM metrics WHERE run_id = ? AND key = ? ORDER BY position"
            for key in ("a", "b"):
                rows = database.execute(query, (run, key)).fetchall()
                assert rows == journal_points(run, key)
                assert len(rows) <= len({*rows}) + kills
                assert all(step == value for step, value in rows)
                missing = {step for step in acknowledged(folder)[name] if key == "a" or step % 2}
                missing -= {step for step, _ in rows}
                assert not missing, f"{len(missing)} of {name}'s {key}"
    shown = orch_json("show", child)
    assert (shown["parent"], shown["status"]) == (run_id, "finished")


def test_a_server_that_is_killed_is_started_again_and_nothing_acknowledged_is_lost(
    start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = start()
    wait_for_more(tmp_path)
    for _ in range(6):
        wait_for(lambda: len(servers()) == 2, "no server is started")
        keeper, server = servers()
        assert server.ppid() == keeper.pid
        (tmp_path / "said").unlink(missing_ok=True)
        (tmp_path / "say").touch()
        wait_for((tmp_path / "said").exists, "it says nothing")
        os.kill(server.pid, signal.SIGKILL)
        wait_for_more(tmp_path)
    wait_for(lambda: len(servers()) == 2, "no server is started")
    keeper, _ = servers()
    os.kill(keeper.pid, signal.SIGKILL)
    wait_for_more(tmp_path)
    (tmp_path / "enough").touch()
    assert process.wait(60) == 0

    record = orch_json("show", next(row["run_id"] for row in orch_json("list") if row["parent"] is None))
    assert record["status"] == "finished"
    (note,) = record["notes"]
    assert note.startswith("the tracking server had trouble: it was ended by SIGKILL, and started again. See ")
    assert servers() == []
    check_ledger(record["run_id"], tmp_path, kills=6)
    (quiet,) = [orch_json("show", row["run_id"]) for row in orch_json("list", "-n", "10") if row["name"] == "quiet"]
    assert quiet["status"] == "failed"  # it was left open
    with closing(sqlite3.connect(Path(os.environ["ORCH_HOME"]) / "ledger.db")) as database:
        query = "SELECT count(DISTINCT value) FROM metrics WHERE run_id = ? AND key = 'said'"
        assert database.execute(query, (quiet["run_id"],)).fetchone() == (6,)
    failed = int(orch("logs", record["run_id"]).stdout.split("failed ")[1].split()[0])
    assert failed <= 6


def test_a_server_outlives_a_killed_supervisor_for_the_program_and_ends_after_it(
    start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = start()
    wait_for_more(tmp_path)
    (run_id,) = os.listdir(Path(os.environ["ORCH_HOME"]) / "work")
    supervisor = json.loads((Path(os.environ["ORCH_HOME"]) / "runs" / run_id / "supervisor.json").read_text())
    os.kill(supervisor["pid"], signal.SIGKILL)
    assert process.wait(30) == 125
    wait_for_more(tmp_path)
    assert orch_json("show", run_id)["status"] == "orphaned"
    (tmp_path / "enough").touch()
    wait_for(lambda: not servers(), "the server does not end")

    assert orch_json("show", run_id)["status"] == "lost"
    check_ledger(run_id, tmp_path, kills=0)
