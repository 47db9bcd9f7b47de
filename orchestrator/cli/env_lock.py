"""`orch env lock`: write the lock of a project, or say whether it holds."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.as_of import moment
from orchestrator.cli.tell import tell, tell_notes
from orchestrator.environment.host import cuda_version, known_platform
from orchestrator.errors import OrchError, UsageError
from orchestrator.files import write_whole
from orchestrator.paths import open_home
from orchestrator.project_lock import Change, LockFile, LockRequest, lock_file, reasons_against
from orchestrator.report import plural

_VIRTUAL = re.compile(r"((?P<platform>[a-z]+-[a-z0-9]+):)?(?P<name>__[a-z0-9_]+)=(?P<version>[0-9][A-Za-z0-9._]*)")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `orch env lock`, as typed."""

    sources: tuple[str, ...]
    platforms: tuple[str, ...]
    virtual_packages: tuple[str, ...]
    cuda: str | None
    update: tuple[str, ...]
    check: bool
    as_of: str | None
    output: Path | None
    offline: bool
    as_json: bool


def lock(options: Options) -> int:
    """Write the lock, and print what it has and what changed; with `--check` print why it does not hold (1)."""
    if options.check and options.update:
        raise UsageError("--check writes nothing, so there is nothing to --update.")
    request = LockRequest(
        sources=tuple(Path(text).expanduser() for text in options.sources),
        platforms=tuple(dict.fromkeys(known_platform(name) for name in options.platforms)),
        virtual_packages=_virtual_packages(options.virtual_packages),
        cuda=cuda_version(options.cuda),
        as_of=moment(options.as_of) if options.as_of else None,
        update=options.update,
        output=options.output,
    )
    for text in options.sources:
        if "://" in text:
            raise UsageError(f"{text} is no file of this machine: clone the repository, and lock it there.")
    home = open_home(offline=options.offline)
    if options.check:
        place, reasons = reasons_against(request, home=home, report=tell)
        if options.as_json:
            print(json.dumps({"path": str(place), "matches": not reasons, "reasons": list(reasons)}, indent=2))
            return 1 if reasons else 0
        print("\n".join(reasons) or f"{_shown(place)} matches its sources.")
        if reasons:
            print("`orch env lock` makes it anew.", file=sys.stderr)
        return 1 if reasons else 0
    made = lock_file(request, home=home, report=tell)
    tell_notes(made.notes)
    _write(made)
    if options.as_json:
        print(json.dumps(_public(made), indent=2))
        return 0
    for line in _summary(made, options.update):
        print(line)
    return 0


def _virtual_packages(texts: tuple[str, ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        match = _VIRTUAL.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--virtual-package takes [PLATFORM:]NAME=VERSION, as linux-64:__glibc=2.17, not {text!r}."
            )
        platform = known_platform(match["platform"]) if match["platform"] else ""
        found.setdefault(platform, {})[match["name"]] = match["version"]
    return found


def _write(made: LockFile) -> None:
    try:
        write_whole(made.path, (_HEAD + made.text).encode())
    except OSError as error:
        raise OrchError(f"{made.path} can't be written: {error.strerror}.") from error


_HEAD = """\
# The exact packages of an environment, by platform. Made by `orch env lock`; read by orch, conda-lock and micromamba.
# `orch env lock --update NAME` moves one package, `orch env lock --check` tells whether this matches its sources.
"""


def _public(made: LockFile) -> dict[str, Any]:
    return {
        "path": str(made.path),
        "new": made.is_new,
        "platforms": dict(made.platforms),
        "changes": {platform: [asdict(change) for change in changes] for platform, changes in made.changes.items()},
        "notes": list(made.notes),
    }


def _summary(made: LockFile, updated: Sequence[str]) -> Iterator[str]:
    if not made.is_new:
        yield from _changed(made)
    if updated and not any(made.changes.values()):
        yield f"nothing moved: {' and '.join(updated)} can't be newer with what the files ask for."
    width = max(map(len, made.platforms))
    for platform, count in made.platforms.items():
        yield f"{platform:<{width}}  {plural(count, 'package')}"
    yield f"wrote {_shown(made.path)}"


def _changed(made: LockFile) -> Iterator[str]:
    where: dict[Change, list[str]] = {}
    for platform, changes in made.changes.items():
        for change in changes:
            where.setdefault(change, []).append(platform)
    for change, platforms in sorted(where.items(), key=lambda item: item[0].name):
        only = f"  ({', '.join(platforms)})" if len(platforms) < len(made.platforms) else ""
        yield f"{_change(change)}{only}"


def _change(change: Change) -> str:
    if change.before is None:
        return f"+ {change.name} {change.now}"
    if change.now is None:
        return f"- {change.name} {change.before}"
    return f"~ {change.name} {change.before} -> {change.now}"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
