"""Reads environment files: conda's `environment.yml`, MLflow's `python_env.yaml`, and requirements. Runs in the worker.

All become the same thing, a `Wish`: channels, conda packages, pip lines and variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.environment.requirements import logical_lines
from orchestrator.errors import OrchError

_PYTHON_ENV_KEYS = ("python", "build_dependencies", "dependencies")
NEWEST = "names no Python: the newest that fits is used"
"""What notes say of a file without a Python."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an environment file asks for. `channels` are as written, () when it names none.

    `pip` are lines as in a requirements file; relative paths in them are relative to the file's folder.
    """

    conda: tuple[str, ...]
    channels: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    extra_indexes: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    exported: bool = False
    """It has a `prefix:`, as `conda env export` writes it: every package of one machine, by exact version."""
    category: str = "main"
    """conda-lock's `category:`; only `main` is installed by a run."""
    platforms: tuple[str, ...] = ()
    """conda-lock's `platforms:`, those to lock for when nobody says otherwise."""


def read_wish(kind: str, path: str, data: bytes, platform: str) -> Wish:
    """What the file at `path` with the bytes `data` asks for on `platform`.

    Raises OrchError that names the file, and the line where YAML does not hold.
    """
    if kind == "none":
        return Wish(("python",))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OrchError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    if kind == "requirements":
        pip = tuple(logical_lines(text))
        return Wish(("python",), pip=pip, notes=(f"{path} {NEWEST}.",))
    if kind == "python_env":
        return _python_env(path, _mapping(path, text))
    return _conda(path, _mapping(path, _selected(text, platform)), platform)


def package_name(spec: str) -> str:
    """The name in a package specification, without its channel."""
    return re.split(r"[\s=<>!~\[;,]", spec.rpartition("::")[2].strip(), maxsplit=1)[0].lower()


def _conda(path: str, table: Mapping[str, Any], platform: str) -> Wish:
    dependencies = table.get("dependencies")
    if not dependencies:
        raise OrchError(f"{path} lists no dependencies: an environment needs at least one, as `- python`.")
    if not isinstance(dependencies, list):
        raise OrchError(f"{path}: dependencies must be a list, each line as `- numpy=1.26`.")
    conda: list[str] = []
    pip: list[str] = []
    for item in dependencies:
        if isinstance(item, str):
            conda.append(item.strip())
        elif isinstance(item, dict) and list(item) == ["pip"]:
            pip += _texts(item["pip"] or [], "pip", path)
        elif item is not None:
            raise OrchError(f"{path}: {item!r} in dependencies is neither a package nor a `pip:` section.")
    if not conda and not pip:
        raise OrchError(f"{path} lists no dependencies for {platform}.")
    notes: list[str] = []
    named = {package_name(spec) for spec in conda}
    if pip and "python" not in named:
        conda.append("python")
        notes.append(f"{path} {NEWEST}.")
    if pip and "pip" not in named and not any(package_name(line) == "pip" for line in pip):
        # As conda and conda-lock do.
        conda.append("pip")
    return Wish(
        conda=tuple(conda),
        channels=tuple(_texts(table.get("channels") or [], "channels", path)),
        pip=tuple(pip),
        extra_indexes=tuple(_texts(table.get("pip-repositories") or [], "pip-repositories", path)),
        variables=_variables(table.get("variables") or {}, path),
        notes=tuple(notes),
        exported="prefix" in table,
        category=_category(table.get("category") or "main", path),
        platforms=tuple(_texts(table.get("platforms") or [], "platforms", path)),
    )


def _category(value: object, path: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        raise OrchError(f"{path}: category takes a name as main or dev, not {value!r}.")
    return value


def _python_env(path: str, table: Mapping[str, Any]) -> Wish:
    for key in table:
        if key not in _PYTHON_ENV_KEYS:
            raise OrchError(f"{path} has an unknown key {key!r}; it takes {', '.join(_PYTHON_ENV_KEYS)}.")
    python = table.get("python")
    if python is not None and not re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", str(python)):
        raise OrchError(f"{path}: python takes a version as 3.11 or 3.11.7, not {python!r}.")
    pip = [line for key in ("build_dependencies", "dependencies") for line in _texts(table.get(key) or [], key, path)]
    return Wish(
        conda=(f"python={python}" if python is not None else "python",),
        pip=tuple(pip),
        notes=() if python is not None else (f"{path} {NEWEST}.",),
    )


def _mapping(path: str, text: str) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        table = yaml.load(text, loader)  # noqa: S506 - both are safe loaders
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise OrchError(f"{path}{line}: not valid YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise OrchError(f"{path}: not valid YAML: {error}.") from error
    if table is None:
        raise OrchError(f"{path} is empty.")
    if not isinstance(table, dict):
        raise OrchError(f"{path} must be a mapping with the key `dependencies`.")
    return table


def _selected(text: str, platform: str) -> str:
    if "[" not in text or "#" not in text:
        return text
    from conda_lock.src_parser.selectors import filter_platform_selectors

    try:
        return "\n".join(filter_platform_selectors(text, platform))
    except KeyError:
        # A platform for which conda-lock knows no selectors.
        return text


def _texts(value: object, key: str, path: str) -> list[str]:
    if not isinstance(value, list):
        raise OrchError(f"{path}: {key} must be a list.")
    for item in value:
        if not isinstance(item, str):
            raise OrchError(f"{path}: {item!r} in {key} is not text; write it in quotes.")
    return [item.strip() for item in value if item.strip()]


def _variables(value: object, path: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise OrchError(f"{path}: variables must be a mapping of names to values.")
    for name in value:
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise OrchError(f"{path}: {name!r} can't be the name of an environment variable.")
    return {name: "" if item is None else str(item) for name, item in value.items()}
