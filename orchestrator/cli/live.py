"""The commands for runs that live: ps, attach, stop."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from orchestrator import ledger
from orchestrator.beginning import find_live, find_run, newest_live, read_beginning, why_unrecorded
from orchestrator.cli import text
from orchestrator.cli.logs import follow_logs, refuse_logged, show_logs
from orchestrator.cli.run import has_terminal, see, tell_detached
from orchestrator.cli.runs import open_ledger
from orchestrator.cli.tell import tell
from orchestrator.cli.viewer import Wishes
from orchestrator.elsewhere import SILENT_SECONDS, ago, host_of, seen_on, silent_seconds, way_to_end
from orchestrator.errors import OrchError, UsageError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.viewers import watch_from_elsewhere
from orchestrator.live import LiveRun, live_runs, live_to_json
from orchestrator.model import RunRecord
from orchestrator.stop import Stopped, give_up_runs, stop_runs

_NARROW_SOURCE = 18
_NARROWEST = 40


def ps(*, as_json: bool) -> None:
    """`orch ps`."""
    with open_ledger() as (home, connection):
        runs = live_runs(home, connection) if home.runs.is_dir() else []
        silent = {run.run_id: silent_seconds(home, RunDirectory(home.run(run.run_id))) for run in runs if run.host}
    if as_json:
        print(json.dumps([live_to_json(run) for run in runs], indent=2))
        return
    ids = [run.run_id for run in runs]
    short = {run_id: ledger.short_id(ids, run_id) for run_id in ids}
    live = [run for run in runs if run.status != "never began"]
    if live:
        narrow = text.is_narrow()
        headers = ["RUN", "STATUS", "TIME", "CPU", "MEMORY", "SOURCE", "COMMAND"]
        rows = [[short[run.run_id], *_row(run, silent.get(run.run_id), narrow=narrow)] for run in live]
        text.print_table(headers, rows)
    else:
        print("nothing runs; orch list shows what has run.")
    for run in runs:
        if run.status == "never began":
            _say_never_began(run, short[run.run_id])
        elif silent.get(run.run_id, 0.0) >= SILENT_SECONDS:
            heard = f"run {short[run.run_id]} on {run.host} was last heard of {ago(silent[run.run_id])}"
            way = f"if that machine is gone for good: orch stop --lost {short[run.run_id]}"
            print(text.wrapped(f"{heard}; {way}", sys.stdout, 2))


def _row(run: LiveRun, silent: float | None, *, narrow: bool) -> list[str]:
    commit = f"@{run.commit[:7]}" if run.commit and not narrow else ""
    return [
        run.status + ("" if run.host is None or silent is None else f" {seen_on(run.host, silent)}"),
        text.duration(max(0.0, time.time() - run.since)),
        "-" if run.cpu_percent is None else f"{run.cpu_percent:.0f}%",
        "-" if run.memory is None else text.size(run.memory),
        text.visible(run.source, *([_NARROW_SOURCE] if narrow else [])) + commit,
        text.visible((run.text or run.command).partition("\n")[0], 300),
    ]


def _say_never_began(run: LiveRun, short: str) -> None:
    why = text.visible(run.text.partition("\n")[0], 300)
    when = ago(max(0.0, time.time() - run.since))
    sentence = f"run {short} of {text.visible(run.source)} never began, {when}: {why} orch rm {short} clears it"
    print(text.wrapped(sentence, sys.stdout, 2))


def attach(wanted: str | None, *, tail: int | None, quiet: bool) -> int:
    """`orch attach`: the exit code that `orch run` ends with, 125 where nobody knows it."""
    with open_ledger() as (home, connection):
        run_id = find_run(home, connection, wanted) if wanted is not None else newest_live(home, connection)
        if run_id is None:
            raise OrchError("no run lives on this machine; orch attach RUN shows one that has ended.")
        refuse_logged(connection, run_id)
    directory = RunDirectory(home.run(run_id))
    beginning = read_beginning(directory)
    record = None if beginning else ledger.read_run(home, run_id)
    if beginning is not None and beginning.state == "never began":
        raise OrchError(why_unrecorded(beginning))
    supervisor = beginning.supervisor if beginning else record.supervisor if record else None
    live = beginning is not None or (record is not None and record.status in ("running", "orphaned"))
    if live and supervisor is not None and state_of(supervisor) == "elsewhere":
        way = way_to_end(home, directory, host_of(record, supervisor))
        raise OrchError(f"run {run_id} can't be attached to: {way}; orch logs -f {run_id[:16]} shows what it prints.")
    if not directory.progress.exists():
        return _show_imported(directory, record, tail)
    if record is not None and record.status == "orphaned":
        follow_logs(home, directory, tail=tail)
        return OrchError.exit_code
    watched = watch_from_elsewhere(directory, supervisor)
    code, seen = see(watched, Wishes(quiet=quiet, terminal=has_terminal(), attached=True, tail=tail), home)
    if seen.detached:
        if not quiet:
            tell_detached(run_id, has_ended=seen.over is not None)
        return code
    record = ledger.read_run(home, run_id, logged=False)
    if record is None or record.verdict is None:
        return code
    from orchestrator.cli.replay import show_again

    return show_again(record, home, quiet=quiet)


def _show_imported(directory: RunDirectory, record: RunRecord | None, tail: int | None) -> int:
    """A run that was never run here has logs, and no progress."""
    show_logs(directory, tail=tail)
    if record is None:
        raise OrchError(f"run {directory.run_id} has no directory any more.")
    tell(record.status, record.reason or f"exit code {record.exit_code}")
    return OrchError.exit_code if record.exit_code is None else record.exit_code


def stop(wanted: Sequence[str], *, grace: float | None, now: bool, lost: bool, as_json: bool) -> None:
    """`orch stop`."""
    if now and grace is not None:
        raise UsageError("--now gives no grace; leave one of the two out.")
    if lost and (now or grace is not None):
        raise UsageError("--lost ends nothing that lives; leave --now and --grace out.")
    with open_ledger() as (home, connection):
        try:
            run_ids = list(dict.fromkeys(find_live(home, connection, item) for item in wanted))
        except OrchError as error:
            raise OrchError(f"nothing was stopped: {error}") from error
        if lost:
            ended = give_up_runs(home, connection, run_ids)
        else:
            ended = stop_runs(home, connection, run_ids, grace=0.0 if now else grace, report=tell)
    if as_json:
        print(json.dumps([_stopped_to_json(stopped) for stopped in ended], indent=2))
        return
    for stopped in ended:
        print(_how_it_ended(stopped))


def _stopped_to_json(stopped: Stopped) -> dict[str, str | None]:
    record = stopped.record
    return {
        "run_id": stopped.run_id,
        "ended": stopped.ended,
        "status": record.status if record is not None else None,
        "reason": record.reason if record is not None else None,
    }


def _how_it_ended(stopped: Stopped) -> str:
    run, record = f"run {stopped.run_id[:16]}", stopped.record
    if record is None:
        return f"{run} had not begun; nothing was recorded"
    if stopped.ended == "run":
        return f"{run} is {_end_of(record)}" + ("; it was only logged: no process was ended" * (record.pinned is None))
    if stopped.ended == "comparison":
        return f"{run} is not compared with its original any more; it had ended already: {_end_of(record)}"
    return f"{run} had ended already: {_end_of(record)}"


def _end_of(record: RunRecord) -> str:
    if record.reason:
        reason = text.harmless(record.reason)
        return reason if reason.startswith(record.status) else f"{record.status}, {reason}"
    return record.status + (f", exit code {record.exit_code}" if record.exit_code else "")
