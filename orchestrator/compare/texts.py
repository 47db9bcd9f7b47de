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
from decimal import Decimal, InvalidOperation
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any, Literal

from orchestrator.compare.differences import ABSENT, Number, Pair, is_number, printable

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
            delimiters = _delimiter(recorded, kind), _delimiter(replayed, kind)
            tables = _rows(recorded, delimiters[0]), _rows(replayed, delimiters[1])
            pairs = _tables(*tables, ignore, passed, commas="," in delimiters)
        else:
            return "text", _lines(recorded, replayed)
    except ValueError:
        return "text", _lines(recorded, replayed)
    return kind, pairs


# --- JSON -------------------------------------------------------------------------------------------------------


def _json(text: str) -> Any:
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object, parse_float=_fraction)
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


# What a comma stands in may be one number, written with a decimal comma or with its thousands apart.
_GLUED = re.compile(r"(?<![0-9.])[0-9]+,(?:[0-9]+(?![0-9.])|[0-9]{3}\.)")


def _delimiter(text: str, kind: TextKind) -> str:
    head = text.partition("\n")[0]
    return "\t" if kind == "tsv" else max(",;\t|", key=head.count)


def _rows(text: str, delimiter: str) -> Rows:
    text = text.removeprefix("\ufeff")
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _tables(one: Rows, other: Rows, ignore: frozenset[str], passed: set[str], *, commas: bool) -> Iterator[Pair]:
    """Rows and cells by their position; the first row names the columns. `commas`: they stand between the cells.

    Where the names do not tell that two cells are two, a comma between them may be part of a number.
    """
    header = one[0] if one else []
    named = not _GLUED.search(",".join(header))
    for number, (a, b) in enumerate(zip_longest(one, other), 1):
        if a is None or b is None:
            yield Pair(f"row {number}", _row(a), _row(b))
        elif a != b:
            certain = not commas or (named and len(a) == len(b) == len(header))
            for column, (x, y) in enumerate(zip_longest(a, b, fillvalue=ABSENT)):
                name = header[column] if column < len(header) else ""
                # A column that was ignored must still be there: the header is never ignored itself.
                if x == y:
                    continue
                if name in ignore and number > 1 and x is not ABSENT and y is not ABSENT:
                    passed.add(name)
                    continue
                label = f'"{printable(name)}"' if name else str(column + 1)
                plain = certain or not (_is_glued(a, column) or _is_glued(b, column))
                yield _cells(f"row {number}, column {label}", x, y, numbers=plain)


def _row(cells: list[str] | None) -> Any:
    return ABSENT if cells is None else ",".join(cells)


def _is_glued(cells: list[str], column: int) -> bool:
    """Whether the cell may be a part of a number, together with the one before it or behind it."""
    return any(_GLUED.search(",".join(cells[start : start + 2])) for start in (max(0, column - 1), column))


def _cells(place: str, a: Any, b: Any, *, numbers: bool) -> Pair:
    if numbers and a is not ABSENT and b is not ABSENT:
        x, y = number_in(a), number_in(b)
        if x is not None and y is not None:
            return Pair(place, x, y)
    return Pair(place, a, b)


# --- words and numbers ------------------------------------------------------------------------------------------

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_CELL = re.compile(rf"\s*({_NUMBER}|[-+]?(?:nan|inf|infinity))\s*", re.IGNORECASE)
# What is part of a word, a version, a date, a time, or a number with a comma in it is no number of its own.
_TOKEN = re.compile(rf"(?<![\w.])(?<![0-9][:/,])(?<!\w-)({_NUMBER})(?![\w]|[.:/-]\w|,[0-9])")
_DIGITS = 300


def number_in(text: str) -> Number | None:
    """The number that the whole text is, or None. No digit is lost: see Number."""
    found = _CELL.fullmatch(text)
    if not found:
        return None
    word = found[1]
    if word.lstrip("+-").isdecimal() and len(word) < _DIGITS:
        return int(word)
    if word.lstrip("+-")[0] in "iInN":
        return float(word)
    try:
        return _fraction(word)
    except ValueError:
        return None


def _fraction(word: str) -> float | Decimal:
    """The number that digits mean. Raises ValueError when its exponent has too many of them."""
    number = float(word)
    if repr(number) == word:
        return number
    try:
        exact = Decimal(word)
    except InvalidOperation as error:
        raise ValueError("an exponent of too many digits") from error
    return number if exact == Decimal(repr(number)) else exact


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
        if x != y:
            p, q = number_in(x), number_in(y)
            if p is None or q is None:
                yield Pair(place, x, y)
            elif p != q:
                yield Pair(place, p, q)
