"""Gathers what a project says about its environment, from a commit, without reading YAML.

A warm run goes through here, so only lines are looked at. Naming a file too many costs nothing but a lock made anew.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Protocol

from orchestrator.environment.host import current_subdir
from orchestrator.environment.lock import EnvironmentRequest, Kind
from orchestrator.environment.requirements import Line, named_paths, parse_line, parse_lines, within
from orchestrator.errors import OrchError
from orchestrator.model import Source

_PROJECT_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
_PIP_SECTION = re.compile(r"(?P<indent>\s*)-\s+[\"']?pip[\"']?\s*:\s*(?P<rest>[^\s#].*)?")
_FLOW_PIP = re.compile(r"[{,]\s*[\"']?pip[\"']?\s*:")
_ITEM = re.compile(r"(?P<indent>\s*)-\s+(?P<text>\S.*)")


class Tree(Protocol):
    """The files of a commit, by POSIX path from its root."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None when there is none of that name."""

    def names(self, directory: str) -> tuple[str, ...]:
        """The names in a directory ("" for the root); () when there is none."""


def environment_request(kind: Kind, path: str, tree: Tree, source: Source) -> EnvironmentRequest:
    """What the environment file at `path` in the commit asks for, with every other file that has a say.

    Raises OrchError when a file that it names is not in the commit, or lies outside of it.
    """
    if kind == "none":
        return EnvironmentRequest(kind, "", {}, source.tree, current_subdir())
    files = {path: _read(tree, path, "")}
    base = posixpath.dirname(path)
    projects: list[str] = []
    editable: list[str] = []
    todo = [(path, list(_lines(kind, files[path].decode("utf-8", "replace"))))]
    while todo:
        origin, lines = todo.pop()
        # pip takes `-r` from the naming file's folder, and projects from where it runs: the environment file's.
        for what, name in named_paths(lines):
            if what in ("file", "constraints"):
                inner = within(posixpath.dirname(origin), name, origin)
                if inner not in files:
                    files[inner] = _read(tree, inner, origin)
                    todo.append((inner, list(parse_lines(files[inner].decode("utf-8", "replace")))))
                continue
            place = within(base, name, origin)
            if what == "local" and (archive := tree.read(place)) is not None:
                files[place] = archive
                continue
            (editable if what == "editable" else projects).append(place)
            files |= _project_files(tree, place, origin)
    if kind == "conda":
        files |= _lock_beside(tree, base)
    return EnvironmentRequest(
        kind=kind,
        path=path,
        files=dict(sorted(files.items())),
        tree=source.tree,
        subdir=source.subdir,
        projects=tuple(dict.fromkeys(projects)),
        editable=tuple(dict.fromkeys(editable)),
        paths=tuple(dict.fromkeys(_import_path(tree, place, files) for place in editable)),
    )


def _read(tree: Tree, path: str, origin: str) -> bytes:
    data = tree.read(path)
    if data is None:
        named = f", which {origin} names," if origin else ""
        raise OrchError(f"the file {path}{named} is not in the commit.")
    return data


def _lines(kind: Kind, text: str) -> Iterator[Line]:
    if kind == "requirements":
        yield from parse_lines(text)
    elif kind == "python_env":
        for line in text.splitlines():
            if (match := _ITEM.fullmatch(line)) is not None:
                yield parse_line(_plain(match["text"]))
    elif kind == "conda":
        yield from map(parse_line, _pip_items(text))


def _pip_items(text: str) -> Iterator[str]:
    if _FLOW_PIP.search(text) is not None:
        yield from _pip_items_of_yaml(text)
        return
    inside: int | None = None
    for line in text.splitlines():
        if (section := _PIP_SECTION.fullmatch(line)) is not None:
            if section["rest"] is not None:
                # Not the usual form (`pip: [a, b]`, an anchor): rare enough to let YAML say what it means.
                yield from _pip_items_of_yaml(text)
                return
            inside = len(section["indent"])
        elif inside is not None and (item := _ITEM.fullmatch(line)) is not None:
            if len(item["indent"]) <= inside:
                inside = None
            else:
                yield _plain(item["text"])


def _pip_items_of_yaml(text: str) -> Iterator[str]:
    import yaml

    try:
        table = yaml.safe_load(text)
        dependencies = table["dependencies"]
    except (yaml.YAMLError, KeyError, TypeError):
        return
    for item in dependencies or ():
        if isinstance(item, dict):
            yield from (text for text in item.get("pip") or () if isinstance(text, str))


def _plain(item: str) -> str:
    for quote in "\"'":
        if item.startswith(quote) and (end := item.find(quote, 1)) > 0:
            return item[1:end]
    return re.sub(r"\s#.*$", "", item).strip()


def _project_files(tree: Tree, place: str, origin: str) -> dict[str, bytes]:
    found = {
        posixpath.join(place, name): data
        for name in _PROJECT_FILES
        if (data := tree.read(posixpath.join(place, name))) is not None
    }
    if not found:
        raise OrchError(
            f"{origin} installs the project in {place or 'the root of the repository'}, "
            "but there is no pyproject.toml, setup.cfg or setup.py."
        )
    return found


def _import_path(tree: Tree, place: str, files: dict[str, bytes]) -> str:
    where = _declared_root(files, place)
    if where is None:
        # The src layout, as setuptools and its peers find it by themselves.
        source = posixpath.join(place, "src")
        where = "src" if any(not name.startswith(".") for name in tree.names(source)) else ""
    return posixpath.normpath(posixpath.join(place, where)) if place or where else ""


def _declared_root(files: dict[str, bytes], place: str) -> str | None:
    data = files.get(posixpath.join(place, "pyproject.toml"))
    if data is None:
        return None
    import tomllib

    try:
        tool = tomllib.loads(data.decode("utf-8")).get("tool", {})
        setuptools = tool.get("setuptools", {})
        packages = setuptools.get("packages", {})
        if isinstance(packages, dict) and "where" in packages.get("find", {}):
            return str(packages["find"]["where"][0]).strip("./")
        if "" in setuptools.get("package-dir", {}):
            return str(setuptools["package-dir"][""]).strip("./")
        for package in tool.get("poetry", {}).get("packages", ()):
            if "from" in package:
                return str(package["from"]).strip("./")
        for package in tool.get("hatch", {}).get("build", {}).get("targets", {}).get("wheel", {}).get("packages", ()):
            return posixpath.dirname(str(package).strip("./"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, TypeError, IndexError):
        pass
    return None


def _lock_beside(tree: Tree, base: str) -> dict[str, bytes]:
    path = posixpath.join(base, "conda-lock.yml")
    data = tree.read(path)
    if data is None:
        return {}
    found = {path: data}
    # What else conda-lock may have made it from counts in its content hash.
    for name in ("virtual-packages.yml", *_sources(data.decode("utf-8", "replace"))):
        place = posixpath.normpath(posixpath.join(base, name))
        if not place.startswith(("../", "/")) and (extra := tree.read(place)) is not None:
            found[place] = extra
    return found


def _sources(lock: str) -> Iterator[str]:
    inside = False
    for line in lock.splitlines()[:2000]:
        if line.startswith("package:"):
            return
        if line.strip() == "sources:":
            inside = True
        elif inside:
            item = _ITEM.fullmatch(line)
            if item is None:
                return
            yield _plain(item["text"])
