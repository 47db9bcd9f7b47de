"""Fixtures of the tests of the tracking API: real MLflow clients and servers of both generations, and `orch server`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tracking.real_mlflow import interpreter, plain_environ, serving
from tracking.serving import orch_serving


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
    with orch_serving(tmp_path_factory.mktemp("orch-server"), "--no-token") as server:
        yield server.url


Url = Callable[[str], str]
