"""`orch attach` and `orch logs -f`: a run that is left and taken up again, with everything that it printed, once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json
from e2e.test_detached import detached
from e2e.test_interruption import begun, start, supervisor_of, wait_until
from e2e.test_terminal import Typist

Make = Callable[..., Path]
LEAVE = b"\x10\x11"


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[[str], Path]:
    return lambda command: make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML})


def lines(count: int, end: str = "\n") -> bytes:
    return "".join(f"line {i}{end}" for i in range(count)).encode()


def counting(count: int, pause: str = "") -> str:
    return f"for ((i = 0; i < {count}; i++)); do echo line $i; {pause or ':'}; done"


def the_run(home: Path) -> Path:
    [folder] = (home / "runs").iterdir()
    return folder


def test_it_shows_everything_from_the_start_and_ends_as_the_run(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make(f"echo begun; while [ ! -e go ]; do sleep 0.05; done; {counting(20)}; exit 3"))
    wait_until(lambda: begun(orch_home))
    viewer = start("attach")
    assert viewer.stdout.readline() == "begun\n"
    (orch_home / "work" / run_id / "checkout" / "go").touch()
    shown, errors = viewer.communicate(timeout=60)
    done = subprocess.CompletedProcess([], viewer.returncode, f"begun\n{shown}", errors)
    assert done.returncode == 3
    assert done.stdout.encode() == b"begun\n" + lines(20)
    phases = [line.split()[0] for line in done.stderr.splitlines()]
    assert phases == ["source", "environment", "running", "failed", "run"]
    again = orch("attach", run_id, code=3)  # it has ended
    assert (again.stdout, again.stderr) == (done.stdout, done.stderr)
    assert orch("attach", run_id, "--tail", "2", code=3).stdout == "line 18\nline 19\n"


def test_it_can_begin_while_the_run_is_prepared(make_project: Make, cold_home: Path) -> None:
    run_id = detached(make_project({"MLproject": mlproject("echo ran"), "conda.yaml": CONDA_YAML}))
    done = orch("attach", run_id)
    assert done.stdout == "ran\n"
    assert "solving" in done.stderr
    assert "installing" in done.stderr


def test_one_that_fails_while_it_is_prepared_is_told(make_project: Make, cold_home: Path) -> None:
    yaml = CONDA_YAML.replace("python", "python, nothing-of-this-name")
    run_id = detached(make_project({"MLproject": mlproject("echo ran"), "conda.yaml": yaml}))
    assert "nothing-of-this-name" in orch("attach", run_id, code=125).stderr


def test_without_a_live_run_it_says_so(orch_home: Path) -> None:
    assert "no run lives on this machine" in orch("attach", code=125).stderr
    assert "no run has an id" in orch("attach", "ffff", code=125).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_look_and_not_the_run(
    make: Callable[[str], Path], orch_home: Path, number: signal.Signals
) -> None:
    run_id = detached(make("echo begun; while [ ! -e stop ]; do sleep 0.05; done"))
    wait_until(lambda: begun(orch_home))
    viewer = start("attach", run_id)
    assert viewer.stdout.readline() == "begun\n"
    viewer.send_signal(number)
    _, errors = viewer.communicate(timeout=30)
    if number == signal.SIGINT:
        assert viewer.returncode == 0
        assert f"detached     orch attach {run_id[:16]} shows it\n" in errors
        assert f"orch stop {run_id[:16]} ends it\n" in errors
    else:
        assert viewer.returncode == 128 + number
    assert orch_json("show")["status"] == "running"
    (orch_home / "work" / run_id / "checkout" / "stop").touch()
    assert orch("attach", run_id).stdout == "begun\n"


def test_the_detach_keys_leave_the_run_and_attach_takes_it_up(make: Callable[[str], Path], orch_home: Path) -> None:
    sized = 'until [ "$(stty size)" = "41 99" ]; do sleep 0.05; done; stty size'
    typist = Typist("run", make(f"echo be''gun; read x; echo got $x; {sized}; read y; echo and $y"))
    typist.wait_for(b"begun")
    typist.type(LEAVE)
    assert typist.end() == 0
    assert b"detached     orch attach" in typist.shown
    assert orch_json("show")["status"] == "running"

    typist = Typist("attach")
    termios.tcsetwinsize(typist.terminal, (41, 99))
    os.kill(typist.pid, signal.SIGWINCH)
    typist.wait_for(b"begun\r\n")
    typist.type(b"ada\n")
    typist.wait_for(b"41 99\r\n")
    assert typist.shown.count(b"begun\r\n") == 1
    typist.type(LEAVE)
    assert typist.end() == 0
    assert termios.tcgetattr(typist.terminal) == typist.before

    typist = Typist("attach", "--tail", "1")
    typist.wait_for(b"41 99\r\n")
    assert b"got ada" not in typist.shown
    typist.type(b"lovelace\n")
    typist.wait_for(b"and lovelace")
    assert typist.end() == 0
    assert (the_run(orch_home) / "stdout.log").read_bytes().count(b"ada") == 2


def test_the_prefix_key_alone_is_the_programs(make: Callable[[str], Path]) -> None:
    program = "stty raw -echo; echo be''gun; head -c 4 | od -An -tx1"
    typist = Typist("run", make(program))
    typist.wait_for(b"begun")
    typist.type(b"\x10")
    time.sleep(0.3)
    typist.type(b"a\x10")
    typist.type(b"\x10b\x11")
    typist.wait_for(b"10 61 10 10")
    assert typist.end() == 0


def test_the_detach_keys_work_while_the_environment_is_made(make_project: Make, cold_home: Path) -> None:
    project = make_project({"MLproject": mlproject("read x; echo got $x"), "conda.yaml": CONDA_YAML})
    typist = Typist("run", project)
    typist.wait_for(b"solving")
    typist.type(b"ahead\n")
    time.sleep(0.1)
    typist.type(LEAVE)
    assert typist.end() == 0
    assert b"detached" in typist.shown
    typist = Typist("attach")
    typist.wait_for(b"running")
    typist.type(b"then\n")
    assert typist.end() == 0
    assert b"got then" in typist.shown


def test_the_detach_keys_leave_a_program_without_a_terminal_too(make: Callable[[str], Path]) -> None:
    typist = Typist("run", "--no-tty", make("test -t 1 || echo be''gun; while [ ! -e /nowhere ]; do sleep 0.1; done"))
    typist.wait_for(b"begun")
    typist.type(b"not for the program" + LEAVE)
    assert typist.end() == 0
    assert b"detached     orch attach" in typist.shown
    assert orch_json("ps")[0]["status"] == "running"
    orch("stop", "--now", orch_json("ps")[0]["run_id"])


def test_the_detach_keys_leave_a_replay_which_goes_on(make: Callable[[str], Path]) -> None:
    orch("run", make("echo be''gun; sleep 2; echo result >file"))
    typist = Typist("replay")
    typist.wait_for(b"begun")
    typist.type(LEAVE)
    assert typist.end() == 125  # it says nothing on whether the run is reproduced
    assert b"detached     orch attach" in typist.shown
    wait_until(lambda: (orch_json("show")["verdict"] or {}).get("result") == "reproduced")


def test_what_is_typed_ahead_goes_to_the_program(make_project: Make, cold_home: Path) -> None:
    project = make_project({"MLproject": mlproject("read x; echo got $x"), "conda.yaml": CONDA_YAML})
    typist = Typist("run", project)
    typist.wait_for(b"solving")
    typist.type(b"ahead\n")
    assert typist.end() == 0
    assert b"got ahead" in typist.shown


def test_several_viewers_see_the_same_and_a_stopped_one_holds_nobody_up(
    make: Callable[[str], Path], orch_home: Path
) -> None:
    typist = Typist("run", make(f"echo be''gun; read x; {counting(20000)}"))
    typist.wait_for(b"begun")
    viewers = [start("attach") for _ in range(3)]
    sleeper = start("attach", the_run(orch_home).name)
    time.sleep(1)
    sleeper.send_signal(signal.SIGSTOP)
    typist.type(b"\n")
    assert typist.end() == 0
    expected = b"begun\r\n\r\n" + lines(20000, "\r\n")
    assert (the_run(orch_home) / "stdout.log").read_bytes() == expected
    assert b"line 0\r\n" + lines(20000, "\r\n").partition(b"\r\n")[2] in typist.shown
    for viewer in viewers:
        assert viewer.communicate(timeout=60)[0] == expected.decode().replace("\r\n", "\n")  # as text mode reads it
        assert viewer.returncode == 0
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.communicate(timeout=60)[0] == expected.decode().replace("\r\n", "\n")


def connected(stranger: socket.socket, address: str) -> bool:
    try:
        stranger.connect(address)
    except BlockingIOError:  # so many wait already
        return False
    return True


def test_rubbish_on_the_socket_harms_nobody(make: Callable[[str], Path], orch_home: Path) -> None:
    typist = Typist("run", make("echo be''gun; read x; echo got $x"))
    typist.wait_for(b"begun")
    chance = random.Random(7)
    address = the_run(orch_home) / "viewers"
    with contextlib.ExitStack() as cleanup:
        folder = os.open(address.parent, os.O_RDONLY)
        cleanup.callback(os.close, folder)
        for _ in range(100):
            stranger = cleanup.enter_context(socket.socket(socket.AF_UNIX))
            stranger.settimeout(5)
            wait_until(lambda stranger=stranger: connected(stranger, f"/proc/self/fd/{folder}/viewers"))
            with contextlib.suppress(OSError):
                stranger.send(chance.choice([b"", b"\xff" * 1000, b"i\xff\xffabc", b"w\x00\x01a", b"i", b"w\x00"]))
        typist.type(b"ada\n")
        typist.wait_for(b"got ada")
        assert typist.end() == 0


def test_a_long_path_of_the_home_is_no_hindrance(
    make_project: Make, orch_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60) / "home"
    deep.parent.mkdir(parents=True)
    orch_home.rename(deep)
    monkeypatch.setenv("ORCH_HOME", str(deep))
    typist = Typist("run", make_project({"MLproject": mlproject("echo be''gun; read x"), "conda.yaml": CONDA_YAML}))
    typist.wait_for(b"begun")
    other = Typist("attach")
    other.wait_for(b"begun")
    other.type(b"\n")
    assert other.end() == 0
    assert typist.end() == 0


def test_three_ctrl_c_in_an_attached_terminal_stop_the_run(make: Callable[[str], Path]) -> None:
    typist = Typist("run", make("trap '' INT; echo be''gun; while :; do sleep 0.1; done"))
    typist.wait_for(b"begun")
    typist.type(LEAVE)
    assert typist.end() == 0
    typist = Typist("attach")
    typist.wait_for(b"begun")
    time.sleep(0.3)
    for _ in range(3):
        typist.type(b"\x03")
        time.sleep(0.2)
    assert typist.end() == 128 + signal.SIGTERM
    assert orch_json("show")["status"] == "stopped"


def test_a_lot_of_input_waits_until_the_program_reads_it(make: Callable[[str], Path], orch_home: Path) -> None:
    count = 2_000_000
    typist = Typist("run", make(f"stty raw -echo; echo be''gun; sleep 1; head -c {count} | sha256sum"))
    typist.wait_for(b"begun")
    data = random.Random(3).randbytes(count).translate(bytes(48 + i % 64 for i in range(256)))
    os.set_blocking(typist.terminal, False)
    sent = 0
    while sent < count:
        try:
            sent += os.write(typist.terminal, data[sent : sent + 4096])
        except BlockingIOError:
            time.sleep(0.005)
    os.set_blocking(typist.terminal, True)
    import hashlib

    typist.wait_for(hashlib.sha256(data).hexdigest().encode())
    assert typist.end() == 0


def test_an_attached_viewer_of_a_killed_supervisor_says_what_is_left(
    make: Callable[[str], Path], orch_home: Path
) -> None:
    run_id = detached(make("echo $$ >pid; echo begun; while :; do sleep 0.05; done"))
    wait_until(lambda: begun(orch_home))
    viewer = start("attach", run_id)
    assert viewer.stdout.readline() == "begun\n"
    os.kill(supervisor_of(orch_home / "runs" / run_id), signal.SIGKILL)
    _, errors = viewer.communicate(timeout=30)
    assert viewer.returncode == 125
    assert "the run is orphaned: its program lives; orch logs -f" in errors
    follower, attached, newest = start("logs", "-f", run_id), start("attach", run_id), start("attach")
    for process in (follower, attached, newest):
        assert process.stdout.readline() == "begun\n"
    orch("stop", "--now", run_id)
    work = orch_home / "work" / run_id
    for process, code in ((follower, 0), (attached, 125), (newest, 125)):
        _, errors = process.communicate(timeout=30)
        assert process.returncode == code
        orphaned, ended = errors.splitlines()
        assert orphaned == (
            f"  orphaned     the supervisor of run {run_id[:16]} was killed, its program lives; "
            f"orch stop {run_id[:16]} ends it"
        )
        said = "its supervisor was killed; stopped by SIGTERM"
        assert ended.startswith(f"  stopped      {said}")
        assert ended.endswith(f"what it wrote is in {work}")


def test_logs_follow_until_the_end(make: Callable[[str], Path], orch_home: Path) -> None:
    orch("run", make("echo before"))
    run_id = detached(make(f"{counting(10, 'sleep 0.1')}; echo oops >&2"))
    done = orch("logs", "-f")  # the one that lives, though it may still be prepared
    assert (done.stdout.encode(), done.stderr) == (lines(10) + b"oops\n", f"  following    run {run_id}\n")
    assert orch("logs", run_id).stdout == done.stdout
    assert orch("logs", "-n", "3", run_id).stdout == "line 8\nline 9\noops\n"
    assert orch("logs", "--tail", "0", run_id).stdout == ""


def test_following_says_that_a_run_became_lost(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make("echo $$ >pid; echo begun; while :; do sleep 0.05; done"))
    wait_until(lambda: begun(orch_home))
    follower = start("logs", "-f", run_id)
    assert follower.stdout.readline() == "begun\n"
    program = int((orch_home / "work" / run_id / "checkout" / "pid").read_text())
    os.kill(supervisor_of(orch_home / "runs" / run_id), signal.SIGKILL)
    os.kill(program, signal.SIGKILL)
    _, errors = follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert "  lost         its supervisor was killed; what it wrote is in " in errors
    again = orch("logs", "-f", run_id)
    assert (again.stdout, again.stderr) == ("begun\n", errors[errors.index("  lost") :])


def test_following_reads_each_line_of_the_progress_once(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make("echo begun; while [ ! -e stop ]; do sleep 0.05; done"))
    wait_until(lambda: begun(orch_home))
    progress = orch_home / "runs" / run_id / "progress.jsonl"
    with progress.open("a") as file:
        file.writelines('{"phase":"told","text":"' + "x" * 1000 + '"}\n' for _ in range(100_000))
    follower = start("logs", "-f", run_id)
    assert follower.stdout.readline() == "begun\n"
    process = psutil.Process(follower.pid)
    before = process.io_counters()
    time.sleep(1)  # some ten looks
    after = process.io_counters()
    assert after.read_count > before.read_count
    assert after.read_chars - before.read_chars < progress.stat().st_size
    (orch_home / "work" / run_id / "checkout" / "stop").touch()
    follower.communicate(timeout=60)
    assert follower.returncode == 0


def test_ctrl_c_ends_the_following_only(make: Callable[[str], Path], orch_home: Path) -> None:
    run_id = detached(make("echo begun; while :; do sleep 0.05; done"))
    wait_until(lambda: begun(orch_home))
    follower = start("logs", "--follow", run_id)
    assert follower.stdout.readline() == "begun\n"
    follower.send_signal(signal.SIGINT)
    _, errors = follower.communicate(timeout=30)
    assert (follower.returncode, errors) == (130, "")
    assert orch_json("show")["status"] == "running"
    orch("stop", "--now", run_id)


def test_plain_logs_have_what_a_terminal_shows_in_the_end(make_project: Make, orch_home: Path) -> None:
    program = r"""
import sys, time
w = sys.stdout.write
w("\x1b[1;31mred\x1b[0m and \x1b]0;title\x07plain\n")
for i in range(101):
    w(f"\r{i:3d}%|{'#' * (i // 10):10}|")
    sys.stdout.flush()
w("\n")
w("one\ntwo\n\x1b[2A\x1b[2KONE\n\x1b[KTWO\n")
w("long line\rshort\x1b[K\n")
w("a\tb\n")
"""
    files = {"MLproject": mlproject("python main.py"), "conda.yaml": CONDA_YAML, "main.py": program}
    orch("run", make_project(files))
    expected = "red and plain\n100%|##########|\nONE\nTWO\nshort\na\tb\n"
    assert orch("logs", "--plain").stdout == expected
    assert "\x1b[1;31mred" in orch("logs").stdout
    assert orch("logs", "--plain", "-f").stdout == expected


def test_a_background_job_does_not_take_the_terminal(make: Callable[[str], Path], tmp_path: Path) -> None:
    project = make("[ -t 0 ] || echo none")
    script = tmp_path / "script"
    script.write_text(f"set -m\n{ORCH} run {project} &\nwait\n")
    environ = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        ["script", "-qec", f"bash {script}", "/dev/null"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert "none" in done.stdout


def test_what_the_program_did_to_the_terminal_is_undone_and_nothing_is_asked_again(make: Callable[[str], Path]) -> None:
    draw = r"printf '\033[?1049h\033[?25l\033[6nbe''gun'; read x; printf '\033[6nthen'; read y"
    typist = Typist("run", make(draw))
    typist.wait_for(b"\x1b[6nbegun")
    typist.type(LEAVE)
    assert typist.end() == 0
    assert b"\x1b[?25h\x1b[?1049l" in typist.shown
    typist = Typist("attach")
    typist.wait_for(b"begun")
    assert b"\x1b[?1049h" in typist.shown
    assert b"\x1b[6n" not in typist.shown
    time.sleep(0.3)
    typist.type(b"\n")
    typist.wait_for(b"\x1b[6nthen")
    typist.type(b"\n")
    assert typist.end() == 0


def test_a_program_that_prints_without_an_end_is_left_and_interrupted(make: Callable[[str], Path]) -> None:
    project = make("yes 0123456789012345678901234567890123456789")
    for keys, code in ((LEAVE, 0), (b"\x03", 130)):
        typist = Typist("run", project)
        typist.wait_for(b"0123456789")
        typist.type(keys)
        end = time.monotonic() + 60
        # Slower than the program prints, as a terminal far away.
        while data := _some(typist.terminal):
            assert time.monotonic() < end
            typist.shown = data
            time.sleep(0.005)
        assert typist.end() == code
    orch("stop", *[run["run_id"] for run in orch_json("ps")])


def _some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_a_run_that_was_imported_shows_its_log_and_its_end(
    make: Callable[[str], Path], orch_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orch("run", make("echo here; exit 4"), code=4)
    run_id = orch_json("show")["run_id"]
    orch("bundle", "create", run_id, "-o", tmp_path / "run.zip")
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "elsewhere"))
    orch("bundle", "import", tmp_path / "run.zip")
    done = orch("attach", run_id, code=4)
    assert done.stdout == "here\n"
    assert "failed" in done.stderr
    assert "had ended already: failed, exit code 4" in orch("stop", run_id).stdout
