"""A run as the JSON of a bundle."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import pytest
from bundle.made_bundle import changed, json_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import RUNS, finished, made_spec, same

from orchestrator.bundle.run_json import carried, read_run, run_json
from orchestrator.canonical import local_path, portable_path
from orchestrator.errors import OrchError
from orchestrator.model import (
    Dataset,
    EnvironmentRef,
    Input,
    LoggedModel,
    Measure,
    Output,
    RunRecord,
    Source,
    Submodule,
    Tracking,
    new_run_id,
)
from orchestrator.records import spec_from_json, spec_id


def linked(path: str, link: str) -> Output:
    """A symbolic link as orch records one."""
    target = os.fsencode(local_path(link))
    return Output(path, hashlib.sha256(target).hexdigest(), len(target), 0o777, link)


def everything() -> RunRecord:
    """A run that has a value in every place."""
    spec = made_spec(
        source=Source(
            "https://example.org/wine.git", "c" * 40, "d" * 40, 1_700_000_000, "models",
            (Submodule("lib", "1" * 40, "ssh://git@example.org/lib.git"),), "main", "https://example.org/x.git", True,
        ),
        parameters={"alpha": "5.1", "data": "models/x", "api_key": ""},
        paths=("data",),
        environment=EnvironmentRef(
            "7b" * 32, "linux-64", ("", "src"), "2026-11-01T00:00:00Z", {"osx-arm64": "8c" * 32}, ("base",)
        ),
        inputs=(
            Input("data", "inputs/data", "e" * 64, 12, "folder"), Input("a.csv", "a.csv", "f" * 64, 1, executable=True),
        ),
        stdin="a.csv",
        variables={"TZ": "UTC", "TOKEN": ""},
        secret_parameters=("api_key",),
        secret_variables=("TOKEN",),
    )  # fmt: skip
    return finished(
        pinned=spec,
        outputs=(Output("model.pkl", "f" * 64, 1000), linked("last", "model.pkl")),
        name="a try",
        reason="none",
        replay_of="0" * 32,
        parent="1" * 32,
        notes=("a note",),
    )


def test_what_is_written_is_read_back() -> None:
    record = everything()
    assert same(asdict(read_run(*run_json(record))), asdict(carried(record)))


@settings(deadline=None)
@given(record=RUNS)
def test_any_run_is_read_back_or_refused(record: RunRecord) -> None:
    try:
        files = run_json(record)
        found = read_run(*files)
    except OrchError as error:
        assert str(error).isprintable()
        return
    assert same(asdict(found), asdict(carried(record)))


# Of what a machine can record, any value; only what no machine records is left out.
CLEAN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0:"), min_size=1, max_size=8).filter(
    lambda text: text not in (".", "..")
)


def sound(record: RunRecord, data: st.DataObject) -> RunRecord:
    """A run as it could have been made, with the odd texts and numbers of `record`."""
    names = data.draw(st.lists(CLEAN, min_size=8, max_size=8, unique=True))
    spec = record.spec
    texts = {name: text.replace("\0", "") for name, text in spec.parameters.items()}
    spec = replace(
        spec,
        source=replace(spec.source, subdir=names[0], submodules=(), url=names[1], origin=names[1], revision=names[1]),
        environment=replace(spec.environment, platform="osx-arm64", paths=(names[2],)),
        command=spec.command.replace("\0", ""),
        entry_point=spec.entry_point.replace("\0", ""),
        inputs=tuple(replace(item, path=name) for item, name in zip(spec.inputs, names, strict=False)),
        variables={f"V{number}": text for number, text in enumerate(texts.values())},
        parameters=texts,
        paths=tuple(sorted(texts)[:1]),
        secret_parameters=(),
        secret_variables=(),
    )
    outputs = [
        Output(portable_path(name), output.sha256, output.size, output.mode)
        if output.link is None
        else linked(portable_path(name), portable_path(f"../{names[3]}"))
        for output, name in zip(record.outputs, names, strict=False)
    ]
    unicode = {name: text.encode("utf-8", "replace").decode() for name, text in record.tags.items()}
    measured = tuple(Measure(replace(m, name=names[4], step=7, timestamp=8), names[5]) for m in record.metrics[:1])
    return replace(
        record,
        run_id=new_run_id(),
        pinned=spec,
        outputs=tuple(outputs),
        params=texts,
        tags={name.encode("utf-8", "replace").decode(): text for name, text in unicode.items()},
        metrics=tuple(replace(m, name=names[4]) for m in record.metrics),
        host={"hostname": names[5], "cpus": 3, "gpus": names, "variables": {"USER": names[6], "HOME": "/root"}},
        name=None,
        tracking=Tracking(
            datasets=(Dataset(names[0], names[1], names[2], names[3], None, names[4], {names[5]: names[6]}),),
            models=(LoggedModel("m-1", names[0], names[1], 1, 2, "ready", names[2], texts, {}, measured),),
            models_out=((names[0], 3),),
        ),
        experiment=names[7],
        reason=names[0],
        notes=tuple(names),
        ended_at=None,
    )


@settings(deadline=None)
@given(record=RUNS, data=st.data())
def test_any_run_that_a_machine_makes_is_read_back(record: RunRecord, data: st.DataObject) -> None:
    made = sound(record, data)
    assert same(asdict(read_run(*run_json(made))), asdict(carried(made)))


def test_what_an_older_orch_did_not_write_has_its_default() -> None:
    spec, record, points = run_json(everything())
    older = json.loads(record)
    del older["notes"], older["parent"]
    assert read_run(spec, json_bytes(older), points).notes == ()


@pytest.mark.parametrize(
    "line",
    [
        '["rmse", 0.5, 0]',
        '["rmse", "0.5", 0, 0]',
        '["rmse", 1, 0, 0]',
        '["rmse", 0.50, 0, 0]',
        '["rmse", 0.5, 0.0, 0]',
        '["rmse", 0.5, 9223372036854775808, 0]',
        '["rmse", 0.5, 0, true]',
        '["rmse", NaN, 0, 0]',
        '["rmse",0.5,0,0]',
        "[5, 0.5, 0, 0]",
        "[null, 0.5, 0, 0]",
        '["\\ud800", 0.5, 0, 0]',
        '{"rmse": 0.5}',
        '["rmse", 0.5, 0, 0] ',
        "",
        "[" * 100_000,
        '["r\u00e9", 0.5, 0, 0]',
    ],
)
def test_a_line_of_metrics_that_orch_does_not_write_is_refused(line: str) -> None:
    spec, record, _ = run_json(everything())
    for data in (f"{line}\n", f'["rmse", 0.5, 0, 0]\n{line}\n["rmse", 0.5, 0, 0]\n'):
        with pytest.raises(OrchError, match="metrics of the bundle are damaged"):
            read_run(spec, record, data.encode())
    with pytest.raises(OrchError, match="metrics of the bundle are damaged"):
        read_run(spec, record, b'["rmse", 0.5, 0, 0]')  # without its end


# --- values of other types --------------------------------------------------------------------------------------

OF_SPEC = {
    "text": "command entry_point environment.lock_id environment.platform inputs.0.name inputs.0.path inputs.0.sha256 "
    "inputs.0.kind parameters.alpha source.commit source.subdir source.tree source.url source.submodules.0.commit "
    "source.submodules.0.path source.submodules.0.url variables.TZ paths.0 secret_parameters.0 secret_variables.0 "
    "environment.paths.0 environment.link_scripts.0 environment.others.osx-arm64",
    "text or none": "environment.as_of source.revision source.origin stdin inputs.0.origin",
    "number": "inputs.0.size source.commit_time version",
    "truth": "inputs.0.executable source.dirty",
    "list": "environment.paths environment.link_scripts inputs paths secret_parameters secret_variables "
    "source.submodules",
    "table": "environment environment.others inputs.0 parameters source source.submodules.0 variables",
}
OF_RECORD = {
    "text": "experiment outputs.0.path outputs.0.sha256 params.alpha run_id spec_id started_at status "
    "tags.source outputs.1.link host.hostname host.cpu host.kernel host.os host.variables notes.0",
    "text or none": "ended_at name parent reason replay_of",
    "number": "outputs.0.mode outputs.0.size usage.peak_memory usage.read_bytes "
    "usage.written_bytes version host.cpus host.memory",
    "decimal": "usage.cpu_seconds usage.wall_seconds",
    "list": "notes outputs",
    "table": "host outputs.0 params tags usage",
}
WRONG: dict[str, list[Any]] = {
    "text": [None, 5, True, ["x"], {"x": "y"}, "\ud800", ...],
    "text or none": [5, False, ["x"], {"x": "y"}, "\ud800"],
    "number": [None, "5", "", 1.5, True, [5], 2**63, 10**400, -(2**70), ...],
    "decimal": [None, "0.5", True, [0.5], 10**400, ...],
    "truth": [None, 0, 1, "true", [], ...],
    "list": [None, {}, "x", 5, [5], [None], [[]], ...],
    "table": [None, [], "x", 5, {"x": 5}, {"": None}, ...],
}

OPTIONAL = re.compile(
    r"\.0$|^(host|params|parameters|tags|variables|environment\.others)\.|link$"
    r"|^(source\.(subdir|submodules|dirty|revision|origin)|environment\.(paths|link_scripts|others|as_of))$"
    r"|^inputs\.0\.(kind|executable|origin)$|^(inputs|paths|variables|secret_parameters|secret_variables|stdin)$"
    r"|^(experiment|params|tags|outputs|usage|notes|outputs\.0\.mode|usage\..*)$"
)
"""What may be left out: an item of a list, a name in a table of any names, and what has a default: an orch of before
did not write it."""


def places() -> Iterator[Any]:
    for name, kinds in (("spec", OF_SPEC), ("record", OF_RECORD)):
        for kind, some in kinds.items():
            for place in some.split():
                yield pytest.param(name, place, WRONG[kind], id=f"{name}.{place}")


@pytest.mark.parametrize(("name", "place", "wrong"), [*places()])
def test_a_value_of_another_type_is_refused(name: str, place: str, wrong: list[Any]) -> None:
    *files, points = run_json(everything())
    spec, record = map(json.loads, files)
    for value in wrong:
        if value is ... and OPTIONAL.search(place):
            continue
        one = changed(spec, place, value) if name == "spec" else spec
        other = changed(record, place, value) if name == "record" else record
        if place != "spec_id":
            with suppress(OrchError, ValueError, AttributeError, TypeError):  # it may be no spec at all
                other = other | {"spec_id": spec_id(spec_from_json(one))}
        with pytest.raises(OrchError) as told:
            read_run(json_bytes(one), json_bytes(other), points)
        assert str(told.value).isprintable(), value
        assert len(str(told.value)) < 500, value
