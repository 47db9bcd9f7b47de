"""The job `lock-file`: a `conda-lock.yml` for every platform, or whether one matches. Runs in the worker."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.utils import canonicalize_name

from orchestrator.environment import engine
from orchestrator.environment.categories import categories_of
from orchestrator.environment.conda_lock_file import (
    Categories,
    no_names,
    packages_of,
    platforms_of,
    write_locks,
)
from orchestrator.environment.environment_file import package_name
from orchestrator.environment.host import current_subdir
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.lock_check import reasons
from orchestrator.environment.lock_question import (
    LockQuestion,
    declared_platforms,
    kept_terms,
    listed,
    lock_question,
    virtual_packages_of,
)
from orchestrator.environment.lock_sources import (
    MEMORY,
    is_pyproject,
    new_content_hash,
    read_parts,
    said_by,
)
from orchestrator.environment.merging import Part, merged
from orchestrator.environment.pyproject import names_table
from orchestrator.environment.solving import Solved, Task, solve_wish
from orchestrator.environment.unsolvable import near_names
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import Home
from orchestrator.report import Report

MAIN_PLATFORMS = ("linux-64", "osx-64", "osx-arm64", "win-64")
"""Those to lock for, with the running one, when neither the files nor the user name any."""


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """`{text, platforms, changes, notes}`: a lock file, how many packages each platform has, and what changed.

    With `check`, `{reasons}`: why the lock that is there does not match; none when it does. Nothing is written.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        asked = lock_question(job, Path(folder) / "files")
        if job["check"]:
            return {"reasons": reasons(asked)}
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        return _made(asked, scratch, home=home, report=report)


def _made(asked: LockQuestion, scratch: Path, *, home: Home, report: Report) -> dict[str, Any]:
    platforms = asked.platforms or declared_platforms(asked) or _as_before(asked)
    notes = [f"the lock that was there is replaced: {asked.damaged}"] if asked.damaged else kept_terms(asked)
    names = no_names(asked.layout)
    if any(map(is_pyproject, asked.sources)):
        names, note = names_table(scratch, offline=home.offline)
        notes += [note] if note else []
    old = {platform: _old_packages(asked, platform) for platform in platforms}
    parts = {platform: read_parts(asked.layout, asked.sources, platform, names=names) for platform in platforms}
    _refuse_unknown(asked, old, parts)
    solved: dict[str, Solved] = {}
    categories: dict[str, Categories] = {}
    failed: dict[str, str] = {}
    for number, platform in enumerate(platforms):
        task = _task(asked, platform, old[platform], scratch / str(number), home=home, report=report)
        try:
            solved[platform] = _of_everywhere(engine.run(solve_wish(task, merged(parts[platform]))))
            categories[platform] = categories_of(task, parts[platform], solved[platform].packages)
        except OrchError as error:
            failed[platform] = str(error)
    if failed:
        raise OrchError(_failures(asked, failed, platforms))
    notes += [note for platform in platforms for note in solved[platform].notes if note not in notes]
    return {
        "text": _text(asked, solved, categories, scratch),
        "platforms": {platform: len(some.packages) for platform, some in solved.items()},
        "changes": {platform: _changes(old[platform], some.packages) for platform, some in solved.items()},
        "notes": list(dict.fromkeys(notes)),
    }


def _as_before(asked: LockQuestion) -> tuple[str, ...]:
    before = platforms_of(asked.old) if asked.old is not None else []
    return tuple(before) or tuple(dict.fromkeys((*MAIN_PLATFORMS, current_subdir())))


def _task(
    asked: LockQuestion, platform: str, old: Sequence[LockedPackage], scratch: Path, *, home: Home, report: Report
) -> Task:
    scratch.mkdir()
    return Task(
        kind="conda",
        path=asked.sources[0],
        platform=platform,
        virtual_packages=virtual_packages_of(asked, platform),
        layout=asked.layout,
        checkout=asked.checkout,
        scratch=scratch,
        home=home,
        report=report,
        as_of=asked.terms.as_of,
        kept=tuple(package for package in old if package.name not in asked.moving) if asked.update else (),
        projects="without",
        refresh=bool(asked.update),
        shown=listed(asked.sources),
    )


def _old_packages(asked: LockQuestion, platform: str) -> list[LockedPackage]:
    if asked.old is None or platform not in platforms_of(asked.old):
        return []
    try:
        return packages_of(asked.lock, asked.old, platform, categories=None)[0]
    except OrchError:
        if asked.update:
            raise
        return []  # what it had is of no matter, but to tell what changed


def _refuse_unknown(
    asked: LockQuestion, old: Mapping[str, Sequence[LockedPackage]], parts: Mapping[str, Sequence[Part]]
) -> None:
    known = {package.name for packages in old.values() for package in packages}
    wishes = [part.wish for some in parts.values() for part in some]
    known |= {package_name(text) for wish in wishes for text in wish.conda}
    known |= {canonicalize_name(package_name(text)) for wish in wishes for text in wish.pip}
    for name in asked.update:
        if not known & {name.lower(), canonicalize_name(name)}:
            raise UsageError(f"--update {name}: {asked.lock} has no such package.{near_names(name, known)}")


def _of_everywhere(solved: Solved) -> Solved:
    """Refuse wheels that only this machine has. The user named channels in folders: those are told."""
    for package in solved.packages:
        if package.url.startswith(("pkg:", "file:")) and package.manager == "pip":
            raise OrchError(
                f"{package.name} {package.version} comes from a folder or was built here ({package.file_name}), so no "
                "other machine could install it from a lock file. Name an index that has it."
            )
    folders = sorted({package.channel or "" for package in solved.packages if package.url.startswith("file:")})
    notes = [f"the channel {url} is a folder: another machine must have it in the same place." for url in folders]
    return replace(solved, notes=(*solved.notes, *notes))


def _failures(asked: LockQuestion, failed: Mapping[str, str], platforms: Sequence[str]) -> str:
    """What each platform has against it; the same sentence about several is said once."""
    said: dict[str, list[str]] = {}
    for platform, text in failed.items():
        name = rf"(?<![\w/.-]){re.escape(platform)}(?![\w/-])"  # the word, not a part of an address
        said.setdefault(re.sub(name, "\0", text), []).append(platform)
    lines = [text.replace("\0", listed(some)) for text, some in said.items()]
    lines.append(f"{asked.lock} was not written.")
    if good := [platform for platform in platforms if platform not in failed]:
        lines.append(f"It can be locked for {listed(good)}: name those with --platform.")
    if any(re.search(r"\b__[a-z]", text) for text in said):
        lines.append(_supposed_hint(asked, list(failed), " ".join(said)))
    return "\n".join(lines)


def _supposed_hint(asked: LockQuestion, platforms: Sequence[str], text: str) -> str:
    """What was supposed of the machines, of which the solver complains, and how to say otherwise."""
    named = set(re.findall(r"\b__[a-z0-9_]+", text))
    has = [
        f"{name} {version} ({platform})"
        for platform in platforms
        for name, version in (package.split("=")[:2] for package in virtual_packages_of(asked, platform))
        if name in named
    ]
    here = [f"{name}={version}" for name, version in asked.host.items() if name in named]
    supposed_of = f"with {', '.join(has)}" if has else f"without {listed(sorted(named))}"
    example = here[0] if here else f"{min(named)}=2.39"
    this = f"; this one has {', '.join(here)}" if here else ""
    return f"Machines {supposed_of} were supposed{this}. --virtual-package {platforms[0]}:{example} says otherwise."


def _text(
    asked: LockQuestion, solved: Mapping[str, Solved], categories: Mapping[str, Categories], scratch: Path
) -> str:
    base = posixpath.dirname(asked.lock)
    channels = next(iter(solved.values())).channels
    made_from = (asked.layout, asked.lock, asked.sources)
    digests = {platform: new_content_hash(*made_from, platform) for platform in solved}
    inputs = {platform: said_by(*made_from, platform) for platform in solved}
    terms = {key: value for key, value in asdict(asked.terms).items() if value}
    place = scratch / "conda-lock.yml"
    write_locks(
        place,
        {platform: some.packages for platform, some in solved.items()},
        channels=channels,
        sources=[posixpath.relpath(path, base or ".") for path in asked.sources],
        content_hashes=digests,
        categories=categories,
        remembered={MEMORY: json.dumps({**terms, "inputs": inputs}, sort_keys=True)},
    )
    return place.read_text("utf-8")


def _changes(old: Sequence[LockedPackage], new: Sequence[LockedPackage]) -> list[tuple[str, str | None, str | None]]:
    """Name, version before and version now, of each package that is another one."""
    before = {(package.name, package.manager): package for package in old}
    after = {(package.name, package.manager): package for package in new}
    found = []
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if one is None or other is None or one.file_name != other.file_name:
            same = one is not None and other is not None and one.version == other.version
            found.append((key[0], _version(one, with_build=same), _version(other, with_build=same)))
    return found


def _version(package: LockedPackage | None, *, with_build: bool) -> str | None:
    if package is None:
        return None
    return f"{package.version} {package.build or package.file_name}" if with_build else package.version
