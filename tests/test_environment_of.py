"""What a person's text means: a lock, a file, or nothing; runs are tried end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_locks import conda_packages, write_lock

from orchestrator.environment.folder import LocalFolder
from orchestrator.environment.host import current_subdir
from orchestrator.environment_of import environment_of
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import Home, open_home


@pytest.fixture
def home(cold_home: Path) -> Home:
    return open_home()


def test_a_lock_is_found_by_the_beginning_of_its_id(home: Home, channel: Path) -> None:
    lock_id = write_lock(home, conda_packages(channel, "six"))
    found = environment_of(lock_id[:8].upper(), home=home)
    assert found.locks == {"linux-64": lock_id}
    assert found.run_id is None


def test_fewer_than_four_digits_are_no_lock(home: Home, channel: Path) -> None:
    lock_id = write_lock(home, conda_packages(channel, "six"))
    with pytest.raises(OrchError, match="no run, no lock, no folder and no file"):
        environment_of(lock_id[:3], home=home)


def test_a_beginning_of_several_locks_is_refused_with_them(home: Home) -> None:
    for last in "ab":
        (home.locks / ("beef" + last * 60)).mkdir()
    with pytest.raises(OrchError, match=r"several locks begin with 'beef': beefa+, beefb+\."):
        environment_of("beef", home=home)


def test_a_lock_has_no_other_platform(home: Home, channel: Path) -> None:
    found = environment_of(write_lock(home, conda_packages(channel, "six")), home=home)
    with pytest.raises(OrchError, match="no lock for osx-arm64, only for linux-64"):
        found.lock_for("osx-arm64")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("environment.yml", "channels: [conda-forge]\ndependencies: [python, six]\n"),
        ("whatever.yaml", "dependencies:\n  - six\nchannels: [conda-forge]\n"),
        ("python_env.yaml", "python: '3'\n"),
        ("requirements-dev.txt", "# nothing\n"),
    ],
)
def test_a_file_is_locked_as_what_its_name_or_its_keys_tell(home: Home, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = environment_of(str(tmp_path / name), home=home)
    assert list(found.locks) == [current_subdir()]
    again = environment_of(str(tmp_path / name), home=home)
    assert again.locks == found.locks


def test_a_conda_lock_file_is_known_by_its_keys(home: Home, tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("channels: [conda-forge]\ndependencies: [six]\n")
    first = environment_of(str(tmp_path / "environment.yml"), home=home)
    (lock_id,) = first.locks.values()
    (tmp_path / "pinned.yml").write_bytes((home.locks / lock_id / "conda-lock.yml").read_bytes())
    assert environment_of(str(tmp_path / "pinned.yml"), home=home).locks == first.locks


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("data.yml", "a: 1\n", "is no environment file: it has no dependencies"),
        ("pyproject.toml", "", "name the folder of the project"),
    ],
)
def test_other_files_are_refused(home: Home, tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(OrchError, match=said):
        environment_of(str(tmp_path / name), home=home)


def test_what_is_not_there_is_named(home: Home) -> None:
    with pytest.raises(OrchError, match=r"there is no environment file nowhere/environment\.yml"):
        environment_of("nowhere/environment.yml", home=home)
    with pytest.raises(OrchError, match="no file 'nothing'"):
        environment_of("nothing", home=home)
    with pytest.raises(OrchError, match="there is no run yet"):
        environment_of("latest", home=home)
    with pytest.raises(UsageError):
        environment_of("", home=home)


def test_a_local_folder_is_never_left(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "file").write_text("f")
    (inside / "out").symlink_to(tmp_path / "secret")
    (inside / "in").symlink_to("file")
    (inside / "circle").symlink_to("circle")
    folder = LocalFolder(inside)
    assert folder.read("file") == folder.read("in") == folder.read("sub/../file") == b"f"
    assert [folder.read(p) for p in ("out", "../secret", str(tmp_path / "secret"), "circle", "sub", "none")] == [
        None
    ] * 6
    assert folder.names() == ("circle", "file", "in", "out", "sub/")
    assert folder.names("..") == folder.names("file") == ()
