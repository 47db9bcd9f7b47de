"""A filter's or an order's text becomes data, or an error that points at the place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import OrchError
from orchestrator.questions.grammar import (
    EXPERIMENTS,
    LONGEST,
    LONGEST_PATTERN,
    MODELS,
    MOST_COMPARISONS,
    Comparison,
    FilterError,
    Order,
    parse_filter,
    parse_order_by,
)

# Texts that come close to the grammar, besides any text.
PIECES = st.sampled_from(
    [
        *(
            "metrics",
            "params",
            "tags",
            "datasets",
            "attributes",
            ".",
            "rmse",
            "run_id",
            "start_time",
            "name",
            '"a b"',
            "`k`",
        ),
        *("=", "!=", "<", ">=", "==", "LIKE", "NOT", "IN", "IS", "NULL", "AND", "and", "OR", " ", "\n", "\t", ",", ";"),
        *(
            "(",
            ")",
            "'x'",
            '"y"',
            "'",
            '"',
            "`",
            "\\",
            "0.8",
            "-1",
            "1e5",
            "5.",
            "e",
            "ß",
            "\udc80",
            "\0",
            "DESC",
            "asc",
        ),
    ]
)
ANY = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=12).map(" ".join))
VOCABULARIES = st.sampled_from([EXPERIMENTS, MODELS, None])


@given(ANY, VOCABULARIES)
def test_any_text_is_a_filter_or_has_a_place_where_it_is_wrong(text: str, vocabulary: object) -> None:
    try:
        found = parse_filter(text) if vocabulary is None else parse_filter(text, vocabulary)  # type: ignore[arg-type]
    except FilterError as error:
        assert 0 <= error.position <= len(text)
        assert len(str(error).splitlines()) == 1
        assert error.shown().splitlines()[2].endswith("^")
    else:
        assert all(0 <= one.position < len(text) for one in found)


@given(ANY)
def test_any_text_is_an_order_or_has_a_place_where_it_is_wrong(text: str) -> None:
    try:
        (order,) = parse_order_by([text])
    except FilterError as error:
        assert 0 <= error.position <= len(text)
    else:
        assert order.key in text or order.entity == "attributes"


def test_comparisons_are_data() -> None:
    text = """metrics.rmse < 0.8 AND param."a b" = '5.1' and tag.`x.y` LIKE "%it's%" AND created >= 1700000000000"""
    assert parse_filter(text) == (
        Comparison("metrics", "rmse", "<", 0.8, 0),
        Comparison("params", "a b", "=", "5.1", 23),
        Comparison("tags", "x.y", "LIKE", "%it's%", 47),
        Comparison("attributes", "start_time", ">=", 1_700_000_000_000, 75),
    )


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_filter_asks_nothing(text: str) -> None:
    assert parse_filter(text) == ()


@pytest.mark.parametrize(
    ("text", "entity", "key", "operator", "value"),
    [
        ("metrics.a>1", "metrics", "a", ">", 1),
        ("metric.a = -1.5e-3", "metrics", "a", "=", -0.0015),
        ("metrics.a < 99999999999999999999999", "metrics", "a", "<", 1e23),
        ("metrics.a.b.c = 1", "metrics", "a.b.c", "=", 1),
        ("parameters.1a ilike 'x'", "params", "1a", "ILIKE", "x"),
        ("params.'a b' = 'x'", "params", "a b", "=", "x"),
        ("params.and = 'x'", "params", "and", "=", "x"),
        ("params.a = 'it''s'", "params", "a", "=", "it''s"),
        (r"params.a = 'it\'s'", "params", "a", "=", r"it\'s"),
        ("params.a is  not\tnull", "params", "a", "IS NOT NULL", None),
        ("tags.é != ''", "tags", "é", "!=", ""),
        ("run.`Run name` = 'x'", "attributes", "run_name", "=", "x"),
        ("status = 'FINISHED'", "attributes", "status", "=", "FINISHED"),
        ("run_id NOT  in ( 'a' ,\"b\", )", "attributes", "run_id", "NOT IN", ("a", "b")),
        ("dataset.context IN ('train')", "datasets", "context", "IN", ("train",)),
    ],
)
def test_the_grammar_is_mlflows(text: str, entity: str, key: str, operator: str, value: object) -> None:
    assert parse_filter(text) == (Comparison(entity, key, operator, value, 0),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("metrics.rmse < 0.8 AND", 22, "a field such as metrics.rmse is missing"),
        ("metrics.a > 1 OR metrics.b > 1", 14, "joined by AND only"),
        ("metrics.a > 1 metrics.b > 1", 14, "AND is missing"),
        ("(metrics.a > 1)", 0, "parentheses"),
        ("metrics.a > '1'", 12, "metrics.a is compared with a number"),
        ("params.a = 5.1", 11, "params.a is text"),
        ("params.a > 'x'", 9, "params.a can't be asked with >"),
        ("params.a IN ('x')", 9, "can't be asked with IN"),
        ("metrics.a == 1", 10, "write = instead of =="),
        ("params.a-b = 'x'", 8, "must stand in double quotes"),
        ("param.a = 'x", 10, "this quote is not closed"),
        ("foo.a = 'x'", 0, "'foo' is not known; there are attributes, metrics, params, tags, datasets"),
        ("tags.a = 'x' and nme = 'x'", 17, "'nme' is not one of the attributes"),
        ("run_id IN 'a'", 10, "IN is followed by a list"),
        ("run_id IN ('a' 'b')", 15, "a comma is missing"),
        ("run_id IN (", 11, "the list holds text in quotes"),
        ("metrics.a", 9, "an operator is missing"),
        ("metrics.", 8, "the name of one of the metrics is missing"),
        ("end_time IS NULL", 9, "can't be asked with IS NULL"),
    ],
)
def test_an_error_says_what_and_where(text: str, position: int, says: str) -> None:
    with pytest.raises(OrchError) as raised:
        parse_filter(text)
    assert isinstance(raised.value, FilterError)
    assert raised.value.position == position
    assert says in str(raised.value)
    assert f"(character {position + 1} of the filter)" in str(raised.value)


def test_the_place_is_shown_below_the_text() -> None:
    with pytest.raises(FilterError) as raised:
        parse_filter("params.a = 'x'\nAND metrics.b > 'y'")
    _, line, caret = raised.value.shown().splitlines()
    assert line[caret.index("^") :] == "'y'"


def test_what_sqlite_could_not_bear_is_refused() -> None:
    with pytest.raises(FilterError, match="at most 100 comparisons"):
        parse_filter(" AND ".join(["metrics.a > 1"] * (MOST_COMPARISONS + 1)))
    with pytest.raises(FilterError, match="a pattern has at most"):
        parse_filter(f"params.a LIKE '{'%' * (LONGEST_PATTERN + 1)}'")
    with pytest.raises(FilterError, match="a filter has at most 100000 characters"):
        parse_filter(f"params.a = '{'x' * LONGEST}'")
    with pytest.raises(FilterError, match="an order has at most 100000 characters"):
        parse_order_by([f'params."{"x" * LONGEST}"'])
    with pytest.raises(FilterError, match="at most 16 orders"):
        parse_order_by([f"metrics.m{number}" for number in range(17)])


def test_orders_are_data() -> None:
    assert parse_order_by(["metrics.rmse", ' param."a b"  DESC', "Created asc"]) == (
        Order("metrics", "rmse", True, 0),
        Order("params", "a b", False, 1),
        Order("attributes", "start_time", True, 0),
    )


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["metrics.a", "metric.a DESC"], "already ordered by this"),
        (["datasets.name"], "can't be ordered by datasets"),
        (["metrics.a up"], "ASC, DESC or nothing"),
        (["metrics.a, metrics.b"], "must stand in double quotes"),
        (["rmse"], "'rmse' is not one of the attributes"),
        ([""], "is missing"),
    ],
)
def test_an_order_that_is_none_is_refused(texts: list[str], says: str) -> None:
    with pytest.raises(FilterError, match=says):
        parse_order_by(texts)


def test_experiments_and_models_have_fields_of_their_own() -> None:
    assert parse_filter("name LIKE 'a%' AND tags.k = 'v'", EXPERIMENTS)[0].key == "name"
    assert parse_filter("creation_time > 5", EXPERIMENTS)[0].key == "creation_time"
    assert parse_filter("creation_time > 5", MODELS)[0].key == "creation_timestamp"
    assert parse_filter("params.a NOT IN ('x') AND metrics.b > 1", MODELS)[0].value == ("x",)
    with pytest.raises(FilterError, match="'metrics' is not known"):
        parse_filter("metrics.a > 1", EXPERIMENTS)
    with pytest.raises(FilterError, match="can't be ordered by tags"):
        parse_order_by(["tags.a"], EXPERIMENTS)
