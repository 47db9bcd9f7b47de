"""`orch show`: all that is known of a run, and its place among the runs that belong to it."""

from __future__ import annotations

import itertools
import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator import environment, ledger
from orchestrator.beginning import find_recorded
from orchestrator.cli import text
from orchestrator.cli.runs import is_uncompared, open_ledger, said_elsewhere
from orchestrator.elsewhere import host_of, way_to_end
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.tree import processes_of
from orchestrator.ledger.browse import PageRow, page_rows
from orchestrator.paths import Home
from orchestrator.records import spec_from_json
from orchestrator.report import plural


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
        tree = _tree(connection, run_id)
    for label, value in _facts(run, packages, home):
        print(text.wrapped(f"{label:<13}{text.visible(value, 1000)}", sys.stdout, 13))
    secrets = spec["secret_parameters"]
    params = [[n, "(not recorded)" if n in secrets else text.visible(v, 300)] for n, v in run["params"].items()]
    _print_section("parameters", params)
    _print_section("metrics", [[name, text.number(value)] for name, value in run["metrics"].items()])
    _print_section("tags", [[name, text.visible(value, 300)] for name, value in run["tags"].items()])
    tracking = run["tracking"] or {"datasets": [], "models": []}
    _print_section("datasets", [_dataset(data) for data in tracking["datasets"]])
    _print_section("models", [[m["name"], m["state"], m["model_id"]] for m in tracking["models"]])
    if tree:
        print("\nruns that belong together")
        text.print_table(_TREE, tree)
    _print_section("inputs", [[i["path"], text.size(i["size"]), i["sha256"][:16]] for i in spec["inputs"]])
    outputs = sorted(run["outputs"], key=lambda output: str(output["path"]))
    _print_section("outputs", [[text.visible(o["path"], 300), text.size(o["size"]), o["sha256"][:16]] for o in outputs])
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


def _dataset(data: dict[str, Any]) -> list[str]:
    return [data["name"], data["tags"].get("mlflow.data.context", ""), data["digest"], data["source_type"]]


_TREE = (
    text.Column("RUN", None),
    text.Column("WHAT", 3),
    text.Column("STATUS", None),
    text.Column("TOOK", 0),
    text.Column("METRICS", 2, text.first_pairs),
    text.Column("PARAMETERS", 2, text.first_pairs),
)
_MOST_OF_A_FAMILY = 100


def _tree(connection: sqlite3.Connection, run_id: str) -> list[list[str]]:
    """The rows of the runs that were started in one another; none for a run that stands for itself."""
    family = ledger.family(connection, run_id)
    if len(family) < 2:
        return []
    shown = family[:_MOST_OF_A_FAMILY]
    runs = page_rows(connection, [member for member, _ in shown])
    rows = []
    for number, (member, _) in enumerate(shown):
        mark = " *" if member == run_id else ""
        rows.append([_branch(family, number) + ledger.short_id(connection, member) + mark, *_member(runs[member])])
    if len(family) > len(shown):
        rows.append([f"... {len(family) - len(shown)} more", *[""] * (len(_TREE) - 1)])
    return rows


def _branch(family: Sequence[tuple[str, int]], number: int) -> str:
    """The lines that lead to a member from its parent, as `tree` draws them."""
    depth = family[number][1]
    goes_on = [any(later == level for later in _until_above(family, number, level)) for level in range(1, depth + 1)]
    lines = ["│ " if on else "  " for on in goes_on[:-1]]
    return "".join(lines) + ("├ " if goes_on[-1] else "└ ") if depth else ""


def _until_above(family: Sequence[tuple[str, int]], number: int, level: int) -> Iterator[int]:
    """The depths that follow a member, up to the first that is above `level`."""
    return itertools.takewhile(lambda depth: depth >= level, (depth for _, depth in family[number + 1 :]))


def _member(run: PageRow) -> list[str]:
    return [
        run.name or run.entry_point or "",
        text.status_of(run.status, run.exit_code, run.verdict, uncompared=run.is_uncompared),
        "" if run.wall_seconds is None else text.duration(run.wall_seconds),
        " ".join(f"{name}={text.number(value)}" for name, value in run.metrics),
        " ".join(f"{name}={value}" for name, value in run.params),
    ]


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
        how = f": orch replay --compare {run['run_id'][:16]} does it" if is_uncompared(run) else ""
        yield "replay of", f"{run['replay_of']}, {found['result']}{how}"
    yield "started", run["started_at"]
    yield from _usage_facts(run, home)
    if (run["tracking"] or {}).get("deleted"):
        yield "deleted", "through MLflow, which can restore it: lists leave it out; orch rm removes it"
    if run["parent"]:
        yield "child of", run["parent"]
    if run["spec"]:
        yield from _spec_facts(run["spec"], packages, home)
    else:
        what = "that of the run it was logged in" if run["parent"] else "nothing is known of it: it was only logged"
        yield "source", what
    yield "experiment", run["experiment"]
    if run["spec"]:
        yield "host", f"{run['host'].get('hostname', '?')}, {run['host'].get('cpu', '?')}"
        yield "spec id", run["spec_id"]


def _usage_facts(run: dict[str, Any], home: Home) -> Iterator[tuple[str, str]]:
    """What it used; of one that lives, who looks after it."""
    if run["usage"]["wall_seconds"] is not None:
        usage = run["usage"]
        yield (
            "took",
            f"{text.duration(usage['wall_seconds'])}, {text.duration(usage['cpu_seconds'])} of CPU, "
            f"{text.size(usage['peak_memory'])} peak",
        )
    elif (where := said_elsewhere(home, run)) or run["status"] == "running":
        yield "supervisor", _supervisor(home, run, away=bool(where))
    elif run["status"] == "orphaned":
        pids = " ".join(map(str, processes_of(run["run_id"])))
        yield "processes", f"{pids}; orch stop {run['run_id'][:16]} ends them"


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
