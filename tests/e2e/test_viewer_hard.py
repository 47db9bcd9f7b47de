"""Viewers where it is hard: backlogs, streams that don't block, programs that harm, keys that nobody reads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json
from e2e.test_detached import detached
from e2e.test_interruption import begun, supervisor_of, wait_until
from e2e.test_terminal import Typist

Make = Callable[..., Path]
LEAVE, CTRL_C = b"\x10\x11", b"\x03"
ASKED = rb"\x1b\[c|\x1b\]11;\?|\x1bP\+q|\x1b\[6n"
ASKS = r"printf '\033[31mred\033[0m \033[c\033]11;?\007\033P+q544e\033\\\033[6nbe''gun\n'"
SHOWN = b"\x1b[31mred\x1b[0m begun\r\n"
COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[[str], Path]:
    return lambda command: make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML})


@pytest.fixture
def narrow_pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end does not block."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    yield reading, writing
    os.close(reading)


def told(home: Path, key: str) -> bool:
    return any(f'"{key}":' in path.read_text() for path in (home / "runs").glob("*/progress.jsonl"))


def read_slowly(source: int, seconds: float = 120) -> bytes:
    """All that comes, slower than it is written."""
    data, end = bytearray(), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            some = os.read(source, 4096)
        except OSError:
            some = b""
        if not some:
            return bytes(data)
        data += some
        time.sleep(0.001)
    raise AssertionError(len(data))


def plain(shown: bytes) -> list[str]:
    return COLOUR.sub(b"", shown).decode().replace("\r\n", "\n").splitlines()


# --- a backlog --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [LEAVE, CTRL_C])
@pytest.mark.parametrize("attached", [False, True])
def test_a_program_that_has_ended_is_left_before_all_is_shown(
    make: Callable[[str], Path], orch_home: Path, keys: bytes, attached: bool
) -> None:
    size = 60_000_000
    project = make(f"echo be''gun; yes 0123456789012345678901234567890123456789 | head -c {size}; exit 7")
    typist = Typist("run", project)
    if attached:
        typist.wait_for(b"begun")
        typist.type(LEAVE)
        read_slowly(typist.terminal)
        os.waitpid(typist.pid, 0)
        wait_until(lambda: told(orch_home, "end"))
        typist = Typist("attach", orch_json("show")["run_id"])
    typist.wait_for(b"01234567")
    wait_until(lambda: told(orch_home, "end"))
    typist.type(keys)
    shown = read_slowly(typist.terminal)
    assert len(shown) < size / 4
    assert os.waitstatus_to_exitcode(os.waitpid(typist.pid, 0)[1]) == (0 if attached else 7)
    assert b"detached     orch attach" in COLOUR.sub(b"", shown)
    assert b"orch stop" not in shown


def test_a_signal_leaves_a_backlog_too(make: Callable[[str], Path], orch_home: Path) -> None:
    size = 30_000_000
    project = make(f"yes 0123456789012345678901234567890123456789 | head -c {size}")
    viewer = subprocess.Popen([ORCH, "run", project], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: told(orch_home, "end"))
    [run] = (orch_home / "runs").iterdir()
    supervisor = psutil.Process(supervisor_of(run))
    wait_until(lambda: supervisor.status() == psutil.STATUS_ZOMBIE)  # nobody reaps it yet
    assert viewer.stdout is not None
    assert viewer.stdout.read(10) == b"0123456789"
    viewer.send_signal(signal.SIGINT)
    shown, errors = viewer.communicate(timeout=60)
    assert len(shown) < size / 4
    assert b"detached     orch attach" in errors


# --- streams that don't block -------------------------------------------------------------------------------------


def test_a_stream_that_does_not_block_is_waited_for(
    make: Callable[[str], Path], orch_home: Path, narrow_pipe: tuple[int, int]
) -> None:
    reading, writing = narrow_pipe
    project = make("seq 200000; echo result >file")
    expected = subprocess.run(["seq", "200000"], capture_output=True, check=True).stdout
    viewer = subprocess.Popen([ORCH, "run", project], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert read_slowly(reading) == expected
    assert viewer.communicate(timeout=60)[1].count(b"finished") == 1
    assert viewer.returncode == 0


@pytest.mark.parametrize("command", ["logs", "logs -f", "logs --plain", "attach", "replay"])
def test_what_was_printed_is_shown_whole_on_a_stream_that_does_not_block(
    make: Callable[[str], Path], narrow_pipe: tuple[int, int], command: str
) -> None:
    reading, writing = narrow_pipe
    orch("run", make("seq 100000"))
    expected = subprocess.run(["seq", "100000"], capture_output=True, check=True).stdout
    words = [*command.split(), orch_json("show")["run_id"]]
    viewer = subprocess.Popen([ORCH, *words], stdout=writing, stderr=writing)
    os.close(writing)
    shown = read_slowly(reading)
    assert expected in shown
    assert viewer.wait(60) == 0, shown[-1000:]
    assert (b"reproduced: run" in shown) == (command == "replay")


# --- what a program prints ----------------------------------------------------------------------------------------


def test_nothing_is_asked_of_a_terminal_that_the_program_does_not_hear(
    make: Callable[[str], Path], orch_home: Path
) -> None:
    project = make(f"{ASKS}; while [ ! -e go ]; do sleep 0.05; done; {ASKS}")
    run_id = detached(project)
    wait_until(lambda: begun(orch_home))
    typist = Typist("attach", run_id)
    typist.wait_for(b"begun")
    (orch_home / "work" / run_id / "checkout" / "go").touch()
    assert typist.end() == 0
    assert typist.shown.count(SHOWN) == 2
    assert not re.search(ASKED, typist.shown)


def test_nothing_is_asked_for_a_program_that_was_refused_a_terminal(make: Callable[[str], Path]) -> None:
    typist = Typist("run", "--no-tty", make(ASKS))
    assert typist.end() == 0
    assert SHOWN in typist.shown
    assert not re.search(ASKED, typist.shown)


DAMAGED = r"""
import os, time
from pathlib import Path
progress = Path(os.environ["ORCH_EVENTS"]).with_name("progress.jsonl")
while '"program":' not in progress.read_text():
    time.sleep(0.01)
with progress.open("ab") as file:
    file.write(b'nonsense}\n\xff}\n[1]\n"}"\n{"phase":1}\n{"phase":"x"}\n{"phase":"x","text":[]}\n{"error":{}}\n')
    file.write(b'{"ended":true}\n{"ended":"finished"}\n{"end":"x"}\n{"done":1}\n{"cached":2}\n{"over":[]}\n')
    file.write(b'{"phase":"x","text":"","at":1e999}\n{"phase":"x","text":"","at":NaN}\n' + b'[' * 100000 + b'}\n')
    file.write(b'{"phase":"\\u001b[2Jtold","text":"\\u001b[2Jas text"}\n')
print("said")
"""


def test_damaged_lines_of_the_progress_are_passed_over(make_project: Make, orch_home: Path) -> None:
    files = {"MLproject": mlproject("python main.py"), "conda.yaml": CONDA_YAML, "main.py": DAMAGED}
    typist = Typist("run", make_project(files))
    assert typist.end() == 0, typist.shown
    done = orch("attach", orch_json("show")["run_id"])
    assert done.stdout == "said\n"
    for shown in (typist.shown.decode(), done.stderr):
        assert "Traceback" not in shown
        assert "orch: " not in shown
        assert "\x1b[2J" not in shown
        assert "\\x1b[2Jas text" in shown
        assert "finished" in shown


# --- replays ------------------------------------------------------------------------------------------------------

VARIES = "echo be''gun; date +%s.%N >file; if [ -e {go} ]; then sleep 1; fi"


def test_attach_shows_the_verdict_of_a_replay_and_has_its_exit_code(
    make: Callable[[str], Path], orch_home: Path, tmp_path: Path
) -> None:
    orch("run", make(VARIES.replace("{go}", str(tmp_path / "go"))))
    whole = orch("replay", code=1)
    run_id = orch_json("show")["run_id"]
    verdict = whole.stdout.removeprefix("begun\n")
    assert verdict.startswith(f"\ndiffers: run {run_id[:16]} of ")
    again = orch("attach", run_id, code=1)  # it has ended
    assert (again.stdout, again.stderr) == (whole.stdout, whole.stderr)
    assert orch("attach", "-q", run_id, code=1).stdout == "begun\n"

    (tmp_path / "go").touch()
    typist = Typist("replay")
    typist.wait_for(b"begun")
    typist.type(LEAVE)
    assert typist.end() == 125
    typist = Typist("attach")
    assert typist.end() == 1
    assert b"\r\ndiffers: run " in typist.shown
    assert b"1 output different" in COLOUR.sub(b"", typist.shown)

    orch("replay", "--compare", "latest", "-t", "file:ignore")
    assert "\nreproduced: run " in orch("attach", orch_json("show")["run_id"]).stdout  # the last verdict counts


def test_a_replay_of_a_run_that_asked_says_why_it_can_not(make: Callable[[str], Path]) -> None:
    note = "had a terminal, its replay has none"
    typist = Typist("run", make("read -p 'na''me? ' x || exit 3; echo $x >file"))
    typist.wait_for(b"name? ")
    typist.type(b"ada\n")
    assert typist.end() == 0
    said = orch("replay", code=1).stdout
    assert said.count(note) == 1
    assert "--stdin FILE" in said
    assert note in orch("attach", orch_json("show")["run_id"], code=1).stdout
    typist = Typist("run", make("tru''e"))
    assert typist.end() == 0
    assert note not in orch("replay").stdout  # nothing is amiss


def test_a_replay_that_differs_for_another_reason_says_nothing_of_terminals(make: Callable[[str], Path]) -> None:
    orch("run", make("date +%s.%N >file"))
    assert "terminal" not in orch("replay", code=1).stdout


# --- words for who sits there ---------------------------------------------------------------------------------------


def test_the_end_stands_on_a_line_of_its_own_though_only_errors_go_to_the_terminal(make: Callable[[str], Path]) -> None:
    project = make("printf 'Your name: '; echo Traceback >&2; exit 3")
    shell = f"{ORCH} run {project} | cat >/dev/null; exit ${{PIPESTATUS[0]}}"
    typist = Typist(program=["bash", "-c", shell])
    assert typist.end() == 3
    lines = plain(typist.shown)
    assert lines[lines.index("Traceback") + 1] == ""  # what ends the line of whoever reads the pipe
    assert any(line.startswith("  failed ") for line in lines)
    assert any("stdout is no terminal" in line for line in lines)
    done = orch("run", project, code=3)
    assert (done.stdout, done.stderr.count("\n\n")) == ("Your name: ", 0)
    assert "no terminal" not in done.stderr


def test_a_terminal_is_told_once_which_keys_leave(make: Callable[[str], Path]) -> None:
    project = make("echo be''gun; read x; echo got $x")
    typist = Typist("run", project)
    typist.wait_for(b"begun")
    [line] = [line for line in plain(typist.shown) if "Ctrl-" in line]
    assert line == "  keys         Ctrl-P Ctrl-Q leaves; the run goes on"
    assert "begun" in plain(typist.shown)[plain(typist.shown).index(line) + 1]
    typist.type(LEAVE)
    assert typist.end() == 0
    typist = Typist("attach")
    typist.wait_for(b"begun")
    said = [line for line in plain(typist.shown) if line]
    assert said[0] == "  keys         Ctrl-C goes to the program; Ctrl-P Ctrl-Q leaves, it goes on"
    assert sum("Ctrl-" in line for line in said) == 1
    typist.type(b"ada\n")
    assert typist.end() == 0
    for arguments in (["attach", orch_json("show")["run_id"]], ["run", "-q", project]):
        typist = Typist(*arguments)
        typist.type(b"\n")
        assert typist.end() == 0
        assert b"Ctrl-" not in typist.shown
    assert "Ctrl-" not in orch("run", project).stderr


def test_every_line_of_orch_begins_at_the_left(make: Callable[[str], Path]) -> None:
    for arguments in (["run", "--keep-work", make("printf 'no newline'; exit 3")], ["attach", "latest"]):
        typist = Typist(*arguments)
        assert typist.end() == 3
        assert b"no newline\r\n" in typist.shown
        assert b"  work  " in COLOUR.sub(b"", typist.shown)
        assert not re.search(rb"(?<!\r)\n", typist.shown)


def test_keys_that_nobody_reads_are_told_of_once(make: Callable[[str], Path], orch_home: Path) -> None:
    note = b"the program has no terminal: what you type goes nowhere"
    run_id = detached(make("echo begun; while [ ! -e go ]; do sleep 0.05; done"))
    wait_until(lambda: begun(orch_home))
    typist = Typist("attach", run_id)
    typist.wait_for(b"begun")
    assert plain(typist.shown)[0] == "  keys         Ctrl-C leaves, as Ctrl-P Ctrl-Q does; the run goes on"
    assert note not in typist.shown
    typist.type(b"hello\n")
    typist.wait_for(note)
    typist.type(b"hello\n")
    typist.type(CTRL_C)
    assert typist.end() == 0
    assert typist.shown.count(note) == 1
    assert b"detached     orch attach" in COLOUR.sub(b"", typist.shown)
    (orch_home / "work" / run_id / "checkout" / "go").touch()
    assert orch("attach", run_id).stdout == "begun\n"


@pytest.mark.parametrize("option", [[], ["--plain"], ["-f"], ["-f", "--plain"]])
def test_a_log_ends_with_its_line_on_a_terminal_only(make: Callable[[str], Path], option: list[str]) -> None:
    for program, shown in (("printf 'no\\nend'", b"no\r\nend\r\n"), ("printf 'end\\n'", b"end\r\n"), ("true", b"")):
        orch("run", make(program))
        typist = Typist("logs", *option, orch_json("show")["run_id"])
        assert typist.end() == 0
        assert typist.shown == shown
        assert orch("logs", *option).stdout.encode() == shown.replace(b"\r\n", b"\n").removesuffix(
            b"\n" if program.endswith("end'") else b""
        )
