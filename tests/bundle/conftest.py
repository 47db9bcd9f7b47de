"""Fixtures of the tests of bundles: the validator of RO-Crates, in an environment of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from uv import find_uv_bin

CHECKOUT = Path(__file__).parents[2]
CONTEXT = CHECKOUT / "tests" / "fixtures" / "ro-crate-1.1-context.jsonld"
REQUIREMENT = "roc-validator>=0.13,<0.14"

Issues = list[list[str]]


@pytest.fixture(scope="session")
def issues_of() -> Callable[..., list[Issues]]:
    """A function: what roc-validator finds wrong with each of several crates (folders), as `[check, message]`.

    Required and recommended level, profile Process Run Crate, without network.
    """
    python = _environment() / "bin" / "python"
    runner = Path(__file__).with_name("roc_validator.py")

    def validate(*crates: Path) -> list[Issues]:
        done = subprocess.run([python, runner, CONTEXT, *crates], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        issues: list[Issues] = json.loads(done.stdout)
        return issues

    return validate


def _environment() -> Path:
    """The environment of the validator, kept between sessions. It is apart, for it wants an older rich than orch."""
    key = hashlib.sha256(f"{REQUIREMENT}\0{sys.version}".encode()).hexdigest()[:12]
    cache = CHECKOUT / ".cache" / "roc-validator"
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / key
    with FileLock(cache / f"{key}.lock"):
        if not directory.exists():
            aside = cache / f"{key}.new"
            shutil.rmtree(aside, ignore_errors=True)
            _uv("venv", "--quiet", "--relocatable", "--python", sys.executable, aside)
            _uv("pip", "install", "--quiet", "--python", aside / "bin" / "python", REQUIREMENT)
            aside.rename(directory)
    return directory


def _uv(*arguments: str | os.PathLike[str]) -> None:
    subprocess.run([find_uv_bin(), *arguments], check=True)
