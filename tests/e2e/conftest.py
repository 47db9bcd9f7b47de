"""What the end-to-end tests share: the installed `orch`, and projects to run with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ORCH = Path(sys.executable).with_name("orch")

CONDA_YAML = "channels: [conda-forge]\ndependencies: [python]\n"


def orch(*arguments: object, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `orch`; its exit code must be `code` (None: any)."""
    environ = {**os.environ, **options.pop("env", {})}
    done = subprocess.run(
        [ORCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environ,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        timeout=options.pop("timeout", 300),
        **options,
    )
    assert code is None or done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def orch_json(*arguments: object, **options: Any) -> Any:
    """What `orch ... --json` prints."""
    return json.loads(orch(*arguments, "--json", **options).stdout)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; what it prints, without the last newline."""
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.rstrip(
        "\n"
    )


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a git repository of the given files (name -> text), committed on branch main."""

    def make(files: Mapping[str, str], name: str = "project", *, commit: bool = True) -> Path:
        folder = tmp_path / name
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        if commit:
            git(folder, "init", "-q", "-b", "main")
            git(folder, "add", "-A")
            git(folder, "commit", "-q", "-m", "first")
        return folder

    return make


def mlproject(command: str, parameters: str = "") -> str:
    """An MLproject with one entry point."""
    lines = "".join(f"      {line}\n" for line in parameters.splitlines())
    return (
        "name: tried\nconda_env: conda.yaml\nentry_points:\n  main:\n"
        + (f"    parameters:\n{lines}" if lines else "")
        + f"    command: {json.dumps(command)}\n"
    )
