"""Whether a comparison holds of facts in memory: experiments and logged models are few, and need no SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from orchestrator.questions.grammar import Comparison, Order

Fact = str | int | float | None
Item = TypeVar("Item")


def matches(
    comparison: Comparison,
    attributes: Mapping[str, Fact],
    *,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    metrics: Iterable[tuple[str, float]] = (),
) -> bool:
    """Whether `comparison` holds. What lacks the key matches nothing but IS NULL, also not `!=`.

    A metric may be there several times (of several datasets): one that matches is enough.
    """
    key, entity = comparison.key, comparison.entity
    if entity == "metrics":
        return any(holds(comparison, value) for name, value in metrics if name == key)
    facts: Mapping[str, Fact] = {"attributes": attributes, "tags": tags or {}, "params": params or {}}[entity]
    return holds(comparison, facts.get(key))


def holds(comparison: Comparison, fact: Fact) -> bool:
    """Whether the comparison holds of this value of its field; None is a missing one."""
    operator, value = comparison.operator, comparison.value
    if fact is None or value is None:
        return operator == ("IS NULL" if fact is None else "IS NOT NULL")
    if isinstance(value, tuple):
        return (fact in value) == (operator == "IN")
    if operator in ("LIKE", "ILIKE"):
        return like(str(fact), str(value), ignore_case=operator == "ILIKE")
    return _compare(operator, fact, value)


def _compare(operator: str, one: Any, other: Any) -> bool:
    if operator in ("=", "!="):
        return bool(one == other) == (operator == "=")
    if operator in ("<", "<="):
        return bool(one < other or (one == other and operator == "<="))
    return bool(one > other or (one == other and operator == ">="))


def like(text: str, pattern: str, *, ignore_case: bool) -> bool:
    """SQLite's LIKE: `%` is any text, `_` any character, nothing escapes them, and only ASCII's letters have cases."""
    first, *others = [_piece(piece, ignore_case) for piece in pattern.split("%")]
    if not others:
        return first.fullmatch(text) is not None
    begin, last = first.match(text), others.pop()
    if begin is None:
        return False
    at = begin.end()
    for piece in others:  # the first place is the best one, so that no other need be tried
        found = piece.search(text, at)
        if found is None:
            return False
        at = found.end()
    end = len(text) - pattern[::-1].find("%")
    return end >= at and last.fullmatch(text, end) is not None


def _piece(text: str, ignore_case: bool) -> re.Pattern[str]:
    flags = re.DOTALL | re.ASCII | (re.IGNORECASE if ignore_case else 0)
    return re.compile("".join("." if character == "_" else re.escape(character) for character in text), flags)


def in_order(
    items: Iterable[tuple[Mapping[str, Fact], Item]], order: Sequence[Order]
) -> list[tuple[Mapping[str, Fact], Item]]:
    """The items by their facts: NaN behind other values, missing ones last; what ties stays as it was.

    A fact is named by the key of an attribute, else by entity and key: `metrics.rmse`.
    """
    found = list(items)
    for one in reversed(order):
        name = one.key if one.entity == "attributes" else f"{one.entity}.{one.key}"
        groups: tuple[list[tuple[Any, Any]], ...] = ([], [], [])
        for item in found:
            fact = item[0].get(name)
            groups[2 if fact is None else 1 if isinstance(fact, float) and math.isnan(fact) else 0].append((fact, item))
        groups[0].sort(key=lambda pair: pair[0], reverse=not one.ascending)
        found = [item for group in groups for _, item in group]
    return found
