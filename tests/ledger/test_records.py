"""Writing runs and asking for them."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from made_records import LOCK, RECORDS, Locked, finished, made_home, made_spec, running, same, write_journal

from orchestrator import ledger
from orchestrator.errors import OrchError
from orchestrator.model import EnvironmentRef, Metric, Output, RunRecord, Submodule
from orchestrator.paths import Home
from orchestrator.records import record_to_json, spec_id


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "home")


@pytest.fixture
def connection(home: Home) -> Iterator[sqlite3.Connection]:
    with closing(ledger.connect(home)) as connection:
        yield connection


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A ledger that the examples of a property share."""
    with closing(ledger.connect(made_home(tmp_path_factory.mktemp("shared")))) as connection:
        yield connection


def rows(connection: sqlite3.Connection, run_id: str) -> dict[str, list[tuple[object, ...]]]:
    tables = ("runs", "params", "tags", "notes", "outputs", "inputs", "submodules", "metrics", "latest_metrics")
    return {
        table: connection.execute(f"SELECT * FROM {table} WHERE run_id = ?", (run_id,)).fetchall() for table in tables
    }


# --- a record comes back ------------------------------------------------------------------------------------------


@given(RECORDS)
@settings(deadline=None)
def test_any_record_comes_back_as_its_json(shared: sqlite3.Connection, record: RunRecord) -> None:
    ledger.write_record(shared, record)
    loaded = ledger.load_run(shared, record.run_id)
    assert same(loaded, record_to_json(record))
    assert list(loaded) == list(record_to_json(record))


@given(RECORDS, RECORDS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_record_may_follow_any_other_of_the_same_run(
    shared: sqlite3.Connection, one: RunRecord, other: RunRecord
) -> None:
    other = replace(other, run_id=one.run_id)
    ledger.write_record(shared, other)
    direct = rows(shared, one.run_id)
    ledger.write_record(shared, one)
    assert same(ledger.load_run(shared, one.run_id), record_to_json(one))
    ledger.write_record(shared, other)
    assert rows(shared, one.run_id) == direct
    ledger.remove_run(shared, one.run_id)
    assert not any(rows(shared, one.run_id).values())


def test_a_run_is_written_when_it_begins_and_when_it_ends(connection: sqlite3.Connection) -> None:
    begun = running()
    ledger.write_record(connection, begun)
    assert ledger.load_run(connection, begun.run_id) == record_to_json(begun)
    ended = finished(run_id=begun.run_id, tags={}, notes=("a note", "another"), pinned=made_spec(paths=("alpha",)))
    for _ in range(2):
        ledger.write_record(connection, ended)
        assert ledger.load_run(connection, begun.run_id) == record_to_json(ended)
    assert connection.execute("SELECT count(*) FROM specs").fetchone() == (1,)


def test_the_exact_bytes_that_were_hashed_are_kept(connection: sqlite3.Connection) -> None:
    import hashlib

    record = finished()
    ledger.write_record(connection, record)
    identity, canonical = connection.execute("SELECT spec_id, canonical FROM specs").fetchone()
    assert identity == hashlib.sha256(canonical).hexdigest() == spec_id(record.spec)


def test_submodules_keep_their_urls(connection: sqlite3.Connection) -> None:
    spec = made_spec()
    modules = (Submodule("a", "1" * 40, "https://example.org/a"), Submodule("b", "2" * 40, "https://example.org/b"))
    record = finished(pinned=replace(spec, source=replace(spec.source, submodules=modules)))
    ledger.write_record(connection, record)
    assert ledger.load_run(connection, record.run_id) == record_to_json(record)


def test_a_spec_that_has_no_identity_is_refused_and_nothing_is_written(connection: sqlite3.Connection) -> None:
    with pytest.raises(OrchError, match="can't be recorded"):
        ledger.write_record(connection, running(pinned=made_spec(command="cat \udcff")))
    assert ledger.find_runs(connection) == []
    assert not connection.in_transaction


# --- metrics ------------------------------------------------------------------------------------------------------


def test_nan_and_infinities_come_back(connection: sqlite3.Connection) -> None:
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1]
    record = finished(metrics=tuple(Metric(f"m{i}", value, i, -i) for i, value in enumerate(values)))
    ledger.write_record(connection, record)
    assert ledger.load_run(connection, record.run_id)["metrics"] == {
        "m0": "NaN",
        "m1": "Infinity",
        "m2": "-Infinity",
        "m3": 0.0,
        "m4": 5e-324,
        "m5": 0.1,
    }
    (point,) = ledger.load_metric(connection, record.run_id, "m0")
    assert math.isnan(point.value)
    assert point.timestamp == 0


def test_a_nan_is_not_smaller_than_anything(connection: sqlite3.Connection) -> None:
    ledger.write_record(connection, finished(metrics=(Metric("rmse", math.nan), Metric("mae", -math.inf))))
    asked = "SELECT key FROM latest_metrics WHERE value < 0.5"
    assert connection.execute(asked).fetchall() == [("mae",)]


def test_appended_points_are_those_of_the_final_record(connection: sqlite3.Connection) -> None:
    points = tuple(Metric(name, i / 7, i % 5, i) for i in range(40) for name in ("loss", "acc"))
    begun = running()
    ledger.write_record(connection, begun)
    for start in range(0, 80, 16):
        ledger.append_metrics(connection, begun.run_id, points[start : start + 16])
    appended = rows(connection, begun.run_id)
    ledger.write_record(connection, replace(begun, metrics=points))
    assert rows(connection, begun.run_id) == appended
    assert ledger.load_metric(connection, begun.run_id, "loss") == [p for p in points if p.name == "loss"]
    assert (
        ledger.load_run(connection, begun.run_id)["metrics"]
        == record_to_json(replace(begun, metrics=points))["metrics"]
    )


def test_points_that_the_record_does_not_have_go(connection: sqlite3.Connection) -> None:
    begun = running()
    ledger.write_record(connection, begun)
    ledger.append_metrics(connection, begun.run_id, [Metric("gone", 1.0), Metric("loss", 1.0), Metric("loss", 2.0)])
    record = replace(begun, metrics=(Metric("loss", 1.0), Metric("loss", 3.0), Metric("loss", 4.0)))
    ledger.write_record(connection, record)
    assert ledger.load_metric(connection, begun.run_id, "loss") == list(record.metrics)
    assert ledger.load_metric(connection, begun.run_id, "gone") == []
    assert ledger.load_run(connection, begun.run_id) == record_to_json(record)


def test_points_of_a_run_that_is_not_there_are_refused(connection: sqlite3.Connection) -> None:
    with pytest.raises(OrchError, match="has no run"):
        ledger.append_metrics(connection, "0" * 32, [Metric("loss", 1.0)])


# --- what runs share ----------------------------------------------------------------------------------------------


def test_runs_that_used_an_older_package_are_one_query(connection: sqlite3.Connection) -> None:
    expected = set()
    for version in ("1.9.3", "1.25.2", "1.26.0rc1", "1.26", "1.26.0", "1.26.4", "2.0.0", "1!0.5"):
        record = finished(pinned=made_spec(environment=EnvironmentRef(version, "linux-64")))
        packages = [Locked("python", "3.11.7"), Locked("numpy", version), Locked("numpy", "0.1", manager="pip")]
        ledger.write_record(connection, record)
        ledger.write_environment(connection, version, "linux-64", packages)
        if version in ("1.9.3", "1.25.2", "1.26.0rc1"):
            expected.add(record.run_id)
    asked = """
        SELECT run_id FROM runs JOIN packages USING (lock_id, platform)
        WHERE packages.name = 'numpy' AND manager = 'conda' AND version_sort < version_key('1.26')
    """
    assert {run_id for (run_id,) in connection.execute(asked)} == expected
    plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + asked))
    assert "packages_by_name" in plan
    assert "runs_by_environment" in plan


def test_the_packages_of_an_environment_are_asked_for_once(connection: sqlite3.Connection) -> None:
    def never() -> Iterator[Locked]:
        raise AssertionError("the packages are known")
        yield

    ledger.write_record(connection, running())
    assert not ledger.has_environment(connection, LOCK, "linux-64")
    ledger.write_environment(connection, LOCK, "linux-64", iter([Locked("six", "1.16"), Locked("idna", "3")]))
    assert ledger.has_environment(connection, LOCK, "linux-64")
    ledger.write_environment(connection, LOCK, "linux-64", never())
    ledger.write_environment(connection, "none", "linux-64", [])
    assert ledger.has_environment(connection, "none", "linux-64")
    assert connection.execute("SELECT lock_id, packages FROM environments").fetchall() == [(LOCK, 2), ("none", 0)]


def test_a_host_is_kept_once_and_its_variables_with_each_run(connection: sqlite3.Connection) -> None:
    one = running(host={"hostname": "anna", "cpus": 8, "variables": {"SLURM_JOB_ID": "1"}})
    two = running(host={"hostname": "anna", "cpus": 8, "variables": {"SLURM_JOB_ID": "2"}})
    for record in (one, two):
        ledger.write_record(connection, record)
    assert connection.execute("SELECT hostname, cpus FROM hosts").fetchall() == [("anna", 8)]
    assert ledger.load_run(connection, two.run_id)["host"] == two.host
    ledger.remove_run(connection, one.run_id)
    assert connection.execute("SELECT count(*) FROM hosts").fetchone() == (1,)
    ledger.remove_run(connection, two.run_id)
    assert connection.execute("SELECT count(*) FROM hosts").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM specs").fetchone() == (0,)


def test_experiments_have_ids_that_follow_from_their_names(connection: sqlite3.Connection) -> None:
    ledger.write_record(connection, running())
    ledger.write_record(connection, running(experiment="wine"))
    assert ledger.experiment_name(connection, "0") == "Default"
    assert ledger.experiment_name(connection, ledger.experiment_id("wine")) == "wine"
    assert ledger.experiment_name(connection, "1") is None
    assert len(ledger.experiment_id("wine")) == 18
    assert ledger.experiment_id("wine").isdecimal()


# --- finding ------------------------------------------------------------------------------------------------------


def test_runs_are_found_newest_first(connection: sqlite3.Connection) -> None:
    records = [running(run_id=f"{i:032x}", name=f"n{i % 2}", experiment="odd" if i % 2 else "even") for i in range(6)]
    records += [finished(run_id=f"{9:032x}", replay_of=f"{1:032x}", parent=f"{2:032x}")]
    for record in records:
        ledger.write_record(connection, record)

    def found(**wanted: object) -> list[int]:
        return [int(row.run_id, 16) for row in ledger.find_runs(connection, **wanted)]

    assert found() == [9, 5, 4, 3, 2, 1, 0]
    assert found(limit=2) == [9, 5]
    assert found(limit=0) == []
    assert found(experiment="odd") == [5, 3, 1]
    assert found(experiment="none") == []
    assert found(status="running", name="n0") == [4, 2, 0]
    assert found(replay_of=f"{1:032x}") == found(parent=f"{2:032x}") == [9]


def test_what_mlflow_writes_its_ids_into_makes_nothing_vary(connection: sqlite3.Connection) -> None:
    for digit in "ab":
        paths = ("artifacts/model/MLmodel", "artifacts/model/model.pkl")
        outputs = tuple(Output(path, digit * 64, 1, 0o644) for path in paths)
        ledger.write_record(connection, finished(outputs=outputs))
    assert ledger.varying_outputs(connection, spec_id(finished().spec)) == ["artifacts/model/model.pkl"]


def test_a_row_of_the_list_says_what_the_record_says(connection: sqlite3.Connection) -> None:
    record = finished(name="caf\udce9", pinned=made_spec(source=replace(made_spec().source, dirty=True, subdir="a/b")))
    ledger.write_record(connection, record)
    (row,) = ledger.find_runs(connection)
    assert row == ledger.RunRow(
        run_id=record.run_id,
        status="finished",
        exit_code=0,
        name="caf\udce9",
        experiment="Default",
        spec_id=spec_id(record.spec),
        started_at=record.started_at,
        ended_at=record.ended_at,
        wall_seconds=3.2,
        url=record.spec.source.url,
        commit="c" * 40,
        subdir="a/b",
        revision="main",
        dirty=True,
        entry_point="main",
        lock_id=LOCK,
        platform="linux-64",
        replay_of=None,
        parent=None,
        hostname="anna",
    )


def test_the_newest_finished_run_of_a_spec_is_found(connection: sqlite3.Connection) -> None:
    record = finished(run_id="1" * 32)
    assert ledger.find_by_spec(connection, spec_id(record.spec)) is None
    other = made_spec(command="other")
    imported = finished(run_id="5" * 32, bundle="a" * 64)
    for made in (
        *(record, finished(run_id="2" * 32), running(run_id="3" * 32), finished(run_id="4" * 32, pinned=other)),
        imported,
    ):
        ledger.write_record(connection, made)
    assert ledger.find_by_spec(connection, spec_id(record.spec)) == "2" * 32
    assert ledger.find_by_spec(connection, spec_id(record.spec), status="running") == "3" * 32


# --- which run is meant -------------------------------------------------------------------------------------------


def test_a_run_is_meant_by_prefix_name_or_latest(connection: sqlite3.Connection) -> None:
    with pytest.raises(OrchError, match="there is no run yet"):
        ledger.resolve_run(connection, "latest")
    one, two, three = "01" + "a" * 30, "01" + "b" * 30, "02" + "c" * 30
    names = {one: "best", two: "02", three: "worst"}
    for run_id, name in names.items():
        ledger.write_record(connection, running(run_id=run_id, name=name))
    assert ledger.resolve_run(connection, "latest") == three
    ledger.write_record(connection, running(run_id="03" + "d" * 30, parent=three))
    ledger.write_record(connection, running(run_id="04" + "d" * 30, pinned=None))
    assert ledger.resolve_run(connection, "latest") == three
    assert ledger.resolve_run(connection, "01a") == ledger.resolve_run(connection, "01A") == one
    assert ledger.resolve_run(connection, two) == two
    assert ledger.resolve_run(connection, "best") == one
    assert ledger.resolve_run(connection, "02") == three
    for text in ("bes", "Best", "", "%", "01c", one + "a", "\udcff"):
        with pytest.raises(OrchError, match="no run has"):
            ledger.resolve_run(connection, text)


def test_a_name_that_looks_like_an_ambiguous_prefix_is_a_name(connection: sqlite3.Connection) -> None:
    for digit, name in (("a", None), ("b", "0"), ("c", None)):
        ledger.write_record(connection, running(run_id="0" + digit * 31, name=name))
    assert ledger.resolve_run(connection, "0") == "0" + "b" * 31


def test_an_ambiguous_run_is_explained_with_at_most_five(connection: sqlite3.Connection) -> None:
    ids = [f"{i:x}" + "e" * 31 for i in range(7)]
    for run_id in ids[:3]:
        ledger.write_record(connection, running(run_id="f" + run_id[:31], name="twice"))
    with pytest.raises(OrchError, match=r"several runs begin with 'f': f2e{14}, f1e{14}, f0e{14}\."):
        ledger.resolve_run(connection, "f")
    with pytest.raises(OrchError, match="several runs are named 'twice': f2"):
        ledger.resolve_run(connection, "twice")
    for run_id in ids[3:]:
        ledger.write_record(connection, running(run_id="f" + run_id[:31]))
    with pytest.raises(OrchError, match="and more") as told:
        ledger.resolve_run(connection, "f")
    assert str(told.value).count("eeee, ") == 4


def test_short_ids_have_sixteen_digits_or_as_many_as_tell_them_apart(connection: sqlite3.Connection) -> None:
    near = ["0" * 20 + "a" * 12, "0" * 20 + "b" * 12, "0" * 18 + "c" * 14, "5" * 32]
    for run_id in near:
        ledger.write_record(connection, running(run_id=run_id))
    for runs in (connection, near, iter(near)):
        assert ledger.short_id(runs, near[0]) == near[0][:21]
    for runs in (connection, near):
        assert [len(ledger.short_id(runs, run_id)) for run_id in near] == [21, 21, 19, 16]
    assert ledger.short_id([], "5" * 32) == "5" * 16


# --- run directories ----------------------------------------------------------------------------------------------


def test_a_run_directory_tells_its_record(home: Home) -> None:
    record = finished(supervisor=None)
    write_journal(home, record)
    assert ledger.read_run(home, record.run_id) == record
    assert ledger.read_run(home, "0" * 32) is None


def test_a_run_that_was_never_resolved_is_no_record(home: Home, connection: sqlite3.Connection) -> None:
    home.run("1" * 32).mkdir()
    home.run("2" * 32).mkdir()
    (home.run("2" * 32) / "journal.jsonl").write_text('{"event":"note","text":"x"}\n{"ev')
    assert ledger.read_run(home, "1" * 32) is ledger.read_run(home, "2" * 32) is None
    assert ledger.missing_runs(home, connection) == ["1" * 32, "2" * 32]


@pytest.mark.parametrize("run_id", ["", "..", "../" * 3, "A" * 32, "1" * 31, "1" * 32 + "\n"])
def test_what_is_no_run_id_never_becomes_a_path(home: Home, run_id: str) -> None:
    with pytest.raises(OrchError, match="is no run id"):
        ledger.read_run(home, run_id)


def test_a_damaged_event_names_the_journal(home: Home) -> None:
    path = write_journal(home, finished(run_id="1" * 32))
    for event in ({"event": "note"}, {"event": "ended"}, {"event": "logged", "metrics": [{"name": "x"}]}):
        before = path.read_text()
        path.write_text(before + json.dumps(event) + "\n")
        with pytest.raises(OrchError, match=f"the journal {path} is damaged"):
            ledger.read_run(home, "1" * 32)
        path.write_text(before)


def test_missing_runs_are_those_that_only_their_directory_tells_of(home: Home, connection: sqlite3.Connection) -> None:
    records = [finished(run_id=f"{i:032x}") for i in range(3)]
    for record in records:
        write_journal(home, record)
    ledger.write_record(connection, records[1])
    (home.runs / "not a run").mkdir()
    missing = ledger.missing_runs(home, connection)
    assert missing == [records[0].run_id, records[2].run_id]
    for run_id in missing:
        ledger.index_run(home, connection, run_id)
    assert ledger.missing_runs(home, connection) == []
    assert ledger.load_run(connection, records[0].run_id) == record_to_json(records[0])


def test_indexing_a_run_that_was_removed_removes_it(home: Home, connection: sqlite3.Connection) -> None:
    record = finished()
    ledger.write_record(connection, record)
    assert ledger.index_run(home, connection, record.run_id) is None
    assert ledger.find_runs(connection) == []
