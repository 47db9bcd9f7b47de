"""Comparisons and orders of facts in memory."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.questions.grammar import EXPERIMENTS, MODELS, Order, parse_filter, parse_order_by
from orchestrator.questions.matching import in_order, like, matches

LETTERS = st.text("aAbBéÉß%_*?[]^\\.\n-", max_size=8)


@given(LETTERS, LETTERS | st.text("aB%_", max_size=6), st.booleans())
def test_like_is_sqlites(text: str, pattern: str, ignore_case: bool) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        if not ignore_case:
            connection.execute("PRAGMA case_sensitive_like = true")
        expected = connection.execute("SELECT ? LIKE ?", (text, pattern)).fetchone()[0]
    assert like(text, pattern, ignore_case=ignore_case) == bool(expected)


def test_no_pattern_takes_long() -> None:
    began = time.perf_counter()
    assert not like("a" * 5000, "%a" * 2000 + "b", ignore_case=False)
    assert time.perf_counter() - began < 2


def holds(text: str, **facts: object) -> bool:
    (comparison,) = parse_filter(text, MODELS)
    attributes = {"name": "lin", "source_run_id": None, "creation_timestamp": 5}
    return matches(comparison, attributes, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name = 'lin'", True),
        ("name != 'lin'", False),
        ("name LIKE 'L%'", False),
        ("name ILIKE 'L%'", True),
        ("name IN ('a', 'lin')", True),
        ("name NOT IN ('a', 'lin')", False),
        ("source_run_id != 'x'", False),
        ("source_run_id NOT IN ('x')", False),
        ("creation_time >= 5", True),
        ("creation_time < 5.5", True),
        ("params.a = 'x'", True),
        ("params.b != 'x'", False),
        ("tags.t IN ('v')", True),
        ("metrics.rmse > 0.5", True),
        ("metrics.rmse > 0.9", False),
        ("metrics.none != 1", False),
        ("metrics.bad != 1", True),
        ("metrics.bad < 1", False),
    ],
)
def test_a_model_is_matched(text: str, expected: bool) -> None:
    metrics = [("rmse", 0.4), ("rmse", 0.8), ("bad", math.nan)]
    assert holds(text, params={"a": "x"}, tags={"t": "v"}, metrics=metrics) == expected


def test_a_missing_tag_is_null() -> None:
    (absent,) = parse_filter("tags.t IS NULL", EXPERIMENTS)
    (present,) = parse_filter("tags.t IS NOT NULL", EXPERIMENTS)
    assert matches(absent, {}, tags={})
    assert not matches(absent, {}, tags={"t": ""})
    assert matches(present, {}, tags={"t": ""})
    assert not matches(present, {})


def test_missing_values_come_last_in_both_directions() -> None:
    items = [
        ({"metrics.m": value}, name)
        for name, value in [("n", None), ("x", math.nan), ("b", 2.0), ("a", 1.0), ("B", 2.0)]
    ]
    assert [name for _, name in in_order(items, [Order("metrics", "m", True, 0)])] == ["a", "b", "B", "x", "n"]
    assert [name for _, name in in_order(items, [Order("metrics", "m", False, 0)])] == ["b", "B", "a", "x", "n"]


def test_the_first_order_counts_most() -> None:
    items = [({"name": name, "creation_time": when}, name + str(when)) for name in "ba" for when in (1, 2)]
    order = parse_order_by(["name", "creation_time DESC"], EXPERIMENTS)
    assert [item for _, item in in_order(items, order)] == ["a2", "a1", "b2", "b1"]
