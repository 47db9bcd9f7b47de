"""Parameter values reach the program byte for byte, from every quoting state, and execute nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import CONDA_YAML, mlproject, orch

VALUES = ["$(touch canary)", "`touch canary`", "it's", "a b", '"', "line\nbreak", "100%", "", "*", "\\", "-n", "é"]
PRINT = "import json, sys; json.dump(sys.argv[1:], sys.stdout)\n"


@pytest.fixture
def project(make_project: Callable[..., Path], orch_home: Path) -> Path:
    command = "python p.py {v} --x={v} \"{v}\" \"<{v}>\" '{v}' '<{v}>' \"$(printf '%s.' {v})\""
    return make_project({"MLproject": mlproject(command, "v: string"), "conda.yaml": CONDA_YAML, "p.py": PRINT})


@pytest.mark.parametrize("value", VALUES)
def test_a_value_arrives_unchanged(project: Path, tmp_path: Path, value: str) -> None:
    done = orch("run", project, "-P", f"v={value}", cwd=tmp_path, code=0)
    expected = [value, f"--x={value}", value, f"<{value}>", value, f"<{value}>", f"{value}."]
    assert json.loads(done.stdout) == expected
    assert "canary" not in orch("show", "--json").stdout.replace("touch canary", "")


@pytest.mark.parametrize(
    "command", ['bash -c "echo {v}"', "echo $(({v}))", "[[ {v} -eq 1 ]]", "python -c 'print({v})'", "eval echo {v}"]
)
def test_where_it_would_be_evaluated_again_only_a_plain_value_passes(
    make_project: Callable[..., Path], orch_home: Path, command: str
) -> None:
    project = make_project({"MLproject": mlproject(command, "v: string"), "conda.yaml": CONDA_YAML})
    done = orch("run", project, "-P", "v=$(touch canary)", code=None)
    assert done.returncode in (2, 125)
    assert "v" in done.stderr
    orch("run", project, "-P", "v=1")


def test_undeclared_parameters_are_appended(make_project: Callable[..., Path], orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("python p.py"), "conda.yaml": CONDA_YAML, "p.py": PRINT})
    done = orch("run", project, "-P", "depth=$(id)", "-P", "name=a b")
    assert json.loads(done.stdout) == ["--depth", "$(id)", "--name", "a b"]
