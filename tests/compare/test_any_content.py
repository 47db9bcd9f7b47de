"""What must hold for whatever programs write."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.compare.contents import Context, Found, compare_contents
from orchestrator.compare.differences import near
from orchestrator.compare.own import OwnNames
from orchestrator.compare.rules import OutputRule, Rules, Tolerance, declared_for

FINITE = st.floats(-1e300, 1e300)
MODEST = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-9)
TOLERANCE = st.builds(Tolerance, st.floats(0, 10), st.floats(0, 10))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=6)
TABLE = st.lists(st.lists(CELL | MODEST.map(repr), min_size=2, max_size=3), min_size=1, max_size=5)
NOTHING = OwnNames((), ())


def compared(name: str, one: str, other: str, tolerance: Tolerance | None = None) -> Found:
    rules = Rules((OutputRule("**", tolerance),)) if tolerance else Rules()
    return compare_contents(name, one.encode(), other.encode(), Context(NOTHING, NOTHING, declared_for(name, rules)))


def table(rows: list[list[str]]) -> str:
    place = io.StringIO()
    csv.writer(place).writerows(rows)
    return place.getvalue()


@given(FINITE, FINITE, TOLERANCE)
def test_near_is_what_the_tolerance_says(a: float, b: float, tolerance: Tolerance) -> None:
    assert near(a, b, tolerance) == (a == b or abs(a - b) <= tolerance.absolute + tolerance.relative * abs(a))
    assert near(a, a, Tolerance())
    assert near(a, b, Tolerance()) == (a == b)


@given(st.floats(), st.floats(), st.floats(0, 10))
def test_an_absolute_tolerance_is_symmetric(a: float, b: float, absolute: float) -> None:
    assert near(a, b, Tolerance(0.0, absolute)) == near(b, a, Tolerance(0.0, absolute))


@given(JSON)
def test_json_is_what_it_is_however_it_is_written(value: Any) -> None:
    one, other = json.dumps(value), json.dumps(value, indent=1, ensure_ascii=True) + "\n"
    assert compared("a.json", one, other, Tolerance(0.0)).equal
    assert not compared("a.json", one, other).equal
    assert compared("a.json", one, one).equal


@given(JSON, JSON)
def test_json_that_is_equal_one_way_is_equal_the_other(one: Any, other: Any) -> None:
    texts = json.dumps(one), json.dumps(other)
    found, back = compared("a.json", *texts, Tolerance()), compared("a.json", *reversed(texts), Tolerance())
    assert (found.equal, found.place) == (back.equal, back.place) or not found.equal
    assert found.equal == back.equal
    assert found.equal or found.place is not None


@given(JSON, st.text(max_size=3), MODEST, st.floats(1e-6, 1e6))
def test_a_number_beyond_the_tolerance_is_never_equivalent(value: Any, key: str, number: float, step: float) -> None:
    tolerance = Tolerance(absolute=step / 2)
    assume(abs((number + step) - number) > step / 2)
    one, other = ({"rest": value, key: [number + plus]} for plus in (0, step))
    found = compared("a.json", json.dumps(one), json.dumps(other), tolerance)
    assert not found.equal
    assert found.place == "/" + key.replace("~", "~0").replace("/", "~1") + "/0" or not key.isprintable()
    assert compared("a.json", json.dumps(one), json.dumps(other), Tolerance(absolute=step * 2)).equal


@given(TABLE, st.data())
def test_a_changed_cell_of_a_table_is_never_equivalent(rows: list[list[str]], data: st.DataObject) -> None:
    assert compared("a.csv", table(rows), table(rows) + "", Tolerance()).equal
    changed = copy.deepcopy(rows)
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[row]) - 1))
    changed[row][column] = data.draw(st.sampled_from(["other", "1e99", "nan", "-inf"]))
    assume(changed[row][column] != rows[row][column])
    assert not compared("a.csv", table(rows), table(changed), Tolerance(0.5, 1.0)).equal


@given(st.lists(MODEST, min_size=1, max_size=5), st.text("ab :=,\n", max_size=5))
def test_numbers_in_text_within_the_tolerance_are_equivalent(numbers: list[float], between: str) -> None:
    one, other = (f" {between} ".join(repr(n * factor) for n in numbers) for factor in (1, 1 + 1e-9))
    assert compared("a.txt", one, other, Tolerance(1e-6, 1e-6)).equal
    beyond = f" {between} ".join(repr(n * 3 + math.copysign(1, n)) for n in numbers)
    assert not compared("a.txt", one, beyond, Tolerance(1e-6, 1e-6)).equal


@given(
    st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(["a.json", "a.csv", "a.npy", "a.zip", "a", "a.gz"])
)
def test_whatever_bytes_there_are_without_a_rule_only_the_same_are_equal(one: bytes, other: bytes, name: str) -> None:
    for start in (b"", b"\x93NUMPY", b"PK\x03\x04", b"\x1f\x8b\x08"):
        about = Context(NOTHING, NOTHING, declared_for(name, Rules()))
        found = compare_contents(name, start + one, start + other, about)
        assert found.equal == (one == other)
        assert found.equal or found.place or found.note
