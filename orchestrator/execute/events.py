"""What the program logs: JSON lines in the file that `$ORCH_EVENTS` names, from any language.

{"metric": "rmse", "value": 0.8, "step": 3}     {"param": "depth", "value": "7"}     {"tag": "host", "value": "a"}
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator import journal
from orchestrator.canonical import number_from_json, number_to_json
from orchestrator.fields import metric_from_json
from orchestrator.variables import is_secret

MAX_BROKEN_SHOWN = 20
MOST_BYTES = 16 * 2**20
"""Bytes that are read at once; a longer line is passed over."""
MOST_READ = 256 * 2**20
"""Bytes that are read of one file: some million points. More would be no record that anybody could load."""
MOST_BROKEN = 100_000
"""Broken lines after which a file is taken for something else."""


@dataclass(frozen=True, slots=True)
class NamedArtifact:
    """A file or folder that is to be an artifact; `name` is its path among them, None its own name."""

    line: int
    path: str
    name: str | None


@dataclass(slots=True)
class EventReader:
    """Reads a growing events file. `offset` is how far it was read, in bytes; `line` the last line's number.

    `broken` has a sentence on each of the first lines that were passed over, and on why the rest was, if it was.
    `artifacts` are those that lines have named.
    """

    path: Path
    offset: int = 0
    line: int = 0
    broken: list[str] = field(default_factory=list)
    artifacts: list[NamedArtifact] = field(default_factory=list)
    given_up: bool = False
    _in_long_line: bool = False
    _broken_lines: int = 0

    def read(self) -> dict[str, Any] | None:
        """A `logged` journal event of whole lines that came since the last call, MOST_BYTES at most, or None."""
        return self._sorted(self._piece(last=False) or b"")

    def rest(self) -> Iterator[dict[str, Any]]:
        """What nobody has read when the program has ended, an unended line too, in pieces as `read` gives them."""
        while (data := self._piece(last=True)) is not None:
            if logged := self._sorted(data):
                yield logged

    def give_up(self, why: str) -> None:
        """Read no more, and say so."""
        self.given_up = True
        self.broken.append(f"$ORCH_EVENTS is passed over from line {self.line + 1} on: {why}.")

    def _sorted(self, data: bytes) -> dict[str, Any] | None:
        metrics: list[dict[str, Any]] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for raw in data.splitlines():
            self.line += 1
            if not raw.strip():
                continue
            try:
                event = json.loads(raw)
                if isinstance(event, dict) and "artifact" in event:
                    self.artifacts.append(_artifact(event, self.line))
                else:
                    _sort(event, metrics, params, tags)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                self._complain(raw, f"it has no {error}" if isinstance(error, KeyError) else str(error))
                if self._broken_lines >= MOST_BROKEN:
                    self.give_up(f"{MOST_BROKEN} of its lines are broken")
                    break
        if not (metrics or params or tags):
            return None
        return {"event": "logged", "metrics": metrics, "params": params, "tags": tags, "upto": self.offset}

    def _piece(self, last: bool) -> bytes | None:
        """The next whole lines, b"" where there are none in what was passed over, None when there is no more yet."""
        if self.given_up:
            return None
        try:
            with journal.open_plain(self.path) as file:
                file.seek(self.offset)
                data = file.read(MOST_BYTES)
        except OSError:
            return None
        if data and self.offset >= MOST_READ:
            self.give_up(f"{MOST_READ >> 20} MiB of it were read")
            return None
        whole, is_all = data.rfind(b"\n") + 1, len(data) < MOST_BYTES
        if self._in_long_line:
            end = data.find(b"\n") + 1
            self._in_long_line = end == 0
            self.offset += end or len(data)
            return b"" if data else None
        if whole == 0 and not is_all:
            self.line += 1
            self._complain(data, f"it is longer than {MOST_BYTES >> 20} MiB")
            self._in_long_line = True
            self.offset += len(data)
            return b""
        if last and is_all:
            whole = len(data)
        self.offset += whole
        return data[:whole] or None

    def _complain(self, raw: bytes, reason: str) -> None:
        self._broken_lines += 1
        if self._broken_lines <= MAX_BROKEN_SHOWN:
            shown = raw[:60].decode("utf-8", "replace")
            shown = "(not shown)" if is_secret("", shown) else shown
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
        raise ValueError("neither metric, param, tag nor artifact")


def _artifact(event: dict[str, Any], line: int) -> NamedArtifact:
    name = event.get("as")
    return NamedArtifact(line, _text(event["artifact"]), None if name is None else _text(name))


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
