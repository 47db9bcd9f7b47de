"""A process is told from any later one with its pid, and from one that only another machine can see."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

from orchestrator.execute.identity import identify, state_of


def test_a_process_is_alive_until_it_has_ended() -> None:
    process = subprocess.Popen(["sleep", "30"])
    identity = identify(process.pid)
    assert identity is not None
    assert state_of(identity) == "alive"
    process.kill()
    process.wait()
    assert state_of(identity) == "dead"
    assert identify(process.pid) is None


def test_a_later_process_with_the_same_pid_or_another_boot_is_not_it() -> None:
    identity = identify(os.getpid())
    assert identity is not None
    assert state_of(replace(identity, start=identity.start - 1)) == "dead"
    assert state_of(replace(identity, boot=f"x{identity.boot}")) == "dead"


def test_what_another_machine_or_container_runs_is_elsewhere() -> None:
    identity = identify(os.getpid())
    assert identity is not None
    assert state_of(replace(identity, machine="another")) == "elsewhere"
    boot, _, _ = identity.boot.partition("/")
    assert state_of(replace(identity, boot=f"{boot}/pid:[1]")) == "elsewhere"
