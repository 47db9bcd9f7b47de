"""The packages that two locks do not have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.environment.lock import LockedPackage


@dataclass(frozen=True, slots=True)
class PackageChanges:
    """From one lock to another: packages of a new name, of a name that is gone, and (before, after) of the others."""

    added: tuple[LockedPackage, ...] = ()
    removed: tuple[LockedPackage, ...] = ()
    changed: tuple[tuple[LockedPackage, LockedPackage], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def package_changes(one: Iterable[LockedPackage], other: Iterable[LockedPackage]) -> PackageChanges:
    """What differs between the packages of two locks, each part sorted by name.

    As for the id of a lock, a package is what its file is, and not where it came from.
    """
    before = {(p.name, p.manager): p for p in one}
    after = {(p.name, p.manager): p for p in other}
    both = [(before[key], after[key]) for key in sorted(before.keys() & after.keys())]
    return PackageChanges(
        added=tuple(after[key] for key in sorted(after.keys() - before.keys())),
        removed=tuple(before[key] for key in sorted(before.keys() - after.keys())),
        changed=tuple((old, new) for old, new in both if _identity(old) != _identity(new)),
    )


def _identity(package: LockedPackage) -> tuple[str, str]:
    return package.file_name, package.sha256
