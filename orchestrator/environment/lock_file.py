"""The job `lock-file`: a `conda-lock.yml` for every platform, or whether one matches. Runs in the worker."""

from __future__ import annotations

import difflib
import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.environment import engine
from orchestrator.environment.conda_lock_file import (
    Categories,
    content_hash_of,
    load_lock,
    packages_of,
    platforms_of,
    remembered_of,
    sources_of,
    write_locks,
)
from orchestrator.environment.environment_file import package_name
from orchestrator.environment.host import PLATFORMS, current_subdir
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.lock_sources import content_hashes, is_pyproject, no_names, read_parts
from orchestrator.environment.locking import laid_out
from orchestrator.environment.merging import Part, merged, only
from orchestrator.environment.pyproject import names_table
from orchestrator.environment.request import VIRTUAL_PACKAGES
from orchestrator.environment.solving import Solved, Task, pip_packages, solve_wish
from orchestrator.environment.virtual import read_table, supposed
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report

MAIN_PLATFORMS = ("linux-64", "osx-64", "osx-arm64", "win-64")
"""Those to lock for, with the running one, when neither the files nor the user name any."""

_KEY = "orch"


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a lock is solved under besides its files. `virtual_packages` are versions by platform ("": all) and name."""

    as_of: str | None
    cuda: str | None
    virtual_packages: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question: paths are below `layout`. `old` is the table of the lock that is there."""

    layout: Path
    lock: str
    sources: tuple[str, ...]
    checkout: Path | None
    platforms: tuple[str, ...]
    terms: _Terms
    update: tuple[str, ...]
    old: Mapping[str, Any] | None


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """`{text, platforms, changes, notes}`: a lock file, how many packages each platform has, and what changed.

    With `check`, `{reasons}`: why the lock that is there does not match; none when it does. Nothing is written.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        asked = _asked(job, Path(folder) / "files")
        if job["check"]:
            return {"reasons": _reasons(asked)}
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        return _made(asked, scratch, home=home, report=report)


def _asked(job: Mapping[str, Any], folder: Path) -> _Asked:
    layout = laid_out(job["files"], folder)
    place = layout / job["lock"]
    old = load_lock(job["lock"], place.read_bytes()) if place.is_file() else None
    sources, platforms = tuple(job["sources"]), tuple(job["platforms"])
    update = tuple(name.lower() for name in job["update"])
    remembered = _remembered(old) if old is not None and (job["check"] or update) else _Terms(None, None, {})
    terms = _Terms(
        job["as_of"] or remembered.as_of,
        job["cuda"] or remembered.cuda,
        job["virtual_packages"] or remembered.virtual_packages,
    )
    if update and old is None:
        raise OrchError(
            f"--update moves packages of {job['lock']}, which is not there: make it first, without --update."
        )
    if not platforms and update and old is not None:
        platforms = tuple(platforms_of(old))
    checkout = Path(job["checkout"]) if job["checkout"] else None
    return _Asked(layout, job["lock"], sources, checkout, platforms, terms, update, old)


def _remembered(table: Mapping[str, Any]) -> _Terms:
    try:
        value = json.loads(remembered_of(table, _KEY) or "{}")
        given = {platform: dict(names) for platform, names in value.get("virtual_packages", {}).items()}
        return _Terms(value.get("as_of"), value.get("cuda"), given)
    except (ValueError, TypeError, AttributeError):
        return _Terms(None, None, {})


# --- whether a lock matches -------------------------------------------------------------------------------------


def _reasons(asked: _Asked) -> list[str]:
    lock, old = asked.lock, asked.old
    if old is None:
        return [f"there is no {lock}."]
    base = posixpath.dirname(lock)
    made_from = [posixpath.normpath(posixpath.join(base, name)) for name in sources_of(old)]
    if made_from != list(asked.sources):
        return [f"{lock} was made from {_listed(made_from) or 'no file'}, not from {_listed(asked.sources)}."]
    wanted = asked.platforms or _declared(asked) or tuple(platforms_of(old))
    found = [f"{lock} has nothing for {name}." for name in wanted if content_hash_of(old, name) is None]
    changed = [
        name
        for name in wanted
        if (has := content_hash_of(old, name)) and has not in content_hashes(asked.layout, lock, asked.sources, name)
    ]
    if changed:
        found.append(f"{lock} does not match {_listed(asked.sources)} any more, for {_listed(changed)}.")
    if _remembered(old) != asked.terms:
        found.append(f"{lock} was made with other --as-of, --cuda or --virtual-package.")
    return found


def _declared(asked: _Asked) -> tuple[str, ...]:
    # Which platforms are named does not depend on the platform, nor on the names of packages.
    parts = read_parts(asked.layout, asked.sources, current_subdir(), names=no_names(asked.layout))
    names = tuple(dict.fromkeys(name for part in parts for name in part.wish.platforms))
    for name in names:
        if name not in PLATFORMS:
            raise OrchError(f"{_listed(asked.sources)}: platforms has {name!r}; conda knows {', '.join(PLATFORMS)}.")
    return names


# --- making one -------------------------------------------------------------------------------------------------


def _made(asked: _Asked, scratch: Path, *, home: Home, report: Report) -> dict[str, Any]:
    platforms = asked.platforms or _declared(asked) or tuple(dict.fromkeys((*MAIN_PLATFORMS, current_subdir())))
    notes: list[str] = []
    names = no_names(asked.layout)
    if any(map(is_pyproject, asked.sources)):
        names, note = names_table(scratch, offline=home.offline)
        notes += [note] if note else []
    old = {platform: _old_packages(asked, platform) for platform in platforms}
    solved: dict[str, Solved] = {}
    categories: dict[str, Categories] = {}
    failed: dict[str, str] = {}
    for number, platform in enumerate(platforms):
        try:
            parts = read_parts(asked.layout, asked.sources, platform, names=names)
            _refuse_unknown(asked, old, parts)
            task = _task(asked, platform, old[platform], scratch / str(number), home=home, report=report)
            solved[platform] = _of_everywhere(engine.run(solve_wish(task, merged(parts))))
            categories[platform] = _categories(task, parts, solved[platform].packages)
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


def _task(
    asked: _Asked, platform: str, old: Sequence[LockedPackage], scratch: Path, *, home: Home, report: Report
) -> Task:
    scratch.mkdir()
    beside = asked.layout / posixpath.dirname(asked.lock) / VIRTUAL_PACKAGES
    table = read_table(beside.name, beside.read_bytes()) if beside.is_file() else None
    given = {**asked.terms.virtual_packages.get("", {}), **asked.terms.virtual_packages.get(platform, {})}
    return Task(
        kind="conda",
        path=asked.sources[0],
        platform=platform,
        virtual_packages=supposed(platform, given, cuda=asked.terms.cuda, table=table),
        layout=asked.layout,
        checkout=asked.checkout,
        scratch=scratch,
        home=home,
        report=report,
        as_of=asked.terms.as_of,
        kept=tuple(package for package in old if package.name not in asked.update) if asked.update else (),
        projects="without",
        shown=_listed(asked.sources),
    )


def _old_packages(asked: _Asked, platform: str) -> list[LockedPackage]:
    if asked.old is None or platform not in platforms_of(asked.old):
        return []
    try:
        return packages_of(asked.lock, asked.old, platform, every_category=True)[0]
    except OrchError:
        if asked.update:
            raise
        return []  # what it had is of no matter, but to tell what changed


def _refuse_unknown(asked: _Asked, old: Mapping[str, Sequence[LockedPackage]], parts: Sequence[Part]) -> None:
    if not asked.update:
        return
    known = {package.name for packages in old.values() for package in packages}
    known |= {package_name(text) for part in parts for text in (*part.wish.conda, *part.wish.pip)}
    for name in asked.update:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f" Names that come near: {', '.join(near)}." if near else ""
            raise OrchError(f"--update {name}: {asked.lock} has no such package.{hint}")


def _of_everywhere(solved: Solved) -> Solved:
    """Refuse what only this machine has."""
    for package in solved.packages:
        if package.url.startswith(("pkg:", "file:")) and package.manager == "pip":
            raise OrchError(
                f"{package.name} {package.version} comes from a folder or was built here ({package.file_name}), so no "
                "other machine could install it from a lock file. Name an index that has it."
            )
    return solved


def _failures(asked: _Asked, failed: Mapping[str, str], platforms: Sequence[str]) -> str:
    said: dict[str, list[str]] = {}
    for platform, text in failed.items():
        said.setdefault(text.replace(platform, "PLATFORM"), []).append(platform)
    texts = [text.replace("PLATFORM", _listed(some)) for text, some in said.items()]
    good = [platform for platform in platforms if platform not in failed]
    hint = f"\nIt can be locked for {', '.join(good)}: name those with --platform." if good else ""
    if any(f" {name} " in text for text in texts for name in ("__glibc", "__osx", "__cuda", "__linux", "__win")):
        hint += "\nWhat the machines have that it is for is told with --virtual-package, as __glibc=2.39."
    return "\n".join(texts) + f"\n{asked.lock} was not written." + hint


def _text(asked: _Asked, solved: Mapping[str, Solved], categories: Mapping[str, Categories], scratch: Path) -> str:
    base = posixpath.dirname(asked.lock)
    channels = next(iter(solved.values())).channels
    digests = {platform: content_hashes(asked.layout, asked.lock, asked.sources, platform)[0] for platform in solved}
    terms = {key: value for key, value in _plain(asked.terms).items() if value}
    place = scratch / "conda-lock.yml"
    write_locks(
        place,
        {platform: some.packages for platform, some in solved.items()},
        channels=channels,
        sources=[posixpath.relpath(path, base or ".") for path in asked.sources],
        content_hashes=digests,
        categories=categories,
        remembered={_KEY: json.dumps(terms, sort_keys=True)} if terms else None,
    )
    return place.read_text("utf-8")


def _plain(terms: _Terms) -> dict[str, Any]:
    return {"as_of": terms.as_of, "cuda": terms.cuda, "virtual_packages": terms.virtual_packages}


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


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


# --- categories -------------------------------------------------------------------------------------------------


def _categories(task: Task, parts: Sequence[Part], packages: Sequence[LockedPackage]) -> Categories:
    """The categories of each package: those whose files ask for it, or for something that needs it."""
    names = list(dict.fromkeys(part.wish.category for part in parts))
    if names == ["main"]:
        return {}
    found: dict[tuple[str, str], set[str]] = {}
    for category in names:
        wish = only(parts, category)
        for name in _needed(packages, {package_name(spec) for spec in wish.conda}):
            found.setdefault(("conda", name), set()).add(category)
        pip: Sequence[LockedPackage] = ()
        if wish.pip:
            conda = [package for package in packages if package.manager == "conda"]
            same = replace(task, kept=tuple(packages))
            with engine.connect(task.home, {package.channel or "" for package in conda}) as connection:
                pip, _ = engine.run(pip_packages(same, wish, conda, connection))
        for package in pip:
            found.setdefault(("pip", package.name), set()).add(category)
    return found


def _needed(packages: Sequence[LockedPackage], roots: set[str]) -> set[str]:
    by_name = {package.name: package for package in packages if package.manager == "conda"}
    found: set[str] = set()
    todo = list(roots & by_name.keys())
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [need for text in by_name[name].depends if (need := text.split()[0]) in by_name]
    return found
