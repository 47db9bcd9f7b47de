"""What a user asks of a replay: where an input is, what to pass over, no word; and wrong answers to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import CONDA_YAML, mlproject, orch, orch_json

Make = Callable[..., Path]

LOGS = """
import json, os, time
os.mkdir("logs")
now = str(time.time_ns())
open(f"logs/{now}.log", "w").write(now)
open("a.txt", "w").write("1")
with open(os.environ["ORCH_EVENTS"], "w") as events:
    print(json.dumps({"metric": f"seconds-{now}", "value": 1}), file=events)
"""
"""A program whose log and one of whose metrics have the time in their names."""


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[..., Path]:
    """A function that makes a project of one Python program; `declared` is added to its MLproject."""

    def project(program: str, declared: str = "") -> Path:
        first = mlproject("python main.py") + declared
        return make_project({"MLproject": first, "conda.yaml": CONDA_YAML, "main.py": program})

    return project


@pytest.fixture
def bundled(make: Make, tmp_path: Path) -> Path:
    """The bundle of a run that is not here any more."""
    run = orch_json("run", make("print('said')\nopen('a', 'w').write('1')\n"), "-q")
    orch("bundle", "create", "-o", tmp_path / "run.zip")
    orch("rm", run["run_id"])
    return tmp_path / "run.zip"


def results(record: dict[str, Any], kind: str = "outputs") -> list[str]:
    return [item["result"] for item in record["verdict"][kind]]


# --- inputs -----------------------------------------------------------------------------------------------------


def test_a_place_that_the_user_names_must_have_the_bytes_though_they_were_kept(make: Make, tmp_path: Path) -> None:
    data, other = tmp_path / "data.csv", tmp_path / "other.csv"
    data.write_text("1\n")
    other.write_text("2\n")
    run = orch_json("run", make("pass\n"), "--input", data, "--store-inputs", "-q")
    (recorded,) = run["spec"]["inputs"]
    said = orch("replay", "--input", f"{other}=inputs/data.csv", code=125).stderr
    assert f"{other}, named for the input inputs/data.csv, is not what the run had" in said
    assert recorded["sha256"] in said
    assert "environment" not in said
    data.write_text("3\n")
    assert orch_json("replay")["verdict"]["result"] == "reproduced"
    assert len(orch_json("list")) == 2


def test_an_input_that_is_gone_is_noticed_before_the_environment_is_made(make: Make, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1\n")
    orch("run", make("pass\n"), "--input", data, "-q")
    data.unlink()
    said = orch("replay", code=125).stderr
    assert "the input data.csv" in said
    assert "environment" not in said


# --- what is not compared -----------------------------------------------------------------------------------------


def test_files_and_metrics_with_the_time_in_their_names_are_passed_over(make: Make) -> None:
    declared = "outputs:\n  'logs/**': ignore\nmetrics:\n  'seconds-*': ignore\n"
    orch("run", make(LOGS, declared), "-q")
    record = orch_json("replay")
    assert sorted(results(record)) == ["identical", "ignored", "ignored"]
    assert results(record, "metrics") == ["ignored", "ignored"]
    said = orch("replay").stdout
    assert "by logs/**: ignore *; missing" in said
    assert "by seconds-*: ignore" in said


def test_a_rule_that_the_project_lacks_is_added_when_it_is_replayed(make: Make) -> None:
    orch("run", make(LOGS), "-q")
    assert sorted(results(orch_json("replay", code=1))) == ["identical", "missing", "new"]
    again = orch_json("replay", "--compare", "-t", "logs/**:ignore", "-t", "metrics:seconds-*:ignore")
    assert sorted(results(again)) == ["identical", "ignored", "ignored"]


def test_what_is_passed_over_is_not_said_to_vary(make: Make) -> None:
    orch("run", make(LOGS.replace('"1"', "str(time.time())")), "-q")
    ignored = ("-t", "logs/**:ignore", "-t", "metrics:ignore")
    said = orch("replay", "--repeat", "2", *ignored, code=1).stdout
    assert "\na.txt: not the same in 2 replays" in said


def test_fields_are_passed_over_from_the_command_line(make: Make) -> None:
    program = "import time, json\njson.dump({'same': 1, 'when': time.time()}, open('out.json', 'w'))\n"
    orch("run", make(program), "-q")
    assert results(orch_json("replay", "-t", "*.json:ignore=when")) == ["equivalent"]


def test_a_pattern_that_nothing_matches_is_told(make: Make) -> None:
    orch("run", make("open('a.csv', 'w').write('1')\n"), "-q")
    done = orch("replay", "-t", "*.cvs:1e-6", "-t", "*.csv:1e-6", "-t", "metrics:rmse:ignore")
    told = "  note        -t *.cvs: there is no output like that\n"
    assert done.stdout.endswith(told + "  note        -t metrics:rmse: there is no metric like that\n")
    assert orch_json("show")["verdict"]["unmatched"] == ["*.cvs", "metrics:rmse"]
    assert told in orch("show").stdout


def test_what_is_not_stored_any_more_is_not_said_to_differ(make: Make, orch_home: Path) -> None:
    program = "import os\nopen('x.txt', 'w').write(os.urandom(4).hex())\nopen('a', 'w').write('1')\n"
    run = orch_json("run", make(program), "-q")
    for output in run["outputs"]:
        (orch_home / "store" / output["sha256"][:2] / output["sha256"][2:]).unlink()
    said = orch("replay", code=125).stderr
    assert f"nobody can tell whether x.txt came out again: that of run {run['run_id'][:16]} can't be read (" in said
    newest = orch_json("list")[0]
    assert "finished, not compared" in orch("list").stdout
    advice = f"orch replay --compare {newest['run_id'][:16]} -t x.txt:ignore"
    assert f"{advice} compares the rest" in said
    assert results(orch_json(*advice.split()[1:])) == ["identical", "ignored"]


def test_a_program_that_failed_again_is_reproduced_and_that_is_said(make: Make) -> None:
    orch("run", make("import sys\nsys.exit(3)\n"), "-q", code=3)
    said = orch("replay").stdout
    assert "reproduced: run " in said
    assert "  exit code   3, as recorded: it failed again\n" in said


# --- a replay whose original is gone --------------------------------------------------------------------------------


def test_a_replay_without_its_original_is_the_measure_of_the_next(make: Make) -> None:
    run = orch_json("run", make("open('a', 'w').write('1')\n"), "-q")
    first = orch_json("replay")
    orch("rm", run["run_id"])
    said = orch("replay", "--compare", code=125).stderr
    assert f"the original of run {first['run_id']}, run {run['run_id']}, is not here any more" in said
    assert f"orch replay {first['run_id'][:16]} runs it again" in said
    done = orch("replay", "--json", first["run_id"])
    record = json.loads(done.stdout)
    assert (record["replay_of"], record["verdict"]["result"]) == (first["run_id"], "reproduced")
    told = f"run {run['run_id'][:16]}, is not here any more: held against run {first['run_id'][:16]} itself."
    assert any(told in note for note in record["notes"])
    assert told in done.stderr
    assert orch_json("replay", record["run_id"])["replay_of"] == first["run_id"]


# --- no word --------------------------------------------------------------------------------------------------------


def test_quiet_is_no_word_but_errors(make: Make, bundled: Path) -> None:
    for arguments in ((bundled, "--yes"), (bundled, "--yes", "-t", "*.cvs:1"), ("latest", "--yes")):
        done = orch("replay", "-q", *arguments)
        assert (done.stdout, done.stderr) == ("", "")
    assert orch("logs").stdout == "said\n"
    assert json.loads(orch("replay", "-q", "--json", "--yes", bundled).stdout)["verdict"]["result"] == "reproduced"
    assert "said" in orch("replay", "--yes", bundled).stdout
    assert orch("replay", "-q", "--input", f"{bundled}=x", bundled, "--yes", code=125).stderr.startswith("orch: ")


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_no_bundle_is_taken_in_before_all_options_are_understood(bundled: Path) -> None:
    for option in (("-t", "nonsense"), ("--timeout", "x"), ("-P", "x"), ("--input", "/nowhere/x=y")):
        orch("replay", bundled, "--yes", *option, code=2)
        assert orch_json("list") == [], option


def test_what_looks_like_a_file_is_meant_as_a_bundle(make: Make, tmp_path: Path) -> None:
    (tmp_path / "junk.zip").write_text("text\n")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    for name, code in (("nosuch.zip", 2), ("no/such", 2), ("folder", 2), (".", 2), ("junk.zip", 125), ("empty", 125)):
        said = orch("replay", name, code=code, cwd=tmp_path).stderr
        assert said.startswith("orch: ")
        assert name in said
        assert "begins with" not in said
    assert "no run has an id that begins with" in orch("replay", "nosuch", code=125, cwd=tmp_path).stderr


def test_a_run_is_found_by_its_name_beside_a_file_of_that_name(make: Make, tmp_path: Path) -> None:
    orch("run", make("pass\n"), "-q", "--run-name", "tried")
    (tmp_path / "tried").mkdir()
    assert orch_json("replay", "tried", cwd=tmp_path)["verdict"]["result"] == "reproduced"
