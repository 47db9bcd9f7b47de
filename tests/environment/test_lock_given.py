"""A lock that the project brings is used as it is when it matches, and refused or replaced with a sentence when not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_index import Index, served
from made_trees import SOURCE, FileTree

from orchestrator.environment import (
    Environment,
    environment_request,
    lock_path,
    locked_packages,
    resolve_environment,
)
from orchestrator.environment.host import current_subdir
from orchestrator.environment.lock import Kind
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SIX = "dependencies:\n- python\n- six=1.16\n"
PLATFORM = current_subdir()


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def other_home(tmp_path: Path, home: Home) -> Home:
    """The machine of somebody else, who has made the lock."""
    other = open_home({"ORCH_HOME": str(tmp_path / "other")})
    other.config.write_bytes(home.config.read_bytes())
    return other


def resolve(home: Home, files: dict[str, str], kind: Kind = "conda") -> Environment:
    name = {"conda": "environment.yml"}.get(kind, "conda-lock.yml")
    return resolve_environment(environment_request(kind, name, FileTree(files), SOURCE), home=home)


def made_lock(home: Home, text: str = SIX) -> str:
    return lock_path(home, resolve(home, {"environment.yml": text}).lock_id).read_text()


def changed(lock: str, change: Callable[[dict[str, Any]], object]) -> str:
    table = yaml.safe_load(lock)
    change(table)
    return yaml.safe_dump(table, sort_keys=False)


def test_a_lock_that_matches_is_used_as_it_is(home: Home, other_home: Home) -> None:
    lock = made_lock(other_home) + "# as it is\n"
    environment = resolve(home, {"environment.yml": SIX, "conda-lock.yml": lock})

    assert not environment.solved
    assert environment.notes == ()
    assert lock_path(home, environment.lock_id).read_text() == lock
    assert environment.lock_id == resolve(other_home, {"environment.yml": SIX}).lock_id


def test_a_lock_for_several_platforms_gives_this_ones_packages(home: Home, other_home: Home) -> None:
    def another(table: dict[str, Any]) -> None:
        rows = [{**row, "platform": "win-64", "name": f"{row['name']}-w"} for row in table["package"]]
        table["package"] += rows
        table["metadata"]["platforms"].append("win-64")
        table["metadata"]["content_hash"]["win-64"] = "0" * 64

    lock = changed(made_lock(other_home), another)
    environment = resolve(home, {"environment.yml": SIX, "conda-lock.yml": lock})

    assert not environment.solved
    assert all(not package.name.endswith("-w") for package in locked_packages(home, environment.lock_id))


def test_variables_come_from_the_environment_file_also_with_a_lock(home: Home, other_home: Home) -> None:
    text = "variables: {A: b}\n" + SIX
    environment = resolve(home, {"environment.yml": text, "conda-lock.yml": made_lock(other_home, text)})

    assert environment.variables == {"A": "b"}
    assert not environment.solved


def test_a_lock_that_does_not_match_is_solved_anew_and_told(home: Home, other_home: Home) -> None:
    files = {"environment.yml": SIX.replace("1.16", "1.17"), "conda-lock.yml": made_lock(other_home)}
    environment = resolve(home, files)

    assert environment.solved
    assert environment.notes == (
        "conda-lock.yml does not match environment.yml (conda-lock's content hash): the environment was solved anew.",
    )
    assert {p.version for p in locked_packages(home, environment.lock_id) if p.name == "six"} == {"1.17.0"}


def test_a_lock_without_this_platform_beside_an_environment_file_is_solved_anew(home: Home, other_home: Home) -> None:
    lock = made_lock(other_home).replace(PLATFORM, "plan9-64")
    environment = resolve(home, {"environment.yml": SIX, "conda-lock.yml": lock})

    assert environment.solved
    assert f"conda-lock.yml has nothing for {PLATFORM}" in environment.notes[0]


def test_a_lock_alone_is_an_environment(home: Home, other_home: Home) -> None:
    environment = resolve(home, {"conda-lock.yml": made_lock(other_home)}, "conda-lock")

    assert not environment.solved
    assert "six" in {package.name for package in locked_packages(home, environment.lock_id)}


def test_a_lock_alone_without_this_platform_is_refused_with_those_it_has(home: Home, other_home: Home) -> None:
    lock = made_lock(other_home).replace(f"platform: {PLATFORM}", "platform: plan9-64")

    with pytest.raises(OrchError, match=f"conda-lock.yml has no packages for {PLATFORM}; it has plan9-64"):
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")


def test_a_package_without_sha256_is_refused(home: Home, other_home: Home) -> None:
    lock = re.sub(r"\n +sha256: [0-9a-f]{64}", "", made_lock(other_home), count=1)

    with pytest.raises(OrchError, match=r"conda-lock.yml has no sha256 for python .* is refused"):
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")


def test_forms_of_the_wild_are_read(home: Home, other_home: Home) -> None:
    def wild(table: dict[str, Any]) -> None:
        table["metadata"]["channels"] = ["conda-forge"]
        for row in table["package"]:
            row["hash"] = f"sha256:{row['hash']['sha256']}"
            row["dependencies"] = {**row["dependencies"], "__unix": "", "odd": ">=1,<2 || >2"}
            del row["build"]

    lock = changed(made_lock(other_home), wild)
    environment = resolve(home, {"conda-lock.yml": lock}, "conda-lock")

    assert environment.lock_id == resolve(other_home, {"environment.yml": SIX}).lock_id
    assert all(package.build for package in locked_packages(home, environment.lock_id))


def test_other_categories_are_left_out_and_told(home: Home, other_home: Home) -> None:
    def develop(table: dict[str, Any]) -> None:
        next(row for row in table["package"] if row["name"] == "six")["category"] = "dev"

    environment = resolve(home, {"conda-lock.yml": changed(made_lock(other_home), develop)}, "conda-lock")

    assert "six" not in {package.name for package in locked_packages(home, environment.lock_id)}
    assert environment.notes == ("conda-lock.yml: the categories dev are not installed, only main.",)


def test_a_source_archive_in_a_lock_is_built(home: Home, other_home: Home, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    digest = index.source("omega", "0.1")
    with served(index.folder) as url:
        row = {
            "name": "omega",
            "version": "0.1",
            "manager": "pip",
            "platform": PLATFORM,
            "dependencies": {},
            "url": f"{url}/files/omega-0.1.tar.gz",
            "hash": {"sha256": digest},
            "category": "main",
            "optional": False,
        }
        lock = changed(made_lock(other_home), lambda table: table["package"].append(row))
        environment = resolve(home, {"conda-lock.yml": lock}, "conda-lock")

    omega = next(package for package in locked_packages(home, environment.lock_id) if package.name == "omega")
    assert (omega.file_name, omega.source_sha256) == ("omega-0.1-py3-none-any.whl", digest)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("package: [\n", "is not valid YAML"),
        ("a: b\n", "is not a conda-lock file"),
        ("version: 7\npackage: []\n", "has version 7; orch reads version 1"),
        (f"version: 1\npackage: [{{platform: {PLATFORM}}}]\n", "has a package that can't be read"),
        ("version: 1\npackage: []\n", f"has no packages for {PLATFORM}; it has none"),
    ],
)
def test_what_is_no_lock_is_refused_with_a_sentence(home: Home, text: str, sentence: str) -> None:
    with pytest.raises(OrchError, match=re.escape(sentence)):
        resolve(home, {"conda-lock.yml": text}, "conda-lock")
