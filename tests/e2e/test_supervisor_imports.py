"""What a supervisor has loaded when its program runs: it stays in memory as long as the program does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch


def test_a_waiting_supervisor_is_small(make_project: Callable[..., Path], orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("echo begun; sleep 3"), "conda.yaml": CONDA_YAML})
    orch("run", project)  # warm
    viewer = subprocess.Popen([ORCH, "run", project], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert viewer.stdout is not None
    assert viewer.stdout.readline() == "begun\n"
    newest = max((orch_home / "runs").iterdir())
    supervisor = psutil.Process(json.loads((newest / "supervisor.json").read_text())["pid"])
    assert supervisor.memory_info().rss < 40 * 2**20
    libraries = {Path(m.path).name for m in supervisor.memory_maps() if ".so" in m.path}
    assert not [name for name in libraries if "rattler" in name or "pydantic" in name]
    viewer.communicate()
