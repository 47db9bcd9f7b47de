"""The rules that a project declares for its outputs: `outputs:` in MLproject, `[tool.orch.outputs]` in pyproject.toml.

    outputs:
      metrics.json: {tolerance: 1e-6, ignore: [started, host]}
      "plots/*.csv": {tolerance: {relative: 1e-6, absolute: 1e-9}}
      "logs/**": {ignore: "*"}

A list of the same, each with its `path`, is the other way to write it.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from orchestrator.compare.rules import OutputRule, Rules, Tolerance, limit_of, tolerance_of
from orchestrator.errors import OrchError
from orchestrator.paths import stays_below

if TYPE_CHECKING:
    from orchestrator.project import Tree

_KEYS = ("tolerance", "ignore")
_LIMITS = {"relative": "relative", "rel": "relative", "absolute": "absolute", "abs": "absolute"}


def project_rules(tree: Tree, subdir: str) -> Rules:
    """What the project in `subdir` ("" for the root) of a commit declares; an MLproject's come first.

    Raises OrchError, with file and key, for what can't be read or is not understood.
    """
    rules: list[OutputRule] = []
    names = tree.names(subdir)
    for name in sorted(name for name in names if name.lower() == "mlproject")[:1]:
        path = posixpath.join(subdir, name)
        data = _yaml(path, tree.read(path) or b"")
        if isinstance(data, dict):
            rules += _rules(f"{path}: outputs", data.get("outputs"))
    if "pyproject.toml" in names:
        path = posixpath.join(subdir, "pyproject.toml")
        rules += _rules(f"{path}: [tool.orch.outputs]", _toml(path, tree.read(path) or b""))
    return Rules(tuple(rules))


def _yaml(path: str, content: bytes) -> Any:
    if b"outputs" not in content:
        return None
    import yaml

    try:
        return yaml.safe_load(content.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OrchError(f"{path}: not valid YAML: {reason}.") from error


def _toml(path: str, content: bytes) -> Any:
    if b"orch" not in content:
        return None
    import tomllib

    try:
        table: Any = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OrchError(f"{path} is not valid TOML: {error}.") from error
    for key in ("tool", "orch", "outputs"):
        table = table.get(key) if isinstance(table, dict) else None
    return table


def _rules(where: str, value: Any) -> list[OutputRule]:
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
    if not isinstance(about, dict):
        raise OrchError(f"{where} is a mapping with tolerance or ignore, not {about!r}.")
    unknown = [key for key in about if key not in _KEYS]
    if unknown or not about:
        problem = f"{unknown[0]!r} is not known" if unknown else "it is empty"
        raise OrchError(f"{where}: {problem}; write tolerance, ignore, or both.")
    tolerance = _tolerance(f"{where}, tolerance", about["tolerance"]) if "tolerance" in about else None
    return OutputRule(pattern, tolerance, _ignored(f"{where}, ignore", about.get("ignore", ())))


def _tolerance(where: str, value: Any) -> Tolerance:
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
        raise OrchError(f"{where}: {error}; write a number, or relative and absolute.") from error


def _ignored(where: str, value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise OrchError(f'{where} is a list of names of fields, or "*" for the whole file, not {value!r}.')
    if "*" in names and len(names) > 1:
        raise OrchError(f'{where}: "*" is the whole file, and stands alone.')
    return tuple(names)
