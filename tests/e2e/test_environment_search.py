"""`orch env search`: the versions and builds that the channels have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from channel_server import ChannelServer
from made_channel import make_channel, record

from e2e.conftest import orch, orch_json

Serve = Callable[..., ChannelServer]


@pytest.fixture
def made(tmp_path: Path, cold_home: Path) -> Path:
    """A channel of records, in a folder that the user's configuration knows as the one of every environment."""
    folder = tmp_path / "made"
    make_channel(
        folder,
        record("numpy", "1.9.3", "linux-64", ["python >=3.8"], built="2020-02-03"),
        record("numpy", "1.10.0", "linux-64", built="2021-04-05"),
        record("numpy", "2.0.0rc1", "linux-64"),
        record("numpy", "2.0.0", "linux-64", built="2024-06-16"),
        record("numpydoc", "1.5"),
        record("numpy", "1.11.0", "osx-arm64"),
    )
    (cold_home / "config.toml").write_text(f'default-channels = ["{folder}"]\n')
    return folder


def versions(*arguments: object) -> list[str]:
    return [row["version"] for row in orch_json("env", "search", *arguments, "--platform", "linux-64")]


def test_versions_are_in_their_own_order_with_the_newest_at_the_prompt(made: Path) -> None:
    lines = orch("env", "search", "numpy", "--platform", "linux-64").stdout.splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "BUILD", "CHANNEL", "DATE", "SIZE"]
    assert [line.split()[1] for line in lines[1:]] == ["1.9.3", "1.10.0", "2.0.0rc1", "2.0.0"]
    assert lines[1].split() == ["numpy", "1.9.3", "0", "made", "2020-02-03", "1", "B"]
    assert lines[3].split() == ["numpy", "2.0.0rc1", "0", "made", "1", "B"]


def test_a_specification_chooses(made: Path) -> None:
    assert versions("numpy>=1.10,<2.0a0") == ["1.10.0"]
    assert versions("numpy 1.9.*") == ["1.9.3"]
    assert versions("numpy[subdir=linux-64]")[-1] == "2.0.0"
    assert versions("*doc") == ["1.5"]
    assert versions("numpy*")[-1] == "1.5"


def test_another_platform_is_asked_with_noarch(made: Path) -> None:
    found = orch_json("env", "search", "numpy*", "--platform", "osx-arm64")
    assert [(row["name"], row["version"], row["subdir"]) for row in found] == [
        ("numpy", "1.11.0", "osx-arm64"),
        ("numpydoc", "1.5", "noarch"),
    ]
    assert "osx-arm64" in orch("env", "search", "numpy", "--platform", "amiga", code=2).stderr


def test_json_has_all_that_the_channel_says(made: Path) -> None:
    [found] = orch_json("env", "search", "numpy=1.9", "--platform", "linux-64")
    assert found | {"sha256": "", "md5": ""} == {
        "name": "numpy",
        "version": "1.9.3",
        "build": "0",
        "build_number": 0,
        "channel": made.as_uri(),
        "subdir": "linux-64",
        "url": f"{made.as_uri()}/linux-64/numpy-1.9.3-0.conda",
        "sha256": "",
        "md5": "",
        "size": 1,
        "timestamp": 1580731200000,
        "depends": ["python >=3.8"],
        "constrains": [],
        "license": None,
    }
    assert (len(found["sha256"]), len(found["md5"])) == (64, 32)


def test_channels_are_those_named_else_those_of_the_configuration(made: Path, tmp_path: Path) -> None:
    other = make_channel(tmp_path / "other", record("numpy", "3.0", "linux-64"))
    assert versions("numpy", "-c", other) == ["3.0"]
    assert versions("numpy", "-c", other, "-c", made)[-2:] == ["2.0.0", "3.0"]
    assert versions(f"{other}::numpy") == ["3.0"]
    assert versions(f"numpy[channel='{other}']", "-c", made) == ["3.0"]


def test_what_is_not_there_is_told_with_what_comes_near(made: Path) -> None:
    said = orch("env", "search", "nunpy", "--platform", "linux-64", code=125).stderr
    assert f"no channel has nunpy for linux-64. Names that come near: numpy, numpydoc.\nasked: {made}\n" in said
    said = orch("env", "search", "numpy>=3", "--platform", "linux-64", code=125).stderr
    assert "no package for linux-64 fits numpy>=3. Versions that are there: 1.9.3, 1.10.0, 2.0.0rc1, 2.0.0.\n" in said
    said = orch("env", "search", "numpy>>3", code=125).stderr
    assert "'numpy>>3' is not a package specification that conda knows" in said
    assert "no such folder" in orch("env", "search", "numpy", "-c", made / "none", code=125).stderr


def test_offline_answers_from_what_was_read_before(made: Path, channel_server: Serve) -> None:
    server = channel_server(made)
    said = orch("env", "search", "numpy", "-c", server.url, "--offline", code=125).stderr
    assert f"what the channel {server.url} has is not known here, and --offline asks no network" in said
    assert not server.requests
    online = versions("numpy", "-c", server.url)
    before = server.requests.total()
    assert versions("numpy", "-c", server.url, "--offline") == online
    assert server.requests.total() == before
    assert versions("numpy", "--offline") == online


def test_credentials_of_a_channel_are_not_shown(made: Path, channel_server: Serve) -> None:
    url = channel_server(made).url.replace("http://", "http://ada:secret@")
    for arguments in ([], ["--json"]):
        done = orch("env", "search", "numpy", "-c", url, "--platform", "linux-64", *arguments)
        assert "secret" not in done.stdout + done.stderr
    assert "secret" not in orch("env", "search", "nunpy", "-c", url, code=125).stderr
    assert "secret" not in orch("env", "search", f"{url}::numpy>9", code=125).stderr
