"""A process is told from any later one with its pid, and from one that only another machine can see."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

from orchestrator.execute.identity import identify, is_same_start, state_of


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
    assert state_of(replace(identity, machine="another", boot=f"x{identity.boot}")) == "elsewhere"
    boot, _, _ = identity.boot.partition("/")
    assert state_of(replace(identity, boot=f"{boot}/pid:[1]")) == "elsewhere"


def test_a_machine_that_was_given_another_name_is_the_same_until_it_starts_again() -> None:
    identity = identify(os.getpid())
    assert identity is not None
    renamed = replace(identity, machine="the-name-it-had")
    assert state_of(renamed) == "alive"
    assert state_of(replace(renamed, start=identity.start - 1)) == "dead"


def test_a_start_that_is_known_by_its_minute_only_is_no_name_among_machines() -> None:
    assert is_same_start("boot-29000000", "boot-29000001")
    assert not is_same_start("boot-29000000", "boot-29000002")
    assert not is_same_start("boot-29000000", "6f1d2c04-1111-2222-3333-444455556666")
    identity = identify(os.getpid())
    assert identity is not None
    assert state_of(replace(identity, machine="another", boot="boot-29000000")) == "elsewhere"


def test_one_that_has_ended_and_is_not_waited_for_yet_is_not_alive() -> None:
    process = subprocess.Popen(["sleep", "0"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert identify(process.pid) is None
    process.wait()
