"""scripts/quickstart in a fresh clone, with a channel and a virtual environment that are there."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing
from pathlib import Path

import pytest

from e2e.conftest import orch

CHECKOUT = Path(__file__).parents[2]
RESULT = "Elasticnet model (alpha=5.1, l1_ratio=0.1): RMSE 0.86"


@pytest.fixture
def clone(tmp_path: Path, science_channel: Path) -> Path:
    """A clone with blanks in its path, whose default channel is the one of the tests."""
    clone = tmp_path / "a clone"
    for name in ("examples", "scripts", "orchestrator", "envs", ".gitignore", "pyproject.toml", "README.md"):
        source, target = CHECKOUT / name, clone / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copy(CHECKOUT / "tests/fixtures/science.yml", clone / "envs/channel.yml")
    (clone / ".cache").mkdir()
    (clone / ".cache/channel").symlink_to(science_channel)
    make_venv(clone)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", clone, *command], check=True)
    return clone


def make_venv(clone: Path) -> None:
    """A virtual environment that borrows the installed packages of the one that runs the tests."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    site = clone / ".venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site / "borrowed.pth").write_text(f"{clone}\n{sysconfig.get_path('purelib')}\n")
    command = clone / ".venv/bin/orch"
    command.write_text('#!/bin/sh\nexec "$(dirname -- "$0")/python" -m orchestrator "$@"\n')
    command.chmod(0o755)
    script = ". scripts/venv.bash && what_to_install > .venv/installed-for-quickstart"
    subprocess.run(["bash", "-c", script], cwd=clone, check=True)


def quickstart(clone: Path) -> str:
    """What it prints, to stdout and stderr."""
    environ = {key: value for key, value in os.environ.items() if key != "ORCH_HOME"}
    environ |= {"PYTHONDONTWRITEBYTECODE": "1", "GIT_DIR": "/nowhere"}
    done = subprocess.run([clone / "scripts/quickstart"], capture_output=True, text=True, env=environ, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_quickstart_leaves_the_checkout_clean_and_then_all_of_the_readme_works(clone: Path) -> None:
    the_quickstart_runs_and_shows_and_brings_back_and_leaves_the_checkout_clean(clone)
    every_command_and_query_of_the_readme_works(clone)


def the_quickstart_runs_and_shows_and_brings_back_and_leaves_the_checkout_clean(clone: Path) -> None:
    shown = quickstart(clone)
    assert RESULT in shown
    assert "orch run --version main file://" in shown
    assert "installing" in shown
    outputs = clone / ".cache/quickstart/outputs"
    assert {path.name for path in outputs.iterdir()} == {"model.json", "predictions.csv"}
    assert subprocess.run(["git", "-C", clone, "status", "--short"], capture_output=True, check=True).stdout == b""

    again = quickstart(clone)
    assert RESULT in again
    assert "solving" not in again
    assert "installing" not in again


def every_command_and_query_of_the_readme_works(clone: Path) -> None:
    readme = (clone / "README.md").read_text()
    commands = [
        line[2:]
        for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    assert len(commands) >= 10
    shown = ""
    home = clone / ".cache/quickstart/home"
    environ = {**os.environ, "ORCH_HOME": str(home), "PATH": f"{clone / '.venv/bin'}:{os.environ['PATH']}"}
    for command in commands:
        command = command.replace("file://$PWD", (clone.as_uri()))  # this clone has blanks in its path
        done = subprocess.run(["bash", "-c", command], cwd=clone, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        shown += done.stdout
    results = re.findall(r"Elasticnet.*|[a-z0-9]+=[0-9.]+(?= )", readme)
    assert len(results) >= 8
    assert [result for result in results if result not in shown] == []
    for query in re.findall(r"```sql\n(.*?)```", readme, re.DOTALL):
        with closing(sqlite3.connect(home / "ledger.db")) as connection:
            connection.execute(query).fetchall()


def test_the_options_that_the_readme_names_are_there() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    commands = (["run"], ["replay"], ["bundle", "create"])
    shown = "".join(orch(*command, "--help").stdout for command in commands)
    for option in re.findall(r"`(--?[a-z][a-z-]*)`", readme):
        assert option in shown


def test_the_bundle_commands_and_options_that_the_readme_names_are_there() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    named = re.findall(r"orch (replay|bundle [a-z]+)([^`\n]*)", readme)
    assert {"replay", "bundle create", "bundle verify", "bundle import"} == {command for command, _ in named}
    for command, rest in named:
        shown = orch(*command.split(), "--help").stdout
        for option in re.findall(r"(?<= )--?[a-z][a-z-]*", rest):
            assert option in shown


def test_the_environment_commands_and_options_that_the_readme_names_are_there() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    named = re.findall(r"orch env ([a-z]+)([^`\n]*)", readme)
    assert {command for command, _ in named} == set(re.findall(r"^  ([a-z]+) ", orch("env", "--help").stdout, re.M))
    for command in {command for command, _ in named}:
        shown = orch("env", command, "--help").stdout
        given = " ".join(rest.partition(" -- ")[0] for name, rest in named if name == command)
        for option in re.findall(r"(?<= )--?[a-z][a-z-]*", given):
            assert option in shown
