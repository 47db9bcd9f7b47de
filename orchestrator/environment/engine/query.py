"""Questions to channels that need no solve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rattler

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.engine.errors import explained
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError


def pattern(text: str) -> rattler.MatchSpec:
    """A package as people ask for it: a specification whose name may have `*`. Raises OrchError when it is none."""
    try:
        return rattler.MatchSpec(text, strict=False, exact_names_only=False)
    except Exception as error:
        sentence = f"{text!r} is not a package specification that conda knows: {error}."
        raise OrchError(without_credentials(sentence)) from error


async def query(
    connection: Connection, wanted: rattler.MatchSpec, channels: Sequence[str], *, subdir: str
) -> list[rattler.RepoDataRecord]:
    """The packages for a platform that fit, the oldest version first. Raises OrchError when a channel can't be asked.

    `channels` are URLs; one that `wanted` names is not looked at.
    """
    try:
        found = await connection.gateway.query(
            [rattler.Channel(connection.reached(url)) for url in channels],
            [rattler.Subdir(subdir), rattler.Subdir("noarch")],
            [wanted],
            recursive=False,
        )
    except Exception as error:
        raise explained(error, connection) from error
    # rattler's gateway does not look at the subdir that a specification names.
    records = [record for some in found for record in some if wanted.subdir in (None, record.subdir)]
    return sorted(records, key=_age)


def _age(record: rattler.RepoDataRecord) -> tuple[Any, ...]:
    built = record.timestamp.timestamp() if record.timestamp else 0.0
    return record.name.normalized, record.version, record.build_number, built, str(record.build)
