"""What `orch env lock` is asked: the sources, the lock that is there, and the terms to solve under. In the worker."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from orchestrator.environment.conda_lock_file import load_lock, no_names, platforms_of
from orchestrator.environment.host import PLATFORMS, current_subdir
from orchestrator.environment.lock_sources import memory_of, read_parts
from orchestrator.environment.locking import laid_out
from orchestrator.environment.request import VIRTUAL_PACKAGES
from orchestrator.environment.virtual import read_table, supposed
from orchestrator.errors import OrchError, UsageError


@dataclass(frozen=True, slots=True)
class Terms:
    """What a lock is solved under besides its files. `virtual_packages` are versions by platform ("": all) and name."""

    as_of: str | None
    cuda: str | None
    virtual_packages: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class LockQuestion:
    """The question: paths are below `layout`. `platforms` are () when nobody named any; `update` are the packages that
    are to move, all others stay. `old` is the table of the lock that is there, `damaged` says why it can't be read.
    """

    layout: Path
    lock: str
    sources: tuple[str, ...]
    checkout: Path | None
    platforms: tuple[str, ...]
    terms: Terms
    update: tuple[str, ...]
    old: dict[str, Any] | None
    damaged: str | None
    host: Mapping[str, str]
    """The versions of this machine's virtual packages."""

    @property
    def moving(self) -> set[str]:
        """The names of what is to move, as conda and as pip write them."""
        return {form for name in self.update for form in (name.lower(), canonicalize_name(name))}


def lock_question(job: Mapping[str, Any], folder: Path) -> LockQuestion:
    """The question of a job, its files laid out in the new `folder`.

    Terms that nobody gives are those of the lock that is there. Raises UsageError for an update that can't be.
    """
    layout = laid_out(job["files"], folder)
    old, damaged = _old_lock(layout, job["lock"])
    named = tuple(job["update"])
    if named:
        _refuse_update(job, old, damaged)
    terms = Terms(job["as_of"], job["cuda"], job["virtual_packages"])
    if old is not None:
        kept = remembered_terms(old)
        terms = Terms(
            terms.as_of or kept.as_of, terms.cuda or kept.cuda, terms.virtual_packages or kept.virtual_packages
        )
    platforms = tuple(job["platforms"]) or (tuple(platforms_of(old)) if named and old is not None else ())
    host = {text.partition("=")[0]: text.split("=")[1] for text in job["host"]}
    checkout = Path(job["checkout"]) if job["checkout"] else None
    return LockQuestion(
        layout, job["lock"], tuple(job["sources"]), checkout, platforms, terms, named, old, damaged, host
    )


def _refuse_update(job: Mapping[str, Any], old: Mapping[str, Any] | None, damaged: str | None) -> None:
    if damaged:
        raise OrchError(f"--update keeps what the lock has, and {damaged}")
    if old is None:
        raise UsageError(f"--update moves packages of {job['lock']}, which is not there: make it without --update.")
    if job["platforms"]:
        raise UsageError("--update keeps the platforms of the lock: leave --platform out.")


def _old_lock(layout: Path, lock: str) -> tuple[dict[str, Any] | None, str | None]:
    """The lock that is there, or what is wrong with it."""
    place = layout / lock
    try:
        return (load_lock(lock, place.read_bytes()) if place.is_file() else None), None
    except OrchError as error:
        return None, str(error)


def remembered_terms(table: Mapping[str, Any]) -> Terms:
    memory = memory_of(table)
    as_of, cuda, given = (memory.get(name) for name in ("as_of", "cuda", "virtual_packages"))
    tables = given.items() if isinstance(given, dict) else ()
    return Terms(
        as_of if isinstance(as_of, str) else None,
        cuda if isinstance(cuda, str) else None,
        {str(platform): dict(names) for platform, names in tables if isinstance(names, dict)},
    )


def declared_platforms(asked: LockQuestion) -> tuple[str, ...]:
    # Which platforms are named does not depend on the platform, nor on the names of packages.
    parts = read_parts(asked.layout, asked.sources, current_subdir(), names=no_names(asked.layout))
    names = tuple(dict.fromkeys(name for part in parts for name in part.wish.platforms))
    for name in names:
        if name not in PLATFORMS:
            raise OrchError(f"{listed(asked.sources)}: platforms has {name!r}; conda knows {', '.join(PLATFORMS)}.")
    return names


def virtual_packages_of(asked: LockQuestion, platform: str) -> tuple[str, ...]:
    beside = asked.layout / posixpath.dirname(asked.lock) / VIRTUAL_PACKAGES
    table = read_table(beside.name, beside.read_bytes()) if beside.is_file() else None
    given = {**asked.terms.virtual_packages.get("", {}), **asked.terms.virtual_packages.get(platform, {})}
    return supposed(platform, given, cuda=asked.terms.cuda, table=table)


def kept_terms(asked: LockQuestion) -> list[str]:
    """What of the lock that is there still holds, since nobody said otherwise."""
    if asked.old is None or remembered_terms(asked.old) != asked.terms or asked.terms == Terms(None, None, {}):
        return []
    terms = asked.terms
    said = [f"--as-of {terms.as_of}"] if terms.as_of else []
    said += [f"--cuda {terms.cuda}"] if terms.cuda else []
    given = [(platform, *item) for platform, names in terms.virtual_packages.items() for item in names.items()]
    said += [
        f"--virtual-package {f'{platform}:' * bool(platform)}{name}={version}" for platform, name, version in given
    ]
    return [f"as the lock before: {' '.join(said)}. Remove {asked.lock} to begin anew."]


def listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
