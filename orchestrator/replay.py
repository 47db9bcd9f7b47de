"""`orch replay`, whole: execute a recorded spec again, compare what came of it, record the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from orchestrator import ledger, source
from orchestrator.canonical import number_to_json
from orchestrator.compare import (
    MetricVerdict,
    OutputVerdict,
    Rules,
    compare_metrics,
    compare_outputs,
    joined,
    project_rules,
)
from orchestrator.environment.host import current_subdir
from orchestrator.errors import OrchError, UsageError
from orchestrator.execute.execute import Attachment, Circumstances, current_record, execute
from orchestrator.model import RunRecord, RunSpec
from orchestrator.paths import Home
from orchestrator.run import index, say_how_it_ended

DIFFERS = 1
"""The exit code of a replay that ran, and gave something else."""

_OF_THE_MACHINE = ("os", "kernel", "machine", "cpu", "cpu_flags", "cpus", "memory", "gpus")
"""The facts of a host that a result may depend on."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay. `rules` come before what the project declares; `inputs` are places of inputs by their `path`.

    The values of secrets are not in the record: they are given again.
    """

    run_id: str
    rules: Rules = field(default_factory=Rules)
    secret_parameters: Mapping[str, str] = field(default_factory=dict)
    secret_variables: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay came to. `host` has the facts that differ: name, recorded, replayed."""

    replay_of: str
    result: Literal["reproduced", "differs"]
    outputs: tuple[OutputVerdict, ...]
    metrics: tuple[MetricVerdict, ...]
    exit_code: tuple[int | None, int | None]
    """Recorded and replayed."""
    environment: str
    """What is known of it: that it is the recorded one, every file checked, or the one for this platform."""
    host: tuple[tuple[str, Any, Any], ...]
    rules: Rules
    """What was declared, by the project and on the command line."""


def replay(request: ReplayRequest, about: Circumstances, attachment: Attachment, *, home: Home) -> int:
    """Do one replay under the supervision of this process: 0 reproduced, 1 differs. Raises OrchError when it can't."""
    original = recorded(request.run_id, home)
    spec, notes = _on_this_machine(original.spec, request)
    try:
        with source.open_tree(spec.source, home=home) as tree:
            rules = joined(request.rules, project_rules(tree, spec.source.subdir))
    except OrchError as error:
        # The commit can't be mended any more: what it declares wrongly must not keep it from being replayed.
        rules, notes = request.rules, (*notes, f"what the project declares for its outputs has no say: {error}")
    about = replace(
        about,
        replay_of=original.run_id,
        params=original.params,
        notes=notes,
        secret_parameters=_given(spec.secret_parameters, request.secret_parameters, "parameter", "-P"),
        secret_variables=_given(spec.secret_variables, request.secret_variables, "variable", "--env"),
        verify="full",
    )
    record = execute(spec, about, attachment, home=home, began=lambda running: index(home, running))
    if record.status == "stopped":
        raise OrchError(f"the replay was stopped ({record.reason}), so nothing was compared.")
    attachment.progress("comparing", "its outputs and metrics with the record")
    found = verdict(original, record, rules, home=home)
    attachment.directory.record("verdict", verdict=verdict_to_json(found))
    record = current_record(attachment.directory)
    index(home, record)
    say_how_it_ended(record, None, [], attachment)
    return 0 if found.result == "reproduced" else DIFFERS


def recorded(run_id: str, home: Home) -> RunRecord:
    """The record of a run that has ended by itself; of a replay, that of its original. Raises OrchError otherwise."""
    record = ledger.read_run(home, run_id)
    if record is not None and record.replay_of is not None:
        # Or a drift would become the measure of what comes after it.
        record = ledger.read_run(home, record.replay_of)
    if record is None:
        raise OrchError(f"run {run_id} has no directory any more, so nothing tells what it was.")
    if record.status not in ("finished", "failed"):
        raise OrchError(f"run {run_id} is {record.status}: there is no result that could come out again.")
    return record


def verdict(original: RunRecord, record: RunRecord, rules: Rules, *, home: Home) -> Verdict:
    """Hold a replay against its original. Raises OrchError when an output of either is not stored any more."""
    outputs = compare_outputs(original, record, home=home, rules=rules)
    metrics = compare_metrics(original, record, rules)
    codes = (original.exit_code, record.exit_code)
    same = (
        codes[0] == codes[1]
        and all(item.result in ("identical", "equivalent") for item in outputs)
        and all(item.result in ("equal", "within tolerance") for item in metrics)
    )
    asked, used = original.spec.environment, record.spec.environment
    environment = "as recorded; every file was checked"
    if asked.lock_id != used.lock_id:
        environment = f"the one locked for {used.platform} in place of {asked.platform}; every file was checked"
    return Verdict(
        replay_of=original.run_id,
        result="reproduced" if same else "differs",
        outputs=outputs,
        metrics=metrics,
        exit_code=codes,
        environment=environment,
        host=tuple(_differing_facts(original.host, record.host)),
        rules=rules,
    )


def verdict_to_json(found: Verdict) -> dict[str, Any]:
    """The JSON object of a verdict; numbers that are none are texts, as everywhere (`canonical`)."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return number_to_json(value)
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    table: dict[str, Any] = plain(asdict(found))
    return table


def varying(records: Sequence[RunRecord]) -> set[str]:
    """What came out differently in several replays of one run: paths of outputs, names of metrics, the exit code.

    What their verdicts call the same, byte for byte or by a rule, is.
    """
    each = [_came_out(record) for record in records]
    keys = set().union(*each)
    return {key[1] for key in keys if len({one.get(key) for one in each}) > 1}


def _came_out(record: RunRecord) -> dict[tuple[str, str], Any]:
    found = record.verdict or {"outputs": [], "metrics": []}
    hashes = {output.path: output.sha256 for output in record.outputs}
    came: dict[tuple[str, str], Any] = {("exit code", "the exit code"): record.exit_code}
    for item in found["outputs"]:
        same = item["result"] in ("identical", "equivalent")
        came["output", item["path"]] = "as recorded" if same else hashes.get(item["path"], item["result"])
    for item in found["metrics"]:
        near = item["result"] in ("equal", "within tolerance")
        came["metric", item["name"]] = "as recorded" if near else item["replayed"]
    return came


def _on_this_machine(spec: RunSpec, request: ReplayRequest) -> tuple[RunSpec, tuple[str, ...]]:
    """The spec with the environment of this platform and the inputs where they are here, and sentences on that."""
    unknown = sorted(request.inputs.keys() - {item.path for item in spec.inputs})
    if unknown:
        there = ", ".join(item.path for item in spec.inputs) or "none"
        raise OrchError(f"the run has no input at {unknown[0]}; it has: {there}.")
    inputs = tuple(replace(item, origin=request.inputs.get(item.path, item.origin)) for item in spec.inputs)
    ref, here = spec.environment, current_subdir()
    notes: tuple[str, ...] = ()
    if ref.platform != here:
        if here not in ref.others:
            known = ", ".join([ref.platform, *ref.others])
            raise OrchError(
                f"the run was recorded on {ref.platform} and is locked for {known}; this machine is {here}. Who runs "
                f"it with --platform {here} makes a record that can be replayed here."
            )
        others = {name: lock for name, lock in ref.others.items() if name != here} | {ref.platform: ref.lock_id}
        ref = replace(ref, lock_id=ref.others[here], platform=here, others=dict(sorted(others.items())))
        notes = (f"recorded on {spec.environment.platform}; here the versions of its lock for {here} are used.",)
    return replace(spec, inputs=inputs, environment=ref), notes


def _given(names: Sequence[str], values: Mapping[str, str], what: str, option: str) -> dict[str, str]:
    for name in values.keys() - set(names):
        raise UsageError(f"{option} {name}: a replay has the recorded values; only those of secrets are given again.")
    missing = [name for name in names if name not in values]
    if missing:
        raise OrchError(
            f"the value of the {what} {missing[0]} is not recorded, for it looked like a secret: give it again with "
            f"{option} {missing[0]}=VALUE."
        )
    return {name: values[name] for name in names}


def _differing_facts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    found = [(name, one.get(name), other.get(name)) for name in _OF_THE_MACHINE if one.get(name) != other.get(name)]
    before, now = one.get("variables", {}), other.get("variables", {})
    found += [(name, before.get(name), now.get(name)) for name in _THREADS if before.get(name) != now.get(name)]
    return found
