"""Git LFS: contents for pointers, never pointers as data. git-lfs itself is not needed for what is on this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from source.repositories import commit, git, listing, make_repository, write

from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.source import Resolved, checkout, snapshot
from orchestrator.source.mirror import mirror_path

Resolve = Callable[..., Resolved]
CheckOut = Callable[[Resolved], Path]

DATA = b"\0big data\r\n" * 1000
OID = hashlib.sha256(DATA).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {len(DATA)}\n"


@pytest.fixture
def lfs(tmp_path: Path) -> Path:
    """A repository as git-lfs leaves it: the pointer in git, the object in .git/lfs, the data in the work tree."""
    repository = make_repository(
        tmp_path / "lfs",
        {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "d/x.bin": POINTER, "a": "1"},
    )
    write(repository, {f".git/lfs/objects/{OID[:2]}/{OID[2:4]}/{OID}": DATA})
    write(repository, {"d/x.bin": DATA})
    return repository


def remove_object(repository: Path) -> None:
    (repository / ".git" / "lfs" / "objects" / OID[:2] / OID[2:4] / OID).unlink()


def test_a_clean_folder_is_clean_and_gets_its_contents(lfs: Path, resolve: Resolve, check_out: CheckOut) -> None:
    resolved = resolve(lfs)
    assert not resolved.source.dirty
    assert listing(check_out(resolved))["d/x.bin"] == DATA
    remove_object(lfs)
    (lfs / "d" / "x.bin").unlink()
    assert listing(check_out(resolved))["d/x.bin"] == DATA, "the mirror keeps it"


def test_the_work_tree_serves_when_the_objects_are_gone(lfs: Path, resolve: Resolve, check_out: CheckOut) -> None:
    remove_object(lfs)
    assert listing(check_out(resolve(lfs)))["d/x.bin"] == DATA


def test_a_file_url_takes_contents_from_the_repository(lfs: Path, resolve: Resolve, check_out: CheckOut) -> None:
    assert listing(check_out(resolve(lfs.as_uri())))["d/x.bin"] == DATA


def test_changed_contents_are_recorded_as_they_are(
    lfs: Path, resolve: Resolve, check_out: CheckOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(lfs, {"d/x.bin": DATA + b"more"})
    resolved = resolve(lfs)
    assert resolved.source.dirty
    assert listing(check_out(resolved))["d/x.bin"] == DATA + b"more"
    monkeypatch.setattr(snapshot, "LARGE_BYTES", 1000)
    write(lfs, {"d/x.bin": DATA + b"and more"})
    resolved = resolve(lfs)
    assert [item.path for item in resolved.large_files] == ["d/x.bin"]
    write(lfs, {"d/x.bin": DATA})
    resolved = resolve(lfs)
    assert resolved.large_files == ()
    assert not resolved.source.dirty


def test_pointers_without_contents_are_never_run_as_data(lfs: Path, resolve: Resolve, home: Home) -> None:
    remove_object(lfs)
    write(lfs, {"d/x.bin": POINTER, **{f"d/{i}.bin": POINTER.replace(OID, f"{i:064x}") for i in range(5)}})
    commit(lfs)
    resolved = resolve(lfs)
    with pytest.raises(OrchError, match=r"d/0\.bin, d/1\.bin, d/2\.bin and 3 more: .*install git-lfs"):
        checkout(resolved.source, home.work / "w", home=home)


def test_pointers_outside_the_project_are_only_noted(lfs: Path, resolve: Resolve, home: Home) -> None:
    remove_object(lfs)
    write(lfs, {"d/x.bin": POINTER, "project/a": "1"})
    commit(lfs)
    resolved = resolve(f"{lfs}#project")
    notes = checkout(resolved.source, home.work / "w", home=home)
    assert "d/x.bin" in notes[0]
    assert (home.work / "w" / "d" / "x.bin").read_text() == POINTER


def test_wrong_contents_are_not_taken(lfs: Path, resolve: Resolve, home: Home) -> None:
    write(lfs, {f".git/lfs/objects/{OID[:2]}/{OID[2:4]}/{OID}": bytes(len(DATA)), "d/x.bin": POINTER})
    resolved = resolve(lfs)
    with pytest.raises(OrchError, match=r"x\.bin"):
        checkout(resolved.source, home.work / "w", home=home)


def test_a_pointer_in_a_repository_without_lfs_is_a_text(
    repository: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    commit(repository, {"example.txt": POINTER})
    assert listing(check_out(resolve(repository)))["example.txt"] == POINTER.encode()


def test_git_lfs_is_asked_for_what_is_nowhere_here(
    lfs: Path, home: Home, resolve: Resolve, check_out: CheckOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program here stands for git-lfs: it puts the object where `git lfs fetch REMOTE COMMIT` does."""
    remove_object(lfs)
    write(lfs, {"d/x.bin": "no copy here"})
    write(tmp_path / "server", {OID: DATA})
    target = f'"$GIT_DIR/lfs/objects/{OID[:2]}/{OID[2:4]}"'
    write(
        tmp_path / "bin",
        {
            "git-lfs": "#!/bin/sh\nset -e\n"
            f'[ "$1 $2" = "fetch origin" ]\nmkdir -p {target}\ncp "{tmp_path}/server/{OID}" {target}/\n'
        },
    )
    (tmp_path / "bin" / "git-lfs").chmod(0o755)
    before = resolve(lfs.as_uri())
    with pytest.raises(OrchError, match="git-lfs"):
        check_out(before)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    resolved = resolve(lfs.as_uri())
    assert mirror_path(home, resolved.source.url).is_dir()
    assert listing(check_out(resolved))["d/x.bin"] == DATA
    assert git(lfs, "status", "--porcelain") != ""
