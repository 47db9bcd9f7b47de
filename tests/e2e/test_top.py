"""`orch top` in a real terminal, over real runs: what it shows, what it does, and how it leaves the terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json

Make = Callable[..., Path]

STEPS = """
import json, os, time
for step in range(600):
    with open(os.environ["ORCH_EVENTS"], "a") as events:
        events.write(json.dumps({"metric": "loss", "value": 600 - step, "step": step}) + "\\n")
    print(f"epoch {step}", flush=True)
    time.sleep(0.1)
"""
LEFT = b"\x1b[?1049l"
"""Back from the alternate screen."""


class Dashboard:
    """`orch top` in a pseudo-terminal that is there, in its size, before the program starts; what it has written."""

    def __init__(self, size: tuple[int, int] = (24, 80), arguments: tuple[str, ...] = (str(ORCH), "top"), **env: str):
        self.terminal, slave = pty.openpty()
        termios.tcsetwinsize(self.terminal, size)
        self.before = termios.tcgetattr(self.terminal)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", **env},
        )
        os.close(slave)
        self.written = b""
        self.at = 0

    def read(self, seconds: float) -> bytes:
        """What is written within a time."""
        end, before = time.monotonic() + seconds, len(self.written)
        while (left := end - time.monotonic()) > 0:
            if select.select([self.terminal], [], [], left)[0]:
                try:
                    self.written += os.read(self.terminal, 65536)
                except OSError:
                    break
        return self.written[before:]

    def see(self, pattern: bytes, seconds: float = 30) -> re.Match[bytes]:
        """Wait for something behind what was last waited for."""
        end = time.monotonic() + seconds
        while (found := re.compile(pattern).search(self.written, self.at)) is None:
            assert time.monotonic() < end, f"{pattern!r}\n{self.written[-3000:].decode()}"
            assert self.read(0.05) or self.process.poll() is None, self.written[self.at :]
        self.at = found.end()
        return found

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            self.read(0.05)

    def press(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def end(self) -> int:
        """Its exit code, after all that it writes."""
        end = time.monotonic() + 20
        while self.process.poll() is None:
            assert time.monotonic() < end
            self.read(0.05)
        self.read(0.2)
        return self.process.returncode

    def has_given_back(self) -> bool:
        """Whether the terminal is as it was found: its modes, its screen, its cursor."""
        switched = dict(re.findall(rb"\x1b\[\?(1049|25|1004|2004|7|1000|1003)([hl])", self.written))
        off = {b"1049": b"l", b"25": b"h", b"1004": b"l", b"2004": b"l", b"7": b"h"}
        return termios.tcgetattr(self.terminal) == self.before and switched == off

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.terminal)


@pytest.fixture
def top() -> Iterator[Callable[..., Dashboard]]:
    opened: list[Dashboard] = []

    def start(*arguments: object, **options: str) -> Dashboard:
        opened.append(Dashboard(*arguments, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for dashboard in opened:
        dashboard.close()


@pytest.fixture
def busy(make_project: Make, orch_home: Path) -> Iterator[str]:
    """The id of a run that goes on."""
    project = make_project(
        {"MLproject": mlproject("python steps.py"), "steps.py": STEPS, "conda.yaml": CONDA_YAML}, "busy"
    )
    run_id = orch("run", "--detach", project).stdout.strip()
    yield run_id
    orch("stop", "--now", run_id)


@pytest.fixture
def hello(make_project: Make, orch_home: Path) -> str:
    """The id of a run that has ended."""
    project = make_project({"MLproject": mlproject("echo he''llo"), "conda.yaml": CONDA_YAML}, "hello")
    return orch_json("run", project)["run_id"]


def test_a_live_run_with_what_it_uses_its_metric_and_its_log(busy: str, top: Callable[..., Dashboard]) -> None:
    screen = top()
    screen.see(b"1 live")
    screen.see(busy[:16].encode() + rb" +\d+:\d\d +\d+% +[\d.]+ MiB  busy +[\xe2\x96\x81-\x88]+ \d+ loss")
    number = int(screen.see(rb"epoch (\d+)")[1])
    assert int(screen.see(rb"epoch (\d+)")[1]) > number
    screen.press(b"q")
    assert screen.end() == 0
    assert screen.has_given_back()
    assert orch_json("show", busy)["status"] == "running"


@pytest.mark.parametrize("field", [b"", b"/x"])
def test_escape_and_a_key_that_come_at_once_are_two_keys(
    hello: str, top: Callable[..., Dashboard], field: bytes
) -> None:
    screen = top()
    screen.see(hello[:16].encode())
    if field:
        screen.press(field)
        screen.see(b"no such runs")
    screen.press(b"\x1b/hel\x1b[A")
    screen.see(b"1 with: hel")
    screen.press(b"\x1bq")
    assert screen.end() == 0
    assert screen.has_given_back()


def test_s_and_y_stop_a_run(busy: str, hello: str, top: Callable[..., Dashboard]) -> None:
    screen = top()
    screen.see(busy[:16].encode())
    screen.press(b"s")
    screen.see(b"stop run " + busy[:16].encode() + rb"\? y/n")
    screen.press(b"n")
    screen.see(b"Enter show")
    assert orch_json("show", busy)["status"] == "running"
    screen.press(b"s")
    screen.see(b"y/n")
    screen.press(b"y")
    screen.see(b"is stopped by SIGTERM")
    screen.see(b"0 live")
    assert orch_json("show", busy)["status"] == "stopped"


def test_r_replays_in_the_terminal_and_comes_back(hello: str, top: Callable[..., Dashboard]) -> None:
    screen = top()
    screen.see(hello[:16].encode())
    screen.press(b"r")
    screen.see(rb"now\? y/n")
    screen.press(b"y")
    screen.see(re.escape(LEFT))
    screen.see(b"hello")
    screen.see(b"reproduced: run")
    screen.see(b"Enter goes back")
    assert termios.tcgetattr(screen.terminal) == screen.before
    screen.press(b"\r")
    screen.see(rb"\[\?1049h")
    screen.see(b"0 live, 2 runs")
    screen.see(b"reproduced")
    screen.press(b"q")
    assert screen.end() == 0
    assert screen.has_given_back()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("page", [b"", b"\r", b"/x"])
def test_a_signal_ends_it_and_the_terminal_is_given_back(
    hello: str, top: Callable[..., Dashboard], number: signal.Signals, page: bytes
) -> None:
    screen = top()
    screen.see(hello[:16].encode())
    if page:
        screen.press(page)
        screen.see(b"q back" if page == b"\r" else b"no such runs")
    screen.process.send_signal(number)
    assert screen.end() == 128 + number
    assert screen.has_given_back()


def test_a_terminal_that_is_gone_ends_it(busy: str, top: Callable[..., Dashboard]) -> None:
    screen = top()
    screen.see(b"1 live")
    os.close(screen.terminal)  # the kernel hangs up
    screen.terminal = os.open(os.devnull, os.O_RDONLY)
    assert screen.process.wait(10) == 128 + signal.SIGHUP
    assert orch_json("show", busy)["status"] == "running"


def test_a_terminal_that_stands_still_does_not_keep_it_from_ending(hello: str, top: Callable[..., Dashboard]) -> None:
    screen = top((50, 200))
    screen.see(hello[:16].encode())
    for _ in range(100):  # nobody reads what comes of it
        screen.press(b"/x\x1b[B")
        screen.press(b"\r\x1b[B")
        time.sleep(0.01)
    screen.process.send_signal(signal.SIGTERM)
    assert screen.process.wait(10) == 128 + signal.SIGTERM
    assert termios.tcgetattr(screen.terminal) == screen.before


def test_stopped_and_continued_it_draws_all_of_its_screen_again(hello: str, top: Callable[..., Dashboard]) -> None:
    screen = top()
    screen.see(hello[:16].encode())
    screen.read(1)
    screen.press(b"\x1a")
    screen.see(re.escape(LEFT))
    screen.wait(lambda: termios.tcgetattr(screen.terminal) == screen.before)
    screen.process.send_signal(signal.SIGCONT)
    screen.see(rb"\[\?1049h")
    screen.see(b"orch top")
    screen.see(hello[:16].encode())
    screen.see(b"Enter show")
    screen.press(b"q")
    assert screen.end() == 0
    assert screen.has_given_back()


def test_little_is_written_when_little_happens(hello: str, top: Callable[..., Dashboard], orch_home: Path) -> None:
    screen = top()
    screen.see(hello[:16].encode())
    screen.wait(lambda: len(screen.read(2)) < 500)  # the age of the run
    screen.press(b"\x1b[B")
    assert len(screen.read(0.5)) < 500


@pytest.mark.parametrize("size", [(24, 80), (50, 200)])
def test_a_live_run_takes_less_than_a_modem_has(
    busy: str, top: Callable[..., Dashboard], size: tuple[int, int]
) -> None:
    screen = top(size)
    screen.see(rb"\d% ")
    screen.wait(lambda: len(screen.read(3)) < 3 * 800)


@pytest.mark.parametrize("term", ["linux", "screen", "vt100", "xterm"])
def test_no_color_and_old_terminals(hello: str, top: Callable[..., Dashboard], term: str) -> None:
    screen = top(TERM=term, NO_COLOR="1")
    screen.see(hello[:16].encode())
    screen.press(b"\x1b[B\x1b[A")
    screen.read(1)
    screen.press(b"q")
    assert screen.end() == 0
    assert not re.search(rb"\x1b\[[0-9;]*\b(3[0-7]|4[0-7]|9[0-7]|38|48)[;m]", screen.written)
    assert screen.has_given_back()


def test_where_it_cannot_work_it_says_why(top: Callable[..., Dashboard], orch_home: Path) -> None:
    assert orch("top", code=125).stderr.startswith("orch: orch top needs a terminal;")
    screen = top(TERM="dumb")
    screen.see(b"needs a terminal whose cursor can be moved")
    assert screen.end() == 125


def test_without_textual_it_says_how_to_get_it(top: Callable[..., Dashboard], orch_home: Path) -> None:
    blocked = "import sys; sys.modules['textual'] = None; sys.argv = ['orch', 'top']"
    code = f"{blocked}; from orchestrator import cli; cli.main()"
    screen = top((24, 200), (sys.executable, "-c", code))
    screen.see(rb"orch: orch top needs Textual, which is not here; get it with: pip install textual")
    assert screen.end() == 125
    assert b"Traceback" not in screen.written
