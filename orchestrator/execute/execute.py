"""RunSpec -> RunRecord. Nothing is asked of the world here but the spec's own commit, lock and inputs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import environment, project, source, store
from orchestrator.errors import OrchError
from orchestrator.execute.events import EventReader
from orchestrator.execute.host import host_facts
from orchestrator.execute.identity import identify
from orchestrator.execute.outputs import Inventory, WorkDirectory, collect_outputs, take_inventory
from orchestrator.execute.rundir import ProgressWriter, RunDirectory, now_text
from orchestrator.execute.supervisor import Ended, Program, StopRequest, supervise
from orchestrator.inputs import Placed, place_inputs, store_input, written_through
from orchestrator.model import Output, RunRecord, RunSpec
from orchestrator.paths import Home
from orchestrator.records import fields_to_json, output_to_json, record_from_journal, spec_to_json
from orchestrator.variables import SYSTEM_PATH, host_variables

if TYPE_CHECKING:
    from orchestrator.environment import Prefix
    from orchestrator.execute.terminal import Terminal


@dataclass(frozen=True, slots=True)
class Attachment:
    """The run's own directory, its progress, and the viewer that it was started with."""

    directory: RunDirectory
    progress: ProgressWriter
    stop: StopRequest
    viewer: socket.socket | None = None
    window: tuple[int, int] | None = None
    """Rows and columns of the viewer's terminal; None for a run without one."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What belongs to a run and does not decide its result."""

    environ: Mapping[str, str]
    """The caller's variables, of which the host's are passed on."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Values of the spec's secret parameters and variables, by name."""
    params: Mapping[str, str] = field(default_factory=dict)
    """The parameters as the user gave them, to be recorded."""
    notes: tuple[str, ...] = ()
    name: str | None = None
    experiment: str = "Default"
    parent: str | None = None
    replay_of: str | None = None
    stdin: Path | None = None
    grace: float = 10.0
    keep_work: bool = False
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
    can't be started; nothing is recorded then. When only its outputs can't be stored, the run is recorded, its
    work directory is kept, and OrchError says where.
    """
    directory, report = attachment.directory, attachment.progress
    work = WorkDirectory(home.work / directory.run_id, spec.source.subdir)
    with ExitStack() as cleanup, environment.use_prefix(spec.environment.lock_id, home=home, report=report) as prefix:
        cleanup.callback(_remove, work.root)
        count = f"{prefix.packages} package{'' if prefix.packages == 1 else 's'}"
        report("environment", f"{prefix.lock_id[:8]}, {count}, ready")
        notes = [*about.notes, *([prefix.mended] if prefix.mended else [])]
        notes += source.checkout(spec.source, work.checkout, home=home, report=report)
        placed = place_inputs(spec.inputs, work.project, home=home)
        work.artifacts.mkdir()
        before = take_inventory(work.checkout)

        ended, events = _supervised(spec, about, attachment, work, prefix, notes, began)

        _note_changes(directory, events, ended, placed, prefix)
        try:
            _keep_results(spec, about, directory, work, before, ended, home)
        except OrchError as error:
            cleanup.pop_all()
            _record_end(directory, ended, ())
            raise OrchError(
                f"the outputs of run {directory.run_id} could not all be stored: {error} They are in {work.root}."
            ) from error
        if about.keep_work:
            cleanup.pop_all()
            report("work", str(work.root))
    return current_record(directory)


def current_record(directory: RunDirectory) -> RunRecord:
    """What the run directory tells now."""
    from orchestrator import journal

    events, _ = journal.read(directory.journal)
    record = record_from_journal(directory.run_id, events)
    if record is None:
        raise OrchError(f"the journal {directory.journal} does not tell of a run.")
    return record


def _supervised(
    spec: RunSpec,
    about: Circumstances,
    attachment: Attachment,
    work: WorkDirectory,
    prefix: Prefix,
    notes: list[str],
    began: Callable[[RunRecord], object],
) -> tuple[Ended, EventReader]:
    directory = attachment.directory
    program = _program(spec, about, directory, work, prefix)
    directory.events.touch()
    events = EventReader(directory.events)

    def born() -> None:
        me = identify(os.getpid())
        # After a power cut no process has to be found: this line need not be on the disk.
        directory.record("started", sync=False, child=None if me is None else fields_to_json(me))

    def started(pid: int) -> None:
        attachment.progress.write({"program": pid})
        began(current_record(directory))

    def tick() -> None:
        logged = events.read()
        if logged:
            directory.record(**logged)

    terminal = _open_terminal(attachment)
    values = {**spec.parameters, **dict.fromkeys(spec.secrets, "***")}
    attachment.progress("running", project.shown_command(spec.command, values))
    directory.record("created", **_created(spec, about, notes))
    try:
        ended = supervise(
            program,
            directory,
            stop=attachment.stop,
            grace=about.grace,
            viewer=attachment.viewer,
            terminal=terminal,
            ring=attachment.progress.ring,
            born=born,
            started=started,
            tick=tick,
        )
    except OrchError:
        directory.journal.unlink()  # it never ran
        raise
    attachment.progress.write({"over": ended.exit_code})
    logged = events.read(last=True)
    if logged:
        directory.record(**logged)
    return ended, events


def _program(
    spec: RunSpec, about: Circumstances, directory: RunDirectory, work: WorkDirectory, prefix: Prefix
) -> Program:
    parameters = {name: about.secrets.get(name, value) for name, value in spec.parameters.items()}
    for name in spec.paths:
        parameters[name] = str(work.project / parameters[name])
    script = project.render(spec.command, parameters)
    chosen = {name: about.secrets.get(name, value) for name, value in spec.variables.items()}
    variables = environment.activated(prefix.path, {**host_variables(about.environ), "PATH": SYSTEM_PATH})
    variables |= chosen
    if spec.environment.paths:
        on_path = [str(work.checkout / path) for path in spec.environment.paths]
        variables["PYTHONPATH"] = os.pathsep.join([*on_path, *filter(None, [variables.get("PYTHONPATH")])])
    variables |= {
        "ORCH_RUN_ID": directory.run_id,
        "ORCH_EVENTS": str(directory.events),
        "ORCH_ARTIFACTS": str(work.artifacts),
        **script.variables,
    }
    bash = shutil.which("bash", path=variables["PATH"])
    if bash is None:
        raise OrchError(f"there is no bash, neither in the environment nor in {SYSTEM_PATH}; install it.")
    return Program([bash, "-c", script.text], work.project, variables, about.stdin, (prefix.use_fd,))


def _created(spec: RunSpec, about: Circumstances, notes: list[str]) -> dict[str, Any]:
    me = identify(os.getpid())
    return {
        "spec": spec_to_json(spec),
        "started_at": now_text(),
        "name": about.name,
        "experiment": about.experiment,
        "parent": about.parent,
        "replay_of": about.replay_of,
        "params": dict(about.params),
        "host": host_facts(host_variables(about.environ)),
        "supervisor": None if me is None else fields_to_json(me),
        "notes": notes,
    }


def _note_changes(
    directory: RunDirectory, events: EventReader, ended: Ended, placed: list[Placed], prefix: Prefix
) -> None:
    notes = [*ended.notes, *events.broken]
    notes += [
        f"the program wrote through the input {place}: the original has changed." for place in written_through(placed)
    ]
    changed = environment.drift(prefix.path)
    if changed:
        notes.append(f"the environment was changed while the run used it ({changed[0]}); it is mended before the next.")
    for note in notes:
        directory.record("note", text=note)


def _keep_results(
    spec: RunSpec,
    about: Circumstances,
    directory: RunDirectory,
    work: WorkDirectory,
    before: Inventory,
    ended: Ended,
    home: Home,
) -> None:
    """Store the outputs (and inputs), then record the end: what is stored is never without a record that names it."""
    with store.adding(home):
        outputs, problems = collect_outputs(work, before, home=home, keep=about.keep_work)
        if about.store_inputs:
            problems += [problem for item in spec.inputs for problem in store_input(item, home=home)]
        for problem in problems:
            directory.record("note", text=problem)
        _record_end(directory, ended, outputs)


def _record_end(directory: RunDirectory, ended: Ended, outputs: tuple[Output, ...] | list[Output]) -> None:

    status = "stopped" if ended.stopped else "finished" if ended.exit_code == 0 else "failed"
    directory.record(
        "ended",
        status=status,
        exit_code=ended.exit_code,
        reason=ended.reason,
        ended_at=now_text(),
        outputs=[output_to_json(output) for output in outputs],
        usage=fields_to_json(ended.usage),
    )


def _open_terminal(attachment: Attachment) -> Terminal | None:
    if attachment.window is None:
        return None
    from orchestrator.execute.terminal import open_terminal

    return open_terminal(attachment.window)


def _remove(folder: Path) -> None:
    """Remove a work directory, read-only folders in it included."""

    def open_up(function: Callable[..., Any], path: str, _: object) -> None:
        os.chmod(Path(path).parent, 0o700)  # noqa: PTH101 - a path as rmtree gives it
        function(path)

    shutil.rmtree(folder, onerror=open_up) if folder.exists() else None
