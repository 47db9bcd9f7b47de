"""Runs that have no record: those that are being prepared, and those that never began."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator import ledger
from orchestrator.errors import OrchError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.model import ProcessIdentity
from orchestrator.paths import Home

_YOUNG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the directory of a run tells before there is a record. Times are in seconds since the epoch.

    `text` is what is being done, in the phase `phase`; of one that never began, why. `asked` is what the user wanted
    (see `create_run_directory`). `supervisor` may be of another machine, which nobody here can ask.
    """

    run_id: str
    state: Literal["preparing", "never began"]
    phase: str
    text: str
    asked: Mapping[str, str]
    asked_at: float
    told_at: float
    supervisor: ProcessIdentity | None
    cached: str | None = None
    """The run that was the answer (`--cached`)."""


def read_beginning(directory: RunDirectory) -> Beginning | None:
    """What is known of a run that has no record; None when it has one, or is gone."""
    try:
        made_at = directory.path.stat().st_mtime
        supervisor = directory.supervised_by()
        dead = state_of(supervisor) == "dead" if supervisor else time.time() - made_at > _YOUNG_SECONDS
        told = directory.told()
    except (OSError, OrchError):
        return None
    # The journal is looked for last: it may have been begun meanwhile.
    if directory.journal.exists() or not directory.path.exists():
        return None
    known = {key: value for line in told for key, value in line.items()}
    doings = [(str(line["phase"]), str(line["text"])) for line in told if {"phase", "text"} <= line.keys()]
    phase, doing = doings[-1] if doings else ("", "starting")
    why = doing
    if dead or "end" in known:
        why = known.get("error") or f"its supervisor was killed ({phase or 'start'}: {doing})."
    if "cached" in known:
        why = f"run {known['cached']} has the same spec; nothing was run."
    times = [line["at"] for line in told if "at" in line] or [made_at]
    return Beginning(
        run_id=directory.run_id,
        state="never began" if dead or "end" in known else "preparing",
        phase=phase,
        text=why,
        asked=known.get("asked", {}),
        asked_at=times[0],
        told_at=times[-1],
        supervisor=supervisor,
        cached=known.get("cached"),
    )


def beginnings(home: Home, connection: sqlite3.Connection) -> list[Beginning]:
    """The runs that have no record, oldest first."""
    found = [read_beginning(RunDirectory(home.run(run_id))) for run_id in ledger.missing_runs(home, connection)]
    return [beginning for beginning in found if beginning is not None]


def find_run(home: Home, connection: sqlite3.Connection, text: str) -> str:
    """The full id of the run that `text` means, as `ledger.resolve_run`, also of one that has no record."""
    prefix = text.lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        return ledger.resolve_run(connection, text)
    missing = ledger.missing_runs(home, connection)
    unrecorded = [run_id for run_id in reversed(missing) if run_id.startswith(prefix)]
    recorded = ledger.runs_by_prefix(connection, prefix)
    if not unrecorded and len(recorded) < 2:
        return ledger.resolve_run(connection, text)
    if len(unrecorded) + len(recorded) == 1:
        return unrecorded[0]
    named = ledger.find_runs(connection, name=text, limit=2)
    if len(named) == 1:
        return named[0].run_id
    raise OrchError(_ambiguous(home, connection, text, recorded, unrecorded))


def find_live(home: Home, connection: sqlite3.Connection, text: str) -> str:
    """As `find_run`, for who wants to end it: of several runs of a name the one that lives, where only one does."""
    try:
        return find_run(home, connection, text)
    except OrchError:
        named = ledger.find_runs(connection, name=text)
        live = [row.run_id for row in named if row.status in ("running", "orphaned")]
        if len(live) != 1:
            raise
        return live[0]


def _ambiguous(
    home: Home, connection: sqlite3.Connection, text: str, recorded: list[str], unrecorded: list[str]
) -> str:
    """Which runs an id's beginning may mean: those that live first, those that never began last."""
    live = set(ledger.live_runs(connection))
    states = dict.fromkeys(recorded, "") | {run_id: "live" for run_id in recorded if run_id in live}
    for run_id in unrecorded:
        beginning = read_beginning(RunDirectory(home.run(run_id)))
        states[run_id] = beginning.state if beginning else ""
    order = ("live", "preparing", "", "never began")
    found = sorted(sorted(states, reverse=True), key=lambda run_id: order.index(states[run_id]))
    shown = [
        ledger.short_id(states, run_id) + (f" ({states[run_id]})" if states[run_id] else "")
        for run_id in found[: ledger.CANDIDATES]
    ]
    more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return f"several runs begin with {text!r}: {', '.join(shown)}{more}."


def find_recorded(home: Home, connection: sqlite3.Connection, text: str) -> str:
    """As `find_run`, of a run that has a record. Raises OrchError that says what is with one that has none."""
    run_id = find_run(home, connection, text)
    beginning = read_beginning(RunDirectory(home.run(run_id)))
    if beginning is not None:
        raise OrchError(why_unrecorded(beginning))
    return run_id


def newest_live(home: Home, connection: sqlite3.Connection) -> str | None:
    """The id of the newest run that lives on this machine, after a sweep; also one that is prepared or compared, and
    one whose supervisor was killed and whose program lives.
    """
    recorded = ledger.live_runs(connection)
    may = {*recorded, *ledger.uncompared_runs(connection), *ledger.missing_runs(home, connection)}
    for run_id in sorted(may, reverse=True):
        directory = RunDirectory(home.run(run_id))
        supervisor, beginning = directory.supervised_by(), read_beginning(directory)
        if supervisor is None or (beginning is not None and beginning.state == "never began"):
            continue
        state = state_of(supervisor)
        if state == "alive" or (state == "dead" and run_id in recorded):
            return run_id
    return None


def why_unrecorded(beginning: Beginning) -> str:
    """One sentence on a run that has no record."""
    if beginning.state == "never began":
        return f"run {beginning.run_id} never began: {beginning.text}"
    doing = f"{beginning.phase}: {beginning.text}" if beginning.phase else beginning.text
    return f"run {beginning.run_id} is being prepared ({doing}); orch attach {beginning.run_id[:16]} shows it."
