"""Which runs of a ledger answer a question, and how SQLite finds them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import RECORDS, finished, made_home, running

from orchestrator import ledger
from orchestrator.ledger.write import experiment_id
from orchestrator.model import Dataset, Metric, RunRecord, Tracking
from orchestrator.questions.grammar import FilterError, parse_filter, parse_order_by
from orchestrator.questions.search import search_runs
from orchestrator.questions.sql import condition, counted, of_experiments, ordered

RECENT = "2026-11-23T07:00:00.000Z"
MOMENT = 1_795_417_200_000
"""`RECENT` in milliseconds since the epoch."""


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(ledger.connect(made_home(tmp_path / "home"))) as connection:
        yield connection


def put(connection: sqlite3.Connection, **records: RunRecord) -> None:
    """Write the records, with ids that are made of their names."""
    for name, record in records.items():
        ledger.write_record(connection, replace(record, run_id=run_id(name)))


def run_id(name: str) -> str:
    return name.encode().hex().ljust(32, "0")


def name_of(identity: str) -> str:
    return bytes.fromhex(identity).rstrip(b"\0").decode()


def found(connection: sqlite3.Connection, text: str = "", *order: str, **options: Any) -> list[str]:
    """The names of the runs that answer."""
    settings = {"experiment_ids": None, "view": "active", "limit": 100, "offset": 0, **options}
    comparisons, by = parse_filter(text), parse_order_by(order or ["run_id"])
    return [name_of(found) for found in search_runs(connection, comparisons=comparisons, order=by, **settings)]


def metric(value: float) -> tuple[Metric, ...]:
    return (Metric("m", value, 1, 0),)


def test_the_latest_value_of_a_metric_counts(connection: sqlite3.Connection) -> None:
    put(connection, a=finished(metrics=(Metric("m", 9.0, 0, 0), Metric("m", 0.1, 5, 0))), b=finished(metrics=metric(9)))
    assert found(connection, "metrics.m < 1") == ["a"]
    assert found(connection, "metrics.m = 9") == ["b"]


def test_a_run_that_lacks_the_key_never_matches(connection: sqlite3.Connection) -> None:
    put(connection, a=finished(metrics=(), params={}, tags={}), b=finished(metrics=metric(1), params={"p": "x"}))
    assert found(connection, "metrics.m != 5") == ["b"]
    assert found(connection, "params.p != 'y'") == ["b"]
    assert found(connection, "params.p IS NULL") == ["a"]
    assert found(connection, "params.p IS NOT NULL") == ["b"]
    assert found(connection, "end_time != 5") == ["a", "b"]


def test_nan_comes_behind_values_and_a_missing_metric_last(connection: sqlite3.Connection) -> None:
    values = {"a": math.nan, "b": 2.0, "c": 1.0, "d": math.inf, "e": -math.inf}
    put(connection, **{name: finished(metrics=metric(value)) for name, value in values.items()}, f=finished(metrics=()))
    assert found(connection, "", "metrics.m") == ["e", "c", "b", "d", "a", "f"]
    assert found(connection, "", "metrics.m DESC") == ["d", "b", "c", "e", "a", "f"]
    assert found(connection, "metrics.m != 1") == ["a", "b", "d", "e"]
    assert found(connection, "metrics.m >= -1e308 AND metrics.m <= 1e308") == ["b", "c"]


def test_ties_are_sorted_by_start_then_by_id(connection: sqlite3.Connection) -> None:
    put(connection, b=finished(), a=finished(), c=finished(started_at="2026-11-24T07:00:00.000Z"))
    assert found(connection, "", "params.alpha") == ["c", "a", "b"]
    assert found(connection, "", "start_time") == ["a", "b", "c"]


def test_like_minds_the_case_and_ilike_does_not(connection: sqlite3.Connection) -> None:
    values = {"a": "Ridge", "b": "ridge", "c": "[x]*?", "d": "a%b_"}
    put(connection, **{name: finished(params={"p": value}) for name, value in values.items()})
    assert found(connection, "params.p LIKE 'r%'") == ["b"]
    assert found(connection, "params.p ILIKE 'r_dge'") == ["a", "b"]
    assert found(connection, "params.p LIKE '[x]*?'") == ["c"]
    assert found(connection, "params.p LIKE '[_]%'") == ["c"]
    assert found(connection, "params.p LIKE '%b_'") == ["d"]
    assert found(connection, "params.p LIKE '*'") == []


def test_a_status_is_mlflows_word_for_it(connection: sqlite3.Connection) -> None:
    ended = {"a": "finished", "b": "failed", "c": "stopped", "d": "lost"}
    put(
        connection,
        **{name: finished(status=status) for name, status in ended.items()},
        e=running(),
        f=running(status="orphaned"),
    )  # type: ignore[arg-type]
    assert found(connection, "status = 'FAILED'") == ["b", "d"]
    assert found(connection, "status = 'RUNNING'") == ["e", "f"]
    assert found(connection, "status != 'FINISHED' AND status LIKE 'F%'") == ["b", "d"]
    assert found(connection, "status ILIKE 'k_lled'") == ["c"]
    assert found(connection, "status = 'SCHEDULED'") == []
    assert found(connection, "", "status", "run_id") == ["b", "d", "a", "c", "e", "f"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"start_time = {MOMENT}", ["a"]),
        (f"start_time != {MOMENT}", ["b"]),
        (f"start_time > {MOMENT}", ["b"]),
        (f"start_time > {MOMENT}.5", ["b"]),
        (f"start_time >= {MOMENT}.5", ["b"]),
        (f"start_time < {MOMENT}.5", ["a"]),
        (f"start_time <= {MOMENT}.5", ["a"]),
        (f"start_time = {MOMENT}.5", []),
        (f"start_time != {MOMENT}.5", ["a", "b"]),
        ("start_time > -1", ["a", "b"]),
        ("start_time > 1e300", []),
        ("start_time < 1e999", ["a", "b"]),
        ("start_time >= -1e999", ["a", "b"]),
        ("start_time < -99999999999999999999", []),
        ("end_time > 0", ["a"]),
        ("end_time != 0.5", ["a"]),
    ],
)
def test_times_are_milliseconds_since_the_epoch(connection: sqlite3.Connection, text: str, names: list[str]) -> None:
    put(connection, a=finished(started_at=RECENT), b=running(started_at="2026-11-23T07:00:00.001Z"))
    assert found(connection, text) == names


def test_what_mlflow_has_as_tags_is_found_in_the_record(connection: sqlite3.Connection) -> None:
    put(
        connection,
        a=finished(name="ridge", parent="f" * 32),
        b=finished(name=None, tags={"mlflow.parentRunId": "f" * 32}),
    )
    put(connection, c=finished(parent="f" * 32, tags={"mlflow.parentRunId": "e" * 32}), d=finished(pinned=None))
    assert found(connection, f"tags.mlflow.parentRunId = '{'f' * 32}'") == ["a", "b"]
    assert found(connection, f"tags.mlflow.parentRunId != '{'f' * 32}'") == ["c"]
    assert found(connection, "tags.mlflow.runName = 'ridge'") == found(connection, "run_name = 'ridge'") == ["a"]
    assert found(connection, f"tags.`mlflow.source.git.commit` = '{'c' * 40}'") == ["a", "b", "c"]
    assert found(connection, "tags.mlflow.source.git.commit IS NULL") == ["d"]
    assert found(connection, "tags.mlflow.project.entryPoint LIKE 'ma%'") == ["a", "b", "c"]
    assert found(connection, "tags.mlflow.source.name LIKE '%/wine.git'") == ["a", "b", "c"]
    assert found(connection, "tags.mlflow.source.type = 'PROJECT'", "tags.mlflow.parentRunId DESC") == ["a", "b", "c"]


def test_a_run_without_a_name_is_called_as_it_is_shown(connection: sqlite3.Connection) -> None:
    put(connection, a=finished(name=None))
    assert found(connection, f"attributes.run_name = '{run_id('a')[:16]}'") == ["a"]


def test_the_user_is_told_by_a_tag_or_by_the_machine(connection: sqlite3.Connection) -> None:
    host = {"hostname": "anna", "variables": {"USER": "ada"}}
    put(connection, a=finished(host=host), b=finished(host=host, tags={"mlflow.user": "bob"}), c=finished(host={}))
    assert found(connection, "user_id = 'ada'") == found(connection, "tags.mlflow.user = 'ada'") == ["a"]
    assert found(connection, "user_id != 'ada'") == ["b", "c"]
    assert found(connection, "tags.mlflow.user != 'ada'") == ["b"]


def test_datasets_are_asked_for_one_by_one(connection: sqlite3.Connection) -> None:
    def used(*pairs: tuple[str, str | None]) -> RunRecord:
        datasets = tuple(
            Dataset(name, "d1", "local", "{}", None, None, {} if context is None else {"mlflow.data.context": context})
            for name, context in pairs
        )
        return finished(tracking=Tracking(datasets=datasets))

    put(connection, a=used(("wine", "train"), ("beer", None)), b=used(("beer", "test")), c=finished())
    assert found(connection, "datasets.name = 'beer'") == ["a", "b"]
    assert found(connection, "dataset.context = 'train' AND dataset.name = 'beer'") == ["a"]
    assert found(connection, "datasets.context NOT IN ('train')") == ["b"]


def test_ids_and_places_can_be_asked_for(connection: sqlite3.Connection) -> None:
    put(connection, a=finished(), b=finished())
    assert found(connection, f"run_id IN ('{run_id('b')}', 'x')") == ["b"]
    assert found(connection, f"run_id NOT IN ('{run_id('b')}', 'x')") == ["a"]
    assert found(connection, f"run_id LIKE '{run_id('a')[:4]}%'") == ["a"]
    assert found(connection, f"artifact_uri = 'mlflow-artifacts:/0/{run_id('a')}/artifacts'") == ["a"]


def test_only_the_experiments_and_the_view_that_are_asked_for(connection: sqlite3.Connection) -> None:
    put(connection, a=finished(), b=finished(experiment="other"), c=finished(tracking=Tracking(deleted=True)))
    assert found(connection) == ["a", "b"]
    assert found(connection, view="all") == ["a", "b", "c"]
    assert found(connection, view="deleted") == ["c"]
    assert found(connection, experiment_ids=[experiment_id("other")]) == ["b"]
    assert found(connection, experiment_ids=["0", experiment_id("other"), "'; --"]) == ["a", "b"]
    assert found(connection, experiment_ids=[]) == []


def test_pages_follow_each_other(connection: sqlite3.Connection) -> None:
    put(connection, **{name: finished() for name in "abcde"})
    pages = [found(connection, "params.alpha = '5.1'", limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert pages == [["a", "b"], ["c", "d"], ["e"], []]


# --- nothing injected -------------------------------------------------------------------------------------------

HOSTILE = [
    "' OR 1=1 --",
    "'; DROP TABLE runs; --",
    '" OR ""="',
    "`; DELETE FROM runs",
    "?",
    "?1",
    ":x",
    "\\",
    "\0",
    "\udc80",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_or_key_becomes_sql(connection: sqlite3.Connection, text: str) -> None:
    put(
        connection, a=finished(params={text: text}, tags={text: text}, metrics=(Metric(text, 1.0, 0, 0),)), b=finished()
    )
    quote = '"' if "'" in text or "\\" in text else "'"
    if quote not in text and not text.endswith("\\"):
        value = f"{quote}{text}{quote}"
        key = f"`{text}`" if "`" not in text else f'"{text}"'
        for filter_text in (f"params.{key} = {value}", f"tags.{key} = {value}", f"metrics.{key} = 1"):
            assert found(connection, filter_text) == ["a"]
        assert found(connection, f"run_id = {value}") == found(connection, f"status = {value}") == []
        assert found(connection, f"datasets.name IN ({value}) AND user_id LIKE {value}") == []
        assert found(connection, "", f"metrics.{key}", f"params.{key} DESC") == ["a", "b"]
    with pytest.raises(FilterError):
        parse_filter(f"metrics.a > 1 {text} ")
    with pytest.raises(FilterError):
        parse_order_by([f"metrics.a {text}"])
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)


@given(st.text(max_size=20), st.text(max_size=20))
def test_sql_is_the_same_whatever_is_asked(key: str, value: str) -> None:
    key, value = key.replace("`", "").replace("\\", ""), value.replace("'", "").replace("\\", "")

    def asked(key: str, value: str) -> str:
        comparisons = parse_filter(
            f"params.`{key}` LIKE '{value}' AND metrics.`{key}` != 5 AND datasets.name IN ('{value}')"
        )
        order = parse_order_by([f"metrics.`{key}`", f"tags.`{key}` DESC"])
        conditions = [condition(one) for one in comparisons]
        return ordered(conditions, order, "active", 10, 0, first=0).text

    if not key.startswith("mlflow."):
        assert asked(key, value) == asked("k", "v")


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(RECORDS, max_size=3, unique_by=lambda record: record.run_id))
def test_any_run_can_be_asked_for(tmp_path_factory: pytest.TempPathFactory, records: list[RunRecord]) -> None:
    with closing(ledger.connect(made_home(tmp_path_factory.mktemp("home")))) as connection:
        for record in records:
            ledger.write_record(connection, record)
        for record in records:
            everything = search_runs(
                connection,
                experiment_ids=[experiment_id(record.experiment)],
                comparisons=parse_filter("start_time >= -62135596800000"),
                order=parse_order_by(
                    ["metrics.rmse", "run_name DESC", "tags.mlflow.source.name", "user_id", "status", "end_time"]
                ),
                view="deleted" if record.tracking.deleted else "active",
                limit=10,
                offset=0,
            )
            assert record.run_id in everything


# --- how SQLite goes about it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "metrics.m < 0.5",
        "metrics.m != 0.5",
        "params.p = 'x'",
        "params.p LIKE 'x%'",
        "params.p IS NULL",
        "tags.t ILIKE '%x'",
        "tags.mlflow.parentRunId = 'x'",
        "tags.mlflow.source.git.commit = 'x'",
        "tags.mlflow.runName = 'x'",
        "datasets.name = 'x'",
        "user_id = 'x'",
        "run_id IN ('x')",
    ],
)
def test_no_table_of_values_is_gone_through(connection: sqlite3.Connection, text: str) -> None:
    (asked,) = [condition(one) for one in parse_filter(text)]
    order = parse_order_by(["metrics.m", "params.p DESC", "tags.t"])
    queries = [ordered([asked], order, "active", 10, 0, first=first) for first in (None, 0)]
    queries += [counted(asked, 10)] if asked.among else []
    for query in queries:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.text}", query.values)]
        scanned = [line.split()[1] for line in plan if line.startswith("SCAN")]
        assert not set(scanned) & {"params", "tags", "metrics", "latest_metrics", "datasets"}, plan
    if asked.among:
        assert not [line for line in plan if line.startswith("SCAN runs")], plan


def test_few_runs_are_looked_up_and_many_are_gone_through(connection: sqlite3.Connection) -> None:
    few = of_experiments(["0"])
    plans = [
        [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.text}", query.values)]
        for query in (ordered([few], [], "all", 10, 0, first=first) for first in (None, 0))
    ]
    assert any(line.startswith("SCAN runs") for line in plans[0])
    assert not any(line.startswith("SCAN runs") for line in plans[1])


def test_it_does_not_matter_where_the_search_begins(connection: sqlite3.Connection) -> None:
    put(
        connection,
        **{f"r{n:02d}": finished(params={"p": str(n % 20), "q": str(n % 3)}, metrics=metric(n)) for n in range(60)},
    )
    text = "params.p = '7' AND metrics.m > 20 AND params.q != '0'"
    conditions = [condition(one) for one in parse_filter(text)]
    answers = []
    for first in (None, 0, 1, 2):
        query = ordered(conditions, (), "active", 100, 0, first=first)
        answers.append(connection.execute(query.text, query.values).fetchall())
    assert answers == [answers[0]] * 4
    assert [name_of(row[0]) for row in answers[0]] == found(connection, text) == ["r47"]
