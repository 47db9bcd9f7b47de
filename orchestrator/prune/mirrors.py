"""Mirrors that go: those that the code of no run is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.prune.needs import run_ids
from orchestrator.prune.scene import HOUR, Scene, Thing, newest
from orchestrator.source.mirror import locked


def idle_mirrors(scene: Scene) -> list[Thing]:
    """The mirrors that no run names, and that nobody used of late.

    What was not committed when it was run is in no other place than a mirror, which its run names.
    """
    if not scene.needs.are_known:
        return []
    mirrors = [path for path in sorted(scene.home.sources.glob("*.git")) if not path.name.startswith(".")]
    return [Thing("mirror", path.name, path) for path in mirrors if _is_idle(scene, path)]


def take_mirrors(scene: Scene, things: list[Thing], take: Callable[[Thing], None]) -> None:
    """Take those of `things` that are still idle."""
    for thing in things:
        # A run that began since the scene was looked at may have found it; its directory was there before.
        with locked(scene.home, thing.path):
            if scene.needs.are_known and _is_idle(scene, thing.path) and not run_ids(scene.home) - scene.needs.runs:
                take(thing)


def _is_idle(scene: Scene, mirror: Path) -> bool:
    # Each check-out and each look at a work tree writes an index into one of these folders.
    used = newest([mirror, *mirror.iterdir()]) if mirror.is_dir() else scene.now
    return mirror.name not in scene.needs.mirrors and scene.is_idle(used, max(scene.idle, HOUR))
