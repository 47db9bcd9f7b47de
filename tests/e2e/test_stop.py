"""`orch stop`: gently, then firmly, the whole process tree, with or without a supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json
from e2e.test_detached import detached, running
from e2e.test_interruption import begun, start, supervisor_of, wait_until

Make = Callable[..., Path]
TREE = (
    "echo $$ >pid; setsid bash -c 'echo $$ >grandchild; while :; do sleep 0.05; done' & "
    "while [ ! -s grandchild ]; do sleep 0.02; done; echo begun; while :; do sleep 0.05; done"
)
DEAF = "trap '' TERM INT; echo $$ >pid; echo begun; while :; do sleep 0.05; done"


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[[str], Path]:
    return lambda command: make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML})


def pid_in(home: Path, run_id: str, name: str = "pid") -> int:
    return int((home / "work" / run_id / "checkout" / name).read_text())


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_it_ends_the_whole_tree_and_says_how(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make(TREE))
    wait_until(lambda: begun(orch_home))
    pids = [pid_in(orch_home, run_id), pid_in(orch_home, run_id, "grandchild")]
    done = orch("stop", run_id[:20])
    assert done.stdout == f"run {run_id[:16]} is stopped by SIGTERM\n"
    assert orch_json("show")["status"] == "stopped"
    assert not [pid for pid in pids if is_alive(pid)]
    again = orch("stop", run_id)
    assert again.stdout == f"run {run_id[:16]} had ended already: stopped by SIGTERM\n"


@pytest.mark.parametrize(("options", "most"), [(["--now"], 60), (["--grace", "1"], 60)])
def test_what_does_not_listen_is_killed_when_the_one_who_asks_says(
    make: Callable[[str], Path], orch_home: Path, options: list[str], most: float
) -> None:
    run_id = detached(make(DEAF), "--grace", "300")
    wait_until(lambda: begun(orch_home))
    begin = time.monotonic()
    orch("stop", *options, run_id)
    assert time.monotonic() - begin < most
    assert orch_json("show")["reason"] == "stopped by SIGTERM, then killed"


def test_a_second_request_may_be_less_patient(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make(DEAF), "--grace", "300")
    wait_until(lambda: begun(orch_home))
    os.kill(supervisor_of(orch_home / "runs" / run_id), signal.SIGTERM)
    orch("stop", "--now", run_id, timeout=30)
    assert orch_json("show")["status"] == "stopped"


def test_an_orphan_is_ended_and_recorded(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make(TREE.replace("setsid bash", "trap '' TERM; setsid bash")))
    wait_until(lambda: begun(orch_home))
    pids = [pid_in(orch_home, run_id), pid_in(orch_home, run_id, "grandchild")]
    os.kill(supervisor_of(orch_home / "runs" / run_id), signal.SIGKILL)
    wait_until(lambda: [r["status"] for r in orch_json("ps")] == ["orphaned"])
    assert "orch stop" in orch("show").stdout
    assert "orch stop" in orch("rm", run_id, code=125).stderr
    done = orch("stop", "--grace", "0.5", run_id)
    assert "is stopped, its supervisor was killed; stopped by SIGTERM, then killed" in done.stdout
    assert not [pid for pid in pids if is_alive(pid)]
    run = orch_json("show")
    assert run["status"] == "stopped"
    assert run["usage"] == dict.fromkeys(run["usage"])  # nobody measured it
    assert " 0.00 s" not in orch("list").stdout + orch("show").stdout
    work = orch_home / "work" / run_id
    said = orch("get", run_id, code=125).stderr
    assert said.startswith(f"orch: the outputs of run {run_id} were not stored: its supervisor was killed; stopped by")
    assert f"what it wrote is in {work}" in said
    (work / "checkout" / "large").write_bytes(os.urandom(3 << 20))
    assert orch("rm", run_id).stdout.startswith(f"removed run {run_id}, 3.")
    assert not work.exists()


def test_a_frozen_supervisor_is_waited_for_and_named(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make(TREE))
    wait_until(lambda: begun(orch_home) and running(run_id))  # frozen while it writes it would hold the ledger
    supervisor = supervisor_of(orch_home / "runs" / run_id)
    os.kill(supervisor, signal.SIGSTOP)
    stopping = start("stop", run_id, "--grace", "300")
    assert stopping.stderr.readline() == "  stopping     the run\n"
    said = stopping.stderr.readline()
    assert said.startswith(f"  waiting      the supervisor of run {run_id[:16]} is frozen: kill -CONT {supervisor}")
    assert f"kill -9 {supervisor}" in said
    assert is_alive(pid_in(orch_home, run_id))
    os.kill(supervisor, signal.SIGCONT)
    assert stopping.communicate(timeout=60) == (f"run {run_id[:16]} is stopped by SIGTERM\n", "")


def test_a_frozen_supervisor_that_is_killed_leaves_nothing_to_be_stopped(
    make: Callable[[str], Path], orch_home: Path
) -> None:
    run_id = detached(make(TREE))
    wait_until(lambda: begun(orch_home) and running(run_id))
    supervisor, program = supervisor_of(orch_home / "runs" / run_id), pid_in(orch_home, run_id)
    os.kill(supervisor, signal.SIGSTOP)
    stopping = start("stop", run_id)
    stopping.stderr.readline()
    os.kill(supervisor, signal.SIGKILL)
    shown, _ = stopping.communicate(timeout=60)
    assert shown.startswith(f"run {run_id[:16]} is stopped, its supervisor was killed; stopped by SIGTERM")
    assert not is_alive(program)


def test_several_runs_have_their_grace_at_once(make: Callable[[str], Path], orch_home: Path) -> None:
    project = make(DEAF)
    run_ids = [detached(project) for _ in range(3)]
    wait_until(lambda: all((orch_home / "runs" / r / "stdout.log").exists() for r in run_ids))
    wait_until(lambda: all("begun" in (orch_home / "runs" / r / "stdout.log").read_text() for r in run_ids))
    os.kill(supervisor_of(orch_home / "runs" / run_ids[0]), signal.SIGKILL)
    begin = time.monotonic()
    orch("stop", "--grace", "8", *run_ids)
    assert 8 < time.monotonic() - begin < 16
    assert {run["status"] for run in orch_json("list")} == {"stopped"}


def test_an_orphan_that_does_not_carry_the_runs_id_is_ended_too(make: Callable[[str], Path], orch_home: Path) -> None:
    sleeper = "sleep 600 & echo $! >>../pids; exec sleep 600"
    run_id = detached(make(f"echo $$ >pid; echo begun; exec env -i PATH=$PATH sh -c '{sleeper}'"))
    wait_until(lambda: begun(orch_home))
    supervisor = supervisor_of(orch_home / "runs" / run_id)
    program = pid_in(orch_home, run_id)
    wait_until(lambda: psutil.Process(program).children())
    pids = [program, *(child.pid for child in psutil.Process(program).children())]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: [r["status"] for r in orch_json("ps")] == ["orphaned"])
    orch("stop", run_id)
    assert not [pid for pid in pids if is_alive(pid)]


def test_lookers_at_once_write_one_end_and_each_metric_once(make: Callable[[str], Path], orch_home: Path) -> None:
    many = "import os\nwith open(os.environ['ORCH_EVENTS'], 'a') as f:\n  for i in range(20000):\n"
    many += '    print(\'{{"metric": "m", "value": 1, "step": %d}}\' % i, file=f)\n'
    project = make("while [ ! -e go ]; do sleep 0.05; done; python many.py; echo $$ >pid; echo begun; exec sleep 600")
    (project / "many.py").write_text(many.replace("{{", "{").replace("}}", "}"))
    run_id = detached(project)
    work = orch_home / "work" / run_id / "checkout"
    wait_until(lambda: work.exists() and orch_json("ps")[0]["status"] == "running")
    supervisor = supervisor_of(orch_home / "runs" / run_id)
    os.kill(supervisor, signal.SIGSTOP)  # so that what is logged stays unread
    (work / "go").touch()
    wait_until(lambda: (work / "pid").exists() and (work / "pid").read_text())
    os.kill(pid_in(orch_home, run_id), signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    looks = [subprocess.Popen([ORCH, "list"], stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [look.wait() for look in looks] == [0] * 4
    journal = (orch_home / "runs" / run_id / "journal.jsonl").read_text().splitlines()
    assert len([line for line in journal if '"event":"ended"' in line]) == 1
    assert len([line for line in journal if '"event":"logged"' in line]) == 1


def test_one_that_is_prepared_is_ended_and_leaves_nothing(make_project: Make, cold_home: Path) -> None:
    run_id = detached(make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML}))
    wait_until(lambda: [r for r in orch_json("ps") if "environment" in r["text"]])
    assert "orch stop" in orch("rm", run_id, code=125).stderr
    assert orch("stop", run_id).stdout == f"run {run_id[:16]} had not begun; nothing was recorded\n"
    assert list((cold_home / "runs").iterdir()) == []
    assert list((cold_home / "work").iterdir()) == []


def test_several_are_stopped_and_a_wrong_one_stops_none(make: Callable[[str], Path], orch_home: Path) -> None:
    project = make(TREE)
    run_ids = [detached(project) for _ in range(2)]
    wait_until(lambda: [r["status"] for r in orch_json("ps")] == ["running"] * 2)
    said = orch("stop", run_ids[0], "ffff", code=125).stderr
    assert said.startswith("orch: nothing was stopped: no run has an id")
    assert "--now" in orch("stop", run_ids[0], "--now", "--grace", "3", code=2).stderr
    assert len(orch_json("ps")) == 2
    orch("stop", *run_ids)
    assert orch_json("ps") == []


def test_the_beginning_of_several_ids_names_those_that_live_first(make: Callable[[str], Path], orch_home: Path) -> None:
    project = make('if [ -z "$LONG" ]; then exit 0; fi; echo begun; sleep 600')
    live = detached(project, "--env", "LONG=1")
    wait_until(lambda: begun(orch_home))
    orch("run", "-q", project)
    ended = orch_json("show")["run_id"]
    never = "01a" + ended[3:11] + "f" * 21
    (orch_home / "runs" / never).mkdir()
    os.utime(orch_home / "runs" / never, (time.time() - 120,) * 2)
    for run_id in (ended, live):
        assert run_id.startswith(never[:8])
    said = orch("stop", never[:8], code=125).stderr
    places = [said.index(run_id[:16]) for run_id in (live, ended, never)]
    assert places == sorted(places)
    assert f"{live[:16]} (live)" in said
    assert f"{never[:16]} (never began)" in said
    orch("stop", "--now", live)


def test_a_program_of_a_later_boot_with_the_pid_is_not_touched(make: Callable[[str], Path], orch_home: Path) -> None:
    """A stale identity that names a living process by its pid alone."""
    import json
    import subprocess

    run_id = detached(make("echo begun; sleep 1"))
    wait_until(lambda: begun(orch_home))
    journal = orch_home / "runs" / run_id / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()[:2]]
    os.kill(supervisor_of(journal.parent), signal.SIGKILL)
    bystander = subprocess.Popen(["sleep", "60"])
    for event in events:
        for identity in ("supervisor", "child"):
            if identity in event:
                event[identity]["pid"] = bystander.pid
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    orch("stop", "--now", run_id)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_the_comparison_of_a_replay_can_be_stopped(make_project: Make, orch_home: Path) -> None:
    from e2e.test_replay_again import LONG, comparing, newest

    files = {"MLproject": mlproject("python main.py"), "conda.yaml": CONDA_YAML, "main.py": LONG}
    run = orch_json("run", make_project(files), "-q")
    with comparing(run["run_id"], orch_home, "-t", "9e99") as process:
        replay_id = newest(orch_home).name
        assert [(r["run_id"], r["status"]) for r in orch_json("ps")] == [(replay_id, "comparing")]
        orch("stop", replay_id)
        process.communicate(timeout=30)
    assert process.returncode == 125
    assert orch_json("show", replay_id)["verdict"] is None
    assert ORCH.exists()


def test_what_was_stopped_and_removed_is_told_to_scripts_too(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make("echo begun; sleep 600"))
    wait_until(lambda: begun(orch_home))
    stopped = {"run_id": run_id, "ended": "run", "status": "stopped", "reason": "stopped by SIGTERM"}
    assert orch_json("stop", run_id) == [stopped]
    assert orch_json("stop", run_id) == [stopped | {"ended": "nothing"}]
    assert orch_json("rm", run_id) == [{"run_id": run_id, "freed": 0, "nested": []}]
