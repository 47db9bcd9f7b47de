"""Fixtures of the tests of questions: the real MLflow, which answers them too."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from questions.asked import Ask
from tracking.real_mlflow import QUIET, interpreter

PROGRAM = Path(__file__).with_name("answering.py")


@pytest.fixture(scope="session", params=["2", "3"])
def generation(request: pytest.FixtureRequest) -> str:
    """Which MLflow."""
    generation: str = request.param
    return generation


@pytest.fixture(scope="session")
def ask_mlflow(generation: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A function that sends a request to `answering.py`, which runs under that MLflow, and returns its answer."""
    folder = tmp_path_factory.mktemp(f"mlflow-{generation}")
    command = [interpreter(generation, dict(os.environ)), PROGRAM, folder]
    environ = {**os.environ, **QUIET, "HOME": str(folder)}
    with (
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder, env=environ
        ) as child,
    ):

        def ask(request: dict[str, Any]) -> Any:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            assert answer, (folder / "stderr").read_text()[-2000:]
            return json.loads(answer)

        yield ask
        child.kill()  # it has nothing to finish, and takes seconds to end by itself
