"""A lock without sha256 is refused, or taken on trust where the user says so; then it is pinned."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONDA_FORGE
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
from orchestrator.environment.prefix import use_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SIX = "dependencies:\n- python\n- six=1.16\n"
PLATFORM = current_subdir()


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


_made: list[tuple[str, Environment]] = []


@pytest.fixture
def honest(tmp_path: Path, home: Home) -> tuple[str, Environment]:
    """A lock with all hashes, made on another machine (once for all tests here), and what it is there."""
    if not _made:
        other = open_home({"ORCH_HOME": str(tmp_path / "other")})
        other.config.write_bytes(home.config.read_bytes())
        request = environment_request("conda", "environment.yml", FileTree({"environment.yml": SIX}), SOURCE)
        made = resolve_environment(request, home=other)
        _made.append((lock_path(other, made.lock_id).read_text(), made))
    return _made[0]


def adopt(home: Home, lock: str, *, allow_unhashed: bool = True) -> Environment:
    request = environment_request("conda-lock", "conda-lock.yml", FileTree({"conda-lock.yml": lock}), SOURCE)
    return resolve_environment(replace(request, allow_unhashed=allow_unhashed), home=home)


def without(lock: str, kind: str) -> str:
    return re.sub(rf"\n +{kind}: [0-9a-f]+", "", lock)


def changed(lock: str, change: Callable[[dict[str, Any]], object]) -> str:
    table = yaml.safe_load(lock)
    change(table)
    return str(yaml.safe_dump(table))


def row_of(table: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in table["package"] if row["name"] == name)


def with_wheel(lock: str, url: str, **changes: Any) -> str:
    row = {"name": "omega", "version": "1.0", "manager": "pip", "platform": PLATFORM, "dependencies": {}, "url": url}
    row |= {"hash": {}, "category": "main", **changes}
    return changed(lock, lambda table: table["package"].append(row))


def test_it_is_refused_with_the_option_that_takes_it(home: Home, honest: tuple[str, Environment]) -> None:
    with pytest.raises(OrchError, match=r"refused; only `orch run --allow-unhashed` takes what its channel"):
        adopt(home, without(honest[0], "sha256"), allow_unhashed=False)


@pytest.mark.parametrize("gone", [("sha256",), ("sha256", "md5")])
def test_conda_packages_get_the_hashes_of_their_channel_and_are_pinned(
    home: Home, honest: tuple[str, Environment], gone: tuple[str, ...]
) -> None:
    lock, made = honest
    for kind in gone:
        lock = without(lock, kind)
    lock = lock.replace("hash:\n  category", "hash: {}\n  category")
    found = adopt(home, lock)
    assert found.lock_id == made.lock_id
    assert len(found.notes) == 1
    assert (
        f"no sha256 of {made.packages} packages for {PLATFORM} (" in found.notes[0]
        and "taken on trust" in found.notes[0]
    )
    pinned = yaml.safe_load(lock_path(home, found.lock_id).read_text())
    assert {row["hash"]["sha256"] for row in pinned["package"]} == {
        package.sha256 for package in locked_packages(home, found.lock_id)
    }
    again = adopt(home, lock)
    assert again == replace(found, solved=False)
    # The lock that came of it needs no trust.
    assert adopt(home, lock_path(home, found.lock_id).read_text(), allow_unhashed=False).lock_id == made.lock_id


def test_a_lock_with_all_hashes_is_what_it_is_without_the_choice(home: Home, honest: tuple[str, Environment]) -> None:
    found = adopt(home, honest[0])
    assert (found.lock_id, found.notes) == (honest[1].lock_id, ())
    assert lock_path(home, found.lock_id).read_text() == honest[0]


def test_an_md5_that_the_channel_does_not_have_is_refused_with_both(
    home: Home, honest: tuple[str, Environment]
) -> None:
    lock = changed(honest[0], lambda table: row_of(table, "six").update(hash={"md5": "0" * 32}))
    true = row_of(yaml.safe_load(honest[0]), "six")["hash"]["md5"]
    with pytest.raises(OrchError, match=rf"six-1.16.*says md5 {'0' * 32}, the channel .* has\s+{true}\. It is refused"):
        adopt(home, lock)


def test_a_package_that_its_channel_has_no_more_is_named(home: Home, honest: tuple[str, Environment]) -> None:
    def vanish(table: dict[str, Any]) -> None:
        row = row_of(table, "six")
        row["url"] = re.sub(r"six-1\.16\.0", "six-1.15.9", row["url"])
        row.update(version="1.15.9", hash={"md5": "0" * 32})

    with pytest.raises(OrchError, match=rf"six-1\.15\.9.*the channel {CONDA_FORGE} does not have it any more"):
        adopt(home, changed(honest[0], vanish))


def test_a_wheel_gets_the_hash_of_what_is_at_its_url(
    home: Home, honest: tuple[str, Environment], tmp_path: Path
) -> None:
    sha256 = Index(tmp_path / "index").wheel("omega", "1.0")
    with served(tmp_path / "index") as url:
        lock = with_wheel(honest[0], f"{url}/files/omega-1.0-py3-none-any.whl")
        found = adopt(home, lock)
        assert next(p for p in locked_packages(home, found.lock_id) if p.manager == "pip").sha256 == sha256
        assert f"no sha256 of 1 package for {PLATFORM} (omega)" in found.notes[0]
        with use_prefix(found.lock_id, home=home) as prefix:
            assert list(prefix.path.glob("lib/python3*/site-packages/omega.py"))


def test_a_wheel_gets_the_hash_of_the_index_where_its_url_is_out_of_reach(
    home: Home, honest: tuple[str, Environment], tmp_path: Path
) -> None:
    sha256 = Index(tmp_path / "index").wheel("omega", "1.0")
    with served(tmp_path / "index") as url:
        with home.config.open("a") as config:
            config.write(f'[pypi]\nindex = "{url}/simple"\n')
        found = adopt(home, with_wheel(honest[0], "http://127.0.0.1:9/omega-1.0-py3-none-any.whl"))
    assert next(p for p in locked_packages(home, found.lock_id) if p.manager == "pip").sha256 == sha256


def test_a_wheel_that_can_not_be_had_and_a_source_are_refused(home: Home, honest: tuple[str, Environment]) -> None:
    wheel = with_wheel(honest[0], "http://user:secret@127.0.0.1:9/omega-1.0-py3-none-any.whl")
    with pytest.raises(OrchError, match=r"no sha256 of omega-1\.0-py3-none-any\.whl .*, and none can be had") as caught:
        adopt(home, wheel)
    assert "secret" not in str(caught.value)
    with pytest.raises(OrchError, match=r"omega 1\.0, and only the URL of its source.*refused"):
        adopt(home, with_wheel(honest[0], "http://127.0.0.1:9/omega-1.0.tar.gz"))


def test_other_platforms_get_theirs_or_are_left_out_with_a_sentence(
    home: Home, honest: tuple[str, Environment]
) -> None:
    def elsewhere(table: dict[str, Any]) -> None:
        six = {**row_of(table, "six"), "dependencies": {}}
        url = re.sub(r"six-[0-9.]+-", "six-9-", six["url"])
        table["package"].append({**six, "platform": "osx-arm64"})
        table["package"].append({**six, "platform": "win-64", "version": "9", "url": url})

    found = adopt(home, without(changed(honest[0], elsewhere), "sha256"))
    assert found.lock_id == honest[1].lock_id and set(found.others) == {"osx-arm64"}
    assert len(found.notes) == 3
    assert re.search(r"packages for win-64 are not kept .*: six-9-.* does not have it any more", " ".join(found.notes))
    pinned = yaml.safe_load(lock_path(home, found.others["osx-arm64"]).read_text())
    assert all(len(row["hash"]["sha256"]) == 64 for row in pinned["package"])
