"""The same questions to `matching` and to the real MLflow, about the same experiments and models."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions.asked import ASKED_NUMBERS, ASKED_TEXTS, KEYS, NUMBER_OPERATORS, TEXTS, Ask, examples

from orchestrator.questions.grammar import EXPERIMENTS, MODELS, FilterError, Order, parse_filter, parse_order_by
from orchestrator.questions.matching import in_order, matches

EXPERIMENT_FIELDS = st.sampled_from(["name", "attribute.name", "tag.k", "tags.`a b`"])
EXPERIMENT_FILTERS = st.one_of(
    st.tuples(
        EXPERIMENT_FIELDS,
        st.sampled_from(["=", "!=", "LIKE", "ILIKE"]),
        ASKED_TEXTS | st.sampled_from(["'Default'", "'%e%'"]),
    ),
    st.tuples(
        st.sampled_from(["creation_time", "last_update_time"]),
        st.sampled_from(NUMBER_OPERATORS),
        st.sampled_from(["0", "99999999999999"]),
    ),
    st.sampled_from([("foo", "=", "'x'"), ("metrics.a", ">", "1"), ("name", "=", "5"), ("name", "IN", "('a')")]),
).map(" ".join)
EXPERIMENT_ORDERS = st.lists(st.sampled_from(["name", "name DESC", "experiment_id ASC", "creation_time"]), max_size=2)


@examples(10)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "filter": st.lists(EXPERIMENT_FILTERS, max_size=2).map(" AND ".join),
                "order_by": EXPERIMENT_ORDERS.filter(
                    lambda order: len({text.split()[0] for text in order}) == len(order)
                ),
            }
        ),
        min_size=30,
        max_size=30,
    )
)
def test_experiments_are_found_as_mlflow_finds_them(
    ask_mlflow: Ask, known_experiments: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    for question, expected in zip(asked, ask_mlflow({"questions": asked}), strict=True):
        assert found_experiments(known_experiments, question) == (None if isinstance(expected, str) else expected), (
            question
        )


@pytest.fixture(scope="session")
def known_experiments(ask_mlflow: Ask) -> list[dict[str, Any]]:
    """Experiments with tags, as MLflow tells of them."""
    names = ["a", "A", "ab", "aB", "a%b", "é", "it's", "[a]"]
    tags = [{"k": name, "a b": name.upper()} if index % 3 else {} for index, name in enumerate(names)]
    found: list[dict[str, Any]] = ask_mlflow({"experiments": dict(zip(names, tags, strict=True))})
    # Its ids are numbers that count up; those of the ledger have one length.
    return [experiment | {"experiment_id": experiment["experiment_id"].zfill(18)} for experiment in found]


def found_experiments(known: list[dict[str, Any]], question: dict[str, Any]) -> list[str] | None:
    try:
        comparisons = parse_filter(question["filter"], EXPERIMENTS)
        order = parse_order_by(question["order_by"], EXPERIMENTS)
    except FilterError:
        return None
    found = [(e, e["name"]) for e in known if all(matches(one, e, tags=e["tags"]) for one in comparisons)]
    if order:
        found.sort(key=lambda pair: -int(pair[0]["experiment_id"]))
    else:
        found.sort(key=lambda pair: (-pair[0]["creation_time"], int(pair[0]["experiment_id"])))
    return [name for _, name in in_order(found, order)]


# MLflow takes the names of models' parts in backticks only, and a value in single quotes.
MODEL_KEYS = KEYS.map(lambda key: f"`{key}`")
MODEL_TEXTS = ASKED_TEXTS.filter(lambda text: text.startswith("'") and text.count("'") == 2)
MODEL_FILTERS = st.one_of(
    st.tuples(
        st.sampled_from(["name", "model_type", "source_run_id"])
        | st.tuples(st.sampled_from(["params", "tags"]), MODEL_KEYS).map(".".join),
        st.sampled_from(["=", "!=", "LIKE", "ILIKE"]),
        MODEL_TEXTS,
    ),
    st.tuples(st.sampled_from(["name", "params.rmse"]), st.sampled_from(["IN", "NOT IN"]), st.just("('a', 'ab')")),
    st.tuples(MODEL_KEYS.map(lambda key: f"metrics.{key}"), st.sampled_from(NUMBER_OPERATORS), ASKED_NUMBERS),
    st.tuples(st.just("creation_timestamp"), st.sampled_from(["<", ">="]), st.sampled_from(["0", "99999999999999"])),
    st.sampled_from([("params.a", ">", "'x'"), ("metrics.a", "LIKE", "'x'"), ("creation_time", "IN", "('x')")]),
).map(" ".join)
MODEL_ORDERS = st.lists(
    st.tuples(st.sampled_from(["name", "model_type", "metrics.rmse"]), st.booleans()),
    max_size=2,
    unique_by=lambda order: order[0],
)
MODELS_MADE = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "A", "ab", "m_1"]),
        "model_type": st.none() | st.sampled_from(["ridge", "Ridge"]),
        "params": st.dictionaries(KEYS, TEXTS, max_size=3),
        "tags": st.dictionaries(KEYS, TEXTS, max_size=3),
        "metrics": st.dictionaries(KEYS, st.sampled_from([0.0, 0.5, 1.0, -3.0]), max_size=3),
    }
)


@pytest.mark.parametrize("generation", ["3"], indirect=True)
@examples(4)
@given(
    made=st.lists(MODELS_MADE, min_size=4, max_size=8),
    asked=st.lists(
        st.fixed_dictionaries(
            {"filter": st.lists(MODEL_FILTERS, max_size=2).map(" AND ".join), "order_by": MODEL_ORDERS}
        ),
        min_size=40,
        max_size=40,
    ),
)
def test_models_are_found_as_mlflow_finds_them(
    ask_mlflow: Ask, made: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    known = ask_mlflow({"models": made})
    theirs = ask_mlflow({"models_of": known["experiment"], "questions": asked})
    for question, expected in zip(asked, theirs, strict=True):
        answer = found_models(known["known"], made, question)
        assert answer == (None if isinstance(expected, str) else expected), question


def found_models(known: list[dict[str, Any]], made: list[dict[str, Any]], question: dict[str, Any]) -> list[str] | None:
    try:
        comparisons = parse_filter(question["filter"], MODELS)
    except FilterError:
        return None
    order = [
        Order("metrics", name.partition(".")[2], ascending, 0)
        if "." in name
        else Order("attributes", name, ascending, 0)
        for name, ascending in question["order_by"]
    ]
    found = [
        ({**facts, **{f"metrics.{key}": value for key, value in model["metrics"].items()}}, facts["model_id"])
        for facts, model in zip(known, made, strict=True)
        if all(
            matches(one, facts, tags=model["tags"], params=model["params"], metrics=model["metrics"].items())
            for one in comparisons
        )
    ]
    found.sort(key=lambda pair: (-pair[0]["creation_timestamp"], pair[1]))
    return [model_id for _, model_id in in_order(found, order)]
