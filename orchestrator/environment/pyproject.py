"""Reads pyproject.toml as conda-lock does: dependencies, and its own table `[tool.conda-lock]`. Runs in the worker."""

from __future__ import annotations

import json
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.environment.environment_file import Wish
from orchestrator.environment.pip_lock import PYPI_NAMES
from orchestrator.errors import OrchError

_TOOLS = ("conda-lock", "poetry", "pdm", "flit", "setuptools")


def read_pyproject(path: str, place: Path, platform: str, *, names: str) -> list[Wish]:
    """What the pyproject.toml at `place`, named `path`, asks for on `platform`: a wish for each category.

    `names` is the URL or file of the table that says which PyPI package has which name in conda (see `names_table`).
    Raises OrchError where conda-lock can't read it, and when its dependencies are known only to its build.
    """
    from conda_lock.src_parser.pyproject_toml import parse_pyproject_toml

    facts = pyproject_facts(path, place.read_bytes())
    if "dependencies" in facts["project"].get("dynamic", ()) and not _skipped(facts):
        raise OrchError(
            f"{path} leaves its dependencies to its build (`dynamic`), so they can't be read from it: write them in "
            "an environment.yml, with `- pip: [-e .]`."
        )
    if not _lists_any(facts):
        raise OrchError(f"{path} lists no dependencies: an environment needs `dependencies` in [project], or others.")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            asked = parse_pyproject_toml(place, platforms=[platform], mapping_url=names)
    except Exception as error:
        raise OrchError(f"{path} can't be read as conda-lock reads it: {type(error).__name__}: {error}.") from error
    notes = tuple(f"{path}: {warning.message}" for warning in said)
    wishes = []
    dependencies = asked.dependencies[platform]
    for category in sorted({item.category for item in dependencies} | {"main"}):
        some = [item for item in dependencies if item.category == category]
        conda = [_conda(item, path) for item in some if item.manager == "conda"]
        if category == "main" and not any(item.name == "python" for item in some):
            conda.insert(0, _python(facts))
        wishes.append(
            Wish(
                conda=tuple(conda),
                channels=tuple(channel.url for channel in asked.channels),
                pip=tuple(_pip(item, path) for item in some if item.manager == "pip"),
                extra_indexes=tuple(index.url for index in asked.pip_repositories),
                notes=notes if category == "main" else (),
                category=category,
                platforms=_platforms(facts, path),
            )
        )
    return wishes


def pyproject_facts(path: str, data: bytes) -> dict[str, Any]:
    """What of a pyproject.toml decides an environment: `{project, tool, build-system}`, each cut to what counts.

    Raises OrchError when it is not valid TOML.
    """
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OrchError(f"{path} is not valid TOML: {error}.") from error
    wanted = ("dependencies", "optional-dependencies", "requires-python", "dynamic")
    return {
        "project": _some(table.get("project"), wanted),
        "tool": _some(table.get("tool"), _TOOLS),
        "build-system": _some(table.get("build-system"), ("requires", "build-backend")),
    }


def names_table(scratch: Path, *, offline: bool) -> tuple[str, str | None]:
    """The table of PyPI's names in conda, for `read_pyproject`, and a note when it is only the small one.

    conda-lock's own is fetched, and kept, by conda-lock. Without it a package has the same name in both, but for
    those that orch knows.
    """
    from conda_lock.lookup import DEFAULT_MAPPING_URL, pypi_name_to_conda_name

    if not offline:
        try:
            pypi_name_to_conda_name("python", mapping_url=DEFAULT_MAPPING_URL)
        except Exception:  # noqa: S110 - of every kind: network, proxy, disk; what follows does without
            pass
        else:
            return DEFAULT_MAPPING_URL, None
    small = {pypi: {"conda_name": conda, "pypi_name": pypi} for conda, pypi in sorted(PYPI_NAMES.items(), reverse=True)}
    place = scratch / "pypi-names.json"
    place.write_text(json.dumps(small), "utf-8")
    return str(place), "conda-lock's table of PyPI names could not be had: names were taken to be the same in conda."


def _some(value: object, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value[key] for key in keys if key in value} if isinstance(value, dict) else {}


def _platforms(facts: Mapping[str, Any], path: str) -> tuple[str, ...]:
    named = facts["tool"].get("conda-lock", {}).get("platforms", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise OrchError(f"{path}: platforms of [tool.conda-lock] must be a list of names, as linux-64.")
    return tuple(named)


def _lists_any(facts: Mapping[str, Any]) -> bool:
    """Whether there is anything that conda-lock reads dependencies from."""
    return bool(
        "dependencies" in facts["project"]
        or facts["tool"].keys() & {"poetry", "flit", "pdm"}
        or "dependencies" in facts["tool"].get("conda-lock", {})
    )


def _skipped(facts: Mapping[str, Any]) -> bool:
    return bool(facts["tool"].get("conda-lock", {}).get("skip-non-conda-lock"))


def _python(facts: Mapping[str, Any]) -> str:
    # conda-lock leaves `requires-python` aside; then nothing holds the environment to a Python that the project takes.
    text = facts["project"].get("requires-python")
    return f"python {text.replace(' ', '')}" if isinstance(text, str) and text.strip() else "python"


def _conda(item: Any, path: str) -> str:
    if not hasattr(item, "version"):
        raise OrchError(f"{path}: {item.name} is named by its address, which only pip can take: give it source = pypi.")
    version = "" if item.version in ("", "*") else f" {item.version}"
    channel = f"{item.conda_channel}::" if item.conda_channel else ""
    return f"{channel}{item.name}{version or (' *' if item.build else '')}{f' {item.build}' if item.build else ''}"


def _pip(item: Any, path: str) -> str:
    # conda-lock has looked at what a marker says of the platform; what it says of Python, uv will.
    marker = f" ; {item.markers}" if item.markers else ""
    extras = f"[{','.join(item.extras)}]" if item.extras else ""
    if hasattr(item, "version"):
        version = "" if item.version in ("", "*") else _pep440(item.version)
        return f"{item.name}{extras}{version}{marker}"
    if hasattr(item, "vcs"):
        rev = f"@{item.rev}" if item.rev else ""
        below = f"#subdirectory={item.subdirectory}" if item.subdirectory else ""
        return f"{item.name}{extras} @ {item.vcs}+{item.source}{rev}{below}{marker}"
    if hasattr(item, "url"):
        return f"{item.name}{extras} @ {item.url}{marker}"
    raise OrchError(f"{path}: {item.name} is a path of this machine; an environment.yml can name it, as `- -e PATH`.")


def _pep440(version: str) -> str:
    # `1.2` alone, as conda has it, is an exact version to pip.
    return version if version[0] in "=<>!~" else f"=={version}"
