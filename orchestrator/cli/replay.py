"""`orch replay`: a recorded run again, and what came of it, output by output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import ledger
from orchestrator.beginning import find_recorded
from orchestrator.canonical import portable_path
from orchestrator.cli import bundle
from orchestrator.cli.durations import parse_duration
from orchestrator.cli.options import hush
from orchestrator.cli.phases import write_whole
from orchestrator.cli.run import follow, has_terminal, short_source, tell_detached
from orchestrator.cli.tell import tell_notes
from orchestrator.cli.verdict import terminal_lines, verdict_lines, why
from orchestrator.cli.viewer import Wishes
from orchestrator.compare import parse_tolerances
from orchestrator.errors import OrchError, UsageError
from orchestrator.execute.execute import Circumstances
from orchestrator.execute.rundir import RunDirectory, create_run_directory
from orchestrator.execute.supervisor import StopRequest
from orchestrator.model import RunRecord, new_run_id
from orchestrator.paths import Home, open_home
from orchestrator.project import parse_parameter_options
from orchestrator.replay import DIFFERS, ReplayRequest, compare, recorded, replay
from orchestrator.resolve import split_input
from orchestrator.sweep import sweep
from orchestrator.variables import user_variables


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `orch replay`, as typed."""

    run: str
    compare: bool
    tolerances: tuple[str, ...]
    repeat: int
    parameters: tuple[str, ...]
    variables: tuple[str, ...]
    inputs: tuple[str, ...]
    offline: bool
    keep_work: bool
    grace: str
    timeout: str | None
    yes: bool
    quiet: bool
    as_json: bool


def replay_run(asked: Asked) -> int:
    """Replay; when something differs, `--repeat` times. Returns 0 reproduced, 1 anything differed, 125 could not."""
    hush(asked.quiet)
    if asked.compare:
        return _compare(asked)
    home = open_home(offline=asked.offline)
    timeout = None if asked.timeout is None else parse_duration(asked.timeout, "--timeout")
    grace = parse_duration(asked.grace, "--grace", zero=True)
    request = _request(asked, home)
    original = recorded(request.run_id, home)
    if original.bundle is not None:
        bundle.ask(original, home, yes=asked.yes)
    about = Circumstances(
        environ=dict(os.environ),
        experiment=original.experiment,
        keep_work=asked.keep_work,
        grace=grace,
        timeout=timeout,
    )
    told = {"source": short_source(original.spec.source.url), "entry_point": original.spec.entry_point}
    done: list[RunRecord] = []
    # One that comes out right after one that did not proves nothing: all are run then.
    while not done or (len(done) < asked.repeat and any(not _is_reproduced(record) for record in done)):
        directory = create_run_directory(home, new_run_id(), told)
        # Quiet is the program too: its output is in the log, and comparing it is what this is about.
        terminal = not asked.as_json and has_terminal()
        wishes = Wishes(quiet=asked.quiet, as_json=asked.as_json or asked.quiet, terminal=terminal)
        code, seen = follow(
            directory, lambda attachment: replay(request, about, attachment, home=home), wishes, home, lends=False
        )
        if seen.detached:
            tell_detached(directory.run_id)
            return OrchError.exit_code  # nobody knows yet whether it is reproduced
        if code not in (0, DIFFERS):
            return code
        record = ledger.read_run(home, directory.run_id)
        if record is None or record.verdict is None:
            raise OrchError(f"run {directory.run_id} has no verdict: it was removed meanwhile.")
        done.append(record)
    _show(asked, done, home)
    return 0 if all(map(_is_reproduced, done)) else DIFFERS


def show_again(record: RunRecord, home: Home, *, quiet: bool) -> int:
    """Show the verdict of a replay that has been compared. Returns 0 reproduced, 1 something differs."""
    if not quiet:
        _print(["", *_verdict_block(record, home)])
    return 0 if _is_reproduced(record) else DIFFERS


def _compare(asked: Asked) -> int:
    """`--compare`: nothing is run."""
    for_a_run = {
        "--repeat": asked.repeat > 1,
        "-P": asked.parameters,
        "--env": asked.variables,
        "--input": asked.inputs,
        "--keep-work": asked.keep_work,
        "--timeout": asked.timeout,
    }
    for option, given in for_a_run.items():
        if given:
            raise UsageError(f"{option} has no meaning with --compare, which runs nothing.")
    home = open_home(offline=asked.offline)
    rules = parse_tolerances(asked.tolerances)
    run_id = _run_id(asked, home)
    found, notes = compare(run_id, rules, StopRequest(), home=home)
    tell_notes(notes)
    record = ledger.read_run(home, run_id)
    if record is None:
        raise OrchError(f"run {run_id} was removed meanwhile.")
    _show(asked, [record], home)
    return 0 if found.result == "reproduced" else DIFFERS


def _is_reproduced(record: RunRecord) -> bool:
    return record.verdict is not None and record.verdict["result"] == "reproduced"


def _request(asked: Asked, home: Home) -> ReplayRequest:
    places = [split_input(option, Path.cwd()) for option in asked.inputs]
    request = ReplayRequest(
        run_id="",
        rules=parse_tolerances(asked.tolerances),
        secret_parameters=parse_parameter_options(asked.parameters),
        secret_variables=user_variables(asked.variables, os.environ),
        inputs={path: portable_path(str(place)) for place, path in places},
    )
    return replace(request, run_id=_run_id(asked, home))  # a bundle is taken in only when all else is understood


def _run_id(asked: Asked, home: Home) -> str:
    if bundle.is_bundle(asked.run):
        return bundle.take_in(Path(asked.run), home).record.run_id
    connection = ledger.connect(home)
    try:
        sweep(home, connection)
        return find_recorded(home, connection, asked.run)
    except OrchError:
        if "/" in asked.run or asked.run.endswith(".zip") or os.path.lexists(asked.run):
            return bundle.take_in(Path(asked.run), home).record.run_id  # or it says what is wrong with it
        raise
    finally:
        connection.close()


def _show(asked: Asked, done: Sequence[RunRecord], home: Home) -> None:
    from orchestrator.cli import runs

    # The first that differs tells most.
    record = next((one for one in done if not _is_reproduced(one)), done[0])
    if asked.as_json:
        runs.print_record(home, record.run_id)
    if asked.quiet or asked.as_json:
        return
    lines = [*([] if asked.compare else [""]), *_verdict_block(record, home)]
    _print([*lines, why(done)] if len(done) > 1 else lines)


def _verdict_block(record: RunRecord, home: Home) -> Iterator[str]:
    found: Mapping[str, Any] = record.verdict or {}
    yield f"{found['result']}: run {record.run_id[:16]} of {found['replay_of'][:16]}"
    yield from verdict_lines(found)
    if not _is_reproduced(record) and _had_terminal(found["replay_of"], home):
        yield from terminal_lines(found["replay_of"])


def _had_terminal(run_id: str, home: Home) -> bool:
    return any(line.get("terminal") is True for line in RunDirectory(home.run(run_id)).told())


def _print(lines: Sequence[str]) -> None:
    sys.stdout.flush()
    write_whole(1, "".join(f"{line}\n" for line in lines).encode(sys.stdout.encoding, "backslashreplace"))
