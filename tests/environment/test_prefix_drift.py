"""A prefix that changed since it was built is found, and mended without touching what a live run uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CONDA_FORGE
from made_locks import conda_packages, keep, make_wheel, pip_package, small_package, write_lock

from orchestrator.environment.package import Member
from orchestrator.environment.prefix import drift, use_prefix, verify_prefix
from orchestrator.files import remove_tree
from orchestrator.paths import Home, open_home

FILES = {"share/a.txt": b"a\n", "share/deep/b.txt": b"b\n", "share/deep/c.txt": b"c\n", "bin/tool": b"#!/bin/sh\n"}


@pytest.fixture
def home(orch_home: Path, tmp_path: Path) -> Home:
    home = open_home()
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{(tmp_path / "own").as_uri()}"]\n')
    return home


@pytest.fixture
def lock_id(home: Home, tmp_path: Path) -> str:
    members = [*(Member(path, data) for path, data in FILES.items()), Member("share/link", target="a.txt")]
    return write_lock(home, [small_package(tmp_path / "own", "small", members)])


def installed(home: Home, lock_id: str) -> Path:
    with use_prefix(lock_id, home=home) as prefix:
        path = prefix.path
    # As root, or as an owner who insists.
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o755)
    return path


def replace_file(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("deep/b.txt")


def make_folder_a_file(path: Path) -> None:
    remove_tree(path)
    path.write_text("")


CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "file deleted": (lambda p: (p / "share/a.txt").unlink(), ("share/a.txt is missing",)),
    "file added": (lambda p: (p / "share/deep/new.txt").write_text(""), ("share/deep/new.txt is new",)),
    "file replaced": (lambda p: replace_file(p / "share/a.txt", "A\n"), ("share/a.txt differs",)),
    "link turned": (lambda p: relink(p / "share/link"), ("share/link differs",)),
    "folder added": (lambda p: (p / "share/more").mkdir(), ("share/more is new",)),
    "top folder added": (lambda p: (p / "etc").mkdir(), ("etc is new",)),
    "folder removed": (
        lambda p: remove_tree(p / "share/deep"),
        ("share/deep is missing", "share/deep/b.txt is missing", "share/deep/c.txt is missing"),
    ),
    "record removed": (
        lambda p: (p / "conda-meta/small-1.0-0.json").unlink(),
        ("conda-meta/small-1.0-0.json is missing",),
    ),
    "record added": (
        lambda p: (p / "conda-meta/more-1.0-0.json").write_text("{}"),
        ("conda-meta/more-1.0-0.json is new",),
    ),
    "record edited": (
        lambda p: (
            (p / "conda-meta/small-1.0-0.json").chmod(0o644) or (p / "conda-meta/small-1.0-0.json").write_text("{}")
        ),
        ("conda-meta/small-1.0-0.json differs",),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_seen_by_the_quick_look_and_mended(home: Home, lock_id: str, change: str) -> None:
    path = installed(home, lock_id)
    assert drift(path) == ()
    make, seen = CHANGES[change]
    make(path)
    assert drift(path) == seen
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.installed and prefix.path == path
        assert prefix.mended is not None and seen[0] in prefix.mended
        assert drift(path) == verify_prefix(path) == ()
    with use_prefix(lock_id, home=home) as prefix:
        assert not prefix.installed and prefix.mended is None


def test_bytes_written_in_place_are_seen_by_the_full_look_only(home: Home, lock_id: str) -> None:
    path = installed(home, lock_id)
    (path / "share/a.txt").chmod(0o644)
    with (path / "share/a.txt").open("r+b") as file:
        file.write(b"A")
    assert drift(path) == ()
    assert verify_prefix(path) == ("share/a.txt differs",)
    with use_prefix(lock_id, home=home, verify="full") as prefix:
        assert prefix.installed and (path / "share/a.txt").read_bytes() == b"a\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda p: os.utime(p / "share"),
        lambda p: ((p / "share/new").touch(), (p / "share/new").unlink()),
        lambda p: (p / "share/__pycache__").mkdir(),
        lambda p: ((p / "__pycache__").mkdir(), (p / "__pycache__/x.pyc").touch()),
        lambda p: (p / "share/a.txt").touch(),
    ],
    ids=["time", "come and gone", "bytecode", "bytecode on top", "time of a file"],
)
def test_what_changes_nothing_is_no_drift(home: Home, lock_id: str, change: Callable[[Path], object]) -> None:
    path = installed(home, lock_id)
    change(path)
    assert drift(path) == verify_prefix(path) == ()
    with use_prefix(lock_id, home=home) as prefix:
        assert not prefix.installed


@pytest.mark.parametrize("text", [None, "", "[]", '{"version": 99}'])
def test_prefix_without_a_readable_manifest_is_installed_again(home: Home, lock_id: str, text: str | None) -> None:
    path = installed(home, lock_id)
    if text is None:
        remove_tree(path / ".orch")
    else:
        (path / ".orch/look.json").chmod(0o644)
        (path / ".orch/look.json").write_text(text)
    assert drift(path) != ()
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.installed and prefix.path == path and verify_prefix(path) == ()


def test_prefix_that_was_moved_to_another_lock_is_installed_again(home: Home, lock_id: str, tmp_path: Path) -> None:
    path = installed(home, lock_id)
    other = write_lock(home, [small_package(tmp_path / "own", "other", [Member("share/other.txt", b"x")])])
    path.rename(home.envs / other)
    with use_prefix(other, home=home) as prefix:
        assert prefix.installed and (prefix.path / "share/other.txt").exists()
        assert not (prefix.path / "share/a.txt").exists()


def test_prefix_that_a_live_run_uses_is_never_touched(home: Home, lock_id: str) -> None:
    path = installed(home, lock_id)
    with use_prefix(lock_id, home=home) as live:
        (path / "share/a.txt").unlink()
        with use_prefix(lock_id, home=home) as second:
            assert second.path == home.envs / f"{lock_id}.1" and second.installed
            assert second.mended is not None and "beside" in second.mended
            assert drift(second.path) == ()
            os.chmod(second.path / "share", 0o755)
            (second.path / "share/new.txt").touch()
            with use_prefix(lock_id, home=home) as third:
                assert third.path == home.envs / f"{lock_id}.2" and third.installed
                with use_prefix(lock_id, home=home) as fourth:
                    assert fourth.path == third.path and not fourth.installed
        assert drift(live.path) == ("share/a.txt is missing",)
    # Nobody uses the first now; a sound one is at hand, and is used.
    with use_prefix(lock_id, home=home) as last:
        assert last.path == home.envs / f"{lock_id}.2" and not last.installed


def test_program_that_outlives_its_run_keeps_the_prefix_in_use(home: Home, lock_id: str) -> None:
    path = installed(home, lock_id)
    with use_prefix(lock_id, home=home) as prefix:
        assert os.get_inheritable(prefix.use_fd)
        orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[prefix.use_fd])
    (path / "share/a.txt").unlink()
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.path == home.envs / f"{lock_id}.1"
    orphan.communicate(b"\n")
    remove_tree(prefix.path)
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.path == path and prefix.installed


def test_pip_install_from_inside_a_run_is_seen_and_mended(
    home: Home, channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel.as_uri()}"]\n')
    hello = make_wheel(tmp_path, "hello", {"hello.py": "word = 'locked'\n"})
    (tmp_path / "new").mkdir()
    newer = make_wheel(tmp_path / "new", "hello", {"hello.py": "word = 'newer'\n"})
    keep(home, hello)
    packages = [
        *conda_packages(channel, "python", "python_abi", "pip"),
        pip_package(hello, "git+https://example.org/h"),
    ]
    lock_id = write_lock(home, packages)
    with use_prefix(lock_id, home=home) as prefix:
        python = prefix.path / "bin/python"
        for folder, _, _ in os.walk(prefix.path):
            os.chmod(folder, 0o755)
        command = [python, "-m", "pip", "install", "--no-index", "--force-reinstall", "-q", newer]
        subprocess.run(command, check=True, env={"HOME": str(tmp_path)}, capture_output=True)
        # The run itself sees what it installed, not the bytecode of what was there.
        said = subprocess.run([python, "-c", "import hello; print(hello.word)"], capture_output=True, text=True)
        assert said.stdout == "newer\n"
        assert any("hello" in change for change in drift(prefix.path))
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.installed and prefix.mended
        said = subprocess.run([python, "-c", "import hello; print(hello.word)"], capture_output=True, text=True)
        assert said.stdout == "locked\n"


def test_removing_a_sealed_tree_works_and_a_missing_one_is_fine(home: Home, lock_id: str) -> None:
    with use_prefix(lock_id, home=home) as prefix:
        pass
    remove_tree(prefix.path)
    assert not prefix.path.exists()
    remove_tree(prefix.path)
