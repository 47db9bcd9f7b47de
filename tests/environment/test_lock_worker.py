"""The worker process: its result is a file, its end means nothing, and it does not outlive who started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import CONDA_FORGE

from orchestrator.environment import lock_path, locked_packages
from orchestrator.environment.host import virtual_packages
from orchestrator.environment.worker import run_job
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

STUCK = f'[mirrors]\n"{CONDA_FORGE}" = ["http://127.0.0.1:9"]\n'
JOB = {
    "kind": "conda",
    "path": "environment.yml",
    "files": {"environment.yml": "ZGVwZW5kZW5jaWVzOiBbcHl0aG9uXQo="},
    "platform": "linux-64",
    "virtual_packages": [],
    "checkout": None,
    "as_of": None,
    "cuda": None,
    "allow_unhashed": False,
    "relock": False,
}
SCRIPT = f"""
from orchestrator.environment.worker import run_job
from orchestrator.paths import open_home
run_job("lock", {JOB!r}, home=open_home())
"""


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


def test_virtual_packages_are_found_once_and_follow_overrides(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    found = virtual_packages(home)
    kept = next((home.cache / "virtual-packages").iterdir())
    kept.write_text('["__kept=1=0"]')
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.4")

    assert any(text.startswith("__") for text in found)
    assert "__cuda=12.4=0" in virtual_packages(home)
    monkeypatch.delenv("CONDA_OVERRIDE_CUDA")
    assert virtual_packages(home) == ("__kept=1=0",)


def test_a_folder_with_modules_of_the_same_names_does_not_lead_the_worker_astray(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("yaml", "rattler", "json", "orchestrator"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('astray')\n")
    monkeypatch.chdir(tmp_path)

    assert run_job("host", {}, home=home)["virtual_packages"]


def test_an_unforeseen_failure_is_told_without_a_traceback(home: Home) -> None:
    with pytest.raises(OrchError, match=r"the environment worker failed: KeyError") as caught:
        run_job("lock", {}, home=home)

    assert "Traceback" not in str(caught.value)


def test_progress_reaches_the_caller(home: Home) -> None:
    said: list[tuple[str, str]] = []

    def report(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        said.append((phase, text))

    run_job("lock", {**JOB, "virtual_packages": virtual_packages(home)}, home=home, report=report)
    assert said == [("environment", "solving environment.yml")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_worker_ends_with_who_started_it(home: Home, number: signal.Signals) -> None:
    # A mirror that refuses keeps the worker busy with its retries.
    home.config.write_text(STUCK)
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=subprocess.DEVNULL)
    worker = started_by(parent.pid)
    os.kill(parent.pid, number)
    parent.wait(10)

    _, alive = psutil.wait_procs([worker], timeout=5)
    assert not alive
    assert not list(home.locks.glob("*/conda-lock.yml"))


def test_a_worker_that_is_killed_is_told(home: Home) -> None:
    home.config.write_text(STUCK)
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=subprocess.PIPE, text=True)
    started_by(parent.pid).kill()
    _, said = parent.communicate(timeout=10)

    assert said.splitlines()[-1].endswith(
        "the environment worker ended by signal 9 before it had a result. Run the same again; signal 9 is what the "
        "system sends when memory runs out."
    )
    assert not list((home.cache / "jobs").iterdir())


def test_what_a_killed_orch_left_is_swept_by_the_next(home: Home) -> None:
    home.config.write_text(STUCK)
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=subprocess.DEVNULL)
    worker = started_by(parent.pid)
    assert len(list((home.cache / "jobs").iterdir())) == 1
    parent.kill()
    parent.wait()
    psutil.wait_procs([worker], timeout=5)

    run_job("host", {}, home=home)
    assert not list((home.cache / "jobs").iterdir())


def test_kills_at_any_moment_leave_no_half_lock(home: Home) -> None:
    script = (
        "from made_trees import SOURCE, FileTree\n"
        "from orchestrator.environment import environment_request, resolve_environment\n"
        "from orchestrator.paths import open_home\n"
        "tree = FileTree({'environment.yml': 'dependencies: [python, six]'})\n"
        "request = environment_request('conda', 'environment.yml', tree, SOURCE)\n"
        "print(resolve_environment(request, home=open_home(), relock=True).lock_id)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", script]
    began = time.monotonic()
    first = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()
    whole = time.monotonic() - began
    for moment in range(1, 5):
        shutil.rmtree(home.locks / first)
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
        time.sleep(whole * moment / 5)
        process.kill()
        process.wait()

        if lock_path(home, first).exists():
            assert locked_packages(home, first)
        again = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()
        assert again == first
        assert locked_packages(home, first)


def started_by(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if children := psutil.Process(pid).children():
            return children[0]
        time.sleep(0.01)
    raise AssertionError("no worker was started")
