"""`orch run` in a real terminal: the program has one too, keys reach it, and the terminal is given back as it was."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from made_disk import small_disk

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch_json

Make = Callable[..., Path]


class Typist:
    """`orch`, or another program, in a pseudo-terminal of 100 columns and 30 rows, and what it has shown."""

    def __init__(self, *arguments: object, program: Sequence[str] = ()) -> None:
        self.shown = b""
        gate, opener = os.pipe()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.close(opener)
            os.read(gate, 1)
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # ignored where tests run in the background
                signal.signal(number, signal.SIG_DFL)
            command = [*program, *map(str, arguments)] if program else [str(ORCH), *map(str, arguments)]
            os.execvp(command[0], command)
        termios.tcsetwinsize(self.terminal, (30, 100))
        self.before = termios.tcgetattr(self.terminal)
        os.close(gate)
        os.close(opener)  # from now on the program may change the terminal

    def wait_for(self, text: bytes, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.shown += os.read(self.terminal, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while True:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:
                data = b""
            if not data:
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.shown += data


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[[str], Path]:
    return lambda command: make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML})


def test_the_program_has_a_terminal_of_the_same_size_and_reads_its_keys(make: Callable[[str], Path]) -> None:
    typist = Typist(
        "run", make("stty size; test -t 0 && test -t 1 && test -t 2 && read -p 'na''me? ' x; echo hello $x")
    )
    typist.wait_for(b"name? ")
    typist.type(b"ada\n")
    typist.wait_for(b"finished")
    assert typist.end() == 0
    assert b"30 100" in typist.shown
    assert b"hello ada" in typist.shown


def test_the_size_follows(make: Callable[[str], Path]) -> None:
    typist = Typist("run", make("echo be''gun; read x; stty size"))
    typist.wait_for(b"begun")
    termios.tcsetwinsize(typist.terminal, (44, 133))
    os.kill(typist.pid, signal.SIGWINCH)
    time.sleep(0.3)
    typist.type(b"\n")
    assert typist.end() == 0
    assert b"44 133" in typist.shown


def test_ctrl_c_is_the_programs_own(make: Callable[[str], Path]) -> None:
    typist = Typist("run", make("trap 'echo caught; exit 5' INT; echo be''gun; sleep 30"))
    typist.wait_for(b"begun")
    typist.type(b"\x03")
    assert typist.end() == 5
    assert b"caught" in typist.shown
    assert orch_json("show")["status"] == "failed"


def test_three_ctrl_c_within_two_seconds_stop_the_run(make: Callable[[str], Path]) -> None:
    typist = Typist("run", "--grace", "0.3", make("trap '' INT TERM; echo be''gun; while :; do sleep 0.1; done"))
    typist.wait_for(b"begun")
    for _ in range(3):
        typist.type(b"\x03")
        time.sleep(0.2)
    assert typist.end() == 128 + signal.SIGKILL
    run = orch_json("show")
    assert (run["status"], run["reason"]) == ("stopped", "stopped by SIGTERM, then killed")


def test_ctrl_c_while_the_environment_is_made_stops_at_once(make_project: Make, cold_home: Path) -> None:
    project = make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML})
    typist = Typist("run", project)
    typist.wait_for(b"installing")
    typist.type(b"\x03")
    assert typist.end() == 130
    assert orch_json("list") == []


def test_the_terminal_is_given_back_as_it_was(make: Callable[[str], Path]) -> None:
    typist = Typist("run", make("stty raw -echo; printf 'no newline'; exit 3"))
    typist.wait_for(b"exit code 3")
    time.sleep(0.2)
    assert termios.tcgetattr(typist.terminal) == typist.before
    assert typist.end() == 3
    assert b"no newline\r\n" in typist.shown


def test_a_closed_terminal_ends_the_viewer_and_not_the_run(make: Callable[[str], Path], orch_home: Path) -> None:
    typist = Typist("run", make("echo be''gun; sleep 1; echo done"))
    typist.wait_for(b"begun")
    os.close(typist.terminal)  # the kernel hangs up
    os.waitpid(typist.pid, 0)
    end = time.monotonic() + 30
    while orch_json("show")["status"] == "running" and time.monotonic() < end:
        time.sleep(0.1)
    assert orch_json("show")["status"] == "finished"
    log = next((orch_home / "runs").glob("*/stdout.log")).read_bytes()
    assert log == b"begun\r\ndone\r\n"


def test_a_full_disk_holds_the_program_back_until_there_is_room(
    make_project: Make, orch_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_project({"MLproject": mlproject("python main.py"), "conda.yaml": CONDA_YAML})
    (folder / "main.py").write_text("for i in range(20000): print(i, 'x' * 100)\nprint('all of it')\n")
    with small_disk(tmp_path / "small", "4m") as disk:
        home = disk / "home"
        shutil.copytree(orch_home, home)
        with (home / "config.toml").open("a") as config:
            config.write("".join(f'{name} = "{orch_home / name}"\n' for name in ("store", "work")))
        monkeypatch.setenv("ORCH_HOME", str(home))
        filler = disk / "filler"
        filler.write_bytes(b"x" * 3_000_000)
        typist = Typist("run", folder)
        typist.wait_for(b" xxxx")
        with pytest.raises(AssertionError):
            typist.wait_for(b"all of it", seconds=4)
        filler.unlink()
        assert typist.end() == 0
        assert orch_json("show")["status"] == "finished"
        log = (home / "runs" / orch_json("show")["run_id"] / "stdout.log").read_bytes()
    assert log == b"".join(b"%d %s\r\n" % (i, b"x" * 100) for i in range(20000)) + b"all of it\r\n"
