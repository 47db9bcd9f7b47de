"""From the values of two files that are not the same to what a verdict tells: the first place, the largest errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from orchestrator.compare.rules import EXACT, Tolerance

SHOWN = 80
"""So many characters of a value are shown at most."""


Number = float | Decimal
"""A Decimal where a double would not hold what is written: more digits, too large, too small. An int is a float."""


class Absence(Enum):
    """Where one file has a value, the other has none."""

    ABSENT = 0


ABSENT = Absence.ABSENT


class Pair(NamedTuple):
    """Two values that are not the same, and where they stand."""

    place: str | Callable[[], str]
    """A function where making the text of each would take long."""
    recorded: Any
    replayed: Any

    def where(self) -> str:
        """The text of the place."""
        return self.place if isinstance(self.place, str) else self.place()


@dataclass(frozen=True, slots=True)
class Difference:
    """What the pairs of two files come to. `holds`: all of them are within the tolerance.

    `pair` is the first that is not, else the first that differs; None when no value differs. The largest errors are
    those of all pairs of finite numbers; the relative one of those whose recorded number is not 0.
    """

    holds: bool
    pair: Pair | None
    largest_absolute: float | None
    largest_relative: float | None


def judge(pairs: Iterable[Pair], tolerance: Tolerance) -> Difference:
    """Look at all pairs."""
    first: Pair | None = None
    beyond: Pair | None = None
    absolute = relative = -1.0
    for pair in pairs:
        a, b = pair.recorded, pair.replayed
        numbers = is_number(a) and is_number(b)
        if numbers and near(a, b, EXACT):  # in other writing
            continue
        first = first or pair
        if beyond is None and not (numbers and near(a, b, tolerance)):
            beyond = pair
        if numbers and (error := _error(a, b)) is not None:
            absolute = max(absolute, error)
            relative = max(relative, _ratio(error, a))
    return Difference(
        beyond is None,
        beyond or first,
        absolute if absolute >= 0 else None,
        relative if 0 <= relative < math.inf else None,
    )


def is_number(value: object) -> bool:
    """Whether it is a number; `true` is none."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def near(recorded: Number, replayed: Number, tolerance: Tolerance) -> bool:
    """Whether the replayed number is within the tolerance of the recorded one."""
    if recorded == replayed or (recorded != recorded and replayed != replayed):
        return True
    if not tolerance.absolute and not tolerance.relative:  # what a subtraction rounds away counts
        return False
    try:
        if isinstance(recorded, Decimal) or isinstance(replayed, Decimal):
            a, b = Decimal(recorded), Decimal(replayed)
            limit = Decimal(tolerance.absolute) + Decimal(tolerance.relative) * abs(a)
            return a.is_finite() and b.is_finite() and abs(a - b) <= limit
        error = abs(recorded - replayed)
        return error < math.inf and error <= tolerance.absolute + tolerance.relative * abs(recorded)
    except ArithmeticError:  # an integer that no double holds, an exponent that no Decimal does
        return False


def _error(a: Number, b: Number) -> float | None:
    try:
        if isinstance(a, Decimal) or isinstance(b, Decimal):
            a, b = Decimal(a), Decimal(b)
            error = float(abs(a - b))
        else:
            error = float(abs(a - b))
    except ArithmeticError:
        return None
    return error if math.isfinite(error) else None


def _ratio(error: float, a: Number) -> float:
    """-1 where there is none."""
    try:
        a = float(a) if isinstance(a, Decimal) else a
        return error / abs(a) if a else -1.0
    except OverflowError:
        return 0.0


# --- as a person reads them -------------------------------------------------------------------------------------


def shown(recorded: Any, replayed: Any, *, quoted: bool) -> tuple[str | None, str | None]:
    """Two differing values as short text, cut so that the difference is in it; None for one that is absent.

    `quoted`: text stands in quotes, as JSON has it.
    """
    one, other = _text(recorded, quoted), _text(replayed, quoted)
    if one is None or other is None:
        return one and _cut(one, 0), other and _cut(other, 0)
    at = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    start = 0 if max(len(one), len(other)) <= SHOWN else max(0, at - SHOWN // 2)
    return _cut(one, start), _cut(other, start)


def printable(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _text(value: Any, quoted: bool) -> str | None:
    if value is ABSENT:
        return None
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, str) and not quoted:
        return printable(value)
    try:
        return printable(json.dumps(value, ensure_ascii=False, default=float))
    except RecursionError:
        return f"a deep {type(value).__name__}"


def _cut(text: str, start: int) -> str:
    begin = "…" if start else ""
    rest = text[start:]
    if len(begin) + len(rest) > SHOWN:
        rest = rest[: SHOWN - len(begin) - 1] + "…"
    return begin + rest
