"""Why an environment can't be solved, in words for the person who wrote its file. Runs in the worker."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from orchestrator.environment import engine
from orchestrator.environment.environment_file import Wish, package_name
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError

_EXACT = re.compile(r"(?P<name>[^=\s<>!~]+)={1,2}(?P<version>[^=\s]+)(=(?P<build>[^=\s]+))?")

_SHOWN = 8


async def explained(
    error: engine.UnsolvableError,
    wish: Wish,
    specs: Sequence[str],
    channels: Sequence[str],
    *,
    path: str,
    platform: str,
    as_of: str | None,
    connection: engine.Connection,
) -> OrchError:
    """The solver's explanation, or a shorter one where the cause is plain: a name that no channel has, or an export."""
    where = path or "the newest Python"
    names = await engine.package_names(connection, channels, subdir=platform)
    exact = [match for spec in specs if (match := _EXACT.fullmatch(spec.rpartition("::")[2])) is not None]
    exported = wish.exported or (len(exact) > 5 and len(exact) == len(specs))
    if names:
        unknown = [name for spec in specs if (name := package_name(spec)) not in names and not name.startswith("__")]
        if unknown and not exported:
            return _unknown(unknown[0], names, where, platform, channels)
        if unknown:
            return _foreign(where, platform, f"{unknown[0]}, which no channel has for {platform}")
    for match in exact:
        if match["build"] and not await engine.has_package(connection, match[0], channels, subdir=platform):
            return _foreign(where, platform, f"{match['name']} {match['version']} in the build {match['build']}")
    day = f" as of {as_of[:10]}" if as_of else ""
    for spec in specs:
        there = await _versions_instead(spec, channels, platform, as_of, connection)
        if there is not None:
            rest = f"asks for {spec}, which no channel has for {platform}{day}. {there}"
            return OrchError(f"{where} {rest}\nasked: {', '.join(map(without_credentials, channels))}")
    # The solver has its own way to write specifications.
    named = [spec for spec in wish.conda if re.search(rf"(?<![\w.-]){re.escape(package_name(spec))} ", f"{error}\n")]
    asked = f"\n{where} asks for {', '.join(named)}." if named else ""
    return OrchError(f"the environment {where} can't be solved for {platform}{day}.\n{error}{asked}")


async def _versions_instead(
    spec: str, channels: Sequence[str], platform: str, as_of: str | None, connection: engine.Connection
) -> str | None:
    """A sentence on the versions of a package that are there, when none of them fits; else None."""
    name = package_name(spec)
    if "::" in spec or name.startswith("__"):
        return None
    try:
        known = await engine.query(connection, [engine.match_spec(name)], channels, subdir=platform)
        wanted = engine.match_spec(spec)
    except OrchError:
        return None  # the solver's words say more
    day = datetime.fromisoformat(as_of) if as_of else None
    old = [record for record in known if day is None or (record.timestamp is not None and record.timestamp <= day)]
    if any(wanted.matches(record) for record in old):
        return None
    if old:
        return versions_there(old)
    days = [record.timestamp for record in known if record.timestamp is not None]
    return f"Its first package is of {min(days):%Y-%m-%d}." if days else "When its packages were made is not known."


def versions_there(records: Sequence[Any]) -> str:
    """A sentence with the versions of records that are sorted by them."""
    versions = list(dict.fromkeys(str(record.version) for record in records))
    more = f"; the last {_SHOWN} of {len(versions)}" if len(versions) > _SHOWN else ""
    return f"Versions that are there{more}: {', '.join(versions[-_SHOWN:])}."


def _unknown(name: str, names: set[str], where: str, platform: str, channels: Sequence[str]) -> OrchError:
    return OrchError(
        f"{where} asks for {name}, which no channel has for {platform}.{near_names(name, names)}\n"
        f"asked: {', '.join(map(without_credentials, channels))}"
    )


def near_names(name: str, names: Collection[str]) -> str:
    """The sentence about the names that come near to one that is not there; empty when none does."""
    near = difflib.get_close_matches(name, names, 3)
    return f" Names that come near: {', '.join(near)}." if near else ""


def _foreign(where: str, platform: str, what: str) -> OrchError:
    return OrchError(
        f"{where} pins {what}, as a `conda env export` of another machine does, so it can't be installed on "
        f"{platform}. Write it anew with `conda env export --from-history` (or `--no-builds`)."
    )
