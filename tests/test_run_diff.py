"""What differs between two records: everything that decides a run or came of it, and nothing that is a run's own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from made_locks import write_lock
from made_records import HOST, SPECS, finished, made_home, made_spec, running

from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.lock_diff import PackageChanges
from orchestrator.model import EnvironmentRef, Input, Metric, Output, RunRecord, RunSpec, Usage, new_run_id
from orchestrator.paths import Home
from orchestrator.records import spec_id
from orchestrator.run_diff import Change, RunDiff, diff_runs

SPEC = made_spec()
DATA = SPEC.inputs[0]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that has neither mirrors nor locks, and no network."""
    return replace(made_home(tmp_path / "home"), offline=True)


def only(found: RunDiff) -> dict[str, tuple[Change, ...]]:
    """The sections in which anything differs."""
    return {name: changes for name, changes in found.sections.items() if changes}


@pytest.mark.parametrize(
    ("changes", "section", "name"),
    [
        ({"status": "failed"}, "result", "status"),
        ({"exit_code": 3}, "result", "exit_code"),
        ({"pinned": replace(SPEC, source=replace(SPEC.source, url="file:///x"))}, "source", "url"),
        ({"pinned": replace(SPEC, source=replace(SPEC.source, subdir="x"))}, "source", "subdir"),
        ({"pinned": replace(SPEC, entry_point="other")}, "command", "entry_point"),
        ({"pinned": replace(SPEC, command="python")}, "command", "command"),
        ({"pinned": replace(SPEC, paths=("alpha",))}, "command", "path_parameters"),
        ({"pinned": replace(SPEC, stdin="inputs/data")}, "command", "stdin"),
        ({"params": {**SPEC.parameters, "depth": "3"}}, "logged_parameters", "depth"),
        ({"params": {**SPEC.parameters, "alpha": "3"}}, "logged_parameters", "alpha"),
        ({"pinned": replace(SPEC, inputs=(replace(DATA, sha256="f" * 64),))}, "inputs", "inputs/data"),
        ({"pinned": replace(SPEC, inputs=(DATA, Input("x", "x", "0" * 64, 1)))}, "inputs", "x"),
        ({"pinned": replace(SPEC, variables={"TZ": "CET", "LANG": "C.UTF-8"})}, "variables", "TZ"),
        ({"host": {**HOST, "kernel": "6.2"}}, "host", "kernel"),
        ({"host": {**HOST, "variables": {"HOME": "/home/ada"}}}, "host_variables", "OMP_NUM_THREADS"),
        ({"metrics": (Metric("rmse", 0.4), Metric("mae", 0.5), Metric("r2", 0.5))}, "metrics", "rmse"),
        ({"outputs": (Output("model.pkl", "f" * 64, 1000, 0o644),)}, "outputs", "last"),
        ({"outputs": (Output("model.pkl", "f" * 64, 1000, 0o755), *finished().outputs[1:])}, "outputs", "model.pkl"),
    ],
)
def test_one_thing_that_differs_is_the_one_that_is_told(
    home: Home, changes: dict[str, Any], section: str, name: str
) -> None:
    for found in (
        diff_runs(finished(), finished(**changes), home=home),
        diff_runs(finished(**changes), finished(), home=home),
    ):
        assert {title: [change.name for change in told] for title, told in only(found).items()} == {section: [name]}
        assert found


@pytest.mark.parametrize(
    "changes",
    [{"as_of": "2026-01-01T00:00:00Z"}, {"platform": "osx-64"}, {"link_scripts": ("x",)}, {"paths": ("src",)}],
)
def test_the_environment_differs_in_more_than_its_lock(home: Home, changes: dict[str, Any]) -> None:
    other = finished(pinned=replace(SPEC, environment=replace(SPEC.environment, **changes)))
    found = diff_runs(finished(), other, home=home)
    assert [change.name for change in only(found)["environment"]] == list(changes)
    assert found.notes == ()


def test_what_is_a_runs_own_is_not_compared(home: Home) -> None:
    other = finished(
        run_id=new_run_id(),
        name="x",
        experiment="y",
        tags={},
        notes=("n",),
        usage=Usage(1),
        started_at="2027",
        parent="1" * 32,
    )
    assert not diff_runs(finished(), other, home=home)


def test_metrics_are_compared_by_their_last_value_and_nan_is_nan(home: Home) -> None:
    one = finished(metrics=(Metric("loss", 0.9, 0), Metric("loss", math.nan, 1)))
    later = tuple(replace(point, timestamp=point.timestamp + 5) for point in one.metrics)
    assert not diff_runs(one, replace(one, metrics=later), home=home)
    found = diff_runs(one, replace(one, metrics=(Metric("loss", -math.inf),)), home=home)
    assert found.sections["metrics"] == (Change("loss", "NaN", "-Infinity"),)


@pytest.mark.parametrize(
    ("points", "step"),
    [
        ((Metric("loss", 0.8, 0), Metric("loss", 0.5, 1)), 0),
        ((Metric("loss", 0.9, 0), Metric("loss", 0.7, 1), Metric("loss", 0.5, 2)), 1),
        ((Metric("loss", 0.9, 0), Metric("loss", 0.5, 3)), 1),
        ((Metric("loss", 0.5, 1),), 0),
    ],
)
def test_another_way_to_the_same_last_value_is_told(home: Home, points: tuple[Metric, ...], step: int) -> None:
    one = finished(metrics=(Metric("loss", 0.9, 0), Metric("loss", 0.5, 1), Metric("same", 1.0)))
    found = diff_runs(one, replace(one, metrics=(*points, Metric("same", 1.0))), home=home)
    note = f"same last value, history differs from step {step}"
    assert only(found) == {"metrics": (Change("loss", 0.5, 0.5, note),)}
    assert found


def test_a_fact_that_one_host_does_not_tell_is_no_difference(home: Home) -> None:
    more = {**HOST, "gpus": ["NVIDIA T4"], "cpu_flags": "avx avx2"}
    assert not diff_runs(finished(host=HOST), finished(host=more), home=home)
    found = diff_runs(finished(host=more), finished(host={**more, "gpus": []}), home=home)
    assert only(found) == {"host": (Change("gpus", ["NVIDIA T4"], []),)}


def test_of_the_flags_of_a_processor_only_those_are_told_that_the_other_lacks(home: Home) -> None:
    one, other = ({**HOST, "cpu_flags": flags} for flags in ("avx avx2 fma", "avx fma sse sse2"))
    found = diff_runs(finished(host=one), finished(host=other), home=home)
    assert only(found) == {"host": (Change("cpu_flags", ["avx2"], ["sse", "sse2"]),)}


def test_what_a_bundle_leaves_out_of_the_hosts_variables_is_no_difference(home: Home) -> None:
    here = {"HOME": "/home/ada", "SHELL": "/bin/sh", "USER": "ada", "OMP_NUM_THREADS": "4"}
    one = finished(host={**HOST, "variables": here})
    carried = {name: here[name] for name in ("HOME", "USER", "OMP_NUM_THREADS")}
    other = finished(host={**HOST, "variables": carried}, bundle="b" * 64)
    for runs in ((one, other), (other, one)):
        assert not diff_runs(*runs, home=home)
    other = finished(host={**HOST, "variables": {"HOME": "/home/eve"}}, bundle="b" * 64)
    changes = diff_runs(one, other, home=home).sections["host_variables"]
    assert changes == (Change("HOME", "/home/ada", "/home/eve"), Change("OMP_NUM_THREADS", "4", None))


def test_where_the_file_of_a_parameter_lay_is_no_difference_to_a_run_that_was_imported(home: Home) -> None:
    spec = replace(SPEC, parameters={**SPEC.parameters, "data": "inputs/data"}, paths=("data",))
    one = finished(pinned=spec, params={**spec.parameters, "data": "/home/ada/data"})
    assert diff_runs(one, finished(pinned=spec, params=spec.parameters), home=home)
    assert not diff_runs(one, finished(pinned=spec, params=spec.parameters, bundle="b" * 64), home=home)


def test_a_run_that_goes_on_is_told(home: Home) -> None:
    found = diff_runs(finished(), running(), home=home)
    assert "is running; what it has yet to log and make is not compared" in found.notes[0]
    assert found.sections["result"][0] == Change("status", "finished", "running")


def test_secrets_are_told_where_one_run_has_them_and_named_where_both_have(home: Home) -> None:
    spec = replace(SPEC, parameters={**SPEC.parameters, "key": ""}, secret_parameters=("key",))
    host = {**HOST, "variables": {"MLFLOW_TRACKING_TOKEN": ""}}
    one = finished(pinned=spec, params=spec.parameters, host=host)
    found = diff_runs(one, one, home=home)
    assert not found
    assert found.not_recorded == {"parameters": ("key",), "variables": (), "host_variables": ("MLFLOW_TRACKING_TOKEN",)}
    open_spec = replace(spec, parameters={**spec.parameters, "key": "1"}, secret_parameters=())
    found = diff_runs(one, finished(pinned=open_spec, params=open_spec.parameters, host=host), home=home)
    assert found.sections["parameters"] == (Change("key", "(not recorded)", "1"),)


def test_what_is_not_here_is_told_and_the_rest_compared(home: Home) -> None:
    source = replace(SPEC.source, commit="1" * 40, tree="2" * 40)
    spec = replace(SPEC, source=source, environment=EnvironmentRef("3" * 64, "linux-64"), command="x")
    found = diff_runs(finished(), finished(pinned=spec), home=home)
    assert (found.code, found.packages) == (None, None)
    assert ["files of the two commits" in found.notes[0], "packages of the two" in found.notes[1]] == [True, True]
    assert set(only(found)) == {"source", "command", "environment"}


def test_packages_are_what_their_files_are_and_not_where_they_came_from(home: Home) -> None:
    def package(name: str, digit: str, channel: str = "a") -> LockedPackage:
        file_name = f"{name}-1-0.conda"
        url = f"https://example.org/{channel}"
        return LockedPackage("conda", name, "1", "0", f"{url}/{file_name}", file_name, digit * 64, channel=url)

    locks = [
        write_lock(home, [package("same", "0"), package("gone", "1"), package("other", "2")]),
        write_lock(home, [package("same", "0", channel="b"), package("new", "1"), package("other", "3")]),
    ]
    specs = [replace(SPEC, environment=EnvironmentRef(lock_id, "linux-64")) for lock_id in locks]
    found = diff_runs(*(finished(pinned=spec) for spec in specs), home=home)
    assert found.packages == PackageChanges(
        added=(package("new", "1"),),
        removed=(package("gone", "1"),),
        changed=((package("other", "2"), package("other", "3")),),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(one=SPECS, other=SPECS)
def test_specs_without_differences_have_one_id(home: Home, one: RunSpec, other: RunSpec) -> None:
    open_values: dict[str, Any] = {"secret_parameters": (), "secret_variables": (), "source": SPEC.source}
    one = replace(one, inputs=one.inputs[:1], **open_values)
    for part in ("command", "parameters", "paths", "inputs", "variables", "environment"):
        changed = replace(one, **{part: getattr(other, part)}, **open_values)
        changed = replace(changed, inputs=changed.inputs[:1])
        found = diff_runs(_record(one), _record(changed), home=home)
        assert bool(found) or spec_id(one) == spec_id(changed)


def _record(spec: RunSpec) -> RunRecord:
    return finished(pinned=spec, params=spec.parameters)
