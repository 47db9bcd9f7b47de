"""What was fetched or built for environments and goes: extracted packages, wheels, the caches of uv and of rattler."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orchestrator.environment.lock import LockedPackage, lock_ids, locked_packages
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.prune.environments import last_uses
from orchestrator.prune.scene import Kind, Scene, Thing, is_own, newest
from orchestrator.prune.shelf import hold

_ARCHIVE_ENDS = (".conda", ".tar.bz2")


def idle_caches(scene: Scene, going: Collection[str]) -> list[Thing]:
    """What no lock names, but those `going`. Raises OrchError when a lock can't be read.

    Where what runs need may go, locks count that were used since; but what a bundle brought, and a wheel that was built
    here, may be nowhere else, so it stays with its lock. uv's cache goes whole, when no lock has pip packages.
    """
    home = scene.home
    uses = last_uses(home)
    every: list[LockedPackage] = []
    recent: list[LockedPackage] = []
    for lock_id in lock_ids(home):
        if lock_id in going:
            continue
        try:
            packages = locked_packages(home, lock_id)
        except OrchError as error:
            raise OrchError(f"{error} The caches stay as they are.") from error
        every += packages
        if scene.idle_needed is None or not scene.is_idle(uses[lock_id], scene.idle_needed):
            recent += packages
    found = [*_packages(home, recent), *_kept(home, every)]
    if home.uv.is_dir() and not any(package.manager == "pip" for package in recent):
        found.append(Thing("cache", "uv", home.uv))
    # What channels have is needed by no run, but by each solve: it goes with time alone.
    index, seconds = home.repodata, scene.idle_needed
    if seconds is not None and index.is_dir() and scene.is_idle(newest(index.iterdir()), seconds):
        found.append(Thing("cache", "repodata", index))
    return found


def take_caches(scene: Scene, things: list[Thing], take: Callable[[Thing], None]) -> None:
    """Take those of `things` that are still idle. Raises OrchError as `idle_caches` does, or when they are in use."""
    if not things:
        return
    with no_jobs(scene.home):
        # A lock that was made since the plan names packages too.
        still = {thing.path for thing in idle_caches(scene, ())}
        for thing in things:
            if thing.path in still:
                take(thing)


@contextmanager
def no_jobs(home: Home) -> Iterator[None]:
    """While the block runs no worker is at work (see `environment.worker.run_job`). Raises OrchError when one is."""
    home.jobs.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as held:
        hold(home.jobs, held, wait=True)
        if not all(hold(folder, held) for folder in home.jobs.iterdir()):
            raise OrchError("packages are being fetched or installed: the caches stay as they are.")
        yield


def _packages(home: Home, needed: Collection[LockedPackage]) -> Iterator[Thing]:
    folder = home.packages
    names = {_stem(package.file_name).lower() for package in needed if package.manager == "conda"}
    there = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    for name, path in sorted(there.items()):
        if not path.is_dir() or name.lower() in names:
            continue
        # Hidden ones are of a killed rattler: nothing is being fetched now.
        more = [there[name + end] for end in (".lock", *_ARCHIVE_ENDS) if name + end in there]
        yield Thing("left over" if name.startswith(".") else "package", name, path, more=tuple(more))


def _stem(file_name: str) -> str:
    for end in _ARCHIVE_ENDS:
        file_name = file_name.removesuffix(end)
    return file_name


def _kept(home: Home, needed: Collection[LockedPackage]) -> Iterator[Thing]:
    """What is kept as files (see `environment.kept`)."""
    if not is_own(home.cache, home):
        return  # perhaps another home has the lock that needs one
    hashes = {package.sha256 for package in needed}
    kinds: tuple[tuple[Path, Kind], ...] = ((home.archives, "package"), (home.wheels, "wheel"))
    for folder, kind in kinds:
        for path in sorted(_inside(folder)):
            if path.name not in hashes:
                yield Thing(kind, next((file.name for file in _inside(path)), path.name), path)


def _inside(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else []
