"""Gathers what a project says about its environment, from a commit, without reading YAML.

A warm run goes through here, so only lines are looked at. Naming a file too many costs nothing but a lock made anew.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from orchestrator.environment.host import current_subdir
from orchestrator.environment.lock import EnvironmentRequest, Kind
from orchestrator.environment.requirements import Line, named_paths, parse_line, parse_lines, within
from orchestrator.errors import OrchError
from orchestrator.model import Source

LOCK_FILE = "conda-lock.yml"
VIRTUAL_PACKAGES = "virtual-packages.yml"
"""Beside a lock, the virtual packages that it is made for, as conda-lock has them."""

_PROJECT_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
_PIP_SECTION = re.compile(r"(?P<indent>\s*)-\s+[\"']?pip[\"']?\s*:\s*(?P<rest>[^\s#].*)?")
_FLOW_PIP = re.compile(r"[{,]\s*[\"']?pip[\"']?\s*:")
_FLOW_LIST = re.compile(r"^(build_)?dependencies:[ \t]*[^\s#]", re.MULTILINE)
_KEY = re.compile(r"^([A-Za-z_-]+)[ \t]*:", re.MULTILINE)
_ITEM = re.compile(r"(?P<indent>\s*)-\s+(?P<text>\S.*)")


def kind_of_file(path: str, text: str) -> Kind:
    """What a file is, by its name, else by its first keys, without reading YAML. Raises OrchError for another one."""
    name = posixpath.basename(path).lower()
    if name == "mlproject" or name.endswith(".toml"):
        raise OrchError(f"{path} is no environment file; name the folder of the project: {posixpath.dirname(path)}.")
    if name.endswith(".txt"):
        return "requirements"
    keys = {match[1] for match in _KEY.finditer(text)}
    if {"metadata", "package"} <= keys:
        return "conda-lock"
    if name in ("python_env.yaml", "python_env.yml") or keys & {"python", "build_dependencies"}:
        return "python_env"
    if keys & {"dependencies", "channels"}:
        return "conda"
    raise OrchError(
        f"{path} is no environment file: it has no dependencies; an environment.yml, python_env.yaml, "
        "requirements.txt or conda-lock.yml is one."
    )


class Tree(Protocol):
    """The files of a commit, by POSIX path from its root."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None when there is none of that name."""

    def names(self, directory: str) -> tuple[str, ...]:
        """The names in a directory ("" for the root); () when there is none."""


def environment_request(kind: Kind, path: str, tree: Tree, source: Source) -> EnvironmentRequest:
    """What the environment file at `path` in the commit asks for, with every other file that has a say.

    Raises OrchError when a file that it names is not there, or lies outside of the commit or folder.
    """
    if kind == "none":
        return EnvironmentRequest(kind, "", {}, source.tree, current_subdir())
    asked = _asked(kind, path, tree, source)
    lock = path if kind == "conda-lock" else posixpath.join(posixpath.dirname(path), LOCK_FILE)
    others = [] if tree.read(lock) is None else _sources_of_lock(lock, tree, source)
    files = {**asked.files, **_lock_beside(lock, tree)}
    for other in others:
        files |= other.files
    # What the lock leaves to the files it was made from, the projects, is taken from all of them.
    of_lock = kind == "conda-lock" or path in [other.path for other in others]
    named = [asked, *others] if of_lock else [asked]
    return replace(
        asked,
        files=dict(sorted(files.items())),
        projects=tuple(dict.fromkeys(place for some in named for place in some.projects)),
        editable=tuple(dict.fromkeys(place for some in named for place in some.editable)),
        paths=tuple(dict.fromkeys(place for some in named for place in some.paths)),
    )


def _asked(kind: Kind, path: str, tree: Tree, source: Source) -> EnvironmentRequest:
    """What one environment file asks for, with the files that it names."""
    missing = "not in the commit" if source.commit else "not there"
    files = {path: _read(tree, path, "", missing)}
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
                    files[inner] = _read(tree, inner, origin, missing)
                    todo.append((inner, list(parse_lines(files[inner].decode("utf-8", "replace")))))
                continue
            place = within(base, name, origin)
            if what == "local" and (archive := tree.read(place)) is not None:
                files[place] = archive
                continue
            (editable if what == "editable" else projects).append(place)
            files |= _project_files(tree, place, origin)
    return EnvironmentRequest(
        kind=kind,
        path=path,
        files=files,
        tree=source.tree,
        subdir=source.subdir,
        projects=tuple(projects),
        editable=tuple(editable),
        paths=tuple(_import_path(tree, place, files) for place in editable),
    )


def _read(tree: Tree, path: str, origin: str, missing: str) -> bytes:
    data = tree.read(path)
    if data is None:
        named = f", which {origin} names," if origin else ""
        raise OrchError(f"the file {path}{named} is {missing}.")
    return data


def _lines(kind: Kind, text: str) -> Iterator[Line]:
    if kind == "requirements":
        yield from parse_lines(text)
    elif kind == "python_env" and _FLOW_LIST.search(text) is not None:
        yield from map(parse_line, _items_of_yaml(text))
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


def _items_of_yaml(text: str) -> Iterator[str]:
    import yaml

    try:
        table = yaml.safe_load(text)
        lists = [table.get(key) for key in ("build_dependencies", "dependencies")]
    except (yaml.YAMLError, AttributeError):
        return
    yield from (item for some in lists if isinstance(some, list) for item in some if isinstance(item, str))


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
    for name in dynamic_files(found.get(posixpath.join(place, "pyproject.toml"), b"")):
        inner = posixpath.normpath(posixpath.join(place, name))
        if not inner.startswith(("../", "/")) and (data := tree.read(inner)) is not None:
            found[inner] = data
    if not found:
        raise OrchError(
            f"{origin} installs the project in {place or 'the root of the repository'}, "
            "but there is no pyproject.toml, setup.cfg or setup.py."
        )
    return found


def dynamic_files(pyproject: bytes) -> Iterator[str]:
    """The files that setuptools takes a project's dependencies from, relative to the project."""
    if b"dynamic" not in pyproject:
        return
    import tomllib

    try:
        dynamic = tomllib.loads(pyproject.decode("utf-8"))["tool"]["setuptools"]["dynamic"]
        for key in ("dependencies", "optional-dependencies"):
            tables = [dynamic.get(key, {}), *dynamic.get(key, {}).values()]
            for named in [table["file"] for table in tables if isinstance(table, dict) and "file" in table]:
                yield from [named] if isinstance(named, str) else map(str, named)
    except (ValueError, KeyError, TypeError, AttributeError):
        return


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


def _lock_beside(lock: str, tree: Tree) -> dict[str, bytes]:
    # The virtual packages count in conda-lock's content hash.
    places = (lock, posixpath.join(posixpath.dirname(lock), VIRTUAL_PACKAGES))
    found = {place: data for place in places if (data := tree.read(place)) is not None}
    return found if lock in found else {}


def _sources_of_lock(lock: str, tree: Tree, source: Source) -> list[EnvironmentRequest]:
    """What the files ask for that a lock says it was made from, as far as they are there; of one that is not sound or
    no environment file, its bytes.
    """
    found = []
    for name in sources_named(tree.read(lock) or b""):
        place = posixpath.normpath(posixpath.join(posixpath.dirname(lock), name))
        data = None if place.startswith(("../", "/")) else tree.read(place)
        if data is None or place == lock:
            continue
        try:
            found.append(_asked(kind_of_file(place, data.decode("utf-8", "replace")), place, tree, source))
        except OrchError:
            found.append(EnvironmentRequest("other", place, {place: data}, source.tree, source.subdir))
    return found


def sources_named(lock: bytes) -> Iterator[str]:
    """The files that a `conda-lock.yml` says it was made from, relative to it; without reading YAML."""
    inside = False
    for line in lock.decode("utf-8", "replace").splitlines()[:2000]:
        if line.startswith("package:"):
            return
        if line.strip() == "sources:":
            inside = True
        elif inside:
            item = _ITEM.fullmatch(line)
            if item is None:
                return
            yield _plain(item["text"])
