"""Times, sizes, names and tables as people read them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from orchestrator.cli.text import (
    Column,
    broken,
    duration,
    end_of_path,
    first_pairs,
    fitted,
    size,
    status_of,
    telling_first,
    wrapped,
)

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


@pytest.mark.parametrize("columns", [40, 80, 240])
def test_a_table_is_as_wide_as_the_terminal_and_no_long_name_hides_the_status(columns: int) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    table(slave, COLUMNS="")
    shown = os.read(master, 65536).decode().splitlines()
    os.close(slave)
    os.close(master)
    assert shown[0].startswith("\x1b[2mRUN ")
    lines = [line.replace("\x1b[2m", "").replace("\x1b[0m", "") for line in shown]
    assert max(map(len, lines)) <= columns
    assert "finished" in lines[1]
    assert ("a" * 60 in lines[1]) == (columns == 240)
    assert ("no room for PARAMETERS" in lines[-2]) == (columns == 40) == (len(lines) > 3)


def test_a_table_in_a_pipe_is_whole_and_plain() -> None:
    lines = table(subprocess.PIPE)
    assert lines[0].split() == ["RUN", "NAME", "STATUS", "PARAMETERS"]
    assert "a" * 60 in lines[1]
    assert lines[1].endswith("x=1")
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_told_sentence_breaks_between_words_on_a_terminal_and_nowhere_in_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    sentence = "  note         " + "word " * 20 + "/a/path/that/is/longer/than/the/screen/" * 2
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 60))
    with os.fdopen(slave, "w") as terminal, (tmp_path / "pipe").open("w") as file:
        lines = wrapped(sentence, terminal, 15).split("\n")
        assert wrapped(sentence, file, 15) == sentence
    os.close(master)
    assert " ".join(" ".join(lines).split()) == " ".join(sentence.split())
    assert all(line.startswith(" " * 15) for line in lines[1:-1])
    assert lines[-1].startswith("/")  # what does not fit in any line stands alone
    assert [len(line) <= 60 for line in lines] == [True] * (len(lines) - 1) + [False]


def test_a_path_that_fits_in_a_line_is_not_broken() -> None:
    path = "/" + "a" * 69
    assert broken("lock         " + path, 80, 13) == ["lock", " " * 10 + path]


# --- what has no room ---------------------------------------------------------------------------------------------

COLUMNS = (
    Column("RUN", None),
    Column("STATUS", None),
    Column("TOOK", 0),
    Column("SOURCE", 2),
    Column("METRICS", 4),
    Column("PARAMETERS", 5),
)


def shown(room: int, *rows: tuple[str, ...]) -> dict[str, int]:
    return {COLUMNS[i].header: width for i, width in fitted(COLUMNS, rows, room).items()}


def test_what_tells_least_has_no_room_and_a_status_is_whole() -> None:
    rows = [(f"{n:016}", "failed (1), differs", "3.2 s", f"wine{n}" * 3, "m=1 " * 9, f"p={n} " * 9) for n in range(2)]
    assert list(shown(500, *rows)) == [column.header for column in COLUMNS]
    assert list(shown(72, *rows)) == ["RUN", "STATUS", "SOURCE", "PARAMETERS"]  # the metrics are all the same
    assert list(shown(50, *rows)) == ["RUN", "STATUS", "PARAMETERS"]
    assert list(shown(20, *rows)) == ["RUN", "STATUS"]
    assert shown(50, *rows)["STATUS"] == len("failed (1), differs")


def test_no_column_has_few_cells_and_all_cells_are_used() -> None:
    rows = [(f"{n:016}", "finished", "3.2 s", f"wine{n}" * 3, f"m={n} " * 9, f"p={n} " * 9) for n in range(2)]
    for room in range(60, 140):
        widths = shown(room, *rows)
        assert all(width >= 8 for name, width in widths.items() if name != "TOOK")
        assert sum(widths.values()) + 2 * (len(widths) - 1) <= room
    assert sum(shown(80, *rows).values()) + 2 * (len(shown(80, *rows)) - 1) == 80


def test_what_differs_between_runs_comes_first() -> None:
    runs = [{"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "3"}]
    assert telling_first(runs) == ["b", "c", "a"]
    assert telling_first([]) == []


def test_what_is_too_long_keeps_what_tells_most() -> None:
    assert end_of_path("new6#examples/hello", 10) == "…/hello"
    assert end_of_path("x" * 20 + "/y", 5) == "…/y"
    assert end_of_path("short", 5) == "short"
    assert first_pairs("val_accuracy=0.9234 val_loss=1", 12) == "val_…=0.9234"
    assert first_pairs("a=1 val_loss=1", 10) == "a=1 val_l…"
    assert first_pairs("a=a very long text", 10) == "a=a very …"
    assert first_pairs("rmse=0.5", 8) == "rmse=0.5"
    assert first_pairs("PARAMETERS", 10) == "PARAMETERS"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (status_of("failed", 1, "differs"), "failed (1), differs"),
        (status_of("finished", 0, "reproduced", varies=True), "reproduced, varies"),
        (status_of("finished", 0, None, uncompared=True), "finished, not compared"),
        (status_of("running", None, None, varies=True), "running"),
        (status_of("stopped", None, None), "stopped"),
    ],
)
def test_how_a_run_ended(told: str, said: str) -> None:
    assert told == said
