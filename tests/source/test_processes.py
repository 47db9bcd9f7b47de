"""Many processes at once, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from source.repositories import commit, git, listing, serve, write

from orchestrator.paths import Home
from orchestrator.source import checkout, resolve_source

SCRIPT = """
import sys
from pathlib import Path
from orchestrator.paths import open_home
from orchestrator.source import checkout, resolve_source
home = open_home({"ORCH_HOME": sys.argv[1]})
resolved = resolve_source(sys.argv[2], None, home=home)
checkout(resolved.source, Path(sys.argv[3]), home=home)
print(resolved.source.commit)
"""


def start(home: Home, text: str, into: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(home.root), text, str(into)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("kind", ["url", "clean", "dirty", "plain"])
def test_eight_at_once(repository: Path, home: Home, tmp_path: Path, kind: str) -> None:
    text = repository.as_uri() if kind == "url" else str(repository)
    if kind == "dirty":
        write(repository, {"main.py": "print(2)\n", "new": "1"})
    if kind == "plain":
        text = str(tmp_path / "plain")
        write(tmp_path / "plain", {"a": "1", "b/c": "2"})
    running = [start(home, text, tmp_path / f"w{i}") for i in range(8)]
    outs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 8, outs
    assert len({out for out, _ in outs}) == 1
    assert len({tuple(sorted(listing(tmp_path / f"w{i}").items())) for i in range(8)}) == 1
    assert not [path for path in home.sources.iterdir() if path.name.startswith(".") and path.is_dir()]


def test_eight_at_once_while_the_branch_moves(repository: Path, home: Home, tmp_path: Path) -> None:
    resolve_source(repository.as_uri(), None, home=home)
    running = []
    for i in range(8):
        commit(repository, {"main.py": f"print({i})\n"})
        running.append(start(home, repository.as_uri(), tmp_path / f"w{i}"))
    outs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 8, outs


def test_a_kill_at_any_moment_of_the_first_fetch_is_survived(repository: Path, tmp_path: Path, home: Home) -> None:
    commit(repository, {f"d{i}/{j}": os.urandom(2000) for i in range(20) for j in range(20)})
    with serve(repository.parent) as server:
        url = server.url("project/.git")
        for step in range(8):
            process = start(home, url, tmp_path / f"w{step}")
            time.sleep(0.12 + 0.06 * step)
            # the whole session: python and the git it started
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        resolved = resolve_source(url, None, home=home)
        checkout(resolved.source, tmp_path / "last", home=home)
    assert resolved.source.commit == git(repository, "rev-parse", "HEAD")
    assert len(listing(tmp_path / "last")) == 402


def test_a_killed_snapshot_is_made_again(repository: Path, tmp_path: Path, home: Home) -> None:
    write(repository, {f"d{i}": os.urandom(200_000) for i in range(60)})
    for step in range(6):
        process = start(home, str(repository), tmp_path / f"w{step}")
        time.sleep(0.12 + 0.05 * step)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    resolved = resolve_source(str(repository), None, home=home)
    checkout(resolved.source, tmp_path / "last", home=home)
    assert len(listing(tmp_path / "last")) == 62


def test_importing_the_room_loads_only_light_modules() -> None:
    code = "import sys, orchestrator.source; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"git", "filelock", "yaml", "rattler", "conda_lock", "sqlite_utils", "psutil", "rich", "asyncio",
             "urllib.request", "zipfile", "http", "ssl", "email"}  # fmt: skip
    assert not heavy & set(out)
