"""Opening the ledger: an SQLite file that several processes write at once. Only the standard library here."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import DiskFullError, OrchError
from orchestrator.ledger.values import version_key
from orchestrator.paths import Home

VERSION = 6
"""The version of the schema, in the file's `user_version`. A newer one is refused; an older one is migrated."""

APPLICATION_ID = 0x6F726368
"""Says that an SQLite file is a ledger ("orch" in ASCII)."""

BUSY_SECONDS = 30.0
"""How long a process waits for others to finish their write."""

NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs beegfs ceph cifs fhgfs fuse.ceph fuse.glusterfs fuse.sshfs glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 "
    "orangefs panfs pvfs2 smb3 smbfs wekafs".split()
)
"""As /proc/self/mountinfo names them. WAL needs memory that all processes share, which other hosts do not."""


def connect(home: Home, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection to the ledger of `home`, which is created or migrated when it must be.

    Each statement is its own transaction unless `BEGIN IMMEDIATE` opens one. The SQL function `version_key`
    is there. Of a home that was not made (see `paths.open_home`) the ledger is empty, and in memory only. Raises
    DiskFullError, and OrchError when the file is no SQLite file or no ledger, is of a newer orch, locked, or can't be
    read or written.
    """
    path = home.ledger
    if not home.runs.is_dir():
        return _in_memory()
    with telling(path):
        connection = _open(path, readonly=readonly)
        try:
            if not check_version(connection, path):
                connection.close()
                connection = _migrated(path, readonly=readonly)
            elif not readonly:
                _choose_journal(connection, path)
            _set_up(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def copy_in_memory(home: Home) -> sqlite3.Connection:
    """A connection to a copy of the ledger that is gone when it is closed, for one whose disk is full.

    Raises as `connect` does.
    """
    copy = _in_memory()
    with telling(home.ledger), contextlib.closing(_uri(home.ledger, "mode=rw")) as connection:
        # Without shared memory, for which there is no room: https://sqlite.org/wal.html#noshm
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.backup(copy)
    check_version(copy, home.ledger)
    return copy


def network_file_system(path: Path) -> str | None:
    """A sentence of warning when `path` is on a network file system, else None (also where that can't be known)."""
    kind = _file_system(path)
    if kind not in NETWORK_FILE_SYSTEMS:
        return None
    return (
        f"{path} is on a network file system ({kind}), where SQLite is slower and relies on the server's locks; "
        "set ORCH_HOME to a local disk if you can."
    )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: all of it or nothing. Raises OrchError as `connect` does, also for a full disk."""
    with telling(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several reads that see the same state of the ledger. Raises OrchError as `connect` does."""
    with telling(connection):
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


@contextlib.contextmanager
def telling(ledger: Path | sqlite3.Connection) -> Iterator[None]:
    """Errors of SQLite that are a user's or a machine's matter become OrchError, in one sentence."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        path = ledger if isinstance(ledger, Path) else _path(ledger)
        if getattr(error, "sqlite_errorcode", 0) in _FULL:
            raise DiskFullError(f"the ledger {path} can't be written: no space left on its disk.") from error
        sentence = _sentence(error, path)
        if sentence is None:
            raise
        raise OrchError(sentence) from error


def _sentence(error: sqlite3.DatabaseError, path: Path) -> str | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest the detail
    if path.is_dir():
        return f"the ledger {path} is a folder; move it away."
    return {
        sqlite3.SQLITE_NOTADB: f"the ledger {path} is not an SQLite file; make it again with: orch ledger rebuild",
        sqlite3.SQLITE_CORRUPT: f"the ledger {path} is damaged; make it again with: orch ledger rebuild",
        sqlite3.SQLITE_BUSY: f"the ledger {path} was locked by another process for {BUSY_SECONDS:.0f} s; try again.",
        sqlite3.SQLITE_READONLY: f"the ledger {path} can't be written: it, or its folder, is read-only.",
        sqlite3.SQLITE_CANTOPEN: f"the ledger {path} can't be opened; its folder must be there and writable.",
        sqlite3.SQLITE_PERM: f"the ledger {path} can't be opened: permission denied.",
        sqlite3.SQLITE_IOERR: f"the ledger {path} can't be used: {error}.",
    }.get(code)


def _path(connection: sqlite3.Connection) -> Path:
    try:
        return Path(connection.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.Error:
        return Path("ledger.db")


def _open(path: Path, *, readonly: bool) -> sqlite3.Connection:
    if not readonly or not path.exists():
        return _uri(path, "mode=rwc")
    # An unused WAL ledger in a folder that can't be written (a colleague's) has no place for its shared memory;
    # without a -wal file nobody is writing it, and it can be read as it stands.
    if not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
        return _uri(path, "mode=ro&immutable=1")
    return _uri(path, "mode=ro")


def _uri(path: Path, query: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{query}", uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def check_version(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the schema is this orch's; False for an older one, OrchError for a newer one or a stranger's file."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if owner != APPLICATION_ID and (owner or connection.execute("SELECT 1 FROM sqlite_schema").fetchone()):
        raise OrchError(f"{path} is an SQLite file, but no ledger of orch; move it away.")
    if version > VERSION:
        raise OrchError(
            f"the ledger {path} is of a newer orch: it has schema version {version}, this orch knows {VERSION}. "
            "Install a newer orch, or set ORCH_HOME to another folder."
        )
    return version == VERSION


def _migrated(path: Path, *, readonly: bool) -> sqlite3.Connection:
    from orchestrator.ledger.schema import migrate

    connection = _uri(path, "mode=rwc")
    try:
        _choose_journal(connection, path)
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    if not readonly:
        return connection
    connection.close()
    return _open(path, readonly=True)


def _in_memory() -> sqlite3.Connection:
    from orchestrator.ledger.schema import migrate

    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    _set_up(connection)
    return connection


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.create_function("version_key", 1, version_key, deterministic=True)


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    wanted = "delete" if _file_system(path) in NETWORK_FILE_SYSTEMS else "wal"
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == wanted:
        return
    import time

    # The change needs the file for itself, and SQLite does not always wait for that by itself.
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = DELETE" if wanted == "delete" else "PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _file_system(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The type of the file system that holds `path`; None where there is no mountinfo (no Linux)."""
    try:
        lines = mountinfo.read_bytes().splitlines()
    except OSError:
        return None
    place = os.fsencode(path.resolve()) + b"/"
    best, kind = b"", None
    for line in lines:
        # proc(5): ID parent major:minor root MOUNT-POINT options [optional ...] - TYPE source options
        fields, _, rest = line.partition(b" - ")
        mount = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), fields.split(b" ")[4]).rstrip(b"/") + b"/"
        if place.startswith(mount) and len(mount) >= len(best):
            best, kind = mount, rest.split(b" ")[0].decode("ascii", "replace")
    return kind
