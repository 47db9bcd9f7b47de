"""`orch run --link-scripts` and `--allow-unhashed`: what the user lets happen, and what is recorded of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_channel import record
from made_locks import small_package

from e2e.conftest import SIX_YAML, mlproject, orch, orch_json
from orchestrator.environment.package import Member

TOLD = "python -c 'import os, sys; print(sorted(os.listdir(sys.prefix + \"/share/chatty\")))'"


@pytest.fixture
def scripted(tmp_path: Path, cold_home: Path, make_project: Callable[..., Path]) -> Path:
    """A project with a package that has a post-link script, of a channel of its own."""
    own = tmp_path / "own"
    script = b"touch $PREFIX/share/chatty/made\necho set up > $PREFIX/.messages.txt\n"
    members = [Member("bin/.chatty-post-link.sh", script, executable=True), Member("share/chatty/packed", b"")]
    chatty = small_package(own, "chatty", members)
    facts = record("chatty", "1.0") | {"sha256": chatty.sha256, "size": chatty.size, "noarch": "generic"}
    table = {"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": {chatty.file_name: facts}}
    (own / "noarch/repodata.json").write_text(json.dumps(table))
    yaml = f"channels: [conda-forge, '{own.as_uri()}']\ndependencies: [python, chatty]\n"
    return make_project({"MLproject": mlproject(TOLD), "conda.yaml": yaml})


def test_a_run_with_a_link_script_has_a_prefix_and_an_identity_of_its_own(scripted: Path, cold_home: Path) -> None:
    plain = orch("run", scripted)
    assert plain.stdout == "['packed']\n"
    assert "link scripts were not run, of chatty; only `orch run --link-scripts NAME` runs one." in plain.stderr
    linked = orch("run", scripted, "--link-scripts", "Chatty")
    assert linked.stdout == "['made', 'packed']\n"
    assert "the post-link script of chatty says: set up" in linked.stderr

    one, other = orch_json("list")[::-1]
    assert one["spec_id"] != other["spec_id"]
    shown = orch_json("show")
    assert shown["spec"]["environment"]["link_scripts"] == ["chatty"]
    assert any("set up" in note for note in shown["notes"])
    lock_id = shown["spec"]["environment"]["lock_id"]
    names = [path.name for path in (cold_home / "envs").iterdir() if not path.name.startswith(".")]
    assert sorted(map(len, names)) == [64, 64 + 1 + 16] and all(name.startswith(lock_id) for name in names)

    # Who enters it hears the same, and whoever enters the environment of a run enters that run's.
    assert "link scripts were not run, of chatty" in orch("env", "exec", scripted, "true").stderr
    for run, made in ((one, False), (other, True)):
        assert (
            "made" in orch("env", "exec", run["run_id"], "--", "sh", "-c", "ls $CONDA_PREFIX/share/chatty").stdout
        ) is made
    (known,) = orch_json("env", "list")
    assert known["installed"] and known["runs"] == 2


def test_a_link_script_of_what_is_not_there_is_wrong_usage(scripted: Path) -> None:
    wrong = orch("run", scripted, "--link-scripts", "chaty", code=2)
    assert (
        "--link-scripts chaty: the environment has no conda package of that name; did you mean chatty?" in wrong.stderr
    )
    none = orch("run", scripted, "--link-scripts", "python", code=125)
    assert "--link-scripts python: the package has no post-link script; only chatty has one." in none.stderr
    assert orch_json("list") == []


def test_a_lock_without_hashes_runs_where_it_is_allowed(cold_home: Path, make_project: Callable[..., Path]) -> None:
    command = "python -c 'import six; print(six.__version__)'"
    whole = make_project({"MLproject": mlproject(command), "conda.yaml": SIX_YAML}, "whole")
    orch("run", whole)
    honest = orch_json("show")["spec"]["environment"]["lock_id"]
    text = (cold_home / "locks" / honest / "conda-lock.yml").read_text()
    lock = re.sub(r"\n +sha256: [0-9a-f]+", "", text).replace("- conda.yaml", "- environment.yml")
    bare = make_project(
        {"MLproject": mlproject(command).replace("conda.yaml", "conda-lock.yml"), "conda-lock.yml": lock}
    )

    refused = orch("run", bare, code=125)
    assert "refused; only `orch run --allow-unhashed` takes" in refused.stderr
    taken = orch("run", bare, "--allow-unhashed")
    assert "conda-lock.yml has no sha256 of" in taken.stderr and "taken on trust" in taken.stderr
    shown = orch_json("show")
    assert shown["spec"]["environment"]["lock_id"] == honest
    assert "taken on trust" in json.dumps(shown["notes"])
    assert taken.stdout
