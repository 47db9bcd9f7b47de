"""Standard input that the program does not get is told of, and nobody is told who did not give any."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject

NOTE = "the program does not get your standard input; --stdin FILE gives it a file"


@pytest.fixture
def run(make_project: Callable[..., Path], orch_home: Path) -> str:
    """A command of the shell that runs a project."""
    return shlex.join(
        [
            str(ORCH),
            "run",
            str(
                make_project(
                    {
                        "MLproject": mlproject("sleep {seconds}", "seconds: {type: float, default: 0}"),
                        "conda.yaml": CONDA_YAML,
                    }
                )
            ),
        ]
    )


def told(script: str) -> int:
    """How often a script, which has a pipe without an end for its own input, was told of input that is ignored."""
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shell:
        assert shell.stderr is not None
        said = shell.stderr.read()
    assert shell.returncode == 0, said
    return said.count(NOTE)


@pytest.mark.parametrize(
    "given",
    [
        "{run} <lines",
        "echo 1 | {run}",
        "(sleep 0.6; echo 1) | {run} -P seconds=1",  # its first byte comes late
        "echo 1 | {run} --detach",
        "cat lines | {run} --cached",
    ],
)
def test_a_file_or_a_pipe_that_is_given_is_told_of_once(run: str, tmp_path: Path, given: str) -> None:
    (tmp_path / "lines").write_text("1\n2\n")
    assert told(f"cd {tmp_path}; " + given.format(run=run)) == 1


@pytest.mark.parametrize(
    "given",
    [
        "{run}",  # as in a session without a terminal
        "{run} </dev/null",
        "true | {run}",
        "while read line; do {run}; done <lines",
        "cat lines | while read line; do {run}; done",
        "echo 1 | {run} --quiet",
        "echo 1 | {run} --stdin lines",
    ],
)
def test_who_gives_none_or_means_another_is_not_told(run: str, tmp_path: Path, given: str) -> None:
    (tmp_path / "lines").write_text("1\n2\n")
    assert told(f"cd {tmp_path}; " + given.format(run=run)) == 0
