"""Runs whose machine is gone: `orch stop --lost` ends what nobody can ask any more, and nothing that is heard of."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from e2e.conftest import CONDA_YAML, mlproject, orch, orch_json
from e2e.test_detached import cut, detached
from e2e.test_interruption import begun, start, supervisor_of, wait_until

Make = Callable[..., Path]
LONG_AGO = 1_000_000_000
PROGRAM = "echo $$ >pid; echo begun; while [ ! -e stop ]; do sleep 0.05; done; echo x >out"


def frozen_without_a_lock(supervisor: int, home: Path) -> bool:
    os.kill(supervisor, signal.SIGSTOP)
    with closing(sqlite3.connect(home / "ledger.db", timeout=0.2, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            os.kill(supervisor, signal.SIGCONT)
            return False
        connection.execute("ROLLBACK")
    return True


@pytest.fixture
def away(make_project: Make, orch_home: Path) -> Iterator[str]:
    """A run of another machine, which stands still: its supervisor is frozen, and named as of there."""
    run_id = detached(make_project({"MLproject": mlproject(PROGRAM), "conda.yaml": CONDA_YAML}))
    wait_until(lambda: begun(orch_home))
    supervisor = supervisor_of(orch_home / "runs" / run_id)
    program = int((orch_home / "work" / run_id / "checkout" / "pid").read_text())
    wait_until(lambda: frozen_without_a_lock(supervisor, orch_home))
    cut(orch_home, run_id, "login-2")
    yield run_id
    for pid in (supervisor, program):
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def silence(home: Path, run_id: str, at: float = LONG_AGO) -> None:
    os.utime(home / "runs" / run_id / "supervisor.json", (at, at))


def test_one_that_is_heard_of_is_not_given_up(away: str, orch_home: Path) -> None:
    said = orch("stop", "--lost", away, code=125).stderr
    assert f"run {away} lives: its supervisor on login-2 was last heard of" in said
    for command in ("stop", "rm"):
        said = orch(command, away, code=125).stderr
        assert "it is on login-2, last heard of" in said
        assert said.endswith(f"and is stopped there: orch stop {away[:16]}\n")
    assert orch_json("show", away)["status"] == "running"
    assert "--lost" not in orch("ps").stdout


def test_one_that_is_silent_is_given_up_and_then_removed(away: str, orch_home: Path) -> None:
    silence(orch_home, away)
    way = f"if that machine is gone for good: orch stop --lost {away[:16]}\n"
    assert orch("stop", away, code=125).stderr.endswith(way)
    assert orch("rm", away, code=125).stderr.endswith(way)
    assert orch("ps").stdout.endswith(way)
    assert "orch stop --lost" in orch("show", away).stdout
    assert "orch stop --lost" in orch("attach", away, code=125).stderr
    done = orch("stop", "--lost", away[:20])
    assert done.stdout.startswith(f"run {away[:16]} is lost, given up: its supervisor on login-2 was last heard of ")
    assert orch_json("show", away)["status"] == "lost"
    assert orch("stop", "--lost", away).stdout.startswith(f"run {away[:16]} had ended already: lost, given up")
    assert orch("logs", "-f", away).stdout == "begun\n"
    orch("rm", away)
    assert orch_json("list") == []


def test_a_supervisor_that_lives_after_all_tells_the_true_end(away: str, orch_home: Path) -> None:
    silence(orch_home, away)
    orch("stop", "--lost", away)
    (orch_home / "work" / away / "checkout" / "stop").touch()
    os.kill(supervisor_of(orch_home / "runs" / away), signal.SIGCONT)
    wait_until(lambda: orch_json("show", away)["status"] == "finished")
    run = orch_json("show", away)
    assert (run["exit_code"], run["reason"]) == (0, None)
    assert "out" in [output["path"] for output in run["outputs"]]
    orch("ledger", "rebuild")
    assert orch_json("show", away) == run


def test_who_follows_it_hears_that_it_was_given_up(away: str, orch_home: Path) -> None:
    silence(orch_home, away)
    follower = start("logs", "-f", away)
    assert follower.stdout.readline() == "begun\n"
    orch("stop", "--lost", away)
    _, errors = follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert "  lost         given up" in errors


def test_what_runs_here_is_ended_and_not_given_up(make_project: Make, orch_home: Path) -> None:
    run_id = detached(make_project({"MLproject": mlproject(PROGRAM), "conda.yaml": CONDA_YAML}))
    wait_until(lambda: begun(orch_home))
    silence(orch_home, run_id)
    said = orch("stop", "--lost", run_id, code=125).stderr
    assert f"is of this machine, and is not given up but ended: orch stop {run_id[:16]}" in said
    assert "--lost" in orch("stop", "--lost", "--now", run_id, code=2).stderr
    orch("stop", "--now", run_id)


def test_one_that_was_only_prepared_there_is_forgotten(make_project: Make, cold_home: Path) -> None:
    run_id = detached(make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML}))
    wait_until(lambda: [r for r in orch_json("ps") if "environment" in r["text"]])
    identity = cold_home / "runs" / run_id / "supervisor.json"
    os.kill(supervisor_of(identity.parent), signal.SIGKILL)
    facts = json.loads(identity.read_text())
    identity.write_text(json.dumps(facts | {"machine": "id@login-2", "boot": "another"}))
    assert "last heard of" in orch("stop", "--lost", run_id, code=125).stderr
    silence(cold_home, run_id)
    assert f"orch stop --lost {run_id[:16]}" in orch("rm", run_id, code=125).stderr
    assert f"orch stop --lost {run_id[:16]}" in orch("ps").stdout
    assert orch("stop", "--lost", run_id).stdout == f"run {run_id[:16]} had not begun; nothing was recorded\n"
    assert orch_json("ps") == []
    assert list((cold_home / "runs").iterdir()) == []


def test_none_is_given_up_when_one_of_them_lives(away: str, make_project: Make, orch_home: Path) -> None:
    silence(orch_home, away)
    project = make_project({"MLproject": mlproject("sleep 60"), "conda.yaml": CONDA_YAML}, "other")
    here = detached(project)
    wait_until(lambda: [r["status"] for r in orch_json("ps")] == ["running"] * 2)
    assert "of this machine" in orch("stop", "--lost", away, here, code=125).stderr
    assert {r["status"] for r in orch_json("ps")} == {"running"}
    orch("stop", "--now", here)
