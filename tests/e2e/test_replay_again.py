"""Replays that are compared late, or again; and what a project declares of its metrics."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json
from orchestrator.compare import Rules, Tolerance
from orchestrator.errors import OrchError
from orchestrator.execute.supervisor import StopRequest
from orchestrator.paths import open_home
from orchestrator.replay import compare

Make = Callable[..., Path]

LONG = """
import array, os
numbers = array.array("Q", os.urandom(8 * 250_000))
open("n.txt", "w").writelines(f"{i}.{n}\\n" for i, n in enumerate(numbers))
"""
"""Two outputs of this take seconds to compare with a tolerance."""


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[..., Path]:
    """A function that makes a project of one Python program; `declared` is added to its MLproject."""

    def project(program: str, declared: str = "", **files: str) -> Path:
        first = mlproject("python main.py") + declared
        return make_project({"MLproject": first, "conda.yaml": CONDA_YAML, "main.py": program} | files)

    return project


def logging(*events: str) -> str:
    """A program that logs these events, each the text of a Python expression."""
    lines = [f"print(json.dumps({event}), file=file)" for event in events]
    return "\n".join(["import json, os, time", "file = open(os.environ['ORCH_EVENTS'], 'w')", *lines])


def newest(orch_home: Path) -> Path:
    return max((orch_home / "runs").iterdir())


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextmanager
def comparing(run_id: str, orch_home: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A replay that has run, and is being compared now."""
    command = [ORCH, "replay", run_id, "-q", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for(
            lambda: any('"comparing"' in p.read_text() for p in [newest(orch_home) / "progress.jsonl"] if p.exists())
        )
        yield process


def supervisor(orch_home: Path) -> int:
    return int(json.loads((newest(orch_home) / "supervisor.json").read_text())["pid"])


def is_locked(path: Path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# --- a comparison that is interrupted ---------------------------------------------------------------------------


def test_a_stop_during_the_comparison_is_heeded_and_it_is_compared_later(make: Make, orch_home: Path) -> None:
    run = orch_json("run", make(LONG), "-q")
    with comparing(run["run_id"], orch_home, "-t", "9e99") as process:
        replay_id = newest(orch_home).name
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 125
    assert f"stopped while it was compared; the replay is recorded: orch replay --compare {replay_id[:16]}" in said
    assert "finished, not compared" in orch("list").stdout
    assert f"not compared: orch replay --compare {replay_id[:16]} does it" in orch("show", replay_id).stdout
    assert orch_json("show", replay_id)["verdict"] is None
    assert "not compared" not in orch("show", run["run_id"]).stdout


def test_after_a_kill_it_is_compared_without_running_again(make: Make, orch_home: Path) -> None:
    run = orch_json("run", make(LONG), "-q")
    with comparing(run["run_id"], orch_home, "-t", "9e99") as process:
        os.kill(supervisor(orch_home), signal.SIGKILL)
        _, said = process.communicate()
    replay_id = newest(orch_home).name
    assert process.returncode == 125
    assert f"the run is finished; orch replay --compare {replay_id[:16]} compares it" in said
    assert "finished, not compared" in orch("list").stdout
    record = orch_json("replay", "--compare", "latest", code=1)
    assert record["run_id"] == replay_id
    assert record["verdict"]["outputs"][0]["result"] == "different"
    assert "differs" in orch("list").stdout
    assert len(orch_json("list")) == 2


def test_no_run_is_removed_while_its_supervisor_compares_it(make: Make, orch_home: Path) -> None:
    run = orch_json("run", make(LONG), "-q")
    with comparing(run["run_id"], orch_home, "-t", "9e99") as process:
        replay_id = newest(orch_home).name
        said = orch("rm", replay_id, code=125).stderr
        assert "is being compared with its original; remove it when that is done" in said
        assert f"or stop it with orch stop {replay_id[:16]}." in said
        assert f"is being replayed by run {replay_id}" in orch("rm", run["run_id"], code=125).stderr
        process.communicate()
    assert process.returncode == 0
    orch("rm", run["run_id"], replay_id)
    assert orch_json("list") == []


def test_a_removal_waits_for_a_comparison(make: Make, orch_home: Path) -> None:
    run = orch_json("run", make(LONG), "-q")
    replay_id = orch_json("replay", run["run_id"], "-q", code=1)["run_id"]
    command = [ORCH, "replay", "--compare", replay_id, "-t", "9e99", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: is_locked(orch_home / "store" / ".lock"))
        removed = orch("rm", run["run_id"])
        out, _ = process.communicate()
    assert "waiting      for a run that stores or compares its outputs" in removed.stderr
    assert process.returncode == 0
    assert [output["result"] for output in json.loads(out)["verdict"]["outputs"]] == ["equivalent"]
    gone = f"the original of run {replay_id}, run {run['run_id']}, is not here any more, so there is nothing to compare"
    assert gone in orch("replay", "--compare", replay_id, code=125).stderr
    assert "reproduced" in orch("list").stdout


def test_the_original_is_not_removed_while_the_replay_runs(make: Make, orch_home: Path) -> None:
    program = "import os, time\nopen('x', 'w').write('1')\ntime.sleep(float(os.environ['WAIT']))\n"
    run = orch_json("run", make(program), "-q", "--env", "WAIT=2")
    with subprocess.Popen([ORCH, "replay", run["run_id"], "-q"], stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: orch_json("list", "--status", "running"))
        assert "is being replayed by run" in orch("rm", run["run_id"], code=125).stderr
    assert process.returncode == 0


def test_a_stop_that_came_before_the_comparison_is_heeded_too(make: Make, orch_home: Path) -> None:
    orch("run", make("open('x', 'w').write('1')\n"), "-q")
    record = orch_json("replay", "-q")
    late = StopRequest(number=signal.SIGTERM, count=1, program_runs=True)
    with pytest.raises(OrchError, match="stopped while it was compared"):
        compare(record["run_id"], Rules(everything=Tolerance(1.0)), late, home=open_home())
    assert orch_json("show", record["run_id"]) == record


# --- compared again ---------------------------------------------------------------------------------------------


def test_a_replay_is_compared_again_with_other_tolerances(make: Make, orch_home: Path) -> None:
    program = "import time\nopen('n.txt', 'w').write(f'error {1 + time.time() % 1 * 1e-9:.15f}')\n"
    run = orch_json("run", make(program), "-q")
    before = orch_json("replay", run["run_id"], "-q", code=1)
    said = orch("replay", "--compare", before["run_id"], "-t", "*.txt:1e-6").stdout
    assert said.startswith(f"reproduced: run {before['run_id'][:16]} of {run['run_id'][:16]}\n")
    after = orch_json("show", before["run_id"])
    assert [rule["pattern"] for rule in after["verdict"]["rules"]["outputs"]] == ["*.txt"]
    assert {**after, "verdict": None} == {**before, "verdict": None}
    orch("ledger", "rebuild")
    assert orch_json("show", before["run_id"]) == after
    verdicts = [line for line in (newest(orch_home) / "journal.jsonl").read_text().splitlines() if '"verdict"' in line]
    assert len(verdicts) == 2
    assert orch_json("replay", "--compare", before["run_id"], code=1)["verdict"]["result"] == "differs"


def test_only_a_replay_that_ended_is_compared(make: Make, orch_home: Path) -> None:
    run = orch_json("run", make("open('x', 'w').write('1')\nimport time; time.sleep(1)\n"), "-q")
    short = run["run_id"][:16]
    assert f"is no replay: orch replay {short} makes one" in orch("replay", "--compare", short, code=125).stderr
    assert "--repeat has no meaning with --compare" in orch("replay", "--compare", "--repeat", "2", code=2).stderr
    assert "-P has no meaning with --compare" in orch("replay", "--compare", "-P", "a=1", code=2).stderr
    with subprocess.Popen([ORCH, "replay", short, "-q"]) as process:
        wait_for(lambda: orch_json("list", "--status", "running"))
        process.send_signal(signal.SIGTERM)
    said = orch("replay", "--compare", newest(orch_home).name, code=125).stderr
    assert "is stopped: there is no result to compare" in said


def test_without_its_commit_nobody_knows_what_a_project_declared(make: Make, orch_home: Path) -> None:
    orch("run", make("open('x', 'w').write('1')\n"), "-q")
    orch("replay", "-q")
    (mirror,) = (orch_home / "sources").glob("*.git")
    mirror.rename(orch_home / "elsewhere")
    said = orch("replay", "--compare", code=125).stderr
    assert "is not here any more, so what its project declares is not known" in said


# --- metrics and parameters -------------------------------------------------------------------------------------


def test_a_project_declares_how_near_its_metrics_must_be(make: Make) -> None:
    program = logging(
        "{'metric': 'rmse', 'value': 1 + time.time() % 1 * 1e-9}",
        "{'metric': 'seconds', 'value': time.time()}",
        "{'metric': 'same', 'value': 1}",
    )
    declared = "metrics:\n  rmse: 1e-6\n  '*seconds': ignore\n"
    run = orch_json("run", make(program, declared), "-q")
    verdict = orch_json("replay", run["run_id"], "-q")["verdict"]
    assert {item["name"]: item["result"] for item in verdict["metrics"]} == {
        "rmse": "within tolerance",
        "seconds": "ignored",
        "same": "equal",
    }
    assert verdict["rules"]["metrics"] == [
        {"pattern": "rmse", "tolerance": {"relative": 1e-6, "absolute": 0}},
        {"pattern": "*seconds", "tolerance": None},
    ]
    again = orch_json("replay", "--compare", "-t", "metrics:rmse:0", code=1)["verdict"]
    assert again["metrics"][0]["result"] == "different"


def test_what_a_project_declares_wrongly_is_said_when_it_is_run(make: Make) -> None:
    folder = make("open('a.txt', 'w').write('1')\n", "metrics:\n  rmse: {relativ: 1}\n")
    done = orch("run", folder)
    told = "would have no say in a replay: MLproject: metrics, 'rmse': 'relativ' is neither relative nor absolute"
    assert told in " ".join(done.stderr.split())
    assert any(told in note for note in orch_json("show")["notes"])
    record = orch_json("replay")
    assert any("has no say: MLproject: metrics" in note for note in record["notes"])
    again = orch("replay", "--compare")
    assert "has no say: MLproject: metrics" in again.stderr
    assert orch_json("show", record["run_id"])["notes"] == record["notes"]


def test_a_wrong_section_of_a_pyproject_is_said_too(make: Make) -> None:
    folder = make("pass\n", **{"pyproject.toml": "[tool.orch.outputs]\n'a' = {tolerance = -1}\n"})
    assert "[tool.orch.outputs], 'a', tolerance: -1 is not a number from 0 up" in orch("run", folder).stderr


def test_a_parameter_that_the_program_logs_must_come_out_again(make: Make) -> None:
    program = logging(
        "{'param': 'depth', 'value': 7}",
        "{'param': 'run', 'value': os.environ['ORCH_RUN_ID']}",
        "{'param': 'here', 'value': os.getcwd()}",
    )
    folder = make(program + "\nprint(json.dumps({'param': 'at', 'value': time.time()}), file=file)\n")
    run = orch_json("run", folder, "-q")
    verdict = orch_json("replay", run["run_id"], "-q", code=1)["verdict"]
    assert {item["name"]: (item["result"], item["rules"]) for item in verdict["params"]} == {
        "depth": ("equal", []),
        "run": ("equivalent", ["own-run-id-1"]),
        "here": ("equivalent", ["own-paths-1"]),
        "at": ("different", []),
    }
    assert verdict["result"] == "differs"
    assert verdict["params"][3]["recorded"] == run["params"]["at"]


def test_a_parameter_that_is_not_logged_again_is_missing(make: Make, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    program = f"{logging()}\nif not os.path.exists({str(outside)!r}):\n    "
    program += "print(json.dumps({'param': 'depth', 'value': 7}), file=file)\n"
    run = orch_json("run", make(program), "-q")
    outside.touch()
    record = orch_json("replay", run["run_id"], "-q", code=1)
    assert record["verdict"]["params"] == [
        {"name": "depth", "result": "missing", "recorded": "7", "replayed": None, "rules": []}
    ]
    assert record["params"] == {}
    said = orch("replay", run["run_id"], "--repeat", "2", code=1).stdout
    assert "the 2 replays agree with each other and not with the record" in said
