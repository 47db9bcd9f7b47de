"""Many processes at once, and death at any moment: one installs, nothing is ever half there."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import CHECKOUT, CONDA_FORGE
from made_locks import small_package, write_lock

from orchestrator.environment.package import Member
from orchestrator.environment.prefix import use_prefix, verify_prefix
from orchestrator.files import remove_tree
from orchestrator.paths import Home, open_home

USER = """
import sys
from orchestrator.environment.prefix import use_prefix
from orchestrator.paths import open_home
def say(phase, text, **_): print(text, flush=True)
with use_prefix(sys.argv[1], home=open_home(), report=say) as prefix:
    print("ready", prefix.installed, prefix.path, flush=True)
"""


@pytest.fixture
def home(orch_home: Path, tmp_path: Path) -> Home:
    home = open_home()
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{(tmp_path / "own").as_uri()}"]\n')
    return home


@pytest.fixture
def lock_id(home: Home, tmp_path: Path) -> str:
    """An environment of two packages and 600 files."""
    packages = []
    for name in ("one", "two"):
        members = [Member(f"share/{name}/{n // 20}/{n}", f"{name} {n}\n".encode() * 200) for n in range(300)]
        packages.append(small_package(tmp_path / "own", name, members))
    return write_lock(home, packages)


def start(lock_id: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, lock_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )


def test_of_sixteen_at_once_one_installs_and_all_use_it(home: Home, lock_id: str) -> None:
    processes = [start(lock_id)]
    worker = worker_of(processes[0])
    worker.suspend()  # on a busy machine it might be done before the others have looked
    processes += [start(lock_id) for _ in range(15)]
    assert processes[1].stdout is not None
    waiting = processes[1].stdout.readline()
    assert "waiting for process" in waiting
    assert "which installs it" in waiting
    worker.resume()
    ready = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
    assert sorted(ready) == sorted([f"ready True {home.envs / lock_id}"] + [f"ready False {home.envs / lock_id}"] * 15)
    assert verify_prefix(home.envs / lock_id) == ()


def test_of_many_that_find_drift_one_mends_and_no_copy_is_made(home: Home, lock_id: str) -> None:
    with use_prefix(lock_id, home=home) as prefix:
        path = prefix.path
    os.chmod(path / "share", 0o755)
    (path / "share/new.txt").touch()
    ready = [process.communicate(timeout=60)[0].splitlines()[-1] for process in [start(lock_id) for _ in range(8)]]
    assert sorted(ready) == sorted([f"ready True {path}"] + [f"ready False {path}"] * 7)


@pytest.mark.parametrize("victim", ["installer", "worker"])
def test_killed_at_any_moment_the_next_one_completes(home: Home, lock_id: str, victim: str) -> None:
    chance = random.Random(victim)
    hits = 0
    for _ in range(6):
        remove_tree(home.envs / lock_id)
        process = start(lock_id)
        worker = worker_of(process)
        time.sleep(chance.uniform(0, 0.25))
        killed = worker if victim == "worker" else psutil.Process(process.pid)
        hits += killed.is_running()
        with suppress(psutil.NoSuchProcess):
            killed.kill()
        process.communicate(timeout=30)
        wait_for_end(worker)
        assert not (home.envs / lock_id).exists() or verify_prefix(home.envs / lock_id) == ()
    assert hits
    # Threads of a killed worker may outlive its main thread for a moment, and hold its guard. Whoever builds after
    # that sweeps.
    while not all(is_free(guard) for guard in home.envs.glob(".building/*.lock")):
        time.sleep(0.01)
    remove_tree(home.envs / lock_id)
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.path == home.envs / lock_id and verify_prefix(prefix.path) == ()
        assert list(home.envs.glob(".building/*")) == []


def is_free(guard: Path) -> bool:
    """Whether no process holds the lock on the file."""
    with suppress(FileNotFoundError), guard.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    while True:
        for child in psutil.Process(process.pid).children():
            return child
        time.sleep(0.005)


def wait_for_end(process: psutil.Process) -> None:
    """Until it is gone, or only its exit code is left for an init that may take its time."""
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def test_warm_use_loads_nothing_heavy(home: Home, lock_id: str) -> None:
    with use_prefix(lock_id, home=home):
        pass
    code = f"""
import sys
from orchestrator.paths import open_home
from orchestrator.environment.prefix import use_prefix
with use_prefix({lock_id!r}, home=open_home()) as prefix:
    from orchestrator.environment.activate import activated
    activated(prefix.path, {{"PATH": "/bin"}})
heavy = "rattler conda_lock yaml psutil git sqlite3 rich typer filelock asyncio concurrent.futures shutil http".split()
print(sorted(set(heavy) & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *(p for p in sys.path if "site-packages" in p)]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_what_dead_builders_left_is_swept(home: Home, lock_id: str, tmp_path: Path) -> None:
    building = home.envs / ".building"
    building.mkdir()
    for name in ("a.11111111", "a.11111111.old", "b.22222222"):
        (building / name / "lib").mkdir(parents=True)
        (building / name / "lib").chmod(0o555)
    for guard in ("a.11111111.lock", "b.22222222.lock"):
        (building / guard).touch()
    with use_prefix(lock_id, home=home):
        assert list(building.iterdir()) == []


def test_build_of_a_living_process_is_not_swept(home: Home, lock_id: str) -> None:
    import fcntl

    building = home.envs / ".building"
    (building / "a.11111111").mkdir(parents=True)
    with (building / "a.11111111.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_SH)
        with use_prefix(lock_id, home=home):
            assert (building / "a.11111111").exists()
