"""A disk that is full keeps nobody from looking at the runs on it, nor from ending them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_disk import small_disk

from e2e.conftest import CONDA_YAML, mlproject, orch, orch_json
from e2e.test_detached import detached, running
from e2e.test_interruption import wait_until

Make = Callable[..., Path]


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return filler


def test_what_runs_on_a_full_disk_is_seen_and_stopped(
    make_project: Make, orch_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_project({"MLproject": mlproject("echo begun; sleep 100"), "conda.yaml": CONDA_YAML})
    with small_disk(tmp_path / "small", "4m") as disk:
        home = disk / "home"
        shutil.copytree(orch_home, home)
        with (home / "config.toml").open("a") as config:
            config.write("".join(f'{name} = "{orch_home / name}"\n' for name in ("store", "work")))
        monkeypatch.setenv("ORCH_HOME", str(home))
        run_id = detached(folder)
        wait_until(lambda: running(run_id))
        filler = fill(disk)

        said = f"  warning      the ledger {home}/ledger.db can't be written: no space left on its disk.\n"
        live = orch("ps", "--json")
        assert said in live.stderr
        assert [run["run_id"] for run in json.loads(live.stdout)] == [run_id]
        assert orch_json("show", "latest")["status"] == "running"
        assert orch("logs", run_id).returncode == 0
        stopped = orch("stop", "latest", "--grace", "20")
        assert stopped.stdout == f"run {run_id[:16]} is stopped by SIGTERM\n"
        assert orch_json("ps") == []

        filler.unlink()
        done = orch("list", "--json")
        assert done.stderr == ""
        assert [run["status"] for run in json.loads(done.stdout) if run["run_id"] == run_id] == ["stopped"]
