"""Fixtures of the tests of the tracking API: real MLflow clients and servers of both generations, and `orch server`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tracking.real_mlflow import interpreter, plain_environ, serving, started

ORCH = Path(sys.executable).with_name("orch")


@pytest.fixture(scope="session")
def mlflow_python() -> Callable[[str], Path]:
    """A function: the Python that has MLflow of generation "2" or "3"."""
    environ = dict(os.environ)  # as it is before a test has its own: pip's configuration is in the user's home
    return lambda generation: interpreter(generation, environ)


@pytest.fixture(scope="session")
def real_server(mlflow_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Url]:
    """A function: the URL of a `mlflow server` of generation "2" or "3", started when it is first asked for."""
    running: dict[str, str] = {}
    with ExitStack() as servers:

        def url(generation: str) -> str:
            if generation not in running:
                folder = tmp_path_factory.mktemp(f"mlflow-{generation}")
                environ = plain_environ(folder)
                running[generation] = servers.enter_context(serving(mlflow_python(generation), folder, environ))
            return running[generation]

        yield url


@pytest.fixture(scope="session")
def orch_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an `orch server` with a home of its own and no token."""
    folder = tmp_path_factory.mktemp("orch-server")
    asked = subprocess.run([ORCH, "server", "--help"], capture_output=True, check=False, env=plain_environ(folder))
    if asked.returncode != 0:
        pytest.skip("there is no `orch server` yet")
    environ = {**plain_environ(folder), "ORCH_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    with started([str(ORCH), "server", "--port", "0", "--no-token"], folder, environ) as server:
        yield _told_url(server, folder)


Url = Callable[[str], str]


def _told_url(server: subprocess.Popen[bytes], folder: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ended = server.poll() is not None
        said = "".join((folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))
        if found := re.search(r"http://[^\s/]+", said):
            return found[0]
        if ended:
            break
        time.sleep(0.05)
    raise AssertionError(f"orch server told no URL:\n{said}")
