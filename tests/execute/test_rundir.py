"""The run directory: its own user's, made whole or not at all, and read whatever the program has put into it."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_disk import small_disk

from orchestrator.errors import OrchError
from orchestrator.execute.identity import identify
from orchestrator.execute.rundir import RunDirectory, create_run_directory
from orchestrator.fields import fields_to_json
from orchestrator.model import new_run_id
from orchestrator.paths import Home, open_home


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(tmp_path / "run")
    found.path.mkdir()
    return found


@pytest.fixture
def careless() -> Iterator[None]:
    """A session in which everybody may do anything with what is made."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("careless")
def test_nobody_else_can_enter_it(home: Home) -> None:
    directory = create_run_directory(home, new_run_id(), {})
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert directory.told()[0]["asked"] == {}


def test_a_full_disk_leaves_no_run_that_is_prepared_for_ever(home: Home) -> None:
    with small_disk(home.runs, "64k"):
        with (home.runs / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(b"x" * 4096)
        with pytest.raises(OrchError, match="No space left"):
            create_run_directory(home, new_run_id(), {"source": "x"})
        assert [entry.name for entry in home.runs.iterdir()] == ["filler"]


def test_one_that_is_there_is_left_alone(home: Home) -> None:
    directory = create_run_directory(home, new_run_id(), {})
    with pytest.raises(OrchError, match="File exists"):
        create_run_directory(home, directory.run_id, {})
    assert len(directory.told()) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"machine": 1, "boot": 2, "pid": 3, "start": 4}',
        '{"machine": "m", "boot": "b", "pid": "3", "start": 4}',
        '{"machine": "m", "boot": "b", "pid": 3, "start": null}',
        '{"machine": "m", "boot": "b", "pid": 3}',
        "null",
        "[1]",
        "[" * 5000,
        "",
    ],
)
def test_a_supervisor_of_wrong_types_is_none(directory: RunDirectory, text: str) -> None:
    directory.supervisor.write_text(text)
    assert directory.supervised_by() is None


def test_a_pipe_a_link_or_a_huge_file_in_its_place_is_no_supervisor(directory: RunDirectory, tmp_path: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    directory.supervisor.write_text(json.dumps(fields_to_json(me)))
    assert directory.supervised_by() == me
    directory.supervisor.rename(tmp_path / "real")
    directory.supervisor.symlink_to(tmp_path / "real")
    assert directory.supervised_by() is None
    directory.supervisor.unlink()
    os.mkfifo(directory.supervisor)
    assert directory.supervised_by() is None
    directory.supervisor.unlink()
    directory.supervisor.touch()
    os.truncate(directory.supervisor, 8 * 2**40)
    assert directory.supervised_by() is None


def test_progress_that_is_a_pipe_tells_nothing(directory: RunDirectory) -> None:
    os.mkfifo(directory.progress)
    assert directory.told() == []


def test_the_grace_that_is_asked_for_is_granted(directory: RunDirectory) -> None:
    assert directory.granted() is None
    directory.ask_grace(2.5)
    directory.ask_grace(0)
    assert directory.granted() == 0
    assert [entry.name for entry in directory.path.iterdir()] == ["grace"]


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "1" * 100 + "x"])
def test_a_grace_that_is_no_number_is_none(directory: RunDirectory, text: str) -> None:
    directory.asked_grace.write_text(text)
    assert directory.granted() is None


@pytest.mark.parametrize("kind", ["pipe", "link", "huge", "socket", "folder"])
def test_whatever_stands_in_the_place_of_the_grace_is_replaced(
    directory: RunDirectory, tmp_path: Path, kind: str
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("7")
    match kind:
        case "pipe":
            os.mkfifo(directory.asked_grace)
        case "link":
            directory.asked_grace.symlink_to(mine)
        case "huge":
            directory.asked_grace.touch()
            os.truncate(directory.asked_grace, 8 * 2**40)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(directory.asked_grace))
        case _:
            directory.asked_grace.mkdir()
    assert directory.granted() is None
    if kind == "folder":
        with pytest.raises(OSError, match="directory"):
            directory.ask_grace(3)
        assert [entry.name for entry in directory.path.iterdir()] == ["grace"]
    else:
        directory.ask_grace(3)
        assert directory.granted() == 3
    assert mine.read_text() == "7"
