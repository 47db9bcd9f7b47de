"""A replay holds the runs that it has started against those that its original had started."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import CONDA_YAML, orch, orch_json

Make = Callable[..., Path]
# What is counted in a file of the machine is other in the replay; `same` is not.
PROJECT = """\
name: steps
conda_env: conda.yaml
entry_points:
  main:
    command: "orch run . -e same -q; orch run . -e counts -q; echo done"
  same:
    command: "echo 1 > same.txt; orch log metric n 1"
  counts:
    command: "echo x >> COUNT; wc -l < COUNT > lines.txt; orch log metric lines $(wc -l < COUNT); orch log param p q"
  some:
    command: "echo x >> COUNT; if [ $(wc -l < COUNT) = 1 ]; then s=same; else s=fails; fi; orch run . -e $s; true"
  fails:
    command: "exit 3"
"""


@pytest.fixture
def project(make_project: Make, orch_home: Path, tmp_path: Path) -> Path:
    text = PROJECT.replace("COUNT", str(tmp_path / "count"))
    return make_project({"MLproject": text, "conda.yaml": CONDA_YAML})


def verdict_of(done: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)["verdict"]
    return found


def test_a_step_that_came_out_otherwise_is_a_difference(project: Path) -> None:
    run_id = orch_json("run", project, "-q")["run_id"]
    found = verdict_of(orch("replay", run_id, "--json", "-q", code=1))
    assert found["result"] == "differs"
    assert {item["path"]: item["result"] for item in found["outputs"]} == {
        "same: same.txt": "identical",
        "counts: lines.txt": "different",
    }
    assert {item["name"]: item["result"] for item in found["metrics"]} == {
        "same: n": "equal",
        "counts: lines": "different",
    }
    assert {item["name"]: item["result"] for item in found["params"]} == {"counts: p": "equal"}
    assert found["nested"] == {"compared": 2, "missing": [], "new": [], "changed": [], "note": None}


def test_a_tolerance_holds_for_steps_too(project: Path) -> None:
    run_id = orch_json("run", project, "-q")["run_id"]
    rules = ("-t", "metrics:lines:ignore", "-t", "lines.txt:ignore")
    found = verdict_of(orch("replay", run_id, *rules, "--json", "-q"))
    assert (found["result"], found["unmatched"]) == ("reproduced", [])


def test_steps_that_came_out_again_are_told(project: Path) -> None:
    run_id = orch_json("run", project, "-e", "same", "-q")["run_id"]
    assert "started inside it" not in orch("replay", run_id).stderr
    folder = project / "MLproject"
    folder.write_text(folder.read_text().replace("orch run . -e counts -q; ", ""))
    run_id = orch_json("run", project, "-q")["run_id"]
    said = orch("replay", run_id)
    assert "  1 run started inside it compared too\n" in said.stdout + said.stderr


def test_steps_that_are_gone_new_or_ended_otherwise_are_differences(project: Path) -> None:
    run_id = orch_json("run", project, "-e", "some", "-q")["run_id"]
    said = orch("replay", run_id, code=1)
    told = said.stdout + said.stderr
    assert "  missing     run same\n" in told
    assert "  new         run fails\n" in told


def test_a_bundle_has_no_nested_runs_and_its_replay_says_so(project: Path, orch_home: Path, tmp_path: Path) -> None:
    run_id = orch_json("run", project, "-q")["run_id"]
    said = orch("bundle", "create", run_id, "-o", tmp_path / "run.zip").stderr
    assert "2 runs that it started are not in the bundle" in said
    there = tmp_path / "there"
    there.mkdir(mode=0o700)
    shutil.copy(orch_home / "config.toml", there)
    done = orch("replay", tmp_path / "run.zip", "--yes", code=None, env={"ORCH_HOME": str(there)})
    assert "those that were started inside it were not compared" in " ".join((done.stdout + done.stderr).split())
