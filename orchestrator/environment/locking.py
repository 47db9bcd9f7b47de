"""The job `lock`: from the files of a request to a lock on disk. Runs in the worker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import posixpath
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.canonical import sha256_of
from orchestrator.environment import engine
from orchestrator.environment.conda_lock_file import (
    content_hash_of,
    load_lock,
    packages_of,
    platforms_of,
    refuse_without,
    sources_of,
    write_lock,
)
from orchestrator.environment.environment_file import Wish, package_name, read_wish
from orchestrator.environment.host import PLATFORMS
from orchestrator.environment.lock import LOCK_VERSION, LockedPackage, lock_id_of, locked_packages
from orchestrator.environment.lock_sources import content_hashes, no_names, read_parts
from orchestrator.environment.merging import only
from orchestrator.environment.pip_lock import built_wheel, needs_wheel
from orchestrator.environment.request import LOCK_FILE
from orchestrator.environment.solving import Task, pip_packages, python_aside, solve_wish
from orchestrator.environment.unhashed import with_hashes
from orchestrator.environment.virtual import solved_for, unmet_notes
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """Make or adopt the lock of a request: `{lock_id, packages, variables, notes, solved}`.

    The lock is in `home.locks` when this returns.
    """
    virtual_packages = solved_for(job["platform"], job["virtual_packages"], cuda=job["cuda"])
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        task = Task(
            kind=job["kind"],
            path=job["path"],
            platform=job["platform"],
            virtual_packages=virtual_packages,
            layout=laid_out(job["files"], Path(folder) / "files"),
            checkout=Path(job["checkout"]) if job["checkout"] else None,
            scratch=Path(folder) / "pip",
            home=home,
            report=report,
            as_of=job["as_of"],
            allow_unhashed=job["allow_unhashed"],
        )
        task.scratch.mkdir()
        answer = _locked(task)
    if job["virtual_packages"] is not None:
        answer["notes"] += unmet_notes(locked_packages(home, answer["lock_id"]), job["virtual_packages"])
    return answer


def _locked(task: Task) -> dict[str, Any]:
    if task.kind == "conda-lock" and task.as_of is not None:
        raise OrchError(f"{task.path} is a lock: no day changes what is in it. Leave --as-of out.")
    if task.kind == "conda-lock":
        return _run(_adopted(task, task.path, _wish_of_lock(task)))
    wish = read_wish(task.kind, task.path, task.read(task.path) or b"", task.platform)
    beside = posixpath.join(posixpath.dirname(task.path), LOCK_FILE)
    if task.as_of is None and (data := task.read(beside)) is not None:
        reason = _mismatch(task, beside, data)
        if reason is None:
            return _run(_adopted(task, beside, wish))
        wish = replace(wish, notes=(*wish.notes, f"{reason}: the environment was solved anew."))
    return _run(_solved(task, wish))


def _run(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = engine.run(work)
    return answer


def laid_out(files: Mapping[str, str], folder: Path) -> Path:
    """The files of a job (base64 by path) in the new folder `folder`."""
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(data))
    folder.mkdir(exist_ok=True)
    return folder


# --- a lock that the project brings -----------------------------------------------------------------------------


def _mismatch(task: Task, path: str, data: bytes) -> str | None:
    """None when the lock at `path` was made from the environment file as it is, else what speaks against it."""
    table = load_lock(path, data)
    has = content_hash_of(table, task.platform)
    if has is None:
        return f"{path} has nothing for {task.platform}"
    base = posixpath.dirname(path)
    sources = [posixpath.normpath(posixpath.join(base, name)) for name in sources_of(table)] or [task.path]
    if task.path not in sources and task.path != path:
        return f"{path} was not made from {task.path}"
    if has not in content_hashes(task.layout, path, sources, task.platform):
        named = task.path if task.path != path else " and ".join(sources)
        return f"{path} does not match {named} (conda-lock's content hash)"
    return None


def _wish_of_lock(task: Task) -> Wish:
    """What the files say, besides packages, that the lock of a project was made from, where they are there."""
    table = load_lock(task.path, data := task.read(task.path) or b"")
    base = posixpath.dirname(task.path)
    sources = [posixpath.normpath(posixpath.join(base, name)) for name in sources_of(table)]
    if not sources or not all((task.layout / name).is_file() for name in sources):
        return Wish(())
    reason = _mismatch(task, task.path, data)
    notes = (f"{reason}, and is used as it is; `orch env lock` makes it anew.",) if reason else ()
    try:
        parts = read_parts(task.layout, sources, task.platform, names=no_names(task.layout))
        return replace(only(parts, "main"), notes=notes)
    except OrchError:
        return Wish((), notes=notes)


async def _adopted(task: Task, path: str, wish: Wish) -> dict[str, Any]:
    """The lock at `path`, which has all that is installed but the projects that the pip lines of `wish` name."""
    data = task.read(path) or b""
    trusted: tuple[str, ...] = ()
    if task.allow_unhashed:
        data, trusted = await with_hashes(path, data, task.platform, task.home)
    packages, left_out = packages_of(path, load_lock(path, data), task.platform)
    if wish.category == "main":
        refuse_without(path, map(package_name, wish.conda), packages)
    notes = [*wish.notes, *trusted]
    notes += [f"{path}: the categories {', '.join(left_out)} are not installed, only main."] if left_out else []
    conda = [package for package in packages if package.manager == "conda"]
    pip = [package for package in packages if package.manager == "pip"]
    with engine.connect(task.home, {package.channel or "" for package in conda}) as connection:
        task.report("environment", f"reading the packages of {path}")
        conda = await engine.packaged(conda, connection, task.scratch / "packaged")
        python = python_aside(task, conda, connection)
        for number, package in enumerate(pip):
            if needs_wheel(package):
                task.report("environment", f"building {package.name}, for which the lock has no wheel")
                pip[number] = await asyncio.to_thread(built_wheel, package, python=python, home=task.home)
        only_projects = replace(task, projects="only", kept=tuple(pip))
        projects, _ = await pip_packages(only_projects, wish, conda, connection)
    packages = [*conda, *pip, *projects]
    lock_id = _publish(task, packages, lambda place: place.write_bytes(data), solved=False)
    others, why_not = _others(task, path, data, projects)
    return {**_answer(lock_id, packages, wish.variables, [*notes, *why_not], solved=False), "others": others}


def _others(task: Task, path: str, data: bytes, projects: Sequence[LockedPackage]) -> tuple[dict[str, str], list[str]]:
    """Publish what the lock has for other platforms; their lock ids, and a sentence for each that can't be kept.

    The wheels of the `projects` were built here; pure ones are those of every platform.

    What such a lock claims beyond names and hashes is read from the packages themselves when it is installed.
    """
    table = load_lock(path, data)
    found: dict[str, str] = {}
    notes: list[str] = []
    for platform in set(platforms_of(table)) & set(PLATFORMS) - {task.platform}:
        try:
            packages, _ = packages_of(path, table, platform)
            for package in filter(needs_wheel, packages):
                raise OrchError(f"{package.name} has no wheel, and can be built only there.")
            for package in projects:
                if not package.file_name.endswith("-none-any.whl"):
                    raise OrchError(f"{package.name} can be built only there.")
            packages += projects
        except OrchError as error:
            notes.append(f"{path}: its packages for {platform} are not kept for a replay there: {error}")
            continue
        other = replace(task, platform=platform)
        found[platform] = _publish(other, packages, lambda place: place.write_bytes(data), solved=False)
    return found, sorted(notes)


# --- a lock that is made ----------------------------------------------------------------------------------------


async def _solved(task: Task, wish: Wish) -> dict[str, Any]:
    solved = await solve_wish(task, wish)
    digests = content_hashes(task.layout, task.path, [task.path], task.platform) if task.path else ()

    def write(place: Path) -> None:
        write_lock(
            place,
            solved.packages,
            platform=task.platform,
            channels=solved.channels,
            sources=[posixpath.basename(task.path)] if task.path else [],
            content_hash=digests[0] if digests else sha256_of([wish.conda, wish.pip, list(solved.channels)]),
        )

    asked = {
        "channels": solved.channels,
        "virtual_packages": task.virtual_packages,
        "as_of": task.as_of,
        "conda": wish.conda,
        "pip": wish.pip,
    }
    lock_id = _publish(task, solved.packages, write, solved=True, asked=asked)
    return _answer(lock_id, solved.packages, wish.variables, solved.notes, solved=True)


# --- on disk ----------------------------------------------------------------------------------------------------


def _publish(
    task: Task,
    packages: Sequence[LockedPackage],
    write: Callable[[Path], Any],
    *,
    solved: bool,
    asked: Mapping[str, Any] | None = None,
) -> str:
    """Write the folder of a lock aside and move it into place.

    The same packages may be there, by another project's word on where they come from. A solve has the last word; a lock
    that a project brings replaces only such a lock.
    """
    packages = sorted(packages, key=lambda package: (package.manager, package.name))
    lock_id = lock_id_of(tuple(packages))
    final = task.home.locks / lock_id
    if not solved and _is_solved(final):
        return lock_id
    aside = task.scratch.parent / f"lock-{task.platform}"
    aside.mkdir()
    write(aside / "conda-lock.yml")
    rows = [{name: getattr(package, name) for name in LockedPackage.__slots__} for package in packages]
    table = {"version": LOCK_VERSION, "platform": task.platform, "solved": solved, **(asked or {}), "packages": rows}
    (aside / "packages.json").write_text(json.dumps(table), "utf-8")
    staged = task.home.locks / f".{lock_id}.{os.getpid()}"
    try:
        shutil.copytree(aside, staged)
        for path in staged.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        try:
            staged.rename(final)
        except OSError:
            if not final.exists():
                raise
            # Each file by itself: whoever reads meanwhile finds both, and either of each is a description of the lock.
            for path in sorted(staged.iterdir()):
                path.replace(final / path.name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return lock_id


def _is_solved(final: Path) -> bool:
    try:
        table = json.loads((final / "packages.json").read_bytes())
        return table["version"] == LOCK_VERSION and table.get("solved") is True and (final / "conda-lock.yml").exists()
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _answer(
    lock_id: str,
    packages: Sequence[LockedPackage],
    variables: Mapping[str, str],
    notes: Sequence[str],
    *,
    solved: bool,
) -> dict[str, Any]:
    return {
        "lock_id": lock_id,
        "packages": len(packages),
        "variables": dict(variables),
        "notes": list(notes),
        "solved": solved,
    }
