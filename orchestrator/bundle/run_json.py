"""A run as a bundle tells it: what decided it and what came of it, as canonical JSON; and back, from bytes of anybody.

What is of the machine and decides nothing is left out: where inputs lay, the identities of processes, and of the
variables passed on all but the user's name and home and those that results may depend on. So is a verdict: who has the
bundle makes their own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from hashlib import sha256
from pathlib import PurePosixPath
from time import time
from typing import Any

from orchestrator.bundle.layout import MAX_JSON, RUN_ID, SHA256, shown
from orchestrator.bundle.points import MAX_BYTES as MAX_POINTS_BYTES
from orchestrator.bundle.points import points_from_lines, points_to_lines
from orchestrator.canonical import canonical_json, local_path
from orchestrator.environment.host import PLATFORMS
from orchestrator.errors import OrchError
from orchestrator.fields import fields_to_json
from orchestrator.model import EnvironmentRef, Input, Output, RunRecord, RunSpec, Source, Tracking
from orchestrator.paths import stays_below
from orchestrator.records import SPEC_VERSION, output_to_json, spec_id, spec_to_json
from orchestrator.tracked import tracking_from_json, tracking_to_json
from orchestrator.variables import DECIDING

RECORD_VERSION = 1
"""Version of `run/record.json`. An unknown one is refused."""

_USER = ("HOME", "LOGNAME", "USER")
_ENDED = ("finished", "failed", "stopped", "lost")
_EXACT = 2**53
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PACKAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", re.ASCII)
_EPOCH = "1970-01-01T00:00:00Z"
_DAY = 86_400


def carried(record: RunRecord) -> RunRecord:
    """The record as it travels."""
    inputs = tuple(replace(item, origin=None) for item in record.spec.inputs)
    variables = record.host.get("variables", {})
    told = {name: value for name, value in variables.items() if name in (*_USER, *DECIDING)}
    given = record.spec.parameters
    placed = {name: given[name] for name in record.spec.paths if name in given and name in record.params}
    return replace(
        record,
        pinned=replace(record.spec, inputs=inputs),
        params={**record.params, **placed},
        host={**record.host, "variables": told},
        verdict=None,
        bundle=None,
        supervisor=None,
        child=None,
        tracking=replace(record.tracking, deleted=False),
    )


def run_json(record: RunRecord) -> tuple[bytes, bytes, bytes]:
    """`run/spec.json`, `run/record.json` and `run/metrics.jsonl`.

    Raises OrchError for text that is no Unicode, and for too much of it.
    """
    try:
        files = (*_two_files(carried(record)), points_to_lines(record.metrics))
    except ValueError as error:
        raise OrchError(f"run {record.run_id} can't be put into a bundle: its record holds {error}.") from error
    for data, most in zip(files, (MAX_JSON, MAX_JSON, MAX_POINTS_BYTES), strict=True):
        if len(data) > most:
            raise OrchError(f"run {record.run_id} can't be put into a bundle: its record has {len(data)} bytes.")
    return files


def _two_files(record: RunRecord) -> tuple[bytes, bytes]:
    table = fields_to_json(record) | {
        "version": RECORD_VERSION,
        "spec_id": spec_id(record.spec),
        "outputs": [output_to_json(output) for output in record.outputs],
        "usage": fields_to_json(record.usage),
        "tracking": tracking_to_json(record.tracking),
    }
    if table["tracking"] is None:
        del table["tracking"]
    for name in ("pinned", "metrics", *_NOT_CARRIED):
        del table[name]
    return canonical_json(spec_to_json(record.spec)), canonical_json(table)


_NOT_CARRIED = ("verdict", "bundle", "supervisor", "child")


def read_run(spec: bytes, record: bytes, points: bytes) -> RunRecord:
    """The run that the files of a bundle tell; what an older orch did not write has its default.

    Nothing in them is believed: every value has the type and the form that orch gives it, and none is left over.
    Raises OrchError that says what has not.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        table, pinned = _object(record, RECORD_VERSION, "record"), _object(spec, SPEC_VERSION, "spec")
        whole = {key: value for key, value in table.items() if key != "tracking"} | {"pinned": pinned}
        checked = TypeAdapter(RunSpec).validate_json(spec, strict=True)
        found = TypeAdapter(RunRecord).validate_json(json.dumps(whole), strict=True)
        # What is taken for a value of another type here is found out below.
        tracking = asdict(tracking_from_json(table.get("tracking")))
        found = replace(found, pinned=checked, tracking=TypeAdapter(Tracking).validate_python(tracking))
        again = [json.loads(data) for data in _two_files(carried(found))]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise OrchError(f"the bundle's run is damaged: {shown(where)}: {shown(first['msg'])}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OrchError(f"the bundle's run is damaged: {shown(f'{type(error).__name__}: {error}')}.") from error
    for name, said, form in (("spec", pinned, again[0]), ("record", table, again[1])):
        if name == "record" and said.get("spec_id") != form["spec_id"]:
            raise OrchError(
                f"the bundle says that the spec id is {shown(said.get('spec_id'))}; that of its spec is "
                f"{form['spec_id']}."
            )
        if not _is_within(said, form):
            raise OrchError(f"run/{name}.json of the bundle has what the {name} of a run does not have.")
    _check_spec(found.spec)
    _check_record(found)
    return replace(found, metrics=points_from_lines(points))


def _is_within(part: Any, whole: Any) -> bool:
    """Whether all of `part` is in `whole`, which may have more keys."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _is_within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(_is_within, part, whole))
    return type(part) is type(whole) and bool(part == whole)


def _object(data: bytes, version: int, name: str) -> dict[str, Any]:
    table = json.loads(data)
    if not isinstance(table, dict):
        raise TypeError(f"run/{name}.json is no JSON object")
    if canonical_json(table) != data:
        raise ValueError(f"run/{name}.json is no canonical JSON")
    if (said := table.get("version")) != version:
        raise OrchError(f"the bundle's {name} has version {shown(said)}; this orch knows version {version}.")
    return table


# --- the form of what decides a run -----------------------------------------------------------------------------


def _check_spec(spec: RunSpec) -> None:
    _check_source(spec.source)
    _check_environment(spec.environment)
    for item in spec.inputs:
        _check_input(item)
    _check_each("input", [item.path for item in spec.inputs])
    for name in (*spec.variables, *spec.secret_variables):
        _check("variable", name, _VARIABLE.fullmatch)
    for text in (spec.command, spec.entry_point, *spec.parameters.values(), *spec.variables.values()):
        _check("text", text, lambda text: "\0" not in text)
    _check("path parameters", spec.paths, lambda names: {*names} <= spec.parameters.keys())
    secrets = [*map(spec.parameters.get, spec.secret_parameters), *map(spec.variables.get, spec.secret_variables)]
    _check("secrets without a value", secrets, lambda values: {*values} <= {""})
    for name in spec.paths:
        _check("parameter", name, lambda name: name in spec.parameters)
    if spec.stdin is not None and not any((item.path, item.kind) == (spec.stdin, "file") for item in spec.inputs):
        raise OrchError(f"the bundle's run reads {shown(spec.stdin)}, which is no file among its inputs.")


def _check_source(source: Source) -> None:
    _check("commit", source.commit, _OBJECT_ID.fullmatch)
    _check("tree", source.tree, lambda tree: bool(_OBJECT_ID.fullmatch(tree)) and len(tree) == len(source.commit))
    _check("commit time", source.commit_time, lambda seconds: abs(seconds) < _EXACT)
    _check("directory", source.subdir, lambda path: path == "" or is_clean(path))
    for submodule in source.submodules:
        _check("commit", submodule.commit, _OBJECT_ID.fullmatch)
        _check("submodule", submodule.path, is_clean)
    _check_each("submodule", [submodule.path for submodule in source.submodules])


def _check_environment(ref: EnvironmentRef) -> None:
    for lock_id in (ref.lock_id, *ref.others.values()):
        _check("lock id", lock_id, SHA256.fullmatch)
    for platform in (ref.platform, *ref.others):
        _check("platform", platform, lambda name: name in PLATFORMS)
    _check("other platform", ref.platform, lambda name: name not in ref.others)
    _check("time", ref.as_of or _EPOCH, _is_time)
    for path in ref.paths:
        _check("import path", path, lambda path: path in ("", ".") or (stays_below(path) and ":" not in path))
    for name in ref.link_scripts:
        _check("package", name, _PACKAGE.fullmatch)


def _check_input(item: Input) -> None:
    _check("input", item.path, is_clean)
    _check("sha256", item.sha256, SHA256.fullmatch)
    _check("size", item.size, lambda size: 0 <= size < _EXACT)


# --- the form of what came of it --------------------------------------------------------------------------------


def _check_record(record: RunRecord) -> None:
    _check("run id", record.run_id, RUN_ID.fullmatch)
    if int(record.run_id[:12], 16) / 1000 > time() + _DAY:
        raise OrchError(f"the bundle's run {record.run_id} begins in the future, by its id.")
    _check("status", record.status, lambda status: status in _ENDED)
    for name in ("replay_of", "parent"):
        _check(name, getattr(record, name) or "0" * 32, re.compile(r"[0-9a-f]{32}").fullmatch)
    _check("time", record.started_at, _is_time)
    _check("time", record.started_at if record.ended_at is None else record.ended_at, _is_time)
    for output in record.outputs:
        _check_output(output)
    check_apart("output", [local_path(output.path) for output in record.outputs])
    for number in fields_to_json(record.usage).values():
        _check("use", number, lambda number: number >= 0)
    _check("name", record.name or "-", lambda name: name != "latest" and name.isprintable())
    _check_host(record.host)


def _check_output(output: Output) -> None:
    _check("output", output.path, lambda path: is_clean(local_path(path)))
    _check("sha256", output.sha256, SHA256.fullmatch)
    _check("size", output.size, lambda size: 0 <= size < _EXACT)
    _check("mode", output.mode, lambda mode: 0 <= mode <= 0o7777)
    if output.link is not None:
        target = os.fsencode(local_path(output.link))
        _check("link", output.link, lambda _: target and b"\0" not in target)
        _check("sha256 of the link", output.sha256, lambda found: found == sha256(target).hexdigest())
        _check("size of the link", output.size, lambda size: size == len(target))


def check_apart(what: str, paths: Sequence[str]) -> None:
    """Raise OrchError for a path that is there twice, or below that of a file.

    The folders `artifacts` and `checkout` of outputs are names that orch gives: a project may have files of that name.
    """
    _check_each(what, paths)
    files = {*paths} - {"artifacts", "checkout"}
    for path in paths:
        for above in map(str, PurePosixPath(path).parents):
            if above in files:
                raise OrchError(f"the bundle's run is damaged: the {what} {shown(path)} is in another.")


def _check_host(host: Mapping[str, Any]) -> None:
    for name, table in (("variables", host.get("variables")), ("folders", host.get("folders", {}))):
        _check(name, table, lambda v: isinstance(v, dict) and all(isinstance(x, str) for x in v.values()))
    for name, value in host.items():
        if name in ("cpus", "memory"):
            _check(name, value, lambda value: type(value) is int)
        elif name == "gpus":
            _check(name, value, lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value))
        elif name not in ("variables", "folders"):
            _check(name, value, lambda value: isinstance(value, str))


def _check(what: str, value: Any, is_right: Callable[[Any], object]) -> None:
    if not is_right(value):
        raise OrchError(f"the bundle's run is damaged, or made to harm: {shown(value)} is no {shown(what)}.")


def _check_each(what: str, paths: Iterable[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise OrchError(f"the bundle's run is damaged: it has the {what} {shown(path)} twice.")
        seen.add(path)


def is_clean(path: str) -> bool:
    """Whether a path is below its folder, and written in the one way in which orch writes it."""
    return stays_below(path) and all(part not in ("", ".", "..") for part in path.split("/"))


def _is_time(text: str) -> bool:
    try:
        return bool(_TIME.fullmatch(text)) and datetime.fromisoformat(text) is not None
    except ValueError:
        return False
