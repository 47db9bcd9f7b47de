"""A run as its journal tells it, held in memory, and brought up to date by reading what is new in the journal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import journal
from orchestrator.ledger.rebuild import JOURNAL
from orchestrator.model import RunRecord
from orchestrator.paths import Home
from orchestrator.records import record_after, record_from_journal

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class Followed:
    """`record` lacks the metric points; `offset` is how far the journal was read, in bytes.

    `logged` are the parameters that the program told, which it can't change; those that the run was given it can.
    """

    journal: Path
    record: RunRecord
    offset: int
    logged: dict[str, str]


def follow(home: Home, run_id: str) -> Followed | None:
    """The run of this id, or None where there is none, or it has not begun."""
    if not _RUN_ID.fullmatch(run_id):
        return None
    path = home.run(run_id) / JOURNAL
    try:
        events, offset = _new_events(path, 0)
    except FileNotFoundError:
        return None
    record = record_from_journal(run_id, events)
    return None if record is None else Followed(path, record, offset, _params(events))


def catch_up(run: Followed) -> None:
    """Take what others have added to the journal."""
    if run.journal.stat().st_size == run.offset:
        return
    events, run.offset = _new_events(run.journal, run.offset)
    for event in events:
        run.record = record_after(run.record, event)
    run.logged |= _params(events)


def tell(run: Followed, *events: Mapping[str, Any], sync: bool = False) -> None:
    """Add events to the journal, and take them. Raises OrchError when it can't be written."""
    journal.append(run.journal, events, sync=sync)
    catch_up(run)


def tell_points(run: Followed, points: list[dict[str, Any]]) -> None:
    """Add metric points to the journal, of which nobody has to read them again."""
    written = journal.append(run.journal, [{"event": "logged", "metrics": points}])
    if run.journal.stat().st_size == run.offset + written:
        run.offset += written


def begin(home: Home, record: RunRecord, event: Mapping[str, Any]) -> Followed:
    """A new run that is only logged; `event` creates it."""
    path = home.run(record.run_id) / JOURNAL
    path.parent.mkdir(mode=0o700)
    return Followed(path, record, journal.append(path, [event], sync=True), {})


def _new_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The events behind `offset`, without metric points, and how far that is."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data.rfind(b"\n") + 1
    events = []
    for line in data[:whole].splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # `orch ledger rebuild` says which
        if isinstance(event, dict):
            event.pop("metrics", None)
            events.append(event)
    return events, offset + whole


def _params(events: list[dict[str, Any]]) -> dict[str, str]:
    return {name: value for event in events if event.get("event") == "logged" for name, value in _of(event).items()}


def _of(event: Mapping[str, Any]) -> Mapping[str, str]:
    params: Mapping[str, str] = event.get("params", {})
    return params
