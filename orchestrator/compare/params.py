"""Whether the parameters that a program logged came out again: what it found out, or chose by itself, is a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.compare.own import own_names, without_own
from orchestrator.model import RunRecord
from orchestrator.paths import Home


@dataclass(frozen=True, slots=True)
class ParamVerdict:
    """What came of one parameter. `equivalent`: the same text but for what each run calls itself, by `rules`."""

    name: str
    result: Literal["equal", "equivalent", "different", "missing", "new"]
    recorded: str | None = None
    replayed: str | None = None
    rules: tuple[str, ...] = ()


def compare_params(recorded: RunRecord, replayed: RunRecord, *, home: Home) -> tuple[ParamVerdict, ...]:
    """A verdict for each parameter that the program of either run logged; the recorded ones first, in their order.

    Of those that were given, which are the same in both, one is among them only if the program logged another value.
    """
    names = own_names(recorded, replayed, home=home), own_names(replayed, recorded, home=home)
    given = recorded.spec.parameters
    verdicts = []
    for name in dict.fromkeys((*recorded.params, *replayed.params)):
        before, after = recorded.params.get(name), replayed.params.get(name)
        if before is None or after is None:
            verdicts.append(ParamVerdict(name, "new" if before is None else "missing", before, after))
        elif before != after:
            one, used = without_own(before, names[0].in_text)
            other, also = without_own(after, names[1].in_text)
            rules = tuple(sorted(used | also)) if one == other else ()
            verdicts.append(ParamVerdict(name, "equivalent" if one == other else "different", before, after, rules))
        elif name not in given:
            verdicts.append(ParamVerdict(name, "equal", before, after))
    return tuple(verdicts)
