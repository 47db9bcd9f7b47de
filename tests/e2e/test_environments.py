"""`orch run` for another day, another platform, another machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from made_channel import record

from e2e.conftest import CONDA_FORGE, SIX_YAML, mlproject, orch, orch_json

SIX = 'python -c "import six; print(six.__version__)"'
FILES = {"MLproject": mlproject(SIX), "conda.yaml": SIX_YAML}


@pytest.fixture
def dated(tmp_path: Path, channel: Path, cold_home: Path) -> Path:
    """The small channel, with six 1.16 of 2021 and a newer one of 2024, and with packages for osx-arm64; its home."""
    folder = tmp_path / "dated"
    for subdir in ("linux-64", "noarch"):
        place = folder / subdir
        place.mkdir(parents=True)
        for archive in (channel / subdir).glob("*.conda"):
            (place / archive.name).symlink_to(archive)
        table = json.loads((channel / subdir / "repodata.json").read_bytes())
        for facts in table["packages.conda"].values():
            year = 2024 if facts["name"] == "six" and not facts["version"].startswith("1.16") else 2021
            facts["timestamp"] = int(datetime(year, 3, 1, tzinfo=UTC).timestamp() * 1000)
        (place / "repodata.json").write_text(json.dumps(table))
    mac = record("python", "3.11.7", "osx-arm64", built="2021-03-01")
    table = {"info": {"subdir": "osx-arm64"}, "packages": {}, "packages.conda": {"python-3.11.7-0.conda": mac}}
    (folder / "osx-arm64").mkdir()
    (folder / "osx-arm64" / "repodata.json").write_text(json.dumps(table))
    (cold_home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{folder}"]\n')
    return cold_home


def test_a_run_as_of_a_day_has_the_packages_of_that_day(dated: Path, make_project: Callable[..., Path]) -> None:
    project = make_project(FILES)

    old = orch("run", project, "--as-of", "2022-01-31")
    new = orch("run", project)
    again = orch("run", project, "--as-of", "2022-01-31")

    assert old.stdout == again.stdout == "1.16.0\n"
    assert new.stdout != old.stdout
    assert "solving" not in again.stderr
    runs = orch_json("list")
    day = "2022-01-31T23:59:59Z"
    assert [run["spec"]["environment"]["as_of"] for run in runs] == [day, None, day]
    assert runs[0]["spec_id"] == runs[2]["spec_id"] != runs[1]["spec_id"]
    assert "as of 2022-01-31" in orch("show").stdout


def test_the_day_may_be_that_of_the_commit(dated: Path, make_project: Callable[..., Path]) -> None:
    run = orch_json("run", make_project(FILES), "--as-of", "commit")

    assert run["spec"]["environment"]["as_of"] == "2024-05-01T12:00:00Z"


def test_a_run_locks_for_the_platforms_that_are_asked_for(dated: Path, make_project: Callable[..., Path]) -> None:
    run = orch_json("run", make_project({**FILES, "conda.yaml": SIX_YAML}), "--platform", "osx-arm64")

    others = run["spec"]["environment"]["others"]
    assert list(others) == ["osx-arm64"]
    assert (dated / "locks" / others["osx-arm64"] / "conda-lock.yml").exists()
    assert run["spec"]["environment"]["lock_id"] != others["osx-arm64"]
    assert "osx-arm64" in orch("show").stdout
    runs = {row["lock_id"]: row["runs"] for row in orch_json("env", "list")}
    assert runs == {run["spec"]["environment"]["lock_id"]: 1, others["osx-arm64"]: 1}


def test_other_platforms_and_the_day_do_not_change_the_identity_of_a_run(
    dated: Path, make_project: Callable[..., Path]
) -> None:
    project = make_project(FILES)

    plain = orch_json("run", project, "--as-of", "2022-01-31")
    more = orch_json("run", project, "--as-of", "2022-01-30", "--platform", "osx-arm64")

    assert plain["spec_id"] == more["spec_id"]


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--as-of", "yesterday", "--as-of takes a day as 2021-06-30"),
        ("--as-of", "2021-02-30", "--as-of takes a day as 2021-06-30"),
        ("--platform", "linux64", "--platform linux64 is unknown; there are linux-64"),
        ("--cuda", "twelve", "--cuda takes a version as 12.4"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_done(
    orch_home: Path, make_project: Callable[..., Path], option: str, value: str, sentence: str
) -> None:
    done = orch("run", make_project(FILES), option, value, code=2)

    assert sentence in done.stderr
    assert orch_json("list") == []


def test_an_export_for_several_platforms_has_the_notes_of_each_once(
    dated: Path, make_project: Callable[..., Path]
) -> None:
    folder = make_project({"environment.yml": "channels: [conda-forge]\ndependencies: [python]\n"})
    orch("env", "lock", folder, "--platform", "linux-64", "--virtual-package", "__glibc=2.39")

    platforms = ("--platform", "osx-arm64", "--platform", "linux-64")
    said = orch("env", "export", folder, *platforms).stderr

    assert said.count("conda-lock.yml has nothing for osx-arm64") == 1
