from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import RECORDS, SPECS, finished, made_spec, running, same

from orchestrator.errors import OrchError
from orchestrator.fields import metric_from_json
from orchestrator.model import Metric, RunRecord, RunSpec, latest_metrics, new_run_id
from orchestrator.records import (
    journal_events,
    record_from_journal,
    record_to_json,
    spec_from_json,
    spec_id,
    spec_to_json,
)
from orchestrator.tracked import tracking_to_json


def test_run_ids_are_version_7_and_ordered_by_time() -> None:
    first = new_run_id()
    time.sleep(0.002)
    second = new_run_id()
    assert first < second
    assert len(first) == 32
    assert first[12] == "7"
    assert first[16] in "89ab"


@given(SPECS)
@settings(deadline=None)
def test_a_spec_comes_back_from_its_json(spec: RunSpec) -> None:
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


@given(SPECS)
@settings(deadline=None)
def test_the_spec_id_does_not_change_on_the_way_through_json(spec: RunSpec) -> None:
    assert spec_id(spec_from_json(json.loads(json.dumps(spec_to_json(spec))))) == spec_id(spec)


def test_the_spec_id_leaves_out_where_things_came_from() -> None:
    spec = made_spec()
    moved = replace(
        spec,
        entry_point="as another project calls it",
        source=replace(spec.source, url="file:///srv/wine", commit="9" * 40, revision=None, dirty=True),
        inputs=tuple(replace(item, origin="/elsewhere") for item in spec.inputs),
    )
    assert spec_id(moved) == spec_id(spec)


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "x"},
        {"parameters": {"alpha": "5.2"}},
        {"variables": {}},
        {"inputs": ()},
        {"inputs": tuple(replace(item, executable=True) for item in made_spec().inputs)},
        {"stdin": "inputs/data"},
    ],
)
def test_the_spec_id_changes_with_what_decides_the_result(changes: dict[str, object]) -> None:
    assert spec_id(made_spec(**changes)) != spec_id(made_spec())


def test_a_spec_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(OrchError, match="version 2"):
        spec_from_json(spec_to_json(made_spec()) | {"version": 2})


def test_a_damaged_spec_is_refused() -> None:
    value = spec_to_json(made_spec())
    del value["command"]
    with pytest.raises(OrchError, match="damaged"):
        spec_from_json(value)


@given(RECORDS)
@settings(deadline=None)
def test_a_journal_tells_the_whole_record(record: RunRecord) -> None:
    events = [json.loads(json.dumps(event)) for event in journal_events(record)]
    told = record_from_journal(record.run_id, events)
    assert told is not None
    for field in RunRecord.__slots__:
        if field == "metrics":
            assert len(told.metrics) == len(record.metrics)
            for one, other in zip(told.metrics, record.metrics, strict=True):
                assert same([one.name, one.value, one.step], [other.name, other.value, other.step])
        elif field == "tracking":  # a measure that is no number equals nothing
            assert tracking_to_json(told.tracking) == tracking_to_json(record.tracking)
        else:
            assert getattr(told, field) == getattr(record, field), field
    json.dumps(record_to_json(told), allow_nan=False)


def test_a_journal_without_a_spec_tells_no_record() -> None:
    assert record_from_journal("0" * 32, []) is None
    assert record_from_journal("0" * 32, [{"event": "note", "text": "x"}, {"event": "unheard of"}]) is None


def test_later_events_change_the_record() -> None:
    record = finished(tags={"a": "1", "b": "2"})
    events = [
        *journal_events(record),
        {"event": "tags", "values": {"a": None, "c": "3"}},
        {"event": "note", "text": "seen"},
        {"event": "named", "name": "best"},
        {"event": "of a newer orch"},
    ]
    told = record_from_journal(record.run_id, events)
    assert told == replace(record, tags={"b": "2", "c": "3"}, notes=("seen",), name="best")


def test_a_journal_with_many_metric_events_is_read_in_linear_time() -> None:
    record = running()
    point = {"name": "loss", "value": 0.5, "step": 1, "timestamp": 1}
    events = journal_events(record) + [{"event": "logged", "metrics": [point]}] * 50_000
    begin = time.perf_counter()
    told = record_from_journal(record.run_id, events)
    assert told is not None
    assert len(told.metrics) == 50_000
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize("status", ["running well", None])
def test_an_unknown_status_is_refused(status: object) -> None:
    record = finished()
    events = journal_events(record)
    events[-1]["status"] = status
    with pytest.raises(OrchError, match="unknown status"):
        record_from_journal(record.run_id, events)


def test_the_last_value_of_a_metric_has_the_highest_step_then_time_then_place() -> None:
    points = [
        Metric("loss", 3.0, 2, 5),
        Metric("loss", 4.0, 2, 6),
        Metric("loss", 5.0, 2, 6),
        Metric("loss", 1.0, 1, 9),
        Metric("acc", 0.5, -1, 0),
    ]
    assert latest_metrics(running(metrics=tuple(points))) == {"loss": 5.0, "acc": 0.5}


BROKEN_POINTS = st.fixed_dictionaries(
    {"name": st.text(), "value": st.floats() | st.integers() | st.text() | st.none()},
    optional={"step": st.integers() | st.floats() | st.text(), "timestamp": st.integers() | st.floats()},
)


@given(BROKEN_POINTS)
@settings(deadline=None)
def test_a_metric_point_is_one_that_can_be_kept_or_refused(value: dict[str, object]) -> None:
    try:
        metric = metric_from_json(value)
    except (ValueError, TypeError):
        return
    assert -(2**63) <= metric.step < 2**63
    assert -(2**63) <= metric.timestamp < 2**63
    assert isinstance(metric.value, float)
