"""The last lines of a log as text that a screen can hold."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.cli.plain import PlainText

_BYTES_PER_LINE = 400


def last_lines(path: Path, count: int) -> tuple[str, ...]:
    """The last `count` lines of a file as a terminal would show them in the end; () when it is not there."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size - count * _BYTES_PER_LINE)
            file.seek(start)
            data = file.read(size - start)
    except OSError:
        return ()
    if start:
        data = data[data.find(b"\n") + 1 :]  # where we began to read, a line was half over
    plain = PlainText(kept=count)
    text = (plain.feed(data) + plain.end()).decode("utf-8", "replace")
    lines = text.removesuffix("\n").split("\n") if text else []
    return tuple(printable(line) for line in lines[-count:])


def printable(line: str) -> str:
    """A line without what a terminal would obey."""
    text = line.expandtabs()
    return text if text.isprintable() else "".join(c for c in text if c.isprintable())
