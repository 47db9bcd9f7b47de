"""An artifact of one step is the input of the next: a `path` parameter takes its address."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from e2e.conftest import CONDA_YAML, orch, orch_json

PROJECT = """\
name: steps
conda_env: conda.yaml
entry_points:
  load:
    command: "mkdir data; echo 1 > data/numbers.txt; orch log artifact data"
  use:
    parameters: {data: path}
    command: "cat {data}/numbers.txt > copy.txt"
"""


def test_an_artifact_is_an_input_and_is_kept_for_a_replay(orch_home: Path, make_project: Callable[..., Path]) -> None:
    project = make_project({"MLproject": PROJECT, "conda.yaml": CONDA_YAML})
    load = orch_json("run", project, "-e", "load", "-q")
    for address in (f"runs:/{load['run_id']}/data", f"mlflow-artifacts:/0/{load['run_id']}/artifacts/data"):
        use = orch_json("run", project, "-e", "use", "-P", f"data={address}", "-q")
        assert use["params"] == {"data": address}
        (item,) = use["spec"]["inputs"]
        assert item["path"] == "inputs/data"
        shutil.rmtree(item["origin"])
        assert orch_json("replay", use["run_id"], "-q")["verdict"]["result"] == "reproduced"
    orch("run", project, "-e", "use", "-P", f"data=runs:/{load['run_id']}/none", code=125)
