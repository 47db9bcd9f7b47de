"""The schema of the ledger, as numbered migrations. Imported only when a ledger must be created or migrated.

A migration that was released is never edited; a change is a new one, and raises `connection.VERSION`.

Keys are text made of what they name (run ids, sha256), never counters, so that a rebuilt ledger has the same
rows. Text that is no Unicode is a BLOB, a NaN is NULL (see `values`). `metrics.position` counts within a run and key.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database, Migrations

from orchestrator.ledger.connection import APPLICATION_ID, VERSION, transaction

MIGRATIONS = Migrations("ledger")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema of an empty or older ledger to `VERSION`, in one transaction. Safe among processes."""
    database = Database(connection, recursive_triggers=False, execute_plugins=False)
    connection.execute("PRAGMA foreign_keys = OFF")  # a table that is made again must not take others' rows along
    # sqlite-utils would open a deferred transaction, which another process can make fail; inside one it nests.
    with transaction(connection):
        MIGRATIONS.apply(database)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version = {VERSION:d}")


def _first(database: Database) -> None:
    for statement in _FIRST.strip().split(";\n"):
        database.execute(statement)


_FIRST = """
CREATE TABLE experiments (
    experiment_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) WITHOUT ROWID;

CREATE TABLE specs (
    spec_id TEXT PRIMARY KEY,
    canonical BLOB NOT NULL -- the portable JSON whose sha256 is spec_id
) WITHOUT ROWID;

CREATE TABLE environments (
    lock_id TEXT NOT NULL,
    platform TEXT NOT NULL,
    packages INTEGER, -- how many, NULL while they are not known
    PRIMARY KEY (lock_id, platform)
) WITHOUT ROWID;

CREATE TABLE packages (
    lock_id TEXT NOT NULL,
    platform TEXT NOT NULL,
    manager TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    version_sort TEXT NOT NULL, -- version_key(version): compares as versions do
    build TEXT,
    url TEXT,
    sha256 TEXT,
    channel TEXT,
    subdir TEXT,
    PRIMARY KEY (lock_id, platform, manager, name),
    FOREIGN KEY (lock_id, platform) REFERENCES environments ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX packages_by_name ON packages (name, version_sort);

CREATE TABLE hosts (
    host_id TEXT PRIMARY KEY, -- sha256 of facts
    hostname TEXT,
    os TEXT,
    kernel TEXT,
    cpu TEXT,
    cpus INTEGER,
    memory INTEGER,
    facts TEXT NOT NULL -- JSON
) WITHOUT ROWID;

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    name TEXT,
    experiment_id TEXT NOT NULL REFERENCES experiments,
    spec_id TEXT NOT NULL REFERENCES specs,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    url TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    tree_id TEXT NOT NULL,
    commit_time INTEGER NOT NULL,
    subdir TEXT NOT NULL,
    revision TEXT,
    origin TEXT,
    dirty INTEGER NOT NULL,
    entry_point TEXT NOT NULL,
    command TEXT NOT NULL,
    lock_id TEXT NOT NULL,
    platform TEXT NOT NULL,
    replay_of TEXT,
    parent TEXT,
    host_id TEXT NOT NULL REFERENCES hosts,
    host_more TEXT NOT NULL, -- JSON: what of the host belongs to this run only, as the variables passed on
    wall_seconds REAL NOT NULL,
    cpu_seconds REAL NOT NULL,
    peak_memory INTEGER NOT NULL,
    read_bytes INTEGER NOT NULL,
    written_bytes INTEGER NOT NULL,
    FOREIGN KEY (lock_id, platform) REFERENCES environments
) WITHOUT ROWID;
CREATE INDEX runs_by_experiment ON runs (experiment_id, status, started_at);
CREATE INDEX runs_by_spec ON runs (spec_id, status);
CREATE INDEX runs_by_name ON runs (name) WHERE name IS NOT NULL;
CREATE INDEX runs_by_environment ON runs (lock_id, platform);
CREATE INDEX runs_by_commit ON runs (commit_id);
CREATE INDEX runs_by_host ON runs (host_id);
CREATE INDEX runs_by_replay ON runs (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;

CREATE TABLE params (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE INDEX params_by_value ON params (key, value);

CREATE TABLE tags (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE INDEX tags_by_value ON tags (key, value);

CREATE TABLE metrics (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    step INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, -- milliseconds since the epoch
    value REAL,
    PRIMARY KEY (run_id, key, position)
) WITHOUT ROWID;

CREATE TABLE latest_metrics (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    step INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    value REAL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE INDEX latest_metrics_by_value ON latest_metrics (key, value);

CREATE TABLE outputs (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    link TEXT,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
CREATE INDEX outputs_by_path ON outputs (path);
CREATE INDEX outputs_by_sha256 ON outputs (sha256);

CREATE TABLE inputs (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    kind TEXT NOT NULL,
    origin TEXT,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
CREATE INDEX inputs_by_sha256 ON inputs (sha256);

CREATE TABLE submodules (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    path TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    url TEXT NOT NULL,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;

CREATE TABLE notes (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
"""

MIGRATIONS(name="0001_first")(_first)


def _environments_of_runs(database: Database) -> None:
    # When packages had to exist, and the lock ids for other platforms (JSON); NULL for most runs.
    database.execute("ALTER TABLE runs ADD COLUMN as_of TEXT")
    database.execute("ALTER TABLE runs ADD COLUMN other_locks TEXT")


MIGRATIONS(name="0002_environments_of_runs")(_environments_of_runs)


def _verdicts(database: Database) -> None:
    # Of replays, JSON; NULL for all other runs.
    database.execute("ALTER TABLE runs ADD COLUMN verdict TEXT")


MIGRATIONS(name="0003_verdicts")(_verdicts)


def _bundles(database: Database) -> None:
    # The sha256 of the manifest of the bundle that brought the run; NULL for all that were made here.
    database.execute("ALTER TABLE runs ADD COLUMN bundle TEXT")


MIGRATIONS(name="0004_bundles")(_bundles)


def _unmeasured_use(database: Database) -> None:
    # What nobody measured is NULL. SQLite takes no NOT NULL back, so the table is made again.
    _make_runs_again(database, {f"{column} NOT NULL": column for column in _USE}, _FORGET_UNMEASURED)


_USE = ("wall_seconds REAL", "cpu_seconds REAL", "peak_memory INTEGER", "read_bytes INTEGER", "written_bytes INTEGER")

_FORGET_UNMEASURED = """
UPDATE runs_again
    SET wall_seconds = NULL, cpu_seconds = NULL, peak_memory = NULL, read_bytes = NULL, written_bytes = NULL
    WHERE wall_seconds = 0 AND cpu_seconds = 0 AND peak_memory = 0 AND read_bytes = 0 AND written_bytes = 0
"""


def _make_runs_again(database: Database, changes: dict[str, str], change_rows: str | None = None) -> None:
    made = dict(database.execute("SELECT name, sql FROM sqlite_schema WHERE tbl_name = 'runs' AND sql IS NOT NULL"))
    table = made.pop("runs").replace('CREATE TABLE "runs"', "CREATE TABLE runs")
    for before, after in {"CREATE TABLE runs ": "CREATE TABLE runs_again ", **changes}.items():
        table = table.replace(before, after)
    database.execute(table)
    database.execute("INSERT INTO runs_again SELECT * FROM runs")
    if change_rows is not None:
        database.execute(change_rows)
    for statement in ("DROP TABLE runs", "ALTER TABLE runs_again RENAME TO runs", *made.values()):
        database.execute(statement)


MIGRATIONS(name="0005_unmeasured_use")(_unmeasured_use)


def _tracking(database: Database) -> None:
    # A run that was only logged has no spec. `tracking` is JSON, NULL for most runs; times of experiments are in
    # milliseconds since the epoch, and NULL where nobody told.
    nulls = {f"{column} NOT NULL": column for column in _SPEC}
    _make_runs_again(database, nulls)
    for statement in _TRACKING.strip().split(";\n"):
        database.execute(statement)


_SPEC = (
    *("spec_id TEXT", "url TEXT", "commit_id TEXT", "tree_id TEXT", "commit_time INTEGER", "subdir TEXT"),
    *("dirty INTEGER", "entry_point TEXT", "command TEXT", "lock_id TEXT", "platform TEXT"),
)

_TRACKING = """
ALTER TABLE runs ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;

ALTER TABLE runs ADD COLUMN tracking TEXT;

ALTER TABLE experiments ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;

ALTER TABLE experiments ADD COLUMN created INTEGER;

ALTER TABLE experiments ADD COLUMN updated INTEGER;

CREATE TABLE experiment_tags (
    experiment_id TEXT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (experiment_id, key)
) WITHOUT ROWID;

CREATE TABLE datasets (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    context TEXT,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID;
CREATE INDEX datasets_by_name ON datasets (name, digest);

CREATE TABLE models (
    model_id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX models_by_run ON models (run_id)
"""

MIGRATIONS(name="0006_tracking")(_tracking)
