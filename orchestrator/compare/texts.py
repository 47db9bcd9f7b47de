"""The values of text files: JSON, JSON lines, CSV and TSV, and words with numbers.

Each function gives the pairs of values that are not the same, in the order of the files, or raises ValueError when a
text is not of the format. A name in `ignore` that stands for a difference is added to `passed`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any, Literal

from orchestrator.compare.differences import ABSENT, Pair, is_number, printable

TextKind = Literal["json", "jsonl", "csv", "tsv", "text"]

_BY_SUFFIX: dict[str, TextKind] = {
    ".json": "json",
    ".geojson": "json",
    ".ipynb": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}


def text_pairs(
    name: str, recorded: str, replayed: str, ignore: frozenset[str], passed: set[str]
) -> tuple[TextKind, Iterator[Pair]]:
    """What kind both texts are, by their content and the suffix of `name`, and the values that are not the same."""
    kind = _BY_SUFFIX.get(PurePosixPath(name.lower()).suffix)
    if kind is None and recorded.lstrip()[:1] in ("{", "[") and replayed.lstrip()[:1] in ("{", "["):
        kind = "json"
    try:
        if kind == "json":
            pairs = _trees("", _json(recorded), _json(replayed), ignore, passed)
        elif kind == "jsonl":
            pairs = _json_lines(_all_json(recorded), _all_json(replayed), ignore, passed)
        elif kind is not None:
            pairs = _tables(_rows(recorded, kind), _rows(replayed, kind), ignore, passed)
        else:
            return "text", _lines(recorded, replayed)
    except ValueError:
        return "text", _lines(recorded, replayed)
    return kind, pairs


# --- JSON -------------------------------------------------------------------------------------------------------


def _json(text: str) -> Any:
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("too deep") from error


def _object(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(entries)
    if len(value) != len(entries):
        raise ValueError("a key stands there twice")
    return value


def _all_json(text: str) -> list[tuple[int, Any]]:
    return [(number, _json(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _json_lines(
    one: Sequence[tuple[int, Any]], other: Sequence[tuple[int, Any]], ignore: frozenset[str], passed: set[str]
) -> Iterator[Pair]:
    for a, b in zip_longest(one, other):
        number = (a or b)[0]
        yield from _trees(f"line {number} ", a[1] if a else ABSENT, b[1] if b else ABSENT, ignore, passed)


def _trees(start: str, one: Any, other: Any, ignore: frozenset[str], passed: set[str]) -> Iterator[Pair]:
    """Walk two JSON values. A place is a JSON pointer (RFC 6901) behind `start`; the whole has none."""
    todo: list[Iterator[tuple[str, Any, Any]]] = [iter([("", one, other)])]
    while todo:
        child = next(todo[-1], None)
        if child is None:
            todo.pop()
            continue
        place, a, b = child
        if isinstance(a, dict) and isinstance(b, dict):
            todo.append(_entries(place, a, b, ignore, passed))
        elif isinstance(a, list) and isinstance(b, list):
            todo.append(_items(place, a, b))
        elif not _same(a, b):
            yield Pair(start + (printable(place) or "the whole value"), a, b)


def _items(place: str, one: list[Any], other: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    for index, (a, b) in enumerate(zip_longest(one, other, fillvalue=ABSENT)):
        if a is not b:
            yield f"{place}/{index}", a, b


def _entries(
    place: str, one: dict[str, Any], other: dict[str, Any], ignore: frozenset[str], passed: set[str]
) -> Iterator[tuple[str, Any, Any]]:
    for key in one | other:
        a, b = one.get(key, ABSENT), other.get(key, ABSENT)
        if key not in ignore:
            yield f"{place}/{key.replace('~', '~0').replace('/', '~1')}", a, b
        elif not _equal(a, b):
            passed.add(key)


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except RecursionError:
        return False


def _same(a: Any, b: Any) -> bool:
    return a is b or (a == b and is_number(a) == is_number(b))


# --- tables -----------------------------------------------------------------------------------------------------

Rows = list[list[str]]


def _rows(text: str, kind: TextKind) -> Rows:
    text = text.removeprefix("\ufeff")
    head = text.partition("\n")[0]
    delimiter = "\t" if kind == "tsv" else max(",;\t|", key=head.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _tables(one: Rows, other: Rows, ignore: frozenset[str], passed: set[str]) -> Iterator[Pair]:
    """Rows and cells by their position; the first row names the columns."""
    header = one[0] if one else []
    for number, (a, b) in enumerate(zip_longest(one, other), 1):
        if a is None or b is None:
            yield Pair(f"row {number}", _row(a), _row(b))
        elif a != b:
            for column, (x, y) in enumerate(zip_longest(a, b, fillvalue=ABSENT)):
                name = header[column] if column < len(header) else ""
                # A column that was ignored must still be there: the header is never ignored itself.
                if x == y:
                    continue
                if name in ignore and number > 1 and x is not ABSENT and y is not ABSENT:
                    passed.add(name)
                    continue
                label = f'"{printable(name)}"' if name else str(column + 1)
                yield _cells(f"row {number}, column {label}", x, y)


def _row(cells: list[str] | None) -> Any:
    return ABSENT if cells is None else ",".join(cells)


def _cells(place: str, a: Any, b: Any) -> Pair:
    if a is not ABSENT and b is not ABSENT:
        x, y = number_in(a), number_in(b)
        if x is not None and y is not None:
            return Pair(place, x, y)
    return Pair(place, a, b)


# --- words and numbers ------------------------------------------------------------------------------------------

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_CELL = re.compile(rf"\s*({_NUMBER}|[-+]?(?:nan|inf|infinity))\s*", re.IGNORECASE)
# What is part of a word, a version, a date or a time is no number of its own.
_TOKEN = re.compile(rf"(?<![\w.])(?<![0-9][:/])(?<!\w-)({_NUMBER})(?![\w]|[.:/-]\w)")
_DIGITS = 300


def number_in(text: str) -> float | int | None:
    """The number that the whole text is, or None. An integer stays one: a double would not hold all of its digits."""
    found = _CELL.fullmatch(text)
    if not found:
        return None
    word = found[1]
    return int(word) if word.lstrip("+-").isdecimal() and len(word) < _DIGITS else float(word)


def _lines(one: str, other: str) -> Iterator[Pair]:
    """Line by line: words must be the same, blanks between them do not count, numbers are values."""
    for number, (a, b) in enumerate(zip_longest(one.split("\n"), other.split("\n")), 1):
        if a != b:
            yield from _line(f"line {number}", a, b)


def _line(place: str, a: str | None, b: str | None) -> Iterator[Pair]:
    if a is None or b is None:
        yield Pair(place, ABSENT if a is None else a, ABSENT if b is None else b)
        return
    one, other = _TOKEN.split(a), _TOKEN.split(b)
    if [part.split() for part in one[::2]] != [part.split() for part in other[::2]]:
        yield Pair(place, a, b)
        return
    for x, y in zip(one[1::2], other[1::2], strict=True):
        if x != y and (values := (number_in(x), number_in(y))) and values[0] != values[1]:
            yield Pair(place, *values)
