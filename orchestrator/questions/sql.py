"""Comparisons and orders become SQL. Its text is made of constants only: all that was asked is a bound value.

NULL in a metric's value is a NaN (see `ledger.values`), which `!=` matches and nothing else does. What SQLite's
LIKE is depends on the connection; GLOB, which minds the case, does not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from orchestrator.ledger.query import SHORT_ID
from orchestrator.ledger.values import to_text
from orchestrator.questions.grammar import Comparison, Order
from orchestrator.questions.matching import holds

STATUS = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "stopped": "KILLED",
    "running": "RUNNING",
    "lost": "FAILED",
    "orphaned": "RUNNING",
}
"""MLflow's word for a status of the ledger."""

View = Literal["active", "deleted", "all"]


@dataclass(frozen=True, slots=True)
class Part:
    """SQL with a `?` for each of the values."""

    text: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a row of `runs`."""

    holds: Part
    """An expression over the row; its indexes are those that begin with the run."""
    among: Part | None = None
    """A SELECT of the ids of the same runs by themselves, through an index over the values; None where none is."""


def condition(comparison: Comparison) -> Condition:
    """What a comparison of `vocabulary.RUNS` asks of a run."""
    entity, key = comparison.entity, comparison.key
    if entity == "attributes":
        return _attribute(comparison)
    if entity == "datasets":
        return _dataset(comparison)
    if entity == "tags" and key in RESERVED:
        return _reserved(comparison, RESERVED[key])
    return _keyed(comparison, _TABLES[entity])


def of_experiments(experiment_ids: Sequence[str]) -> Condition:
    """That the run is of one of these experiments."""
    wanted = (_json(experiment_ids),)
    return Condition(
        Part("+runs.experiment_id IN (SELECT value FROM json_each(?))", wanted),
        Part("SELECT run_id FROM runs WHERE experiment_id IN (SELECT value FROM json_each(?))", wanted),
    )


def ordered(
    conditions: Sequence[Condition], order: Sequence[Order], view: View, limit: int, offset: int, *, first: int | None
) -> Part:
    """The ids of the runs of which all conditions hold; `first` is the index of the one to begin with, by its `among`.

    Ties are in the order of start, the newest first, then of the run id.
    """
    where = [
        Part(f"runs.run_id IN ({one.among.text})", one.among.values) if index == first and one.among else one.holds
        for index, one in enumerate(conditions)
    ]
    joins = [_join(index, one) for index, one in enumerate(order)]
    by = [_by(index, one) for index, one in enumerate(order)]
    if not any(one.entity == "attributes" and one.key == "start_time" for one in order):
        by.append("runs.started_at DESC")
    text = _sql(
        "SELECT runs.run_id FROM runs",
        *(join.text for join in joins),
        "WHERE",
        " AND ".join((_VIEWS[view], *(part.text for part in where))),
        "ORDER BY",
        ", ".join((*by, "runs.run_id")),
        "LIMIT ? OFFSET ?",
    )
    return Part(text, (*(value for part in (*joins, *where) for value in part.values), limit, offset))


def counted(condition: Condition, most: int) -> Part:
    """How many runs a condition with `among` names, counted up to `most`."""
    among = condition.among or Part("SELECT run_id FROM runs")
    return Part(_sql("SELECT count(*) FROM (SELECT 1 FROM (", among.text, ") LIMIT ?)"), (*among.values, most))


def _sql(*constants: str) -> str:
    """The one place where SQL is put together: of constants of this file, and no values."""
    return " ".join(constants)


_VIEWS = {"active": "NOT runs.deleted", "deleted": "runs.deleted", "all": "1"}
_TABLES = {"metrics": "latest_metrics", "params": "params", "tags": "tags"}

# --- fields of a run's own row ----------------------------------------------------------------------------------


def _tagged(key: str, column: str) -> str:
    given = _sql("SELECT value FROM tags WHERE run_id = runs.run_id AND key =", f"'{key}'")
    return f"coalesce(({given}), nullif({column}, ''))"


_NAME = f"coalesce(nullif(runs.name, ''), substr(runs.run_id, 1, {SHORT_ID:d}))"
_USER = "json_extract(runs.host_more, '$.variables.USER')"

OWN_TAGS = {
    "mlflow.user": f"CASE WHEN runs.url != '' THEN {_USER} END",
    "mlflow.parentRunId": "runs.parent",
    "mlflow.project.entryPoint": "runs.entry_point",
    "mlflow.source.git.commit": "runs.commit_id",
    "mlflow.source.git.repoURL": "runs.url",
    "mlflow.source.name": "runs.url || CASE runs.subdir WHEN '' THEN '' ELSE '#' || runs.subdir END",
    "mlflow.source.type": "CASE WHEN runs.url != '' THEN 'PROJECT' END",
}
"""What MLflow says in tags, and orch in fields of its own: an expression over a row of `runs`, for each tag."""

RESERVED = {"mlflow.runName": _NAME, **{key: _tagged(key, column) for key, column in OWN_TAGS.items()}}
"""The tags that are columns of a run. A tag that it was given comes first, but for its name, which has one place."""

_INDEXED = {"mlflow.parentRunId": "parent", "mlflow.source.git.commit": "commit_id"}

_ATTRIBUTES = {
    "run_id": "runs.run_id",
    "run_name": _NAME,
    "user_id": f"coalesce({_tagged('mlflow.user', _USER)}, '')",
    "artifact_uri": "'mlflow-artifacts:/' || runs.experiment_id || '/' || runs.run_id || '/artifacts'",
    "start_time": "runs.started_at",
    "end_time": "runs.ended_at",
    "status": "CASE runs.status "
    + " ".join(f"WHEN '{ours}' THEN '{theirs}'" for ours, theirs in STATUS.items())
    + " END",
}


def _attribute(comparison: Comparison) -> Condition:
    key, operator, value = comparison.key, comparison.operator, comparison.value
    if key == "status":
        wanted = [ours for ours, theirs in STATUS.items() if holds(comparison, theirs)]
        return Condition(Part("+runs.status IN (SELECT value FROM json_each(?))", (_json(wanted),)))
    if isinstance(value, (int, float)):
        return Condition(_moment(_ATTRIBUTES[key], operator, value))
    compared = _compared(_ATTRIBUTES[key], comparison)
    if key == "run_id" and operator in ("=", "IN"):
        ids = "SELECT ?" if operator == "=" else "SELECT value FROM json_each(?)"
        return Condition(compared, Part(ids, compared.values))
    return Condition(compared)


def _reserved(comparison: Comparison, expression: str) -> Condition:
    key, operator = comparison.key, comparison.operator
    compared = _compared(expression, comparison)
    if operator != "=" or key not in _INDEXED:
        return Condition(compared)
    among = _sql(
        "SELECT run_id FROM tags WHERE key = ? AND value = ? UNION ALL SELECT run_id FROM runs AS own WHERE",
        _INDEXED[key],
        "= ? AND NOT EXISTS (SELECT 1 FROM tags WHERE run_id = own.run_id AND key = ?)",
    )
    (value,) = compared.values
    return Condition(compared, Part(among, (key, value, value, key)))


def _moment(column: str, operator: str, milliseconds: float) -> Part:
    """A comparison with a time: the columns are text that sorts as time does, so the asked time becomes such text."""
    whole = _whole(milliseconds)
    if whole != milliseconds:  # between two milliseconds, or far beyond all times
        if operator in ("=", "!="):
            return Part(f"{column} IS NOT NULL" if operator == "!=" else "0")
        operator = {">": ">", ">=": ">", "<": "<=", "<=": "<="}[operator]
    return Part(f"{column} {_OPERATORS[operator]}", (_time(whole),))


def _whole(number: float) -> int:
    return math.floor(min(max(number, -_FAR), _FAR))


_FAR = 10**15  # milliseconds: beyond the years that a time in the ledger can have
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _time(milliseconds: int) -> str:
    try:
        time = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return "" if milliseconds < 0 else ":"  # before and behind all digits
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- what a run has by key --------------------------------------------------------------------------------------


def _keyed(comparison: Comparison, table: str) -> Condition:
    key = to_text(comparison.key)
    if comparison.operator in ("IS NULL", "IS NOT NULL"):
        there = _sql("EXISTS (SELECT 1 FROM", table, "WHERE run_id = runs.run_id AND key = ?)")
        return Condition(Part(there if comparison.operator == "IS NOT NULL" else f"NOT {there}", (key,)))
    # The sign keeps SQLite from looking each run up in the index over the values, where neighbours are far apart.
    one, all_ = _compared("+value", comparison), _compared("value", comparison)
    probe = _sql("EXISTS (SELECT 1 FROM", table, "WHERE run_id = runs.run_id AND key = ? AND", one.text, ")")
    among = _sql("SELECT run_id FROM", table, "WHERE key = ? AND", all_.text)
    return Condition(Part(probe, (key, *one.values)), Part(among, (key, *all_.values)))


def _dataset(comparison: Comparison) -> Condition:
    compared = _compared(_DATASETS[comparison.key], comparison)
    text = _sql("EXISTS (SELECT 1 FROM datasets WHERE run_id = runs.run_id AND", compared.text, ")")
    named = comparison.key == "name" and comparison.operator == "="
    among = Part("SELECT run_id FROM datasets WHERE name = ?", compared.values) if named else None
    return Condition(Part(text, compared.values), among)


_DATASETS = {"name": "name", "digest": "digest", "context": "context"}

# --- operators --------------------------------------------------------------------------------------------------

_OPERATORS = {
    **{operator: f"{operator} ?" for operator in ("=", "!=", "<", "<=", ">", ">=")},
    "LIKE": "GLOB ?",
    "ILIKE": "LIKE ?",
    "IN": "IN (SELECT value FROM json_each(?))",
    "NOT IN": "NOT IN (SELECT value FROM json_each(?))",
    "IS NULL": "IS NULL",
    "IS NOT NULL": "IS NOT NULL",
}


def _compared(expression: str, comparison: Comparison) -> Part:
    """`expression` is a constant of this file."""
    operator, value = comparison.operator, comparison.value
    text = f"{expression} {_OPERATORS[operator]}"
    if comparison.entity == "metrics" and operator == "!=":
        text = f"({text} OR {expression} IS NULL)"
    return Part(text, () if value is None else (_bound(operator, value),))


def _bound(operator: str, value: str | float | tuple[str, ...]) -> Any:
    if isinstance(value, tuple):
        return _json(value)
    if isinstance(value, str):
        return to_text(re.sub(r"[*?[]", r"[\g<0>]", value).translate(_WILD) if operator == "LIKE" else value)
    return float(value)


_WILD = str.maketrans("%_", "*?")


def _json(texts: Sequence[str]) -> str:
    return json.dumps(list(texts))


# --- orders -----------------------------------------------------------------------------------------------------


def _join(index: int, order: Order) -> Part:
    """The value that an order by key needs, beside each run."""
    if order.entity not in _TABLES or (order.entity == "tags" and order.key in RESERVED):
        return Part("")
    name = f"by{index:d}"
    text = f"LEFT JOIN {_TABLES[order.entity]} AS {name} ON {name}.run_id = runs.run_id AND {name}.key = ?"
    return Part(text, (to_text(order.key),))


def _by(index: int, order: Order) -> str:
    name, direction = f"by{index:d}", "ASC" if order.ascending else "DESC"
    if order.entity == "metrics":
        return f"CASE WHEN {name}.run_id IS NULL THEN 2 ELSE {name}.value IS NULL END, {name}.value {direction}"
    if order.entity == "attributes":
        expression = _ATTRIBUTES[order.key]
    elif order.entity == "tags" and order.key in RESERVED:
        expression = RESERVED[order.key]
    else:
        expression = f"{name}.value"
    return f"{expression} IS NULL, {expression} {direction}"
