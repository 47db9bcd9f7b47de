"""The files that a `conda-lock.yml` is made from, and the hash by which it says so. Runs in the worker."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.canonical import sha256_of
from orchestrator.environment.conda_lock_file import content_hash
from orchestrator.environment.environment_file import Wish, read_wish
from orchestrator.environment.merging import Part
from orchestrator.environment.pyproject import pyproject_facts, read_pyproject
from orchestrator.environment.request import kind_of_file
from orchestrator.environment.requirements import logical_lines, named_paths, parse_line, within
from orchestrator.errors import OrchError


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


def no_names(folder: Path) -> str:
    """An empty table of names for `read_parts`, where the names of a pyproject.toml's packages are of no matter."""
    place = folder / ".no-names.json"
    place.write_text("{}", "utf-8")
    return str(place)


def is_pyproject(path: str) -> bool:
    """Whether a source is read as a pyproject.toml."""
    return posixpath.basename(path) == "pyproject.toml"


def content_hashes(layout: Path, lock: str, sources: Sequence[str], platform: str) -> tuple[str, ...]:
    """The content hashes that a lock at `lock`, made from `sources` (paths in `layout`), may have for a platform.

    conda-lock's own comes first, where it reads such sources as orch does: environment files, with pip lines that it
    knows. The other one is a hash of what they say. The first is what a new lock gets. () when a source is not there
    or is not sound.
    """
    if not all((layout / path).is_file() for path in sources):
        return ()
    try:
        kinds = {path: _kind(layout, path) for path in sources}
        said = sha256_of([_said(layout, path, kind, platform) for path, kind in kinds.items()])
    except OrchError:
        return ()
    theirs = None
    if set(kinds.values()) <= {"conda", "pyproject"}:
        base = posixpath.dirname(lock)
        names = [posixpath.relpath(path, base or ".") for path in sources]
        theirs = content_hash(layout, lock, names, platform)
    # Of a pyproject.toml, conda-lock's depends on its table of names, which is not here at every time.
    found = (said, theirs) if "pyproject" in kinds.values() else (theirs, said)
    return tuple(digest for digest in found if digest is not None)


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
    return found
