"""Questions to channels that need no solve."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import rattler

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.engine.errors import explained
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError


def match_spec(text: str, *, pattern: bool = False) -> rattler.MatchSpec:
    """A package as people write it; the name in a `pattern` may have `*`. Raises OrchError when it is none."""
    try:
        return rattler.MatchSpec(text, strict=False, exact_names_only=not pattern)
    except Exception as error:
        sentence = f"{text!r} is not a package specification that conda knows: {error}."
        raise OrchError(without_credentials(sentence)) from error


def channels_at(urls: Sequence[str], connection: Connection) -> list[rattler.Channel]:
    """The channels of these URLs, as rattler reaches them."""
    return [rattler.Channel(connection.reached(url)) for url in urls]


async def query(
    connection: Connection, wanted: Sequence[rattler.MatchSpec], channels: Sequence[str], *, subdir: str
) -> list[rattler.RepoDataRecord]:
    """The packages for a platform that fit one of `wanted`, sorted by name, the oldest version first.

    `channels` are URLs; one that a specification names is not looked at. Raises OrchError when a channel can't be
    asked.
    """
    try:
        found = await connection.gateway.query(
            channels_at(channels, connection), [subdir, "noarch"], list(wanted), recursive=False
        )
    except Exception as error:
        raise explained(error, connection) from error
    # rattler's gateway does not look at the subdir that a specification names.
    subdirs = {spec.subdir for spec in wanted}
    records = [record for some in found for record in some if None in subdirs or record.subdir in subdirs]
    return sorted(records, key=_age)


async def records_in(
    connection: Connection, packages: Sequence[LockedPackage], channels: Sequence[str], *, subdir: str
) -> list[rattler.RepoDataRecord]:
    """The records that the channels have now of locked conda packages; what has vanished is left out."""
    wanted = [match_spec(f"{package.name}=={package.version}={package.build}") for package in packages]
    found = await query(connection, wanted, channels, subdir=subdir)
    records = {record.sha256.hex(): record for record in found if record.sha256 is not None}
    return [records[sha256] for sha256 in sorted(records.keys() & {package.sha256 for package in packages})]


async def package_names(connection: Connection, channels: Sequence[str], *, subdir: str) -> set[str]:
    """The names of all packages that the channels have for a platform; none when they can't be asked."""
    with contextlib.suppress(Exception):
        found = await connection.gateway.names(channels_at(channels, connection), [subdir, "noarch"])
        return {name.normalized for name in found}
    return set()


async def has_package(connection: Connection, spec: str, channels: Sequence[str], *, subdir: str) -> bool:
    """Whether the channels have a package that fits `spec`; True when they can't be asked."""
    with contextlib.suppress(Exception):
        return bool(await query(connection, [match_spec(spec)], channels, subdir=subdir))
    return True


def _age(record: rattler.RepoDataRecord) -> tuple[Any, ...]:
    built = record.timestamp.timestamp() if record.timestamp else 0.0
    return record.name.normalized, record.version, record.build_number, built, str(record.build)
