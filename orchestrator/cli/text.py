"""Times, sizes, names and tables as people read them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import urlsplit

_LONGEST_CELL = 2000
_WIDE, _NARROWEST = 100, 40
"""Columns."""

DUMB = ("", "dumb", "unknown")
"""What TERM says of a terminal that shows text and can do nothing else."""
_DIM = "2"


def duration(seconds: float) -> str:
    """A length of time: 0.31 s, 3.2 s, 41 s, 2 min 5 s, 3 h 7 min, 2 d 3 h."""
    for limit, digits in ((0.995, 2), (9.95, 1), (59.5, 0)):
        if seconds < limit:
            return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(count: int) -> str:
    """A number of bytes: 812 B, 3.2 KiB, 412 MiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1023.5 or unit == "TiB":
            return f"{value:.0f} {unit}" if value >= 9.95 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def count_line(phase: str, text: str, done: int, total: int | None) -> str:
    """A passing count, cut to what the terminal of stderr has in one line: a broken one could not be written again."""
    line = f"  {phase:<12} {text} {done}" + (f"/{total}" if total else "")
    columns = os.get_terminal_size(2).columns or 80  # some terminals don't know theirs, and say 0
    return line[: columns - 1]


def channel_name(url: str) -> str:
    """The URL of a channel as people name it."""
    parts = urlsplit(url)
    path = parts.path.strip("/")
    return path.rpartition("/")[2] if parts.scheme == "file" else path or parts.netloc


def age(text: str) -> str:
    """How long ago an RFC 3339 time was: 3 s ago, 5 min ago, 2 h ago, 12 d ago, else the day."""
    seconds = seconds_since(text)
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"), (30 * 86400, 86400, "d")):
        if seconds < limit:
            return f"{max(seconds, 0) / unit:.0f} {name} ago"
    return datetime.fromisoformat(text).strftime("%Y-%m-%d")


def seconds_since(text: str) -> float:
    """The seconds since an RFC 3339 time."""
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()


def visible(value: str, longest: int = 48) -> str:
    """A value as a line can hold it: no control characters, and not longer than `longest`."""
    shown = value if value.isprintable() else json.dumps(value, ensure_ascii=False)
    if not shown.isprintable():
        shown = json.dumps(value)
    return _cut(shown, longest)


def harmless(value: str) -> str:
    """A sentence that may quote what is somebody else's: as it is, but for what a terminal would obey."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in value)


def number(value: float | str) -> str:
    """A metric's value: six significant digits."""
    return value if isinstance(value, str) else f"{value:.6g}"


def can_move(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be written over."""
    return stream.isatty() and os.environ.get("TERM", "") not in DUMB


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """Text in a colour (the number of an SGR sequence), where `stream` is a terminal and its user wants any."""
    return f"\x1b[{colour}m{text}\x1b[0m" if can_move(stream) and not os.environ.get("NO_COLOR") else text


def wrapped(text: str, stream: TextIO, indent: int) -> str:
    """A sentence that is told; on a terminal broken between words, with its later lines indented."""
    if not can_move(stream):
        return text
    import textwrap

    columns = max(os.get_terminal_size(stream.fileno()).columns or 80, _NARROWEST)
    lines = (
        textwrap.wrap(
            line, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, tabsize=1
        )
        for line in text.split("\n")
    )
    return "\n".join(part for parts in lines for part in (parts or [""]))


def is_narrow() -> bool:
    """Whether a table goes to a terminal that has no room for commits, and for long names of projects."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns under their headers; on a terminal they are cut to its width, in a pipe nothing is."""
    table = [list(headers), *([visible(cell, _LONGEST_CELL) for cell in row] for row in rows)]
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    part, lines = columns // 4, _in_columns(table)
    if max(map(len, lines)) > columns and max(map(len, _in_columns([row[:-1] for row in table]))) > columns - part:
        # One long name must not push out all that stands behind it. The first column is what other commands take.
        lines = _in_columns([[row[0], *(_cut(cell, part) for cell in row[1:-1]), row[-1]] for row in table])
    print(coloured(_cut(lines[0], columns), _DIM, sys.stdout))
    for line in lines[1:]:
        print(_cut(line, columns))


def _in_columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
