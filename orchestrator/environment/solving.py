"""One environment for one platform, solved: conda packages by rattler, pip packages by uv. Runs in the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.environment import engine, unsolvable
from orchestrator.environment.config import read_settings
from orchestrator.environment.environment_file import Wish
from orchestrator.environment.host import current_subdir
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.pip_lines import gather
from orchestrator.environment.pip_lock import PipPart, PipTask, Projects, lock_pip
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.wheel_tags import glibc_of
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report


@dataclass(frozen=True, slots=True)
class Task:
    """What to solve for, and where. `virtual_packages` are `name=version=build`; `as_of` is RFC 3339.

    The files of the request stand in `layout`, projects of `.` lines in `checkout`; `scratch` is an empty folder.
    Of the packages `kept`, from an earlier lock, only those move that must. `projects`: see `pip_lock`. With `refresh`
    indexes are asked for what is there now, not some minutes ago.
    """

    kind: str
    path: str
    platform: str
    virtual_packages: tuple[str, ...]
    layout: Path
    checkout: Path | None
    scratch: Path
    home: Home
    report: Report
    as_of: str | None = None
    allow_unhashed: bool = False
    kept: tuple[LockedPackage, ...] = ()
    projects: Projects = "with"
    refresh: bool = False
    replace: bool = False
    """Whether a lock that is there is written anew."""
    shown: str = ""
    """What people know the environment by, where it is not `path`."""

    @property
    def name(self) -> str:
        """What sentences call the environment."""
        return self.shown or self.path

    def read(self, path: str) -> bytes | None:
        """A file of the request."""
        try:
            return (self.layout / path).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None


@dataclass(frozen=True, slots=True)
class Solved:
    """The packages of an environment for one platform, sorted by manager and name.

    `channels` are as named, without credentials; `notes` are sentences for people.
    """

    packages: tuple[LockedPackage, ...]
    channels: tuple[str, ...]
    notes: tuple[str, ...]


async def solve_wish(task: Task, wish: Wish) -> Solved:
    """Solve a wish for the platform of the task. Raises OrchError with what conflicts, for who wrote the file."""
    settings = read_settings(task.home)
    names = wish.channels or settings.default_channels
    named = [*wish.channels, *_channels_of_specs(wish.conda)]
    channels = engine.channel_urls(() if wish.channels else settings.default_channels, settings)
    channels += [url for url in engine.channel_urls(named, settings, task.path) if url not in channels]
    specs = [_spec(text, engine.channel_urls(["defaults"], settings)[0]) for text in wish.conda]
    for spec in specs:
        engine.match_spec(spec)
    with engine.connect(task.home, channels) as connection:
        there = "" if task.platform == current_subdir() and not task.shown else f" for {task.platform}"
        day = f" as of {task.as_of[:10]}" if task.as_of else ""
        task.report("environment", f"solving {task.name or 'an environment with the newest Python'}{there}{day}")
        kept = [package for package in task.kept if package.manager == "conda"]
        known = await engine.records_in(connection, kept, channels, subdir=task.platform) if kept else []
        try:
            records = await engine.solve(
                connection,
                specs,
                channels,
                subdir=task.platform,
                virtual_packages=task.virtual_packages,
                as_of=datetime.fromisoformat(task.as_of) if task.as_of else None,
                kept=known,
            )
        except engine.UnsolvableError as error:
            raise await unsolvable.explained(
                error,
                wish,
                specs,
                channels,
                path=task.name,
                platform=task.platform,
                as_of=task.as_of,
                connection=connection,
            ) from error
        conda = [_conda_package(record, connection) for record in records]
        pip, notes = await pip_packages(task, wish, conda, connection)
        if task.as_of:
            moving = [package.name for package in pip.packages if package.url.startswith("git+")]
            notes += [f"{name} is taken from git as it is now, not as of {task.as_of[:10]}." for name in moving]
    notes += _gpu_notes(task, conda)
    return Solved(
        packages=tuple(sorted([*conda, *pip.packages], key=lambda package: (package.manager, package.name))),
        channels=tuple(without_credentials(name) for name in names),
        notes=(*wish.notes, *notes),
    )


def _gpu_notes(task: Task, conda: Sequence[LockedPackage]) -> list[str]:
    given = next((text.split("=")[1] for text in task.virtual_packages if text.startswith("__cuda=")), None)
    if given is None or not any(text.startswith("__cuda") for package in conda for text in package.depends):
        return []
    return [f"the environment is solved for CUDA {given}: a machine without it can't use it."]


async def pip_packages(
    task: Task, wish: Wish, conda: Sequence[LockedPackage], connection: engine.Connection
) -> tuple[PipPart, list[str]]:
    """The pip packages of a wish beside the `conda` packages, and sentences about its lines."""
    if not wish.pip:
        return PipPart(), []
    lines = [*wish.pip, *(f"--extra-index-url {url}" for url in wish.extra_indexes)]
    requirements = gather(lines, task.path, task.layout, task.checkout)
    # uv is waited for in a thread: the loop must stay free for rattler, and for the served folders' clients.
    here = task.platform == current_subdir()
    asked = PipTask(
        path=task.name,
        conda=conda,
        # A lock file is for every machine of its platform, also when it is made on one.
        platform=None if here and task.projects != "without" else task.platform,
        glibc=glibc_of(task.virtual_packages),
        buildable=here,
        as_of=task.as_of,
        kept=[package for package in task.kept if package.manager == "pip"],
        projects=task.projects,
        refresh=task.refresh,
        scratch=task.scratch,
        home=task.home,
        report=task.report,
        python_of_environment=python_aside(task, conda, connection),
    )
    locked = await asyncio.to_thread(lock_pip, requirements, asked)
    notes = [f"{task.name}: the pip option {option} has no meaning here." for option in requirements.ignored]
    return locked, notes


def python_aside(task: Task, conda: Sequence[LockedPackage], connection: engine.Connection) -> Callable[[], Path]:
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
    if record.sha256 is None:
        raise OrchError(f"the channel gives no sha256 for {record.file_name}: it can't be verified and is refused.")
    engine.refuse_misnamed(record, record.file_name)
    return LockedPackage(manager="conda", **engine.facts_of_channel(record, connection))


def _channels_of_specs(specs: Sequence[str]) -> list[str]:
    # `channel::package` asks a channel also when the list does not name it, as with conda.
    return [spec.rpartition("::")[0] for spec in specs if "::" in spec]


def _spec(text: str, defaults: str) -> str:
    channel, separator, rest = text.rpartition("::")
    return f"{defaults if channel == 'defaults' else channel}{separator}{rest}"
