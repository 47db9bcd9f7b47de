"""Times, sizes, names and tables as people read them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO
from urllib.parse import urlsplit

_LONGEST_CELL = 2000
_WIDE, _NARROWEST = 100, 40
"""Columns."""

_LEAST, _EASY = 10, 24
"""Cells of a column: with fewer it says nothing; and as many as it should have before something else gives way."""

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


def visible(value: str, longest: int = 48) -> str:
    """A value as a line can hold it: no control characters, and not longer than `longest`."""
    shown = value if value.isprintable() else json.dumps(value, ensure_ascii=False)
    if not shown.isprintable():
        shown = json.dumps(value)
    return cut(shown, longest)


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
    if not stream.isatty():
        return text
    columns = max(os.get_terminal_size(stream.fileno()).columns or 80, _NARROWEST)
    return "\n".join(part for line in text.split("\n") for part in broken(line, columns, indent))


def broken(line: str, columns: int, indent: int) -> list[str]:
    """A line broken between words, the later ones indented; a word longer than that stands alone, less indented.

    What is longer than all of a line is for the terminal to break: so it stays one word for whoever copies it.
    """
    import textwrap

    parts = textwrap.wrap(
        line, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, tabsize=1
    )
    return [
        part if len(part) <= columns else " " * max(0, columns - len(part.lstrip())) + part.lstrip()
        for part in parts or [""]
    ]


def is_narrow() -> bool:
    """Whether a table goes to a terminal that has no room for commits, and for long names of projects."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE


# --- runs ---------------------------------------------------------------------------------------------------------


def status_of(
    status: str, exit_code: int | None, verdict: str | None, *, uncompared: bool = False, varies: bool = False
) -> str:
    """How a run ended, and what is known of its result: `failed (1), differs`, `reproduced`, `finished, varies`."""
    if status == "finished" and verdict:
        text = verdict  # what has one has finished
    else:
        text = f"failed ({exit_code})" if status == "failed" and exit_code else status
        text += f", {verdict}" if verdict else ""
    return text + (", not compared" if uncompared else "") + (", varies" if varies and status == "finished" else "")


def telling_first(values: Sequence[Mapping[str, object]]) -> list[str]:
    """All names in `values`, of which each is a run's: first those with several values, then those that some lack."""
    found: dict[str, list[object]] = {}
    for run in values:
        for name, value in run.items():
            found.setdefault(name, []).append(value)

    def rank(name: str) -> tuple[bool, bool]:
        return len(set(found[name])) == 1, len(found[name]) == len(values)

    return sorted(found, key=rank)


# --- what is too long ---------------------------------------------------------------------------------------------


def cut(text: str, longest: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def end_of_path(text: str, longest: int) -> str:
    """The end of a path, from a slash where there is one."""
    if len(text) <= longest:
        return text
    end = text[len(text) - longest + 1 :]
    return "…" + end[max(end.find("/"), 0) :]


def first_pairs(text: str, longest: int) -> str:
    """The beginning of `name=value name=value`; the first value is whole as long as some of its name has room."""
    name, _, value = text.partition(" ")[0].partition("=")
    room = longest - len(value) - 2
    is_short = len(text) <= longest or not value or not 0 < room < len(name) - 1
    return cut(text, longest) if is_short else f"{name[:room]}…={value}"


# --- tables -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table that may be too wide for a terminal.

    What is least `telling` is left out first; None is never left out and never cut. `shortened` makes a text fit.
    """

    header: str
    telling: int | None = 1
    shortened: Callable[[str, int], str] = cut


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int, measure: Callable[[str], int] = len
) -> dict[int, int]:
    """Which columns have room, by their numbers, with their widths; two cells stand between them.

    What does not tell much (0) goes rather than that the others are cut short; then what is the same in all rows.
    """
    natural = {i: max(measure(text) for text in (c.header, *(row[i] for row in rows))) for i, c in enumerate(columns)}

    def least(i: int, floor: int) -> int:
        return natural[i] if columns[i].telling is None else min(natural[i], floor)

    def worth(i: int) -> tuple[bool, int, int]:
        telling = columns[i].telling or 0
        return telling > 0 and len({row[i] for row in rows}) > 1, telling, -i

    kept = list(natural)
    for i in sorted((i for i in natural if columns[i].telling is not None), key=worth):
        floor = _EASY if columns[i].telling == 0 else _LEAST
        if sum(least(j, floor) + 2 for j in kept) - 2 > room:
            kept.remove(i)
    widths = {i: least(i, _LEAST) for i in kept}
    spare = room - sum(widths.values()) - 2 * (len(kept) - 1)
    while spare > 0 and (short := [i for i in kept if widths[i] < natural[i]]):
        for i in sorted(short, key=lambda i: widths[i])[:spare]:
            widths[i] += 1
            spare -= 1
    return widths


def print_table(headers: Sequence[str | Column], rows: Sequence[Sequence[str]], left_out: Sequence[str] = ()) -> None:
    """Columns under their headers. On a terminal they fit its width, and what had no room is told; in a pipe all is.

    `left_out` has what the caller has left out where there is little room.
    """
    columns = [Column(h, None if i == 0 else 1) if isinstance(h, str) else h for i, h in enumerate(headers)]
    table = [[visible(cell, _LONGEST_CELL) for cell in row] for row in rows]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    widths = fitted(columns, table, room)
    for number, row in enumerate([[column.header for column in columns], *table]):
        cells = [columns[i].shortened(row[i], width).ljust(width) for i, width in widths.items()]
        line = cut("  ".join(cells).rstrip(), room)
        print(line if number else coloured(line, _DIM, sys.stdout))
    missing = [column.header for i, column in enumerate(columns) if i not in widths]
    if missing:
        text = f"no room for {', '.join([*missing, *left_out])} (--json or `| cat` shows all)"
        print(coloured(wrapped(text, sys.stdout, 2), _DIM, sys.stdout))
