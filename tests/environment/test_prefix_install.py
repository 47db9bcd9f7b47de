"""A lock becomes a prefix: complete, checked, read-only, and with no trace of how it was built."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from channel_server import ChannelServer
from conftest import CONDA_FORGE
from made_disk import small_disk
from made_index import served
from made_locks import conda_packages, keep, make_wheel, pip_package, small_package, write_lock

from orchestrator.environment.package import Member
from orchestrator.environment.prefix import use_prefix, verify_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

PLACEHOLDER = "/PLACEHOLDER_PREFIX"
PYTHON = ("python", "python_abi", "six")


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    code = "def main():\n    import sys\n    print('hello from', sys.prefix)\n"
    return make_wheel(tmp_path, "hello", {"hello/__init__.py": code}, scripts=["hello = hello:main"])


@pytest.fixture
def wheel_server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that has the files of `tmp_path`."""
    with served(tmp_path) as url:
        yield url


def use_mirror(home: Home, url: str) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{url}"]\n')


def left_behind(home: Home) -> list[str]:
    """What stands in `envs` besides its lock files."""
    found = [path.name for path in home.envs.iterdir() if path.name not in (".locks", ".building")]
    return found + [path.name for path in home.envs.glob(".building/*")]


def said(path: Path, *arguments: str) -> str:
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True, env={}).stdout.strip()


def test_python_environment_with_a_wheel_is_installed_once_and_whole(
    home: Home, channel: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a caller's session may hold and must not matter.
    trap = tmp_path / "trap"
    for name in ("sitecustomize", "compileall", "six"):
        (trap / "lib/python3.11/site-packages").mkdir(parents=True, exist_ok=True)
        (trap / "lib/python3.11/site-packages" / f"{name}.py").write_text("raise SystemExit('trapped')\n")
    for name, value in {
        "PYTHONPATH": str(trap / "lib/python3.11/site-packages"),
        "PYTHONUSERBASE": str(trap),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": "315532800",
        "PIP_USER": "1",
        "UV_NO_BINARY": "1",
        "UV_TARGET": str(trap),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(trap / "nowhere"))
    keep(home, wheel)
    lock_id = write_lock(
        home, [*conda_packages(channel, *PYTHON), pip_package(wheel, "git+https://example.org/hello@" + "0" * 40)]
    )

    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.installed and prefix.mended is None and prefix.notes == ()
        assert prefix.path == home.envs / lock_id
    with use_prefix(lock_id, home=home, verify="full") as again:
        assert not again.installed and again.path == prefix.path

    path = prefix.path
    python = path / "bin/python"
    assert said(python, "-c", "import sys, six; print(sys.prefix, six.__version__)").startswith(f"{path} ")
    assert said(path / "bin/hello") == f"hello from {path}"

    # No file, link or name tells where it was built, and none is left there.
    traces = subprocess.run(["grep", "-rl", "--fixed-strings", ".building", path], capture_output=True, text=True)
    assert traces.stdout == ""
    assert left_behind(home) == [lock_id]

    # Nothing of this machine or this moment is in a wheel's metadata, and its RECORD is true.
    metadata = next(path.glob("lib/python3*/site-packages/hello-1.0.dist-info"))
    assert not (metadata / "direct_url.json").exists() and not (metadata / "uv_cache.json").exists()
    rows = [row for row in csv.reader((metadata / "RECORD").read_text().splitlines()) if row[1]]
    assert any(row[0].endswith("bin/hello") for row in rows)
    for name, digest, size in rows:
        data = (metadata.parent / name).read_bytes()
        assert digest == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert int(size) == len(data)

    # Sealed: nothing can be written but by root.
    modes = {p.stat().st_mode & 0o222 for p in [path, *path.rglob("*")] if not p.is_symlink()}
    assert modes == {0}

    # Compiled: Python takes the bytecode as it is, and it names the final place.
    compiled = list(path.rglob("__pycache__/*.pyc"))
    sources = list(path.glob("lib/python3*/**/*.py"))
    assert len(compiled) >= 0.99 * len(sources)
    assert {p.read_bytes()[4:8] for p in compiled} == {b"\1\0\0\0"}
    assert os.fsencode(path) in next(path.glob("lib/**/hello/__pycache__/*.pyc")).read_bytes()


def test_progress_tells_how_many_packages_and_compiled_files(home: Home, channel: Path) -> None:
    said: list[tuple[str, int | None, int | None]] = []

    def report(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        said.append((text, done, total))

    for names in ((*PYTHON, "setuptools"), ("python_abi",)):
        with use_prefix(write_lock(home, conda_packages(channel, *names)), home=home, report=report):
            pass

    texts = [text for text, *_ in said]
    assert "installing 4 packages" in texts and "installing 1 package" in texts
    counts = [(done, total) for text, done, total in said if text == "compiling" and done and total]
    assert len({total for _, total in counts}) == 1
    done, total = counts[-1]
    assert [done for done, _ in counts] == sorted({done for done, _ in counts})
    assert total / 2 < done <= total and len(counts) > 1


def test_wheel_comes_from_its_url_once_and_then_from_the_cache(
    home: Home, channel: Path, wheel: Path, wheel_server: str
) -> None:
    package = pip_package(wheel, f"{wheel_server}/{wheel.name}")
    with use_prefix(write_lock(home, [*conda_packages(channel, "python", "python_abi"), package]), home=home) as prefix:
        assert said(prefix.path / "bin/hello") == f"hello from {prefix.path}"
    wheel.unlink()
    with use_prefix(write_lock(home, [*conda_packages(channel, *PYTHON), package]), home=home) as prefix:
        assert said(prefix.path / "bin/hello") == f"hello from {prefix.path}"


def test_wheel_comes_from_the_index_that_is_set_where_its_url_is_out_of_reach(
    home: Home, channel: Path, wheel: Path, wheel_server: str
) -> None:
    (wheel.parent / "simple/hello").mkdir(parents=True)
    wheel.rename(wheel.parent / "simple/hello" / wheel.name)
    wheel = wheel.parent / "simple/hello" / wheel.name
    with home.config.open("a") as config:
        config.write(f'[pypi]\nindex = "{wheel_server}/simple"\n')
    package = pip_package(wheel, f"http://127.0.0.1:9/{wheel.name}")
    with use_prefix(write_lock(home, [*conda_packages(channel, "python", "python_abi"), package]), home=home) as prefix:
        assert said(prefix.path / "bin/hello") == f"hello from {prefix.path}"


def test_pips_setting_that_no_index_is_asked_leaves_the_wheels_url(
    home: Home, channel: Path, wheel: Path, wheel_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wheel.parent / "simple/hello").mkdir(parents=True)
    wheel.rename(wheel.parent / "simple/hello" / wheel.name)
    wheel = wheel.parent / "simple/hello" / wheel.name
    monkeypatch.setenv("PIP_INDEX_URL", f"{wheel_server}/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    python = conda_packages(channel, "python", "python_abi")
    elsewhere = write_lock(home, [*python, pip_package(wheel, f"http://127.0.0.1:9/{wheel.name}")])
    with pytest.raises(OrchError, match=r"hello 1\.0"), use_prefix(elsewhere, home=home):
        pass
    package = pip_package(wheel, f"{wheel_server}/simple/hello/{wheel.name}")
    with use_prefix(write_lock(home, [*conda_packages(channel, *PYTHON), package]), home=home) as prefix:
        assert said(prefix.path / "bin/hello") == f"hello from {prefix.path}"


def test_wheel_that_can_not_be_had_is_one_sentence(home: Home, channel: Path, wheel: Path, wheel_server: str) -> None:
    python = conda_packages(channel, "python", "python_abi")
    real = hashlib.sha256(wheel.read_bytes()).hexdigest()
    url = f"{wheel_server}/{wheel.name}"
    cases = [
        (pip_package(wheel, url, sha256="0" * 64), f"its sha256 is {real}, the lock has {'0' * 64}"),
        (pip_package(wheel, url.replace("hello-", "gone/hello-")), "404"),
        (pip_package(wheel, "git+https://example.org/hello@" + "0" * 40), "--relock"),
        (pip_package(wheel, f"{url} --hash=sha256:{'1' * 64}.whl"), "blanks"),
        (pip_package(wheel, url.replace("//", "//user:secret@").replace("hello-", "gone/hello-")), "hello 1.0"),
    ]
    for package, message in cases:
        with (
            pytest.raises(OrchError, match=re.escape(message)) as caught,
            use_prefix(write_lock(home, [*python, package]), home=home),
        ):
            pass
        assert "hello 1.0" in str(caught.value) or "of hello" in str(caught.value)
        assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
        assert left_behind(home) == []


def test_altered_conda_package_is_refused_with_both_hashes(
    home: Home, channel: Path, channel_server: Callable[..., ChannelServer]
) -> None:
    server = channel_server()
    use_mirror(home, server.url)
    packages = conda_packages(channel, "python_abi", "idna")
    lock_id = write_lock(home, packages)
    server.fail("noarch/idna-*", "altered")
    with pytest.raises(OrchError) as caught, use_prefix(lock_id, home=home):
        pass
    altered = (channel / "noarch" / packages[1].file_name).read_bytes()[:-2] + b"\1\0x"
    assert "idna" in str(caught.value)
    assert packages[1].sha256 in str(caught.value) and hashlib.sha256(altered).hexdigest() in str(caught.value)
    assert left_behind(home) == []


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_conda_package_that_can_not_be_had_is_named_and_leaves_nothing(
    home: Home, channel: Path, channel_server: Callable[..., ChannelServer], fault: str
) -> None:
    server = channel_server()
    use_mirror(home, server.url)
    lock_id = write_lock(home, conda_packages(channel, "python", "python_abi", "idna"))
    server.fail("noarch/idna-*", fault)  # type: ignore[arg-type]  # a parameter of the test
    with pytest.raises(OrchError, match="idna") as caught, use_prefix(lock_id, home=home):
        pass
    assert "\n" not in str(caught.value) and f"{CONDA_FORGE}/noarch/idna-" in str(caught.value)
    assert left_behind(home) == []
    server.heal()
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.installed


def test_server_that_is_unavailable_for_a_moment_is_asked_again(
    home: Home, channel: Path, channel_server: Callable[..., ChannelServer]
) -> None:
    server = channel_server()
    use_mirror(home, server.url)
    server.fail("noarch/python_abi-*", "unavailable", times=1)
    with use_prefix(write_lock(home, conda_packages(channel, "python_abi")), home=home) as prefix:
        assert prefix.installed


def test_link_scripts_are_not_run_and_their_packages_named(home: Home, tmp_path: Path) -> None:
    use_mirror(home, (tmp_path / "own").as_uri())
    script = Member("bin/.chatty-post-link.sh", b"#!/bin/sh\ntouch $PREFIX/was-run\n", executable=True)
    lock_id = write_lock(home, [small_package(tmp_path / "own", "chatty", [script])])
    for _ in range(2):
        with use_prefix(lock_id, home=home) as prefix:
            assert len(prefix.notes) == 1 and "chatty" in prefix.notes[0]
            assert not (prefix.path / "was-run").exists()


def test_cache_poisoned_through_a_hard_link_does_not_reach_the_next_prefix(home: Home, tmp_path: Path) -> None:
    use_mirror(home, (tmp_path / "own").as_uri())
    data = small_package(tmp_path / "own", "data", [Member("share/data.txt", b"true\n")])
    other = small_package(tmp_path / "own", "other", [Member("share/other.txt", b"x\n")])
    with use_prefix(write_lock(home, [data]), home=home) as prefix:
        file = prefix.path / "share/data.txt"
        file.chmod(0o644)
        file.write_text("fake\n")
    with use_prefix(write_lock(home, [data, other]), home=home) as prefix:
        assert (prefix.path / "share/data.txt").read_text() == "true\n"


def test_prefix_in_a_text_file_is_the_final_one(home: Home, tmp_path: Path) -> None:
    use_mirror(home, (tmp_path / "own").as_uri())
    script = Member("bin/where", f"#!/bin/sh\necho {PLACEHOLDER}\n".encode(), True, PLACEHOLDER)
    with use_prefix(write_lock(home, [small_package(tmp_path / "own", "where", [script])]), home=home) as prefix:
        assert said(prefix.path / "bin/where") == str(prefix.path)
        assert verify_prefix(prefix.path) == ()


def test_full_disk_is_one_sentence_and_nothing_is_left(home: Home, tmp_path: Path) -> None:
    use_mirror(home, (tmp_path / "own").as_uri())
    big = [Member(f"share/{number}", os.urandom(1 << 20)) for number in range(12)]
    lock_id = write_lock(home, [small_package(tmp_path / "own", "big", big)])
    with small_disk(home.envs, "8m"):
        with pytest.raises(OrchError, match=r"[Nn]o space") as caught, use_prefix(lock_id, home=home):
            pass
        assert "\n" not in str(caught.value)
        assert left_behind(home) == []
    # Cache and prefix on different file systems: files are copied.
    with small_disk(home.envs, "64m"), use_prefix(lock_id, home=home) as prefix:
        assert verify_prefix(prefix.path) == ()
    with small_disk(home.cache, "8m"):
        with pytest.raises(OrchError, match=r"[Nn]o space"), use_prefix(lock_id, home=home):
            pass
        assert left_behind(home) == []


def test_read_only_folder_is_one_sentence(home: Home, tmp_path: Path) -> None:
    use_mirror(home, (tmp_path / "own").as_uri())
    lock_id = write_lock(home, [small_package(tmp_path / "own", "data", [Member("share/data.txt", b"x")])])
    with small_disk(home.envs, "8m"):
        subprocess.run(["mount", "-o", "remount,ro", home.envs], check=True)
        with pytest.raises(OrchError, match="Read-only file system"), use_prefix(lock_id, home=home):
            pass


@pytest.mark.parametrize("lock_id", ["", "../x", "0" * 63, "0" * 64 + "\n", "G" * 64])
def test_what_is_no_lock_id_is_refused(home: Home, lock_id: str) -> None:
    with pytest.raises(OrchError, match="lock id"), use_prefix(lock_id, home=home):
        pass


def test_unknown_lock_is_refused(home: Home) -> None:
    with pytest.raises(OrchError, match="has no lock"), use_prefix("0" * 64, home=home):
        pass
    assert left_behind(home) == []
