"""A question's text becomes data: MLflow's grammar of filters and orders.

    filter      comparison (AND comparison)*
    comparison  field operator value | field IS [NOT] NULL | field [NOT] IN (value, ...)
    field       entity.key | attribute          a key of other characters stands in "...", '...' or `...`
    order       field [ASC | DESC]

A value in quotes is taken as it stands: a doubled quote, or a backslash before one, does not end it, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from orchestrator.errors import UsageError
from orchestrator.questions.vocabulary import EXPERIMENTS, LISTS, MODELS, PRESENCE, RUNS, Entity, Field, Vocabulary

__all__ = ["EXPERIMENTS", "MODELS", "RUNS", "Comparison", "FilterError", "Order", "parse_filter", "parse_order_by"]

MOST_COMPARISONS, MOST_ORDERS = 100, 16
"""SQLite has limits of its own, and says less clearly what they are."""

LONGEST, LONGEST_PATTERN = 100_000, 500
"""Characters. To read a text takes 150 times its memory, and a pattern is tried at each place of a value."""

LONGEST_TOLD = 60
"""Characters of a name in an error."""

Value = str | int | float | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition. `entity` and `key` are names of the vocabulary, aliases resolved; `position` is in the text."""

    entity: str
    key: str
    operator: str
    value: Value
    """A number or text as the field's kind is; a tuple for IN and NOT IN; None for IS NULL and IS NOT NULL."""
    position: int


@dataclass(frozen=True, slots=True)
class Order:
    """What results are sorted by."""

    entity: str
    key: str
    ascending: bool
    position: int


class FilterError(UsageError):
    """A filter or an order can't be understood; its sentence says what is wrong, and where."""

    def __init__(self, sentence: str, what: str, text: str, position: int) -> None:
        super().__init__(f"{_printable(sentence)} (character {position + 1} of the {what}).")
        self.text = text
        self.position = position
        """Counted in characters from 0; the text's length where something is missing at its end."""

    def shown(self) -> str:
        """The sentence, the place in the text, and a line with a caret below it."""
        start = max(0, self.position - 60)
        piece = self.text[start : self.position + 30]
        return f"{self}\n  {_printable(piece)}\n  {' ' * (self.position - start)}^"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{MIDDLE DOT}" for character in text)


def parse_filter(text: str, vocabulary: Vocabulary = RUNS) -> tuple[Comparison, ...]:
    """The comparisons that must all hold; none of an empty text. Raises FilterError."""
    reader, found = _reader(text, "filter"), list[Comparison]()
    reader.take(_SPACE)
    while not reader.ended:
        if found and reader.take(_AND) is None:
            reader.fail(_behind_comparison(reader))
        if len(found) == MOST_COMPARISONS:
            reader.fail(f"a filter has at most {MOST_COMPARISONS} comparisons")
        reader.take(_SPACE)
        found.append(_comparison(reader, vocabulary))
        reader.take(_SPACE)
    return tuple(found)


def parse_order_by(texts: Sequence[str], vocabulary: Vocabulary = RUNS) -> tuple[Order, ...]:
    """What each text orders by, the first one first. Raises FilterError, also for a field that is named twice."""
    found: list[Order] = []
    for text in texts:
        order = _order(_reader(text, "order"), vocabulary)
        if any((order.entity, order.key) == (other.entity, other.key) for other in found):
            raise FilterError("the results are already ordered by this", "order", text, order.position)
        found.append(order)
        if len(found) > MOST_ORDERS:
            raise FilterError(f"there can be at most {MOST_ORDERS} orders", "order", text, 0)
    return tuple(found)


# --- reading ----------------------------------------------------------------------------------------------------

_SPACE = re.compile(r"\s+")
_AND = re.compile(r"AND\b", re.IGNORECASE)
_DIRECTION = re.compile(r"(ASC|DESC)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d]\w*")
_KEY = re.compile(r"\w+(\.\w+)*")
_SINGLE, _DOUBLE, _TICKED = r"'(''|\\'|[^'])*'", r'"(""|\\"|[^"])*"', "`(``|[^`])*`"
_QUOTED = re.compile(f"{_SINGLE}|{_DOUBLE}")
_QUOTED_WORD = re.compile(f"{_DOUBLE}|{_TICKED}")
_QUOTED_KEY = re.compile(f"{_SINGLE}|{_DOUBLE}|{_TICKED}")
_POINT, _OPEN, _COMMA, _CLOSE = (re.compile(re.escape(character)) for character in ".(,)")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(E[+-]?[0-9]+)?(?![\w.])", re.IGNORECASE)
_OPERATOR = re.compile(
    r"[<>=!~]+|(NOT\s+IN|IN|(NOT\s+)?I?LIKE|IS\s+NOT\s+NULL|IS\s+NULL|(NOT\s+)?BETWEEN|R?LIKE|REGEXP)\b", re.IGNORECASE
)
_INSTEAD = {"==": "=", "<>": "!="}


@dataclass(slots=True)
class _Reader:
    text: str
    what: str
    at: int = 0

    @property
    def ended(self) -> bool:
        return self.at == len(self.text)

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """What stands here if it is `pattern`; it is then read."""
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[0]

    def fail(self, sentence: str, position: int | None = None) -> NoReturn:
        raise FilterError(sentence, self.what, self.text, self.at if position is None else position)


def _reader(text: str, what: str) -> _Reader:
    reader = _Reader(text, what)
    if len(text) > LONGEST:
        reader.fail(f"{'an' if what == 'order' else 'a'} {what} has at most {LONGEST} characters", LONGEST)
    return reader


def _behind_comparison(reader: _Reader) -> str:
    here = reader.text[reader.at :]
    if re.match(r"OR\b", here, re.IGNORECASE):
        return "comparisons are joined by AND only, not by OR"
    return "AND is missing between two comparisons, or a value is not in quotes"


def _comparison(reader: _Reader, vocabulary: Vocabulary) -> Comparison:
    position = reader.at
    entity, key, field = _field(reader, vocabulary)
    name = reader.text[position : reader.at][:LONGEST_TOLD]
    reader.take(_SPACE)
    operator = _operator(reader, name, field)
    reader.take(_SPACE)
    return Comparison(entity.name, key, operator, _value(reader, name, field, operator), position)


def _order(reader: _Reader, vocabulary: Vocabulary) -> Order:
    reader.take(_SPACE)
    position = reader.at
    entity, key, _ = _field(reader, vocabulary)
    if not entity.ordered:
        reader.fail(f"results can't be ordered by {entity.name}", position)
    reader.take(_SPACE)
    direction = reader.take(_DIRECTION) or "ASC"
    reader.take(_SPACE)
    if not reader.ended:
        reader.fail("a field is followed by ASC, DESC or nothing")
    return Order(entity.name, key, direction.upper() == "ASC", position)


def _field(reader: _Reader, vocabulary: Vocabulary) -> tuple[Entity, str, Field]:
    position, entity = reader.at, vocabulary[0]
    quoted = reader.take(_QUOTED_WORD)
    word = reader.take(_WORD) if quoted is None else quoted[1:-1]
    if word is None:
        reader.fail(_no_field(reader))
    if reader.take(_POINT) is not None:
        named = [one for one in vocabulary if word == one.name or word in one.words]
        if not named:
            entities = ", ".join(one.name for one in vocabulary)
            reader.fail(f"{word[:LONGEST_TOLD]!r} is not known; there are {entities}", position)
        entity, position = named[0], reader.at
        quoted = reader.take(_QUOTED_KEY)
        word = reader.take(_KEY) if quoted is None else quoted[1:-1]
        if word is None:
            reader.fail(f"the name of one of the {entity.name} is missing")
    if not reader.ended and re.match(r"[\s<>=!~]", reader.text[reader.at]) is None:
        reader.fail(f'a name with {reader.text[reader.at]!r} must stand in double quotes: {entity.name}."..."')
    key = entity.aliases.get(word, word)
    if isinstance(entity.fields, Field):
        return entity, key, entity.fields
    if key not in entity.fields:
        reader.fail(f"{word[:LONGEST_TOLD]!r} is not one of the {entity.name}: {', '.join(entity.fields)}", position)
    return entity, key, entity.fields[key]


def _no_field(reader: _Reader) -> str:
    if reader.ended:
        return "a field such as metrics.rmse is missing"
    if _OPEN.match(reader.text, reader.at):
        return "parentheses only hold the list of IN"
    if reader.text[reader.at] in '"`':
        return "this quote is not closed"
    return "a field such as metrics.rmse is expected"


def _operator(reader: _Reader, name: str, field: Field) -> str:
    position, written = reader.at, reader.take(_OPERATOR)
    allowed = ", ".join(field.operators)
    if written is None:
        reader.fail(f"an operator is missing; {name} takes {allowed}")
    operator = " ".join(written.upper().split())
    if operator in _INSTEAD:
        reader.fail(f"write {_INSTEAD[operator]} instead of {operator}", position)
    if operator not in field.operators:
        reader.fail(f"{name} can't be asked with {operator}; it takes {allowed}", position)
    return operator


def _value(reader: _Reader, name: str, field: Field, operator: str) -> Value:
    if operator in PRESENCE:
        return None
    if operator in LISTS:
        return _list(reader, operator)
    if field.kind == "number":
        number = reader.take(_NUMBER)
        if number is None:
            reader.fail(f"{name} is compared with a number, and this is none")
        return _number(number)
    position, text = reader.at, _quoted(reader, f"{name} is text, compared with text in quotes")
    if operator in ("LIKE", "ILIKE") and len(text) > LONGEST_PATTERN:
        reader.fail(f"a pattern has at most {LONGEST_PATTERN} characters", position)
    return text


def _list(reader: _Reader, operator: str) -> tuple[str, ...]:
    if reader.take(_OPEN) is None:
        reader.fail(f"{operator} is followed by a list, as in ('a', 'b')")
    values: list[str] = []
    while True:
        reader.take(_SPACE)
        if values and reader.take(_CLOSE) is not None:
            return tuple(values)
        values.append(_quoted(reader, "the list holds text in quotes"))
        reader.take(_SPACE)
        if reader.take(_COMMA) is None:
            if reader.take(_CLOSE) is None:
                reader.fail("the list is not closed, or a comma is missing")
            return tuple(values)


def _quoted(reader: _Reader, otherwise: str) -> str:
    text = reader.take(_QUOTED)
    if text is None:
        quoted = reader.text[reader.at : reader.at + 1] in ("'", '"')
        reader.fail("this quote is not closed" if quoted else otherwise)
    return text[1:-1]


def _number(text: str) -> int | float:
    # Python reads no whole number of very many digits, and no column holds one.
    return int(text) if len(text) < 20 and text.lstrip("+-").isdigit() else float(text)
