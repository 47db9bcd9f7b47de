"""The door to rattler: what is checked, what is recorded, and what is said when it fails."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from urllib.parse import urlsplit

import pytest
from channel_server import ChannelServer
from conftest import CONDA_FORGE

from orchestrator.environment.config import CONDA_DEFAULTS, KNOWN_KEYS, Settings, read_settings
from orchestrator.environment.loopback import loopback
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

# rattler may crash an interpreter at its end, so it never runs in the tests' own.
SCRIPT = """
import os, sys, json
from pathlib import Path
from orchestrator.environment import engine
from orchestrator.environment.config import read_settings
from orchestrator.environment.host import virtual_packages
from orchestrator.errors import OrchError
from orchestrator.paths import open_home

home, channels, target = open_home(), json.loads(sys.argv[1]), Path(sys.argv[2])

async def go():
    with engine.connect(home, channels) as connection:
        records = await engine.solve(
            connection, ["six=1.16"], channels, subdir=sys.argv[3], virtual_packages=virtual_packages(home)
        )
        await engine.install(connection, records, target, final=target, full_validation=True)

try:
    engine.run(go())
except OrchError as error:
    print(error)
else:
    print("installed")
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def install(home: Home, tmp_path: Path, channel: Path) -> Callable[..., str]:
    """Solve and install six with its Python; what was said is returned."""
    platform = next(path.name for path in channel.iterdir() if "-" in path.name)

    def run(*channels: str) -> str:
        command = [sys.executable, "-c", SCRIPT, json.dumps(channels or (CONDA_FORGE,)), str(tmp_path / "x"), platform]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return run


@pytest.fixture
def served(home: Home, channel_server: Callable[..., ChannelServer]) -> ChannelServer:
    server = channel_server()
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{server.url}"]\n')
    return server


def test_a_changed_archive_in_a_folder_is_refused(
    home: Home, install: Callable[..., str], channel: Path, tmp_path: Path
) -> None:
    folder = copytree(channel, tmp_path / "folder")
    archive = next(folder.glob("*/six-1.16*.conda"))
    archive.write_bytes(archive.read_bytes()[:-2] + b"\1\0x")
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{folder.as_uri()}"]\n')
    said = install()

    assert said.startswith("the package six-1.16.0")
    assert "does not match its hash" in said
    # And not taken from the cache later, when the folder is sound again.
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel.as_uri()}"]\n')
    assert install() == "installed"


def test_packages_of_a_folder_are_recorded_by_its_own_url(
    install: Callable[..., str], channel: Path, tmp_path: Path
) -> None:
    assert install(channel.as_uri()) == "installed"

    record = json.loads(next((tmp_path / "x/conda-meta").glob("six-*.json")).read_text())
    assert record["url"].startswith(f"{channel.as_uri()}/noarch/six-1.16.0")
    assert not any("127.0.0.1" in path.read_text() for path in (tmp_path / "x/conda-meta").iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("altered", "does not match its hash: the lock or channel says sha256 "),
        ("truncated", "came damaged or cut off"),
        ("cut", "came damaged or cut off"),
        ("unauthorized", '{"conda.anaconda.org": {"BearerToken": "..."}}'),
        ("missing", "is not there (404): its channel has it no more. Solve the environment again with --relock, or"),
        ("unavailable", "can't be had now: its server fails"),
    ],
)
def test_an_archive_that_is_not_right_is_told_by_name(
    served: ChannelServer, install: Callable[..., str], fault: str, sentence: str
) -> None:
    served.fail("noarch/six-1.16*", fault)  # type: ignore[arg-type]
    said = install()

    assert said.startswith("the package six-1.16.0")
    assert sentence in said


@pytest.mark.parametrize("fault", ["unavailable", "cut"])
def test_a_server_that_recovers_is_asked_again(served: ChannelServer, install: Callable[..., str], fault: str) -> None:
    served.fail("noarch/six-1.16*", fault, times=2)  # type: ignore[arg-type]

    assert install() == "installed"


# --- the loopback -----------------------------------------------------------------------------------------------


def fetched(url: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, str | None]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    connection.request("GET", f"{parts.path}/{path}", headers=headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers["ETag"]
    connection.close()
    return found


def test_a_folder_is_served_under_a_name_that_can_not_be_guessed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a b.txt").write_text("inside")
    (tmp_path / "secret.txt").write_text("outside")
    with loopback() as folders:
        url = folders.url(tmp_path / "in")
        status, data, tag = fetched(url, "a%20b.txt")

        assert (status, data) == (200, b"inside")
        assert fetched(url, "a%20b.txt", {"If-None-Match": tag or ""})[0] == 304
        assert folders.url(tmp_path / "in") == url
        for path in ("../secret.txt", "%2e%2e/secret.txt", "", "nothing", "%00", f"/{tmp_path}/secret.txt"):
            assert fetched(url, path)[0] == 404
        assert fetched(url.rpartition("/")[0], "a%20b.txt")[0] == 404


# --- configuration ----------------------------------------------------------------------------------------------


def test_without_configuration_the_usual_places_are_asked(home: Home) -> None:
    home.config.unlink()

    assert read_settings(home) == Settings()


def test_later_files_of_the_configuration_win_key_by_key(home: Home, isolated: Path) -> None:
    for tool, text in (
        (
            "rattler",
            'default-channels = ["a"]\n[mirrors]\n"https://a/x/" = ["https://b"]\n"https://c" = ["https://d"]\n',
        ),
        ("orch", '[pypi]\nindex = "https://e"\n'),
    ):
        (isolated / ".config" / tool).mkdir(parents=True)
        (isolated / ".config" / tool / "config.toml").write_text(text)
    home.config.write_text('conda-defaults = ["f"]\n[mirrors]\n"https://c" = ["file:///g"]\n[paths]\n')
    found = read_settings(home)

    assert found.default_channels == ("a",)
    assert found.conda_defaults == ("f",) != CONDA_DEFAULTS
    assert found.mirrors == {"https://a/x": ("https://b",), "https://c": ("file:///g",)}
    assert found.pypi_index == "https://e"


def test_a_mirror_may_be_a_plain_folder(home: Home, install: Callable[..., str], channel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder, it's mine"
    folder.symlink_to(channel)
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{folder}"]\n')

    assert read_settings(home).mirrors == {CONDA_FORGE: (folder.as_uri(),)}
    assert install() == "installed"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# a line\n[proxy-config]\nhttp = 3", "line 3: invalid type: integer `3`, expected a string"),
        ("[mirrors]\nnourl = ['https://a']", 'line 2: relative URL without a base: "nourl".'),
        ("run-post-link-scripts = 'yes'", "line 1: unknown variant `yes`"),
    ],
)
def test_what_rattler_refuses_in_a_configuration_is_told_by_file_and_line(
    home: Home, install: Callable[..., str], text: str, sentence: str
) -> None:
    home.config.write_text(text)
    said = install()

    assert said.startswith(f"{home.config}, {sentence}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[mirors]\n'https://a/x' = ['https://b/x']", "has an unknown key 'mirors'; one that it may have is mirrors."),
        ("[pahts]\nenvs = '/x'", "has an unknown key 'pahts'; one that it may have is paths."),
        (
            "default_channels = ['a']",
            "has an unknown key 'default_channels'; one that it may have is default-channels.",
        ),
        ("[pypi]\nidnex = 'https://a'", "has an unknown key 'idnex' in [pypi]; it takes index, extra-indexes."),
    ],
)
def test_a_key_that_is_nearly_a_known_one_is_refused(home: Home, isolated: Path, text: str, sentence: str) -> None:
    home.config.write_text(text)
    with pytest.raises(OrchError) as caught:
        read_settings(home)

    assert str(caught.value) == f"{home.config} {sentence}"
    # What all of rattler's tools share is not ours to judge.
    (isolated / ".config/rattler").mkdir(parents=True)
    home.config.rename(isolated / ".config/rattler/config.toml")
    read_settings(home)


def test_keys_of_others_are_passed_over(home: Home) -> None:
    home.config.write_text("[experimental]\nx = 1\n[shell]\n[concurrency]\nsolves = 1\n")

    assert read_settings(home) == Settings()


def test_every_key_of_rattler_is_known() -> None:
    script = "import os, rattler; print(*rattler.Config().keys(), flush=True); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {key.partition(".")[0] for key in done.stdout.split()} < set(KNOWN_KEYS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = [", "is not valid TOML"),
        ("[mirrors]\n'https://a' = ['b/c']", "takes URLs and folders from / on; 'b/c' is neither"),
        ("default-channels = 'x'", "default-channels takes a list of texts"),
        ("mirrors = 3", "mirrors must be a table"),
        ("[mirrors]\n'https://a' = 'b'", "takes a list of texts"),
        ("[pypi]\nindex = 3", "pypi.index takes the URL"),
        ("[pypi]\nextra-indexes = 'x'", "pypi.extra-indexes takes a list of texts"),
    ],
)
def test_a_wrong_configuration_is_refused_by_file_and_key(home: Home, text: str, sentence: str) -> None:
    home.config.write_text(text)
    with pytest.raises(OrchError) as caught:
        read_settings(home)

    assert sentence in str(caught.value)
    assert str(home.config) in str(caught.value)
