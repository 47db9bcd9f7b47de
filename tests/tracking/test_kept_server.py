"""The process that keeps the server of a run starts it again, whatever ends it, until the run has ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest
from made_records import made_home, running, write_journal
from tracking.real_mlflow import plain_environ

from orchestrator.paths import Home


@dataclass(frozen=True)
class Kept:
    home: Home
    run_id: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def log(self) -> str:
        """What it and its servers have said."""
        return (self.home.root / "log").read_text()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """The keeper of a run's server. The ledger can't be opened yet, so that each server fails."""
    home, record = made_home(tmp_path / "home"), running()
    write_journal(home, record)
    (home.root / "ledger.db").mkdir()
    job = {"run_id": record.run_id, "token": "secret", "may_move": True, "may_name": True}
    environ = {**plain_environ(tmp_path), "ORCH_HOME": str(home.root)}
    with socket.create_server(("127.0.0.1", 0)) as listener, (home.root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.tracking.kept", str(listener.fileno())],
            env=environ,
            stdin=subprocess.PIPE,
            stderr=log,
            pass_fds=(listener.fileno(),),
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        yield Kept(home, record.run_id, process, listener.getsockname()[1])
        process.kill()
        process.communicate()


def wait_for_failures(kept: Kept, count: int) -> None:
    deadline = time.monotonic() + 30
    while kept.log.count("serve_run(job, listener)") < count:  # once in each traceback
        assert time.monotonic() < deadline, kept.log
        time.sleep(0.02)


def answers(kept: Kept, seconds: float) -> bool:
    """Whether somebody answers within this time."""
    connection = HTTPConnection("127.0.0.1", kept.port, timeout=seconds)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().read() == b"OK"
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def test_a_server_that_fails_is_started_again_until_it_can_serve(kept: Kept) -> None:
    wait_for_failures(kept, 5)
    (kept.home.root / "ledger.db").rmdir()
    assert answers(kept, 20)
    assert kept.process.stdin is not None
    kept.process.stdin.write(b"end\n")
    kept.process.stdin.flush()
    assert kept.process.wait(10) == 0


def test_the_pauses_grow(kept: Kept) -> None:
    wait_for_failures(kept, 4)
    before = time.monotonic()
    wait_for_failures(kept, 6)
    assert time.monotonic() - before > 0.3 + 0.6


def test_a_keeper_whose_servers_all_fail_ends_with_the_run(kept: Kept) -> None:
    wait_for_failures(kept, 5)
    assert kept.process.stdin is not None
    kept.process.stdin.write(b"end\n")
    kept.process.stdin.flush()
    assert kept.process.wait(10) == 0


def test_without_a_supervisor_it_ends_when_the_program_has_ended(kept: Kept) -> None:
    program = subprocess.Popen(["sleep", "60"], env={**os.environ, "ORCH_RUN_ID": kept.run_id})
    try:
        wait_for_failures(kept, 1)
        assert kept.process.stdin is not None
        kept.process.stdin.close()
        wait_for_failures(kept, 4)
        before = psutil.Process(kept.process.pid).cpu_times()
        time.sleep(0.5)
        after = psutil.Process(kept.process.pid).cpu_times()
        assert after.user + after.system - before.user - before.system < 0.4  # it waits between the starts
        assert kept.process.poll() is None
    finally:
        program.kill()
        program.wait()
    assert kept.process.wait(20) == 0
