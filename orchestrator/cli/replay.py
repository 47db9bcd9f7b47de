"""`orch replay`: a recorded run again, and what came of it, output by output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import ledger
from orchestrator.canonical import portable_path
from orchestrator.cli import text
from orchestrator.cli.run import follow
from orchestrator.cli.viewer import Wishes
from orchestrator.compare import parse_tolerances
from orchestrator.errors import OrchError
from orchestrator.execute.execute import Circumstances
from orchestrator.execute.rundir import create_run_directory
from orchestrator.model import RunRecord, new_run_id
from orchestrator.paths import Home, open_home
from orchestrator.project import parse_parameter_options
from orchestrator.replay import DIFFERS, ReplayRequest, recorded, replay, varying
from orchestrator.report import plural
from orchestrator.resolve import split_input
from orchestrator.variables import user_variables

_SHOWN = 20
"""Outputs that are told one by one; more are in the JSON."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `orch replay`, as typed."""

    run: str
    tolerances: tuple[str, ...]
    repeat: int
    parameters: tuple[str, ...]
    variables: tuple[str, ...]
    inputs: tuple[str, ...]
    offline: bool
    keep_work: bool
    grace: float
    quiet: bool
    as_json: bool


def replay_run(asked: Asked) -> int:
    """Replay; when something differs, `--repeat` times. Returns 0 reproduced, 1 anything differed, 125 could not."""
    home = open_home(offline=asked.offline)
    request = _request(asked, home)
    original = recorded(request.run_id, home)
    about = Circumstances(
        environ=dict(os.environ), experiment=original.experiment, keep_work=asked.keep_work, grace=asked.grace
    )
    done: list[RunRecord] = []
    # One that comes out right after one that did not proves nothing: all are run then.
    while not done or (len(done) < asked.repeat and any(not _is_reproduced(record) for record in done)):
        directory = create_run_directory(home, new_run_id())
        wishes = Wishes(quiet=asked.quiet, as_json=asked.as_json)
        code, _ = follow(directory, lambda attachment: replay(request, about, attachment, home=home), wishes, home)
        if code not in (0, DIFFERS):
            return code
        record = ledger.read_run(home, directory.run_id)
        if record is None or record.verdict is None:
            raise OrchError(f"run {directory.run_id} has no verdict.")
        done.append(record)
    _show(asked, original, done, home)
    return 0 if all(map(_is_reproduced, done)) else DIFFERS


def _is_reproduced(record: RunRecord) -> bool:
    return record.verdict is not None and record.verdict["result"] == "reproduced"


def _request(asked: Asked, home: Home) -> ReplayRequest:
    connection = ledger.connect(home)
    try:
        run_id = ledger.resolve_run(connection, asked.run)
    finally:
        connection.close()
    places = [split_input(option, Path.cwd()) for option in asked.inputs]
    return ReplayRequest(
        run_id=run_id,
        rules=parse_tolerances(asked.tolerances),
        secret_parameters=parse_parameter_options(asked.parameters),
        secret_variables=user_variables(asked.variables, os.environ),
        inputs={path: portable_path(str(place)) for place, path in places},
    )


def _show(asked: Asked, original: RunRecord, done: Sequence[RunRecord], home: Home) -> None:
    from orchestrator.cli import runs

    # The first that differs tells most.
    record = next((one for one in done if not _is_reproduced(one)), done[0])
    if asked.as_json:
        runs.print_record(home, record.run_id)
    if asked.quiet or asked.as_json:
        return
    found: Mapping[str, Any] = record.verdict or {}
    print(f"\n{found['result']}: run {record.run_id[:16]} of {original.run_id[:16]}")
    for line in verdict_lines(found):
        print(line)
    if len(done) > 1:
        print(_why(done))


def verdict_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What a verdict says, in lines for people."""
    before, now = found["exit_code"]
    if before != now:
        yield f"  exit code {now}, recorded {before}"
    if not found["outputs"] and not found["metrics"]:
        yield "  there are no outputs and no metrics: only the exit code was compared"
    yield from _output_lines(found["outputs"])
    yield from _metric_lines(found["metrics"])
    yield f"  environment {found['environment']}"
    for name, recorded_fact, fact in found["host"] if found["result"] == "differs" else ():
        yield f"  host {name}: {text.visible(str(fact), 80)}, recorded {text.visible(str(recorded_fact), 80)}"


def _output_lines(outputs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    others = [item for item in outputs if item["result"] != "identical"]
    if same := len(outputs) - len(others):
        yield f"  {plural(same, 'output')} identical"
    for item in others[:_SHOWN]:
        yield f"  {item['result']:<10}  {text.visible(item['path'], 200)}{_where(item)}"
    if len(others) > _SHOWN:
        yield f"  and {len(others) - _SHOWN} more; --json has them all"


def _metric_lines(metrics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    others = [item for item in metrics if item["result"] != "equal"]
    if same := len(metrics) - len(others):
        yield f"  {plural(same, 'metric')} equal"
    for item in others:
        values = f"{item['recorded']} -> {item['replayed']}"
        yield f"  metric {text.visible(item['name'])}: {item['result']}, {values}"


def _where(item: Mapping[str, Any]) -> str:
    parts = [", ".join(item["rules"])] if item["rules"] else []
    if item["largest_absolute"] is not None:
        parts.append(f"largest error {item['largest_absolute']:.3g}, relative {item['largest_relative'] or 0:.3g}")
    if item["place"] is not None:
        known = (item["replayed"], item["recorded"]) != (None, None)
        values = f": {text.visible(str(item['replayed']), 60)}, recorded {text.visible(str(item['recorded']), 60)}"
        parts.append(f"first at {text.visible(item['place'], 80)}{values if known else ''}")
    if item["note"] is not None:
        parts.append(text.visible(item["note"], 200))
    return f"  ({'; '.join(parts)})" if parts else ""


def _why(done: Sequence[RunRecord]) -> str:
    """Whether what differs is other each time, or always the same and not what was recorded."""
    if wavering := sorted(varying(done)):
        names = ", ".join(text.visible(name) for name in wavering[:3]) + (", ..." if len(wavering) > 3 else "")
        return (
            f"{names}: not the same in {len(done)} replays, so the program itself is not deterministic. Usual causes: "
            "a random seed that is not set, threads that add up in another order, the time, the order of a set or of "
            "files."
        )
    return (
        f"the {len(done)} replays agree with each other and not with the record: a real difference. Usual causes: "
        "other hardware or number of threads, a system library, or data from outside that has changed."
    )
