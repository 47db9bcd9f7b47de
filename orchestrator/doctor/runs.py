"""The ledger, and runs whose supervisor was killed since anybody looked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

from orchestrator import ledger
from orchestrator.doctor.check import Check, fault, note, ok
from orchestrator.errors import OrchError
from orchestrator.ledger.connection import VERSION, check_version, telling
from orchestrator.paths import Home
from orchestrator.report import plural
from orchestrator.sweep import fate

_SHOWN = 3

Look = tuple[str, Callable[[], Iterator[Check]]]


def looks(home: Home) -> tuple[Look, ...]:
    """What can be looked at here, each by its name."""
    return (("ledger", lambda: _ledger(home)),)


def _ledger(home: Home) -> Iterator[Check]:
    path = home.ledger
    if not path.exists():
        runs = sum(1 for _ in home.runs.iterdir())
        if runs:
            yield note(
                "ledger", f"none, and {plural(runs, 'run')} in {home.runs}", "Make it again: orch ledger rebuild"
            )
        else:
            yield ok("ledger", "none yet: the first run makes it")
        return
    with telling(path), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
        if not check_version(connection, path):
            yield ok("ledger", f"{path}, of an older orch; the next command makes it schema version {VERSION}")
            return
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        live, missing = ledger.live_runs(connection), ledger.missing_runs(home, connection)
    yield ok("ledger", f"{path}, schema version {VERSION}, {plural(runs, 'run')}")
    yield from _dead(home, [*live, *missing])


def _dead(home: Home, run_ids: list[str]) -> Iterator[Check]:
    """Runs that the ledger holds for live, and whose supervisor is dead. The next `orch list` changes that; not we."""
    orphaned: list[str] = []
    lost: list[str] = []
    damaged = []
    for run_id in run_ids:
        try:
            record = ledger.read_run(home, run_id)
        except OrchError:
            damaged.append(run_id)
            continue
        found = "ended" if record is None else fate(record)
        if found in ("orphaned", "lost"):
            (orphaned if found == "orphaned" else lost).append(run_id)
    if orphaned:
        advice = "Nobody else records its end: orch stop RUN ends it, orch show RUN names its processes."
        yield note("runs", f"{_named(orphaned)}: the supervisor was killed, the program still runs", advice)
    if lost:
        yield note("runs", f"{_named(lost)}: the supervisor was killed", "orch list says from now on: lost.")
    if damaged:
        yield fault("runs", f"{_named(damaged)}: the journal can't be read", "orch ledger rebuild says why.")


def _named(run_ids: list[str]) -> str:
    more = f" and {len(run_ids) - _SHOWN} more" if len(run_ids) > _SHOWN else ""
    return ", ".join(run_id[:16] for run_id in run_ids[:_SHOWN]) + more
