"""The rules that a project declares: `outputs:` and `metrics:` in MLproject, or [tool.orch] of pyproject.toml.

    outputs:
      metrics.json: {tolerance: 1e-6, ignore: [started, host]}
      "plots/*.csv": {tolerance: {relative: 1e-6, absolute: 1e-9}}
      "plots/*.npy": 1e-6
      "logs/**": ignore
    metrics:
      rmse: 1e-6
      "loss/*": {relative: 1e-6, absolute: 1e-9}
      fit_seconds: ignore

`"plots/*.npy": 1e-6` is short for `{tolerance: 1e-6}`, `ignore` for `{ignore: "*"}`. A list of the same, each with its
`path`, is the other way to write the outputs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.compare.rules import MetricRule, OutputRule, Rules, Tolerance, limit_of, tolerance_of
from orchestrator.errors import OrchError
from orchestrator.paths import stays_below

if TYPE_CHECKING:
    from orchestrator.project import Tree

_KEYS = ("tolerance", "ignore")
_IGNORE = "ignore"
_WAYS = "a number, or relative and absolute"
_LIMITS = {"relative": "relative", "rel": "relative", "absolute": "absolute", "abs": "absolute"}


def project_rules(tree: Tree, subdir: str) -> Rules:
    """What the project in `subdir` ("" for the root) of a commit declares; an MLproject's come first.

    Raises OrchError, with file and key, for what can't be read or is not understood.
    """
    outputs: list[OutputRule] = []
    metrics: list[MetricRule] = []
    for start, end, table in _sections(tree, subdir):
        outputs += _output_rules(f"{start}outputs{end}", table.get("outputs"))
        metrics += _metric_rules(f"{start}metrics{end}", table.get("metrics"))
    return Rules(tuple(outputs), tuple(metrics))


def _sections(tree: Tree, subdir: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The tables that may have the two sections, and what stands around the name of a section in a sentence."""
    names = tree.names(subdir)
    for name in sorted(name for name in names if name.lower() == "mlproject")[:1]:
        path = posixpath.join(subdir, name)
        yield f"{path}: ", "", _yaml(path, tree.read(path) or b"")
    if "pyproject.toml" in names:
        path = posixpath.join(subdir, "pyproject.toml")
        yield f"{path}: [tool.orch.", "]", _toml(path, tree.read(path) or b"")


def _yaml(path: str, content: bytes) -> Mapping[str, Any]:
    if b"outputs" not in content and b"metrics" not in content:
        return {}
    import yaml

    try:
        value = yaml.safe_load(content.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OrchError(f"{path}: not valid YAML: {reason}.") from error
    return value if isinstance(value, dict) else {}


def _toml(path: str, content: bytes) -> Mapping[str, Any]:
    if not re.search(rb"\borch\b", content):
        return {}
    import tomllib

    try:
        table: Any = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OrchError(f"{path} is not valid TOML: {error}.") from error
    for key in ("tool", "orch"):
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else {}


def _output_rules(where: str, value: Any) -> list[OutputRule]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [_rule(f"{where}, {pattern!r}", pattern, about) for pattern, about in value.items()]
    if not isinstance(value, list):
        raise OrchError(f"{where} is a mapping of patterns of paths to tolerance and ignore, not {value!r}.")
    rules = []
    for number, item in enumerate(value, 1):
        place = f"{where}, entry {number}"
        if not isinstance(item, dict) or "path" not in item:
            raise OrchError(f"{place}: it needs a path, and tolerance or ignore; it is {item!r}.")
        rules.append(_rule(place, item["path"], {key: entry for key, entry in item.items() if key != "path"}))
    return rules


def _rule(where: str, pattern: Any, about: Any) -> OutputRule:
    if not isinstance(pattern, str) or not stays_below(pattern):
        raise OrchError(f"{where}: {pattern!r} is no pattern of paths below the project, as plots/*.csv is.")
    if about == _IGNORE:
        return OutputRule(pattern, None, ("*",))
    if about and (not isinstance(about, dict) or all(key in _LIMITS for key in about)):
        return OutputRule(
            pattern, _tolerance(where, about, f"{_WAYS}, {_IGNORE}, or a mapping of tolerance and ignore")
        )
    if not isinstance(about, dict):
        raise OrchError(f"{where} is a tolerance, ignore, or a mapping of both, not {about!r}.")
    unknown = [key for key in about if key not in _KEYS]
    if unknown or not about:
        problem = f"{unknown[0]!r} is not known" if unknown else "it is empty"
        raise OrchError(f"{where}: {problem}; write tolerance, ignore, or both.")
    tolerance = _tolerance(f"{where}, tolerance", about["tolerance"]) if "tolerance" in about else None
    return OutputRule(pattern, tolerance, _ignored(f"{where}, ignore", about.get("ignore", ())))


def _metric_rules(where: str, value: Any) -> list[MetricRule]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise OrchError(f"{where} is a mapping of names of metrics to tolerances, not {value!r}.")
    for name in value:
        if not isinstance(name, str) or not name:
            raise OrchError(f"{where}: {name!r} is no name of a metric.")
    ways = f"{_WAYS}, or {_IGNORE}"
    return [
        MetricRule(name, None if about == _IGNORE else _tolerance(f"{where}, {name!r}", about, ways))
        for name, about in value.items()
    ]


def _tolerance(where: str, value: Any, ways: str = _WAYS) -> Tolerance:
    try:
        if isinstance(value, str):  # YAML 1.1 takes 1e-6 for text
            return tolerance_of(value)
        if not isinstance(value, dict):
            return Tolerance(limit_of(value))
        unknown = [key for key in value if key not in _LIMITS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is neither relative nor absolute")
        return Tolerance(**{_LIMITS[key]: limit_of(limit) for key, limit in value.items()})
    except ValueError as error:
        raise OrchError(f"{where}: {error}; write {ways}.") from error


def _ignored(where: str, value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise OrchError(f'{where} is a list of names of fields, or "*" for the whole file, not {value!r}.')
    if "*" in names and len(names) > 1:
        raise OrchError(f'{where}: "*" is the whole file, and stands alone.')
    return tuple(names)
