"""The commands that look at recorded runs: list, show, get, rm."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

from orchestrator import environment, ledger
from orchestrator.beginning import find_run
from orchestrator.cli import text
from orchestrator.cli.tell import tell
from orchestrator.elsewhere import ago, host_of, seen_on, silent_seconds
from orchestrator.errors import DiskFullError, UsageError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.ledger.browse import lacks_verdict
from orchestrator.ledger.query import VERDICTS
from orchestrator.model import Status
from orchestrator.paths import Home, open_home
from orchestrator.report import age, plural, project_name, seconds_since, seldom
from orchestrator.sweep import sweep

_SILENT_SECONDS = 600.0
"""A logged run of which nobody said anything for so long may have lost who logs it."""


def list_runs(experiment: str | None, status: str | None, limit: int, *, as_json: bool) -> None:
    """`orch list`."""
    known = (*get_args(Status), *VERDICTS)
    if status is not None and status not in known:
        raise UsageError(f"--status takes {', '.join(known)}, not {status!r}.")
    with open_ledger() as (home, connection):
        rows = ledger.find_runs(connection, limit=limit, experiment=experiment, status=status, deleted=False)
        shown = [ledger.load_run(connection, row.run_id) for row in rows]
        away = {run["run_id"]: said_elsewhere(home, run) or _said_silent(home, run) for run in shown}
        varying = {
            spec_id
            for spec_id in {run["spec_id"] for run in shown}
            if spec_id is not None and ledger.varying_outputs(connection, spec_id)
        }
        ids = [ledger.short_id(connection, row.run_id) for row in rows]
    if as_json:
        print(json.dumps(shown, indent=2))
    elif not rows:
        print(
            "no such runs." if experiment or status else f"no runs yet in {home.root}: orch run REPO makes the first."
        )
    else:
        _print_list(ids, shown, away, varying)


def _print_list(
    ids: Sequence[str], shown: Sequence[dict[str, Any]], away: Mapping[str, str], varying: Container[str]
) -> None:
    narrow = text.is_narrow()
    metrics, params = (text.telling_first([run[kind] for run in shown]) for kind in ("metrics", "params"))
    table = [
        [short, *_list_row(run, away[run["run_id"]], varying, metrics, params, narrow=narrow)]
        for short, run in zip(ids, shown, strict=True)
    ]
    # A column that says nothing is left out: most runs have no name and the same entry point, some no metrics.
    kept = [
        i
        for i, column in enumerate(_COLUMNS)
        if len(values := {row[i] for row in table}) > 1 or (column.header != "ENTRY" and values != {""})
    ]
    has_commits = any(run["spec"] for run in shown)
    text.print_table(
        [_COLUMNS[i] for i in kept],
        [[row[i] for i in kept] for row in table],
        left_out=["commits"] if narrow and has_commits else [],
    )


_COLUMNS = (
    text.Column("RUN", None),
    text.Column("NAME", 3),
    text.Column("STATUS", None),
    text.Column("STARTED", 1),
    text.Column("TOOK", 0),
    text.Column("SOURCE", 2, text.end_of_path),
    text.Column("ENTRY", 0),
    text.Column("METRICS", 4, text.first_pairs),
    text.Column("PARAMETERS", 5, text.first_pairs),
)


def remove(wanted: Sequence[str], *, as_json: bool) -> None:
    """`orch rm`."""
    from orchestrator.remove import remove_run

    with open_ledger() as (home, connection):
        run_ids = [find_run(home, connection, item) for item in wanted]
        removed = []
        gone: set[str] = set()
        for run_id in run_ids:
            if run_id in gone:
                continue
            done = remove_run(home, connection, run_id, waiting=_say_waiting)
            gone |= {run_id, *done.nested}
            removed.append({"run_id": run_id, "freed": done.freed, "nested": list(done.nested)})
            if not as_json:
                nested = f" and {plural(len(done.nested), 'nested run')}" if done.nested else ""
                print(f"removed run {run_id}{nested}, {text.size(done.freed)} freed")
    if as_json:
        print(json.dumps(removed, indent=2))


def _say_waiting() -> None:
    tell("waiting", "for a run that stores or compares its outputs")


def rebuild(*, as_json: bool) -> None:
    """`orch ledger rebuild`. It ends with exit code 1 when it had to leave something out."""
    home, is_whole = open_home(), True

    def listen(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        nonlocal is_whole
        is_whole = is_whole and done is not None
        tell(phase, text, done=done, total=total)

    packages = partial(environment.locked_packages, home)
    count = ledger.rebuild(home, report=seldom(listen), packages=packages)
    print(
        json.dumps({"ledger": str(home.ledger), "runs": count}) if as_json else f"{home.ledger}: {plural(count, 'run')}"
    )
    if not is_whole:
        raise SystemExit(1)


def print_record(home: Home, run_id: str) -> None:
    """The public JSON of a run."""
    connection = ledger.connect(home)
    try:
        print(json.dumps(ledger.load_run(connection, run_id), indent=2))
    finally:
        connection.close()


@contextmanager
def open_ledger() -> Iterator[tuple[Home, sqlite3.Connection]]:
    """The home and its ledger, made true first. A home that is not there is an empty one, and is not made.

    A full disk keeps nobody from looking, nor from ending a run.
    """
    home = open_home(make=False)
    try:
        connection = _true_ledger(home, ledger.connect)
    except DiskFullError as error:
        tell("warning", str(error))
        connection = _true_ledger(home, ledger.copy_in_memory)
    try:
        yield home, connection
    finally:
        connection.close()


def _true_ledger(home: Home, connect: Callable[[Home], sqlite3.Connection]) -> sqlite3.Connection:
    connection = connect(home)
    try:
        sweep(home, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def said_elsewhere(home: Home, run: dict[str, Any]) -> str:
    """For a live run of another machine (a home that two login nodes share): which, and when it was last heard of."""
    if run["status"] not in ("running", "orphaned"):
        return ""
    record = ledger.read_run(home, run["run_id"], logged=False)
    if record is None or record.supervisor is None or state_of(record.supervisor) != "elsewhere":
        return ""
    silent = silent_seconds(home, RunDirectory(home.run(record.run_id)))
    return f" {seen_on(host_of(record, record.supervisor), silent)}"


def _said_silent(home: Home, run: dict[str, Any]) -> str:
    """For a logged run that says it is running: for how long nobody has said anything of it, when that is long."""
    if run["status"] != "running" or run["spec"] is not None:
        return ""
    try:
        silent = time.time() - RunDirectory(home.run(run["run_id"])).journal.stat().st_mtime
    except OSError:
        return ""
    return f", silent {ago(silent).removesuffix(' ago')}" if silent > _SILENT_SECONDS else ""


def _list_row(
    run: dict[str, Any],
    away: str,
    varying: Container[str],
    metrics: Sequence[str],
    params: Sequence[str],
    *,
    narrow: bool,
) -> list[str]:
    spec = run["spec"]
    source = spec["source"] if spec else {}
    commit = f"@{source['commit'][:7]}{'*' if source['dirty'] else ''}" if spec and not narrow else ""
    status = text.status_of(
        run["status"],
        run["exit_code"],
        run["verdict"] and run["verdict"]["result"],
        uncompared=is_uncompared(run),
        varies=run["spec_id"] in varying,
    )
    return [
        text.visible(run["name"] or ""),
        status + (away.partition(", seen")[0] if narrow else away),
        age(run["started_at"]),
        _took(run),
        text.visible(project_name(source.get("url"), source.get("subdir"))) + commit,
        spec["entry_point"] if spec else "",
        " ".join(f"{text.visible(k)}={text.number(run['metrics'][k])}" for k in metrics if k in run["metrics"]),
        " ".join(f"{text.visible(k)}={text.visible(run['params'][k])}" for k in params if k in run["params"]),
    ]


def is_uncompared(run: dict[str, Any]) -> bool:
    """Whether it is a replay that nobody has compared."""
    return lacks_verdict(run["status"], run["replay_of"], run["verdict"], run["bundle"])


def _took(run: dict[str, Any]) -> str:
    if run["status"] == "running":
        return text.duration(seconds_since(run["started_at"]))
    seconds = run["usage"]["wall_seconds"]
    if seconds is None and run["spec"] is None and run["ended_at"]:  # nobody measured it, but who logged it said when
        seconds = max(seconds_since(run["started_at"]) - seconds_since(run["ended_at"]), 0.0)
    return "" if seconds is None else text.duration(seconds)
