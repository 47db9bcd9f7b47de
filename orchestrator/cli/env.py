"""The commands that look at environments: list, show, diff."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator import ledger
from orchestrator.cli.tell import tell, tell_notes
from orchestrator.cli.text import channel_name, print_table, size, visible
from orchestrator.environment.host import known_platform
from orchestrator.environment.lock import Lock, LockedPackage, lock_ids, read_lock
from orchestrator.environment.lock_diff import PackageChanges, package_changes
from orchestrator.environment.manifest import FILES
from orchestrator.environment.prefix import PREFIX_NAME, last_use
from orchestrator.environment_of import Found, environment_of, may_be_place
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import Home, open_home
from orchestrator.report import age

# --- list ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """A lock of this home. `size` is in bytes; what is not installed has neither size nor last use."""

    lock_id: str
    platform: str | None
    packages: int | None
    installed: bool
    size: int | None
    last_used: str | None
    runs: int
    problem: str | None = None


def list_environments(*, as_json: bool) -> None:
    """`orch env list`."""
    home = open_home(make=False)
    connection = ledger.connect(home)
    try:
        runs = ledger.runs_by_lock(connection)
    finally:
        connection.close()
    found = [_known(lock_id, home, runs[lock_id]) for lock_id in lock_ids(home)]
    found.sort(key=lambda known: (known.last_used or "", known.lock_id), reverse=True)
    if as_json:
        print(json.dumps([asdict(known) for known in found], indent=2))
    elif not found:
        print("no environments yet: orch run REPO makes the first.")
    else:
        headers = ["LOCK", "PLATFORM", "PACKAGES", "INSTALLED", "LAST USE", "RUNS"]
        print_table(headers, [_list_row(known) for known in found])
        tell_notes(known.problem for known in found if known.problem)


def _known(lock_id: str, home: Home, runs: int) -> _Known:
    prefixes = [path for path in home.envs.glob(f"{lock_id}*") if PREFIX_NAME.fullmatch(path.name)]
    sizes = [held for prefix in prefixes if (held := _size(prefix)) is not None]
    uses = [last_use(home, path.name) for path in prefixes]
    last = datetime.fromtimestamp(max(uses), UTC).isoformat(timespec="seconds") if uses else None
    installed = (bool(sizes), sum(sizes) if sizes else None, last, runs)
    try:
        lock = read_lock(home, lock_id)
    except OrchError as error:
        return _Known(lock_id, None, None, *installed, problem=str(error))
    return _Known(lock_id, lock.platform, len(lock.packages), *installed)


def _size(prefix: Path) -> int | None:
    """The bytes in the files of a prefix, as its manifest says; None where none was completed."""
    try:
        files = json.loads((prefix / FILES).read_bytes())["files"]
        return sum(int(fingerprint[0]) for fingerprint in files.values())
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _list_row(known: _Known) -> list[str]:
    return [
        known.lock_id[:16],
        known.platform or "?",
        "?" if known.packages is None else str(known.packages),
        "no" if known.size is None else size(known.size),
        age(known.last_used) if known.last_used else "",
        str(known.runs),
    ]


# --- show ---------------------------------------------------------------------------------------------------------


def show(environment: str, platform: str | None, *, offline: bool, as_json: bool) -> None:
    """`orch env show`."""
    home = open_home(offline=offline, make=may_be_place(environment))
    found, lock = _lock_of(environment, platform, home)
    if as_json:
        print(json.dumps(_public(found, lock), indent=2))
        return
    for label, value in _facts(found, lock):
        print(f"{label:<13}{value}")
    tell_notes(found.notes)
    print()
    rows = [[p.name, p.version, p.build or "", shown_channel(p)] for p in _sorted(lock)]
    print_table(["NAME", "VERSION", "BUILD", "CHANNEL"], rows)


def _lock_of(environment: str, platform: str | None, home: Home) -> tuple[Found, Lock]:
    """The lock for a platform. Without one for the running platform, a lock that stands alone is meant."""
    wanted = known_platform(platform)
    found = environment_of(environment, home=home, report=tell, platform=wanted)
    if platform is None and wanted not in found.locks:
        wanted = next(iter(found.locks))
    return found, found.read(wanted, home)


def _facts(found: Found, lock: Lock) -> Iterator[tuple[str, str]]:
    yield "environment", found.label
    yield "lock", lock.lock_id
    others = [platform for platform in found.locks if platform != lock.platform]
    yield "platform", lock.platform + (f" (locked for {', '.join(others)} too)" if others else "")
    yield "made", "by a solve of orch" if lock.solved else "elsewhere; the project brought it"
    if lock.channels:
        yield "channels", ", ".join(lock.channels)
    if lock.virtual_packages:
        yield "solved for", ", ".join("=".join(v.split("=")[:2]) for v in lock.virtual_packages)
    if lock.as_of:
        yield "as of", lock.as_of
    yield "packages", str(len(lock.packages))


def _public(found: Found, lock: Lock) -> dict[str, Any]:
    row = asdict(lock)
    packages = row.pop("packages")
    named = {"environment": found.label, "run_id": found.run_id, "locks": dict(found.locks)}
    return {**named, **row, "notes": list(found.notes), "packages": packages}


def _sorted(lock: Lock) -> list[LockedPackage]:
    return sorted(lock.packages, key=lambda package: (package.name, package.manager))


def shown_channel(package: LockedPackage) -> str:
    """A package's channel as people name it: `conda-forge`, `pkgs/main`, `pypi` for pip."""
    if package.manager == "pip":
        return "pypi"
    return channel_name(package.channel or "")


# --- diff ---------------------------------------------------------------------------------------------------------


def diff(one: str, other: str, platforms: tuple[str, ...], *, offline: bool, as_json: bool) -> int:
    """`orch env diff`: 1 when there are differences, else 0."""
    if len(platforms) > 2:
        raise UsageError("--platform is given twice at most: for A and for B.")
    if not other and len(platforms) != 2:
        raise UsageError("name a second environment, or two platforms of the one with --platform.")
    home = open_home(offline=offline, make=any(map(may_be_place, (one, other or one))))
    first = _lock_of(one, platforms[0] if platforms else None, home)[1]
    second = _lock_of(other or one, platforms[-1] if platforms else None, home)[1]
    changes = package_changes(first.packages, second.packages)
    if as_json:
        table = {
            "from": {"lock_id": first.lock_id, "platform": first.platform},
            "to": {"lock_id": second.lock_id, "platform": second.platform},
            **changes_to_json(changes),
        }
        print(json.dumps(table, indent=2))
    else:
        for line in package_lines(changes):
            print(line)
    return 1 if changes else 0


def changes_to_json(changes: PackageChanges) -> dict[str, Any]:
    """The JSON of what differs between two locks."""
    return {
        "added": [_row(p) for p in changes.added],
        "removed": [_row(p) for p in changes.removed],
        "changed": [{"from": _row(old), "to": _row(new)} for old, new in changes.changed],
    }


def package_lines(changes: PackageChanges) -> list[str]:
    """A line for each package that differs, sorted by name."""
    lines = [(p.name, f"+ {_named(p)}") for p in changes.added] + [(p.name, f"- {_named(p)}") for p in changes.removed]
    lines += [(old.name, f"~ {old.name} {_change(old, new)}") for old, new in changes.changed]
    return [visible(line, 300) for _, line in sorted(lines)]


def _aspects(package: LockedPackage) -> dict[str, str]:
    """What a difference is told by, the most telling first."""
    return {
        "version": package.version,
        "build": package.build or "",
        "channel": shown_channel(package),
        "sha256": package.sha256,
        "file_name": package.file_name,
    }


def _row(package: LockedPackage) -> dict[str, str]:
    return {"name": package.name, "manager": package.manager, **_aspects(package)}


def _named(package: LockedPackage) -> str:
    return " ".join(filter(None, [package.name, package.version, package.build or "(pip)"]))


def _change(old: LockedPackage, new: LockedPackage) -> str:
    before, after = _aspects(old), _aspects(new)
    what = next(name for name in before if before[name] != after[name])
    if what == "version":
        return f"{old.version} -> {new.version}"
    values = [v[:16] if what == "sha256" else v for v in (before[what], after[what])]
    return f"{old.version}, {what} {values[0]} -> {values[1]}"
