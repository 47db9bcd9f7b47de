"""What the end-to-end tests share: the installed `orch`, and projects to run with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

# Where the tests themselves were started with nohup, or in the background of a script, every program of theirs would
# ignore these.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ORCH = Path(sys.executable).with_name("orch")

CHECKOUT = Path(__file__).parents[2]
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"
CONDA_YAML = "channels: [conda-forge]\ndependencies: [python]\n"
SIX_YAML = "channels: [conda-forge]\ndependencies: [python, six]\n"


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


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Path:
    """An `ORCH_HOME` that has the usual environments, shared by the workers of a session."""
    session = tmp_path_factory.getbasetemp()
    home = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "warm-home"
    with FileLock(f"{home}.lock"):
        if not (home / "ready").exists():
            home.mkdir(mode=0o700)
            (home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel.as_uri()}"]\n')
            for name, yaml in (("python", CONDA_YAML), ("six", SIX_YAML)):
                folder = home / "projects" / name
                folder.mkdir(parents=True)
                (folder / "MLproject").write_text(mlproject("true"))
                (folder / "conda.yaml").write_text(yaml)
                orch("run", folder, env={"ORCH_HOME": str(home)})
            (home / "ready").touch()
    return home


@pytest.fixture
def orch_home(cold_home: Path, warm: Path) -> Iterator[Path]:
    """An `ORCH_HOME` whose usual environments are solved and installed already, and that has nothing else."""
    shutil.copytree(warm / "locks", cold_home / "locks")
    with (cold_home / "config.toml").open("a") as config:
        config.write("[paths]\n" + "".join(f'{name} = "{warm / name}"\n' for name in ("envs", "cache")))
    yield cold_home
    _end_what_runs(cold_home)


def _end_what_runs(home: Path) -> None:
    """A test that failed has left a run, perhaps, which would take the processor from all that follow."""
    runs = os.listdir(home / "runs") if (home / "runs").is_dir() else []
    for process in psutil.process_iter() if runs else ():
        with contextlib.suppress(psutil.Error, OSError):
            variables = process.environ()
            is_orch = str(ORCH) in process.cmdline() and variables.get("ORCH_HOME") == str(home)
            if is_orch or variables.get("ORCH_RUN_ID") in runs:
                process.kill()


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
