"""`orch env prune`: installed environments, packages, wheels, locks and mirrors that are not needed go.

What no kept run needs goes when nobody used it for a day. With a number of days, so do installed environments and
fetched packages that runs need but nobody used for so long: they are installed again from the lock. Locks and mirrors
that runs need stay, and wheels that were built here and what bundles brought: nothing could bring them back.

`plan` looks, and says what would go. `carry_out` asks again of each thing, holding the lock that keeps others from
taking it into use, moves it aside, and removes what was moved at the end.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.prune.caches import idle_caches, no_jobs, take_caches
from orchestrator.prune.environments import hidden_entries, idle_locks, idle_prefixes, take_locks, take_prefixes
from orchestrator.prune.mirrors import idle_mirrors, take_mirrors
from orchestrator.prune.needs import needs_of_runs
from orchestrator.prune.scene import DAY, Plan, Scene, Thing, newest
from orchestrator.prune.shelf import SHELF, Measure, hold, left_on_shelves, put_aside, remove
from orchestrator.report import Report, silent
from orchestrator.store import INCOMING
from orchestrator.sweep import sweep

__all__ = ["Plan", "Thing", "carry_out", "plan"]

_PREPARING = "a run is being prepared, and what it needs is not known yet: locks and mirrors stay."


def plan(home: Home, connection: sqlite3.Connection, days: int | None) -> Plan:
    """What can go now. Nothing is changed, but that runs whose supervisor died are told as what they are."""
    sweep(home, connection)
    scene = _scene(home, connection, days)
    notes = _notes(scene)
    prefixes = idle_prefixes(scene)
    locks = idle_locks(scene, {thing.path for thing in prefixes})
    caches: list[Thing] = []
    try:
        with no_jobs(home):
            caches = idle_caches(scene, {thing.name for thing in locks})
    except OrchError as error:
        notes.append(str(error))
    things = [*_left_over(scene), *prefixes, *locks, *caches, *idle_mirrors(scene)]
    measure = Measure()
    sized = [replace(thing, bytes=measure.freed([thing.path, *thing.more])) for thing in things]
    return Plan(days, tuple(sized), tuple(notes))


def carry_out(planned: Plan, home: Home, connection: sqlite3.Connection, *, report: Report = silent) -> Plan:
    """Remove what was planned and can still go. Returns what went, with the bytes that the disk really got back."""
    failed: list[str] = []
    with _alone(home, report):
        scene = _scene(home, connection, planned.days)
        notes = [*planned.notes, *_notes(scene)]
        taken: list[tuple[Thing, Path]] = []

        def take(thing: Thing) -> None:
            try:
                taken.append((thing, put_aside(home, (thing.path, *thing.more))))
            except OSError as error:
                failed.append(f"{thing.path} can't be moved aside: {error.strerror} ({error.filename}).")

        left = {thing.path for thing in _left_over(scene)}
        taken += [(thing, thing.path) for thing in planned.things if thing.path in left]
        take_prefixes(scene, _of(planned, "environment"), take)
        if not take_locks(scene, _of(planned, "lock"), take):
            notes.append(_PREPARING)
        try:
            take_caches(scene, [t for t in planned.things if t.path.is_relative_to(home.cache)], take)
        except OrchError as error:
            notes.append(str(error))
        take_mirrors(scene, _of(planned, "mirror"), take)
        gone = []
        for thing, place in taken:
            try:
                gone.append(replace(thing, bytes=remove(place)))
            except OSError as error:
                failed.append(f"{place} can't be removed: {error.strerror} ({error.filename}).")
    return Plan(planned.days, tuple(gone), tuple(dict.fromkeys(notes)), tuple(failed))


def _scene(home: Home, connection: sqlite3.Connection, days: int | None) -> Scene:
    chosen = None if days is None else days * DAY
    return Scene(
        home, needs_of_runs(home, connection), time.time(), DAY if chosen is None else min(DAY, chosen), chosen
    )


def _notes(scene: Scene) -> list[str]:
    unclear = [f"{sentence} All locks and mirrors stay." for sentence in scene.needs.unclear]
    return unclear + ([_PREPARING] if scene.needs.preparing else [])


def _of(planned: Plan, kind: str) -> list[Thing]:
    return [thing for thing in planned.things if thing.kind == kind]


def _left_over(scene: Scene) -> list[Thing]:
    """What a killed prune had moved aside, and what killed solves, fetches, writers and imports left."""
    home = scene.home
    roots = (home.locks, home.sources, home.runs)
    hidden = [path for root in roots for path in root.glob(".*") if path.name != SHELF and path.is_dir()]
    hidden += (home.store / INCOMING).glob("*")
    old = [path for path in hidden if scene.is_idle(newest([path]), DAY)]
    return [
        Thing("left over", path.name, path) for path in (*left_on_shelves(home), *hidden_entries(home), *sorted(old))
    ]


@contextmanager
def _alone(home: Home, report: Report) -> Iterator[None]:
    """Be the one process that prunes this home."""
    place = home.root / ".prune.lock"
    place.touch(mode=0o600)
    with ExitStack() as held:
        if not hold(place, held):
            report("prune", "waiting for another orch that prunes")
            hold(place, held, wait=True)
        yield
