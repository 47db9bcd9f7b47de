"""Files and folders as whole things."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from orchestrator.files import remove_tree, sha256_of_file, write_whole


def test_a_file_is_written_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert [write_whole(path, data) for data in (b"one", b"two")] == [True, True]
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    assert write_whole(pipe, b"one")
    assert os.read(reader, 10) == b"one"
    assert pipe.is_fifo()
    os.close(reader)


def test_a_file_that_is_the_same_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write_whole(path, b"one")
    before = path.stat()
    assert write_whole(path, b"one") is False
    assert path.stat() == before


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    place = tmp_path / "taken"
    place.mkdir()
    (place / "file").write_bytes(b"")
    with pytest.raises(OSError, match="directory"):
        write_whole(place, b"one")
    assert list(tmp_path.iterdir()) == [place]


def test_a_hash_is_of_the_whole_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_tree_without_permissions_goes_and_what_its_links_name_stays(tmp_path: Path) -> None:
    tree, other = tmp_path / "tree", tmp_path / "other"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_bytes(b"")
    other.mkdir(0o500)
    (tree / "link").symlink_to(other)
    (tree / "deep").chmod(0o500)
    tree.chmod(0o500)
    remove_tree(tree)
    remove_tree(tree)  # it is gone already, and that is well
    assert list(tmp_path.iterdir()) == [other]
    assert other.stat().st_mode & 0o777 == 0o500
