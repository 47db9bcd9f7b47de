"""`--offline`: packages come from the caches and from folders, nobody is asked, and what is missing is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from channel_server import ChannelServer
from conftest import CONDA_FORGE
from made_index import Index, served
from made_locks import conda_packages, write_lock
from made_trees import SOURCE, FileTree

from orchestrator.environment import Environment, environment_request, locked_packages
from orchestrator.environment import resolve_environment as resolve_request
from orchestrator.environment.prefix import use_prefix
from orchestrator.environment.pypi import uv_environment
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SIX = "dependencies:\n- python\n- six\n"


@pytest.fixture
def home(cold_home: Path) -> Home:
    return open_home()


@pytest.fixture
def server(home: Home, channel_server: Callable[..., ChannelServer]) -> ChannelServer:
    """A channel over HTTP on this machine, in the place of conda-forge."""
    server = channel_server()
    use_mirror(home, server.url)
    return server


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index in a folder, with one package; none is configured."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    index = Index(tmp_path / "index")
    index.wheel("alpha", "1.0")
    return index


def use_mirror(home: Home, *places: str, index: str | None = None) -> None:
    pypi = f'[pypi]\nindex = "{index}"\n' if index else ""
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = {json.dumps(places)}\n{pypi}')


def offline(home: Home) -> Home:
    return replace(home, offline=True)


def resolve(home: Home, text: str = SIX) -> Environment:
    request = environment_request("conda", "environment.yml", FileTree({"environment.yml": text}), SOURCE)
    return resolve_request(request, home=home)


def test_a_solve_uses_what_was_read_before_and_asks_nobody(home: Home, server: ChannelServer) -> None:
    with pytest.raises(OrchError) as caught:
        resolve(offline(home))
    assert str(caught.value) == (
        f"what the channel {CONDA_FORGE} has is not known here, and --offline asks no network: run it once without, or "
        f"name a folder with this channel in [mirrors] of {home.config}."
    )
    assert not server.requests
    online = resolve(home)
    before = server.requests.total()
    shutil.rmtree(home.locks)
    home.locks.mkdir()

    assert resolve(offline(home)).lock_id == online.lock_id
    assert resolve(offline(home), "dependencies:\n- python\n").lock_id != online.lock_id
    assert server.requests.total() == before


def test_an_install_names_all_packages_that_are_missing(home: Home, server: ChannelServer) -> None:
    lock_id = resolve(home).lock_id
    before = server.requests.total()
    names = sorted(package.file_name for package in locked_packages(home, lock_id))
    with pytest.raises(OrchError) as caught, use_prefix(lock_id, home=offline(home)):
        pass
    said = str(caught.value)
    assert any(name.startswith("six-1.") and name in said for name in names)
    assert "not here, and --offline asks no network: run it once without, or name a folder" in said
    assert str(home.config) in said
    assert server.requests.total() == before


def test_an_install_from_the_package_cache_asks_nobody(home: Home, server: ChannelServer) -> None:
    lock_id = resolve(home).lock_id
    with use_prefix(lock_id, home=home):
        pass
    before = server.requests.total()
    elsewhere = replace(offline(home), envs=home.envs.with_name("other-envs"))
    elsewhere.envs.mkdir()
    with use_prefix(lock_id, home=elsewhere) as prefix:
        assert (prefix.path / "bin/python").exists()
    assert server.requests.total() == before


def test_a_damaged_entry_of_the_package_cache_is_no_reason_to_ask(home: Home, server: ChannelServer) -> None:
    lock_id = resolve(home).lock_id
    with use_prefix(lock_id, home=home):
        pass
    before = server.requests.total()
    broken = next(path for path in (home.cache / "pkgs").rglob("six.py"))
    broken.chmod(0o600)
    broken.write_text("damaged")
    elsewhere = replace(offline(home), envs=home.envs.with_name("other-envs"))
    elsewhere.envs.mkdir()
    with (
        pytest.raises(OrchError, match=r"six-1\.\S+ .*is not here, and --offline"),
        use_prefix(lock_id, home=elsewhere),
    ):
        pass
    assert server.requests.total() == before


def test_a_folder_is_asked_and_other_mirrors_are_not(
    home: Home, server: ChannelServer, channel: Path, tmp_path: Path
) -> None:
    use_mirror(home, server.url, str(channel))
    lock_id = resolve(offline(home)).lock_id
    with use_prefix(lock_id, home=offline(home)) as prefix:
        assert (prefix.path / "bin/python").exists()
    assert not server.requests


def test_a_channel_that_is_a_folder_needs_no_network(home: Home, server: ChannelServer, channel: Path) -> None:
    lock_id = resolve(offline(home), f"channels: ['{channel.as_uri()}']\n{SIX}").lock_id
    with use_prefix(lock_id, home=offline(home)) as prefix:
        assert (prefix.path / "bin/python").exists()
    assert not server.requests


def test_a_package_that_a_folder_lacks_is_named(home: Home, channel: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(channel, tmp_path / "folder")
    use_mirror(home, str(folder))
    lock_id = resolve(offline(home)).lock_id
    for path in list(folder.glob("*/six-*")):
        path.unlink()
    with (
        pytest.raises(OrchError, match=r"^six-1\S+ .*is not here, and --offline"),
        use_prefix(lock_id, home=offline(home)),
    ):
        pass


def test_a_channel_on_this_machine_is_a_network_too(home: Home, server: ChannelServer) -> None:
    with pytest.raises(OrchError, match="is not known here, and --offline"):
        resolve(offline(home), f"channels: ['{server.url}']\n{SIX}")
    assert not server.requests


def test_pip_packages_come_from_an_index_in_a_folder(home: Home, channel: Path, index: Index) -> None:
    use_mirror(home, str(channel), index=index.url)
    lock_id = resolve(offline(home), f"{SIX}- pip:\n  - alpha\n").lock_id
    with use_prefix(lock_id, home=offline(home)) as prefix:
        assert list(prefix.path.rglob("site-packages/alpha.py"))


def test_pip_packages_come_from_the_cache_or_are_named(home: Home, channel: Path, index: Index) -> None:
    index.wheel("beta", "2.0")
    text = f"{SIX}- pip:\n  - alpha\n  - beta\n"
    with served(index.folder) as url:
        use_mirror(home, str(channel), index=f"{url}/simple")
        with pytest.raises(OrchError, match=r"(?s)alpha.*--offline asks no network.*\[pypi\]"):
            resolve(offline(home), text)
        lock_id = resolve(home, text).lock_id
        shutil.rmtree(home.cache / "uv")
        with (
            pytest.raises(OrchError, match=r"alpha-\S+whl, beta-\S+whl are not here, and --offline.*\[pypi\]"),
            use_prefix(lock_id, home=offline(home)),
        ):
            pass
        elsewhere = replace(home, envs=home.envs.with_name("other-envs"))
        elsewhere.envs.mkdir()
        with use_prefix(lock_id, home=elsewhere):
            pass
    with use_prefix(lock_id, home=offline(home)) as prefix:
        assert list(prefix.path.rglob("site-packages/alpha.py"))


def test_every_missing_package_is_named(home: Home, server: ChannelServer, channel: Path) -> None:
    lock_id = write_lock(home, conda_packages(channel, "six", "idna", "click"))
    with pytest.raises(OrchError) as caught, use_prefix(lock_id, home=offline(home)):
        pass
    said = str(caught.value)
    assert [said.count(f"{name}-") > 0 for name in ("six", "idna", "click")] == [True] * 3
    assert "are not here, and --offline asks no network" in said
    assert not server.requests


def test_programs_of_uv_find_no_way_out(home: Home, channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    environ = uv_environment(offline(home))
    assert environ["UV_OFFLINE"] == "1"
    assert environ["https_proxy"] == environ["ALL_PROXY"] == "http://127.0.0.1:1"
    assert environ["NO_PROXY"] == environ["no_proxy"] == "127.0.0.1"
    assert "UV_OFFLINE" not in uv_environment(home)


def test_a_channel_in_shards_is_known_as_far_as_it_was_read(
    home: Home, channel: Path, channel_server: Callable[..., ChannelServer], tmp_path: Path
) -> None:
    folder = shutil.copytree(channel, tmp_path / "sharded")
    # In a process of its own, whose exit rattler can't harm.
    index = "asyncio.run(rattler.index.index_fs(sys.argv[1], write_shards=True))"
    subprocess.run(
        [sys.executable, "-c", f"import asyncio, os, rattler, sys; {index}; os._exit(0)", folder], check=True
    )
    server = channel_server(folder)
    use_mirror(home, server.url)
    online = resolve(home)
    assert any("shards/" in path for path in server.requests)
    before = server.requests.total()
    shutil.rmtree(home.locks)
    home.locks.mkdir()

    assert resolve(offline(home)).lock_id == online.lock_id
    with pytest.raises(OrchError, match="what the channels have of numpy is not known here, and --offline"):
        resolve(offline(home), "dependencies:\n- numpy\n")
    assert server.requests.total() == before
