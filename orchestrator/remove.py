"""`orch rm`: a run's record, logs and index rows, and the stored bytes that nothing else names."""

from __future__ import annotations

import shutil
import sqlite3

from orchestrator import ledger, store
from orchestrator.errors import OrchError
from orchestrator.inputs import listed_blobs
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
        named = _named_by(home, connection, run_id)
        ledger.remove_run(connection, run_id)
        directory = home.run(run_id)
        if directory.exists():
            gone = directory.with_name(f".removed-{run_id}")
            directory.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        listed = {blob for folder in ledger.folder_inputs(connection) for blob in listed_blobs(folder, home=home)}
        doomed = [sha256 for sha256 in named if sha256 not in listed and not ledger.is_named(connection, sha256)]
        freed = sum(store.remove_blob(home, sha256) for sha256 in doomed)
    work = home.work / run_id
    if work.exists():
        shutil.rmtree(work, ignore_errors=True)
    return freed


def _named_by(home: Home, connection: sqlite3.Connection, run_id: str) -> set[str]:
    """The stored files that the run names, those of its stored input folders among them."""
    named = set(ledger.blobs_of(connection, run_id))
    for folder in set(ledger.folder_inputs(connection)) & named:
        named |= listed_blobs(folder, home=home)
    return named
