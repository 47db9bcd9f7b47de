"""What differs between two runs: what decided them, where they ran, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator import environment, source
from orchestrator.canonical import number_to_json
from orchestrator.compare import Rules, compare_metrics
from orchestrator.environment.lock_diff import PackageChanges, package_changes
from orchestrator.errors import OrchError
from orchestrator.execute.host import differing_facts
from orchestrator.model import RunRecord, RunSpec, latest_metrics
from orchestrator.paths import Home
from orchestrator.records import output_to_json
from orchestrator.report import Report, silent
from orchestrator.variables import DECIDING, fixed_variables, is_secret

NOT_RECORDED = "(not recorded)"
"""Stands for the value of a secret."""


_OF_A_SESSION = frozenset(
    "TERM COLORTERM NO_COLOR TMPDIR XDG_RUNTIME_DIR SSH_AUTH_SOCK KRB5CCNAME DISPLAY WAYLAND_DISPLAY XAUTHORITY".split()
)
"""Host variables that are others in every shell, and say nothing of a result."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something of a name that differs. A value is None where there is nothing of that name.

    `note` says what differs where the values do not.
    """

    name: str
    before: Any
    after: Any
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RunDiff:
    """What differs from one run to another; each part is empty where nothing does.

    The `sections` are `result` (how it ended), `source`, `command`, `parameters`, `logged_parameters` (what the
    program said beyond those), `environment`, `inputs`, `variables`, `host` (what both tell; of the processor's flags
    those that only one has), `host_variables`, `metrics` (last values; with a note where these are the same and the
    points before are not) and `outputs`; a value of inputs and outputs is a mapping. `code` and `packages` are None
    where they can't be compared; `notes` says why. `not_recorded` names by section the secrets that both runs have:
    whether these differ nobody can say.
    """

    sections: Mapping[str, tuple[Change, ...]]
    code: source.CodeChange | None
    packages: PackageChanges | None
    not_recorded: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.code or self.packages or any(self.sections.values()))


def diff_runs(one: RunRecord, other: RunRecord, *, home: Home, patch: bool = False, report: Report = silent) -> RunDiff:
    """What differs from `one` to `other`. With `patch`, what differs in the code also as text.

    Ids, names, tags, times and resource use are a run's own, and are not compared. A commit that this home lacks is
    fetched.
    """
    before, after = _facts(one), _facts(other)
    notes = [
        f"run {record.run_id} is {record.status}; what it has yet to log and make is not compared."
        for record in (one, other)
        if record.status in ("running", "orphaned")
    ]
    code = packages = None
    try:
        code = source.code_changes(one.spec.source, other.spec.source, home=home, patch=patch, report=report)
    except OrchError as error:
        notes.append(f"the files of the two commits are not compared: {error}")
    try:
        packages = _packages(one, other, home)
    except OrchError as error:
        notes.append(f"the packages of the two environments are not compared: {error}")
    if one.bundle is not None or other.bundle is not None:
        _leave_out_what_bundles_lack(before, after, {*one.spec.paths, *other.spec.paths})
    sections = {name: _changes(before[name], after[name]) for name in before}
    sections["host"] = tuple(Change(*fact) for fact in differing_facts(before["host"], after["host"]))
    sections["metrics"] += _histories(one, other)
    return RunDiff(
        sections=sections,
        code=code,
        packages=packages,
        not_recorded={
            name: tuple(n for n, value in before[name].items() if value == after[name].get(n) == NOT_RECORDED)
            for name in ("parameters", "variables", "host_variables")
        },
        notes=tuple(notes),
    )


def _leave_out_what_bundles_lack(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], paths: set[str]
) -> None:
    """Of the variables of a host keep those that both tell, and those that a bundle tells if they are set; of the
    parameters in `paths` a bundle knows no other place than the one in the project."""
    told = (before["host_variables"].keys() & after["host_variables"].keys()) | {*DECIDING}
    for facts in (before, after):
        facts["host_variables"] = {n: v for n, v in facts["host_variables"].items() if n in told}
        facts["logged_parameters"] = {n: v for n, v in facts["logged_parameters"].items() if n not in paths}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(Change(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n))


def _histories(one: RunRecord, other: RunRecord) -> tuple[Change, ...]:
    """The metrics that came to the same last value by other points; when these were logged is no matter."""
    last = latest_metrics(one), latest_metrics(other)
    found = []
    for item in compare_metrics(one, other, Rules()):
        before, after = (number_to_json(values[item.name]) if item.name in values else None for values in last)
        if item.result == "different" and before == after:
            note = f"same last value, history differs from step {item.step}"
            found.append(Change(item.name, before, after, note))
    return tuple(found)


def _packages(one: RunRecord, other: RunRecord, home: Home) -> PackageChanges:
    before, after = one.spec.environment.lock_id, other.spec.environment.lock_id
    if before == after:
        return PackageChanges()
    return package_changes(environment.locked_packages(home, before), environment.locked_packages(home, after))


# --- one run ----------------------------------------------------------------------------------------------------


def _facts(record: RunRecord) -> dict[str, dict[str, Any]]:
    """All of a run that can differ: a table for each section. What is None or empty is as good as not there."""
    spec = record.spec
    return {
        "result": {"status": record.status, "exit_code": record.exit_code, "reason": record.reason},
        "source": {"url": spec.source.url, "commit": spec.source.commit, "subdir": spec.source.subdir or None},
        "command": {
            "entry_point": spec.entry_point,
            "command": spec.command,
            "path_parameters": sorted(spec.paths) or None,
            "stdin": spec.stdin,
        },
        "parameters": _unrecorded(spec.parameters, spec.secret_parameters),
        "logged_parameters": {n: v for n, v in record.params.items() if spec.parameters.get(n) != v},
        "environment": {
            "lock_id": spec.environment.lock_id,
            "platform": spec.environment.platform,
            "as_of": spec.environment.as_of,
            "link_scripts": list(spec.environment.link_scripts) or None,
            "paths": list(spec.environment.paths) or None,
        },
        "inputs": _inputs(record),
        "variables": _unrecorded(_own_variables(spec), spec.secret_variables),
        **_host(record),
        "metrics": {name: number_to_json(value) for name, value in sorted(latest_metrics(record).items())},
        "outputs": _outputs(record),
    }


def _own_variables(spec: RunSpec) -> dict[str, str]:
    """Without the time that every run has from its commit: the commits are told."""
    given = fixed_variables(spec.source.commit_time)
    return {n: v for n, v in spec.variables.items() if n != "SOURCE_DATE_EPOCH" or v != given[n]}


def _unrecorded(values: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    return {**values, **dict.fromkeys(sorted(secrets), NOT_RECORDED)}


def _inputs(record: RunRecord) -> dict[str, dict[str, Any]]:
    return {
        i.path: {"sha256": i.sha256, "size": i.size, "kind": i.kind, "executable": i.executable, "name": i.name}
        for i in record.spec.inputs
    }


def _outputs(record: RunRecord) -> dict[str, dict[str, Any]]:
    found = {}
    for output in sorted(record.outputs, key=lambda output: output.path):
        value = output_to_json(output)
        found[value.pop("path")] = value
    return found


def _host(record: RunRecord) -> dict[str, dict[str, Any]]:
    facts = dict(record.host)
    facts.pop("folders", None)  # each home has its own
    recorded: Mapping[str, str] = facts.pop("variables", {})
    variables = {name: value for name, value in recorded.items() if name not in _OF_A_SESSION}
    secrets = [name for name, value in variables.items() if not value and is_secret(name, NOT_RECORDED)]
    return {"host": facts, "host_variables": _unrecorded(variables, secrets)}
