"""A run as its journal tells it, held in memory, and brought up to date by reading what is new in the journal."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator import journal
from orchestrator.errors import OrchError
from orchestrator.fields import metric_from_json, metric_to_json
from orchestrator.ledger.rebuild import JOURNAL
from orchestrator.model import Metric, RunRecord
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
    points: list[Metric] = field(default_factory=list)
    """Those that the ledger is still to be told of, in the order of the journal."""
    passed: int = 0
    """How many points the journal has before them."""
    told: RunRecord | None = None
    """The record that the ledger was told of last."""


def follow(home: Home, run_id: str) -> Followed | None:
    """The run of this id, or None where there is none, or it has not begun."""
    if not _RUN_ID.fullmatch(run_id):
        return None
    path = home.run(run_id) / JOURNAL
    try:
        events, offset = _new_events(path, 0)
    except FileNotFoundError:
        return None
    points = _take_points(path, events)
    try:
        record = record_from_journal(run_id, events)
    except _BROKEN as error:
        raise _damaged(path, error) from error
    return None if record is None else Followed(path, record, offset, _params(events), points)


def catch_up(run: Followed) -> None:
    """Take what others have added to the journal. Raises OrchError for a damaged event, and takes nothing then."""
    if run.journal.stat().st_size == run.offset:
        return
    events, offset = _new_events(run.journal, run.offset)
    points, record = _take_points(run.journal, events), run.record
    try:
        for event in events:
            record = record_after(record, event)
        logged = _params(events)
    except _BROKEN as error:
        raise _damaged(run.journal, error) from error
    run.record, run.offset = record, offset
    run.points += points
    run.logged |= logged


def tell(run: Followed, *events: Mapping[str, Any], sync: bool = False) -> None:
    """Add events to the journal, and take them. Raises OrchError when it can't be written."""
    journal.append(run.journal, events, sync=sync)
    catch_up(run)


def tell_points(run: Followed, points: Sequence[Metric]) -> None:
    """Add metric points to the journal, and take them."""
    written = journal.append(run.journal, [{"event": "logged", "metrics": [metric_to_json(point) for point in points]}])
    if run.journal.stat().st_size == run.offset + written:
        run.offset += written
        run.points += points
    else:
        catch_up(run)  # others have added to it too


def begin(home: Home, record: RunRecord, event: Mapping[str, Any]) -> Followed:
    """A new run that is only logged; `event` creates it. Nothing is left of one that could not be written."""
    path = home.run(record.run_id) / JOURNAL
    path.parent.mkdir(mode=0o700)
    try:
        return Followed(path, record, journal.append(path, [event], sync=True), {})
    except BaseException:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise


def _new_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The events behind `offset`, and how far that is."""
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
            events.append(event)
    return events, offset + whole


def _take_points(path: Path, events: list[dict[str, Any]]) -> list[Metric]:
    try:
        return [metric_from_json(point) for event in events for point in event.pop("metrics", ())]
    except _BROKEN as error:
        raise _damaged(path, error) from error


_BROKEN = (KeyError, TypeError, ValueError, AttributeError)


def _damaged(path: Path, error: Exception) -> OrchError:
    return OrchError(f"the journal {path} is damaged: {type(error).__name__}: {error}.")


def _params(events: list[dict[str, Any]]) -> dict[str, str]:
    return {name: value for event in events if event.get("event") == "logged" for name, value in _of(event).items()}


def _of(event: Mapping[str, Any]) -> Mapping[str, str]:
    params: Mapping[str, str] = event.get("params", {})
    return params
