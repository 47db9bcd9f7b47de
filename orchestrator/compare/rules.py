"""What is declared: how near numbers have to be, and which fields are not compared."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from orchestrator.errors import UsageError
from orchestrator.paths import stays_below


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a replayed number b may be from the recorded a: |a-b| <= absolute + relative*|a|.

    NaN is near NaN only, an infinity near itself only.
    """

    relative: float = 0.0
    absolute: float = 0.0

    def __str__(self) -> str:
        parts = [f"{name}={value!r}" for name, value in (("rel", self.relative), ("abs", self.absolute)) if value]
        return f"tolerance {','.join(parts) or '0'}"


EXACT = Tolerance()


@dataclass(frozen=True, slots=True)
class OutputRule:
    """A declaration for the outputs whose whole path matches `pattern`: `*` and `?` stay in a folder, `**` does not.

    With a rule, a file of a known format is compared by its values: how they are written does not count. `ignore` has
    the names of JSON keys (at any depth) and CSV columns that are not compared; `*` alone: nothing of the file is, nor
    whether it is there.
    """

    pattern: str
    tolerance: Tolerance | None = None
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricRule:
    """A declaration for the metrics whose whole name matches `pattern`, as that of an OutputRule does a path.

    Without a tolerance its values are not compared, nor whether it is there.
    """

    pattern: str
    tolerance: Tolerance | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """All that is declared.

    For an output, the first matching rule with a tolerance gives it; what is ignored adds up. For a metric the first
    matching rule holds. `everything` is for outputs and metrics that these have no tolerance for; where it is None
    too, they must be the same.
    """

    outputs: tuple[OutputRule, ...] = ()
    metrics: tuple[MetricRule, ...] = ()
    everything: Tolerance | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What is declared for one output or metric. The texts name the rules, for the verdict."""

    tolerance: Tolerance = EXACT
    tolerance_rule: str | None = None
    ignore: frozenset[str] = frozenset()
    ignore_rule: str | None = None

    @property
    def by_value(self) -> str | None:
        """The rule by which only the values count; None where every byte does."""
        return self.tolerance_rule or self.ignore_rule

    @property
    def ignores_all(self) -> bool:
        """Whether nothing of it is compared."""
        return "*" in self.ignore


def declared_for(path: str, rules: Rules) -> Declared:
    """What `rules` have for the output at `path`."""
    found = [rule for rule in rules.outputs if _regex(rule.pattern).fullmatch(path)]
    near = next((rule for rule in found if rule.tolerance is not None), OutputRule(_EVERYTHING, rules.everything))
    passed = [rule for rule in found if rule.ignore]
    return Declared(
        tolerance=near.tolerance or EXACT,
        tolerance_rule=None if near.tolerance is None else _named(near.pattern, str(near.tolerance)),
        ignore=frozenset(name for rule in passed for name in rule.ignore),
        ignore_rule="; ".join(_named(rule.pattern, f"ignore {', '.join(rule.ignore)}") for rule in passed) or None,
    )


def declared_for_metric(name: str, rules: Rules) -> Declared:
    """What `rules` have for the metric `name`."""
    found = next((rule for rule in rules.metrics if _regex(rule.pattern).fullmatch(name)), None)
    if found is not None and found.tolerance is None:
        return Declared(ignore=frozenset("*"), ignore_rule=_named(found.pattern, "ignore"))
    near = found or MetricRule(_EVERYTHING, rules.everything)
    if near.tolerance is None:
        return Declared()
    return Declared(near.tolerance, _named(near.pattern, str(near.tolerance)))


def joined(first: Rules, then: Rules) -> Rules:
    """Both; where both have a rule, that of `first` holds (the command line's before the project's)."""
    everything = first.everything if first.everything is not None else then.everything
    return Rules((*first.outputs, *then.outputs), (*first.metrics, *then.metrics), everything)


def unmatched(rules: Rules, paths: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """The patterns, as `-t` has them, that none of these outputs (`paths`) and metrics (`names`) match."""
    outputs, metrics = list(paths), list(names)
    found = [rule.pattern for rule in rules.outputs if not any(map(_regex(rule.pattern).fullmatch, outputs))]
    found += [
        _METRICS if rule.pattern == _EVERYTHING else f"{_METRICS}:{rule.pattern}"
        for rule in rules.metrics
        if not any(map(_regex(rule.pattern).fullmatch, metrics))
    ]
    return tuple(dict.fromkeys(found))


# --- the command line -------------------------------------------------------------------------------------------

_EVERYTHING = "**"
_METRICS = "metrics"
_IGNORE = "ignore"
_HOW = (
    "-t takes a NUMBER (relative), rel=NUMBER,abs=NUMBER, PATTERN: or metrics:PATTERN: and one of these or ignore, or "
    "PATTERN:ignore=FIELD,FIELD"
)


def parse_tolerances(texts: Sequence[str]) -> Rules:
    """The rules of all `-t`: one without a pattern holds for outputs and metrics that no other one is for.

    Raises UsageError.
    """
    outputs: list[OutputRule] = []
    metrics: list[MetricRule] = []
    everything: Tolerance | None = None
    for text in texts:
        parsed = parse_tolerance(text)
        if isinstance(parsed, OutputRule):
            outputs.append(parsed)
        elif isinstance(parsed, MetricRule):
            metrics.append(parsed)
        elif everything is not None and everything != parsed:
            raise UsageError(f"-t {text}: a tolerance for everything was given already; write PATTERN:{text}.")
        else:
            everything = parsed
    return Rules(tuple(outputs), tuple(metrics), everything)


def parse_tolerance(text: str) -> Tolerance | OutputRule | MetricRule:
    """The value of one `-t`. Raises UsageError.

    It is `1e-6` (relative) or `rel=1e-6,abs=1e-9`; before it may stand `PATTERN:`, for outputs, `metrics:`, for all
    metrics, or `metrics:PATTERN:`. Behind a pattern `ignore` is another way, and behind one of outputs `ignore=` with
    names of fields.
    """
    pattern, given, fields = text.rpartition(f":{_IGNORE}=")
    if given:
        if pattern.partition(":")[0] == _METRICS:
            raise UsageError(f"-t {text}: a metric has no fields; write {pattern}:{_IGNORE}.")
        return _output_rule(text, pattern, None, _fields(text, fields))
    pattern, colon, values = text.rpartition(":")
    ignored = bool(colon) and values == _IGNORE
    try:
        tolerance = None if ignored else tolerance_of(values)
    except ValueError as error:
        raise UsageError(f"{_HOW}; {text!r} is none: {error}.") from error
    if tolerance is not None and not colon:
        return tolerance
    kind, _, name = pattern.partition(":")
    if kind == _METRICS:
        return MetricRule(name or _EVERYTHING, tolerance)
    return _output_rule(text, pattern, tolerance, ("*",) if ignored else ())


def _output_rule(text: str, pattern: str, tolerance: Tolerance | None, ignore: tuple[str, ...]) -> OutputRule:
    if not stays_below(pattern):
        raise UsageError(f"-t {text}: {pattern!r} is no pattern of paths of outputs, as plots/*.csv is.")
    return OutputRule(pattern, tolerance, ignore)


def _fields(text: str, names: str) -> tuple[str, ...]:
    fields = tuple(name.strip() for name in names.split(","))
    if not all(fields) or ("*" in fields and len(fields) > 1):
        raise UsageError(f"-t {text}: ignore= takes names of fields, as started,host is.")
    return fields


def tolerance_of(text: str) -> Tolerance:
    """The tolerance that `1e-6` or `rel=1e-6,abs=1e-9` means. Raises ValueError that says what is wrong."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, given, value = part.strip().rpartition("=")
        name = name.strip() if given else "rel"
        if name not in ("rel", "abs"):
            raise ValueError(f"{name!r} is neither rel nor abs")
        if name in found:
            raise ValueError(f"{name} stands there twice")
        found[name] = limit_of(value)
    return Tolerance(found.get("rel", 0.0), found.get("abs", 0.0))


def limit_of(value: object) -> float:
    """A number that can be a limit: finite, not negative. Raises ValueError that says what is wrong."""
    try:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is not a number from 0 up")
    return number


# --- patterns ---------------------------------------------------------------------------------------------------

_WILD = re.compile(r"(\*\*/|\*\*|\*|\?)")
_MEANING = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    parts = _WILD.split(pattern)
    return re.compile("".join(_MEANING.get(part) or re.escape(part) for part in parts), re.DOTALL)


def _named(pattern: str, what: str) -> str:
    return what if pattern == _EVERYTHING else f"{pattern}: {what}"
