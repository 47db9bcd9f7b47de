"""Whether the outputs of a run came out again: every path of both, each way round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from shlex import quote
from typing import Literal

from orchestrator import store
from orchestrator.compare.contents import LARGEST, Context, Found, compare_contents
from orchestrator.compare.differences import printable, shown
from orchestrator.compare.mlflow_files import ids_in, tells_ids
from orchestrator.compare.own import OwnNames, own_names, without_own
from orchestrator.compare.rules import Rules, declared_for
from orchestrator.errors import OrchError
from orchestrator.model import Output, RunRecord
from orchestrator.paths import Home

Result = Literal["identical", "equivalent", "ignored", "different", "missing", "new"]
"""`identical`: the same bytes. `equivalent`: the same by the rules named. `ignored`: not the same, and by the rules
named that is no matter. `new`: not an output of the recorded run."""

_Read = Callable[[RunRecord, Output], bytes]

_EXECUTABLE = 0o100


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    """What came of one output.

    `path` is that of the recorded run, but for a new one. `kind` is what the content is: json, jsonl, csv, tsv, text,
    npy, npz, zip, png, ..., mlflow (its database), link, or bytes (also what
    was not read). `rules` are the names of the rules that were used.
    `place` is the first differing place, with the values there; the largest errors are over all numbers of the file.
    `note` says what else there is to say: that a file was too large to look into, that the values are the same; of one
    that is ignored, that it is missing or new.
    """

    path: str
    result: Result
    kind: str = "bytes"
    rules: tuple[str, ...] = ()
    place: str | None = None
    recorded: str | None = None
    replayed: str | None = None
    largest_absolute: float | None = None
    largest_relative: float | None = None
    note: str | None = None
    moved_to: str | None = None
    """Its path in the replay, where that is another one: a run's own id stands in it."""


def compare_outputs(recorded: RunRecord, replayed: RunRecord, *, home: Home, rules: Rules) -> tuple[OutputVerdict, ...]:
    """A verdict for each output of either run, the recorded ones first, in their order.

    A file of the same sha256 is not read. Raises OrchError when one that must be read is damaged in the store, or not
    there: nobody can tell then.
    """
    before = {output.path: output for output in recorded.outputs}
    after = {output.path: output for output in replayed.outputs}
    if all(_is_same(output, after.get(output.path)) for output in recorded.outputs) and len(before) == len(after):
        return tuple(OutputVerdict(output.path, "identical", _kind(output)) for output in recorded.outputs)

    def read(record: RunRecord, output: Output) -> bytes:
        try:
            return store.read_blob(home, output.sha256)
        except OrchError as error:
            path = printable(output.path)
            raise OrchError(
                f"nobody can tell whether {path} came out again: that of run {record.run_id[:16]} can't be read "
                f"({str(error).rstrip('.')}). "
                f"orch replay --compare {replayed.run_id[:16]} -t {quote(f'{path}:ignore')} compares the rest."
            ) from error

    names = (
        own_names(recorded, replayed, home=home, mlflow_ids=_mlflow_ids(recorded, after, read, rules)),
        own_names(replayed, recorded, home=home, mlflow_ids=_mlflow_ids(replayed, before, read, rules)),
    )
    moved = _moved(before, after, names)
    verdicts = []
    for output in recorded.outputs:
        place = moved.get(output.path)
        now = after.get(output.path if place is None else place[0])
        if now is None:
            verdicts.append(_one_sided(output, "missing", rules))
        else:
            found = _verdict((recorded, output), (replayed, now), place[1] if place else (), names, read, rules)
            verdicts.append(replace(found, moved_to=place[0] if place else None))
    seen = before.keys() | {path for path, _ in moved.values()}
    new = [_one_sided(output, "new", rules) for output in replayed.outputs if output.path not in seen]
    return (*verdicts, *new)


def _one_sided(output: Output, result: Literal["missing", "new"], rules: Rules) -> OutputVerdict:
    declared = declared_for(output.path, rules)
    if declared.ignores_all and declared.ignore_rule:
        return OutputVerdict(output.path, "ignored", _kind(output), (declared.ignore_rule,), note=result)
    return OutputVerdict(output.path, result, _kind(output))


def _is_same(one: Output, other: Output | None) -> bool:
    return other is not None and (one.sha256, one.link, _is_executable(one)) == (
        other.sha256,
        other.link,
        _is_executable(other),
    )


def _is_executable(output: Output) -> bool:
    return output.link is None and bool(output.mode & _EXECUTABLE)


def _kind(output: Output) -> str:
    return "bytes" if output.link is None else "link"


def _moved(
    before: dict[str, Output], after: dict[str, Output], names: tuple[OwnNames, OwnNames]
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """For outputs that lie where the run's own id stands in the path: the path in the replay, and the rules."""
    gone, come = [path for path in before if path not in after], [path for path in after if path not in before]
    if not gone or not come:
        return {}
    plain: list[dict[str, list[tuple[str, frozenset[str]]]]] = [{}, {}]
    for side, paths in enumerate((gone, come)):
        for path in paths:
            text, used = without_own(path, names[side].in_path)
            plain[side].setdefault(text, []).append((path, used))
    return {
        ones[0][0]: (others[0][0], tuple(ones[0][1] | others[0][1]))
        for text, ones in plain[0].items()
        if len(ones) == 1 and len(others := plain[1].get(text, [])) == 1
    }


def _verdict(
    recorded: tuple[RunRecord, Output],
    replayed: tuple[RunRecord, Output],
    moved: tuple[str, ...],
    names: tuple[OwnNames, OwnNames],
    read: _Read,
    rules: Rules,
) -> OutputVerdict:
    one, other = recorded[1], replayed[1]
    if _is_same(one, other):
        result: Result = "equivalent" if moved else "identical"
        return OutputVerdict(one.path, result, _kind(one), tuple(sorted(moved)))
    declared = declared_for(one.path, rules)
    if declared.ignores_all and declared.ignore_rule:
        used = tuple(sorted({declared.ignore_rule, *moved}))
        return OutputVerdict(one.path, "ignored", _kind(one), used)
    if one.link is not None or other.link is not None:
        found = _links(one, other, names)
    elif _is_executable(one) != _is_executable(other):
        found = Found("bytes", False, frozenset(), "the executable bit", f"{one.mode:04o}", f"{other.mode:04o}")
    elif max(one.size, other.size) > LARGEST:
        found = Found("bytes", False, note=f"a file above {LARGEST // 1_000_000} MB is compared by its hash")
    else:
        found = compare_contents(one.path, read(*recorded), read(*replayed), Context(*names, declared))
    return OutputVerdict(
        one.path,
        "equivalent" if found.equal else "different",
        found.kind,
        tuple(sorted({*found.rules, *moved})),
        found.place,
        found.recorded,
        found.replayed,
        found.largest_absolute,
        found.largest_relative,
        found.note,
    )


def _links(one: Output, other: Output, names: tuple[OwnNames, OwnNames]) -> Found:
    targets = [f"a link to {output.link}" if output.link is not None else "a file" for output in (one, other)]
    plain = [without_own(target, side.in_text) for target, side in zip(targets, names, strict=True)]
    if one.link is not None and other.link is not None and plain[0][0] == plain[1][0]:
        return Found("link", True, plain[0][1] | plain[1][1])
    return Found("link", False, frozenset(), "what it is", *shown(*targets, quoted=False))


# --- what MLflow calls them ---------------------------------------------------------------------------------------


def _mlflow_ids(record: RunRecord, others: Mapping[str, Output], read: _Read, rules: Rules) -> list[str]:
    """The ids that MLflow gave, as the outputs tell that are not the same in the other run."""
    contents = {}
    for output in record.outputs:
        if not tells_ids(output.path) or output.link is not None or output.size > LARGEST:
            continue
        if _is_same(output, others.get(output.path)):
            continue
        try:
            contents[output.path] = read(record, output)
        except OrchError:
            if not declared_for(output.path, rules).ignores_all:
                raise
    return ids_in(contents)
