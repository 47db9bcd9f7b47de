"""`orch replay`, whole: execute a recorded spec again, compare what came of it, record the verdict.

Whether a replay was compared is known by its verdict alone: one that was interrupted is compared later, or again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from orchestrator import ledger, source, store
from orchestrator.canonical import number_to_json
from orchestrator.compare import (
    MetricVerdict,
    OutputVerdict,
    ParamVerdict,
    Rules,
    compare_metrics,
    compare_outputs,
    compare_params,
    joined,
    project_rules,
    unmatched,
)
from orchestrator.environment.host import current_subdir
from orchestrator.errors import OrchError, UsageError
from orchestrator.execute.execute import Attachment, Circumstances, execute
from orchestrator.execute.host import differing_facts
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.supervisor import Interrupted, StopRequest
from orchestrator.inputs import check_inputs
from orchestrator.model import RunRecord, RunSpec
from orchestrator.paths import Home
from orchestrator.replay_family import Family, Pair, family_of
from orchestrator.run import index, say_how_it_ended
from orchestrator.variables import DECIDING

AS_RECORDED = frozenset({"identical", "equivalent", "equal", "within tolerance", "ignored"})
"""The results of what came out again, byte for byte or by a rule that was declared or is built in."""

DIFFERS = 1
"""The exit code of a replay that ran, and gave something else."""

_OF_THE_MACHINE = ("os", "kernel", "machine", "cpu", "cpu_flags", "cpus", "memory", "gpus")
"""The facts of a host that a result may depend on."""


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
class NestedVerdict:
    """What came of the runs that were started in the run; their outputs, metrics and parameters stand among its own,
    behind a label. `missing`, `new` and `changed` (they ended otherwise) have the labels.
    """

    compared: int = 0
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    note: str | None = None
    """Why they were not compared."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay came to. `host` has the facts that differ: name, recorded, replayed."""

    replay_of: str
    result: Literal["reproduced", "differs"]
    outputs: tuple[OutputVerdict, ...]
    metrics: tuple[MetricVerdict, ...]
    params: tuple[ParamVerdict, ...]
    """Those that the program logged."""
    exit_code: tuple[int | None, int | None]
    """Recorded and replayed."""
    environment: str
    """What is known of it: that it is the recorded one, every file checked, or the one for this platform."""
    host: tuple[tuple[str, Any, Any], ...]
    rules: Rules
    """What was declared, by the project and on the command line."""
    unmatched: tuple[str, ...] = ()
    """The patterns of the command line that no output and no metric matches."""
    nested: NestedVerdict = NestedVerdict()


def replay(request: ReplayRequest, about: Circumstances, attachment: Attachment, *, home: Home) -> int:
    """Do one replay under the supervision of this process: 0 reproduced, 1 differs. Raises OrchError when it can't."""
    original = recorded(request.run_id, home)
    spec, notes = _on_this_machine(original.spec, request)
    about = replace(
        about,
        replay_of=original.run_id,
        params=_given_params(original),
        notes=(*_without_original(original), *notes),
        secret_parameters=_given(spec.secret_parameters, request.secret_parameters, "parameter", "-P"),
        secret_variables=_given(spec.secret_variables, request.secret_variables, "variable", "--env"),
        verify="full",
    )
    check_inputs(spec.inputs, named=request.inputs, home=home)  # installing the environment may take an hour
    record = execute(spec, about, attachment, home=home, began=lambda running: index(home, running))
    index(home, record)
    if record.status == "stopped":
        raise OrchError(f"the replay was stopped ({record.reason}), so nothing was compared.")
    attachment.progress("comparing", "its outputs and metrics with the record")
    found, untold = compare(record.run_id, request.rules, attachment.stop, home=home)
    say_how_it_ended(record, None, [*record.notes, *untold], attachment)
    return 0 if found.result == "reproduced" else DIFFERS


def compare(run_id: str, rules: Rules, stop: StopRequest, *, home: Home) -> tuple[Verdict, tuple[str, ...]]:
    """Hold a replay that has ended against its original, and record the verdict; of several the last one counts.

    `rules` come before what the project declares. The sentences say why that has no say. Raises OrchError when it is
    no replay, one of the two is not there or has no result, or `stop` asks for the end; nothing is recorded then.
    """
    with store.adding(home):  # nobody removes what is read here
        record = ledger.read_run(home, run_id)
        if record is None or record.replay_of is None:
            raise OrchError(f"run {run_id} is no replay: orch replay {run_id[:16]} makes one.")
        original = _original_of(record, home)
        if record.status not in ("finished", "failed"):
            raise OrchError(f"run {run_id} is {record.status}: there is no result to compare.")
        declared, notes = _declared(original, home)
        family = family_of(original, record, home=home)
        all_rules = joined(rules, declared)
        found = _unless_stopped(stop, run_id, lambda: verdict(original, record, family, all_rules, home=home))
        members = [
            run for pair in (Pair("", original, record), *family.pairs) for run in (pair.original, pair.replayed)
        ]
        paths = {output.path for run in members for output in run.outputs}
        found = replace(
            found, unmatched=unmatched(rules, paths, {point.name for run in members for point in run.metrics})
        )
        directory = RunDirectory(home.run(run_id))
        for note in notes:
            if note not in record.notes:
                directory.record("note", text=note)
        directory.record("verdict", verdict=verdict_to_json(found))
        connection = ledger.connect(home)
        try:
            ledger.index_run(home, connection, run_id)
        finally:
            connection.close()
    return found, notes


def _declared(record: RunRecord, home: Home) -> tuple[Rules, tuple[str, ...]]:
    """What its project declares, or a sentence on why that is not understood. Raises OrchError without its commit."""
    pinned = record.spec.source
    with source.open_tree(pinned, home=home) as tree:
        try:
            tree.names(pinned.subdir)
        except OrchError as error:
            raise OrchError(
                f"commit {pinned.commit} is not here any more, so what its project declares is not known; "
                f"orch replay {record.run_id[:16]} fetches it, runs it again and compares."
            ) from error
        try:
            return project_rules(tree, pinned.subdir), ()
        except OrchError as error:
            # The commit can't be mended any more: what it declares wrongly must not keep it from being compared.
            return Rules(), (f"what the project declares for its outputs and metrics has no say: {error}",)


def _unless_stopped(stop: StopRequest, run_id: str, job: Callable[[], Verdict]) -> Verdict:
    """Do what may take long; a request to stop, also one that came since the program ended, ends it at once."""
    try:
        try:
            stop.program_runs = False  # from here on a signal raises Interrupted
            if stop.count:
                raise Interrupted(stop.number)
            return job()
        finally:
            stop.program_runs = True
    except Interrupted:
        stop.program_runs = True
        raise OrchError(
            f"stopped while it was compared; the replay is recorded: orch replay --compare {run_id[:16]} compares it."
        ) from None


def recorded(run_id: str, home: Home) -> RunRecord:
    """The record of a run that has ended by itself; of a replay made here, that of its original, if that is here.

    It lacks what the program logged: a replay need not hold it while its own program runs. Raises OrchError otherwise.
    """
    record = ledger.read_run(home, run_id, logged=False)
    if record is not None and record.replay_of is not None and record.bundle is None:
        # Or a drift would become the measure of what comes after it.
        record = ledger.read_run(home, record.replay_of, logged=False) or record
    if record is None:
        raise OrchError(f"run {run_id} has no directory any more, so nothing tells what it was.")
    return _with_result(record)


def _without_original(measure: RunRecord) -> tuple[str, ...]:
    """What is to be said where a replay is what another one is held against."""
    if measure.replay_of is None or measure.bundle is not None:
        return ()
    return (
        f"the original of run {measure.run_id[:16]}, run {measure.replay_of[:16]}, is not here any more: held against "
        f"run {measure.run_id[:16]} itself.",
    )


def _original_of(replayed: RunRecord, home: Home) -> RunRecord:
    """What a replay is to be held against. Raises OrchError when nobody here can say."""
    if replayed.bundle is not None:
        # Nobody here saw that its environment was the recorded one, nor what it was held against.
        raise OrchError(
            f"run {replayed.run_id} is a replay of somebody else, that was imported; orch replay "
            f"{replayed.run_id[:16]} runs it here and compares."
        )
    original = ledger.read_run(home, replayed.replay_of or "")
    if original is None:
        raise OrchError(
            f"the original of run {replayed.run_id}, run {replayed.replay_of}, is not here any more, so there is "
            f"nothing to compare with; orch replay {replayed.run_id[:16]} runs it again, and holds it against that run "
            "itself."
        )
    return _with_result(original)


def _with_result(record: RunRecord) -> RunRecord:
    if record.status not in ("finished", "failed"):
        raise OrchError(f"run {record.run_id} is {record.status}: there is no result that could come out again.")
    return record


def verdict(original: RunRecord, record: RunRecord, family: Family, rules: Rules, *, home: Home) -> Verdict:
    """Hold a replay against its original, with the runs that each has started. Raises OrchError when an output that
    must be read is not stored any more.
    """
    outputs: list[OutputVerdict] = []
    metrics: list[MetricVerdict] = []
    params: list[ParamVerdict] = []
    for pair in (Pair("", original, record), *family.pairs):
        label = f"{pair.label}: " * bool(pair.label)
        compared = compare_outputs(pair.original, pair.replayed, home=home, rules=rules)
        outputs += [replace(output, path=label + output.path) for output in compared]
        metrics += [replace(m, name=label + m.name) for m in compare_metrics(pair.original, pair.replayed, rules)]
        params += [replace(p, name=label + p.name) for p in compare_params(pair.original, pair.replayed, home=home)]
    nested = _nested(family, original)
    codes = (original.exit_code, record.exit_code)
    results = {*(o.result for o in outputs), *(m.result for m in metrics), *(p.result for p in params)}
    same = codes[0] == codes[1] and results <= AS_RECORDED and not (nested.missing or nested.new or nested.changed)
    asked, used = original.spec.environment, record.spec.environment
    environment = "as recorded; every file was checked"
    if asked.lock_id != used.lock_id:
        environment = f"the one locked for {used.platform} in place of {asked.platform}; every file was checked"
    return Verdict(
        replay_of=original.run_id,
        result="reproduced" if same else "differs",
        outputs=tuple(outputs),
        metrics=tuple(metrics),
        params=tuple(params),
        exit_code=codes,
        environment=environment,
        host=tuple(_differing_facts(original.host, record.host)),
        rules=rules,
        nested=nested,
    )


def _nested(family: Family, original: RunRecord) -> NestedVerdict:
    changed = tuple(
        f"{pair.label} {_ended(pair.replayed)}, recorded {_ended(pair.original)}"
        for pair in family.pairs
        if _ended(pair.original) != _ended(pair.replayed)
    )
    if original.bundle is not None and family.new:
        return NestedVerdict(note="a bundle has one run: those that were started inside it were not compared")
    return NestedVerdict(len(family.pairs), family.missing, family.new, changed)


def _ended(record: RunRecord) -> str:
    return f"{record.status} ({record.exit_code})" if record.exit_code else record.status


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
    """What came out differently in several replays: paths of outputs, names of metrics and parameters, the exit code.

    What their verdicts call the same, byte for byte or by a rule, is.
    """
    each = [_came_out(record) for record in records]
    keys = set().union(*each)
    return {key[1] for key in keys if len({one.get(key) for one in each}) > 1}


def _came_out(record: RunRecord) -> dict[tuple[str, str], Any]:
    """What did not come out as recorded, and the exit code."""
    found = record.verdict or {}
    hashes = {output.path: output.sha256 for output in record.outputs}
    came: dict[tuple[str, str], Any] = {("exit code", "the exit code"): record.exit_code}
    for item in found.get("outputs", ()):
        if item["result"] not in AS_RECORDED:
            came["output", item["path"]] = hashes.get(item.get("moved_to") or item["path"], item["result"])
    for kind in ("metrics", "params"):
        for item in found.get(kind, ()):
            if item["result"] not in AS_RECORDED:
                came[kind, item["name"]] = (item["result"], item["replayed"])
    return came


def _given_params(record: RunRecord) -> dict[str, str]:
    """The parameters as the user gave them; what its program logged is for the program to log again."""
    spec = record.spec
    # A path stands in the spec as its place in the project.
    return {
        name: record.params.get(name, value) if name in spec.paths else value for name, value in spec.parameters.items()
    }


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
    found = [fact for fact in differing_facts(one, other) if fact[0] in _OF_THE_MACHINE]
    before, now = one.get("variables", {}), other.get("variables", {})
    found += [(name, before.get(name), now.get(name)) for name in DECIDING if before.get(name) != now.get(name)]
    return found
