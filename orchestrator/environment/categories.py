"""The categories of locked packages, as conda-lock has them: main, dev, ... In the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.environment import engine
from orchestrator.environment.conda_lock_file import Categories
from orchestrator.environment.environment_file import Wish, package_name
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.merging import Part, only
from orchestrator.environment.pip_lock import PipPart, pypi_name
from orchestrator.environment.solving import Task, pip_packages
from orchestrator.report import silent


def categories_of(task: Task, parts: Sequence[Part], packages: Sequence[LockedPackage]) -> Categories:
    """The categories of each package: those whose files ask for it, or for something that needs it."""
    names = list(dict.fromkeys(part.wish.category for part in parts))
    if names == ["main"]:
        return {}
    found: dict[tuple[str, str], set[str]] = {}
    for category in names:
        wish = only(parts, category)
        pip = _pip_of(task, wish, packages)
        roots = {package_name(spec) for spec in wish.conda}
        roots |= {package.name for package in packages if pypi_name(package.name) in pip.provided}
        reached = [("conda", name) for name in _needed(packages, roots)]
        for key in (*reached, *(("pip", package.name) for package in pip.packages)):
            found.setdefault(key, set()).add(category)
    return found


def _pip_of(task: Task, wish: Wish, packages: Sequence[LockedPackage]) -> PipPart:
    """What of the pip packages a wish needs, in the versions that they have."""
    conda = [package for package in packages if package.manager == "conda"]
    same = replace(task, kept=tuple(packages), refresh=False, report=silent)
    with engine.connect(task.home, {package.channel or "" for package in conda}) as connection:
        part: PipPart = engine.run(pip_packages(same, wish, conda, connection))[0]
    return part


def _needed(packages: Sequence[LockedPackage], roots: set[str]) -> set[str]:
    by_name = {package.name: package for package in packages if package.manager == "conda"}
    found: set[str] = set()
    todo = list(roots & by_name.keys())
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [need for text in by_name[name].depends if (need := text.partition(" ")[0]) in by_name]
    return found
