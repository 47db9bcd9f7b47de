from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import made_disk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_home

from orchestrator import store
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

DATA = b"a model" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "home")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with made_disk.small_disk(tmp_path / "small", "512k") as place:
        yield place


def left_over(home: Home) -> list[str]:
    return [path.name for path in home.store.rglob("*") if path.is_file() and len(path.name) != 62]


# --- in -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("move", [True, False])
def test_a_file_is_kept_read_only_under_its_hash(home: Home, file: Path, move: bool) -> None:
    assert store.put_file(home, file, move=move) == (SHA, len(DATA))
    blob = store.blob_path(home, SHA)
    assert blob == home.store / SHA[:2] / SHA[2:]
    assert blob.read_bytes() == DATA
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    assert file.exists() == (not move)
    assert left_over(home) == []


def test_a_moved_file_is_not_copied(home: Home, file: Path) -> None:
    inode = file.stat().st_ino
    store.put_file(home, file, move=True, hashed=(SHA, len(DATA)))
    assert store.blob_path(home, SHA).stat().st_ino == inode


def test_the_same_bytes_are_kept_once(home: Home, file: Path) -> None:
    store.put_file(home, file, move=False)
    inode = store.blob_path(home, SHA).stat().st_ino
    assert store.put_file(home, file, move=True) == (SHA, len(DATA))
    assert store.put_bytes(home, DATA) == SHA
    assert store.blob_path(home, SHA).stat().st_ino == inode
    assert not file.exists()
    assert left_over(home) == []


def test_a_file_with_another_name_elsewhere_is_copied_so_that_no_write_reaches_the_blob(
    home: Home, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other name"
    os.link(file, other)
    store.put_file(home, file, move=True)
    assert not file.exists()
    assert other.stat().st_mode & stat.S_IWUSR
    other.write_bytes(b"changed")
    assert store.verify_blob(home, SHA)


def test_a_file_of_another_file_system_is_copied_and_removed(home: Home, small_disk: Path) -> None:
    there = small_disk / "model.pkl"
    there.write_bytes(DATA)
    assert store.put_file(home, there, move=True) == (SHA, len(DATA))
    assert not there.exists()
    assert store.read_blob(home, SHA) == DATA


def test_a_copy_that_differs_from_what_was_hashed_is_not_stored(home: Home, file: Path) -> None:
    with pytest.raises(OrchError, match="changed while"):
        store.put_file(home, file, move=False, hashed=("0" * 64, len(DATA)))
    with pytest.raises(OrchError, match="changed while"):
        store.put_file(home, file, move=True, hashed=(SHA, 3))
    assert file.read_bytes() == DATA
    assert not store.blob_path(home, SHA).exists()
    assert left_over(home) == []


def test_a_file_without_read_permission_is_moved_all_the_same(home: Home, file: Path) -> None:
    file.chmod(0)
    assert store.put_file(home, file, move=True) == (SHA, len(DATA))


def test_a_blob_cut_short_is_written_again(home: Home, file: Path) -> None:
    store.put_file(home, file, move=False)
    blob = store.blob_path(home, SHA)
    blob.chmod(0o644)
    os.truncate(blob, 10)
    store.put_file(home, file, move=True)
    assert store.verify_blob(home, SHA)


def test_a_moved_symbolic_link_is_refused(home: Home, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(OrchError, match="can't be read"):
        store.put_file(home, link, move=True)
    assert link.is_symlink()
    assert file.exists()


@pytest.mark.parametrize("move", [True, False])
def test_what_is_no_regular_file_is_refused_without_blocking(home: Home, tmp_path: Path, move: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(OrchError, match="is no regular file"):
            store.put_file(home, path, move=move)
    with pytest.raises(OrchError, match="can't be read: No such file"):
        store.put_file(home, tmp_path / "gone", move=move)
    assert left_over(home) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_disk: Path, file: Path) -> None:
    home = open_home({"ORCH_HOME": str(small_disk / "home")})
    file.write_bytes(os.urandom(1 << 20))
    for put in (
        lambda: store.put_file(home, file, move=True),
        lambda: store.put_file(home, file, move=False),
        lambda: store.put_bytes(home, os.urandom(1 << 20)),
    ):
        with pytest.raises(OrchError, match="can't be written: No space left on device"):
            put()
    assert [path for path in home.store.rglob("*") if path.is_file()] == []
    assert file.stat().st_size == 1 << 20


def test_a_read_only_store_is_one_sentence(small_disk: Path, file: Path) -> None:
    home = open_home({"ORCH_HOME": str(small_disk / "home")})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OrchError, match="can't be written: Read-only file system"):
        store.put_file(home, file, move=True)
    assert file.read_bytes() == DATA


def test_many_processes_put_the_same_bytes(home: Home, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from orchestrator import store\n"
        "from orchestrator.paths import open_home\n"
        "home = open_home({'ORCH_HOME': sys.argv[1]})\n"
        "for i in range(20):\n"
        "    path = Path(sys.argv[2]) / f'{sys.argv[3]}-{i}'; path.write_bytes(b'%d' % i * 100_000)\n"
        "    store.put_file(home, path, move=i % 2 == 0)"
    )
    command = [sys.executable, "-c", code, str(home.root), str(tmp_path)]
    writers = [subprocess.Popen([*command, str(who)]) for who in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    for i in range(20):
        assert store.verify_blob(home, hashlib.sha256(b"%d" % i * 100_000).hexdigest())
    assert left_over(home) == []


# --- out ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=2000))
@settings(deadline=None)
def test_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    home = made_home(tmp_path_factory.getbasetemp() / "bytes-home")
    sha256 = store.put_bytes(home, data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert store.read_blob(home, sha256) == data
    with store.open_blob(home, sha256) as blob:
        assert blob.read() == data
    assert store.verify_blob(home, sha256)


def test_a_blob_is_copied_out_with_its_mode(home: Home, tmp_path: Path) -> None:
    store.put_bytes(home, DATA)
    out = tmp_path / "out"
    store.copy_out(home, SHA, out, 0o755)
    assert out.read_bytes() == DATA
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    store.copy_out(home, SHA, out, 0o7600)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    out.write_bytes(b"mine now")
    assert store.verify_blob(home, SHA)


def test_copying_out_replaces_a_link_and_does_not_write_through_it(home: Home, file: Path, tmp_path: Path) -> None:
    store.put_bytes(home, b"other")
    out = tmp_path / "out"
    out.symlink_to(file)
    store.copy_out(home, hashlib.sha256(b"other").hexdigest(), out, 0o644)
    assert out.read_bytes() == b"other"
    assert file.read_bytes() == DATA


def test_a_damaged_blob_is_named_and_never_handed_out(home: Home, tmp_path: Path) -> None:
    store.put_bytes(home, DATA)
    blob = store.blob_path(home, SHA)
    blob.chmod(0o644)
    blob.write_bytes(DATA[:-1] + b"x")
    out = tmp_path / "folder" / "out"
    out.parent.mkdir()
    for read in (
        lambda: store.read_blob(home, SHA),
        lambda: store.open_blob(home, SHA),
        lambda: store.copy_out(home, SHA, out, 0o644),
    ):
        with pytest.raises(OrchError, match=f"{SHA} is damaged"):
            read()
    assert list(out.parent.iterdir()) == []
    assert not store.verify_blob(home, SHA)


def test_a_file_that_the_store_does_not_have_is_named(home: Home, tmp_path: Path) -> None:
    assert not store.verify_blob(home, SHA)
    for read in (
        lambda: store.read_blob(home, SHA),
        lambda: store.open_blob(home, SHA),
        lambda: store.copy_out(home, SHA, tmp_path / "out", 0o644),
    ):
        with pytest.raises(OrchError, match=f"has no file {SHA}"):
            read()
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(home: Home, small_disk: Path) -> None:
    store.put_bytes(home, DATA * 1000)
    sha256 = hashlib.sha256(DATA * 1000).hexdigest()
    with pytest.raises(OrchError, match="No space left on device"):
        store.copy_out(home, sha256, small_disk / "out", 0o644)
    assert list(small_disk.iterdir()) == []
    with pytest.raises(OrchError, match="No such file"):
        store.copy_out(home, sha256, small_disk / "no" / "out", 0o644)
    (small_disk / "folder").mkdir()
    store.put_bytes(home, b"x")
    with pytest.raises(OrchError, match="Is a directory"):
        store.copy_out(home, hashlib.sha256(b"x").hexdigest(), small_disk / "folder", 0o644)


@pytest.mark.parametrize("text", ["", "a" * 63, "A" * 64, "../" + "a" * 61, "a" * 64 + "\n", "g" * 64, "/etc/passwd"])
def test_what_is_no_sha256_never_becomes_a_path(home: Home, text: str) -> None:
    for use in (store.blob_path, store.read_blob, store.open_blob, store.verify_blob):
        with pytest.raises(OrchError, match="is not a sha256"):
            use(home, text)


# --- hashes -------------------------------------------------------------------------------------------------------


def test_files_are_hashed_in_their_order(tmp_path: Path) -> None:
    contents = [b"", b"x", os.urandom(store.BUFFER_SIZE), os.urandom(store.BUFFER_SIZE * 2 + 1), *[b"y"] * 50]
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(content)
    expected = [(hashlib.sha256(content).hexdigest(), len(content)) for content in contents]
    assert store.hash_files(paths) == expected
    assert [store.hash_file(path) for path in paths] == expected
    assert store.hash_files(paths[:1]) == expected[:1]
    assert store.hash_files([]) == []


def test_a_file_that_cannot_be_hashed_is_named(tmp_path: Path, file: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(OrchError, match=str(gone)):
        store.hash_files([file, gone, file])
