"""What counts as an output, and how it gets into the store."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from pathlib import Path

import pytest

from orchestrator import store
from orchestrator.execute.outputs import WorkDirectory, collect_outputs, take_inventory
from orchestrator.paths import Home, open_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home({"ORCH_HOME": str(tmp_path / "home")})


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    found = WorkDirectory(tmp_path / "work", "")
    found.checkout.mkdir(parents=True)
    found.artifacts.mkdir()
    return found


def paths(found: tuple[list, list[str], list[str]]) -> list[str]:
    return [output.path for output in found[0]]


def test_created_and_changed_files_are_outputs_untouched_ones_and_caches_are_not(
    home: Home, work: WorkDirectory
) -> None:
    for name in ("same", "changed", "deleted"):
        (work.checkout / name).write_text("old")
    before = take_inventory(work.checkout)
    (work.checkout / "changed").write_text("new")
    (work.checkout / "deleted").unlink()
    (work.checkout / "results" / "deep").mkdir(parents=True)
    (work.checkout / "results" / "deep" / "model.bin").write_bytes(b"model")
    (work.checkout / "__pycache__").mkdir()
    (work.checkout / "__pycache__" / "x.cpython-311.pyc").touch()
    outputs, problems, _ = collect_outputs(work, before, home=home, keep=False)
    assert [output.path for output in outputs] == ["changed", "results/deep/model.bin"]
    assert problems == []
    assert outputs[1].sha256 == hashlib.sha256(b"model").hexdigest()
    assert store.read_blob(home, outputs[1].sha256) == b"model"
    assert not (work.checkout / "results" / "deep" / "model.bin").exists()


def test_paths_are_relative_to_the_project_and_others_say_where_they_are(home: Home, tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path / "work", "sub/project")
    work.project.mkdir(parents=True)
    work.artifacts.mkdir()
    (work.project / "model").touch()
    (work.checkout / "beside").touch()
    (work.artifacts / "plot.png").touch()
    assert paths(collect_outputs(work, {}, home=home, keep=False)) == ["artifacts/plot.png", "checkout/beside", "model"]


def test_an_artifact_keeps_its_name_when_the_project_has_that_folder_too(home: Home, work: WorkDirectory) -> None:
    (work.checkout / "artifacts").mkdir()
    (work.checkout / "artifacts" / "a").write_text("of the project")
    (work.artifacts / "a").write_text("logged")
    outputs, _, _ = collect_outputs(work, {}, home=home, keep=False)
    assert {o.path: store.read_blob(home, o.sha256) for o in outputs} == {
        "artifacts/a": b"logged",
        "checkout/artifacts/a": b"of the project",
    }


def test_links_are_outputs_as_links(home: Home, work: WorkDirectory) -> None:
    (work.checkout / "link").symlink_to("/etc/hostname")
    (work.checkout / "dangling").symlink_to("nowhere")
    outputs, _, _ = collect_outputs(work, {}, home=home, keep=False)
    assert [(o.path, o.link) for o in outputs] == [("dangling", "nowhere"), ("link", "/etc/hostname")]


def test_a_second_name_of_another_file_is_copied_and_the_other_file_left_as_it_is(
    home: Home, work: WorkDirectory, tmp_path: Path
) -> None:
    original = tmp_path / "original"
    original.write_text("data")
    original.chmod(0o644)
    (work.checkout / "second").hardlink_to(original)
    outputs, _, _ = collect_outputs(work, {}, home=home, keep=False)
    assert store.read_blob(home, outputs[0].sha256) == b"data"
    assert original.stat().st_mode & 0o777 == 0o644


def test_unreadable_files_pipes_and_odd_names_are_no_obstacle(home: Home, work: WorkDirectory) -> None:
    (work.checkout / "secret").write_text("x")
    (work.checkout / "secret").chmod(0)
    os.mkfifo(work.checkout / "pipe")
    (work.checkout / os.fsdecode(b"caf\xe9 100%\n")).write_text("y")
    outputs, problems, _ = collect_outputs(work, {}, home=home, keep=True)
    assert [o.path for o in outputs] == ["caf%E9 100%25\n", "secret"]
    assert problems == ["pipe is neither a file nor a link, so it is no output."]
    assert (work.checkout / "secret").exists()


def test_folders_that_no_program_should_make_lose_nothing_else(home: Home, work: WorkDirectory) -> None:
    (work.checkout / "result.txt").write_text("x")
    here = os.open(work.checkout, os.O_RDONLY)
    try:
        for _ in range(40):  # more than a path can name
            os.mkdir("d" * 250, dir_fd=here)
            below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
    outputs, _, unreadable = collect_outputs(work, {}, home=home, keep=False)
    assert [o.path for o in outputs] == ["result.txt"]
    assert "could not be read" in unreadable[0]


def test_deep_folders_are_no_obstacle(home: Home, work: WorkDirectory) -> None:
    for depth in range(1, 401):
        (work.checkout / "/".join("d" * depth)).mkdir()
    (work.checkout / "/".join("d" * 400) / "x").write_text("x")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert len(paths(collect_outputs(work, {}, home=home, keep=False))) == 1
    finally:
        sys.setrecursionlimit(limit)
