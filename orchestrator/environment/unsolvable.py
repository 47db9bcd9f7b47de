"""Why an environment can't be solved, in words for the person who wrote its file. Runs in the worker."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from orchestrator.environment import engine
from orchestrator.environment.environment_file import Wish, package_name
from orchestrator.errors import OrchError

_EXACT = re.compile(r"(?P<name>[^=\s<>!~]+)={1,2}(?P<version>[^=\s]+)(=(?P<build>[^=\s]+))?")


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
    return OrchError(f"the environment {where} can't be solved for {platform}{day}.\n{error}")


def _unknown(name: str, names: set[str], where: str, platform: str, channels: Sequence[str]) -> OrchError:
    near = difflib.get_close_matches(name, names, 3)
    hint = f" Names that come near: {', '.join(near)}." if near else ""
    return OrchError(
        f"{where} asks for {name}, which no channel has for {platform}.{hint}\nasked: {', '.join(channels)}"
    )


def _foreign(where: str, platform: str, what: str) -> OrchError:
    return OrchError(
        f"{where} pins {what}, as a `conda env export` of another machine does, so it can't be installed on "
        f"{platform}. Write it anew with `conda env export --from-history` (or `--no-builds`)."
    )
