"""Environments that go: installed prefixes, and the locks that they are installed from."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.environment.lock import lock_ids
from orchestrator.environment.prefix import PREFIX_NAME, build_lock, drift, last_use, prefix_locks, use_lock
from orchestrator.paths import Home
from orchestrator.prune.needs import run_ids
from orchestrator.prune.scene import HOUR, Scene, Thing, is_own, newest
from orchestrator.prune.shelf import hold

Take = Callable[[Thing], None]

_GOING = ".going"
"""How the name of an index entry ends whose lock is being taken."""


# --- prefixes -----------------------------------------------------------------------------------------------------


def idle_prefixes(scene: Scene) -> list[Thing]:
    """The prefixes that nobody uses and that no run needs; where the scene says so, also those that runs need.

    Of the generations of one lock that runs need, one is needed: the first that is as it was built.
    """
    home = scene.home
    generations: dict[str, list[tuple[int, Path]]] = {}
    for path in home.envs.iterdir():
        if match := PREFIX_NAME.fullmatch(path.name):
            generations.setdefault(match["base"], []).append((int(match["generation"] or 0), path))
    found = []
    for base, numbered in sorted(generations.items()):
        lock_id = base[:64]
        if not is_own(home.envs, home) and not (home.locks / lock_id).exists():
            continue  # perhaps another home's
        paths = [path for _, path in sorted(numbered)]
        needed = None
        if lock_id in scene.needs.locks or not scene.needs.are_known:
            needed = next((path for path in paths if not drift(path)), paths[0])
        for path in paths:
            seconds = scene.idle_needed if path == needed else scene.idle
            if seconds is not None and scene.is_idle(last_use(home, path.name), seconds):
                with _sole_use(home, path) as alone:
                    found += [Thing("environment", path.name, path)] if alone else []
    return found


def take_prefixes(scene: Scene, things: list[Thing], take: Take) -> None:
    """Take those of `things` that are still idle."""
    still = {thing.path for thing in idle_prefixes(scene)}
    for thing in things:
        if thing.path not in still:
            continue
        used = last_use(scene.home, thing.name)
        with _sole_use(scene.home, thing.path) as alone:
            if alone and last_use(scene.home, thing.name) == used:
                take(thing)


@contextmanager
def _sole_use(home: Home, path: Path) -> Iterator[bool]:
    """Whether nobody uses or builds a prefix; while the block runs nobody begins to (see `environment.prefix`)."""
    # Builders first, as those who build do: whoever finds the prefix gone waits for us, and builds it in its place.
    places = (build_lock(home, path.name.partition(".")[0]), use_lock(home, path.name))
    with ExitStack() as held:
        yield all(hold(place, held) for place in places)


# --- locks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """What finds a lock by what it was made from: a file of `home.lock_index`."""

    lock_id: str
    others: frozenset[str]
    path: Path


def last_uses(home: Home) -> dict[str, float]:
    """When each lock was made, made again or installed, or an environment of it taken into use."""
    entries = _entries(home)
    uses = {}
    for lock_id in lock_ids(home):
        folder = home.locks / lock_id
        places = [folder, *folder.iterdir(), *(entry.path for entry in entries if entry.lock_id == lock_id)]
        uses[lock_id] = newest([*places, *prefix_locks(home, lock_id)])
    return uses


def idle_locks(scene: Scene, going: Collection[Path]) -> list[Thing]:
    """The locks that no run needs, that no prefix stands for but those `going`, and that nobody used of late."""
    home = scene.home
    if not scene.needs.are_known:
        return []
    seconds = max(scene.idle, HOUR)
    entries, uses = _entries(home), last_uses(home)
    kept = {lock_id for lock_id, used in uses.items() if not scene.is_idle(used, seconds)} | scene.needs.locks
    kept |= {path.name[:64] for path in home.envs.iterdir() if PREFIX_NAME.fullmatch(path.name) and path not in going}
    # With a lock came those for other platforms: a run that takes the one names the others.
    kept |= {other for entry in entries if entry.lock_id in kept for other in entry.others}
    return [
        Thing("lock", name, home.locks / name, more=tuple(entry.path for entry in entries if entry.lock_id == name))
        for name in sorted(uses.keys() - kept)
    ]


def take_locks(scene: Scene, things: list[Thing], take: Take) -> bool:
    """Take those of `things` that are still idle; False when none was for a run that began meanwhile.

    What finds a lock goes first. A run that found it before has its directory by now; one that begins later finds
    nothing, and solves.
    """
    home = scene.home
    planned = {thing.path for thing in things}
    things = [thing for thing in idle_locks(scene, ()) if thing.path in planned] if things else []
    hidden = {path: path.with_suffix(_GOING) for thing in things for path in thing.more}
    for path, aside in hidden.items():
        path.rename(aside)
    began = bool(things) and bool(run_ids(home) - scene.needs.runs)
    still = set() if began else {thing.path for thing in idle_locks(scene, ())}
    for thing in things:
        if thing.path in still:
            take(replace(thing, more=tuple(hidden[path] for path in thing.more)))
            continue
        for path in thing.more:
            if not path.exists():
                hidden[path].rename(path)
    return not began


def hidden_entries(home: Home) -> list[Path]:
    """What a killed `take_locks` left."""
    return sorted(home.lock_index.glob(f"*{_GOING}"))


def _entries(home: Home) -> list[_Entry]:
    found = []
    for path in home.lock_index.glob("*.json"):
        try:
            value = json.loads(path.read_bytes())
            found.append(_Entry(str(value["lock_id"]), frozenset(value.get("others", {}).values()), path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # whoever looks for a lock takes it for missing, and writes it anew
    return found
