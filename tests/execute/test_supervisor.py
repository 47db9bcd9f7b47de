"""A program from its start to the end of its whole tree: exit codes, signals, stragglers, terminals."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.supervisor import Ended, Program, StopRequest, supervise
from orchestrator.execute.terminal import open_terminal, typed
from orchestrator.execute.viewers import Viewers


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path / "run")
    found.path.mkdir()
    found.supervisor.touch()
    return found


def start(
    directory: RunDirectory, script: str, *, stop_after: list[tuple[float, int]] | None = None, **options
) -> Ended:
    """Supervise `bash -c SCRIPT`; `stop_after` are (seconds, signal) pairs that ask for its end."""
    request = StopRequest()

    def ask(number: int) -> None:
        request.number, request.count = number, request.count + 1

    viewers = Viewers()
    for viewer in options.pop("viewers", ()):
        viewers.add(viewer)
    timers = [threading.Timer(seconds, ask, [number]) for seconds, number in stop_after or []]
    for timer in timers:
        timer.start()
    try:
        return supervise(
            Program(["/bin/bash", "-c", script], directory.path, dict(os.environ), None),
            directory,
            stop=request,
            grace=options.pop("grace", 5.0),
            timeout=options.pop("timeout", None),
            viewers=viewers,
            terminal=options.pop("terminal", None),
            born=lambda: None,
            started=options.pop("started", lambda _: None),
            tick=lambda: None,
        )
    finally:
        for timer in timers:
            timer.cancel()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_output_goes_to_the_logs_and_the_exit_code_is_the_programs(directory: RunDirectory) -> None:
    ended = start(directory, "echo out; echo err >&2; exit 7")
    assert (ended.exit_code, ended.stopped, ended.reason) == (7, False, None)
    assert directory.stdout.read_text() == "out\n"
    assert directory.stderr.read_text() == "err\n"


def test_a_program_ended_by_a_signal_has_128_plus_its_number(directory: RunDirectory) -> None:
    ended = start(directory, "kill -SEGV $$")
    assert ended.exit_code == 128 + signal.SIGSEGV
    assert ended.reason == "ended by SIGSEGV"


def test_stdin_is_nothing_unless_a_file_is_given(directory: RunDirectory) -> None:
    assert start(directory, "read line || exit 3").exit_code == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_reaches_the_program_which_may_clean_up(directory: RunDirectory, number: signal.Signals) -> None:
    script = f"trap 'echo cleaned; exit 9' {number.name[3:]}; sleep 30 & wait"
    ended = start(directory, script, stop_after=[(0.3, number)])
    assert (ended.exit_code, ended.stopped, ended.reason) == (9, True, f"stopped by {number.name}")
    assert "cleaned" in directory.stdout.read_text()


def test_a_program_that_ignores_the_request_is_killed_after_the_grace(directory: RunDirectory) -> None:
    ended = start(
        directory, "trap '' TERM; while :; do sleep 0.05; done", stop_after=[(0.2, signal.SIGTERM)], grace=0.4
    )
    assert ended.exit_code == 128 + signal.SIGKILL
    assert ended.reason == "stopped by SIGTERM, then killed"


def test_the_third_request_kills_at_once(directory: RunDirectory) -> None:
    script = "trap '' INT TERM; while :; do sleep 0.05; done"
    begin = time.monotonic()
    ended = start(directory, script, stop_after=[(0.2 + i / 10, signal.SIGINT) for i in range(3)], grace=60)
    assert ended.reason == "stopped by SIGINT, then killed"
    assert time.monotonic() - begin < 20


def test_a_program_that_detached_itself_is_found_and_ended(directory: RunDirectory) -> None:
    pids = directory.path / "pids"
    script = f"(setsid bash -c 'echo $$ >{pids}; trap \"\" TERM; while :; do sleep 0.05; done' &) ; sleep 0.3"
    ended = start(directory, script, grace=0.3)
    assert ended.exit_code == 0
    assert "of the program still ran when it had ended" in ended.notes[0]
    assert not is_alive(int(pids.read_text()))


def test_stopping_reaches_a_child_in_a_session_of_its_own(directory: RunDirectory) -> None:
    pids = directory.path / "pids"
    script = f"setsid bash -c 'echo $$ >{pids}; sleep 60' & sleep 60"
    ended = start(directory, script, stop_after=[(0.4, signal.SIGTERM)], grace=5)
    assert ended.stopped
    assert not is_alive(int(pids.read_text()))


def test_usage_counts_the_whole_tree(directory: RunDirectory) -> None:
    code = "x = bytearray(80_000_000); import time; t = time.process_time()\nwhile time.process_time() - t < 0.4: pass"
    ended = start(directory, f"{sys.executable} -c '{code}' & {sys.executable} -c '{code}' & wait")
    assert ended.usage.cpu_seconds >= 0.8
    assert ended.usage.peak_memory > 150_000_000
    assert ended.usage.wall_seconds >= 0.4


def test_with_a_terminal_the_program_sees_one_and_its_keys(directory: RunDirectory) -> None:
    here, there = socket.socketpair()
    terminal = open_terminal((31, 97))
    here.sendall(typed(b"hello there\n"))
    ended = start(
        directory,
        "stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal; read line; echo got $line",
        viewers=[there],
        terminal=terminal,
    )
    output = directory.stdout.read_text()
    assert ended.exit_code == 0
    assert "31 97" in output
    assert "terminal" in output
    assert "got hello there" in output
    here.close()
    there.close()


def test_ctrl_c_in_the_terminal_is_the_programs_and_the_run_counts_as_stopped(directory: RunDirectory) -> None:
    here, there = socket.socketpair()
    timer = threading.Timer(0.4, lambda: here.sendall(typed(b"\x03")))
    timer.start()
    ended = start(directory, "sleep 30", viewers=[there], terminal=open_terminal((24, 80)))
    assert (ended.exit_code, ended.stopped) == (130, True)
    here.close()
    there.close()


def test_the_run_goes_on_when_its_viewer_goes(directory: RunDirectory) -> None:
    here, there = socket.socketpair()
    threading.Timer(0.1, here.close).start()
    ended = start(directory, "sleep 0.4; echo still here", viewers=[there], terminal=open_terminal((24, 80)))
    assert ended.exit_code == 0
    assert "still here" in directory.stdout.read_text()
    there.close()


def test_a_terminal_loses_nothing_of_a_long_output(directory: RunDirectory) -> None:
    ended = start(directory, "stty raw; seq 1 100000", terminal=open_terminal((24, 80)))
    assert ended.exit_code == 0
    assert directory.stdout.read_bytes() == b"".join(b"%d\n" % i for i in range(1, 100001))


def test_no_program_runs_before_it_is_recorded(directory: RunDirectory) -> None:
    request = StopRequest()
    pids: list[int] = []
    supervise(
        Program(["/bin/bash", "-c", "cat born"], directory.path, dict(os.environ), None),
        directory,
        stop=request,
        grace=1,
        timeout=None,
        viewers=Viewers(),
        terminal=None,
        born=lambda: (directory.path / "born").write_text(str(os.getpid())) and None,
        started=pids.append,
        tick=lambda: None,
    )
    assert directory.stdout.read_text() == str(pids[0])
