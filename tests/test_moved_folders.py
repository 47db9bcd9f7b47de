"""The folders of `[paths]`: whoever gets the right to write to one, what orch keeps there does not get out of sight."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import store
from orchestrator.errors import OrchError
from orchestrator.paths import open_home

SHA256 = "0123456789abcdef" * 4
USER = str(os.geteuid())

USED = {
    "envs": SHA256,
    "store": f"{SHA256[:2]}/{SHA256[2:]}",
    "work": SHA256[:32],
    "cache": "virtual-packages",
}
"""What orch makes in each of the folders."""


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own; `place` makes it one of `[paths]`."""
    (tmp_path / "home").mkdir(mode=0o700)
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "d"
    folder.mkdir(mode=0o755)
    return folder


def place(name: str, folder: Path) -> None:
    (folder.parent / "home/config.toml").write_text(f'[paths]\n{name} = "{folder}"\n')


def test_a_store_that_others_may_write_to_from_now_on_is_refused_until_its_files_are_safe_or_moved(moved: Path) -> None:
    place("store", moved)
    sha256 = store.put_bytes(open_home(), b"kept")
    moved.chmod(0o757)
    with pytest.raises(OrchError) as caught:
        open_home()
    assert str(caught.value) == (
        f"other users can write to {moved}, where orch keeps your store; take that right from them "
        f"(chmod go-w {moved}), or move what orch has in {moved} itself to {moved / USER}."
    )
    assert not (moved / USER).exists()

    moved.chmod(0o755)
    assert store.blob_path(open_home(), sha256).read_bytes() == b"kept"

    moved.chmod(0o757)
    part = moved / USER
    part.mkdir()
    for path in moved.iterdir():
        if path != part:
            path.rename(part / path.name)
    assert store.blob_path(open_home(), sha256).read_bytes() == b"kept"


@pytest.mark.parametrize("name", USED)
@pytest.mark.parametrize("mode", [0o757, 0o1777])
def test_each_folder_with_something_of_orch_in_it_is_refused(moved: Path, name: str, mode: int) -> None:
    place(name, moved)
    (moved / USED[name]).mkdir(parents=True)
    moved.chmod(mode)
    with pytest.raises(OrchError, match=f"other users can write to {moved}, where orch keeps your {name}"):
        open_home()


@pytest.mark.parametrize("name", USED)
def test_a_part_stays_in_use_when_others_lose_the_right_to_write(moved: Path, name: str) -> None:
    place(name, moved)
    moved.chmod(0o1777)
    assert getattr(open_home(), name) == moved / USER
    (moved / USER / USED[name]).mkdir(parents=True)
    moved.chmod(0o755)
    assert getattr(open_home(), name) == moved / USER


def test_a_store_in_both_places_is_refused(moved: Path) -> None:
    place("store", moved)
    for folder in (moved, moved / USER):
        (folder / USED["store"]).mkdir(parents=True)
    for mode, said in ((0o755, "orch has kept your store both in"), (0o757, "other users can write to")):
        moved.chmod(mode)
        with pytest.raises(OrchError, match=f"{said} .*; .*move what orch has in {moved} itself to {moved / USER}"):
            open_home()


def test_a_store_whose_own_folders_have_the_number_of_the_user_is_no_part(moved: Path) -> None:
    place("store", moved)
    (moved / USER / SHA256).mkdir(parents=True)
    (moved / USED["store"]).mkdir(parents=True)
    assert open_home().store == moved


def test_what_else_is_in_a_shared_folder_is_no_reason_to_refuse_it(moved: Path) -> None:
    for name in ("ab/notes", "pkgs", "jobs", "incoming", "123"):
        (moved / name).mkdir(parents=True)
    (moved / SHA256).write_text("a file")
    moved.chmod(0o1777)
    for name in USED:
        place(name, moved)
        assert getattr(open_home(), name) == moved / USER
