"""The solver: from specs and channels to package records."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime

import rattler
from rattler.exceptions import SolverError

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.engine.errors import explained
from orchestrator.environment.lock import LockedPackage
from orchestrator.errors import OrchError


class UnsolvableError(OrchError):
    """The channels were asked, and there is no set of packages that fits; the message is the solver's."""


def match_spec(text: str) -> rattler.MatchSpec:
    """A package as people write it in an environment file. Raises OrchError when it is none."""
    try:
        return rattler.MatchSpec(text, strict=False)
    except Exception as error:
        raise OrchError(f"{text!r} is not a package specification that conda knows: {error}.") from error


async def solve(
    connection: Connection,
    specs: Sequence[str],
    channels: Sequence[str],
    *,
    subdir: str,
    virtual_packages: Sequence[str],
    as_of: datetime | None = None,
    kept: Sequence[rattler.RepoDataRecord] = (),
) -> list[rattler.RepoDataRecord]:
    """The packages of an environment, sorted by name. Channel priority is strict, as conda-lock's and conda-forge's.

    `specs` and `channels` are texts, URLs for channels; `virtual_packages` are `name=version=build`; packages newer
    than `as_of` do not exist; of `kept` only what must move is another in the answer. Raises UnsolvableError, or
    OrchError when the channels can't be asked.
    """
    try:
        records = await rattler.solve(
            [rattler.Channel(connection.reached(url)) for url in channels],
            [match_spec(_reached_spec(spec, connection)) for spec in specs],
            gateway=connection.gateway,
            platforms=[rattler.Subdir(subdir), rattler.Subdir("noarch")],
            virtual_packages=[_virtual_package(text) for text in virtual_packages],
            channel_priority=rattler.ChannelPriority.Strict,
            exclude_newer=as_of,
            locked_packages=list(kept),
        )
    except SolverError as error:
        raise UnsolvableError(str(error).removeprefix("Cannot solve the request because of: ").strip()) from error
    except OrchError:
        raise
    except Exception as error:
        raise explained(error, connection) from error
    return sorted(records, key=lambda record: record.name.normalized)


async def records_in(
    connection: Connection, packages: Sequence[LockedPackage], channels: Sequence[str], *, subdir: str
) -> list[rattler.RepoDataRecord]:
    """The records that the channels have now of locked conda packages; what has vanished is left out."""
    wanted = {package.sha256 for package in packages}
    try:
        found = await connection.gateway.query(
            [rattler.Channel(connection.reached(url)) for url in channels],
            [subdir, "noarch"],
            [match_spec(f"{package.name}=={package.version}={package.build}") for package in packages],
            recursive=False,
        )
    except Exception as error:
        raise explained(error, connection) from error
    records = {record.sha256.hex(): record for some in found for record in some if record.sha256 is not None}
    return [records[sha256] for sha256 in sorted(wanted & records.keys())]


async def package_names(connection: Connection, channels: Sequence[str], *, subdir: str) -> set[str]:
    """The names of all packages that the channels have for a platform; none when they can't be asked."""
    with contextlib.suppress(Exception):
        found = await connection.gateway.names(
            [rattler.Channel(connection.reached(url)) for url in channels], [subdir, "noarch"]
        )
        return {name.normalized for name in found}
    return set()


async def has_package(connection: Connection, spec: str, channels: Sequence[str], *, subdir: str) -> bool:
    """Whether the channels have a package that fits `spec`; True when they can't be asked."""
    with contextlib.suppress(Exception):
        found = await connection.gateway.query(
            [rattler.Channel(connection.reached(url)) for url in channels],
            [subdir, "noarch"],
            [match_spec(spec)],
            recursive=False,
        )
        return any(found)
    return True


def _reached_spec(spec: str, connection: Connection) -> str:
    channel, separator, rest = spec.partition("::")
    return connection.reached(channel) + separator + rest if separator else spec


def _virtual_package(text: str) -> rattler.GenericVirtualPackage:
    name, version, build = text.split("=", 2)
    return rattler.GenericVirtualPackage(
        rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build)
    )
