"""The commands for runs that live: ps, attach, stop."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence

from orchestrator import ledger
from orchestrator.beginning import find_run, newest_live, read_beginning, why_unrecorded
from orchestrator.cli import text
from orchestrator.cli.logs import show_logs
from orchestrator.cli.run import has_terminal, see, tell_detached
from orchestrator.cli.runs import open_ledger
from orchestrator.cli.tell import tell
from orchestrator.cli.viewer import Wishes
from orchestrator.errors import OrchError, UsageError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.viewers import watch_from_elsewhere
from orchestrator.live import LiveRun, live_runs, live_to_json
from orchestrator.model import RunRecord
from orchestrator.stop import stop_run

_WIDE = 100
"""Columns of a terminal from which on a table shows commits."""


def ps(*, as_json: bool) -> None:
    """`orch ps`."""
    with open_ledger() as (home, connection):
        runs = live_runs(home, connection)
    if as_json:
        print(json.dumps([live_to_json(run) for run in runs], indent=2))
        return
    ids = [run.run_id for run in runs]
    live = [run for run in runs if run.status != "never began"]
    if live:
        narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE
        headers = ["RUN", "STATUS", "TIME", "CPU", "MEMORY", "SOURCE", "COMMAND"]
        table = [[ledger.short_id(ids, run.run_id), *_row(run, narrow=narrow)] for run in live]
        # What a run on another machine uses is not known.
        kept = [i for i, name in enumerate(headers) if name not in ("CPU", "MEMORY") or any(row[i] for row in table)]
        text.print_table([headers[i] for i in kept], [[row[i] for i in kept] for row in table])
    else:
        print("nothing runs; orch list shows what has run.")
    for run in runs:
        if run.status == "never began":
            print(f"run {ledger.short_id(ids, run.run_id)} never began: {text.visible(run.text, 1000)}")


def _row(run: LiveRun, *, narrow: bool) -> list[str]:
    now = time.time()
    heard = "" if run.heard is None else f", seen {text.duration(max(0.0, now - run.heard))} ago"
    commit = f"@{run.commit[:7]}" if run.commit and not narrow else ""
    return [
        run.status + (f" on {run.host}{heard}" if run.host else ""),
        text.duration(max(0.0, now - run.since)),
        "" if run.cpu_percent is None else f"{run.cpu_percent:.0f}%",
        "" if run.memory is None else text.size(run.memory),
        text.visible(run.source) + commit,
        text.visible(run.text or run.command, 300),
    ]


def attach(wanted: str | None, *, tail: int | None) -> int:
    """`orch attach`: the exit code that `orch run` ends with."""
    with open_ledger() as (home, connection):
        run_id = find_run(home, connection, wanted) if wanted is not None else newest_live(home, connection)
    if run_id is None:
        raise UsageError("no run lives on this machine; orch attach RUN shows one that has ended.")
    directory = RunDirectory(home.run(run_id))
    beginning = read_beginning(directory)
    record = None if beginning else ledger.read_run(home, run_id)
    if beginning is not None and beginning.state == "never began":
        raise OrchError(why_unrecorded(beginning))
    supervisor = beginning.supervisor if beginning else record.supervisor if record else None
    live = beginning is not None or (record is not None and record.status in ("running", "orphaned"))
    if live and supervisor is not None and state_of(supervisor) == "elsewhere":
        raise OrchError(_on_another_host(directory, record))
    if not directory.progress.exists():
        return _show_imported(directory, record, tail)
    watched = watch_from_elsewhere(directory, supervisor)
    code, seen = see(watched, Wishes(terminal=has_terminal(), attached=True, tail=tail), home)
    if seen.detached:
        tell_detached(run_id)
    return code


def _on_another_host(directory: RunDirectory, record: RunRecord | None) -> str:
    host = record.host.get("hostname") if record is not None else "another machine"
    heard = directory.heard()
    seen = "" if heard is None else f", seen {text.duration(max(0.0, time.time() - heard))} ago"
    return f"run {directory.run_id} is on {host}{seen}; orch logs -f {directory.run_id[:16]} shows here what it prints."


def _show_imported(directory: RunDirectory, record: RunRecord | None, tail: int | None) -> int:
    """A run that was never run here has logs, and no progress."""
    show_logs(directory, tail=tail)
    if record is None:
        raise OrchError(f"run {directory.run_id} has no directory any more.")
    tell(record.status, record.reason or f"exit code {record.exit_code}")
    return OrchError.exit_code if record.exit_code is None else record.exit_code


def stop(wanted: Sequence[str], *, grace: float | None, now: bool) -> None:
    """`orch stop`."""
    if now and grace is not None:
        raise UsageError("--now gives no grace; leave one of the two out.")
    with open_ledger() as (home, connection):
        run_ids = dict.fromkeys(find_run(home, connection, item) for item in wanted)
        for run_id in run_ids:
            ended = ledger.read_run(home, run_id)
            before = ended.status if ended is not None else None
            record = stop_run(
                home, connection, run_id, grace=0.0 if now else grace, waiting=lambda: tell("stopping", "the run")
            )
            print(_how_it_ended(run_id, before, record))


def _how_it_ended(run_id: str, before: str | None, record: RunRecord | None) -> str:
    if record is None:
        return f"run {run_id[:16]} had not begun; nothing was recorded"
    reason = f": {text.harmless(record.reason)}" if record.reason else ""
    if before in ("running", "orphaned"):
        return f"run {run_id[:16]} is {record.status}{reason}"
    return f"run {run_id[:16]} has ended before: {record.status}{reason}"
