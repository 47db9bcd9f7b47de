"""`orch doctor` as people and scripts see it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import struct
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from e2e.conftest import CONDA_FORGE, ORCH, orch, orch_json


@pytest.fixture
def broken(cold_home: Path) -> Path:
    """A home whose only channel is a folder that is not there."""
    (cold_home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["/nowhere/channel"]\n')
    return cold_home


def on_terminal(*arguments: str, columns: int = 80) -> str:
    """What `orch` prints on a terminal that is so wide."""
    pid, terminal = pty.fork()
    if pid == 0:
        ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execv(ORCH, [str(ORCH), *arguments])
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode().replace("\r\n", "\n")


def test_a_machine_without_a_fault_is_exit_code_0(cold_home: Path) -> None:
    done = orch("doctor", "--offline")
    *lines, summary = done.stdout.splitlines()
    assert lines[0].startswith("ok     orch  ")
    assert re.fullmatch(r"0 faults, \d+ notes?, \d+ ok", summary)
    assert done.stderr == ""


def test_faults_come_last_with_what_to_do_and_are_exit_code_1(broken: Path) -> None:
    *lines, fault, advice, summary = orch("doctor", "--offline", code=1).stdout.splitlines()
    assert re.fullmatch(r"fault  channel conda-forge +/nowhere/channel is not there", fault)
    assert advice.strip().startswith("Mend the path in the configuration")
    assert summary.startswith("1 fault, ")
    marks = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert marks == sorted(marks, reverse=True)  # ok before note


def test_as_json_it_is_a_list_of_checks(broken: Path) -> None:
    checks = orch_json("doctor", "--offline", code=1)
    assert all(set(check) == {"name", "result", "found", "advice"} for check in checks)
    assert {check["result"] for check in checks} <= {"ok", "note", "fault"}
    found = [check["found"] for check in checks if check["result"] == "fault"]
    assert [text for text in found if " within " not in text] == [
        "/nowhere/channel is not there"
    ]  # it may be busy here


def test_a_terminal_gets_colours_and_lines_that_fit(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal("doctor", "--offline")
    assert "\x1b[31mfault\x1b[0m" in shown
    plain = re.sub(r"\x1b\[\d+m", "", shown)
    too_long = [line for line in plain.splitlines() if len(line) > 80]
    assert all(len(line.split()[-1]) > 40 for line in too_long)  # a path is not broken
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal("doctor", "--offline")


def test_a_session_with_few_open_files_is_told(cold_home: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    (check,) = [c for c in orch_json("doctor", "--offline", preexec_fn=limit) if c["name"] == "limits"]
    assert (check["result"], check["found"]) == ("note", "200 open files")
    assert "ulimit -n 4096" in check["advice"]


def test_a_mistake_in_paths_is_a_fault_and_not_the_end(cold_home: Path) -> None:
    (cold_home / "config.toml").write_text('[paths]\nstores = "/srv"\n')
    checks = orch_json("doctor", code=1)
    (check,) = [check for check in checks if check["result"] == "fault"]
    assert check["name"] == "home"
    assert "[paths] takes envs, store, work, cache; 'stores' is not one of them." in check["found"]
    assert "git" in {check["name"] for check in checks}
