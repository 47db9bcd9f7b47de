"""The command `orch env search`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.cli.tell import tell
from orchestrator.cli.text import channel_name, print_table, size
from orchestrator.environment.host import known_platform
from orchestrator.environment.worker import run_job
from orchestrator.paths import open_home


def search(spec: str, channels: tuple[str, ...], platform: str | None, *, offline: bool, as_json: bool) -> None:
    """Print the packages that fit `spec`, the newest version last. Raises OrchError when there is none."""
    job = {"spec": spec, "channels": channels, "platform": known_platform(platform)}
    found = run_job("search", job, home=open_home(offline=offline), report=tell)["packages"]
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_table(["NAME", "VERSION", "BUILD", "CHANNEL", "DATE", "SIZE"], [_row(package) for package in found])


def _row(package: Mapping[str, Any]) -> list[str]:
    built = package["timestamp"]
    return [
        package["name"],
        package["version"],
        package["build"],
        channel_name(package["channel"]),
        "" if built is None else datetime.fromtimestamp(built / 1000, UTC).strftime("%Y-%m-%d"),
        "" if package["size"] is None else size(package["size"]),
    ]
