CREATE TABLE datasets (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    context TEXT,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID
CREATE INDEX datasets_by_name ON datasets (name, digest)
CREATE TABLE environments (
    lock_id TEXT NOT NULL,
    platform TEXT NOT NULL,
    packages INTEGER, -- how many, NULL while they are not known
    PRIMARY KEY (lock_id, platform)
) WITHOUT ROWID
CREATE TABLE experiment_tags (
    experiment_id TEXT NOT NULL REFERENCES experiments ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (experiment_id, key)
) WITHOUT ROWID
CREATE TABLE experiments (
    experiment_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
, deleted INTEGER NOT NULL DEFAULT 0, created INTEGER, updated INTEGER) WITHOUT ROWID
CREATE TABLE hosts (
    host_id TEXT PRIMARY KEY, -- sha256 of facts
    hostname TEXT,
    os TEXT,
    kernel TEXT,
    cpu TEXT,
    cpus INTEGER,
    memory INTEGER,
    facts TEXT NOT NULL -- JSON
) WITHOUT ROWID
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
) WITHOUT ROWID
CREATE INDEX inputs_by_sha256 ON inputs (sha256)
CREATE TABLE latest_metrics (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    step INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    value REAL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID
CREATE INDEX latest_metrics_by_value ON latest_metrics (key, value)
CREATE TABLE metrics (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    step INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, -- milliseconds since the epoch
    value REAL,
    PRIMARY KEY (run_id, key, position)
) WITHOUT ROWID
CREATE TABLE models (
    model_id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE
) WITHOUT ROWID
CREATE INDEX models_by_run ON models (run_id)
CREATE TABLE notes (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID
CREATE TABLE outputs (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    link TEXT,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID
CREATE INDEX outputs_by_path ON outputs (path)
CREATE INDEX outputs_by_sha256 ON outputs (sha256)
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
) WITHOUT ROWID
CREATE INDEX packages_by_name ON packages (name, version_sort)
CREATE TABLE params (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID
CREATE INDEX params_by_value ON params (key, value)
CREATE TABLE "runs" (
    run_id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    name TEXT,
    experiment_id TEXT NOT NULL REFERENCES experiments,
    spec_id TEXT REFERENCES specs,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    url TEXT,
    commit_id TEXT,
    tree_id TEXT,
    commit_time INTEGER,
    subdir TEXT,
    revision TEXT,
    origin TEXT,
    dirty INTEGER,
    entry_point TEXT,
    command TEXT,
    lock_id TEXT,
    platform TEXT,
    replay_of TEXT,
    parent TEXT,
    host_id TEXT NOT NULL REFERENCES hosts,
    host_more TEXT NOT NULL, -- JSON: what of the host belongs to this run only, as the variables passed on
    wall_seconds REAL,
    cpu_seconds REAL,
    peak_memory INTEGER,
    read_bytes INTEGER,
    written_bytes INTEGER, as_of TEXT, other_locks TEXT, verdict TEXT, bundle TEXT, deleted INTEGER NOT NULL DEFAULT 0, tracking TEXT,
    FOREIGN KEY (lock_id, platform) REFERENCES environments
) WITHOUT ROWID
CREATE INDEX runs_by_commit ON runs (commit_id)
CREATE INDEX runs_by_environment ON runs (lock_id, platform)
CREATE INDEX runs_by_experiment ON runs (experiment_id, status, started_at)
CREATE INDEX runs_by_host ON runs (host_id)
CREATE INDEX runs_by_name ON runs (name) WHERE name IS NOT NULL
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL
CREATE INDEX runs_by_replay ON runs (replay_of) WHERE replay_of IS NOT NULL
CREATE INDEX runs_by_spec ON runs (spec_id, status)
CREATE TABLE specs (
    spec_id TEXT PRIMARY KEY,
    canonical BLOB NOT NULL -- the portable JSON whose sha256 is spec_id
) WITHOUT ROWID
CREATE TABLE submodules (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    path TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    url TEXT NOT NULL,
    PRIMARY KEY (run_id, position)
) WITHOUT ROWID
CREATE TABLE tags (
    run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID
CREATE INDEX tags_by_value ON tags (key, value)
