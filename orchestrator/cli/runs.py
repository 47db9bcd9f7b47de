"""The commands that look at recorded runs: list, show, get, rm."""

from __future__ import annotations

import fnmatch
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from orchestrator import environment, ledger, store
from orchestrator.beginning import find_recorded, find_run
from orchestrator.canonical import local_path
from orchestrator.cli import text
from orchestrator.cli.tell import tell
from orchestrator.elsewhere import host_of, seen_on, silent_seconds, way_to_end
from orchestrator.errors import DiskFullError, OrchError, UsageError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.tree import processes_of
from orchestrator.ledger.browse import lacks_verdict
from orchestrator.ledger.query import VERDICTS
from orchestrator.model import Output, Status
from orchestrator.paths import Home, open_home, stays_below
from orchestrator.records import spec_from_json
from orchestrator.report import age, plural, project_name, seconds_since
from orchestrator.sweep import sweep


def list_runs(experiment: str | None, status: str | None, limit: int, *, as_json: bool) -> None:
    """`orch list`."""
    known = (*get_args(Status), *VERDICTS)
    if status is not None and status not in known:
        raise UsageError(f"--status takes {', '.join(known)}, not {status!r}.")
    with open_ledger() as (home, connection):
        rows = ledger.find_runs(connection, limit=limit, experiment=experiment, status=status, deleted=False)
        shown = [ledger.load_run(connection, row.run_id) for row in rows]
        elsewhere = {run["run_id"]: _elsewhere(home, run) for run in shown}
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
        _print_list(ids, shown, elsewhere, varying)


def _print_list(
    ids: Sequence[str], shown: Sequence[dict[str, Any]], elsewhere: Mapping[str, str], varying: Container[str]
) -> None:
    narrow = text.is_narrow()
    metrics, params = (text.telling_first([run[kind] for run in shown]) for kind in ("metrics", "params"))
    table = [
        [short, *_list_row(run, elsewhere[run["run_id"]], varying, metrics, params, narrow=narrow)]
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


def show(wanted: str, *, as_json: bool) -> None:
    """`orch show`."""
    with open_ledger() as (home, connection):
        run_id = find_recorded(home, connection, wanted)
        run = ledger.load_run(connection, run_id)
        if as_json:
            print(json.dumps(run, indent=2))
            return
        spec = run["spec"] or {"environment": None, "secret_parameters": [], "inputs": []}
        ref = spec["environment"]
        packages = ledger.package_count(connection, ref["lock_id"], ref["platform"]) if ref else None
        varying = ledger.varying_outputs(connection, run["spec_id"]) if ref else []
    for label, value in _facts(run, packages, home):
        print(text.wrapped(f"{label:<13}{text.visible(value, 1000)}", sys.stdout, 13))
    secrets = spec["secret_parameters"]
    params = [[n, "(not recorded)" if n in secrets else text.visible(v, 300)] for n, v in run["params"].items()]
    _print_section("parameters", params)
    _print_section("metrics", [[name, text.number(value)] for name, value in run["metrics"].items()])
    _print_section("tags", [[name, text.visible(value, 300)] for name, value in run["tags"].items()])
    _print_section("inputs", [[i["path"], text.size(i["size"]), i["sha256"][:16]] for i in spec["inputs"]])
    _print_section(
        "outputs", [[text.visible(o["path"], 300), text.size(o["size"]), o["sha256"][:16]] for o in run["outputs"]]
    )
    if run["verdict"]:
        from orchestrator.cli.verdict import verdict_lines

        print("\nheld against the original")
        print("\n".join(verdict_lines(run["verdict"])))
    if varying:
        names = ", ".join(text.visible(path, 300) for path in varying[:5]) + (", ..." if len(varying) > 5 else "")
        print(f"\nnot deterministic: runs of this spec have different {names}")
    for note in run["notes"]:
        print(f"note: {text.visible(note, 1000)}")
    logs = RunDirectory(home.run(run_id))
    if logs.stdout.exists():
        print(f"\nwhat it printed: orch logs {wanted}")


def get(wanted: str, patterns: Sequence[str], output: Path, *, quiet: bool, as_json: bool) -> None:
    """`orch get`."""
    with open_ledger() as (home, connection):
        run_id = find_recorded(home, connection, wanted)
    brought = bring(home, run_id, patterns, output)
    if as_json:
        print(json.dumps({"run_id": run_id, "folder": str(output), "outputs": [o.path for o in brought]}, indent=2))
    elif not quiet:
        print(f"{plural(len(brought), 'output')} in {output}", file=sys.stderr)


def bring(home: Home, run_id: str, patterns: Sequence[str], output: Path) -> list[Output]:
    """Copy a run's outputs that match any of `patterns` (all when there are none) below `output`, and say which.

    A file that stands there already with other bytes is not overwritten: OrchError names it before anything is
    written. Links come last, so that no file is ever written through one.
    """
    chosen = _chosen_outputs(home, run_id, patterns)
    targets = [(item, _target(output, local_path(item.path))) for item in chosen]
    for item, target in targets:
        if os.path.lexists(target) and not _is_same(target, item.sha256, item.link):
            raise OrchError(f"{target} is there already and differs; move it away, or choose another folder with -o.")
    for item, target in sorted(targets, key=lambda pair: pair[0].link is not None):
        if os.path.lexists(target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if item.link is not None:
            target.symlink_to(local_path(item.link))
        else:
            store.copy_out(home, item.sha256, target, item.mode)
    return chosen


def _chosen_outputs(home: Home, run_id: str, patterns: Sequence[str]) -> list[Output]:
    record = ledger.read_run(home, run_id)
    if record is None:
        raise OrchError(f"run {run_id} has no directory any more.")
    if record.status in ("running", "orphaned"):
        raise OrchError(f"run {run_id} is {record.status}; its outputs are there when it has ended.")
    if record.exit_code is None:
        raise OrchError(f"the outputs of run {run_id} were not stored: {record.reason or record.status}.")
    chosen = [o for o in record.outputs if not patterns or any(_matches(o.path, p) for p in patterns)]
    if not chosen and patterns:
        there = ", ".join(o.path for o in record.outputs[:5]) or "none"
        raise OrchError(f"run {run_id} has no output that matches {' or '.join(patterns)}; it has: {there}.")
    return chosen


def remove(wanted: Sequence[str], *, as_json: bool) -> None:
    """`orch rm`."""
    from orchestrator.remove import remove_run

    with open_ledger() as (home, connection):
        run_ids = [find_run(home, connection, item) for item in wanted]
        removed = []
        for run_id in dict.fromkeys(run_ids):
            freed = remove_run(home, connection, run_id, waiting=_say_waiting)
            removed.append({"run_id": run_id, "freed": freed})
            if not as_json:
                print(f"removed run {run_id}, {text.size(freed)} freed")
    if as_json:
        print(json.dumps(removed, indent=2))


def _say_waiting() -> None:
    tell("waiting", "for a run that stores or compares its outputs")


def rebuild(*, as_json: bool) -> None:
    """`orch ledger rebuild`."""
    from orchestrator.report import silent

    home = open_home()
    count = ledger.rebuild(home, report=silent, packages=lambda lock_id: environment.locked_packages(home, lock_id))
    print(
        json.dumps({"ledger": str(home.ledger), "runs": count}) if as_json else f"{home.ledger}: {plural(count, 'run')}"
    )


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


def _elsewhere(home: Home, run: dict[str, Any]) -> str:
    """For a live run of another machine (a home that two login nodes share): which, and when it was last heard of."""
    if run["status"] not in ("running", "orphaned"):
        return ""
    record = ledger.read_run(home, run["run_id"], logged=False)
    if record is None or record.supervisor is None or state_of(record.supervisor) != "elsewhere":
        return ""
    silent = silent_seconds(home, RunDirectory(home.run(record.run_id)))
    return f" {seen_on(host_of(record, record.supervisor), silent)}"


def _list_row(
    run: dict[str, Any],
    elsewhere: str,
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
        uncompared=_lacks_verdict(run),
        varies=run["spec_id"] in varying,
    )
    return [
        text.visible(run["name"] or ""),
        status + (elsewhere.partition(",")[0] if narrow else elsewhere),
        age(run["started_at"]),
        _took(run),
        text.visible(project_name(source.get("url"), source.get("subdir"))) + commit,
        spec["entry_point"] if spec else "",
        " ".join(f"{text.visible(k)}={text.number(run['metrics'][k])}" for k in metrics if k in run["metrics"]),
        " ".join(f"{text.visible(k)}={text.visible(run['params'][k])}" for k in params if k in run["params"]),
    ]


def _lacks_verdict(run: dict[str, Any]) -> bool:
    return lacks_verdict(run["status"], run["replay_of"], run["verdict"], run["bundle"])


def _took(run: dict[str, Any]) -> str:
    if run["status"] == "running":
        return text.duration(seconds_since(run["started_at"]))
    seconds = run["usage"]["wall_seconds"]
    return "" if seconds is None else text.duration(seconds)


def _facts(run: dict[str, Any], packages: int | None, home: Home) -> Iterator[tuple[str, str]]:
    yield "run", run["run_id"] + (f"  {run['name']}" if run["name"] else "")
    status = run["status"]
    if run["exit_code"]:
        status += f", exit code {run['exit_code']}"
    yield "status", status + (f", {run['reason']}" if run["reason"] else "")
    if run["bundle"]:
        yield "imported", f"from a bundle whose manifest has the sha256 {run['bundle'][:16]}..."
    if run["replay_of"]:
        found = run["verdict"] or {"result": "not compared"}
        how = f": orch replay --compare {run['run_id'][:16]} does it" if _lacks_verdict(run) else ""
        yield "replay of", f"{run['replay_of']}, {found['result']}{how}"
    yield "started", run["started_at"]
    if run["usage"]["wall_seconds"] is not None:
        usage = run["usage"]
        yield (
            "took",
            f"{text.duration(usage['wall_seconds'])}, {text.duration(usage['cpu_seconds'])} of CPU, "
            f"{text.size(usage['peak_memory'])} peak",
        )
    elif (where := _elsewhere(home, run)) or run["status"] == "running":
        yield "supervisor", _supervisor(home, run, away=bool(where))
    elif run["status"] == "orphaned":
        pids = " ".join(map(str, processes_of(run["run_id"])))
        yield "processes", f"{pids}; orch stop {run['run_id'][:16]} ends them"
    if run["parent"]:
        yield "child of", run["parent"]
    if run["spec"]:
        yield from _spec_facts(run["spec"], packages, home)
    else:
        yield "source", "nothing is known of it: it was only logged"
    yield "experiment", run["experiment"]
    if run["spec"]:
        yield "host", f"{run['host'].get('hostname', '?')}, {run['host'].get('cpu', '?')}"
        yield "spec id", run["spec_id"]


def _spec_facts(spec: dict[str, Any], packages: int | None, home: Home) -> Iterator[tuple[str, str]]:
    source, ref = spec["source"], spec["environment"]
    yield "source", source["url"] + (f"#{source['subdir']}" if source["subdir"] else "")
    yield "commit", source["commit"] + _origin(spec)
    yield "command", f"{spec['entry_point']}: {text.visible(spec['command'], 300)}"
    count = plural(packages or 0, "package")
    day = f", as of {ref['as_of'][:10]}" if ref.get("as_of") else ""
    yield "environment", f"{ref['lock_id'][:16]}, {ref['platform']}, {count}{day}"
    for platform, lock_id in ref.get("others", {}).items():
        yield "", f"{lock_id[:16]}, {platform}, for a replay there"
    yield "lock", str(environment.lock_path(home, ref["lock_id"]))


def _origin(spec: Mapping[str, Any]) -> str:
    """Where a commit is from: a revision that was asked for, or files that no commit had."""
    source = spec["source"]
    if source["dirty"]:
        from orchestrator.source import kind_of

        kind = kind_of(spec_from_json(spec).source)
        return f" ({kind}, not committed)" if kind == "work tree" else f" (made of the {kind})"
    return f" ({source['revision']})" if source["revision"] else ""


def _supervisor(home: Home, run: dict[str, Any], *, away: bool) -> str:
    record = ledger.read_run(home, run["run_id"], logged=False)
    if record is None or record.supervisor is None:
        return "unknown"
    if away:
        return way_to_end(home, RunDirectory(home.run(record.run_id)), host_of(record, record.supervisor))
    return f"pid {record.supervisor.pid}; orch stop {record.run_id[:16]} ends the run"


def _print_section(title: str, rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    print(f"\n{title}")
    rows = [[text.visible(cell, 300) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _matches(path: str, pattern: str) -> bool:
    """A pattern without a slash is matched against the file's name too, and a folder brings all below it."""
    name = PurePosixPath(path).name
    folder = pattern.rstrip("/")
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern) or path.startswith(f"{folder}/")


def _target(output: Path, path: str) -> Path:
    """Where an output goes: below `output`, and by no link that stands there."""
    if not stays_below(path):
        raise OrchError(f"the record names an output {path!r} that would leave the folder; it is not brought.")
    for parent in list(PurePosixPath(path).parents)[:-1]:
        if (output / parent).is_symlink():
            raise OrchError(f"{output / parent} is a link; {output / path} is not written through it.")
    return output / path


def _is_same(target: Path, sha256: str, link: str | None) -> bool:
    if link is not None:
        return target.is_symlink() and os.fspath(target.readlink()) == local_path(link)
    return target.is_file() and not target.is_symlink() and store.hash_file(target)[0] == sha256
