"""What an environment is made from, and the lock that it is pinned to: found again without solving.

A lock is a folder `locks/<lock id>`: `conda-lock.yml` (conda-lock's unified format, version 1) and `packages.json`
(the same packages for one platform, quick to read). The packages of a lock never change; a solve may
write anew where they come from. What a lock was made from is an index beside them: `locks/by-source/<key>.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.canonical import sha256_of
from orchestrator.environment.config import read_settings
from orchestrator.environment.host import current_subdir, virtual_packages
from orchestrator.errors import OrchError
from orchestrator.files import write_whole
from orchestrator.paths import Home
from orchestrator.report import Report, silent

Kind = Literal["conda", "python_env", "requirements", "conda-lock", "none", "other"]
"""The forms in which a project describes its environment; `other` is a source of a lock that nothing else is read from,
as pyproject.toml."""

LOCK_VERSION = 1
"""Version of `packages.json` and of the index. A change of how locks are made raises it, and they are made anew."""


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """What a project says about its environment: bytes of a commit, and nothing else.

    `path` is the environment file ("" for kind `none`). `files` holds every file that has a say, by its path in the
    commit: the environment file, requirement files it names, a `conda-lock.yml` beside it, the project files of `.`
    and `-e .`. `tree` names the commit's tree, from which `.` is built. `projects` are the directories of `.` lines,
    `editable` those of `-e .` lines, `paths` what the latter put on the import path.

    What the user adds: with `as_of` (RFC 3339, UTC) only packages that existed then are let in, and a lock of the
    project's own is passed over; `cuda` is the version to solve for in place of this machine's; `allow_unhashed` takes
    a lock that lacks hashes, and for them what channels and indexes say now.
    """

    kind: Kind
    path: str
    files: Mapping[str, bytes]
    tree: str
    subdir: str
    projects: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    as_of: str | None = None
    cuda: str | None = None
    allow_unhashed: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """A locked environment. `lock_id` is 64 hex digits; `packages` counts them.

    `variables` are those of the environment file; `paths` are directories of the checkout for the import path;
    `notes` are sentences for people; `solved` tells that this call made the lock. `others` are the lock ids for other
    platforms that came with it (a project's own lock may have several), by platform.
    """

    lock_id: str
    platform: str
    packages: int
    variables: Mapping[str, str]
    paths: tuple[str, ...]
    notes: tuple[str, ...]
    solved: bool
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package of a lock. `size` is in bytes. `subdir` and `channel` (a URL) are conda's.

    `url` is where it came from, without credentials. For a wheel that was built here (from a source archive, a git
    commit or `.`) it is the source's; the wheel itself is kept in `kept_wheel(home, sha256, file_name)`.
    `source_sha256` is then that of the archive at `url`, where it is one. `site_packages` is where a Python other than
    the usual keeps its packages. `noarch` is the kind of a conda package for every platform.

    `manager`, `file_name` and `sha256` are the package's identity. The rest follows from them or is what a channel,
    or the package itself, says; nothing but `url` is taken on trust from a lock that a project brings, since projects
    share what is kept under one identity.
    """

    manager: Literal["conda", "pip"]
    name: str
    version: str
    build: str | None
    url: str
    file_name: str
    sha256: str
    md5: str | None = None
    size: int | None = None
    subdir: str | None = None
    channel: str | None = None
    depends: tuple[str, ...] = field(default=())
    site_packages: str | None = None
    source_sha256: str | None = None
    noarch: Literal["python", "generic"] | None = None
    constrains: tuple[str, ...] = ()
    license: str | None = None
    timestamp: int | None = None
    """When it was built (conda) or uploaded (pip), in milliseconds since the epoch, where that is known."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock as `read_lock` finds it: its packages, and what the last solve that came to them was asked.

    `channels` are as the environment file names them, without credentials; `virtual_packages` (`name=version=build`)
    and `as_of` (RFC 3339) are what was solved for; `conda` and `pip` are the specs as asked. All are () or None where
    nobody knows, as for a lock that a project brings without the files it was made from. `solved` tells whether a
    solve on this machine made it; else a project brought it.
    """

    lock_id: str
    platform: str
    packages: tuple[LockedPackage, ...]
    solved: bool = False
    channels: tuple[str, ...] = ()
    virtual_packages: tuple[str, ...] = ()
    as_of: str | None = None
    conda: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()


def resolve_environment(
    request: EnvironmentRequest,
    *,
    home: Home,
    platform: str | None = None,
    relock: bool = False,
    report: Report = silent,
    build_source: Callable[[], Path] | None = None,
) -> Environment:
    """The locked environment for a request, solved only when no lock was made from the same before.

    `platform` is the running one unless it is given; another one is solved with the virtual packages that conda-lock
    supposes there. With `relock` it is solved again. `build_source` gives a directory with the checkout, which may be
    written to; it is called only when a project of the checkout (`.`, `-e .`) must be built or asked for its
    dependencies. Many processes that ask for the same solve once. Raises OrchError when the environment can't be had.
    """
    platform = platform or current_subdir()
    try:
        key = _key(request, platform, home)
        index = home.lock_index / f"{key}.json"
        if not relock and (found := _found(index, home)) is not None:
            return found
        with _only_one(index, report):
            if not relock and (found := _found(index, home)) is not None:
                return found
            return _locked(request, platform, index, home=home, relock=relock, report=report, build_source=build_source)
    except OSError as error:
        from orchestrator.environment.space import is_full, no_space

        if is_full(error):
            raise OrchError(no_space(home, "lock")) from error
        where = f" ({error.filename})" if error.filename else ""
        raise OrchError(f"the environment can't be locked in {home.root}: {error.strerror or error}{where}.") from error


def lock_ids(home: Home) -> list[str]:
    """The ids of all locks, sorted."""
    found = home.locks.iterdir() if home.locks.is_dir() else ()
    return sorted(path.name for path in found if re.fullmatch(r"[0-9a-f]{64}", path.name))


def lock_path(home: Home, lock_id: str) -> Path:
    """The `conda-lock.yml` of a lock."""
    return home.locks / lock_id / "conda-lock.yml"


def kept_wheel(home: Home, sha256: str, file_name: str) -> Path:
    """Where a wheel is kept that no index has: built here, or read from a folder."""
    return home.wheels / sha256 / file_name


def locked_packages(home: Home, lock_id: str) -> tuple[LockedPackage, ...]:
    """The packages of a lock, sorted by manager and name. Raises OrchError when the lock is not there or damaged."""
    return read_lock(home, lock_id).packages


def read_lock(home: Home, lock_id: str, platform: str | None = None) -> Lock:
    """A lock with all that is known of it. Raises OrchError when it is not there or damaged.

    `platform` is the one it is wanted for: packages that are of no platform alone are one lock for all of them, which
    itself can only tell the last.
    """
    path = home.locks / lock_id / "packages.json"
    try:
        table = json.loads(path.read_bytes())
        if table["version"] != LOCK_VERSION:
            raise OrchError(f"{path} has version {table['version']}; this orch knows version {LOCK_VERSION}.")
        asked = {key: tuple(table.get(key, ())) for key in ("channels", "virtual_packages", "conda", "pip")}
        packages = tuple(_package(row) for row in table["packages"])
        solved, as_of = table.get("solved", False), table.get("as_of")
        return Lock(lock_id, platform or table["platform"], packages, solved=solved, as_of=as_of, **asked)
    except FileNotFoundError:
        raise OrchError(f"the environment {lock_id} has no lock in {home.locks}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise OrchError(f"{path} is damaged: {error}.") from error


def _package(row: Mapping[str, Any]) -> LockedPackage:
    lists = {key: tuple(row.get(key, ())) for key in ("depends", "constrains")}
    return LockedPackage(**{**row, **lists})


def lock_id_of(packages: tuple[LockedPackage, ...]) -> str:
    """The identity of a set of packages: what they are, not where they came from."""
    return sha256_of(sorted([p.manager, p.file_name, p.sha256] for p in packages))


def _key(request: EnvironmentRequest, platform: str, home: Home) -> str:
    settings = read_settings(home)
    return sha256_of(
        {
            "version": LOCK_VERSION,
            "kind": request.kind,
            "path": request.path,
            "files": {path: hashlib.sha256(data).hexdigest() for path, data in request.files.items()},
            # Only a project that is built depends on more of the commit than the files above.
            "tree": [request.tree, request.subdir] if request.projects else None,
            "paths": list(request.paths),
            "platform": platform,
            # Those of another platform follow from LOCK_VERSION.
            "virtual_packages": [_coarse(text) for text in virtual_packages(home)] if _is_here(platform) else None,
            "channels": [list(settings.default_channels), list(settings.conda_defaults)],
            "as_of": request.as_of,
            "cuda": request.cuda,
            # Absent where it is not asked for: what was locked before there was this choice is found again.
            **({"allow_unhashed": True} if request.allow_unhashed else {}),
        }
    )


def _is_here(platform: str) -> bool:
    return platform == current_subdir()


def _coarse(virtual_package: str) -> str:
    # A kernel's patch level decides nothing and changes with every update of the machine.
    name, version, build = virtual_package.split("=", 2)
    return f"{name}={'.'.join(version.split('.')[:2])}" if name == "__linux" else f"{name}={version}={build}"


def _found(index: Path, home: Home) -> Environment | None:
    try:
        value = json.loads(index.read_bytes())
        environment = _environment(value, solved=False)
        os.utime(index)  # when the lock was last asked for
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return environment if lock_path(home, environment.lock_id).exists() else None


def _environment(value: Mapping[str, Any], *, solved: bool) -> Environment:
    return Environment(
        lock_id=value["lock_id"],
        platform=value["platform"],
        packages=value["packages"],
        variables=dict(value["variables"]),
        paths=tuple(value["paths"]),
        notes=tuple(value["notes"]),
        solved=solved,
        others=dict(value.get("others", {})),
    )


def _locked(
    request: EnvironmentRequest,
    platform: str,
    index: Path,
    *,
    home: Home,
    relock: bool,
    report: Report,
    build_source: Callable[[], Path] | None,
) -> Environment:
    from base64 import b64encode

    from orchestrator.environment.worker import run_job

    checkout = build_source() if build_source is not None and (request.projects or request.editable) else None
    job = {
        "kind": request.kind,
        "path": request.path,
        "files": {path: b64encode(data).decode() for path, data in request.files.items()},
        "platform": platform,
        "virtual_packages": list(virtual_packages(home)) if _is_here(platform) else None,
        "as_of": request.as_of,
        "cuda": request.cuda,
        "allow_unhashed": request.allow_unhashed,
        "relock": relock,
        "checkout": None if checkout is None else str(checkout),
    }
    answer = run_job("lock", job, home=home, report=report)
    solved = answer.pop("solved")
    value = {**answer, "platform": platform, "paths": list(request.paths)}
    write_whole(index, json.dumps(value, indent=1).encode())
    return _environment(value, solved=solved)


@contextmanager
def _only_one(index: Path, report: Report) -> Iterator[None]:
    from filelock import FileLock, Timeout

    index.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    guard = FileLock(index.with_suffix(".lock"))
    try:
        guard.acquire(timeout=0)
    except Timeout:
        report("environment", "waiting for another orch that locks the same environment")
        guard.acquire()
    try:
        yield
    finally:
        guard.release()
