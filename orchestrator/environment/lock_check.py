"""Whether a `conda-lock.yml` holds: made from its sources as they are, whole, and on the same terms. In the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.environment.conda_lock_file import (
    content_hash_of,
    no_names,
    packages_of,
    platforms_of,
    refuse_without,
)
from orchestrator.environment.environment_file import package_name
from orchestrator.environment.lock_question import LockQuestion, declared_platforms, listed, remembered_terms
from orchestrator.environment.lock_sources import is_pyproject, matches, read_parts, sources_in
from orchestrator.environment.merging import merged
from orchestrator.errors import OrchError


def reasons(asked: LockQuestion) -> list[str]:
    lock, old = asked.lock, asked.old
    if old is None:
        return [asked.damaged or f"there is no {lock}."]
    made_from = sources_in(old, lock)
    if made_from != list(asked.sources):
        return [f"{lock} was made from {listed(made_from) or 'no file'}, not from {listed(asked.sources)}."]
    wanted = asked.platforms or declared_platforms(asked) or tuple(platforms_of(old))
    there = [name for name in wanted if name in platforms_of(old) and content_hash_of(old, name) is not None]
    found = [f"{lock} has nothing for {name}." for name in wanted if name not in there]
    changed = [name for name in there if not _matches(asked, old, name)]
    if changed:
        found.append(f"{lock} does not match {listed(asked.sources)} any more, for {listed(changed)}.")
    if not wanted:
        found.append(f"{lock} has no packages.")
    found += [said for name in there if name not in changed and (said := _incomplete(asked, old, name))]
    if remembered_terms(old) != asked.terms:
        found.append(f"{lock} was made with other --as-of, --cuda or --virtual-package.")
    return found


def _matches(asked: LockQuestion, old: Mapping[str, Any], platform: str) -> bool:
    return matches(old, layout=asked.layout, lock=asked.lock, sources=asked.sources, platform=platform)


def _incomplete(asked: LockQuestion, old: Mapping[str, Any], platform: str) -> str | None:
    """What is wrong with the packages for a platform, as after a merge that went wrong."""
    try:
        packages, _ = packages_of(asked.lock, old, platform, categories=None)
        if not any(map(is_pyproject, asked.sources)):
            wish = merged(read_parts(asked.layout, asked.sources, platform, names=no_names(asked.layout)))
            refuse_without(asked.lock, map(package_name, wish.conda), packages)
    except OrchError as error:
        return str(error)
    return None
