"""The lines of the README on `orch server`, with a real MLflow client."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from tracking.real_mlflow import CHECKOUT, QUIET, plain_environ
from tracking.serving import ask, orch_serving

API = "/api/2.0/mlflow/runs"


def test_the_line_that_it_prints_is_what_a_client_needs(mlflow_python: Callable[[str], Path], tmp_path: Path) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    (block,) = re.findall(r"^```sh\n(orch server\n.*?)^```", readme, re.DOTALL | re.MULTILINE)
    _, exported, search = block.splitlines()
    with orch_serving(tmp_path) as server:
        run_id = ask(server, "POST", f"{API}/create", {"experiment_id": "0"}).said["run"]["info"]["run_id"]
        point = {"run_id": run_id, "key": "rmse", "value": 0.5, "timestamp": 1}
        assert ask(server, "POST", f"{API}/log-metric", point).status == 200
        told = (server.folder / "stdout").read_text() + (server.folder / "stderr").read_text()
        (line,) = re.findall(r"export .*", told)
        assert re.sub("=[^ ]*", "=", line) == re.sub("=[^ ]*", "=", exported.partition("   #")[0])
        program, *arguments = shlex.split(search)
        assert program == "python"
        variables = dict(word.split("=", 1) for word in line.split()[1:])
        done = subprocess.run(
            [mlflow_python("3"), *arguments],
            cwd=tmp_path,
            env={**plain_environ(tmp_path), **QUIET, **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run_id in done.stdout, done.stderr
