"""The tracking server of a run whose environment has MLflow: a process beside the supervisor, not one of its children.

What lives below the supervisor is the program's, and is waited for and ended with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.execute.rundir import RunDirectory
from orchestrator.paths import Home
from orchestrator.variables import TRACKING_URI, host_variables, tracking_variables, without_secrets

_END_SECONDS = 15.0
"""For how long the end of a server is waited for: it takes what was sent, and tells the ledger."""
_LAST_WORDS = 4000


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What the server has to know of its run. `may_move`, `may_name`: nobody told its experiment, or its name."""

    directory: RunDirectory
    experiment_id: str
    may_move: bool
    may_name: bool


PLUGIN = Path(__file__).parents[1] / "tracking" / "plugin"
"""The folder that is added to the import path of a program that is tracked."""


def wants_tracking(prefix: Path, variables: Mapping[str, str]) -> bool:
    """Whether the environment has MLflow, of any language, and the user did not say where it logs to."""
    return not variables.get(TRACKING_URI) and _has_mlflow(prefix)


def tracked_elsewhere(prefix: Path, variables: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """A note, where the program logs to another server because the caller's variables, `environ`, happen to name it.

    Who has asked for it with `--env` knows it.
    """
    uri = variables.get(TRACKING_URI, "")
    if not uri or host_variables(environ).get(TRACKING_URI) != uri or not _has_mlflow(prefix):
        return []
    shown = without_secrets({TRACKING_URI: uri})[TRACKING_URI] or "another server"
    return [f"{TRACKING_URI} is set: what the program logs through MLflow goes to {shown}, not into this run."]


def _has_mlflow(prefix: Path) -> bool:
    places = ("lib/python3*/site-packages/mlflow", "lib/R/library/mlflow", "conda-meta/*mlflow*.json")
    return any(True for place in places for _ in prefix.glob(place))


@contextlib.contextmanager
def tracking_server(run: TrackedRun, home: Home, problems: list[str]) -> Iterator[dict[str, str]]:
    """Serve the tracking API to the program of a run for the time of the block; the variables that tell it where.

    Who asks before the server is up waits. A server that fails is told of in `problems`, and ends nothing else.
    """
    token = secrets.token_urlsafe(24)
    with contextlib.ExitStack() as files, socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        job_read, job = _pipe(files)
        ended, ended_write = _pipe(files)
        _start(listener, job_read, ended_write, home, run.directory)
        listener.close()
        for number in (job_read, ended_write):
            os.close(number)
        os.write(job, _job(run, token))
        try:
            yield tracking_variables(url, token, run.directory.run_id, run.experiment_id)
        finally:
            _end(job, ended, run.directory, problems)


def _job(run: TrackedRun, token: str) -> bytes:
    about = {"run_id": run.directory.run_id, "token": token, "may_move": run.may_move, "may_name": run.may_name}
    return json.dumps(about).encode() + b"\n"


def _pipe(files: contextlib.ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    for number in (read, write):
        files.callback(_close, number)
    return read, write


def _close(number: int) -> None:
    with contextlib.suppress(OSError):
        os.close(number)


def _start(listener: socket.socket, job: int, ended: int, home: Home, directory: RunDirectory) -> None:
    """Start the server as the child of a process that ends at once. `ended` is closed when the server has ended."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            with directory.tracking_log.open("ab") as log:
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "orchestrator.tracking.kept", str(listener.fileno())],
                    env={**os.environ, "ORCH_HOME": str(home.root)},
                    stdin=job,
                    stdout=ended,
                    stderr=log,
                    pass_fds=(listener.fileno(),),
                )
        os._exit(0)
    os.waitpid(child, 0)


def _end(job: int, ended: int, directory: RunDirectory, problems: list[str]) -> None:
    with contextlib.suppress(OSError):  # it has ended already
        os.write(job, b"end\n")
    if not select.select([ended], [], [], _END_SECONDS)[0]:
        problems.append("the tracking server did not end; what the program logged last may be missing.")
    with contextlib.suppress(OSError):
        with directory.tracking_log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LAST_WORDS))
            said = log.read().decode("utf-8", "replace").strip()
        if said:
            problems.append(
                f"the tracking server had trouble: {said.splitlines()[-1][:300]} See {directory.tracking_log}."
            )
        else:
            directory.tracking_log.unlink()
