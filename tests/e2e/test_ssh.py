"""A run at the other end of a real ssh connection that breaks: nothing is lost with it."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json
from e2e.test_interruption import wait_until

Make = Callable[..., Path]
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
COUNT = 100_000
PROGRAM = f"""
import sys, time
for i in range({COUNT}):
    print(f"line {{i}} of {COUNT}: äöü")
    if i % 1000 == 0:
        sys.stdout.flush()
        time.sleep(0.04)
"""
LOG = "".join(f"line {i} of {COUNT}: äöü\r\n" for i in range(COUNT)).encode()

pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None or sys.platform != "linux",
    reason="there is no sshd on this machine (package openssh-server)",
)


@dataclass(frozen=True, slots=True)
class Server:
    """An sshd on loopback, and what a client needs to reach it."""

    pid: int
    port: int
    key: Path

    def start(self, *command: object) -> subprocess.Popen[bytes]:
        """`ssh -tt` with a command, whose output is a pipe."""
        home = {name: os.environ[name] for name in ("ORCH_HOME", "HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM")}
        words = ["env", *(f"{name}={value}" for name, value in home.items()), "TERM=xterm", *map(str, command)]
        options = ["-tt", "-F", "/dev/null", "-i", self.key, "-p", self.port]
        for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"):
            options += ["-o", option]
        return subprocess.Popen(
            ["ssh", *map(str, options), "127.0.0.1", shlex.join(words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def drop(self) -> None:
        """Kill the server's end of every connection."""
        for process in psutil.Process(self.pid).children(recursive=True):
            if process.name() == "sshd":
                process.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "sshd_config"
    lines = ["ListenAddress 127.0.0.1", f"Port {port}", f"HostKey {tmp_path / 'host'}", "UsePAM no", "StrictModes no"]
    lines += [f"AuthorizedKeysFile {tmp_path / 'user.pub'}", "PermitRootLogin yes", f"PidFile {tmp_path / 'pid'}"]
    config.write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd locks itself in
    process = subprocess.Popen([str(SSHD), "-D", "-f", config, "-E", tmp_path / "sshd.log"])
    try:
        wait_until(lambda: answers(port) or process.poll() is not None)
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {(tmp_path / 'sshd.log').read_text().strip()}")
        yield Server(process.pid, port, tmp_path / "user")
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def read_some(client: subprocess.Popen[bytes], text: bytes, seconds: float) -> bytes:
    """What the client shows until `text` has come, and for some seconds more."""
    assert client.stdout is not None
    os.set_blocking(client.stdout.fileno(), False)
    shown, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        data = client.stdout.read()
        if data == b"":
            break
        shown += data or b""
        if text in shown:
            end, text = min(end, time.monotonic() + seconds), b"\0"
        time.sleep(0.01)
    return shown


def close(client: subprocess.Popen[bytes]) -> None:
    client.kill()
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.close()
    client.stdout.close()
    client.wait()


def status() -> str:
    runs = orch_json("list")
    return runs[0]["status"] if runs else "preparing"


def program_lines(shown: bytes) -> bytes:
    """What the program printed, of all that a viewer showed."""
    return b"".join(line for line in shown.splitlines(keepends=True) if line.startswith(b"line "))


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_connection_that_breaks_again_and_again_loses_nothing(
    make_project: Make, orch_home: Path, server: Server, end: str
) -> None:
    files = {"MLproject": mlproject("python main.py"), "conda.yaml": CONDA_YAML, "main.py": PROGRAM}
    project = make_project(files)
    chance = random.Random(end)
    client = server.start(ORCH, "run", project)
    drops = 0
    while status() not in ("finished", "failed") and drops < 30:
        shown = read_some(client, b"line 0 of", chance.uniform(0, 1))
        assert LOG.startswith(program_lines(shown[: shown.rfind(b"\n") + 1]))
        if end == "server":
            server.drop()
        close(client)
        drops += 1
        assert status() in ("running", "finished")
        client = server.start(ORCH, "attach", "latest")
    assert drops >= 3
    out, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    assert program_lines(out) == LOG  # the last one saw it from the start to the end, each line once
    run = orch_json("show")
    assert (run["status"], run["exit_code"]) == ("finished", 0)
    assert (orch_home / "runs" / run["run_id"] / "stdout.log").read_bytes() == LOG


def test_a_connection_that_breaks_while_the_environment_is_made(
    make_project: Make, cold_home: Path, server: Server
) -> None:
    project = make_project({"MLproject": mlproject("[ -t 1 ] && echo ran"), "conda.yaml": CONDA_YAML})
    client = server.start(ORCH, "run", project)
    read_some(client, b"solving", 0.2)
    server.drop()
    close(client)
    done = orch("attach")
    assert "installing" in done.stderr
    assert done.stdout == "ran\n"
    assert status() == "finished"


def test_ctrl_c_and_the_detach_keys_arrive(make_project: Make, orch_home: Path, server: Server) -> None:
    command = "trap 'echo caught; exit 5' INT; echo be''gun; while :; do sleep 0.05; done"
    client = server.start(ORCH, "run", make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML}))
    read_some(client, b"begun", 0.2)
    assert client.stdin is not None
    client.stdin.write(b"\x10\x11")
    client.stdin.flush()
    out, _ = client.communicate(timeout=30)
    assert client.returncode == 0
    assert b"detached" in out
    client = server.start(ORCH, "attach")
    read_some(client, b"begun", 0.3)
    assert client.stdin is not None
    client.stdin.write(b"\x03")
    client.stdin.flush()
    out, _ = client.communicate(timeout=30)
    assert client.returncode == 5
    assert b"caught" in out


def test_a_detached_run_lets_the_connection_end(make_project: Make, orch_home: Path, server: Server) -> None:
    project = make_project({"MLproject": mlproject("echo begun; sleep 2; echo done"), "conda.yaml": CONDA_YAML})
    client = server.start(ORCH, "run", "-d", "-q", project)
    out, _ = client.communicate(timeout=30)
    assert client.returncode == 0
    run_id = out.decode().strip()
    wait_until(lambda: status() == "running")
    assert orch("attach", run_id).stdout == "begun\ndone\n"
