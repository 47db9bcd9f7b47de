"""RunSpec -> RunRecord. Nothing is asked of the world here but the spec's own commit, lock and inputs."""

from __future__ import annotations

import contextlib
import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator import environment, journal, ledger, project, source, store
from orchestrator.canonical import portable_path
from orchestrator.errors import OrchError
from orchestrator.execute.artifacts import copy_artifacts
from orchestrator.execute.events import EventReader
from orchestrator.execute.host import host_facts
from orchestrator.execute.identity import identify
from orchestrator.execute.outputs import Inventory, WorkDirectory, collect_outputs, take_inventory
from orchestrator.execute.rundir import ProgressWriter, RunDirectory, now_text
from orchestrator.execute.supervisor import Ended, Program, StopRequest, supervise
from orchestrator.execute.viewers import Viewers
from orchestrator.fields import fields_to_json
from orchestrator.files import remove_tree
from orchestrator.inputs import Placed, place_inputs, store_input, written_through
from orchestrator.ledger.write import DEFAULT_EXPERIMENT
from orchestrator.model import Output, RunRecord, RunSpec
from orchestrator.own_command import own_command
from orchestrator.paths import Home
from orchestrator.records import output_to_json, record_from_journal, spec_to_json
from orchestrator.report import Report, plural
from orchestrator.variables import SYSTEM_PATH, host_variables

if TYPE_CHECKING:
    from orchestrator.environment import Prefix
    from orchestrator.execute.terminal import Terminal


@dataclass(frozen=True, slots=True)
class Attachment:
    """The run's own directory, its progress, and those who view it."""

    directory: RunDirectory
    progress: ProgressWriter
    stop: StopRequest
    viewers: Viewers
    window: tuple[int, int] | None = None
    """Rows and columns of the first viewer's terminal; None for a run without one."""
    one_stream: bool = False
    """Nobody keeps the program's output and its errors apart, so that they are one log, in order."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What belongs to a run and does not decide its result."""

    environ: Mapping[str, str]
    """The caller's variables, of which the host's are passed on."""
    secret_parameters: Mapping[str, str] = field(default_factory=dict)
    secret_variables: Mapping[str, str] = field(default_factory=dict)
    """The values that the spec does not hold."""
    params: Mapping[str, str] = field(default_factory=dict)
    """The parameters as the user gave them, to be recorded."""
    notes: tuple[str, ...] = ()
    name: str | None = None
    experiment: str = "Default"
    parent: str | None = None
    replay_of: str | None = None
    grace: float = 10.0
    timeout: float | None = None
    """After how many seconds the program is stopped, if ever."""
    keep_work: bool = False
    verify: Literal["quick", "full"] = "quick"
    """How the environment is looked at before it is used (see `environment.use_prefix`)."""
    store_inputs: bool = False


def execute(
    spec: RunSpec,
    about: Circumstances,
    attachment: Attachment,
    *,
    home: Home,
    began: Callable[[RunRecord], object],
) -> RunRecord:
    """Run a spec in a fresh work directory, record what happens in the run directory, and return the record.

    `began` gets the record of the running run, right after its program was started. Raises OrchError when the program
    can't be started; nothing is recorded then. From its start on the run is recorded whatever happens: when its
    outputs can't be stored, or an error inside orch ends it, its work directory is kept, and OrchError says where.
    """
    directory, report = attachment.directory, attachment.progress
    work = WorkDirectory(home.work / directory.run_id, spec.source.subdir)
    ref = spec.environment
    ready = environment.use_prefix(
        ref.lock_id, home=home, report=report, verify=about.verify, link_scripts=ref.link_scripts
    )
    with ExitStack() as cleanup, ready as prefix:
        cleanup.callback(_remove, work.root, report)
        count = plural(prefix.packages, "package")
        report("environment", f"{prefix.lock_id[:8]}, {count}, ready")
        notes = [*about.notes, *prefix.notes, *([prefix.mended] if prefix.mended else [])]
        notes += source.checkout(spec.source, work.checkout, home=home, report=report)
        placed = place_inputs(spec.inputs, work.project, home=home)
        work.artifacts.mkdir()
        before = take_inventory(work.checkout)

        log = _Log(directory, EventReader(directory.events))
        program = _program(spec, about, attachment, work, prefix, home)
        ended: Ended | None = None
        try:
            with _tracked(program, about, directory, prefix, home, log) as program:
                ended = _supervised(spec, about, attachment, program, notes, began, home, log)
            if ended.error is not None:
                raise ended.error
            log.take_rest()
            log.note(*copy_artifacts(work, log.events.artifacts), *_changes(placed, prefix))
            whole = _keep_results(spec, about, log, work, before, ended, home)
        except Exception as error:
            if ended is None:  # nothing has run
                raise
            cleanup.pop_all()
            raise OrchError(_what_is_left(error, ended, log, work)) from error
        if about.keep_work or not whole:
            cleanup.pop_all()
            report("work", str(work.root))
    return current_record(directory)


def current_record(directory: RunDirectory) -> RunRecord:
    """What the run directory tells now."""
    events, _ = journal.read(directory.journal)
    record = record_from_journal(directory.run_id, events)
    if record is None:
        raise OrchError(f"the journal {directory.journal} does not tell of a run.")
    return record


def _what_is_left(error: Exception, ended: Ended, log: _Log, work: WorkDirectory) -> str:
    """Record the end of a run whose results could not be kept, as far as possible. Says what is where."""
    if not isinstance(error, OrchError):
        traceback.print_exception(error)
    run_id, error_text = log.directory.run_id, str(error) if isinstance(error, OrchError) else f"{_named(error)}."
    if error is ended.error:
        told = f"run {run_id} was ended by an error inside orch: {error_text} What it wrote is in {work.root}."
    else:
        told = (
            f"the outputs of run {run_id} could not all be stored: {error_text} "
            f"What is not in the store is in {work.root}."
        )
    log.take_rest()
    try:
        log.end(ended, ())
    except Exception as unrecorded:
        told += f" Nor could its end be recorded: {unrecorded}" * (str(unrecorded) != str(error))
    return told


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


_MOST_PENDING = 4
"""Events that wait in the memory for a disk that is full, of some 16 MiB each at most."""


@dataclass(slots=True)
class _Log:
    """What the run directory has to hear. A disk that is full for a moment loses nothing: it is told again.

    What the program logs then waits in its file.
    """

    directory: RunDirectory
    events: EventReader
    pending: list[Mapping[str, Any]] = field(default_factory=list)

    def tick(self) -> None:
        """Take what the program logged, and try to write it down."""
        try:
            if len(self.pending) < _MOST_PENDING and (logged := self.events.read()):
                self.pending.append(logged)
        except Exception as error:  # nothing that the program logs may end it
            self.events.give_up(_named(error))
        with contextlib.suppress(OSError, OrchError):
            self.flush()

    def take_rest(self) -> None:
        """Take all that the program logged and nobody has read yet."""
        try:
            for logged in self.events.rest():
                self.pending.append(logged)
                with contextlib.suppress(OSError, OrchError):
                    self.flush()
                if len(self.pending) >= _MOST_PENDING:
                    return
        except Exception as error:
            self.events.give_up(_named(error))

    def note(self, *texts: str) -> None:
        self.pending += [{"event": "note", "text": text} for text in texts]

    def end(self, ended: Ended, outputs: Sequence[Output]) -> None:
        """Write everything down, and that the run has ended. Raises OrchError when the disk does not take it."""
        self.note(*ended.notes, *self.events.broken)
        self.events.broken.clear()
        status = "stopped" if ended.stopped else "finished" if ended.exit_code == 0 else "failed"
        last = {
            "event": "ended",
            "status": status,
            "exit_code": ended.exit_code,
            "reason": ended.reason,
            "ended_at": now_text(),
            "outputs": [output_to_json(output) for output in outputs],
            "usage": fields_to_json(ended.usage),
        }
        if not any(event["event"] == "ended" for event in self.pending):
            self.pending.append(last)
        self.flush()

    def flush(self) -> None:
        if self.pending:
            journal.append(self.directory.journal, self.pending, sync=True)
            self.pending.clear()


def _supervised(
    spec: RunSpec,
    about: Circumstances,
    attachment: Attachment,
    program: Program,
    notes: list[str],
    began: Callable[[RunRecord], object],
    home: Home,
    log: _Log,
) -> Ended:
    directory = attachment.directory
    directory.events.touch()

    def born() -> None:
        me = identify(os.getpid())
        # After a power cut no process has to be found: this line need not be on the disk.
        directory.record("started", sync=False, child=None if me is None else fields_to_json(me))

    def started(pid: int) -> None:
        # From here on a program runs: the ledger, an index, must not keep us from looking after it.
        try:
            attachment.progress.write({"program": pid, "terminal": terminal is not None})
            began(current_record(directory))
        except Exception as error:
            log.note(f"the run could not be indexed when it began: {error}")

    terminal = _open_terminal(attachment)
    values = {**spec.parameters, **dict.fromkeys(spec.secret_parameters, "***")}
    attachment.progress("running", project.shown_command(spec.command, values))
    try:
        directory.record("created", **_created(spec, about, notes, home))
        ended = supervise(
            program,
            directory,
            stop=attachment.stop,
            grace=about.grace,
            timeout=about.timeout,
            viewers=attachment.viewers,
            terminal=terminal,
            born=born,
            started=started,
            tick=log.tick,
        )
    except BaseException:
        directory.journal.unlink(missing_ok=True)  # it never ran
        raise
    with contextlib.suppress(OSError, OrchError):
        attachment.progress.write({"over": ended.exit_code})
    return ended


_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""What MLflow prints of the pages of a server is of no use here, and another text each time."""


@contextlib.contextmanager
def _tracked(
    program: Program, about: Circumstances, directory: RunDirectory, prefix: Prefix, home: Home, log: _Log
) -> Iterator[Program]:
    """The program with what it needs to log through MLflow, where its environment has that."""
    from orchestrator.execute.tracking import PLUGIN, TrackedRun, tracked_elsewhere, tracking_server, wants_tracking

    log.note(*tracked_elsewhere(prefix.path, program.variables, about.environ))
    if not wants_tracking(prefix.path, program.variables):
        yield program
        return
    run = TrackedRun(
        directory,
        ledger.experiment_id(about.experiment),
        may_move=about.experiment == DEFAULT_EXPERIMENT,
        may_name=about.name is None,
    )
    problems: list[str] = []
    with tracking_server(run, home, problems) as variables:
        path = os.pathsep.join(filter(None, [program.variables.get("PYTHONPATH"), str(PLUGIN)]))
        yield replace(program, variables={**_QUIET, **program.variables, **variables, "PYTHONPATH": path})
    log.note(*problems)


def _program(
    spec: RunSpec, about: Circumstances, attachment: Attachment, work: WorkDirectory, prefix: Prefix, home: Home
) -> Program:
    directory = attachment.directory
    parameters = {**spec.parameters, **about.secret_parameters}
    for name in spec.paths:
        parameters[name] = str(work.project / parameters[name])
    script = project.render(spec.command, parameters)
    chosen = {**spec.variables, **about.secret_variables}
    # A PATH of the user's stands behind the environment's own, or it would not be this environment.
    base = {**host_variables(about.environ), "PATH": chosen.pop("PATH", SYSTEM_PATH)}
    variables = environment.activated(prefix.path, base) | chosen
    if spec.environment.paths:
        on_path = [str(work.checkout / path) for path in spec.environment.paths]
        variables["PYTHONPATH"] = os.pathsep.join([*on_path, *filter(None, [variables.get("PYTHONPATH")])])
    command = own_command(home)
    variables |= {
        "PATH": f"{variables['PATH']}{os.pathsep}{command.parent}",
        "ORCH_EXE": str(command),
        "ORCH_HOME": str(home.root),
        "ORCH_RUN_ID": directory.run_id,
        "ORCH_EVENTS": str(directory.events),
        "ORCH_ARTIFACTS": str(work.artifacts),
        **script.variables,
    }
    bash = shutil.which("bash", path=variables["PATH"])
    if bash is None:
        raise OrchError(f"there is no bash, neither in the environment nor in {SYSTEM_PATH}; install it.")
    stdin = None if spec.stdin is None else work.project / spec.stdin
    return Program([bash, "-c", script.text], work.project, variables, stdin, (prefix.use_fd,), attachment.one_stream)


def _folders(home: Home) -> dict[str, str]:
    """Where runs have their folders: what a program writes of its own place is another on each machine."""
    places = {"work": home.work, "runs": home.runs, "envs": home.envs}
    return {name: portable_path(str(place)) for name, place in places.items()}


def _created(spec: RunSpec, about: Circumstances, notes: list[str], home: Home) -> dict[str, Any]:
    me = identify(os.getpid())
    return {
        "spec": spec_to_json(spec),
        "started_at": now_text(),
        "name": about.name,
        "experiment": about.experiment,
        "parent": about.parent,
        "replay_of": about.replay_of,
        "params": dict(about.params),
        "host": host_facts(host_variables(about.environ)) | {"folders": _folders(home)},
        "supervisor": None if me is None else fields_to_json(me),
        "notes": notes,
    }


def _changes(placed: list[Placed], prefix: Prefix) -> list[str]:
    """What the program changed that was not its own."""
    notes = [
        f"the program wrote through the input {place}: the original has changed." for place in written_through(placed)
    ]
    if changed := environment.drift(prefix.path):
        notes.append(f"the environment was changed while the run used it ({changed[0]}); it is mended before the next.")
    return notes


def _keep_results(
    spec: RunSpec,
    about: Circumstances,
    log: _Log,
    work: WorkDirectory,
    before: Inventory,
    ended: Ended,
    home: Home,
) -> bool:
    """Store the outputs (and inputs), then record the end: what is stored is never without a record that names it.

    Returns False when something could not be read; the notes say what.
    """
    with store.adding(home):
        outputs, problems, unreadable = collect_outputs(work, before, home=home, keep=about.keep_work)
        if about.store_inputs:
            problems += [problem for item in spec.inputs for problem in store_input(item, home=home)]
        log.note(*problems, *unreadable)
        log.end(ended, outputs)
    return not unreadable


def _open_terminal(attachment: Attachment) -> Terminal | None:
    if attachment.window is None:
        return None
    from orchestrator.execute.terminal import open_terminal

    return open_terminal(attachment.window)


def _remove(folder: Path, report: Report) -> None:
    """Remove a work directory. What can't be removed is left, and said: the run is none the worse for it."""
    try:
        remove_tree(folder)
    except (OSError, RecursionError) as error:
        report("work", f"{folder} can't be removed: {error}")
