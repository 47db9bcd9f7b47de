"""Homes and environments with MLflow, which the tests of tracked runs share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import CONDA_FORGE, make_home
from filelock import FileLock

from e2e.conftest import mlproject, orch

MLFLOW = {
    "mlflow 3": "[python, mlflow-skinny>=3, alembic, sqlalchemy, skops, pandas, scikit-learn]",
    "mlflow 2": "[python, mlflow-skinny=2, pandas, scikit-learn]",
}
"""What the environments have that MLflow's generations are tried in."""


def mlflow_yaml(generation: str) -> str:
    """The conda.yaml of one of MLFLOW."""
    return f"channels: [conda-forge]\ndependencies: {MLFLOW[generation]}\n"


class Homes:
    """Makes the fresh `ORCH_HOME` of a test, set in the environment, which has an environment of MLFLOW already."""

    def __init__(self, folder: Path, shared: Path, channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.shared, self.channel, self.monkeypatch = folder, shared, channel, monkeypatch

    def __call__(self, generation: str) -> Path:
        """The home."""
        home = make_home(self.folder / "orch-home", self.channel.as_uri(), self.monkeypatch)
        self.monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        there = self._warm(generation)
        shutil.copytree(there / "locks", home / "locks")
        with (home / "config.toml").open("a") as config:
            config.write("[paths]\n" + "".join(f'{name} = "{there / name}"\n' for name in ("envs", "cache")))
        return home

    def _warm(self, generation: str) -> Path:
        home = self.shared / generation.replace(" ", "-")
        with FileLock(f"{home}.lock"):
            if not (home / "ready").exists():
                folder = home / "projects" / "true"
                folder.mkdir(parents=True)
                (home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{self.channel.as_uri()}"]\n')
                (folder / "MLproject").write_text(mlproject("true"))
                (folder / "conda.yaml").write_text(mlflow_yaml(generation))
                orch("run", folder, env={"ORCH_HOME": str(home)})
                (home / "ready").touch()
        return home


@contextmanager
def mlflow_homes(
    folder: Path, factory: pytest.TempPathFactory, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Homes]:
    """For the fixture of a test file; afterwards nothing that a failed test has left runs on."""
    session = factory.getbasetemp()
    shared = session.parent if "PYTEST_XDIST_WORKER" in os.environ else session
    yield Homes(folder, shared, channel, monkeypatch)
    home = str(folder / "orch-home")
    for process in psutil.process_iter() if (folder / "orch-home").is_dir() else ():
        try:
            if process.environ().get("ORCH_HOME") == home and process.pid != os.getpid():
                process.kill()
        except (psutil.Error, OSError):
            continue
