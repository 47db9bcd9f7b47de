"""Reads an MLproject file as MLflow 2 and 3 do, and finds the file that says what the environment holds.

MLflow parses with PyYAML (YAML 1.1) and turns defaults into text with `str()`; unknown keys are ignored. Where
MLflow ends in a traceback, this names file and line.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.errors import OrchError
from orchestrator.project.inside import inside
from orchestrator.project.parts import (
    DeclaredInput,
    EntryPoint,
    EnvironmentFile,
    EnvironmentKind,
    Parameter,
    Project,
    Tree,
)

if TYPE_CHECKING:
    import yaml

_BESIDE: tuple[tuple[str, EnvironmentKind], ...] = (
    ("python_env.yaml", "python_env"),
    ("conda.yaml", "conda"),
    ("environment.yml", "conda"),
    ("environment.yaml", "conda"),
    ("conda-lock.yml", "conda-lock"),
    ("requirements.txt", "requirements"),
)
"""Beside an MLproject that names no environment: the first of these. The first two are MLflow's, in its order."""

_TOP_KEYS = ("name", "entry_points", "python_env", "conda_env", "docker_env", "inputs", "outputs", "metrics")

_TYPES = ("string", "float", "int", "path", "uri", "bool", "boolean")

_ALONE: tuple[tuple[str, EnvironmentKind], ...] = (
    ("environment.yml", "conda"),
    ("environment.yaml", "conda"),
    ("conda.yaml", "conda"),
    ("conda-lock.yml", "conda-lock"),
    ("python_env.yaml", "python_env"),
    ("requirements.txt", "requirements"),
)
"""In a project without an MLproject: the first of these; conda's own names come before MLflow's."""


def read_project(tree: Tree, subdir: str) -> Project:
    """The project in `subdir` ("" for the root) of a commit. A project without an MLproject has no entry points.

    Raises OrchError, with file and line, for an MLproject that is no YAML or has the wrong shape, names more than
    one environment or one that is not there, names a file outside the repository, or asks for docker.
    """
    names = tree.names(subdir)
    found = sorted(name for name in names if name.lower() == "mlproject")
    if not found:
        environment, notes = _find_environment(names, subdir, _ALONE)
        has_rules = _pyproject_has_rules(tree, names, subdir)
        return Project(None, None, {}, environment, subdir=subdir, has_rules=has_rules, notes=notes)
    path = posixpath.join(subdir, found[0])
    document = _load(path, tree.read(path) or b"")
    data = document.data
    environment, notes = _environment(document, tree, names, subdir)
    name = data.get("name")
    entry_points = _entry_points(document)
    misspelt = _misspelt(data)
    return Project(
        name=None if name is None else str(name),
        file=path,
        entry_points=entry_points,
        environment=environment,
        inputs=_inputs(document, subdir),
        subdir=subdir,
        misspelt=misspelt,
        has_rules="outputs" in data or "metrics" in data or _pyproject_has_rules(tree, names, subdir),
        notes=(*_notes_on_keys(document, misspelt), *_notes_on_types(document, entry_points), *notes),
    )


def _pyproject_has_rules(tree: Tree, names: tuple[str, ...], subdir: str) -> bool:
    """Whether a pyproject.toml speaks of orch. It is not parsed here: that takes longer than all the rest."""
    content = tree.read(posixpath.join(subdir, "pyproject.toml")) if "pyproject.toml" in names else None
    return content is not None and re.search(rb"\borch\b", content) is not None


class _Document:
    """A parsed MLproject: its data, and the lines that they stand in."""

    __slots__ = ("data", "node", "path")

    def __init__(self, path: str, data: Mapping[Any, Any], node: yaml.Node | None) -> None:
        self.path = path
        self.data = data
        self.node = node

    def fail(self, keys: tuple[Any, ...], problem: str) -> NoReturn:
        """Raises OrchError for the value under `keys`, with its line."""
        raise OrchError(self.sentence(keys, problem))

    def sentence(self, keys: tuple[Any, ...], text: str) -> str:
        """`text` on the value under `keys`, with its line."""
        return f"{self.path} line {self._line(keys)}: {text}"

    def _line(self, keys: tuple[Any, ...]) -> int:
        node = self.node
        line = 0 if node is None or keys else node.start_mark.line
        for key in keys:
            if node is None:
                break
            entries = node.value if isinstance(node.value, list) else []
            if isinstance(key, int) and entries and not isinstance(entries[0], tuple):
                node = entries[key]
                line = node.start_mark.line
                continue
            match = [pair for pair in entries if isinstance(pair, tuple) and str(pair[0].value) == str(key)]
            if not match:
                break
            line, node = match[-1][0].start_mark.line, match[-1][1]
        return line + 1


def _load(path: str, content: bytes) -> _Document:
    import yaml

    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = loader_class(content.decode("utf-8-sig"))
        node = loader.get_single_node()
        data = {} if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise OrchError(f"{path}{where}: not valid YAML: {error.problem or error.context}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OrchError(f"{path}: not valid YAML: {reason}.") from error
    if data is None:
        data = {}
    document = _Document(path, data if isinstance(data, dict) else {}, node)
    if not isinstance(data, dict):
        document.fail((), f"an MLproject is a mapping (name:, entry_points:), not {_shape(data)}.")
    return document


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return "nothing" if value is None else f"{value!r}"


# --- entry points -----------------------------------------------------------------------------------------------


def _entry_points(document: _Document) -> dict[str, EntryPoint]:
    points = document.data.get("entry_points")
    if points is None:
        return {}
    if not isinstance(points, dict):
        document.fail(("entry_points",), f"entry_points is a mapping of names to commands, not {_shape(points)}.")
    return {str(key): _entry_point(document, key, value) for key, value in points.items()}


def _entry_point(document: _Document, name: Any, value: Any) -> EntryPoint:
    keys = ("entry_points", name)
    if not isinstance(value, dict):
        document.fail(keys, f"entry point {str(name)!r} is a mapping with a command, not {_shape(value)}.")
    command = value.get("command")
    if not isinstance(command, str) or not command.strip():
        problem = "has no command" if "command" not in value else f"has {_shape(command)} for a command"
        document.fail((*keys, "command"), f"entry point {str(name)!r} {problem}; write command: and a line of shell.")
    parameters = value.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        document.fail(
            (*keys, "parameters"),
            f"parameters of entry point {str(name)!r} is a mapping of names to types, not {_shape(parameters)}.",
        )
    declared = tuple(_parameter(document, (*keys, "parameters", key), item) for key, item in parameters.items())
    return EntryPoint(str(name), command, declared)


def _parameter(document: _Document, keys: tuple[Any, ...], value: Any) -> Parameter:
    name = str(keys[-1])
    if isinstance(value, str):
        return Parameter(name, value)
    if not isinstance(value, dict):
        document.fail(keys, f"parameter {name!r} is a type, or a mapping with type and default, not {_shape(value)}.")
    default = value.get("default")
    if isinstance(default, (dict, list)):
        document.fail((*keys, "default"), f"the default of parameter {name!r} is one value, not {_shape(default)}.")
    kind = value.get("type")
    return Parameter(name, "string" if kind is None else str(kind), None if default is None else str(default))


# --- what is probably a slip ------------------------------------------------------------------------------------


def _misspelt(data: Mapping[Any, Any]) -> dict[str, str]:
    """For known keys that are not there, the unknown key that looks like it."""
    unknown = [str(key) for key in data if key not in _TOP_KEYS]
    if not unknown:
        return {}
    import difflib

    missing = [key for key in _TOP_KEYS if key not in data]
    near = {key: difflib.get_close_matches(key.lower(), missing, 1, cutoff=0.7) for key in unknown}
    return {match[0]: key for key, match in near.items() if match}


def _notes_on_keys(document: _Document, misspelt: Mapping[str, str]) -> list[str]:
    return [
        document.sentence((key,), f"the key {key!r} is unknown, and is ignored. Did you mean {meant!r}?")
        for meant, key in misspelt.items()
    ]


def _notes_on_types(document: _Document, points: Mapping[str, EntryPoint]) -> list[str]:
    unknown = [(point.name, p.name, p.type) for point in points.values() for p in point.parameters]
    unknown = [item for item in unknown if item[2] not in _TYPES]
    if not unknown:
        return []
    import difflib

    notes = []
    for point, name, kind in unknown:
        near = difflib.get_close_matches(kind.lower(), _TYPES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        text = f"parameter {name!r} has the unknown type {kind!r}, and is taken as text.{hint}"
        notes.append(document.sentence(("entry_points", point, "parameters", name, "type"), text))
    return notes


# --- the environment --------------------------------------------------------------------------------------------

_KEYS: Mapping[str, EnvironmentKind] = {"python_env": "python_env", "conda_env": "conda"}


def _environment(
    document: _Document, tree: Tree, names: tuple[str, ...], subdir: str
) -> tuple[EnvironmentFile, tuple[str, ...]]:
    named = [key for key in ("docker_env", *_KEYS) if key in document.data]
    if len(named) > 1:
        document.fail((named[1],), f"a project has one environment, and this one has {' and '.join(named)}.")
    if named == ["docker_env"]:
        document.fail(
            ("docker_env",),
            "docker_env is not supported yet; name a conda environment instead (conda_env: or python_env:).",
        )
    if not named or not document.data[named[0]]:
        return _find_environment(names, subdir, _BESIDE)
    key, written = named[0], document.data[named[0]]
    if not isinstance(written, str):
        document.fail((key,), f"{key} is the path of an environment file, not {_shape(written)}.")
    path = inside(subdir, written)
    if path is None:
        document.fail((key,), f"{key} is {written!r}, which is not a path inside the repository.")
    if tree.read(path) is None:
        document.fail((key,), f"{key} is {written!r}, and there is no such file in the commit.")
    kind = "conda-lock" if posixpath.basename(path).endswith("conda-lock.yml") else _KEYS[key]
    return EnvironmentFile(kind, path), ()


def _find_environment(
    names: tuple[str, ...], subdir: str, order: tuple[tuple[str, EnvironmentKind], ...]
) -> tuple[EnvironmentFile, tuple[str, ...]]:
    for name, kind in order:
        if name in names:
            return EnvironmentFile(kind, posixpath.join(subdir, name)), ()
    note = "the project names no environment: it gets one with the newest Python and nothing else."
    return EnvironmentFile("none", ""), (note,)


# --- inputs -----------------------------------------------------------------------------------------------------


def _inputs(document: _Document, subdir: str) -> tuple[DeclaredInput, ...]:
    inputs = document.data.get("inputs")
    if inputs is None:
        return ()
    if not isinstance(inputs, list):
        document.fail(("inputs",), f"inputs is a list of paths, not {_shape(inputs)}.")
    return tuple(_input(document, ("inputs", index), item, subdir) for index, item in enumerate(inputs))


def _input(document: _Document, keys: tuple[Any, ...], item: Any, subdir: str) -> DeclaredInput:
    entry = {"path": item} if isinstance(item, str) else item
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        document.fail(keys, f"an input is a path, or a mapping with path and dest, not {_shape(item)}.")
    path = inside(subdir, entry["path"])
    if not path:
        document.fail(keys, f"the input {entry['path']!r} is not inside the repository; --input takes any path.")
    dest = entry.get("dest")
    if dest is not None and (not isinstance(dest, str) or not inside("", dest)):
        document.fail(keys, f"dest of the input {entry['path']!r} is {dest!r}, which is not a path in the project.")
    return DeclaredInput(path, None if dest is None else posixpath.normpath(dest))
