"""A program from its start to the end of its whole tree: exit codes, signals, stragglers, terminals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.supervisor import Ended, Program, StopRequest, supervise
from orchestrator.execute.terminal import open_terminal, typed, window
from orchestrator.execute.tree import ProcessTree, look
from orchestrator.execute.viewers import Viewers


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path / "run")
    found.path.mkdir()
    found.supervisor.touch()
    return found


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def when_printed(directory: RunDirectory, text: str, act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as the program has printed that text."""

    def watch() -> None:
        wait_until(lambda: directory.stdout.exists() and text in directory.stdout.read_text())
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def start(directory: RunDirectory, script: str, *, stop: Sequence[int] = (), **options) -> Ended:
    """Supervise `bash -c SCRIPT`; the signals `stop` ask for its end when it has printed `ready`."""
    request = options.pop("request", StopRequest())

    def ask() -> None:
        for number in stop:
            request.number, request.count = number, request.count + 1

    viewers = Viewers()
    for viewer in options.pop("viewers", ()):
        viewers.add(viewer)
    asking = when_printed(directory, "ready", ask) if stop else None
    try:
        return supervise(
            Program(
                ["/bin/bash", "-c", script],
                directory.path,
                dict(os.environ),
                None,
                one_stream=options.pop("one_stream", False),
            ),
            directory,
            stop=request,
            grace=options.pop("grace", 5.0),
            timeout=options.pop("timeout", None),
            viewers=viewers,
            terminal=options.pop("terminal", None),
            born=lambda: None,
            started=options.pop("started", lambda _: None),
            tick=options.pop("tick", lambda: None),
        )
    finally:
        if asking is not None:
            asking.join()
        for viewer in viewers.connected:
            viewer.close()


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
    script = f"trap 'echo cleaned; exit 9' {number.name[3:]}; sleep 30 & echo ready; wait"
    ended = start(directory, script, stop=[number])
    assert (ended.exit_code, ended.stopped, ended.reason) == (9, True, f"stopped by {number.name}")
    assert "cleaned" in directory.stdout.read_text()


def test_a_program_that_ignores_the_request_is_killed_after_the_grace(directory: RunDirectory) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    ended = start(directory, script, stop=[signal.SIGTERM], grace=0.4)
    assert ended.exit_code == 128 + signal.SIGKILL
    assert ended.reason == "stopped by SIGTERM, then killed"


def test_the_third_request_kills_at_once(directory: RunDirectory) -> None:
    script = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done"
    ended = start(directory, script, stop=[signal.SIGINT] * 3, grace=3600)
    assert ended.reason == "stopped by SIGINT, then killed"


def test_a_program_that_detached_itself_is_found_and_ended(directory: RunDirectory) -> None:
    pids = directory.path / "pids"
    script = (
        f"(setsid bash -c 'trap \"\" TERM; echo $$ >{pids}; while :; do sleep 0.05; done' &);"
        f"until [ -s {pids} ]; do sleep 0.05; done"
    )
    ended = start(directory, script, grace=0.3)
    assert ended.exit_code == 0
    assert "of the program still ran when it had ended" in ended.notes[0]
    assert not is_alive(int(pids.read_text()))


def test_stopping_reaches_a_child_in_a_session_of_its_own(directory: RunDirectory) -> None:
    pids = directory.path / "pids"
    script = f"setsid bash -c 'echo $$ >{pids}; echo ready; sleep 60' & sleep 60"
    ended = start(directory, script, stop=[signal.SIGTERM], grace=5)
    assert ended.stopped
    assert not is_alive(int(pids.read_text()))


def test_usage_counts_the_whole_tree(directory: RunDirectory) -> None:
    code = (
        "import os, sys, time; x = bytearray(80_000_000); open(sys.argv[1], 'w').close()\n"
        "while time.process_time() < 0.4: pass\n"
        "while not (os.path.exists('1') and os.path.exists('2')): time.sleep(0.01)\n"
        "time.sleep(1.2)  # somebody looks once a second\n"
    )
    ended = start(directory, f'{sys.executable} -c "{code}" 1 & {sys.executable} -c "{code}" 2 & wait')
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
    typing = when_printed(directory, "ready", lambda: here.sendall(typed(b"\x03")))
    ended = start(directory, "echo ready; sleep 30", viewers=[there], terminal=open_terminal((24, 80)))
    assert (ended.exit_code, ended.stopped) == (130, True)
    typing.join()
    here.close()
    there.close()


def test_the_run_goes_on_when_its_viewer_goes(directory: RunDirectory) -> None:
    here, there = socket.socketpair()
    gone = directory.path / "gone"
    leaving = when_printed(directory, "ready", lambda: (here.close(), gone.touch()))
    script = "echo ready; until [ -e gone ]; do sleep 0.05; done; sleep 0.1; echo still here"
    ended = start(directory, script, viewers=[there], terminal=open_terminal((24, 80)))
    leaving.join()
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


def test_one_stream_keeps_the_order_of_output_and_errors(directory: RunDirectory) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
    start(directory, script, one_stream=True)
    assert directory.stdout.read_text() == "".join(f"out {i}\nerr {i}\n" for i in (1, 2, 3))
    assert directory.stderr.read_text() == ""


def test_what_comes_from_a_terminal_that_was_closed_and_opened_again_is_not_lost(directory: RunDirectory) -> None:
    script = "tty=$(tty); exec <&- >&- 2>&-; sleep 0.2; seq 1 20000 >$tty; stty raw <$tty; seq 1 9 >$tty"
    ended = start(directory, script, terminal=open_terminal((24, 80)))
    assert ended.exit_code == 0
    expected = b"".join(b"%d\r\n" % i for i in range(1, 20001)) + b"".join(b"%d\n" % i for i in range(1, 10))
    assert directory.stdout.read_bytes() == expected


def test_a_program_that_reads_nothing_keeps_only_the_one_who_types_waiting(directory: RunDirectory) -> None:
    (typing, first), (looking, second) = socket.socketpair(), socket.socketpair()
    much = b"x" * 3_000_000 + b"\n"

    def act() -> None:
        typing.sendall(typed(much))  # ends when the program reads at last
        typing.close()

    def size() -> None:
        time.sleep(0.5)  # so that the keys come first; were they slower, nobody would wait for anybody
        looking.sendall(window((11, 22)))

    writing = when_printed(directory, "ready", act)
    sizing = when_printed(directory, "ready", size)
    script = (
        "stty raw -echo; echo ready; until [ \"$(stty size)\" = '11 22' ]; do sleep 0.05; done; head -c 3000001 | wc -c"
    )
    ended = start(directory, script, viewers=[first, second], terminal=open_terminal((24, 80)))
    writing.join()
    sizing.join()
    assert ended.exit_code == 0
    assert directory.stdout.read_text().split() == ["ready", "3000001"]
    looking.close()


def test_the_window_of_a_viewer_that_leaves_is_not_kept(directory: RunDirectory) -> None:
    (stays, first), (leaves, second) = socket.socketpair(), socket.socketpair()
    stays.sendall(window((20, 60)))
    resizing = when_printed(directory, "20 60", lambda: leaves.sendall(window((50, 200))))
    leaving = when_printed(directory, "50 200", leaves.close)
    is_size = 'until [ "$(stty size)" = "$size" ]; do sleep 0.05; done'
    script = f"for size in '20 60' '50 200' '20 60'; do {is_size}; echo $size; done"
    ended = start(directory, script, viewers=[first, second], terminal=open_terminal((24, 80)))
    resizing.join()
    leaving.join()
    assert ended.exit_code == 0
    assert directory.stdout.read_text().splitlines() == ["20 60", "50 200", "20 60"]
    stays.close()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="another user can be had only by root")
def test_what_runs_as_another_user_is_told_of_and_not_waited_for() -> None:
    folder = Path(tempfile.mkdtemp())
    directory = RunDirectory(folder / "run")
    directory.path.mkdir()
    become = folder / "become"
    shutil.copy(shutil.which("setpriv") or "", become)
    become.chmod(0o4755)
    os.chown(directory.path, 65534, 65534)
    folder.chmod(0o755)
    script = (
        f"(setsid {become} --reuid 1 --regid 1 --clear-groups sleep 600 & echo $! >pid); "
        "until grep -q sleep /proc/$(cat pid)/cmdline && grep -q '^Uid:.1' /proc/$(cat pid)/status; do sleep 0.05; done"
    )
    try:
        start(directory, "true")  # loads what the other user may not read
        os.chown(directory.stdout, 65534, 65534)
        os.chown(directory.stderr, 65534, 65534)
        pid = os.fork()
        if pid == 0:
            try:
                os.setgid(65534)
                os.setuid(65534)
                ended = start(directory, script, grace=0.2)
                (directory.path / "notes").write_text("\n".join(ended.notes))
                os._exit(ended.exit_code)
            finally:
                traceback.print_exc()
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        straggler = int((directory.path / "pid").read_text())
        assert is_alive(straggler)
        os.kill(straggler, signal.SIGKILL)
        assert (directory.path / "notes").read_text() == (
            f"what the program started as another user still runs, and can't be ended from here: process {straggler}."
        )
    finally:
        shutil.rmtree(folder)


def fail(*_: object) -> None:
    raise MemoryError("no more")


@pytest.mark.parametrize("when", ["started", "tick"])
def test_an_error_of_our_own_ends_the_program_and_what_it_started_and_is_told(
    directory: RunDirectory, when: str
) -> None:
    pids = directory.path / "pids"
    script = f"setsid bash -c 'trap \"\" TERM; echo $$ >>{pids}; exec sleep 600' & echo $$ >>{pids}; sleep 600"

    def fail_when_all_run(*_: object) -> None:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        fail()

    ended = start(directory, script, grace=0.3, **{when: fail_when_all_run})
    assert isinstance(ended.error, MemoryError)
    assert (ended.stopped, ended.reason) == (False, "ended by an error inside orch (MemoryError: no more)")
    assert ended.exit_code == 128 + signal.SIGTERM
    assert not [pid for pid in pids.read_text().split() if is_alive(int(pid))]


def test_an_error_of_our_own_when_the_program_has_ended_well_is_no_success(directory: RunDirectory) -> None:
    def started(pid: int) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        fail()

    ended = start(directory, "true", started=started)
    assert isinstance(ended.error, MemoryError)
    assert ended.exit_code == 125


def test_what_was_printed_before_an_error_of_our_own_is_in_the_log(directory: RunDirectory) -> None:
    terminal = open_terminal((24, 80))
    ended = start(directory, "echo a word; exec sleep 600", terminal=terminal, grace=0.3, tick=fail)
    assert isinstance(ended.error, MemoryError)
    assert directory.stdout.read_text() == "a word\n"


def test_a_request_that_came_with_the_programs_end_counts(directory: RunDirectory) -> None:
    """As when the run is a part of another, which asks the supervisor and the program at once."""
    request = StopRequest()

    def started(pid: int) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        request.number, request.count = signal.SIGTERM, 1

    ended = start(directory, "kill -TERM $$", request=request, started=started)
    assert (ended.exit_code, ended.stopped, ended.reason) == (143, True, "stopped by SIGTERM")


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_a_grace_that_cannot_be_read_is_the_usual_one(directory: RunDirectory, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(directory.asked_grace)
    else:
        directory.asked_grace.symlink_to("/dev/zero")
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    ended = start(directory, script, stop=[signal.SIGTERM], grace=0.3)
    assert ended.reason == "stopped by SIGTERM, then killed"


def test_a_child_of_a_thread_that_left_the_session_is_seen_and_ended(directory: RunDirectory) -> None:
    code = (
        "import subprocess, threading, time\n"
        "def fork(): open('child', 'w').write(str(subprocess.Popen(['setsid', 'sleep', '600']).pid))\n"
        "thread = threading.Thread(target=fork); thread.start(); thread.join(); print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    ended = start(directory, f'exec {sys.executable} -c "{code}"', stop=[signal.SIGTERM])
    assert ended.stopped
    assert not is_alive(int((directory.path / "child").read_text()))


def test_many_that_are_born_and_orphaned_meanwhile_are_all_ended(directory: RunDirectory) -> None:
    """Children of parents that end at once, each in a session of its own, up to the end of the program."""
    script = (
        "for i in $(seq 60); do (setsid bash -c 'echo $$ >>pids; exec sleep 600' &); done; "
        'until [ "$(wc -l <pids)" = 60 ]; do sleep 0.05; done'
    )
    ended = start(directory, script, grace=30)
    pids = (directory.path / "pids").read_text().split()
    assert len(pids) == 60
    assert not [pid for pid in pids if is_alive(int(pid))]
    assert ended.notes == ("60 processes of the program still ran when it had ended; they were ended too.",)


def test_viewers_are_woken_no_more_than_they_can_use_and_once_after_the_last_word(directory: RunDirectory) -> None:
    here, there = socket.socketpair()
    heard: list[tuple[bytes, int]] = []

    def hear() -> None:
        while bells := here.recv(1 << 16):
            heard.append((bells, directory.stdout.stat().st_size))

    hearing = threading.Thread(target=hear)
    hearing.start()
    begin = time.monotonic()
    start(directory, "seq 1 200000", viewers=[there], terminal=open_terminal((24, 80)))
    seconds = time.monotonic() - begin
    hearing.join()  # `start` closes the other end
    here.close()
    assert sum(len(bells) for bells, _ in heard) <= seconds / 0.01 + 2
    assert heard[-1][1] == directory.stdout.stat().st_size


def test_a_viewer_hears_a_single_word_soon(directory: RunDirectory) -> None:
    here, there = socket.socketpair()
    here.settimeout(60)
    script = "for i in 1 2 3; do echo word $i; done; until [ -e go ]; do sleep 0.05; done"
    told = threading.Thread(target=lambda: (wait_for_word(here, directory, "word 3"), (directory.path / "go").touch()))
    told.start()
    start(directory, script, viewers=[there], terminal=open_terminal((24, 80)))
    told.join()
    here.close()


def wait_for_word(viewer: socket.socket, directory: RunDirectory, word: str) -> None:
    """Look at the log only when woken."""
    while viewer.recv(100):
        if word in directory.stdout.read_text():
            return
    raise AssertionError("nobody rang")


def test_one_that_could_not_be_signalled_is_forgotten_when_it_has_ended() -> None:
    process = subprocess.Popen(["sleep", "600"])
    tree = ProcessTree(process.pid)
    assert process.pid in [found.pid for found in look(tree)]
    tree.refused.add(process.pid)
    look(tree)
    assert tree.refused == {process.pid}
    process.kill()
    process.wait()
    look(tree)
    assert tree.refused == set()


def test_only_new_processes_are_looked_at() -> None:
    tree = ProcessTree(os.getpid())
    look(tree)
    assert os.getppid() in tree.others
    process = subprocess.Popen(["sh", "-c", "sleep 600 & echo; wait"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    found = [one.pid for one in look(tree)]
    assert found[0] == process.pid
    assert len(found) == 2
    for pid in reversed(found):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
