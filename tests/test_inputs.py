"""Inputs: hashed once, placed as the spec says, never written through unnoticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from orchestrator import inputs, store
from orchestrator.errors import OrchError
from orchestrator.inputs import check_inputs, describe_input, listed_blobs, place_inputs, store_input, written_through
from orchestrator.paths import Home, open_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home({"ORCH_HOME": str(tmp_path / "home")})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def old(path: Path) -> Path:
    """As if the file had been written an hour ago."""
    info = path.stat()
    os.utime(path, (info.st_mtime - 3600, info.st_mtime - 3600))
    return path


def test_a_file_is_described_by_its_sha256_and_placed(home: Home, tmp_path: Path, project: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n")
    item = describe_input("data.csv", data, "inputs/data.csv", home=home)
    assert (item.sha256, item.size, item.kind) == (hashlib.sha256(b"a,b\n").hexdigest(), 4, "file")
    assert place_inputs([item], project, home=home) == []
    assert (project / "inputs" / "data.csv").read_text() == "a,b\n"


def test_a_folder_is_one_identity_that_names_and_bytes_and_modes_decide(
    home: Home, tmp_path: Path, project: Path
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("1")
    (folder / "b").write_text("2")
    first = describe_input("data", folder, "inputs/data", home=home)
    assert (first.kind, first.size) == ("folder", 2)
    place_inputs([first], project, home=home)
    assert (project / "inputs" / "data" / "sub" / "a").read_text() == "1"
    (folder / "b").rename(folder / "c")
    renamed = describe_input("data", folder, "inputs/data", home=home)
    (folder / "c").chmod(0o755)
    executable = describe_input("data", folder, "inputs/data", home=home)
    assert len({first.sha256, renamed.sha256, executable.sha256}) == 3


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("one")
    old(data)
    first = describe_input("data", data, "data", home=home)
    # The same size and the same mtime: only the ctime tells, and it does.
    info = data.stat()
    data.write_text("two")
    os.utime(data, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert describe_input("data", data, "data", home=home).sha256 != first.sha256
    # What the cache knows is answered without the bytes: an unreadable file shows it (root reads anything).
    describe_input("data", data, "data", home=home)
    if os.geteuid():
        data.chmod(0)
        with pytest.raises(OrchError):
            describe_input("data", data, "data", home=home)


def test_a_changed_input_is_refused_with_both_hashes(home: Home, tmp_path: Path, project: Path) -> None:
    data = tmp_path / "data"
    data.write_text("before")
    item = describe_input("data", data, "inputs/data", home=home)
    data.write_text("after")
    with pytest.raises(OrchError, match=f"(?s){hashlib.sha256(b'after').hexdigest()}.*{item.sha256}"):
        place_inputs([item], project, home=home)
    assert not (project / "inputs").exists()


def test_a_place_that_the_commit_has_is_refused(home: Home, tmp_path: Path, project: Path) -> None:
    data = tmp_path / "train.py"
    data.write_text("x")
    (project / "train.py").write_text("y")
    item = describe_input("train.py", data, "train.py", home=home)
    with pytest.raises(OrchError, match="the commit has that path already"):
        place_inputs([item], project, home=home)


def test_a_large_input_is_linked_and_a_write_through_the_link_is_noticed(
    home: Home, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "COPY_LIMIT", 3)
    data = tmp_path / "big"
    data.write_text("12345")
    item = describe_input("big", data, "inputs/big", home=home)
    placed = place_inputs([item], project, home=home)
    place = project / "inputs" / "big"
    if not place.is_symlink():
        pytest.skip("this file system clones files, so nothing is linked")
    assert written_through(placed) == []
    place.write_text("changed")
    assert written_through(placed) == [data]


def test_a_copy_can_be_written_and_the_original_stays(home: Home, tmp_path: Path, project: Path) -> None:
    data = tmp_path / "data"
    data.write_text("original")
    item = describe_input("data", data, "inputs/data", home=home)
    place_inputs([item], project, home=home)
    (project / "inputs" / "data").write_text("mine")
    assert data.read_text() == "original"


def test_a_stored_input_outlives_its_original(home: Home, tmp_path: Path, project: Path) -> None:
    data = tmp_path / "data"
    data.write_text("keep me")
    item = describe_input("data", data, "inputs/data", home=home)
    assert store_input(item, home=home) == []
    data.unlink()
    place_inputs([item], project, home=home)
    assert (project / "inputs" / "data").read_text() == "keep me"
    assert store.read_blob(home, item.sha256) == b"keep me"


def test_a_stored_input_is_used_when_its_original_has_changed(home: Home, tmp_path: Path, project: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n")
    item = describe_input("data.csv", data, "inputs/data.csv", home=home)
    assert store_input(item, home=home) == []
    data.write_text("other\n")
    place_inputs([item], project, home=home)
    assert (project / "inputs/data.csv").read_text() == "a,b\n"


def test_a_place_that_is_named_must_have_the_bytes_though_the_store_has_them(home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n")
    item = describe_input("data.csv", data, "inputs/data.csv", home=home)
    store_input(item, home=home)
    check_inputs([item], named=["inputs/data.csv"], home=home)
    data.write_text("other\n")
    check_inputs([item], named=[], home=home)
    other = hashlib.sha256(b"other\n").hexdigest()
    with pytest.raises(OrchError, match=f"{data}, named for the input inputs/data.csv, .*{other}.*{item.sha256}"):
        check_inputs([item], named=["inputs/data.csv"], home=home)


def test_a_folder_in_place_of_a_file_is_not_the_file(home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n")
    item = describe_input("data.csv", data, "inputs/data.csv", home=home)
    data.rename(tmp_path / "moved")
    data.mkdir()
    with pytest.raises(OrchError, match="has changed"):
        check_inputs([item], named=[], home=home)
    (tmp_path / "moved").rename(data / "data.csv")
    with pytest.raises(OrchError, match="named for the input"):
        check_inputs([item], named=["inputs/data.csv"], home=home)


def test_a_store_that_nobody_can_look_into_is_said(home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("a,b\n")
    item = describe_input("data.csv", data, "inputs/data.csv", home=home)
    store_input(item, home=home)
    data.unlink()
    home.store.chmod(0)
    before = os.geteuid()
    if before == 0:  # root looks into everything
        tmp_path.chmod(0o755)
        os.seteuid(65534)
    try:
        for look in (
            lambda: check_inputs([item], named=[], home=home),
            lambda: store.read_blob(home, item.sha256),
            lambda: store.verify_blob(home, item.sha256),
            lambda: listed_blobs(item.sha256, home=home),
        ):
            with pytest.raises(OrchError, match=f"the store {home.store} can't be read: Permission denied"):
                look()
    finally:
        os.seteuid(before)
        home.store.chmod(0o700)


def test_a_stored_folder_outlives_its_original(home: Home, tmp_path: Path, project: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "sub" / "run.sh").chmod(0o755)
    (folder / "a").write_text("1")
    item = describe_input("data", folder, "inputs/data", home=home)
    store_input(item, home=home)
    folder.rename(tmp_path / "gone")
    place_inputs([item], project, home=home)
    assert (project / "inputs" / "data" / "a").read_text() == "1"
    assert os.access(project / "inputs" / "data" / "sub" / "run.sh", os.X_OK)


def test_links_are_followed_and_never_back_and_odd_things_are_refused(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").write_text("x")
    (folder / "a" / "f").symlink_to(tmp_path / "elsewhere")
    (folder / "b").symlink_to("a")
    (folder / "a" / "loop").symlink_to(folder)
    assert [file.path for file in inputs.list_files(folder)] == ["a/f", "b/f"]
    os.mkfifo(folder / "pipe")
    with pytest.raises(OrchError, match="no regular file"):
        describe_input("data", folder, "data", home=home)
    with pytest.raises(OrchError, match="is not there"):
        describe_input("gone", tmp_path / "gone", "gone", home=home)


def test_whether_a_file_can_be_executed_belongs_to_it(home: Home, tmp_path: Path, project: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    assert describe_input("tool", tool, "tool", home=home).executable is False
    tool.chmod(0o755)
    item = describe_input("tool", tool, "tool", home=home)
    store_input(item, home=home)
    tool.unlink()
    place_inputs([item], project, home=home)
    assert os.access(project / "tool", os.X_OK)


def test_an_input_is_not_placed_through_a_link_of_the_commit(home: Home, tmp_path: Path, project: Path) -> None:
    (tmp_path / "outside").mkdir()
    (project / "inputs").symlink_to(tmp_path / "outside")
    data = tmp_path / "data"
    data.write_text("x")
    item = describe_input("data", data, "inputs/data", home=home)
    with pytest.raises(OrchError, match="a link in the commit leads out of it"):
        place_inputs([item], project, home=home)
    assert list((tmp_path / "outside").iterdir()) == []
