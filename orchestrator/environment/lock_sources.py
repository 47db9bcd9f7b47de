"""The files that a `conda-lock.yml` is made from, and the hash by which it says so. Runs in the worker."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.canonical import sha256_of
from orchestrator.environment.conda_lock_file import content_hash, content_hash_of, remembered_of, sources_of
from orchestrator.environment.environment_file import Wish, read_wish
from orchestrator.environment.merging import Part
from orchestrator.environment.pyproject import pyproject_facts, read_pyproject
from orchestrator.environment.request import VIRTUAL_PACKAGES, dynamic_files, kind_of_file
from orchestrator.environment.requirements import logical_lines, named_paths, parse_line, within
from orchestrator.environment.virtual import read_table
from orchestrator.errors import OrchError

MEMORY = "orch"
"""The key of what orch remembers in a lock."""


def read_parts(layout: Path, sources: Sequence[str], platform: str, *, names: str) -> list[Part]:
    """What the environment files `sources` (paths in the folder `layout`) ask for on a platform, file by file.

    `names` is the table of PyPI's names in conda that a pyproject.toml is read with. Raises OrchError.
    """
    parts = []
    for path in sources:
        place = layout / path
        if is_pyproject(path):
            parts += [Part(path, wish) for wish in read_pyproject(path, place, platform, names=names)]
        else:
            data = place.read_bytes()
            parts.append(
                Part(path, read_wish(kind_of_file(path, data.decode("utf-8", "replace")), path, data, platform))
            )
    return parts


def is_pyproject(path: str) -> bool:
    """Whether a source is read as a pyproject.toml."""
    return posixpath.basename(path) == "pyproject.toml"


def sources_in(table: Mapping[str, Any], lock: str) -> list[str]:
    """The files that the lock at `lock` says it was made from, as paths in the repository; none from outside of it."""
    base = posixpath.dirname(lock)
    paths = [posixpath.normpath(posixpath.join(base, name)) for name in sources_of(table)]
    return [path for path in paths if not path.startswith(("/", "../")) and path != ".."]


def matches(table: Mapping[str, Any], *, layout: Path, lock: str, sources: Sequence[str], platform: str) -> bool:
    """Whether a lock was made for a platform from `sources` (paths in `layout`) as they are.

    A lock of orch has a hash of what they say. Of another one conda-lock's content hash counts, which passes over
    `-e` lines and all but one line of a package.
    """
    try:
        said = said_by(layout, lock, sources, platform)
    except (OrchError, OSError):
        return False
    inputs = memory_of(table).get("inputs")
    if isinstance(inputs, dict) and platform in inputs:
        return bool(inputs[platform] == said)
    has = content_hash_of(table, platform)
    return has is not None and (has == said or has == _of_conda_lock(layout, lock, sources, platform))


def new_content_hash(layout: Path, lock: str, sources: Sequence[str], platform: str) -> str:
    """The content hash of a lock that is made now: conda-lock's, where it reads all of the sources, else orch's own.

    Of a pyproject.toml, conda-lock's depends on its table of names, which is not the same at every time.
    """
    theirs = None if any(map(is_pyproject, sources)) else _of_conda_lock(layout, lock, sources, platform)
    return theirs or said_by(layout, lock, sources, platform)


def said_by(layout: Path, lock: str, sources: Sequence[str], platform: str) -> str:
    """A hash of what the sources say for a platform. Raises OrchError, or OSError, when one is not there or sound."""
    said = [_said(layout, path, _kind(layout, path), platform) for path in sources]
    beside = layout / posixpath.dirname(lock) / VIRTUAL_PACKAGES
    if beside.is_file():
        said.append([read_table(beside.name, beside.read_bytes()).get(platform, {})])
    return sha256_of(said)


def memory_of(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """What orch wrote into a lock for itself: `as_of`, `cuda`, `virtual_packages`, and `inputs` by platform."""
    try:
        value = json.loads(remembered_of(table, MEMORY) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _of_conda_lock(layout: Path, lock: str, sources: Sequence[str], platform: str) -> str | None:
    if not {_kind(layout, path) for path in sources} <= {"conda", "pyproject"}:
        return None
    base = posixpath.dirname(lock)
    return content_hash(layout, lock, [posixpath.relpath(path, base or ".") for path in sources], platform)


def _kind(layout: Path, path: str) -> str:
    if is_pyproject(path):
        return "pyproject"
    return kind_of_file(path, (layout / path).read_text("utf-8", "replace"))


def _said(layout: Path, path: str, kind: str, platform: str) -> list[Any]:
    """What a source says, without its comments and what has no say in an environment."""
    data = (layout / path).read_bytes()
    if kind == "pyproject":
        return [pyproject_facts(path, data)]
    wish = read_wish(kind, path, data, platform)
    return [wish.conda, wish.channels, wish.extra_indexes, wish.category, _followed(layout, path, wish)]


def _followed(layout: Path, path: str, wish: Wish) -> list[Any]:
    """The pip lines, with the lines of the files that they name, and what the projects of `.` lines declare."""
    found: list[Any] = []
    seen: set[str] = set()
    todo = [(path, list(wish.pip))]
    while todo:
        origin, lines = todo.pop()
        found.append(lines)
        for what, name in named_paths(map(parse_line, lines)):
            if what in ("file", "constraints"):
                inner = within(posixpath.dirname(origin), name, origin)
                if inner not in seen and (layout / inner).is_file():
                    seen.add(inner)
                    todo.append((inner, list(logical_lines((layout / inner).read_text("utf-8", "replace")))))
            else:
                found.append(_declared(layout, within(posixpath.dirname(path), name, origin)))
    return found


def _declared(layout: Path, folder: str) -> Mapping[str, Any]:
    place = layout / folder
    if place.is_file():
        return {"archive": hashlib.sha256(place.read_bytes()).hexdigest()}
    found: dict[str, Any] = {}
    for name in ("pyproject.toml", "setup.cfg", "setup.py"):
        if (place / name).is_file():
            data = (place / name).read_bytes()
            facts = pyproject_facts(name, data) if name == "pyproject.toml" else hashlib.sha256(data).hexdigest()
            found[name] = facts
    for name in dynamic_files((place / "pyproject.toml").read_bytes() if "pyproject.toml" in found else b""):
        if (layout / within(folder, name, "pyproject.toml")).is_file():
            found[name] = hashlib.sha256((layout / within(folder, name, "pyproject.toml")).read_bytes()).hexdigest()
    return found
