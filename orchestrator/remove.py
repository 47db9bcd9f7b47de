"""`orch rm`: a run's record, logs and index rows, and the stored bytes that nothing else names."""

from __future__ import annotations

import shutil
import sqlite3

from orchestrator import ledger, store
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.sweep import sweep


def remove_run(home: Home, connection: sqlite3.Connection, run_id: str) -> int:
    """Remove a run that is not live. Returns the bytes freed in the store. Raises OrchError for a live run.

    The order is such that a kill in the middle leaves the run whole, or gone with some bytes left over.
    """
    record = ledger.read_run(home, run_id)
    if record is not None and record.status in ("running", "orphaned"):
        raise OrchError(
            f"run {run_id} is {record.status}; end it before you remove it (`orch show` names its processes)."
        )
    with store.removing(home):
        # Whoever stored something before we got the lock has recorded it; the ledger must know it too.
        sweep(home, connection)
        named = ledger.blobs_of(connection, run_id)
        ledger.remove_run(connection, run_id)
        directory = home.run(run_id)
        if directory.exists():
            gone = directory.with_name(f".removed-{run_id}")
            directory.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        freed = sum(store.remove_blob(home, sha256) for sha256 in named if not ledger.is_named(connection, sha256))
    work = home.work / run_id
    if work.exists():
        shutil.rmtree(work, ignore_errors=True)
    return freed
