"""The examples of the README in other languages log what they say, in a real run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import CHECKOUT, CONDA_YAML, mlproject, orch, orch_json

Make = Callable[..., Path]
LANGUAGES = {"sh": "bash", "r": "Rscript", "julia": "julia"}


def example(language: str) -> str:
    """The block of the README in this language that logs."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (CHECKOUT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if "ORCH_EVENTS" in block]
    return str(found)


def logged(make_project: Make, language: str) -> dict[str, object]:
    """The record of a run whose program is the example."""
    program = LANGUAGES[language]
    if not shutil.which(program):
        pytest.skip(f"there is no {program} here")
    files = {"MLproject": mlproject(f"{program} program"), "conda.yaml": CONDA_YAML, "program": example(language)}
    folder = make_project({**files, "report.html": "<p>good</p>\n", "plots/a.svg": "<svg/>\n"})
    orch("run", folder)
    found: dict[str, object] = orch_json("show")
    assert not [note for note in found["notes"] if "ORCH_EVENTS" in note]  # type: ignore[attr-defined]
    return found


def test_bash(make_project: Make, orch_home: Path) -> None:
    found = logged(make_project, "sh")
    assert (found["metrics"], found["params"], found["tags"]) == ({"rmse": 0.7}, {"depth": "7"}, {"stage": "final"})
    paths = [output["path"] for output in found["outputs"]]  # type: ignore[attr-defined]
    assert paths == ["artifacts/plots/a.svg", "artifacts/report.html"]


@pytest.mark.parametrize("language", ["r", "julia"])
def test_a_language_without_a_library(make_project: Make, orch_home: Path, language: str) -> None:
    found = logged(make_project, language)
    assert found["params"] == {"depth": "7"}
    assert found["metrics"] == {"rmse": pytest.approx(1 / 3)}
