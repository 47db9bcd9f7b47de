"""`orch run`: from the options to a supervised run, and a view of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import stat
import sys
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from orchestrator.cli.durations import parse_duration
from orchestrator.cli.keyboard import window_size
from orchestrator.cli.options import hush
from orchestrator.cli.tell import tell, tell_notes
from orchestrator.cli.viewer import Seen, Wishes, watch
from orchestrator.errors import OrchError, UsageError
from orchestrator.execute.execute import Attachment, Circumstances
from orchestrator.execute.launch import launch, leave
from orchestrator.execute.rundir import RunDirectory, create_run_directory
from orchestrator.execute.viewers import Watched
from orchestrator.model import RunRecord, new_run_id
from orchestrator.nested import run_around
from orchestrator.paths import Home, open_home
from orchestrator.resolve import RunRequest
from orchestrator.run import run as run_supervised
from orchestrator.variables import host_variables, user_variables

_MOMENT_SECONDS, _POLL_SECONDS = 2.0, 0.02
"""How long the beginning of a detached run is looked at, and how often."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `orch run`, as typed."""

    repository: str
    revision: str | None
    entry_point: str
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]
    variables: tuple[str, ...]
    experiment_name: str | None
    experiment_id: str | None
    run_name: str | None
    output: Path | None
    cached: bool
    relock: bool
    platforms: tuple[str, ...]
    as_of: str | None
    cuda: str | None
    link_scripts: tuple[str, ...]
    allow_unhashed: bool
    offline: bool
    store_inputs: bool
    keep_work: bool
    stdin: Path | None
    grace: str
    timeout: str | None
    detach: bool
    tty: bool
    quiet: bool
    as_json: bool
    storage: Path | None


def refuse_foreign(
    backend: str | None,
    backend_config: str | None,
    docker_args: Sequence[str] | None,
    build_image: bool,
    run_id: str | None,
    env_manager: str | None,
) -> None:
    """Take those of MLflow's options that mean something here, with a word on what; refuse the others with one."""
    if backend not in (None, "local"):
        raise UsageError(f"--backend {backend}: orch runs on this machine only; leave the option out.")
    if backend_config is not None:
        raise UsageError("--backend-config belongs to MLflow's remote backends, which orch does not have.")
    if docker_args or build_image:
        raise UsageError("--docker-args and --build-image belong to docker projects, which orch does not run.")
    if run_id is not None:
        raise UsageError("--run-id continues a run of an MLflow server; orch gives every run an id of its own.")
    if env_manager not in (None, "conda", "virtualenv", "uv", "local"):
        raise UsageError(f"--env-manager takes conda, virtualenv, uv or local, not {env_manager}.")
    if env_manager is not None:
        print(
            f"orch: --env-manager {env_manager} changes nothing: the environment is always orch's own, "
            "locked and made from the project's file.",
            file=sys.stderr,
        )


def run(asked: Asked) -> int:
    """Start the run, show it, bring its outputs. Returns the exit code."""
    if asked.detach and asked.output is not None:
        raise UsageError("--detach does not wait for the outputs: leave -o out, and bring them later with orch get.")
    hush(asked.quiet)
    home = open_home(offline=asked.offline)
    _check_output(asked.output)
    around = run_around(os.environ, home)
    request, about = _request(asked, around), _circumstances(asked, around, home)
    told = {"source": short_source(asked.repository), "entry_point": asked.entry_point, "name": asked.run_name or ""}
    directory = create_run_directory(home, new_run_id(), told)

    def job(attachment: Attachment) -> int:
        return run_supervised(request, about, attachment, home=home, cached=asked.cached)

    ignored = asked.stdin is None and _has_input()
    if ignored:
        _tell_ignored_input()
    if asked.detach:
        return _detach(asked, directory, job)
    terminal = not asked.as_json and has_terminal()
    wishes = Wishes(quiet=asked.quiet, as_json=asked.as_json, terminal=terminal)
    code, seen = follow(directory, job, wishes, home, lends=terminal and asked.tty and asked.stdin is None)
    if seen.detached:
        tell_detached(directory.run_id, has_ended=seen.over is not None)
        if asked.output is not None:
            tell("outputs", f"orch get {directory.run_id[:16]} -o {asked.output}")
        return seen.over or 0
    if not ignored and asked.stdin is None and _has_input():  # its first bytes came late
        _tell_ignored_input()
    run_id = seen.cached or (directory.run_id if seen.ended else None)
    if run_id is not None:
        _finish(asked, run_id, seen, home)
    if code and seen.ended and asked.tty and asked.stdin is None and sys.stdin.isatty() and not sys.stdout.isatty():
        tell(
            "note",
            "stdout is no terminal, so the program had none and could read nothing; --stdin FILE gives it a file",
        )
    return code


def _detach(asked: Asked, directory: RunDirectory, job: Callable[[Attachment], int]) -> int:
    leave(launch(directory, job, one_stream=True))
    answer = _ended_at_once(directory)
    run_id = answer or directory.run_id
    print(json.dumps({"run_id": run_id}) if asked.as_json else run_id, flush=True)
    (tell_detached if answer is None else _tell_cached)(run_id)
    return 0


def _ended_at_once(directory: RunDirectory) -> str | None:
    """Look on until the run's source and parameters are understood, for a moment at most, and tell the notes on them.

    Returns the id of the run that is the answer (`--cached`), None while it goes on. Raises the error that ended it.
    """
    until = time.monotonic() + _MOMENT_SECONDS
    while time.monotonic() < until:
        told = directory.told()
        known = {key: value for line in told for key, value in line.items()}
        if directory.journal.exists() or any(line.get("phase", "source") not in ("source", "note") for line in told):
            tell_notes(line["text"] for line in told if line.get("phase") == "note")
            return None
        if "end" in known:
            shutil.rmtree(directory.path, ignore_errors=True)  # it never began, and what ended it is told now
            if "cached" in known:
                return str(known["cached"])
            wrong = known["end"] == UsageError.exit_code
            raise (UsageError if wrong else OrchError)(known.get("error", "the run could not be begun."))
        time.sleep(_POLL_SECONDS)
    return None


def _tell_cached(run_id: str) -> None:
    tell("cached", f"run {run_id} has the same spec; nothing was run")


def tell_detached(run_id: str, *, has_ended: bool = False) -> None:
    """Say how a run that was left is seen again, and ended if it goes on."""
    tell("detached", f"orch attach {run_id[:16]} shows it")
    if not has_ended:
        tell("", f"orch stop {run_id[:16]} ends it")


def has_terminal() -> bool:
    """Whether a person is at the terminal, and this process is the one that they talk to."""
    try:
        return sys.stdin.isatty() and sys.stdout.isatty() and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # it is not this session's
        return False


def short_source(repository: str) -> str:
    """What the user named, as a table shows it: its last part, without a credential."""
    plain = repository.partition("#")[0].partition("?")[0].rstrip("/")
    last = plain.rpartition("/")[2].rpartition("@")[2].rpartition(":")[2].removesuffix(".git")
    return Path.cwd().name if last in ("", ".", "..") else last


def follow(
    directory: RunDirectory, job: Callable[[Attachment], int], wishes: Wishes, home: Home, *, lends: bool
) -> tuple[int, Seen]:
    """Do a job in a supervisor of its own, and show it to its end: the job's exit code, and what the viewer was told.

    With `lends` the program has the terminal that is here. Raises OrchError when the supervisor is killed.
    """
    window = window_size() if lends else None
    # Whoever keeps the two apart has them apart in the log too; else their order is worth more.
    one_stream = wishes.as_json or os.path.sameopenfile(1, 2)
    code, seen = see(launch(directory, job, window=window, one_stream=one_stream), wishes, home)
    if seen.exit_code is not None and not directory.journal.exists():
        shutil.rmtree(directory.path, ignore_errors=True)  # it never began, and its error has been seen
    return code, seen


def see(watched: Watched, wishes: Wishes, home: Home) -> tuple[int, Seen]:
    """Show a run to its end, or until the user leaves it (exit code 0). Raises OrchError when it has no end."""
    try:
        seen = watch(watched, wishes)
    except BrokenPipeError:
        run_id = watched.directory.run_id
        if watched.is_supervised():
            print(f"orch: nobody reads the output; the run goes on: orch logs {run_id}", file=sys.stderr)
        elif not wishes.attached:
            print(f"orch: nobody reads the output; the run has ended: orch show {run_id}", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGPIPE) from None
    if seen.detached:
        return 0, seen
    if seen.exit_code is None:
        _supervisor_is_gone(watched, home)
    return seen.exit_code, seen


def _check_output(output: Path | None) -> None:
    """Refuse a folder for the outputs that can't be one before anything is run."""
    if output is None:
        return
    there = output.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"-o {output}: {there} is no folder that you can write.")


def _tell_ignored_input() -> None:
    tell("note", "the program does not get your standard input; --stdin FILE gives it a file")


def _has_input() -> bool:
    """Whether somebody gave this very command something to read: a file, or a pipe with bytes in it.

    What the parent reads too is not for us: a shell loop over lines, a session without a terminal, a script's own.
    """
    here = os.fstat(0)
    with contextlib.suppress(OSError):  # where there is no /proc, or it is another user's
        if os.path.samestat(here, Path(f"/proc/{os.getppid()}/fd/0").stat()):
            return False
    if stat.S_ISREG(here.st_mode):
        return here.st_size > 0
    if stat.S_ISFIFO(here.st_mode) or stat.S_ISSOCK(here.st_mode):
        return int.from_bytes(fcntl.ioctl(0, termios.FIONREAD, bytes(4)), sys.byteorder) > 0
    return False


def _request(asked: Asked, around: RunRecord | None) -> RunRequest:
    from orchestrator.project import parse_parameter_options

    if asked.stdin is not None and not asked.stdin.is_file():
        raise UsageError(f"--stdin {asked.stdin}: there is no such file.")

    return RunRequest(
        repository=asked.repository,
        revision=asked.revision,
        entry_point=asked.entry_point,
        parameters=parse_parameter_options(asked.parameters),
        inputs=asked.inputs,
        variables=user_variables(asked.variables, os.environ),
        relock=asked.relock,
        platforms=asked.platforms,
        as_of=asked.as_of,
        cuda=asked.cuda,
        link_scripts=asked.link_scripts,
        allow_unhashed=asked.allow_unhashed,
        stdin=asked.stdin and asked.stdin.absolute(),
        storage=asked.storage,
        around=around,
    )


def _circumstances(asked: Asked, around: RunRecord | None, home: Home) -> Circumstances:
    if asked.run_name == "latest":
        raise UsageError("--run-name latest can't name a run: `latest` is the newest one's name.")
    if asked.run_name is not None and not (asked.run_name.strip() and asked.run_name.isprintable()):
        raise UsageError(
            f"--run-name {asked.run_name!r} can't name a run: a name has letters, and none that are unseen."
        )
    return Circumstances(
        environ=dict(os.environ),
        name=asked.run_name,
        experiment=_experiment(asked, around, home),
        parent=None if around is None else around.run_id,
        store_inputs=asked.store_inputs,
        keep_work=asked.keep_work,
        grace=parse_duration(asked.grace, "--grace", zero=True),
        timeout=None if asked.timeout is None else parse_duration(asked.timeout, "--timeout"),
    )


def _experiment(asked: Asked, around: RunRecord | None, home: Home) -> str:
    if asked.experiment_name is not None and asked.experiment_id is not None:
        raise UsageError("--experiment-name and --experiment-id exclude each other.")
    if asked.experiment_id is not None:
        found = _experiment_name(asked.experiment_id, home)
        if found is None:
            raise UsageError(f"--experiment-id {asked.experiment_id}: there is no such experiment.")
        return found
    usual = host_variables(os.environ)
    name, wanted = asked.experiment_name or usual.get("MLFLOW_EXPERIMENT_NAME"), usual.get("MLFLOW_EXPERIMENT_ID")
    if name is None and wanted is not None:
        name = _experiment_name(wanted, home)  # one of another server's means nothing here
    return name or (around.experiment if around is not None else "Default")


def _experiment_name(experiment_id: str, home: Home) -> str | None:
    from orchestrator import ledger

    connection = ledger.connect(home)
    try:
        return ledger.experiment_name(connection, experiment_id)
    finally:
        connection.close()


def _finish(asked: Asked, run_id: str, seen: Seen, home: Home) -> None:
    from orchestrator.cli import outputs, runs

    if seen.cached:
        _tell_cached(run_id)
    if asked.as_json:
        runs.print_record(home, run_id)
    if asked.output is not None:
        try:
            outputs.bring(home, run_id, [], asked.output)
        except (OrchError, OSError) as error:
            raise OrchError(
                f"{error} The run is recorded: orch get {run_id[:16]} -o FOLDER brings its outputs."
            ) from error


def _supervisor_is_gone(watched: Watched, home: Home) -> NoReturn:
    """Say what is left of a run whose supervisor was killed."""
    from orchestrator import ledger
    from orchestrator.sweep import sweep

    watched.wait_until_gone()
    directory = watched.directory
    connection = ledger.connect(home)
    try:
        sweep(home, connection)
        record = ledger.read_run(home, directory.run_id)
    finally:
        connection.close()
    if record is None:
        shutil.rmtree(directory.path, ignore_errors=True)
        raise OrchError("the run's supervisor was killed before the program was started; nothing was recorded.")
    short = record.run_id[:16]
    uncompared = record.replay_of is not None and record.verdict is None and record.status in ("finished", "failed")
    later = f"; orch replay --compare {short} compares it" if uncompared else ""
    if record.status == "orphaned":
        later = f": its program lives; orch logs -f {short} shows it, orch stop {short} ends it"
    raise OrchError(f"the supervisor of run {record.run_id} was killed; the run is {record.status}{later}.")
