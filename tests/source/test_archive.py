"""A zip as a project: it becomes a snapshot, and nothing of it lands outside its folder."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source.repositories import listing, serve

from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import Home
from orchestrator.source import Resolved, archive, resolve_source, snapshot
from orchestrator.source.archive import unpack_zip

Resolve = Callable[..., Resolved]
CheckOut = Callable[[Resolved], Path]


def make_zip(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            target.writestr(info, content)
    return path


def test_a_zip_is_a_snapshot_of_all_it_holds(tmp_path: Path, resolve: Resolve, check_out: CheckOut) -> None:
    files = {
        "p-main/MLproject": b"name: x\n",
        "p-main/run.sh": b"",
        "p-main/.gitignore": b"*.bin\n",
        "p-main/a.bin": b"1",
    }
    zipped = make_zip(tmp_path / "p.zip", {**files, "p-main/.git/config": b"evil"}, {"p-main/run.sh": 0o100755})
    resolved = resolve(zipped)
    assert resolved.source.url == zipped.as_uri()
    assert resolved.source.dirty
    out = check_out(resolved)
    assert listing(out) == files
    assert (out / "p-main" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert resolve(zipped.as_uri()).source == resolved.source
    assert resolve(f"{zipped}#p-main").source.subdir == "p-main"


def test_a_large_file_of_a_zip_is_part_of_the_snapshot(
    tmp_path: Path, resolve: Resolve, check_out: CheckOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LARGE_BYTES", 1000)
    resolved = resolve(make_zip(tmp_path / "p.zip", {"small": b"1", "large": bytes(1001)}))
    assert (resolved.large_files, resolved.notes) == ((), ())
    assert listing(check_out(resolved)) == {"small": b"1", "large": bytes(1001)}


def test_nothing_is_left_of_the_unpacking(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    resolve(make_zip(tmp_path / "p.zip", {"a": b"1"}))
    with pytest.raises(OrchError):
        resolve(make_zip(tmp_path / "q.zip", {"../a": b"1"}))
    assert not [path for path in home.sources.iterdir() if path.name.startswith(".zip-")]


def test_a_zip_behind_a_url_and_its_recorded_commit(tmp_path: Path, resolve: Resolve, check_out: CheckOut) -> None:
    zipped = make_zip(tmp_path / "p.zip", {"a": b"1"})
    with serve(tmp_path, "ada:s3cret") as server:
        url = server.url("p.zip", "ada:s3cret")
        resolved = resolve(url)
        assert resolved.source.url == server.url("p.zip")
        assert listing(check_out(resolved)) == {"a": b"1"}
        with pytest.raises(OrchError, match="401") as caught:
            resolve(server.url("p.zip", "ada:s3cret-wrong"))
        assert "s3cret" not in str(caught.value)
        make_zip(zipped, {"a": b"2"})
        with pytest.raises(OrchError, match="no longer"):
            resolve(url, "ab" * 20)
        with pytest.raises(UsageError, match="no revision"):
            resolve(url, "main")
    assert resolve(url, resolved.source.commit).source.tree == resolved.source.tree
    with pytest.raises(OrchError, match="can't be fetched"):
        resolve(url)
    with pytest.raises(OrchError, match="network"):
        resolve(url, offline=True)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "a//x", "./x", "a\\..\\x", "a\nb", "..", "a/..", "", "/"]
)
def test_names_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    zipped = make_zip(tmp_path / "p.zip", {"ok": b"1", name: b"evil"})
    (tmp_path / "in" / "to").mkdir(parents=True)
    with pytest.raises(OrchError, match=r"p\.zip"):
        unpack_zip(zipped, tmp_path / "in" / "to")
    assert set(listing(tmp_path)) <= {"p.zip", "in/to/ok"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    zipped = make_zip(tmp_path / "p.zip", {"x": b"/etc"}, {"x": kind | 0o777})
    (tmp_path / "into").mkdir()
    with pytest.raises(OrchError, match="no regular file"):
        unpack_zip(zipped, tmp_path / "into")


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as target:
        target.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            target.writestr("a", b"2")
    with pytest.raises(OrchError, match="twice"):
        unpack_zip(tmp_path / "p.zip", tmp_path / "into")
    zipped = make_zip(tmp_path / "q.zip", {"b": b"1", "b/c": b"2"})
    with pytest.raises(OrchError, match="twice"):
        unpack_zip(zipped, tmp_path / "into")


def test_set_user_id_bits_do_not_survive(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    unpack_zip(make_zip(tmp_path / "p.zip", {"x": b""}, {"x": 0o106755}), tmp_path / "into")
    assert (tmp_path / "into" / "x").stat().st_mode & 0o7000 == 0


def test_a_bomb_is_stopped(tmp_path: Path) -> None:
    zipped = make_zip(tmp_path / "p.zip", {"zeros": bytes(100 * 1024**2)})
    (tmp_path / "into").mkdir()
    with pytest.raises(OrchError, match="honest"):
        unpack_zip(zipped, tmp_path / "into")
    assert (tmp_path / "into" / "zeros").stat().st_size < 80 * 1024**2


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(OrchError, match="limit is 3"):
        unpack_zip(make_zip(tmp_path / "p.zip", {str(i): b"" for i in range(4)}), tmp_path)


def test_broken_and_encrypted_archives_are_one_sentence(tmp_path: Path, resolve: Resolve) -> None:
    whole = make_zip(tmp_path / "p.zip", {"a": os.urandom(5000)}).read_bytes()
    for content in (b"", b"no zip", whole[:-100], whole[:500] + bytes(100) + whole[600:]):
        (tmp_path / "q.zip").write_bytes(content)
        with pytest.raises(OrchError, match=r"q\.zip"):
            resolve(tmp_path / "q.zip")
    locked = bytearray(make_zip(tmp_path / "r.zip", {"a": b"1"}).read_bytes())
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "r.zip").write_bytes(bytes(locked))
    with pytest.raises(OrchError, match="encrypted"):
        resolve(tmp_path / "r.zip")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text(st.sampled_from("ab./\\\0é:"), min_size=1, max_size=8), st.binary(max_size=8), max_size=4)
)
def test_no_archive_writes_outside(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    base = tmp_path_factory.mktemp("zip")
    (base / "in" / "to").mkdir(parents=True)
    try:
        zipped = make_zip(base / "p.zip", files)
    except UserWarning:
        return
    try:
        unpack_zip(zipped, base / "in" / "to")
    except OrchError:
        pass
    else:
        kept = {n: c for n, c in files.items() if not n.endswith("/")}
        assert listing(base / "in" / "to") == kept
    assert all(name == "p.zip" or name.startswith("in/to/") for name in listing(base))


def test_random_bytes_are_refused_in_a_sentence(tmp_path: Path, home: Home) -> None:
    good = make_zip(tmp_path / "p.zip", {"a/b": b"12345" * 100, "c": b"x"}).read_bytes()
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 0xFF
        (tmp_path / "q.zip").write_bytes(bytes(bad))
        into = tmp_path / f"into-{position}"
        into.mkdir()
        try:
            unpack_zip(tmp_path / "q.zip", into)
        except OrchError as error:
            assert "q.zip" in str(error)
    assert resolve_source(str(tmp_path / "p.zip"), None, home=home).source.dirty
