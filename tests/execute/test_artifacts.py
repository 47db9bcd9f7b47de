"""Artifacts that lines of the events file name: copied, never out of the run's folders, never over another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.execute.artifacts import copy_artifacts
from orchestrator.execute.events import EventReader
from orchestrator.execute.outputs import WorkDirectory


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    work = WorkDirectory(tmp_path / "work", "sub")
    work.project.mkdir(parents=True)
    work.artifacts.mkdir()
    return work


def copied(work: WorkDirectory, *lines: object) -> list[str]:
    events = work.root.parent / "events.jsonl"
    events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    reader = EventReader(events)
    assert list(reader.rest()) == []
    return reader.broken + copy_artifacts(work, reader.artifacts)


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_and_folders_are_copied_and_stay_where_they_are(work: WorkDirectory) -> None:
    (work.project / "plot.svg").write_text("plot")
    (work.project / "model" / "deep").mkdir(parents=True)
    (work.project / "model" / "deep" / "weights").write_text("w")
    (work.checkout / "top").write_text("top")
    assert not copied(
        work,
        {"artifact": "plot.svg"},
        {"artifact": "model", "as": "models/first"},
        {"artifact": "../top"},
        {"artifact": str(work.project / "plot.svg"), "as": "again/plot.svg"},
    )
    assert tree(work.artifacts) == {
        "plot.svg": "plot",
        "models/first/deep/weights": "w",
        "top": "top",
        "again/plot.svg": "plot",
    }
    assert tree(work.project) == {"plot.svg": "plot", "model/deep/weights": "w"}


def test_what_is_among_the_artifacts_already_is_one(work: WorkDirectory) -> None:
    (work.artifacts / "a").write_text("a")
    assert not copied(work, {"artifact": str(work.artifacts / "a")})
    assert tree(work.artifacts) == {"a": "a"}


def test_nothing_is_written_over(work: WorkDirectory) -> None:
    (work.project / "a").write_text("new")
    (work.artifacts / "a").write_text("old")
    (said,) = copied(work, {"artifact": "a"})
    assert said == "line 1 of $ORCH_EVENTS: the artifact a can't be copied: artifacts/a is there already"
    assert tree(work.artifacts) == {"a": "old"}


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "..", "a\0b", ""])
def test_a_name_that_leads_out_is_refused(work: WorkDirectory, name: str) -> None:
    (work.project / "a").write_text("a")
    assert len(copied(work, {"artifact": "a", "as": name})) == 1
    assert tree(work.root) == {"checkout/sub/a": "a"}


@pytest.mark.parametrize("path", ["../../../outside", "link", "gone", "pipe", "circle", "a\0b"])
def test_what_is_no_file_of_the_run_is_told_and_not_taken(work: WorkDirectory, path: str) -> None:
    (work.root.parent / "outside").write_text("secret")
    (work.project / "link").symlink_to(work.root.parent / "outside")
    (work.project / "circle").symlink_to("circle")
    os.mkfifo(work.project / "pipe")
    (said,) = copied(work, {"artifact": path})
    assert said.startswith("line 1 of $ORCH_EVENTS: ")
    assert tree(work.artifacts) == {}


def test_of_a_folder_all_is_taken_that_can_be(work: WorkDirectory) -> None:
    (work.project / "model").mkdir()
    (work.project / "model" / "weights").write_text("w")
    os.mkfifo(work.project / "model" / "pipe")
    (said,) = copied(work, {"artifact": "model"})
    why = f"{work.project}/model/pipe: it is no regular file"
    assert said == f"line 1 of $ORCH_EVENTS: the artifact model can't be copied: {why}"
    assert tree(work.artifacts) == {"model/weights": "w"}


def test_a_link_among_the_artifacts_leads_nowhere(work: WorkDirectory) -> None:
    (work.project / "a").write_text("a")
    (work.root.parent / "outside").mkdir()
    (work.artifacts / "folder").symlink_to(work.root.parent / "outside")
    (work.artifacts / "file").symlink_to(work.root.parent / "outside" / "file")
    assert len(copied(work, {"artifact": "a", "as": "folder/a"}, {"artifact": "a", "as": "file"})) == 2
    assert tree(work.root.parent / "outside") == {}


def test_the_artifacts_are_not_put_into_themselves(work: WorkDirectory) -> None:
    (work.artifacts / "a").write_text("a")
    for path in (work.root, work.artifacts):
        assert len(copied(work, {"artifact": str(path), "as": "b"})) == 1
    assert tree(work.artifacts) == {"a": "a"}


@pytest.mark.parametrize("line", [{"artifact": 3}, {"artifact": ""}, {"artifact": "a", "as": []}])
def test_a_broken_line_is_told(work: WorkDirectory, line: object) -> None:
    (said,) = copied(work, line)
    assert said.startswith("line 1 of $ORCH_EVENTS is passed over (")
