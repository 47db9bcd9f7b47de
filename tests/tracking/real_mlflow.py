"""The real MLflow of either generation: an interpreter that has it, and its server."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM
from urllib.error import URLError
from urllib.request import urlopen

from conftest import FOREIGN
from filelock import FileLock
from uv import find_uv_bin

from orchestrator.environment.pypi import uv_environment
from orchestrator.paths import Home

CHECKOUT = Path(__file__).parents[2]

# The skinny package has all of MLflow's Python code; of what the whole one adds, what a server and scikit-learn need.
_BOTH = ("alembic", "flask", "matplotlib", "pillow", "scikit-learn")
REQUIREMENTS = {
    # Newer versions of these break it, and it does not say so.
    "2": ("mlflow-skinny<3", "sqlalchemy<2.1", "setuptools<81", "graphene", "gunicorn<24", "pandas<3", *_BOTH),
    "3": ("mlflow-skinny>=3", "sqlalchemy", "aiohttp", "cryptography", "flask-cors", "pandas<4", "skops", *_BOTH),
}

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Else eight more processes, for what the tests do not ask.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}

_STARTS_WITHIN = 90


def plain_environ(home: Path) -> dict[str, str]:
    """The variables of this process without those that steer MLflow, Python, git and orch, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "HOME": str(home)}


def interpreter(generation: str, environ: Mapping[str, str]) -> Path:
    """A Python with MLflow `generation` ("2" or "3"), made once and kept between sessions below `.cache`.

    Packages come from where pip and uv look by `environ`.
    """
    requirements = REQUIREMENTS[generation]
    key = hashlib.sha256("\0".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    directory = CHECKOUT / ".cache" / f"mlflow-{generation}-{key}"
    directory.parent.mkdir(exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if not directory.exists():
            aside = directory.with_suffix(".new")
            shutil.rmtree(aside, ignore_errors=True)
            home = Home(aside, *(aside / name for name in ("envs", "store", "work", "cache")))
            places = uv_environment(home, environ)
            _uv("venv", "--relocatable", "--python", sys.executable, aside, environ=places)
            options = ("--no-cache", "--only-binary", ":all:")
            _uv("pip", "install", *options, "--python", aside / "bin" / "python", *requirements, environ=places)
            aside.rename(directory)
    return directory / "bin" / "python"


@contextmanager
def serving(python: Path, folder: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The URL of MLflow's server, with a SQLite store and artifacts in `folder`; it ends with the context."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--serve-artifacts"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with started(command, folder, {**environ, **QUIET}) as server:
        url = f"http://127.0.0.1:{port}"
        _await_health(url, server, folder / "stderr")
        yield url


@contextmanager
def started(command: list[str], folder: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in `folder` that writes to the files `stdout` and `stderr` there, and ends with all its children."""
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, SIGTERM)
                process.wait(10)
            except subprocess.TimeoutExpired:
                pass
            except ProcessLookupError:
                process.wait()
            else:
                _await_group_end(process.pid)
            _kill_group(process.pid)
            process.wait()


def _await_group_end(group: int) -> None:
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, SIGKILL)
    except ProcessLookupError:
        return


def _await_health(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(f"MLflow's server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _uv(*arguments: str | Path, environ: Mapping[str, str]) -> None:
    subprocess.run([find_uv_bin(), *arguments, "--quiet"], env=environ, stdin=subprocess.DEVNULL, check=True)
