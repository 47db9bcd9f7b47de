"""The runs that a replay has started, each beside the one of its original: steps, and what a program logged nested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from orchestrator import ledger
from orchestrator.model import RunRecord
from orchestrator.paths import Home


@dataclass(frozen=True, slots=True)
class Pair:
    """A run of the original's and the one of the replay's that did the same. `label` is for people."""

    label: str
    original: RunRecord
    replayed: RunRecord


@dataclass(frozen=True, slots=True)
class Family:
    """Labels of `missing` ones are the original's, of `new` ones the replay's."""

    pairs: tuple[Pair, ...] = ()
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def family_of(original: RunRecord, replayed: RunRecord, *, home: Home) -> Family:
    """Who belongs to whom: by step or name and parameters, then by less of that, then by the order of beginning.

    Programs begin them side by side, and MLflow invents names: neither order nor names alone would do.
    """
    with closing(ledger.connect(home)) as connection:

        def children(record: RunRecord) -> list[RunRecord]:
            rows = reversed(ledger.find_runs(connection, parent=record.run_id, deleted=False))
            found = (ledger.read_run(home, row.run_id) for row in rows)
            return [child for child in found if child is not None]

        return _joined(_families(Pair("", original, replayed), children))


def _families(pair: Pair, children: Callable[[RunRecord], list[RunRecord]]) -> Iterator[Family]:
    ones, others = children(pair.original), children(pair.replayed)
    matched = _matched(ones, others)
    known = {run.run_id for both in matched for run in both}
    missing = [one for one in ones if one.run_id not in known]
    new = [other for other in others if other.run_id not in known]
    labels = _labels(pair.label, [*(one for one, _ in matched), *missing])
    pairs = [
        Pair(label, _as_part(one, pair.original), _as_part(other, pair.replayed))
        for label, (one, other) in zip(labels, matched, strict=False)
    ]
    yield Family(tuple(pairs), tuple(labels[len(matched) :]), tuple(_labels(pair.label, new)))
    for below in pairs:
        yield from _families(below, children)


def _joined(families: Iterator[Family]) -> Family:
    found = list(families)
    return Family(
        tuple(pair for one in found for pair in one.pairs),
        tuple(label for one in found for label in one.missing),
        tuple(label for one in found for label in one.new),
    )


def _as_part(child: RunRecord, parent: RunRecord) -> RunRecord:
    """What was only logged is of the program of its parent, on its machine."""
    return child if child.pinned is not None else replace(child, pinned=parent.pinned, host=parent.host)


def _step(run: RunRecord) -> str | None:
    """The entry point of a step; None for what was only logged."""
    return None if run.pinned is None else run.pinned.entry_point


_KEYS: Sequence[Callable[[RunRecord], object]] = (
    lambda run: (_step(run), run.name, sorted(run.params.items())),
    lambda run: (_step(run), sorted(run.params.items())),
    lambda run: (_step(run), run.name),
    _step,
)
"""By what two runs are the same one, the surest first."""


def _matched(ones: Sequence[RunRecord], others: Sequence[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """Pairs, in the order of `ones`."""
    partner: dict[str, RunRecord] = {}
    left = list(others)
    for key in _KEYS:
        free: dict[str, list[RunRecord]] = {}
        for other in left:
            free.setdefault(repr(key(other)), []).append(other)
        for one in ones:
            if one.run_id not in partner and (same := free.get(repr(key(one)))):
                partner[one.run_id] = same.pop(0)
        taken = {other.run_id for other in partner.values()}
        left = [other for other in left if other.run_id not in taken]
    return [(one, partner[one.run_id]) for one in ones if one.run_id in partner]


def _labels(above: str, runs: Sequence[RunRecord]) -> list[str]:
    """Names for people, each another: `inner`, `inner 2`, `main/inner`."""
    seen: Counter[str] = Counter()
    labels = []
    for run in runs:
        name = run.name or _step(run) or run.run_id[:16]
        seen[name] += 1
        labels.append(f"{above}/" * bool(above) + name + f" {seen[name]}" * (seen[name] > 1))
    return labels
