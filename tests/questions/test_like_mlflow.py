"""The same questions to the ledger and to the real MLflow, about the same runs."""

from __future__ import annotations

import math
import re
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import made_home, running
from questions.asked import (
    ASKED_NUMBERS,
    ASKED_TEXTS,
    KEYS,
    NUMBER_OPERATORS,
    TEXT_OPERATORS,
    TEXTS,
    Ask,
    examples,
    quoted_key,
)

from orchestrator import ledger
from orchestrator.model import Dataset, Metric, Tracking
from orchestrator.questions.grammar import FilterError, parse_filter, parse_order_by
from orchestrator.questions.search import search_runs

PARENT = "f" * 32
START = 1_700_000_000_000
STATUS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped", "RUNNING": "running"}

ITS_OWN_TROUBLE = ("sqlalche.me", "explicit left side")
"""What MLflow says when it made no good SQL, of a dataset beside a tag."""

VALUES = st.sampled_from([0.0, -0.0, 0.5, 1.0, -3.0, 1e10, 1e-7, math.inf, -math.inf, math.nan])
TIMES = st.integers(START - 2, START + 2)
DIGESTS = st.sampled_from(["d1", "d2", "D1"])
RUNS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["alpha", "Alpha", "beta_1", "beta%1"]),
        "user": st.sampled_from(["ada", "bob"]),
        "start": TIMES,
        "end": st.none() | TIMES,
        "status": st.sampled_from(sorted(STATUS)),
        "deleted": st.integers(0, 3).map(lambda n: n == 0),
        "params": st.dictionaries(KEYS, TEXTS, min_size=1, max_size=4),
        "tags": st.dictionaries(KEYS | st.just("mlflow.parentRunId"), TEXTS | st.just(PARENT), max_size=4),
        "metrics": st.lists(st.tuples(KEYS, VALUES), max_size=5).map(
            lambda points: [(key, str(value), step) for step, (key, value) in enumerate(points)]
        ),
        "datasets": st.lists(
            st.tuples(TEXTS.filter(bool), DIGESTS, st.none() | st.sampled_from(["train", "Test"])),
            max_size=2,
            unique_by=lambda dataset: dataset[:2],
        ),
    }
)


FIELDS: dict[str, st.SearchStrategy[str]] = {
    "metric": st.tuples(st.sampled_from(["metrics", "metric"]), KEYS.flatmap(quoted_key)).map(".".join),
    "param": st.tuples(st.sampled_from(["params", "param", "parameter"]), KEYS.flatmap(quoted_key)).map(".".join),
    "tag": st.tuples(
        st.sampled_from(["tags", "tag"]),
        (KEYS | st.sampled_from(["mlflow.parentRunId", "mlflow.user"])).flatmap(quoted_key),
    ).map(".".join),
}
TEXT_FIELDS = st.one_of(
    FIELDS["param"],
    FIELDS["tag"],
    st.sampled_from(
        ["run_name", "attributes.run_name", "`Run name`", "user_id", "status", "attr.status", "run.run_id"]
    ),
    st.sampled_from(["datasets.name", "dataset.digest", "datasets.context"]),
)
TIME_FIELDS = st.sampled_from(["start_time", "attributes.end_time", "created", "attribute.Created"])
COMPARISONS = st.one_of(
    st.tuples(FIELDS["metric"], st.sampled_from(NUMBER_OPERATORS), ASKED_NUMBERS),
    st.tuples(TEXT_FIELDS, st.sampled_from(TEXT_OPERATORS), ASKED_TEXTS),
    st.tuples(TIME_FIELDS, st.sampled_from(NUMBER_OPERATORS), TIMES.map(str)),
    st.tuples(
        st.just("status"),
        st.sampled_from(TEXT_OPERATORS),
        st.sampled_from(["'FINISHED'", "'finished'", "'F%'", "'KILLED'", "'SCHEDULED'"]),
    ),
    # MLflow 2 wants no comma at a list's end, and passes over capital letters in it.
    st.tuples(
        st.just("datasets.name"), st.sampled_from(["IN", "NOT IN", "in"]), st.sampled_from(["('a', 'ab')", "('ab')"])
    ),
    st.tuples(st.just("run_id"), st.sampled_from(["IN", "NOT IN"]), st.sampled_from(["('RUN0', 'RUN2')", "('RUN1')"])),
    st.tuples(st.just("attributes.run_id"), st.sampled_from(["=", "!=", "LIKE"]), st.sampled_from(["'RUN0'", "'%a'"])),
).map(" ".join)
PRESENCES = st.tuples(FIELDS["param"] | FIELDS["tag"], st.sampled_from(["IS NULL", "IS NOT NULL", "is null"])).map(
    " ".join
)
WRONG = st.sampled_from(
    [
        *("params.a IN ('x')", "metrics.a > 'x'", "params.a = 5", "nothing.a = 'x'", "status IN ('x')", "metrics.a"),
        *(
            "metrics.a > 1 OR metrics.b > 1",
            "(metrics.a > 1)",
            "start_time LIKE 'x'",
            "metrics.a == 1",
            "params.a > 'x'",
        ),
        *("datasets.foo = 'x'", "foo = 'x'", "metrics.a IS NULL", "params.a = 'x", "metrics.a = nan", "metrics.a = 1;"),
    ]
)
ORDERS = st.lists(
    st.tuples(
        FIELDS["metric"]
        | FIELDS["param"]
        | FIELDS["tag"]
        | st.sampled_from(["start_time", "attributes.end_time", "status", "run_name", "attributes.run_id", "user_id"]),
        st.sampled_from(["", " ASC", " DESC", " desc"]),
    ).map("".join),
    max_size=3,
)


def questions(*, generation: str) -> st.SearchStrategy[dict[str, Any]]:
    # What was asked with IS NULL was an error before MLflow 3.
    comparisons = COMPARISONS | PRESENCES if generation == "3" else COMPARISONS
    filters = st.lists(comparisons, min_size=1, max_size=2).flatmap(
        lambda chosen: st.sampled_from([" AND ", " and ", "  AND\n"]).map(lambda joint: joint.join(chosen))
    )
    return st.fixed_dictionaries(
        {
            "filter": st.one_of(*[filters] * 7, WRONG),
            "order_by": ORDERS,
            "view": st.sampled_from(["active", "deleted", "all", "all"]),
            "limit": st.sampled_from([3, 1000]),
        }
    )


def named(text: str, run_ids: list[str]) -> str:
    """The filter with the ids that only MLflow knows before."""
    return re.sub(r"RUN([0-9])", lambda match: run_ids[int(match[1]) % len(run_ids)] if run_ids else "none", text)


def has_nan(run: dict[str, Any]) -> bool:
    return any(value == "nan" for _, value, _ in run["metrics"])


def ours(connection: Any, question: dict[str, Any]) -> Any:
    try:
        return search_runs(
            connection,
            experiment_ids=[ledger.experiment_id("questions")],
            comparisons=parse_filter(question["filter"]),
            order=parse_order_by(question["order_by"]),
            view=question["view"],
            limit=question["limit"],
            offset=0,
        )
    except FilterError as error:
        return str(error)


def write(connection: Any, run_id: str, run: dict[str, Any]) -> None:
    parent = run["tags"].get("mlflow.parentRunId")
    datasets = tuple(
        Dataset(name, digest, "local", "{}", None, None, {} if context is None else {"mlflow.data.context": context})
        for name, digest, context in run["datasets"]
    )
    record = replace(
        running(),
        run_id=run_id,
        pinned=None,
        experiment="questions",
        name=run["name"],
        status=STATUS[run["status"]],
        started_at=time(run["start"]),
        ended_at=None if run["end"] is None else time(run["end"]),
        params=run["params"],
        tags={key: value for key, value in run["tags"].items() if key != "mlflow.parentRunId"},
        host={"hostname": "anna", "variables": {"USER": run["user"]}},
        metrics=tuple(Metric(key, float(value), step, 0) for key, value, step in run["metrics"]),
        parent=parent,
        tracking=Tracking(datasets=datasets, deleted=run["deleted"]),
    )
    ledger.write_record(connection, record)


def time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@examples(4)
@given(data=st.data())
def test_the_ledger_answers_as_mlflow_does(
    data: st.DataObject, generation: str, ask_mlflow: Ask, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runs = data.draw(st.lists(RUNS, min_size=6, max_size=14))
    if generation == "2":  # where a NaN is a zero
        runs = [run for run in runs if not has_nan(run)]
    for run in runs:
        run["tags"]["mlflow.user"] = run["user"]
        if not run["tags"].get("mlflow.parentRunId", PARENT):
            del run["tags"]["mlflow.parentRunId"]
    asked = data.draw(st.lists(questions(generation=generation), min_size=40, max_size=40))

    made = ask_mlflow({"runs": runs})
    for number, question in enumerate(asked):
        asked[number] = {**question, "filter": named(question["filter"], made["run_ids"])}
    theirs = ask_mlflow({"experiment": made["experiment"], "questions": asked})
    home = made_home(tmp_path_factory.mktemp("home"))
    with closing(ledger.connect(home)) as connection:
        for run_id, run in zip(made["run_ids"], runs, strict=True):
            write(connection, run_id, run)
        answers = [ours(connection, question) for question in asked]

    numbers = {run_id: index for index, run_id in enumerate(made["run_ids"])}
    for question, answer, expected in zip(asked, answers, theirs, strict=True):
        if isinstance(expected, str) and any(words in expected for words in ITS_OWN_TROUBLE):
            continue
        if isinstance(expected, str):
            assert isinstance(answer, str), (question, expected)
        else:
            assert not isinstance(answer, str), (question, answer)
            assert [numbers[run_id] for run_id in answer] == [numbers[run_id] for run_id in expected], question
