"""`orch run --offline`: what was fetched before runs again, and what was not is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_index import served as serve_folder
from source.repositories import GitServer, serve

from e2e.conftest import CONDA_YAML, SIX_YAML, git, mlproject, orch

FILES = {"MLproject": mlproject("echo ran"), "conda.yaml": CONDA_YAML}


@pytest.fixture
def served(make_project: Callable[..., Path], tmp_path: Path) -> Iterator[GitServer]:
    """Two repositories with a project, behind HTTP."""
    for name in ("known", "unknown"):
        make_project(FILES, name)
    with serve(tmp_path) as server:
        yield server


def test_a_local_project_with_a_known_environment_runs(make_project: Callable[..., Path], orch_home: Path) -> None:
    assert orch("run", "--offline", make_project(FILES)).stdout == "ran\n"


def test_a_folder_with_a_channel_is_all_a_new_machine_needs(make_project: Callable[..., Path], cold_home: Path) -> None:
    project = make_project({"MLproject": mlproject("python -c 'import six'"), "conda.yaml": SIX_YAML})
    orch("run", "--offline", project)


def test_a_channel_that_was_never_read_is_named(make_project: Callable[..., Path], orch_home: Path) -> None:
    project = make_project(
        {**FILES, "conda.yaml": "channels: [https://example.invalid/mine]\ndependencies: [python]\n"}
    )
    done = orch("run", "--offline", project, code=125)
    assert "what the channel https://example.invalid/mine has is not known here, and --offline" in done.stderr
    assert "[mirrors]" in done.stderr


def test_a_repository_that_was_fetched_runs_and_another_is_named(served: GitServer, orch_home: Path) -> None:
    known, unknown = served.url("known/.git"), served.url("unknown/.git")
    orch("run", known)
    before = len(served.requests)
    assert orch("run", "--offline", known).stdout == "ran\n"
    assert orch("run", "--offline", known, "--version", "main").stdout == "ran\n"
    done = orch("run", "--offline", known, "--version", "ab" * 20, code=125)
    assert f"commit {'ab' * 20} of {known} can't be had" in done.stderr
    done = orch("run", "--offline", unknown, code=125)
    assert (
        f"the default branch of {unknown} can't be had: the mirror here does not have it, and --offline" in done.stderr
    )
    assert "run it once without" in done.stderr
    assert len(served.requests) == before


def test_a_commit_whose_mirror_was_damaged_is_not_fetched(served: GitServer, orch_home: Path) -> None:
    known = served.url("known/.git")
    orch("run", known)
    before = len(served.requests)
    for file in orch_home.glob("sources/*/orch/*.json"):
        file.unlink()
    for pack in orch_home.glob("sources/*/objects/pack/pack-*"):
        pack.unlink()
    done = orch("run", "--offline", known, code=125)
    assert "--offline asks no network" in done.stderr
    assert len(served.requests) == before


def test_a_file_url_is_no_network(make_project: Callable[..., Path], orch_home: Path) -> None:
    project = make_project(FILES)
    assert orch("run", "--offline", project.as_uri()).stdout == "ran\n"
    assert orch("run", "--offline", project.as_uri(), "--version", git(project, "rev-parse", "HEAD")).stdout == "ran\n"


def test_a_remote_path_parameter_is_refused(make_project: Callable[..., Path], orch_home: Path, tmp_path: Path) -> None:
    project = make_project({"MLproject": mlproject("cat {table}", "table: path"), "conda.yaml": CONDA_YAML})
    asked: list[str] = []
    with serve_folder(tmp_path, asked=asked) as url:
        table = f"{url.replace('//', '//ada:secret@')}/wines.csv"
        done = orch("run", "--offline", project, "-P", f"table={table}", code=125)
    assert "parameter table: http://127.0.0.1" in done.stderr
    assert "give a file with -P table=FILE" in done.stderr
    assert "secret" not in done.stderr
    assert not asked
