"""The last lines of a log as text that a screen can hold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestrator.plain import PlainText

_BYTES_PER_LINE, _LEAST_BYTES = 400, 1 << 14


@dataclass(slots=True)
class LogTail:
    """The lines that were read last, and of what: path, size and time of the file, count of lines."""

    of: object = None
    lines: tuple[str, ...] = ()


def last_lines(tail: LogTail, path: Path, count: int) -> tuple[str, ...]:
    """The last `count` lines of a file as a terminal would show them in the end; () when it is not there.

    A file that has not changed since the last call with this tail is not read again.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            found = path, facts.st_size, facts.st_mtime_ns, count
            if found != tail.of:
                start = max(0, facts.st_size - max(_LEAST_BYTES, count * _BYTES_PER_LINE))
                file.seek(start)
                tail.lines = _lines(file.read(facts.st_size - start), count, whole=start == 0)
                tail.of = found
    except OSError:
        return ()
    return tail.lines


def _lines(data: bytes, count: int, *, whole: bool) -> tuple[str, ...]:
    if not whole:
        data = data[data.find(b"\n") + 1 :]  # where we began to read, a line was half over
    plain = PlainText(kept=count)
    text = (plain.feed(data) + plain.end()).decode("utf-8", "replace")
    lines = text.removesuffix("\n").split("\n") if text else []
    return tuple(printable(line) for line in lines[-count:])


def printable(line: str) -> str:
    """A line without what a terminal would obey."""
    text = line.expandtabs()
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())
