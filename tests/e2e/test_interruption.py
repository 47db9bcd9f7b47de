"""Signals, lost connections and kill -9: every run ends in the ledger as what it was."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from e2e.conftest import CONDA_YAML, ORCH, SIX_YAML, mlproject, orch, orch_json

Make = Callable[..., Path]
SLOW = "echo $$ >pid; echo begun; for i in $(seq 200); do sleep 0.05; done; echo done"


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [ORCH, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_until(what: Callable[[], object], seconds: float = 60) -> object:
    """The first true answer of `what`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = what()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def begun(home: Path) -> Path | None:
    """The directory of a run whose program has printed something."""
    return next((p.parent for p in (home / "runs").glob("*/stdout.log") if "begun" in p.read_text()), None)


def supervisor_of(run: Path) -> int:
    return int(json.loads((run / "supervisor.json").read_text())["pid"])


@pytest.fixture
def slow(make_project: Make, orch_home: Path) -> Path:
    return make_project({"MLproject": mlproject(SLOW), "conda.yaml": CONDA_YAML})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_viewer_stops_the_run(slow: Path, orch_home: Path, number: signal.Signals) -> None:
    viewer = start("run", slow)
    wait_until(lambda: begun(orch_home))
    viewer.send_signal(number)
    _, errors = viewer.communicate(timeout=60)
    assert viewer.returncode == 128 + number, errors
    run = orch_json("show")
    assert run["status"] == "stopped"
    assert number.name in run["reason"]


def test_sigterm_to_the_supervisor_stops_the_run(slow: Path, orch_home: Path) -> None:
    viewer = start("run", slow)
    run = wait_until(lambda: begun(orch_home))
    os.kill(supervisor_of(run), signal.SIGTERM)
    viewer.communicate(timeout=60)
    assert viewer.returncode == 128 + signal.SIGTERM
    assert orch_json("show")["status"] == "stopped"


def test_a_hangup_ends_the_viewer_and_nothing_else(make_project: Make, orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("echo begun; sleep 1; echo done"), "conda.yaml": CONDA_YAML})
    viewer = start("run", project)
    run = wait_until(lambda: begun(orch_home))
    os.killpg(viewer.pid, signal.SIGHUP)
    viewer.communicate(timeout=60)
    assert viewer.returncode == -signal.SIGHUP
    assert orch_json("show")["status"] == "running"
    wait_until(lambda: orch_json("show")["status"] == "finished")
    assert (run / "stdout.log").read_text() == "begun\ndone\n"


def test_a_reader_that_has_enough_does_not_end_the_run(make_project: Make, orch_home: Path) -> None:
    project = make_project(
        {"MLproject": mlproject("yes | head -n 200000; sleep 0.3; echo end"), "conda.yaml": CONDA_YAML}
    )
    done = subprocess.run(f"{ORCH} run {project} | head -n 1", shell=True, capture_output=True, text=True)
    assert "the run goes on" in done.stderr
    wait_until(lambda: [r for r in orch_json("list") if r["status"] == "finished"])


def test_interrupting_before_the_program_runs_records_nothing(make_project: Make, cold_home: Path) -> None:
    project = make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML})
    viewer = start("run", project)
    time.sleep(0.5)  # it solves and installs for longer than that
    viewer.send_signal(signal.SIGINT)
    _, errors = viewer.communicate(timeout=60)
    assert viewer.returncode == 130, errors
    assert orch_json("list") == []
    assert list((cold_home / "runs").iterdir()) == []
    orch("run", project)


def test_a_killed_supervisor_leaves_an_orphan_and_then_a_lost_run(slow: Path, orch_home: Path) -> None:
    viewer = start("run", slow)
    run = wait_until(lambda: begun(orch_home))
    os.kill(supervisor_of(run), signal.SIGKILL)
    _, errors = viewer.communicate(timeout=60)
    assert viewer.returncode == 125
    assert "orphaned" in errors
    assert orch_json("show")["status"] == "orphaned"
    assert "orphaned" in orch("list").stdout
    program = int((orch_home / "work" / run.name / "checkout" / "pid").read_text())
    os.kill(program, signal.SIGKILL)
    wait_until(lambda: orch_json("show")["status"] == "lost")
    assert "begun" in orch("logs").stdout


def test_what_a_program_logged_before_the_kill_is_in_the_lost_run(make_project: Make, orch_home: Path) -> None:
    command = (
        """for i in 1 2 3; do echo '{{"metric": "m", "value": '$i'}}' >>$ORCH_EVENTS; sleep 0.7; done; """
        """echo '{{"metric": "m", "value": 4}}' >>$ORCH_EVENTS; echo $$ >pid; echo begun; sleep 60"""
    )
    viewer = start("run", make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML}))
    run = wait_until(lambda: begun(orch_home))
    os.kill(supervisor_of(run), signal.SIGKILL)
    os.kill(int((orch_home / "work" / run.name / "checkout" / "pid").read_text()), signal.SIGKILL)
    viewer.communicate(timeout=60)
    wait_until(lambda: orch_json("show")["status"] == "lost")
    assert orch_json("show")["metrics"] == {"m": 4}
    journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    points = [point["value"] for event in journal for point in event.get("metrics", [])]
    assert points == [1, 2, 3, 4]  # each once


def test_a_run_whose_grandchild_outlives_it_is_orphaned_not_lost(make_project: Make, orch_home: Path) -> None:
    command = "setsid bash -c 'echo $$ >grandchild; sleep 60' & echo $$ >pid; echo begun; wait"
    viewer = start("run", make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML}))
    run = wait_until(lambda: begun(orch_home))
    checkout = orch_home / "work" / run.name / "checkout"
    grandchild = int(wait_until(lambda: (checkout / "grandchild").exists() and (checkout / "grandchild").read_text()))
    os.kill(supervisor_of(run), signal.SIGKILL)
    os.kill(int((checkout / "pid").read_text()), signal.SIGKILL)
    viewer.communicate(timeout=60)
    wait_until(lambda: orch_json("show")["status"] == "orphaned")
    assert str(grandchild) in orch("show").stdout
    assert "orphaned" in orch("rm", "latest", code=125).stderr
    os.kill(grandchild, signal.SIGKILL)
    wait_until(lambda: orch_json("show")["status"] == "lost")


def test_a_run_of_another_machine_is_shown_with_its_heartbeat_and_never_swept(slow: Path, orch_home: Path) -> None:
    viewer = start("run", slow)
    run = wait_until(lambda: begun(orch_home))
    journal = (run / "journal.jsonl").read_text()
    supervisor = supervisor_of(run)
    os.kill(supervisor, signal.SIGKILL)
    viewer.communicate(timeout=60)
    # The same journal, as a login node that shares this home would have written it.
    events = [json.loads(line) for line in journal.splitlines()]
    for event in events:
        for identity in ("supervisor", "child"):
            if identity in event:
                event[identity] |= {"machine": "login-2", "boot": "another"}
        if "host" in event:
            event["host"]["hostname"] = "login-2"
    (run / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    orch("ledger", "rebuild")
    assert orch_json("show")["status"] == "running"
    assert "running on login-2, seen" in orch("list").stdout
    os.kill(int((orch_home / "work" / run.name / "checkout" / "pid").read_text()), signal.SIGKILL)


def test_a_killed_program_is_a_failed_run(slow: Path, orch_home: Path) -> None:
    viewer = start("run", slow)
    run = wait_until(lambda: begun(orch_home))
    program = wait_until(lambda: (orch_home / "work" / run.name / "checkout" / "pid").read_text().strip())
    os.kill(int(str(program)), signal.SIGKILL)
    viewer.communicate(timeout=60)
    assert viewer.returncode == 128 + signal.SIGKILL
    assert (orch_json("show")["status"], orch_json("show")["reason"]) == ("failed", "ended by SIGKILL")


def test_sixteen_runs_at_once_build_their_environment_once(make_project: Make, cold_home: Path) -> None:
    project = make_project({"MLproject": mlproject("echo {n}", "n: int"), "conda.yaml": CONDA_YAML})
    with ThreadPoolExecutor(16) as threads:
        done = list(threads.map(lambda n: orch("run", project.as_uri(), "-P", f"n={n}", timeout=600), range(16)))
    assert [d.stdout for d in done] == [f"{n}\n" for n in range(16)]
    runs = orch_json("list", "-n", 100)
    assert sorted(int(r["params"]["n"]) for r in runs) == list(range(16))
    assert {r["status"] for r in runs} == {"finished"}
    assert len({r["spec"]["environment"]["lock_id"] for r in runs}) == 1
    assert len([p for p in (cold_home / "envs").iterdir() if not p.name.startswith(".")]) == 1
    assert sum("installing" in d.stderr for d in done) == 1


def running(home: Path) -> list[psutil.Process]:
    """The living processes that work for this home: they have it in their command line, directory or variables."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            traces = [
                *process.cmdline(),
                process.environ().get("ORCH_HOME", ""),
                process.environ().get("ORCH_EVENTS", ""),
            ]
            if process.pid != os.getpid() and any(str(home) in trace for trace in traces):
                found.append(process)
    return found


def what(command: str) -> str:
    if "orchestrator.environment.worker" in command:
        return "worker"
    return "supervisor" if command.endswith(".git") or " run file:" in command else "program"


def test_kill_9_at_fifty_random_moments(make_project: Make, cold_home: Path) -> None:
    """Supervisor, program, or whatever else belongs to the run: afterwards all is well, or told as it was."""
    project = make_project({"MLproject": mlproject("echo begun; sleep 0.2; echo x >out"), "conda.yaml": SIX_YAML})
    chance = random.Random(20240501)
    killed: list[str] = []
    for turn in range(200):
        if len(killed) == 50:
            break
        if turn % 5 == 0:  # now and then from nothing, so that solving and installing are hit too
            for folder in ("envs", "locks", "sources"):
                shutil.rmtree(cold_home / folder, ignore_errors=True)
        viewer = start("run", project.as_uri())
        time.sleep(chance.uniform(0.05, 2.5) if turn % 5 < 2 else chance.uniform(0.02, 0.35))
        victims = [p for p in running(cold_home) if p.pid != viewer.pid]
        if victims:
            victim = chance.choice(sorted(victims, key=lambda p: p.pid))
            with contextlib.suppress(psutil.NoSuchProcess):
                command = " ".join(victim.cmdline())
                victim.kill()
                killed.append(command)
        viewer.communicate(timeout=120)
    assert len(killed) == 50
    assert {what(command) for command in killed} >= {"supervisor", "worker", "program"}
    wait_until(lambda: not {"running", "orphaned"} & {r["status"] for r in orch_json("list", "-n", 100)})
    runs = orch_json("list", "-n", 100)
    recorded = {p.parent.name for p in (cold_home / "runs").glob("*/journal.jsonl")}
    assert {r["run_id"] for r in runs} == recorded
    assert {p.name for p in (cold_home / "runs").iterdir()} == recorded
    assert {p.name for p in (cold_home / "work").iterdir()} <= recorded  # what a lost run wrote is kept
    orch("run", project.as_uri())
    assert orch_json("show")["status"] == "finished"
    prefix = next(p for p in (cold_home / "envs").iterdir() if not p.name.startswith("."))
    subprocess.run([prefix / "bin" / "python", "-c", "import six, ssl, sqlite3"], check=True)
