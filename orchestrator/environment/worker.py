"""The worker process: one job in, one result file out.

rattler runs in a process of its own: about half of all interpreter exits after its calls crash, and its threads do
not survive a fork. So the exit status of this process means nothing; the result is a file that is written complete
or not at all. `python -m orchestrator.environment.worker JOB.json RESULT.json` runs one job.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.environment.config import read_settings
from orchestrator.environment.passed_on import for_worker
from orchestrator.environment.space import free_space, is_full, no_space
from orchestrator.errors import OrchError, UsageError
from orchestrator.files import write_whole
from orchestrator.paths import Home
from orchestrator.report import Report, silent

JOBS = {
    "carried": "orchestrator.environment.carrying",
    "channel": "orchestrator.environment.export.folder_channel",
    "export": "orchestrator.environment.export.locks",
    "host": "orchestrator.environment.host",
    "lock": "orchestrator.environment.locking",
    "install": "orchestrator.environment.install",
    "lock-file": "orchestrator.environment.lock_file",
    "link": "orchestrator.environment.link_scripts",
    "packages": "orchestrator.environment.export.archives",
    "search": "orchestrator.environment.search",
}
"""The module of each kind of job; its function `work(job, *, home, report)` does it and returns a JSON object."""


def run_job(kind: str, job: Mapping[str, Any], *, home: Home, report: Report = silent) -> dict[str, Any]:
    """Run one job of `kind` in a worker process and return its result; `job` is a JSON object.

    Progress is passed on to `report`. Whatever ends this call ends the worker and what it started; if this process
    dies, the worker ends too. Raises OrchError, or UsageError, with the worker's message.
    """
    with _job_folder(home.jobs) as folder:
        question, answer, errors = (folder / part for part in ("job.json", "result.json", "stderr"))
        places = {key: str(value) for key, value in asdict(home).items() if key != "offline"}
        asked = {"kind": kind, "home": places, "offline": home.offline, "job": dict(job)}
        question.write_text(json.dumps(asked), "utf-8")
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestrator.environment.worker", str(question), str(answer)],
                # Held open and never written: its end tells the worker that this process is gone, also after kill -9.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_worker_environment(folder, home),
                start_new_session=True,
            )
        try:
            _pass_on(process, report)
            process.wait()
        finally:
            _end(process)
        return _result(answer, errors, process.returncode, home)


@contextlib.contextmanager
def _job_folder(parent: Path) -> Iterator[Path]:
    """A folder for one job and all that is temporary in it; those whose makers died are removed."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as held:
        # Between its making and its lock a new folder would look like one that was left behind.
        with _locked(parent, fcntl.LOCK_EX):
            for left in parent.iterdir():
                with contextlib.suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=parent))
            held.enter_context(_locked(folder, fcntl.LOCK_EX))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    # A flock on the folder itself: the death of its holder, by whatever signal, lets it go.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _worker_environment(temporary: Path, home: Home) -> dict[str, str]:
    root = Path(__file__).resolve().parents[2]
    settings = read_settings(home)
    environ = for_worker(os.environ, (*settings.default_channels, *settings.conda_defaults))
    environ |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "TMPDIR": str(temporary)}
    ours = () if root.name in ("site-packages", "dist-packages") else (str(root),)
    if found := os.pathsep.join(filter(None, (*ours, os.environ.get("PYTHONPATH")))):
        environ["PYTHONPATH"] = found
    return environ


def _pass_on(process: subprocess.Popen[bytes], report: Report) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe, for the type checker
    for line in process.stdout:
        try:
            event = json.loads(line)
            phase, text, done, total = event["phase"], event["text"], event.get("done"), event.get("total")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        report(phase, text, done=done, total=total)


def _end(process: subprocess.Popen[bytes]) -> None:
    # The whole group: uv, git, build backends and link scripts that the worker started, also when it was killed alone.
    if process.poll() != 0:
        _kill_group(process.pid)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _result(answer: Path, errors: Path, returncode: int, home: Home) -> dict[str, Any]:
    log = errors.read_text("utf-8", "replace")
    if os.environ.get("ORCH_LOG") == "debug" and log:
        sys.stderr.write(log)
    try:
        value = json.loads(answer.read_bytes())
    except FileNotFoundError:
        if free_space(answer.parent) == 0:
            raise OrchError(no_space(home, "make")) from None
        how = f"by signal {-returncode}" if returncode < 0 else f"with exit code {returncode}"
        said = "".join(f" ({line})" for line in log.strip().splitlines()[-1:])
        hint = "; signal 9 is what the system sends when memory runs out" if returncode == -signal.SIGKILL else ""
        raise OrchError(
            f"the environment worker ended {how} before it had a result{said}. Run the same again{hint}."
        ) from None
    if "error" in value:
        raise (UsageError if value.get("wrong_usage") else OrchError)(value["error"])
    result: dict[str, Any] = value["result"]
    return result


# --- inside the worker ------------------------------------------------------------------------------------------


def main(question: str, answer: str) -> NoReturn:
    """Run the job in the file `question`, write its result to `answer`, and end without Python's own exit."""
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a library prints must not be taken for progress.
    os.dup2(2, 1)
    _end_with_parent()

    def say(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        progress.write(json.dumps({"phase": phase, "text": text, "done": done, "total": total}) + "\n")
        progress.flush()

    asked = json.loads(Path(question).read_bytes())
    home = Home(**{key: Path(value) for key, value in asked["home"].items()}, offline=asked["offline"])
    try:
        value: dict[str, Any] = {"result": _work(asked["kind"], asked["job"], home, say)}
    except OrchError as error:
        value = {"error": str(error), "wrong_usage": isinstance(error, UsageError)}
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        said = f"the environment can't be made ready: {error.strerror or error}{where}."
        value = {"error": no_space(home, "make") if is_full(error) else said}
    except BaseException as error:
        import traceback

        traceback.print_exc()
        value = {"error": f"the environment worker failed: {type(error).__name__}: {error}"}
    write_whole(Path(answer), json.dumps(value).encode())
    sys.stderr.flush()
    os._exit(0)


def _work(kind: str, job: Mapping[str, Any], home: Home, report: Report) -> dict[str, Any]:
    from importlib import import_module

    module = import_module(JOBS[kind])
    result: dict[str, Any] = module.work(job, home=home, report=report)
    return result


def _end_with_parent() -> None:
    import threading

    def watch() -> None:
        while os.read(0, 1):
            pass
        _kill_group(os.getpgid(0))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
