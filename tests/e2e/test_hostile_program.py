"""A program that spoils the folder of its own run: it loses no outputs by it, and no command of the home hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import CONDA_YAML, mlproject, orch, orch_json
from e2e.test_detached import detached, running
from e2e.test_interruption import begun, start, supervisor_of, wait_until

Make = Callable[..., Path]
METRIC = """echo '{{"metric": "m", "value": 1}}' >>$ORCH_EVENTS; """
RUN = "cd $(dirname $ORCH_EVENTS); "
KEEP = """
import os, sys
from pathlib import Path
from orchestrator.execute.execute import Attachment, Circumstances
from orchestrator.execute.rundir import ProgressWriter, create_run_directory
from orchestrator.execute.supervisor import StopRequest
from orchestrator.execute.viewers import Viewers
from orchestrator.model import new_run_id
from orchestrator.paths import open_home
from orchestrator.resolve import RunRequest
from orchestrator.run import run

class Spoilt(StopRequest):
    count = property(lambda self: 1 / 0 if list(Path(os.environ["ORCH_HOME"]).glob("work/*/checkout/out.txt")) else 0)

home = open_home()
directory = create_run_directory(home, new_run_id(), {})
stop = object.__new__(Spoilt)
stop.number = 0
attachment = Attachment(directory, ProgressWriter(directory, lambda: None), stop, Viewers())
run(RunRequest(sys.argv[1]), Circumstances(dict(os.environ), grace=0.5), attachment, home=home)
"""


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[[str], Path]:
    return lambda command: make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML})


def quickly(*arguments: object, code: int | None = 0) -> str:
    """What `orch` prints; to hang is a failure."""
    return orch(*arguments, code=code, timeout=60).stdout


def test_a_huge_events_file_loses_neither_the_outputs_nor_what_was_logged(make: Callable[[str], Path]) -> None:
    quickly("run", make(METRIC + "echo r >out.txt; truncate -s 8T $ORCH_EVENTS"))
    run = orch_json("show")
    assert (run["status"], run["metrics"]) == ("finished", {"m": 1})
    assert [output["path"] for output in run["outputs"]] == ["out.txt"]
    assert [note for note in run["notes"] if "$ORCH_EVENTS is passed over" in note]
    assert "finished" in quickly("list")


def test_a_huge_events_file_of_a_lost_run_holds_nobody_up(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make(METRIC + "truncate -s 8T $ORCH_EVENTS; echo $$ >pid; echo begun; exec sleep 600"))
    wait_until(lambda: begun(orch_home))
    lose(orch_home, run_id)
    assert "lost" in quickly("list")
    run = orch_json("show", run_id)
    assert run["metrics"] == {"m": 1}
    assert [note for note in run["notes"] if "$ORCH_EVENTS is passed over" in note]


def lose(home: Path, run_id: str) -> None:
    """Kill a run's supervisor and its program."""
    os.kill(supervisor_of(home / "runs" / run_id), signal.SIGKILL)
    os.kill(int((home / "work" / run_id / "checkout" / "pid").read_text()), signal.SIGKILL)


def test_a_run_that_nobody_can_understand_keeps_no_other_from_being_looked_after(
    make: Callable[[str], Path], orch_home: Path
) -> None:
    project = make("echo $$ >pid; echo begun; exec sleep 600")
    run_ids = [detached(project) for _ in range(3)]
    wait_until(lambda: [run["status"] for run in orch_json("ps")] == ["running"] * 3)
    wait_until(lambda: all((orch_home / "work" / r / "checkout" / "pid").exists() for r in run_ids))
    for run_id in run_ids:
        lose(orch_home, run_id)
    for run_id in run_ids[:2]:
        with (orch_home / "runs" / run_id / "journal.jsonl").open("a") as journal:
            journal.write('{"event": "logged", "upto": "far"}\n')
    wait_until(lambda: "lost" in quickly("list"))
    assert orch_json("show", run_ids[2])["status"] == "lost"


def test_an_error_inside_orch_ends_the_program_and_keeps_its_work(make: Callable[[str], Path], orch_home: Path) -> None:
    project = make(METRIC + "setsid bash -c 'echo $$ >grandchild; exec sleep 600' & sleep 0.3; echo r >out.txt; wait")
    done = subprocess.run([sys.executable, "-c", KEEP, project], capture_output=True, text=True, timeout=120)
    assert "inside orch" in done.stderr, done.stderr
    run = orch_json("show")
    work = orch_home / "work" / run["run_id"]
    assert f"by an error inside orch: ZeroDivisionError: division by zero. What it wrote is in {work}." in done.stderr
    assert (work / "checkout" / "out.txt").read_text() == "r\n"
    assert (run["status"], run["metrics"]) == ("failed", {"m": 1})
    assert run["reason"] == "ended by an error inside orch (ZeroDivisionError: division by zero)"
    assert not Path(f"/proc/{(work / 'checkout' / 'grandchild').read_text().strip()}").exists()


def test_where_the_outputs_are_is_said_although_the_end_cannot_be_recorded(
    make: Callable[[str], Path], orch_home: Path
) -> None:
    done = orch("run", make(f"echo r >out.txt; {RUN} rm journal.jsonl; mkfifo journal.jsonl"), code=125, timeout=60)
    (run,) = (orch_home / "runs").iterdir()
    assert f"What is not in the store is in {orch_home / 'work' / run.name}." in done.stderr
    assert "it is no regular file" in done.stderr
    assert (orch_home / "work" / run.name).is_dir()
    quickly("list")
    quickly("ps")
    quickly("show", run.name, code=None)
    quickly("logs", run.name, code=None)
    quickly("rm", run.name, code=None)


@pytest.mark.parametrize("kind", ["mkfifo grace", "ln -s /dev/zero grace", "truncate -s 8T grace", "mkdir grace"])
def test_a_stop_is_heard_whatever_stands_in_the_place_of_the_grace(
    make: Callable[[str], Path], orch_home: Path, kind: str
) -> None:
    run_id = detached(make(f"trap '' TERM; {RUN} {kind}; echo begun; while :; do sleep 0.05; done"), "--grace", "1")
    wait_until(lambda: begun(orch_home) and running(run_id))
    quickly("stop", run_id)
    assert orch_json("show", run_id)["reason"] == "stopped by SIGTERM, then killed"


def test_a_stop_with_a_grace_writes_through_no_link(make: Callable[[str], Path], orch_home: Path) -> None:
    precious = orch_home.parent / "precious"
    precious.write_text("mine")
    run_id = detached(make(f"trap '' TERM; {RUN} ln -s {precious} grace; echo begun; while :; do sleep 0.05; done"))
    wait_until(lambda: begun(orch_home) and running(run_id))
    quickly("stop", run_id, "--grace", "0.5")
    assert precious.read_text() == "mine"
    assert orch_json("show", run_id)["reason"] == "stopped by SIGTERM, then killed"


@pytest.mark.parametrize("text", ['{"machine":1,"boot":2}', '{"machine":1,"boot":2,"pid":"3","start":[]}', "pipe"])
def test_a_supervisor_file_that_is_none_is_no_traceback(
    make: Callable[[str], Path], orch_home: Path, text: str
) -> None:
    run_id = detached(make("echo begun; exec sleep 600"))
    wait_until(lambda: begun(orch_home) and running(run_id))
    file = orch_home / "runs" / run_id / "supervisor.json"
    file.unlink()
    if text == "pipe":
        os.mkfifo(file)
    else:
        file.write_text(text)
    for arguments in (["ps"], ["list"], ["logs", run_id], ["show", run_id]):
        assert "Traceback" not in orch(*arguments, code=None, timeout=60).stderr
    quickly("stop", run_id)
    assert orch_json("show", run_id)["status"] == "stopped"


def test_a_run_inside_a_run_that_is_stopped_is_stopped_itself(
    make: Callable[[str], Path], make_project: Make, orch_home: Path
) -> None:
    inner = make_project({"MLproject": mlproject("echo begun; exec sleep 600"), "conda.yaml": CONDA_YAML}, "inner")
    orch_itself = Path(sys.executable).with_name("orch")
    outer = make(f"{orch_itself} run -q -d {inner} >id; cat id; sleep 600")
    viewer = start("run", outer, "--env", f"ORCH_HOME={orch_home}")
    wait_until(lambda: begun(orch_home))
    viewer.send_signal(signal.SIGTERM)
    viewer.communicate(timeout=60)
    wait_until(lambda: orch_json("ps") == [])
    runs = orch_json("list")
    assert [run["status"] for run in runs] == ["stopped"] * 2, json.dumps(runs)
