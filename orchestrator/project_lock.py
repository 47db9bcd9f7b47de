"""`orch env lock`: the `conda-lock.yml` of environment files of this machine, made for every platform, or checked."""

from __future__ import annotations

import os
import posixpath
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import project, source
from orchestrator.environment.folder import LocalFolder
from orchestrator.environment.host import virtual_packages
from orchestrator.environment.lock import EnvironmentRequest
from orchestrator.environment.request import (
    LOCK_FILE,
    VIRTUAL_PACKAGES,
    environment_request,
    kind_of_file,
    sources_named,
)
from orchestrator.environment.worker import run_job
from orchestrator.errors import OrchError, UsageError
from orchestrator.model import Source
from orchestrator.paths import Home
from orchestrator.report import Report

_ENVIRONMENTS = "an environment.yml, pyproject.toml, python_env.yaml or requirements.txt"
_LAST = ("python_env.yaml", "requirements.txt", "pyproject.toml")
"""Looked for in a folder whose project names no environment file."""


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What to lock. `sources` are folders or files, none for the folder here. `output` is the lock, if not beside them.

    `as_of` is RFC 3339. `virtual_packages` are versions by platform ("" for all) and name. `update` are packages that
    are to move, while all others stay as the lock that is there has them.
    """

    sources: tuple[Path, ...]
    platforms: tuple[str, ...] = ()
    virtual_packages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    cuda: str | None = None
    as_of: str | None = None
    update: tuple[str, ...] = ()
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A package that is another one than in the lock before; None where there is none."""

    name: str
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class LockFile:
    """A made lock: where it belongs, its text, how many packages each platform has, and what changed on it."""

    path: Path
    text: str
    platforms: Mapping[str, int]
    changes: Mapping[str, tuple[Change, ...]]
    notes: tuple[str, ...]
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Files:
    """Everything that has a say, by path from `root`; `lock` is where the lock belongs."""

    root: Path
    sources: tuple[str, ...]
    lock: str
    by_path: Mapping[str, bytes]
    has_projects: bool


def lock_file(request: LockRequest, *, home: Home, report: Report) -> LockFile:
    """Solve for every platform. Nothing is written. Raises OrchError with what all platforms have against it."""
    files = _gathered(request)
    if files.has_projects:
        taken = source.resolve_source(str(files.root), None, home=home, report=report).source
        with source.checkout_aside(taken, home=home) as checkout:
            answer = run_job("lock-file", _job(request, files, checkout(), home), home=home, report=report)
    else:
        answer = run_job("lock-file", _job(request, files, None, home), home=home, report=report)
    return LockFile(
        path=files.root / files.lock,
        text=answer["text"],
        platforms=answer["platforms"],
        changes={platform: tuple(Change(*row) for row in rows) for platform, rows in answer["changes"].items()},
        notes=tuple(answer["notes"]),
        is_new=files.lock not in files.by_path,
    )


def reasons_against(request: LockRequest, *, home: Home, report: Report) -> tuple[Path, tuple[str, ...]]:
    """Where the lock is, and why it does not match its sources; () when it does. No channel is asked."""
    files = _gathered(request)
    job = {**_job(request, files, None, home), "check": True}
    return files.root / files.lock, tuple(run_job("lock-file", job, home=home, report=report)["reasons"])


def _job(request: LockRequest, files: _Files, checkout: Path | None, home: Home) -> dict[str, object]:
    return {
        "sources": list(files.sources),
        "lock": files.lock,
        "files": {path: b64encode(data).decode() for path, data in files.by_path.items()},
        "checkout": None if checkout is None else str(checkout),
        "platforms": list(request.platforms),
        "virtual_packages": request.virtual_packages,
        "as_of": request.as_of,
        "cuda": request.cuda,
        "update": list(request.update),
        "check": False,
        "host": list(virtual_packages(home)),
    }


# --- the files --------------------------------------------------------------------------------------------------


def _gathered(request: LockRequest) -> _Files:
    given = request.sources or (Path(),)
    for path in given:
        if not path.exists():
            raise UsageError(f"there is no {path}; orch env lock takes a folder, or {_ENVIRONMENTS}, of this machine.")
    named = [_environment_file(path) if path.is_dir() else path.resolve() for path in given]
    root = _root([*named, *([request.output.resolve()] if request.output else [])])
    tree = LocalFolder(root)
    sources = list(dict.fromkeys(path.relative_to(root).as_posix() for path in named))
    place = (request.output or named[0].parent / LOCK_FILE).resolve()
    if place in named:
        raise UsageError(f"{request.output or place.name} is one of the sources; a lock is another file.")
    if not place.is_relative_to(root):
        raise OrchError(f"{named[0].parent / LOCK_FILE} is a link out of {root}: nothing is written through it.")
    lock = place.relative_to(root).as_posix()
    old = place.read_bytes() if place.is_file() else None
    if old is not None and len(given) == 1 and given[0].is_dir():
        sources = _sources_of(old, lock, tree, sources)
    asked = [_asked(path, tree) for path in sources]
    beside = posixpath.join(posixpath.dirname(lock), VIRTUAL_PACKAGES)
    by_path = {path: data for some in asked for path, data in some.files.items() if path != lock}
    by_path |= {beside: data} if (data := tree.read(beside)) is not None else {}
    by_path |= {lock: old} if old is not None else {}
    has_projects = any(some.projects or some.editable for some in asked)
    return _Files(root, tuple(sources), lock, by_path, has_projects)


def _root(named: Sequence[Path]) -> Path:
    """The repository of the first file, or the folder that all files have in common. `named` are whole paths."""
    first = named[0].parent
    common = Path(os.path.commonpath([path.parent for path in named]))
    root = next((folder for folder in (first, *first.parents) if (folder / ".git").exists()), common)
    for path in named:
        if not path.is_relative_to(root):
            raise UsageError(
                f"{path} is outside of the repository {root}: a lock is made from files of one repository."
            )
    return root


def _environment_file(folder: Path) -> Path:
    """The environment file of the project in a folder; where a lock stands for it, what that was made from."""
    tree = LocalFolder(folder)
    found = project.read_project(tree, "").environment
    names = [found.path] if found.kind not in ("none", "conda-lock") else []
    if found.kind == "conda-lock":
        names += sources_named(tree.read(found.path) or b"")
    for name in (*names, *_LAST):
        if tree.read(name) is not None:
            return (folder / name).resolve()
    raise UsageError(f"{folder} has nothing to lock: {_ENVIRONMENTS} is needed.")


def _sources_of(lock_data: bytes, lock: str, tree: LocalFolder, found: list[str]) -> list[str]:
    """The files that the lock which is there was made from, when the project's own is one of them."""
    base = posixpath.dirname(lock)
    named = [posixpath.normpath(posixpath.join(base, name)) for name in sources_named(lock_data)]
    whole = all(tree.read(path) is not None for path in named)
    return named if whole and found[0] in named else found


def _asked(path: str, tree: LocalFolder) -> EnvironmentRequest:
    data = tree.read(path) or b""
    if posixpath.basename(path) == "pyproject.toml":
        return EnvironmentRequest("other", path, {path: data}, "", "")
    try:
        kind = kind_of_file(path, data.decode("utf-8", "replace"))
    except OrchError as error:
        raise UsageError(str(error)) from error
    if kind == "conda-lock":
        raise UsageError(f"{path} is a lock itself; name what it was made from: {_ENVIRONMENTS}.")
    return environment_request(kind, path, tree, Source(url="", commit="", tree="", commit_time=0))
