"""A terminal that a full-screen program had is as it was, whichever way the program or its viewer ends."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json
from e2e.test_interruption import wait_until
from e2e.test_terminal import Typist

Make = Callable[..., Path]
LEAVE = b"\x10\x11"
DRAWN = "\x1b[?1049h\x1b[?25l\x1b[?1002h\x1b[2;10r\x1b=\x1b[1m"
UNDO = b"\x1b[?25h\x1b[?1002l\x1b[?1049l\x1b>\x1b7\x1b[r\x1b8\x1b[0m"
PROGRAM = f"""
import signal, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
print({DRAWN!r} + "full", "screen", end="", flush=True)
if "dies" in sys.argv:
    signal.raise_signal(signal.SIGKILL)
while "waits" in sys.argv and input() != "end":
    print("then", end="", flush=True)
"""


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[[str], Path]:
    return lambda how: make_project(
        {"MLproject": mlproject(f"python main.py {how}"), "conda.yaml": CONDA_YAML, "main.py": PROGRAM}
    )


def full_screen(*arguments: object) -> Typist:
    """`orch` with a program that has drawn its screen."""
    typist = Typist(*arguments)
    typist.wait_for(b"full screen")
    return typist


def end_and_check(typist: Typist, last_line: bytes | None = None) -> int:
    """The exit code. The terminal is given back before orch's last lines, once, and stands at a line's beginning."""
    until = time.monotonic() + 60
    while termios.tcgetattr(typist.terminal) != typist.before:
        assert time.monotonic() < until
        time.sleep(0.05)
    code = typist.end()
    assert typist.shown.count(UNDO) == 1
    before, _, after = typist.shown.partition(UNDO)
    assert DRAWN.encode() in before
    if last_line is not None:
        assert last_line not in before.rpartition(b"running")[2]
        assert last_line in after
    assert typist.shown.endswith((b"\n", UNDO))
    return code


def the_run() -> str:
    run_id: str = orch_json("show")["run_id"]
    return run_id


def test_when_it_is_stopped_from_elsewhere(make: Callable[[str], Path]) -> None:
    typist = full_screen("run", make("waits"))
    orch("stop", the_run())
    assert end_and_check(typist, b"stopped by SIGTERM") == 128 + signal.SIGTERM


def test_when_its_time_is_over(make: Callable[[str], Path]) -> None:
    typist = full_screen("run", "--timeout", "2", make("waits"))
    assert end_and_check(typist, b"stopped by its timeout") == 128 + signal.SIGTERM


def test_when_ctrl_c_is_typed_three_times(make: Callable[[str], Path]) -> None:
    typist = full_screen("run", make("deaf waits"))
    for _ in range(3):
        typist.type(b"\x03")
        time.sleep(0.1)
    assert end_and_check(typist, b"stopped by SIGTERM") == 128 + signal.SIGTERM


def test_when_the_program_dies(make: Callable[[str], Path]) -> None:
    typist = full_screen("run", make("dies"))
    assert end_and_check(typist, b"ended by SIGKILL") == 128 + signal.SIGKILL


def test_when_it_ends_without_a_word(make: Callable[[str], Path]) -> None:
    typist = full_screen("run", make("ends"))
    assert end_and_check(typist, b"finished") == 0


def test_when_its_viewer_leaves(make: Callable[[str], Path]) -> None:
    typist = full_screen("run", make("waits"))
    typist.type(LEAVE)
    assert end_and_check(typist, b"orch attach") == 0
    orch("stop", "--now", the_run())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_when_its_viewer_is_ended(make: Callable[[str], Path], number: signal.Signals) -> None:
    typist = full_screen("run", make("waits"))
    typist.type(LEAVE)
    typist.end()
    viewer = full_screen("attach")
    time.sleep(0.2)
    os.kill(viewer.pid, number)
    assert end_and_check(viewer) == 128 + number
    assert orch_json("show")["status"] == "running"
    orch("stop", "--now", the_run())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_when_its_log_is_no_longer_followed(make: Callable[[str], Path], number: signal.Signals) -> None:
    run = full_screen("run", make("waits"))
    run.type(LEAVE)
    run.end()
    following = full_screen("logs", "-f")
    time.sleep(0.2)
    os.kill(following.pid, number)
    assert end_and_check(following) == 128 + number
    orch("stop", "--now", the_run())


def test_when_the_run_had_ended_before(make: Callable[[str], Path]) -> None:
    full_screen("run", make("dies")).end()
    typist = full_screen("attach", the_run())
    assert end_and_check(typist, b"ended by SIGKILL") == 128 + signal.SIGKILL


def test_when_its_log_is_shown(make: Callable[[str], Path]) -> None:
    full_screen("run", make("dies")).end()
    typist = full_screen("logs", the_run())
    assert end_and_check(typist) == 0
    log = orch("logs", the_run()).stdout
    assert log == f"{DRAWN}full screen"
    plain = Typist("logs", "--plain", the_run())
    assert plain.end() == 0
    assert plain.shown == b"full screen\r\n"


def test_a_prompt_does_not_stand_behind_output(make_project: Make, orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("printf 'no line'; read x"), "conda.yaml": CONDA_YAML})
    run = Typist("run", project)
    run.wait_for(b"no line")
    viewer = Typist("attach")
    viewer.wait_for(b"no line")
    time.sleep(0.2)
    os.kill(viewer.pid, signal.SIGTERM)
    assert viewer.end() == 128 + signal.SIGTERM
    assert viewer.shown.endswith(b"no line\r\n")
    run.type(b"\n")
    assert run.end() == 0


def test_keys_that_were_typed_before_those_that_leave_reach_the_program(make: Callable[[str], Path]) -> None:
    typist = full_screen("run", make("waits"))
    typist.type(b"on\nend\n" + LEAVE)
    assert typist.end() == 0
    wait_until(lambda: orch_json("show")["status"] == "finished")
    assert "then" in orch("logs").stdout


@pytest.mark.parametrize("command", ["logs latest", "logs -f latest", "list", "show", "ps", "doctor --offline"])
def test_a_pipe_that_nobody_reads_has_one_exit_code(make_project: Make, orch_home: Path, command: str) -> None:
    project = make_project({"MLproject": mlproject("seq 100000"), "conda.yaml": CONDA_YAML})
    orch("run", project)
    done = subprocess.run(
        ["bash", "-c", f"exec 3>code; {{ sleep 0.1; {ORCH} {command}; echo $? >&3; }} | true; cat code"],
        cwd=orch_home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_who_reads_only_the_beginning_of_an_ended_run_is_told_nothing_of_its_going_on(
    make_project: Make, orch_home: Path
) -> None:
    project = make_project({"MLproject": mlproject("seq 100000"), "conda.yaml": CONDA_YAML})
    orch("run", project)
    done = subprocess.run(
        ["bash", "-c", '"$0" attach "$1" | head -n 1; echo "${PIPESTATUS[0]}"', ORCH, the_run()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "1\n141\n"
    assert "goes on" not in done.stderr
    assert "orch:" not in done.stderr
