"""What the kept runs need of what is kept for them: the locks of their environments, the mirrors of their code."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Literal

from orchestrator import ledger
from orchestrator.beginning import read_beginning
from orchestrator.errors import OrchError
from orchestrator.execute.rundir import RunDirectory
from orchestrator.model import RunSpec
from orchestrator.paths import Home
from orchestrator.prune.scene import DAY, Needs, newest
from orchestrator.records import spec_from_json
from orchestrator.source.mirror import mirror_path

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def needs_of_runs(home: Home, connection: sqlite3.Connection) -> Needs:
    """What the runs need that have a directory, or stand in the ledger."""
    in_ledger = {row.run_id for row in ledger.find_runs(connection)}
    locks: set[str] = set()
    mirrors: set[str] = set()
    unclear: list[str] = []
    preparing: set[str] = set()
    runs = run_ids(home) | in_ledger
    for run_id in sorted(runs):
        try:
            spec = _spec(home, connection, run_id, in_ledger=run_id in in_ledger)
        except OrchError as error:
            unclear.append(f"what run {run_id} needs is not known: {error}")
            continue
        if spec == "logged":
            continue
        if spec is None:
            beginning = read_beginning(RunDirectory(home.run(run_id)))
            if beginning is not None and beginning.state == "never began":
                continue
            # One of another machine that died as it began is never swept: it is believed for a day.
            if time.time() - newest([home.run(run_id), *_inside(home.run(run_id))]) < DAY:
                preparing.add(run_id)
            continue
        locks |= {spec.environment.lock_id, *spec.environment.others.values()}
        urls = [spec.source.url, *(submodule.url for submodule in spec.source.submodules)]
        mirrors |= {mirror_path(home, url).name for url in urls}
    return Needs(frozenset(locks), frozenset(mirrors), tuple(unclear), frozenset(preparing), frozenset(runs))


def run_ids(home: Home) -> frozenset[str]:
    """The ids of all run directories."""
    return frozenset(path.name for path in home.runs.iterdir() if _RUN_ID.fullmatch(path.name))


def _spec(
    home: Home, connection: sqlite3.Connection, run_id: str, *, in_ledger: bool
) -> RunSpec | Literal["logged"] | None:
    """The spec by the run's journal, else by the ledger; None for a run without a record. Raises OrchError."""
    problem: OrchError | None = None
    try:
        if record := ledger.read_run(home, run_id):
            return record.pinned or "logged"
    except OrchError as error:
        problem = error
    if in_ledger:
        try:
            spec = ledger.load_run(connection, run_id)["spec"]
            return "logged" if spec is None else spec_from_json(spec)
        except (KeyError, TypeError, ValueError) as error:
            raise OrchError(f"the ledger's row of it is damaged ({error}).") from error
    journal = RunDirectory(home.run(run_id)).journal
    if problem is None and journal.exists() and journal.stat().st_size:
        problem = OrchError(f"the journal {journal} does not tell what was run.")
    if problem is not None:
        raise problem
    return None


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
