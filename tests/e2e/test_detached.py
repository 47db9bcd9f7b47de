"""`orch run --detach`, and what is told of runs that live: ps, and runs that never began."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from e2e.conftest import CONDA_YAML, ORCH, git, mlproject, orch, orch_json
from e2e.test_interruption import begun, start, supervisor_of, wait_until

Make = Callable[..., Path]
SLOW = "echo $$ >pid; echo begun; while :; do sleep 0.05; done"


@pytest.fixture
def slow(make_project: Make, orch_home: Path) -> Path:
    return make_project({"MLproject": mlproject(SLOW), "conda.yaml": CONDA_YAML})


@pytest.fixture
def unsolvable(make_project: Make, orch_home: Path) -> Path:
    """A project whose mistake is found when its environment is solved."""
    yaml = CONDA_YAML.replace("python", "python, nothing-of-this-name")
    return make_project({"MLproject": mlproject("true"), "conda.yaml": yaml}, "unsolvable")


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[[str], Path]:
    return lambda command: make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML})


def detached(*arguments: object, **options: object) -> str:
    """The id of a run that was started so."""
    return orch("run", "--detach", *arguments, "-q", **options).stdout.strip()


def running(run_id: str) -> bool:
    return [run["status"] for run in orch_json("ps") if run["run_id"] == run_id] == ["running"]


def cut(home: Path, run_id: str, host: str) -> None:
    """Make the journal and the supervisor file say that the run is on another machine."""
    folder = home / "runs" / run_id
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    for event in events:
        for identity in ("supervisor", "child"):
            if identity in event:
                event[identity] |= {"machine": f"id@{host}", "boot": "another"}
        if "host" in event:
            event["host"]["hostname"] = host
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    identity = json.loads((folder / "supervisor.json").read_text())
    (folder / "supervisor.json").write_text(json.dumps(identity | {"machine": f"id@{host}", "boot": "another"}))
    orch("ledger", "rebuild")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_it_prints_the_id_and_returns_while_the_run_goes_on(make: Callable[[str], Path], orch_home: Path) -> None:
    done = orch("run", "--detach", make("[ -t 0 ] || [ -t 1 ] || echo none; read line || echo nothing; sleep 1"))
    run_id = done.stdout.strip()
    assert len(run_id) == 32
    assert f"orch attach {run_id[:16]}" in done.stderr
    assert orch_json("ps")[0]["status"] in ("preparing", "running")
    wait_until(lambda: orch_json("list") and orch_json("show")["status"] == "finished")
    assert orch_json("show")["run_id"] == run_id
    assert orch("logs", run_id).stdout == "none\nnothing\n"
    assert orch_json("ps") == []


def test_it_holds_nothing_of_its_caller(slow: Path, orch_home: Path) -> None:
    begin = time.monotonic()
    done = subprocess.run(["bash", "-c", f"id=$({ORCH} run -d -q {slow}); echo $id"], capture_output=True, text=True)
    assert time.monotonic() - begin < 20  # the pipes are closed, though the run lives
    wait_until(lambda: begun(orch_home))
    orch("stop", "--now", done.stdout.strip())


def test_with_json_the_id_is_an_object(make: Callable[[str], Path]) -> None:
    run_id = orch_json("run", "-d", make("cat"), "--stdin", "/etc/hostname")["run_id"]
    wait_until(lambda: orch_json("list") and orch_json("show", run_id)["status"] == "finished")
    assert orch("logs", run_id).stdout == Path("/etc/hostname").read_text()


def test_outputs_are_not_waited_for(slow: Path, tmp_path: Path) -> None:
    said = orch("run", "--detach", slow, "-o", tmp_path / "out", code=2).stderr
    assert "orch get" in said
    assert orch_json("ps") == []


def test_what_fails_before_the_program_starts_is_told_for_a_day(orch_home: Path, unsolvable: Path) -> None:
    run_id = detached(unsolvable, "--run-name", "lost")
    [run] = wait_until(lambda: [r for r in orch_json("ps") if r["status"] == "never began"])
    assert (run["run_id"], run["name"], run["source"]) == (run_id, "lost", "unsolvable")
    assert "nothing-of-this-name" in run["text"]
    for command in (["attach"], ["show"], ["logs"], ["logs", "-f"], ["get"]):
        said = orch(*command, run_id[:20], code=125).stderr
        assert said.startswith(f"orch: run {run_id} never began: "), command
        assert "nothing-of-this-name" in said
    assert "never began" in orch("ps").stdout
    progress = orch_home / "runs" / run_id / "progress.jsonl"
    lines = [json.loads(line) for line in progress.read_text().splitlines()]
    progress.write_text("".join(json.dumps(line | {"at": line["at"] - 25 * 3600}) + "\n" for line in lines))
    assert orch_json("ps") == []
    assert list((orch_home / "runs").iterdir()) == []


def test_one_that_never_began_can_be_removed(orch_home: Path, unsolvable: Path) -> None:
    run_id = detached(unsolvable)
    wait_until(lambda: [r for r in orch_json("ps") if r["status"] == "never began"])
    orch("rm", run_id)
    assert list((orch_home / "runs").iterdir()) == []


def test_a_supervisor_killed_before_the_program_ran_is_told_of_too(make_project: Make, cold_home: Path) -> None:
    project = make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML})
    run_id = detached(project)
    wait_until(lambda: [r for r in orch_json("ps") if "environment" in r["text"]])
    os.kill(supervisor_of(cold_home / "runs" / run_id), signal.SIGKILL)
    [run] = orch_json("ps")
    assert run["status"] == "never began"
    assert "its supervisor was killed" in run["text"]


def test_a_viewer_that_goes_while_it_is_prepared_loses_no_error(make_project: Make, cold_home: Path) -> None:
    project = make_project(
        {"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML.replace("python", "python, nothing-of-this-name")}
    )
    viewer = start("run", project)
    wait_until(lambda: orch_json("ps"))
    os.killpg(viewer.pid, signal.SIGHUP)
    viewer.communicate(timeout=60)
    [run] = wait_until(lambda: [r for r in orch_json("ps") if r["status"] == "never began"])
    assert "nothing-of-this-name" in run["text"]


def test_a_cached_answer_is_given_in_place_of_a_run(make: Callable[[str], Path], orch_home: Path) -> None:
    project = make("true")
    orch("run", project)
    answer = orch_json("show")["run_id"]
    done = orch("run", "--detach", "--cached", project)
    assert done.stdout == f"{answer}\n"
    assert "nothing was run" in done.stderr
    assert orch_json("ps") == []
    assert os.listdir(orch_home / "runs") == [answer]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["{tmp}/nowhere"], 2, "nowhere"),
        (["{project}", "-e", "mian"], 125, "mian"),
        (["{project}", "-v", "v9"], 125, "v9"),
        (["{project}", "-P", "alpha"], 2, "alpha"),
        (["{project}", "-P", "alpha=x"], 2, "float"),
        (["{project}"], 2, "alpha"),
        (["{project}", "-P", "alpha=1", "--input", "gone.csv"], 2, "gone.csv"),
        (["{project}", "-P", "alpha=1", "--timeout", "soon"], 2, "2h30m"),
    ],
)
def test_what_is_wrong_at_once_is_said_at_once(
    make_project: Make, orch_home: Path, tmp_path: Path, arguments: list[str], code: int, word: str
) -> None:
    project = make_project({"MLproject": mlproject("true {alpha}", "alpha: float"), "conda.yaml": CONDA_YAML})
    words = [argument.format(tmp=tmp_path, project=project) for argument in arguments]
    done = orch("run", "--detach", *words, code=code)
    assert done.stdout == ""
    assert done.stderr.startswith("orch: ")
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert list((orch_home / "runs").iterdir()) == []


def test_it_does_not_wait_for_a_clone(tmp_path: Path, orch_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        run_id = detached(f"http://127.0.0.1:{silent.getsockname()[1]}/project.git")
        assert time.monotonic() - start < 30  # git would wait for minutes
        assert [run["run_id"] for run in orch_json("ps")] == [run_id]
        orch("stop", run_id)


def test_ps_shows_what_a_run_uses(make_project: Make, orch_home: Path) -> None:
    code = "x = bytearray(60_000_000)\nprint('begun', flush=True)\nwhile True: pass"
    files = {"MLproject": mlproject("python busy.py"), "conda.yaml": CONDA_YAML, "busy.py": code}
    project = make_project(files)
    run_id = detached(project)
    wait_until(lambda: begun(orch_home))
    [run] = orch_json("ps")
    assert (run["run_id"], run["status"], run["command"]) == (run_id, "running", "python busy.py")
    assert run["commit"] == git(project, "rev-parse", "HEAD")
    assert run["memory"] > 60_000_000
    assert run["cpu_percent"] > 10
    line = orch("ps").stdout.splitlines()[1]
    assert line.startswith(f"{run_id[:16]}  running  ")
    assert f"project@{run['commit'][:7]}" in line
    orch("stop", "--now", run_id)


@pytest.mark.parametrize("victims", ["supervisor", "program", "both"])
def test_after_kill_9_the_status_is_true(slow: Path, orch_home: Path, victims: str) -> None:
    run_id = detached(slow)
    wait_until(lambda: begun(orch_home))
    wait_until(lambda: running(run_id))
    program = int((orch_home / "work" / run_id / "checkout" / "pid").read_text())
    if victims != "program":
        os.kill(supervisor_of(orch_home / "runs" / run_id), signal.SIGKILL)
    if victims == "supervisor":
        assert [run["status"] for run in orch_json("ps")] == ["orphaned"]
    else:
        os.kill(program, signal.SIGKILL)
    if victims == "supervisor":
        os.kill(program, signal.SIGKILL)
    expected = {"supervisor": "lost", "both": "lost", "program": "failed"}[victims]
    wait_until(lambda: orch_json("list")[0]["status"] == expected)
    assert orch_json("ps") == []


@pytest.mark.parametrize("change", ["boot", "start"])
def test_a_new_boot_or_another_process_with_its_pid_makes_it_lost(
    make: Callable[[str], Path], orch_home: Path, change: str
) -> None:
    run_id = detached(make("echo begun; sleep 1"))
    wait_until(lambda: begun(orch_home))
    journal = orch_home / "runs" / run_id / "journal.jsonl"
    lines = journal.read_text().splitlines()[:2]  # created, started
    os.kill(supervisor_of(journal.parent), signal.SIGKILL)
    wait_until(lambda: not [p for p in psutil.process_iter() if _is_of(p, run_id)])
    events = [json.loads(line) for line in lines]
    for event in events:
        for identity in ("supervisor", "child"):
            if identity in event:
                event[identity] |= {"boot": "another"} if change == "boot" else {"pid": os.getpid()}
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    orch("ledger", "rebuild")
    assert orch_json("show")["status"] == "lost"


def _is_of(process: psutil.Process, run_id: str) -> bool:
    try:
        return process.environ().get("ORCH_RUN_ID") == run_id
    except (psutil.Error, OSError):
        return False


def test_a_run_of_another_machine_is_shown_and_followed_and_never_touched(slow: Path, orch_home: Path) -> None:
    run_id = detached(slow)
    wait_until(lambda: begun(orch_home))
    program = int((orch_home / "work" / run_id / "checkout" / "pid").read_text())
    pid = supervisor_of(orch_home / "runs" / run_id)
    try:
        cut(orch_home, run_id, "login-2")
        [run] = orch_json("ps")
        assert (run["status"], run["host"]) == ("running", "login-2")
        assert run["heartbeat_age"] < 60
        assert "running on login-2, seen" in orch("ps").stdout
        assert "is on login-2" in orch("attach", run_id, code=125).stderr
        assert "no run lives on this machine" in orch("attach", code=125).stderr
        assert "orch stop" in orch("stop", run_id, code=125).stderr
        assert psutil.pid_exists(program)
        follower = start("logs", "-f", run_id)
        time.sleep(1)
        append(orch_home / "runs" / run_id / "stdout.log", "more\n")
        time.sleep(0.5)
        append(orch_home / "runs" / run_id / "progress.jsonl", '{"over":0}\n')
        assert follower.communicate(timeout=30)[0] == "begun\nmore\n"
        assert follower.returncode == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        os.kill(program, signal.SIGKILL)


def test_the_heartbeat_goes_on_while_a_run_is_prepared(make_project: Make, cold_home: Path, monkeypatch) -> None:
    project = make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML})
    run_id = detached(project)
    identity = cold_home / "runs" / run_id / "supervisor.json"
    wait_until(lambda: [r for r in orch_json("ps") if "environment" in r["text"]])
    os.utime(identity, (0, 0))
    os.kill(supervisor_of(identity.parent), signal.SIGALRM)  # as its timer does
    wait_until(lambda: identity.stat().st_mtime > 0)
    assert orch("attach", run_id).returncode == 0


def test_a_timeout_stops_the_run_and_is_told(slow: Path) -> None:
    done = orch("run", "--timeout", "1s", slow, code=128 + signal.SIGTERM)
    assert "stopped by its timeout of 1 s" in done.stderr
    run = orch_json("show")
    assert (run["status"], run["reason"]) == ("stopped", "stopped by its timeout of 1 s")
    assert orch("replay", "--timeout", "1s", "latest", code=125).stderr
    assert "--timeout takes a length of time" in orch("run", "--timeout", "soon", slow, code=2).stderr


def test_a_program_that_ends_in_time_knows_no_timeout(make: Callable[[str], Path]) -> None:
    orch("run", "--timeout", "2h", make("true"))
    assert orch_json("show")["status"] == "finished"


@pytest.mark.parametrize(
    "command", ["list", "ps", "show", "logs", "get", "diff", "replay", "bundle", "attach", "stop", "rm"]
)
def test_every_command_that_is_told_a_run_makes_the_ledger_true_first(
    slow: Path, orch_home: Path, tmp_path: Path, command: str
) -> None:
    run_id = detached(slow)
    wait_until(lambda: running(run_id) and begun(orch_home))
    program = int((orch_home / "work" / run_id / "checkout" / "pid").read_text())
    os.kill(supervisor_of(orch_home / "runs" / run_id), signal.SIGKILL)
    os.kill(program, signal.SIGKILL)
    wait_until(lambda: not [p for p in psutil.process_iter() if _is_of(p, run_id)])
    words = {"list": ["list"], "ps": ["ps"], "diff": ["diff", run_id, run_id]}
    words["bundle"] = ["bundle", "create", run_id, "-o", tmp_path / "x.zip"]
    orch(*words.get(command, [command, run_id]), code=None)
    with sqlite3.connect(orch_home / "ledger.db") as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == ([] if command == "rm" else [("lost",)])
    connection.close()


def test_a_lock_of_its_caller_is_not_held_for_the_run(slow: Path, orch_home: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    subprocess.run(["bash", "-c", f"exec 9>{lock}; flock 9; {ORCH} run -d -q {slow}"], check=True, capture_output=True)
    wait_until(lambda: begun(orch_home))
    assert subprocess.run(["flock", "-n", lock, "true"]).returncode == 0


ORDER = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
IN_ORDER = "".join(f"out {i}\nerr {i}\n" for i in (1, 2, 3))


def test_its_log_has_output_and_errors_in_order(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make(ORDER))
    assert orch("attach", run_id).stdout == IN_ORDER
    assert orch("logs", run_id).stdout == IN_ORDER
    assert orch("logs", "--tail", 2, run_id).stdout == "out 3\nerr 3\n"


def test_the_log_keeps_apart_what_its_caller_keeps_apart(make: Callable[[str], Path], orch_home: Path) -> None:
    project = make(ORDER)
    orch("run", project, "-q")
    apart = orch("logs")
    assert (apart.stdout, apart.stderr) == ("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n")
    together = subprocess.run([ORCH, "run", project, "-q"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert together.stdout == IN_ORDER
    assert orch("logs").stdout == IN_ORDER
