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
    no_names,
    packages_of,
    platforms_of,
    refuse_without,
    write_locks,
)
from orchestrator.environment.environment_file import Wish, package_name, read_wish
from orchestrator.environment.host import PLATFORMS
from orchestrator.environment.lock import LOCK_VERSION, LockedPackage, lock_id_of, locked_packages
from orchestrator.environment.lock_sources import is_pyproject, matches, new_content_hash, read_parts, sources_in
from orchestrator.environment.merging import merged
from orchestrator.environment.pip_lock import built_wheel, needs_wheel
from orchestrator.environment.progress import Progress
from orchestrator.environment.redact import without_credentials
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
            replace=job["relock"],
        )
        task.scratch.mkdir()
        answer = _locked(task)
    if job["cuda"] and not answer["solved"]:
        answer["notes"].append("--cuda has no say here: the packages are those of the project's lock.")
    if job["virtual_packages"] is not None:
        answer["notes"] += unmet_notes(locked_packages(home, answer["lock_id"]), job["virtual_packages"])
    return answer


def _locked(task: Task) -> dict[str, Any]:
    if task.kind == "conda-lock" and task.as_of is not None:
        raise OrchError(f"{task.path} is a lock: no day changes what is in it. Leave --as-of out.")
    if task.kind == "conda-lock":
        return _run(_adopted_alone(task))
    wish = read_wish(task.kind, task.path, task.read(task.path) or b"", task.platform)
    beside = posixpath.join(posixpath.dirname(task.path), LOCK_FILE)
    if task.as_of is None and (data := task.read(beside)) is not None:
        reason = _mismatch(task, beside, data)
        if reason is None:
            asked = _asked_beside(task, beside, data, wish.category)
            return _run(_adopted(task, beside, replace(asked, notes=wish.notes)))
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
    if content_hash_of(table, task.platform) is None:
        return f"{path} has nothing for {task.platform}"
    sources = sources_in(table, path) or [task.path]
    if task.path not in sources and task.path != path:
        return f"{path} was not made from {task.path}"
    if not matches(table, layout=task.layout, lock=path, sources=sources, platform=task.platform):
        return f"{path} does not match {task.path if task.path != path else ' and '.join(sources)}"
    return None


def _asked_beside(task: Task, path: str, data: bytes, category: str) -> Wish:
    """What the files that the lock at `path` was made from ask for in `main` and in `category`, where they are there.

    Of that, the lock has the packages; the projects of `.` lines and the variables come from the files.
    """
    sources = sources_in(load_lock(path, data), path)
    if not sources or not all((task.layout / name).is_file() for name in sources):
        return Wish((), category=category)
    parts = read_parts(task.layout, sources, task.platform, names=no_names(task.layout))
    wanted = [part for part in parts if part.wish.category in ("main", category)]
    return replace(merged(wanted), category=category) if wanted else Wish((), category=category)


async def _adopted_alone(task: Task) -> dict[str, Any]:
    """The lock of a project whose environment file, if it has one, is read only when the lock does not match it."""
    data = task.read(task.path) or b""
    sources = sources_in(load_lock(task.path, data), task.path)
    wish = _asked_beside(task, task.path, data, "main")
    reason = _mismatch(task, task.path, data) if wish.conda else None
    if reason is None:
        return await _adopted(task, task.path, wish)
    if any(map(is_pyproject, sources)):
        raise OrchError(f"{reason}. `orch env lock` makes it anew.")
    note = f"{reason}: the environment was solved anew."
    return await _solved(replace(task, kind="conda", path=sources[0]), replace(wish, notes=(*wish.notes, note)))


async def _adopted(task: Task, path: str, wish: Wish) -> dict[str, Any]:
    """The lock at `path`, which has all that is installed but the projects that the pip lines of `wish` name."""
    data = task.read(path) or b""
    trusted: tuple[str, ...] = ()
    if task.allow_unhashed:
        data, trusted = await with_hashes(path, data, task.platform, task.home)
    packages, left_out = packages_of(path, load_lock(path, data), task.platform, categories={"main", wish.category})
    refuse_without(path, map(package_name, wish.conda), packages)
    notes = [*wish.notes, *trusted]
    notes += [f"{path}: what is only in the categories {', '.join(left_out)} is not installed."] if left_out else []
    conda = [package for package in packages if package.manager == "conda"]
    pip = [package for package in packages if package.manager == "pip"]
    with engine.connect(task.home, {package.channel or "" for package in conda}) as connection:
        task.report("environment", f"reading the packages of {path}")
        absent = await engine.to_fetch(connection, engine.records_of(conda, connection))
        progress = Progress(task.report, {record.name.normalized: record.size for record in absent})
        conda = await engine.packaged(conda, connection, task.scratch / "packaged", reporter=progress)
        python = python_aside(task, conda, connection)
        for number, package in enumerate(pip):
            if needs_wheel(package):
                task.report("environment", f"building {package.name}, for which the lock has no wheel")
                pip[number] = await asyncio.to_thread(built_wheel, package, python=python, home=task.home)
        only_projects = replace(task, projects="only", kept=tuple(pip))
        part, _ = await pip_packages(only_projects, wish, conda, connection)
        projects = part.packages
    packages = [*conda, *pip, *projects]
    lock_id = _publish(task, packages, _writer(data), solved=False)
    others, why_not = _others(task, path, data, projects, wish.category)
    return {**_answer(lock_id, packages, wish.variables, [*notes, *why_not], solved=False), "others": others}


def _others(
    task: Task, path: str, data: bytes, projects: Sequence[LockedPackage], category: str
) -> tuple[dict[str, str], list[str]]:
    """Publish what the lock has for other platforms; their lock ids, and a sentence for each that can't be kept.

    The wheels of the `projects` were built here; pure ones are those of every platform.

    What such a lock claims beyond names and hashes is read from the packages themselves when it is installed.
    """
    table = load_lock(path, data)
    found: dict[str, str] = {}
    notes: list[str] = []
    for platform in set(platforms_of(table)) & set(PLATFORMS) - {task.platform}:
        try:
            packages, _ = packages_of(path, table, platform, categories={"main", category})
            _refuse_built_there([*packages, *projects])
        except OrchError as error:
            notes.append(f"{path}: its packages for {platform} are not kept for a replay there: {error}")
            continue
        packages += projects
        other = replace(task, platform=platform)
        found[platform] = _publish(other, packages, _writer(data), solved=False)
    return found, sorted(notes)


def _refuse_built_there(packages: Sequence[LockedPackage]) -> None:
    """Raise OrchError for a package that only a machine of its platform can build."""
    for package in packages:
        built_here = package.url.startswith("pkg:") and not package.file_name.endswith("-none-any.whl")
        if needs_wheel(package) or built_here:
            raise OrchError(f"{package.name} has no wheel for it, and can be built only there.")


# --- a lock that is made ----------------------------------------------------------------------------------------


async def _solved(task: Task, wish: Wish) -> dict[str, Any]:
    solved = await solve_wish(task, wish)
    if task.path:
        digest = new_content_hash(task.layout, task.path, [task.path], task.platform)
    else:
        digest = sha256_of([wish.conda, list(solved.channels)])

    def write(place: Path) -> None:
        write_locks(
            place,
            {task.platform: solved.packages},
            channels=solved.channels,
            sources=[posixpath.basename(task.path)] if task.path else [],
            content_hashes={task.platform: digest},
        )

    asked = {
        "channels": solved.channels,
        "virtual_packages": task.virtual_packages,
        "as_of": task.as_of,
        "conda": [without_credentials(text) for text in wish.conda],
        "pip": [without_credentials(text) for text in wish.pip],
    }
    lock_id = _publish(task, solved.packages, write, solved=True, asked=asked)
    return _answer(lock_id, solved.packages, wish.variables, solved.notes, solved=True)


def _writer(data: bytes) -> Callable[[Path], Any]:
    """Writes a lock as the project brought it, but for credentials."""
    text = without_credentials(data.decode("utf-8"))
    return lambda place: place.write_text(text, "utf-8")


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

    The same packages may be there, by another project's word on where they come from. A solve has the last word; of
    locks that projects bring the first stays, or one project could say where another's packages come from. Who asks
    for a lock anew replaces it.
    """
    packages = sorted(packages, key=lambda package: (package.manager, package.name))
    lock_id = lock_id_of(tuple(packages))
    final = task.home.locks / lock_id
    if not solved and not task.replace and _is_sound(final):
        return lock_id
    aside = task.scratch.parent / f"lock-{task.platform}"
    aside.mkdir()
    write(aside / "conda-lock.yml")
    rows = [{name: getattr(package, name) for name in LockedPackage.__slots__} for package in packages]
    rows = [{**row, **{key: row[key] and without_credentials(row[key]) for key in ("url", "channel")}} for row in rows]
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


def _is_sound(final: Path) -> bool:
    try:
        table = json.loads((final / "packages.json").read_bytes())
        return bool(table["version"] == LOCK_VERSION) and (final / LOCK_FILE).exists()
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
