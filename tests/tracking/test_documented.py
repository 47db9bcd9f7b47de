"""The lines of the README on `orch server`, and those that it prints, with a real MLflow client."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking.real_mlflow import CHECKOUT, QUIET, plain_environ
from tracking.serving import ORCH, ask, environ_of, orch_serving

API = "/api/2.0/mlflow/runs"


def test_the_lines_that_it_prints_are_what_a_client_needs(mlflow_python: Callable[[str], Path], tmp_path: Path) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    (block,) = re.findall(r"^```sh\n(orch server\n.*?)^```", readme, re.DOTALL | re.MULTILINE)
    _, *exported, search = block.splitlines()
    with orch_serving(tmp_path) as server:
        run_id = ask(server, "POST", f"{API}/create", {"experiment_id": "0"}).said["run"]["info"]["run_id"]
        point = {"run_id": run_id, "key": "rmse", "value": 0.5, "timestamp": 1}
        assert ask(server, "POST", f"{API}/log-metric", point).status == 200
        told = (server.folder / "stdout").read_text() + (server.folder / "stderr").read_text()
        lines = re.findall(r"export .*", told)
        documented = [line.partition("   ")[0] for line in exported]
        assert [re.sub("=.*", "", line) for line in lines] == [re.sub("=.*", "", line) for line in documented]
        program, *arguments = shlex.split(search)
        assert program == "python"
        variables = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        done = subprocess.run(
            [mlflow_python("3"), *arguments],
            cwd=tmp_path,
            env={**plain_environ(tmp_path), **QUIET, **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run_id in done.stdout, done.stderr


@pytest.mark.parametrize("columns", [80, 50])
def test_the_lines_for_a_shell_come_whole_on_a_terminal(columns: int, tmp_path: Path) -> None:
    """A variable that stands in a line of its own is not exported."""
    shown = on_terminal(columns, tmp_path)
    lines = re.findall(r"export .*", shown)
    assert len(lines) == 2, shown
    show = 'printf "%s %s" "$MLFLOW_TRACKING_URI" "$MLFLOW_TRACKING_TOKEN"'
    script = "\n".join([*lines, f"exec sh -c '{show}'"])
    uri, token = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert uri.replace("http://", f"http://orch:{token}@") in shown
    if columns == 80:
        assert max(len(line) for line in shown.splitlines() if "export" in line) <= columns


def on_terminal(columns: int, folder: Path) -> str:
    """What `orch server` says on a terminal of so many columns until it is ready."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    environ = {"TERM": "xterm", **environ_of(folder), "COLUMNS": ""}
    command = [ORCH, "server", "--port", "0"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environ) as process:
        os.close(slave)
        shown = b""
        try:
            while b"Ctrl-C" not in shown:
                shown += os.read(master, 65536)
        finally:
            process.terminate()
            process.wait(20)
            os.close(master)
    return shown.decode().replace("\r\n", "\n")
