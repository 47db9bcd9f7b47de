"""Runs of other machines that share the home: where they are, and whether they are still heard of."""

from __future__ import annotations

import os
import time

from orchestrator.execute.rundir import HEARTBEAT_SECONDS, RunDirectory
from orchestrator.model import ProcessIdentity, RunRecord
from orchestrator.paths import Home

SILENT_SECONDS = 6 * HEARTBEAT_SECONDS
"""A supervisor that has not been heard of for so long may be gone, and its machine with it."""


def host_of(record: RunRecord | None, supervisor: ProcessIdentity | None) -> str:
    """What the machine of a run calls itself; `record` is None for one that is only prepared."""
    named = record.host.get("hostname") if record is not None else None
    return str(named or (supervisor and supervisor.machine.rpartition("@")[2]) or "another machine")


def silent_seconds(home: Home, directory: RunDirectory) -> float:
    """How long a run's supervisor has not said that it lives, by the clock of the disk that the machines share."""
    try:
        # To open a file makes a network file system ask its server; an attribute alone may be an old one.
        with directory.supervisor.open("rb") as file:
            heard = os.fstat(file.fileno()).st_mtime
    except OSError:
        heard = directory.path.stat().st_mtime if directory.path.exists() else 0.0
    return max(0.0, _now(home) - heard)


def way_to_end(home: Home, directory: RunDirectory, host: str) -> str:
    """Where a run of another machine is, when it was last heard of, and what ends it."""
    silent, short = silent_seconds(home, directory), directory.run_id[:16]
    where = f"it is on {host}, last heard of {ago(silent)}"
    if silent < SILENT_SECONDS:
        return f"{where}, and is stopped there: orch stop {short}"
    return f"{where}; if that machine is gone for good: orch stop --lost {short}"


def seen_on(host: str, silent: float) -> str:
    """Where a live run of another machine is, and when it was last heard of."""
    return f"on {host}, seen {ago(silent)}"


def ago(seconds: float) -> str:
    """How long ago something was."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds / 86400:.0f} days ago"


def _now(home: Home) -> float:
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(dir=home.root, prefix=".clock-") as mark:
            os.utime(mark.name)  # the same call as a heartbeat: the server's clock, where there is one
            return os.stat(mark.name).st_mtime  # noqa: PTH116 (a str)
    except OSError:  # nothing can be written here; our own clock is as good as we have
        return time.time()
