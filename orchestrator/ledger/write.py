"""What the ledger learns of runs: the hot path, on the standard library's sqlite3 alone."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Protocol

from orchestrator.canonical import canonical_json
from orchestrator.errors import OrchError
from orchestrator.ledger.connection import transaction
from orchestrator.ledger.values import to_real, to_text, version_key
from orchestrator.model import Metric, RunRecord, RunSpec, latest_metric_points
from orchestrator.records import portable_spec, usage_to_json
from orchestrator.tracked import tracking_to_json

Row = tuple[Any, ...]

DEFAULT_EXPERIMENT = "Default"
DATASET_CONTEXT = "mlflow.data.context"


class Package(Protocol):
    """A package of a lock, as the ledger keeps it."""

    @property
    def manager(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def build(self) -> str | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def sha256(self) -> str | None: ...
    @property
    def channel(self) -> str | None: ...
    @property
    def subdir(self) -> str | None: ...


# --- runs -------------------------------------------------------------------------------------------------------


def write_record(connection: sqlite3.Connection, record: RunRecord) -> None:
    """Make the ledger say of this run exactly what `record` says; one transaction, and idempotent.

    Rows that are as they should be are not written again: a metric's history only grows at its end. Raises
    OrchError when the ledger can't be written, or the spec holds text that is no Unicode.
    """
    with transaction(connection):
        put_record(connection, record)


def put_record(connection: sqlite3.Connection, record: RunRecord) -> None:
    """`write_record` within a transaction that the caller has opened."""
    put_facts(connection, record)
    _put_metrics(connection, record)


def put_facts(connection: sqlite3.Connection, record: RunRecord) -> None:
    """`put_record` of all but the metrics."""
    spec, run_id = record.pinned, record.run_id
    _put_run(connection, record)
    _replace(connection, _PARAMS, run_id, _pairs(record.params))
    _replace(connection, _TAGS, run_id, _pairs(record.tags))
    _replace(connection, _NOTES, run_id, [(i, to_text(text)) for i, text in enumerate(record.notes)])
    outputs = [(i, to_text(o.path), o.sha256, o.size, o.mode, to_text(o.link)) for i, o in enumerate(record.outputs)]
    _replace(connection, _OUTPUTS, run_id, outputs)
    inputs = [
        (i, n.name, n.path, n.sha256, n.size, n.kind, to_text(n.origin))
        for i, n in enumerate(spec.inputs if spec else ())
    ]
    _replace(connection, _INPUTS, run_id, inputs)
    modules = spec.source.submodules if spec else ()
    submodules = [(i, s.path, s.commit, to_text(s.url)) for i, s in enumerate(modules)]
    _replace(connection, _SUBMODULES, run_id, submodules)
    _put_tracking(connection, record)


def append_metrics(connection: sqlite3.Connection, run_id: str, points: Iterable[Metric]) -> None:
    """Add metric points to a run, in one transaction. Raises OrchError when the ledger does not have the run."""
    with transaction(connection):
        put_points(connection, run_id, points)


def put_points(connection: sqlite3.Connection, run_id: str, points: Iterable[Metric]) -> None:
    """`append_metrics` within a transaction that the caller has opened."""
    if connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone() is None:
        raise OrchError(f"the ledger has no run {run_id}.")
    points = tuple(points)
    for name, rows in _histories(points).items():
        last = "SELECT coalesce(max(position), -1) FROM metrics WHERE run_id = ? AND key = ?"
        start = connection.execute(last, (run_id, name)).fetchone()[0] + 1
        _add_points(connection, run_id, name, start, rows)
    connection.executemany(_RAISE_LATEST, ((run_id, *row) for row in _latest(points)))


def point_count(connection: sqlite3.Connection, run_id: str) -> int:
    """How many metric points the ledger has of a run."""
    query = (
        "SELECT sum(1 + (SELECT max(position) FROM metrics WHERE run_id = latest.run_id AND key = latest.key)) "
        "FROM latest_metrics AS latest WHERE run_id = ?"
    )
    return connection.execute(query, (run_id,)).fetchone()[0] or 0


def remove_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Take a run out of the ledger, with its spec and host if no other run has them. No error if it is not there."""
    with transaction(connection):
        drop_run(connection, run_id)


def drop_run(connection: sqlite3.Connection, run_id: str) -> None:
    """`remove_run` within a transaction that the caller has opened."""
    row = connection.execute("SELECT spec_id, host_id FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is not None:
        connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
        _forget(connection, *row)


def _put_run(connection: sqlite3.Connection, record: RunRecord) -> None:
    before = connection.execute("SELECT spec_id, host_id FROM runs WHERE run_id = ?", (record.run_id,)).fetchone()
    spec_id, host_id = _put_spec(connection, record), _put_host(connection, record.host)
    tracking = tracking_to_json(record.tracking)
    row = {
        "run_id": record.run_id,
        "status": record.status,
        "exit_code": record.exit_code,
        "reason": to_text(record.reason),
        "name": to_text(record.name),
        "experiment_id": put_experiment(connection, record.experiment),
        "spec_id": spec_id,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        **_spec_row(connection, record.pinned),
        "replay_of": record.replay_of,
        "parent": record.parent,
        "host_id": host_id,
        "host_more": json.dumps(_host_more(record.host)),
        **usage_to_json(record.usage),
        "verdict": None if record.verdict is None else json.dumps(record.verdict),
        "bundle": record.bundle,
        "deleted": record.tracking.deleted,
        "tracking": None if tracking is None else json.dumps(tracking),
    }
    connection.execute(_PUT_RUN, row)
    if before not in (None, (spec_id, host_id)):
        _forget(connection, *before)


def _spec_row(connection: sqlite3.Connection, spec: RunSpec | None) -> dict[str, Any]:
    if spec is None:
        return dict.fromkeys(_SPEC_COLUMNS)
    source, environment = spec.source, spec.environment
    _put_environment(connection, environment.lock_id, environment.platform)
    values = (
        to_text(source.url),
        source.commit,
        source.tree,
        source.commit_time,
        source.subdir,
        to_text(source.revision),
        to_text(source.origin),
        source.dirty,
        spec.entry_point,
        spec.command,
        environment.lock_id,
        environment.platform,
        environment.as_of,
        json.dumps(dict(environment.others)) if environment.others else None,
    )
    return dict(zip(_SPEC_COLUMNS, values, strict=True))


_SPEC_COLUMNS = (
    *("url", "commit_id", "tree_id", "commit_time", "subdir", "revision", "origin", "dirty", "entry_point", "command"),
    *("lock_id", "platform", "as_of", "other_locks"),
)

_PUT_RUN = """
INSERT INTO runs VALUES (
    :run_id, :status, :exit_code, :reason, :name, :experiment_id, :spec_id, :started_at, :ended_at, :url, :commit_id,
    :tree_id, :commit_time, :subdir, :revision, :origin, :dirty, :entry_point, :command, :lock_id, :platform,
    :replay_of, :parent, :host_id, :host_more, :wall_seconds, :cpu_seconds, :peak_memory, :read_bytes, :written_bytes,
    :as_of, :other_locks, :verdict, :bundle, :deleted, :tracking
) ON CONFLICT (run_id) DO UPDATE SET
    status = excluded.status, exit_code = excluded.exit_code, reason = excluded.reason, name = excluded.name,
    experiment_id = excluded.experiment_id, spec_id = excluded.spec_id, started_at = excluded.started_at,
    ended_at = excluded.ended_at, url = excluded.url, commit_id = excluded.commit_id, tree_id = excluded.tree_id,
    commit_time = excluded.commit_time, subdir = excluded.subdir, revision = excluded.revision,
    origin = excluded.origin, dirty = excluded.dirty, entry_point = excluded.entry_point, command = excluded.command,
    lock_id = excluded.lock_id, platform = excluded.platform, replay_of = excluded.replay_of,
    parent = excluded.parent, host_id = excluded.host_id, host_more = excluded.host_more,
    wall_seconds = excluded.wall_seconds, cpu_seconds = excluded.cpu_seconds, peak_memory = excluded.peak_memory,
    read_bytes = excluded.read_bytes, written_bytes = excluded.written_bytes,
    as_of = excluded.as_of, other_locks = excluded.other_locks,
    verdict = excluded.verdict, bundle = excluded.bundle, deleted = excluded.deleted, tracking = excluded.tracking
"""


def _forget(connection: sqlite3.Connection, spec_id: str | None, host_id: str) -> None:
    connection.execute(
        "DELETE FROM specs WHERE spec_id = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE spec_id = ?1)", (spec_id,)
    )
    connection.execute(
        "DELETE FROM hosts WHERE host_id = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE host_id = ?1)", (host_id,)
    )


# --- what runs share --------------------------------------------------------------------------------------------


def experiment_id(name: str) -> str:
    """The id of an experiment, made of its name, so that it is the same in every ledger: "0" for the default.

    18 decimal digits, as MLflow's file store has them.
    """
    if name == DEFAULT_EXPERIMENT:
        return "0"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return f"{10**17 + int.from_bytes(digest, 'big') % (9 * 10**17)}"


def write_environment(connection: sqlite3.Connection, lock_id: str, platform: str, packages: Iterable[Package]) -> None:
    """Keep the packages of a lock, once; `packages` is not looked at when they are known."""
    with transaction(connection):
        put_environment(connection, lock_id, platform, packages)


def put_environment(connection: sqlite3.Connection, lock_id: str, platform: str, packages: Iterable[Package]) -> None:
    """`write_environment` within a transaction that the caller has opened."""
    if has_environment(connection, lock_id, platform):
        return
    _put_environment(connection, lock_id, platform)
    rows = [
        (p.manager, p.name, p.version, version_key(p.version), p.build, p.url, p.sha256, p.channel, p.subdir)
        for p in packages
    ]
    connection.executemany(
        "INSERT OR IGNORE INTO packages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ((lock_id, platform, *row) for row in rows),
    )
    connection.execute(
        "UPDATE environments SET packages = ? WHERE lock_id = ? AND platform = ?", (len(rows), lock_id, platform)
    )


def has_environment(connection: sqlite3.Connection, lock_id: str, platform: str) -> bool:
    """Whether the ledger knows the packages of this lock."""
    known = "SELECT 1 FROM environments WHERE lock_id = ? AND platform = ? AND packages IS NOT NULL"
    return connection.execute(known, (lock_id, platform)).fetchone() is not None


def _put_environment(connection: sqlite3.Connection, lock_id: str, platform: str) -> None:
    connection.execute("INSERT OR IGNORE INTO environments (lock_id, platform) VALUES (?, ?)", (lock_id, platform))


def put_experiment(connection: sqlite3.Connection, name: str) -> str:
    """Make an experiment known, and give its id. A name that one had before it got another still means it."""
    known = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", (to_text(name),)).fetchone()
    if known is not None:
        return str(known[0])
    identity = experiment_id(name)
    connection.execute(
        "INSERT OR IGNORE INTO experiments (experiment_id, name) VALUES (?, ?)", (identity, to_text(name))
    )
    return identity


def _put_spec(connection: sqlite3.Connection, record: RunRecord) -> str | None:
    if record.pinned is None:
        return None
    try:
        canonical = canonical_json(portable_spec(record.pinned))
    except ValueError as error:
        raise OrchError(f"the spec of run {record.run_id} can't be recorded: {error}.") from error
    identity = hashlib.sha256(canonical).hexdigest()
    connection.execute("INSERT OR IGNORE INTO specs VALUES (?, ?)", (identity, canonical))
    return identity


def _put_host(connection: sqlite3.Connection, host: Mapping[str, Any]) -> str:
    """Keep what is one value of the host, under its hash; groups of values (variables) belong to the run."""
    known = {key: value for key, value in host.items() if not isinstance(value, (Mapping, list, tuple))}
    facts = json.dumps(known, sort_keys=True)
    identity = hashlib.sha256(facts.encode()).hexdigest()
    texts = [to_text(str(known[key])) if known.get(key) is not None else None for key in ("hostname", "os", "kernel")]
    cpu = to_text(str(known["cpu"])) if known.get("cpu") is not None else None
    numbers = [value if isinstance(value := known.get(key), int) else None for key in ("cpus", "memory")]
    row = (identity, *texts, cpu, *numbers, facts)
    connection.execute("INSERT OR IGNORE INTO hosts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    return identity


def _host_more(host: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in host.items() if isinstance(value, (Mapping, list, tuple))}


def _put_tracking(connection: sqlite3.Connection, record: RunRecord) -> None:
    tracking, run_id = record.tracking, record.run_id
    datasets = [
        (i, to_text(d.name), to_text(d.digest), to_text(d.tags.get(DATASET_CONTEXT)))
        for i, d in enumerate(tracking.datasets)
    ]
    _replace(connection, _DATASETS, run_id, datasets)
    made = {model.model_id for model in tracking.models}
    known = {model_id for (model_id,) in connection.execute("SELECT model_id FROM models WHERE run_id = ?", (run_id,))}
    connection.executemany("DELETE FROM models WHERE model_id = ?", ((model_id,) for model_id in known - made))
    rows = ((model_id, run_id) for model_id in sorted(made - known))
    connection.executemany("INSERT OR REPLACE INTO models VALUES (?, ?)", rows)


# --- metrics ----------------------------------------------------------------------------------------------------


def _put_metrics(connection: sqlite3.Connection, record: RunRecord) -> None:
    run_id, wanted = record.run_id, _histories(record.metrics)
    stored = "SELECT step, timestamp, value FROM metrics WHERE run_id = ? AND key = ? ORDER BY position"
    for name, rows in wanted.items():
        same, behind = _common(connection.execute(stored, (run_id, name)), rows)
        if behind:
            cut = "DELETE FROM metrics WHERE run_id = ? AND key = ? AND position >= ?"
            connection.execute(cut, (run_id, name, same))
        _add_points(connection, run_id, name, same, rows[same:])
    for (name,) in connection.execute("SELECT key FROM latest_metrics WHERE run_id = ?", (run_id,)).fetchall():
        if name not in wanted:
            connection.execute("DELETE FROM metrics WHERE run_id = ? AND key = ?", (run_id, name))
    _replace(connection, _LATEST, run_id, sorted(_latest(record.metrics), key=_key_order))


def _histories(points: Iterable[Metric]) -> dict[str | bytes | None, list[Row]]:
    histories: dict[str | bytes | None, list[Row]] = {}
    for point in points:
        histories.setdefault(to_text(point.name), []).append((point.step, point.timestamp, to_real(point.value)))
    return histories


def _common(stored: Iterator[Row], wanted: list[Row]) -> tuple[int, bool]:
    """How many rows are the same from the start, and whether `stored` has others behind them."""
    for index, (row, point) in enumerate(zip_longest(stored, wanted)):
        if row != point:
            return index, row is not None
    return len(wanted), False


def _add_points(
    connection: sqlite3.Connection, run_id: str, name: str | bytes | None, start: int, rows: list[Row]
) -> None:
    points = ((run_id, name, position, *row) for position, row in enumerate(rows, start))
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", points)


def _latest(points: Iterable[Metric]) -> list[Row]:
    return [
        (to_text(point.name), point.step, point.timestamp, to_real(point.value))
        for point in latest_metric_points(points)
    ]


_RAISE_LATEST = """
INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_id, key) DO UPDATE SET step = excluded.step, timestamp = excluded.timestamp, value = excluded.value
WHERE (excluded.step, excluded.timestamp) >= (step, timestamp)
"""

# --- parts of a run: rows that are replaced together ------------------------------------------------------------

_Part = tuple[str, str, str]
"""The statements that read the rows of a run in the order of their key, delete them, and insert one."""

_PARAMS: _Part = (
    "SELECT key, value FROM params WHERE run_id = ? ORDER BY key",
    "DELETE FROM params WHERE run_id = ?",
    "INSERT INTO params VALUES (?, ?, ?)",
)
_TAGS: _Part = (
    "SELECT key, value FROM tags WHERE run_id = ? ORDER BY key",
    "DELETE FROM tags WHERE run_id = ?",
    "INSERT INTO tags VALUES (?, ?, ?)",
)
_NOTES: _Part = (
    "SELECT position, text FROM notes WHERE run_id = ? ORDER BY position",
    "DELETE FROM notes WHERE run_id = ?",
    "INSERT INTO notes VALUES (?, ?, ?)",
)
_OUTPUTS: _Part = (
    "SELECT position, path, sha256, size, mode, link FROM outputs WHERE run_id = ? ORDER BY position",
    "DELETE FROM outputs WHERE run_id = ?",
    "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?, ?)",
)
_INPUTS: _Part = (
    "SELECT position, name, path, sha256, size, kind, origin FROM inputs WHERE run_id = ? ORDER BY position",
    "DELETE FROM inputs WHERE run_id = ?",
    "INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
)
_SUBMODULES: _Part = (
    "SELECT position, path, commit_id, url FROM submodules WHERE run_id = ? ORDER BY position",
    "DELETE FROM submodules WHERE run_id = ?",
    "INSERT INTO submodules VALUES (?, ?, ?, ?, ?)",
)
_DATASETS: _Part = (
    "SELECT position, name, digest, context FROM datasets WHERE run_id = ? ORDER BY position",
    "DELETE FROM datasets WHERE run_id = ?",
    "INSERT INTO datasets VALUES (?, ?, ?, ?, ?)",
)
_LATEST: _Part = (
    "SELECT key, step, timestamp, value FROM latest_metrics WHERE run_id = ? ORDER BY key",
    "DELETE FROM latest_metrics WHERE run_id = ?",
    "INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?)",
)


def _replace(connection: sqlite3.Connection, part: _Part, run_id: str, rows: list[Row]) -> None:
    select, delete, insert = part
    stored = connection.execute(select, (run_id,)).fetchall()
    if stored == rows:
        return
    if stored:
        connection.execute(delete, (run_id,))
    connection.executemany(insert, ((run_id, *row) for row in rows))


def _pairs(values: Mapping[str, str]) -> list[Row]:
    return sorted(((to_text(key), to_text(value)) for key, value in values.items()), key=_key_order)


def _key_order(row: Row) -> tuple[bool, bytes]:
    """The order in which SQLite has the rows: text by its UTF-8 bytes, then BLOBs."""
    key = row[0]
    return isinstance(key, bytes), key if isinstance(key, bytes) else key.encode()
