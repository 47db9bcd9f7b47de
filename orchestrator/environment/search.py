"""The job `search`: the packages of channels that fit a specification. Runs in the worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.environment import engine
from orchestrator.environment.config import read_settings
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.unsolvable import near_names, versions_there
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report

_SAID = (
    *("name", "version", "build", "build_number", "channel", "subdir", "url", "sha256", "md5", "size", "timestamp"),
    *("depends", "constrains", "license"),
)
"""What is said of each package."""


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """`{"packages": [...]}`: what fits `job["spec"]` for `job["platform"]`, the oldest version first.

    A channel that the specification names is asked alone, else `job["channels"]`, else those of the configuration.
    Raises OrchError when nothing fits, with what comes near.
    """
    settings = read_settings(home)
    channel, _, rest = job["spec"].rpartition("::")
    if (bracketed := engine.match_spec(rest, pattern=True).channel) is not None:  # as in `numpy[channel=conda-forge]`
        channel = bracketed.base_url
    names = [channel] if channel else job["channels"] or settings.default_channels
    channels = engine.channel_urls(names, settings)
    shown = ", ".join(without_credentials(name) for name in names)
    report("channels", f"asking {shown} for {job['platform']}")
    with engine.connect(home, channels) as connection:
        return {"packages": engine.run(_packages(connection, rest, shown, channels, job["platform"]))}


async def _packages(
    connection: engine.Connection, spec: str, shown: str, channels: Sequence[str], platform: str
) -> list[dict[str, Any]]:
    wanted = engine.match_spec(spec, pattern=True)
    found = await engine.query(connection, [wanted], channels, subdir=platform)
    if found:
        return [_package(record, connection) for record in found]
    name = wanted.name.normalized
    others = await engine.query(connection, [engine.match_spec(name, pattern=True)], channels, subdir=platform)
    if not others:
        known = await engine.package_names(connection, channels, subdir=platform)
        raise OrchError(f"no channel has {name} for {platform}.{near_names(name, known)}\nasked: {shown}")
    fitting = f"no package for {platform} fits {without_credentials(spec)}. {versions_there(others)}"
    raise OrchError(f"{fitting}\nasked: {shown}")


def _package(record: Any, connection: engine.Connection) -> dict[str, Any]:
    facts = {**engine.facts_of_channel(record, connection), "build_number": record.build_number}
    return {key: facts[key] for key in _SAID}
