"""What the program logs: JSON lines in the file that `$ORCH_EVENTS` names, from any language.

{"metric": "rmse", "value": 0.8, "step": 3}     {"param": "depth", "value": "7"}     {"tag": "host", "value": "a"}
"""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.canonical import number_from_json, number_to_json
from orchestrator.fields import metric_from_json
from orchestrator.variables import is_secret

MAX_BROKEN_SHOWN = 20
MOST_BYTES = 16 * 2**20
"""Bytes that are read at once while the program runs; a longer line is taken when it has ended."""


@dataclass(slots=True)
class EventReader:
    """Reads a growing events file. `offset` is how far it was read, in bytes; `line` the last line's number."""

    path: Path
    offset: int = 0
    line: int = 0
    broken: list[str] = field(default_factory=list)

    def read(self, *, last: bool = False) -> dict[str, Any] | None:
        """A `logged` journal event of what came since the last call, or None. `last` takes an unended line too."""
        data = self._new_bytes(last)
        if not data:
            return None
        metrics: list[dict[str, Any]] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for raw in data.splitlines():
            self.line += 1
            if not raw.strip():
                continue
            try:
                _sort(json.loads(raw), metrics, params, tags)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                self._complain(raw, error)
        if not (metrics or params or tags):
            return None
        return {"event": "logged", "metrics": metrics, "params": params, "tags": tags, "upto": self.offset}

    def _new_bytes(self, last: bool) -> bytes:
        try:
            # The program may have put anything in its place: a pipe must not hold us up, nor a link lead us away.
            number = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return b""
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                return b""
            file.seek(self.offset)
            data = file.read(-1 if last else MOST_BYTES)
        whole = len(data) if last else data.rfind(b"\n") + 1
        self.offset += whole
        return data[:whole]

    def _complain(self, raw: bytes, error: Exception) -> None:
        if len(self.broken) < MAX_BROKEN_SHOWN:
            shown = raw[:60].decode("utf-8", "replace")
            shown = "(not shown)" if is_secret("", shown) else shown
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            self.broken.append(f"line {self.line} of $ORCH_EVENTS is passed over ({reason}): {shown}")


def _sort(event: Any, metrics: list[dict[str, Any]], params: dict[str, str], tags: dict[str, str]) -> None:
    if not isinstance(event, dict):
        raise TypeError("no JSON object")
    if "metric" in event:
        point = {
            "name": _text(event["metric"]),
            "value": number_to_json(number_from_json(_number(event["value"]))),
            "step": event.get("step", 0),
            "timestamp": event.get("timestamp", time.time_ns() // 1_000_000),
        }
        metric_from_json(point)  # what the journal would refuse to read back is refused here
        metrics.append(point)
    elif "param" in event:
        params[_text(event["param"])] = _value(event["param"], event["value"])
    elif "tag" in event:
        tags[_text(event["tag"])] = _value(event["tag"], event["value"])
    else:
        raise ValueError("neither metric, param nor tag")


def _number(value: Any) -> float | int | str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"{value!r} is no number")
    return value


def _value(name: str, value: Any) -> str:
    """A value as it is recorded: a secret's is not."""
    text = str(value)
    text.encode()  # half of a surrogate pair is no text, and no record could hold it
    return "" if is_secret(name, text) else text


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no name")
    value.encode()
    return value
