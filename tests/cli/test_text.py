"""Times, sizes, names and tables as people read them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from orchestrator.cli.text import duration, size, wrapped

COUNT = "from orchestrator.cli.text import count_line; print(count_line('environment', 'packages linked', 12, 345))"


def test_a_count_is_whole_on_a_terminal_that_does_not_know_its_width() -> None:
    master, slave = pty.openpty()  # of 0 columns
    try:
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", COUNT], cwd=root, stdout=subprocess.PIPE, stderr=slave, check=True)
    finally:
        os.close(slave)
        os.close(master)
    assert done.stdout == b"  environment  packages linked 12/345\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.314, "0.31 s"),
        (0.999, "1.0 s"),
        (3.2, "3.2 s"),
        (9.97, "10 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (11220, "3 h 7 min"),
        (2 * 86400 + 3 * 3600, "2 d 3 h"),
    ],
)
def test_a_length_of_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (812, "812 B"),
        (1023, "1023 B"),
        (3277, "3.2 KiB"),
        (1024 * 1023.8, "1.0 MiB"),
        (10200, "10 KiB"),
        (2**42, "4.0 TiB"),
    ],
)
def test_a_size_has_the_unit_that_suits_it(count: int, said: str) -> None:
    assert size(count) == said


ROWS = [["01a20a0a100170b4", "a" * 60, "finished", "x=1 " * 30], ["01a20a0a100170b5", "b", "failed", ""]]
TABLE = f"from orchestrator.cli.text import print_table; print_table(['RUN', 'NAME', 'STATUS', 'PARAMETERS'], {ROWS})"


def table(stdout: int, **environ: str) -> list[str]:
    root = Path(__file__).parents[2]
    variables = {**os.environ, "TERM": "xterm", "NO_COLOR": "", **environ}
    done = subprocess.run([sys.executable, "-c", TABLE], cwd=root, stdout=stdout, env=variables, check=True)
    return [] if done.stdout is None else done.stdout.decode().splitlines()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_is_as_wide_as_the_terminal_and_no_long_name_hides_the_status(columns: int) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    table(slave, COLUMNS="")
    shown = os.read(master, 65536).decode().splitlines()
    os.close(slave)
    os.close(master)
    assert shown[0].startswith("\x1b[2mRUN ")
    lines = [line.replace("\x1b[2m", "").replace("\x1b[0m", "") for line in shown]
    assert len(lines) == 3
    assert max(map(len, lines)) <= columns
    assert "finished" in lines[1]
    assert ("a" * 60 in lines[1]) == (columns == 200)


def test_a_table_in_a_pipe_is_whole_and_plain() -> None:
    lines = table(subprocess.PIPE)
    assert lines[0].split() == ["RUN", "NAME", "STATUS", "PARAMETERS"]
    assert "a" * 60 in lines[1]
    assert lines[1].endswith("x=1")
    assert "\x1b" not in "".join(lines)


def test_a_told_sentence_breaks_between_words_on_a_terminal_and_nowhere_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    sentence = "  note         " + "word " * 20 + "/a/path/that/is/longer/than/the/screen/" * 2
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 60))
    with os.fdopen(slave, "w") as terminal, (tmp_path / "pipe").open("w") as file:
        lines = wrapped(sentence, terminal, 15).split("\n")
        assert wrapped(sentence, file, 15) == sentence
    os.close(master)
    assert " ".join(" ".join(lines).split()) == " ".join(sentence.split())
    assert all(line.startswith(" " * 15) for line in lines[1:])
    assert [len(line) <= 60 for line in lines] == [True] * (len(lines) - 1) + [False]
