"""The shell scripts and the files beside the code: what they say when something is not there, and that they agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import orchestrator

CHECKOUT = Path(__file__).parents[1]
SCRIPTS = ["scripts/bench", "scripts/channel", "scripts/quickstart", "scripts/test", "scripts/venv.bash", ".ci/run"]
TOOLS = ["bash", "cat", "cksum", "dirname", "env", "git", "rm", "sed"]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The scripts in a checkout without a virtual environment, and a `bin` folder with few tools and no Python."""
    for name in (*SCRIPTS, "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def run(checkout: Path, script: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PATH": str(checkout / "bin")}
    return subprocess.run([checkout / script], capture_output=True, text=True, env=environ)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_valid_bash(script: str) -> None:
    subprocess.run(["bash", "-n", CHECKOUT / script], check=True)


@pytest.mark.parametrize("script", ["scripts/quickstart", "scripts/test"])
def test_an_old_python_is_refused_in_one_sentence(bare: Path, script: str) -> None:
    old = bare / "bin" / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit\nexit 1\n')
    old.chmod(0o755)
    done = run(bare, script)
    assert done.returncode == 125
    assert "orch needs Python 3.11 or newer; python3 here is Python 3.9.2." in done.stderr
    assert not (bare / ".venv").exists()


def test_no_python_at_all_is_said(bare: Path) -> None:
    assert "python3 here is not there." in run(bare, "scripts/quickstart").stderr


def test_the_channel_script_says_what_makes_its_virtual_environment(bare: Path) -> None:
    done = run(bare, "scripts/channel")
    assert done.returncode == 125
    assert "run scripts/quickstart or scripts/test once" in done.stderr


def test_the_development_environment_has_what_the_development_group_has() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    group = {canonicalize_name(Requirement(line).name) for line in project["dependency-groups"]["dev"]}
    content = yaml.safe_load((CHECKOUT / "envs/development.yml").read_text())
    (pip,) = (entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict))
    assert {canonicalize_name(Requirement(line).name) for line in pip if not line.startswith("--")} == group - {"orch"}


def test_the_changelog_has_this_version() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## .*\b{re.escape(orchestrator.__version__)}\b", text, re.MULTILINE)
