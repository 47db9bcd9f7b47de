"""The run directories as the truth: reading a run from its journal, and making the ledger again from all of them."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator import journal
from orchestrator.errors import OrchError
from orchestrator.ledger.connection import BUSY_SECONDS, check_version, connect, telling, transaction
from orchestrator.ledger.experiments import put_experiments
from orchestrator.ledger.write import (
    Package,
    drop_run,
    has_environment,
    put_environment,
    put_record,
    remove_run,
)
from orchestrator.model import RunRecord
from orchestrator.paths import Home
from orchestrator.records import record_from_journal
from orchestrator.report import Report

JOURNAL = "journal.jsonl"

_RUN_ID = re.compile(r"[0-9a-f]{32}")


class UnreadableError(OrchError):
    """The journal of a run can't be read, or has a damaged event."""


def read_run(home: Home, run_id: str, *, logged: bool = True) -> RunRecord | None:
    """The record that the journal of a run tells; None for a run that was removed or has no spec yet.

    Without `logged` it lacks what its program logged, which may be much. Lines that can't be read are passed over.
    Raises OrchError when `run_id` is none, and UnreadableError when the journal can't be read or an event is damaged.
    """
    return _read(home, run_id, logged=logged)[0]


def index_run(home: Home, connection: sqlite3.Connection, run_id: str) -> RunRecord | None:
    """Make the ledger say of a run what its journal says, also that it is gone; the record.

    The journal is read inside the write transaction: of several processes that add to a journal and then call
    this, the last one sees what all have written.
    """
    with transaction(connection):
        record = read_run(home, run_id)
        if record is None:
            drop_run(connection, run_id)
        else:
            put_record(connection, record)
    return record


def missing_runs(home: Home, connection: sqlite3.Connection) -> list[str]:
    """The ids of the run directories that the ledger does not have, oldest first; some may have no spec yet."""
    with telling(connection):
        known = {run_id for (run_id,) in connection.execute("SELECT run_id FROM runs")}
    return [run_id for run_id in _run_ids(home) if run_id not in known]


def rebuild(home: Home, *, report: Report, packages: Callable[[str], Iterable[Package]] | None = None) -> int:
    """Make the ledger again from the run directories; how many runs it has.

    `packages` gives the packages of a lock id. What can't be read is reported and left out. Other processes may
    run, write and read meanwhile; they see the old ledger, then the new one. Raises OrchError when the ledger is
    of a newer orch, or can't be written.
    """
    path = home.ledger
    _refuse_newer(path)
    fresh = _scratch()
    try:
        sizes = _fill(fresh, home, report)
        _add_packages(fresh, packages, report)
        _put_in_place(fresh, path)
    finally:
        fresh.close()
    live = connect(home)
    try:
        _catch_up(home, live, sizes)
        count: int = live.execute("SELECT count(*) FROM runs").fetchone()[0]
    finally:
        live.close()
    return count


def _read(home: Home, run_id: str, *, logged: bool = True) -> tuple[RunRecord | None, list[str]]:
    if not _RUN_ID.fullmatch(run_id):
        raise OrchError(f"{run_id!r} is no run id: 32 lower-case hex digits are.")
    path = home.run(run_id) / JOURNAL
    with reading(path):
        events, broken = journal.read(path, without=None if logged else "logged")
        return record_from_journal(run_id, events), broken


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a journal is read, and what it tells made a record: what goes wrong is an UnreadableError."""
    try:
        yield
    except OrchError as error:
        raise UnreadableError(str(error)) from error
    except OSError as error:
        raise UnreadableError(f"the journal {path} can't be read: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(f"the journal {path} is damaged: {type(error).__name__}: {error}.") from error


def _run_ids(home: Home) -> list[str]:
    try:
        return sorted(entry.name for entry in home.runs.iterdir() if _RUN_ID.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def _journal_size(home: Home, run_id: str) -> int:
    try:
        return (home.run(run_id) / JOURNAL).stat().st_size
    except OSError:
        return -1


def _refuse_newer(path: Path) -> None:
    if path.is_dir():
        raise OrchError(f"the ledger {path} is a folder; move it away.")
    if not path.exists():
        return
    with contextlib.suppress(sqlite3.DatabaseError):  # what is damaged is to be replaced
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            check_version(connection, path)
        finally:
            connection.close()


def _scratch() -> sqlite3.Connection:
    """An empty ledger in a temporary file without a name: it is gone with the process."""
    from orchestrator.ledger.schema import migrate

    connection = sqlite3.connect("", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    migrate(connection)
    return connection


def _fill(fresh: sqlite3.Connection, home: Home, report: Report) -> dict[str, int]:
    """Index all runs; the size that each journal had before it was read."""
    sizes: dict[str, int] = {}
    put_experiments(fresh, home)
    run_ids = _run_ids(home)
    for done, run_id in enumerate(run_ids, 1):
        sizes[run_id] = _journal_size(home, run_id)
        try:
            record, broken = _read(home, run_id)
            if record is not None:
                with transaction(fresh):
                    put_record(fresh, record)
        except OrchError as error:
            broken = [str(error)]
        for sentence in broken:
            report("ledger", sentence)
        report("ledger", "runs", done=done, total=len(run_ids))
    return sizes


def _add_packages(
    fresh: sqlite3.Connection, packages: Callable[[str], Iterable[Package]] | None, report: Report
) -> None:
    for lock_id, platform in fresh.execute("SELECT lock_id, platform FROM environments").fetchall():
        if packages is None or has_environment(fresh, lock_id, platform):
            continue
        try:
            with transaction(fresh):
                put_environment(fresh, lock_id, platform, packages(lock_id))
        except OrchError as error:
            report("ledger", str(error))


def _put_in_place(fresh: sqlite3.Connection, path: Path) -> None:
    with telling(path):
        live = sqlite3.connect(path, isolation_level=None)
        try:
            # A backup into the file is one transaction of SQLite: complete or not at all, under its locks, and
            # seen by processes that have it open. Renaming a file over it would leave those writing to the old
            # one, and the old -wal beside the new one.
            fresh.backup(live, progress=_patience(path))
            return
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise
        finally:
            live.close()
        _replace_file(fresh, path)


def _patience(path: Path) -> Callable[[int, int, int], None]:
    """Ends a backup that waits too long for another process; by itself it waits for ever."""
    end = time.monotonic() + BUSY_SECONDS

    def check(status: int, _remaining: int, _total: int) -> None:
        if status != sqlite3.SQLITE_DONE and time.monotonic() > end:
            raise OrchError(f"the ledger {path} is locked by another process; try again when it has ended.")

    return check


def _replace_file(fresh: sqlite3.Connection, path: Path) -> None:
    """Replace what SQLite can't open, and nobody has open: its -wal and -shm must not meet the new file."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        copy = sqlite3.connect(aside, isolation_level=None)
        try:
            fresh.backup(copy)
        finally:
            copy.close()
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        aside.replace(path)
    except OSError as error:
        raise OrchError(f"the ledger {path} can't be written: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)


def _catch_up(home: Home, live: sqlite3.Connection, sizes: dict[str, int]) -> None:
    """Index what other processes added to journals since they were read, or removed."""
    put_experiments(live, home)
    for run_id in _run_ids(home):
        if sizes.pop(run_id, None) != _journal_size(home, run_id):
            with contextlib.suppress(OrchError):
                index_run(home, live, run_id)
    for run_id in sizes:
        remove_run(live, run_id)
