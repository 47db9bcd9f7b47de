"""The solver: from specs and channels to package records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import rattler
from rattler.exceptions import SolverError

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.engine.errors import explained
from orchestrator.environment.engine.query import channels_at, match_spec
from orchestrator.errors import OrchError


class UnsolvableError(OrchError):
    """The channels were asked, and there is no set of packages that fits; the message is the solver's."""


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
            channels_at(channels, connection),
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


def _reached_spec(spec: str, connection: Connection) -> str:
    channel, separator, rest = spec.partition("::")
    return connection.reached(channel) + separator + rest if separator else spec


def _virtual_package(text: str) -> rattler.GenericVirtualPackage:
    name, version, build = text.split("=", 2)
    return rattler.GenericVirtualPackage(
        rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build)
    )
