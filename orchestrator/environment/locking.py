"""The job `lock`: from the files of a request to a lock on disk. Runs in the worker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import posixpath
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.canonical import sha256_of
from orchestrator.environment import engine, unsolvable
from orchestrator.environment.conda_lock_file import (
    content_hash,
    content_hash_of,
    load_lock,
    packages_of,
    sources_of,
    write_lock,
)
from orchestrator.environment.config import read_settings
from orchestrator.environment.environment_file import Wish, read_wish
from orchestrator.environment.lock import LOCK_VERSION, LockedPackage, lock_id_of
from orchestrator.environment.pip_lock import built_wheel, gather, lock_pip, needs_wheel
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report


@dataclass(frozen=True, slots=True)
class _Task:
    kind: str
    path: str
    platform: str
    virtual_packages: tuple[str, ...]
    layout: Path
    checkout: Path | None
    scratch: Path
    home: Home
    report: Report

    def read(self, path: str) -> bytes | None:
        """A file of the request."""
        try:
            return (self.layout / path).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """Make or adopt the lock of a request: `{lock_id, packages, variables, notes, solved}`.

    The lock is in `home.locks` when this returns.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        task = _Task(
            kind=job["kind"],
            path=job["path"],
            platform=job["platform"],
            virtual_packages=tuple(job["virtual_packages"]),
            layout=_laid_out(job["files"], Path(folder) / "files"),
            checkout=Path(job["checkout"]) if job["checkout"] else None,
            scratch=Path(folder) / "pip",
            home=home,
            report=report,
        )
        task.scratch.mkdir()
        if task.kind == "conda-lock":
            return _run(_adopted(task, task.path, variables={}))
        wish = read_wish(task.kind, task.path, task.read(task.path) or b"", task.platform)
        beside = posixpath.join(posixpath.dirname(task.path), "conda-lock.yml")
        if task.kind == "conda" and (data := task.read(beside)) is not None:
            reason = _mismatch(task, beside, data)
            if reason is None:
                return _run(_adopted(task, beside, variables=wish.variables))
            wish = replace(wish, notes=(*wish.notes, reason))
        return _run(_solved(task, wish))


def _run(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = engine.run(work)
    return answer


def _laid_out(files: Mapping[str, str], folder: Path) -> Path:
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(data))
    folder.mkdir(exist_ok=True)
    return folder


# --- a lock that the project brings -----------------------------------------------------------------------------


def _mismatch(task: _Task, path: str, data: bytes) -> str | None:
    """None when the lock at `path` was made from the environment file as it is, else a sentence that says so."""
    table = load_lock(path, data)
    has = content_hash_of(table, task.platform)
    if has is None:
        return f"{path} has nothing for {task.platform}: the environment was solved anew."
    sources = sources_of(table) or (posixpath.basename(task.path),)
    if posixpath.basename(task.path) not in [posixpath.normpath(source) for source in sources]:
        return f"{path} was not made from {task.path}: the environment was solved anew."
    if content_hash(task.layout, task.path, sources, task.platform) != has:
        return f"{path} does not match {task.path} (conda-lock's content hash): the environment was solved anew."
    return None


async def _adopted(task: _Task, path: str, *, variables: Mapping[str, str]) -> dict[str, Any]:
    data = task.read(path) or b""
    packages, left_out = packages_of(path, load_lock(path, data), task.platform)
    notes = [f"{path}: the categories {', '.join(left_out)} are not installed, only main."] if left_out else []
    conda = [package for package in packages if package.manager == "conda"]
    pip = [package for package in packages if package.manager == "pip"]
    with engine.connect(task.home, {package.channel or "" for package in conda}) as connection:
        task.report("environment", f"reading the packages of {path}")
        conda = await engine.packaged(conda, connection, task.scratch / "packaged")
        python = _python_aside(task, conda, connection)
        for number, package in enumerate(pip):
            if needs_wheel(package):
                task.report("environment", f"building {package.name}, for which the lock has no wheel")
                pip[number] = await asyncio.to_thread(built_wheel, package, python=python, home=task.home)
    packages = [*conda, *pip]
    lock_id = _publish(task, packages, lambda place: place.write_bytes(data), solved=False)
    return _answer(lock_id, packages, variables, notes, solved=False)


# --- a lock that is made ----------------------------------------------------------------------------------------


async def _solved(task: _Task, wish: Wish) -> dict[str, Any]:
    settings = read_settings(task.home)
    names = wish.channels or settings.default_channels
    named = [*wish.channels, *_channels_of_specs(wish.conda)]
    channels = engine.channel_urls(() if wish.channels else settings.default_channels, settings)
    channels += [url for url in engine.channel_urls(named, settings, task.path) if url not in channels]
    specs = [_spec(text, engine.channel_urls(["defaults"], settings)[0]) for text in wish.conda]
    for spec in specs:
        engine.match_spec(spec)
    with engine.connect(task.home, channels) as connection:
        task.report("environment", f"solving {task.path or 'an environment with the newest Python'}")
        try:
            records = await engine.solve(
                connection, specs, channels, subdir=task.platform, virtual_packages=task.virtual_packages
            )
        except engine.UnsolvableError as error:
            raise await unsolvable.explained(
                error, wish, specs, channels, path=task.path, platform=task.platform, connection=connection
            ) from error
        conda = [_conda_package(record, connection) for record in records]
        pip, notes = await _pip(task, wish, conda, connection)
    notes += _gpu_notes(task, conda)
    packages = [*conda, *pip]
    digest = (
        content_hash(task.layout, task.path, [posixpath.basename(task.path)], task.platform)
        if task.kind == "conda"
        else None
    )

    def write(place: Path) -> None:
        write_lock(
            place,
            packages,
            platform=task.platform,
            channels=[without_credentials(name) for name in names],
            sources=[posixpath.basename(task.path)] if task.path else [],
            content_hash=digest or sha256_of([wish.conda, wish.pip, list(names)]),
        )

    lock_id = _publish(task, packages, write, solved=True)
    return _answer(lock_id, packages, wish.variables, [*wish.notes, *notes], solved=True)


def _gpu_notes(task: _Task, conda: Sequence[LockedPackage]) -> list[str]:
    given = next((text.split("=")[1] for text in task.virtual_packages if text.startswith("__cuda=")), None)
    if given is None or not any(text.startswith("__cuda") for package in conda for text in package.depends):
        return []
    return [f"the environment is solved for CUDA {given}: a machine without it can't use it."]


async def _pip(
    task: _Task, wish: Wish, conda: Sequence[LockedPackage], connection: engine.Connection
) -> tuple[list[LockedPackage], list[str]]:
    if not wish.pip:
        return [], []
    lines = [*wish.pip, *(f"--extra-index-url {url}" for url in wish.extra_indexes)]
    requirements = gather(lines, task.path, task.layout, task.checkout)
    # uv is waited for in a thread: the loop must stay free for rattler, and for the served folders' clients.
    locked = await asyncio.to_thread(
        lock_pip,
        requirements,
        path=task.path,
        conda=conda,
        scratch=task.scratch,
        home=task.home,
        report=task.report,
        python_of_environment=_python_aside(task, conda, connection),
    )
    notes = [f"{task.path}: the pip option {option} has no meaning here." for option in requirements.ignored]
    return locked, notes


def _python_aside(task: _Task, conda: Sequence[LockedPackage], connection: engine.Connection) -> Callable[[], Path]:
    """A function, for use in another thread, that gives the environment's own Python, installed when first asked."""
    loop = asyncio.get_running_loop()
    prefix = task.scratch / "prefix"

    def python() -> Path:
        if not prefix.exists():
            task.report("environment", "installing Python aside, to build what has no wheel")
            records = engine.records_of(conda, connection)
            work = engine.install(connection, records, prefix, final=prefix)
            asyncio.run_coroutine_threadsafe(work, loop).result()
        return prefix / "bin" / "python"

    return python


def _conda_package(record: Any, connection: engine.Connection) -> LockedPackage:
    name = record.name.normalized
    if record.sha256 is None:
        raise OrchError(f"the channel gives no sha256 for {record.file_name}: it can't be verified and is refused.")
    engine.refuse_misnamed(record, record.file_name)
    return LockedPackage(
        manager="conda",
        name=name,
        version=str(record.version),
        build=str(record.build),
        url=connection.recorded(record.url),
        file_name=record.file_name,
        sha256=record.sha256.hex(),
        md5=record.md5.hex() if record.md5 else None,
        size=record.size,
        subdir=record.subdir,
        channel=connection.recorded(record.channel).rstrip("/"),
        depends=tuple(record.depends),
        site_packages=record.python_site_packages_path,
        noarch=engine.noarch_of(record),
    )


def _channels_of_specs(specs: Sequence[str]) -> list[str]:
    # `channel::package` asks a channel also when the list does not name it, as with conda.
    return [spec.rpartition("::")[0] for spec in specs if "::" in spec]


def _spec(text: str, defaults: str) -> str:
    channel, separator, rest = text.rpartition("::")
    return f"{defaults if channel == 'defaults' else channel}{separator}{rest}"


# --- on disk ----------------------------------------------------------------------------------------------------


def _publish(task: _Task, packages: Sequence[LockedPackage], write: Callable[[Path], Any], *, solved: bool) -> str:
    """Write the folder of a lock aside and move it into place.

    The same packages may be there, by another project's word on where they come from. A solve has the last word; a lock
    that a project brings replaces only such a lock.
    """
    packages = sorted(packages, key=lambda package: (package.manager, package.name))
    lock_id = lock_id_of(tuple(packages))
    final = task.home.locks / lock_id
    if not solved and _is_solved(final):
        return lock_id
    aside = task.scratch.parent / "lock"
    aside.mkdir()
    write(aside / "conda-lock.yml")
    rows = [{name: getattr(package, name) for name in LockedPackage.__slots__} for package in packages]
    table = {"version": LOCK_VERSION, "platform": task.platform, "solved": solved, "packages": rows}
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
