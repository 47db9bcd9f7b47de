"""What a program of a run asks for: whose child it is, and of which commit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from made_records import finished, made_home, made_spec, running, write_journal

from orchestrator import journal
from orchestrator.execute.identity import identify
from orchestrator.model import RunRecord
from orchestrator.nested import run_around, source_inside
from orchestrator.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "home")


@pytest.fixture
def around(home: Home) -> RunRecord:
    """A run that goes on, with a checkout that has a project in a folder."""
    record = running()
    write_journal(home, record)
    (home.work / record.run_id / "checkout" / "deep" / "project").mkdir(parents=True)
    return record


def test_a_process_is_in_the_run_that_its_variable_names(home: Home, around: RunRecord) -> None:
    found = run_around({"ORCH_RUN_ID": around.run_id}, home)
    assert found is not None
    assert found.run_id == around.run_id
    assert found.spec == around.spec


@pytest.mark.parametrize("named", ["", "latest", "0" * 32, "../" * 10 + "ab", "A" * 32])
def test_a_variable_that_names_no_run_of_this_home_is_nothing(home: Home, around: RunRecord, named: str) -> None:
    assert run_around({"ORCH_RUN_ID": named}, home) is None
    assert run_around({}, home) is None


def test_a_run_whose_supervisor_died_still_has_its_program(home: Home) -> None:
    me = identify(os.getpid())
    assert me is not None
    orphan = running(supervisor=replace(me, start=me.start - 1))
    path = write_journal(home, orphan)
    for status in ("running", "orphaned"):  # before and after somebody has seen it
        found = run_around({"ORCH_RUN_ID": orphan.run_id}, home)
        assert found is not None
        assert (found.run_id, found.status) == (orphan.run_id, status)
        journal.append(path, [{"event": "orphaned"}])


def test_a_run_that_has_ended_has_no_program_any_more(home: Home) -> None:
    ended = finished()
    write_journal(home, ended)
    assert run_around({"ORCH_RUN_ID": ended.run_id}, home) is None


def test_a_run_that_was_only_logged_has_no_commit_to_go_on_from(home: Home) -> None:
    logged = running(pinned=None, child=None)
    write_journal(home, logged)
    assert run_around({"ORCH_RUN_ID": logged.run_id}, home) is None


def test_a_folder_of_the_checkout_is_the_commit_of_the_run(
    home: Home, around: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = home.work / around.run_id / "checkout"
    monkeypatch.chdir(checkout / "deep" / "project")
    for text, subdir in ((".", "deep/project"), ("..", "deep"), (str(checkout), ""), (f"{checkout}#deep", "deep")):
        found = source_inside(around, text, None, home)
        assert found is not None, text
        assert found.source == replace(made_spec().source, subdir=subdir)


def test_what_lies_elsewhere_or_has_another_version_is_no_folder_of_the_run(
    home: Home, around: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = home.work / around.run_id / "checkout"
    monkeypatch.chdir(checkout)
    (checkout / "link").symlink_to(tmp_path)
    for text in ("../..", "link", str(tmp_path), "https://example.org/wine.git", "git@example.org:wine.git"):
        assert source_inside(around, text, None, home) is None, text
    assert source_inside(around, ".", "main", home) is None
