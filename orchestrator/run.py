"""`orch run`, whole: resolve the request, find or make its environment, execute, record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator import environment, ledger, source
from orchestrator.errors import OrchError
from orchestrator.execute.execute import Attachment, Circumstances, execute
from orchestrator.model import RunRecord, latest_metrics
from orchestrator.paths import Home
from orchestrator.records import spec_id
from orchestrator.resolve import Resolution, RunRequest, resolve


def run(request: RunRequest, about: Circumstances, attachment: Attachment, *, home: Home, cached: bool = False) -> int:
    """Do one run under the supervision of this process. Returns the exit code of `orch run`.

    With `cached` the finished run of the same spec is the answer, if there is one.
    """
    _check_ledger(home, attachment)
    resolution = resolve(request, home=home, report=attachment.progress)
    if cached and (run_id := _finished_before(resolution, home, attachment)):
        attachment.progress.write({"cached": run_id})
        return 0
    about = replace(
        about,
        secret_parameters=resolution.secret_parameters,
        secret_variables=resolution.secret_variables,
        params=resolution.params,
        notes=resolution.notes,
    )
    record = execute(resolution.spec, about, attachment, home=home, began=lambda running: index(home, running))
    short = index(home, record)
    notes = [note for note in record.notes if note not in resolution.notes]
    notes += _left_out(request) if record.status == "failed" else []
    say_how_it_ended(record, short, notes, attachment)
    return record.exit_code if record.exit_code is not None else OrchError.exit_code


def _check_ledger(home: Home, attachment: Attachment) -> None:
    """Find out before anything runs that the ledger can't be used, or stands where it is slow."""
    ledger.connect(home).close()
    if warning := ledger.network_file_system(home.ledger):
        attachment.progress("note", warning)


def _finished_before(resolution: Resolution, home: Home, attachment: Attachment) -> str | None:
    spec = resolution.spec
    if spec.secret_parameters or spec.secret_variables:
        attachment.progress("note", "values that are not recorded can't be compared, so --cached runs it anew.")
        return None
    connection = ledger.connect(home)
    try:
        return ledger.find_by_spec(connection, spec_id(spec))
    finally:
        connection.close()


def index(home: Home, record: RunRecord) -> str:
    """Index the run as its journal tells it now, and once the packages of its environment. Returns its short id.

    Not `record` itself: the server of the run around it may have written to the journal since that was read.
    """
    connection = ledger.connect(home)
    try:
        ref = record.spec.environment
        if not ledger.has_environment(connection, ref.lock_id, ref.platform):
            packages = environment.locked_packages(home, ref.lock_id)
            ledger.write_environment(connection, ref.lock_id, ref.platform, packages)
        ledger.index_run(home, connection, record.run_id)
        return ledger.short_id(connection, record.run_id)
    finally:
        connection.close()


def say_how_it_ended(record: RunRecord, short: str | None, notes: Sequence[str], attachment: Attachment) -> None:
    """Tell the viewer how a run ended; `notes` are sentences that it has not been told.

    `short` is the short id under which it is offered to be run again, None for a run that is not.
    """
    attachment.progress.write(
        {
            "ended": record.status,
            "run": short,
            "reason": record.reason,
            "exit_code": record.exit_code,
            "seconds": record.usage.wall_seconds,
            "memory": record.usage.peak_memory,
            "outputs": len(record.outputs),
            "metrics": len(latest_metrics(record)),
            "notes": list(notes),
        }
    )


def _left_out(request: RunRequest) -> list[str]:
    """A program may have failed for want of a file that git ignores, and that was therefore not there."""
    ignored = source.ignored_files(request.repository)
    if not ignored:
        return []
    shown = ", ".join(ignored[:3]) + (", ..." if len(ignored) > 3 else "")
    return [f"files that git ignores were not there ({shown}); data that the program needs is named with --input."]
