"""The pip packages of an environment as of a day, from an index that tells when its files were uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dated_index import dated_index
from made_channel import make_channel, record
from made_index import Index
from made_trees import SOURCE, FileTree

from orchestrator.environment import environment_request, locked_packages, resolve_environment
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

DAYS = {"1.0": "2021-03-01", "2.0": "2023-03-01"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose index has `tool` and `part`, both 1.0 of 2021 and 2.0 of 2023, and its channel an old python."""
    index = Index(tmp_path / "index")
    for version in DAYS:
        index.wheel("tool", version, ["part"])
        index.wheel("part", version)
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    home = open_home()
    with dated_index(index.folder / "files", lambda name: DAYS[name.split("-")[1]]) as url:
        home.config.write_text(f'[pypi]\nindex = "{url}"\n')
        yield home


@pytest.fixture
def wish(tmp_path: Path) -> str:
    packages = [record(name, "3.11.7", "linux-64", built="2021-01-01") for name in ("python", "pip")]
    url = make_channel(tmp_path / "channel", *packages)
    return f"channels: ['{url}']\ndependencies: [python, pip, {{pip: [tool]}}]\n"


def pip_versions(home: Home, text: str, as_of: str | None) -> dict[str, str]:
    request = environment_request("conda", "environment.yml", FileTree({"environment.yml": text}), SOURCE)
    lock_id = resolve_environment(replace(request, as_of=as_of), home=home).lock_id
    return {package.name: package.version for package in locked_packages(home, lock_id) if package.manager == "pip"}


def test_pip_packages_are_those_of_the_day_with_all_that_they_require(home: Home, wish: str) -> None:
    assert pip_versions(home, wish, "2021-06-30T23:59:59Z") == {"tool": "1.0", "part": "1.0"}
    assert pip_versions(home, wish, None) == {"tool": "2.0", "part": "2.0"}


def test_a_pip_package_that_did_not_exist_is_named(home: Home, wish: str) -> None:
    with pytest.raises(OrchError, match="tool"):
        pip_versions(home, wish, "2021-02-01T23:59:59Z")
