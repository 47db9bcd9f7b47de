"""What the ledger answers. Reading only."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.canonical import number_to_json
from orchestrator.errors import OrchError
from orchestrator.ledger.connection import snapshot, telling
from orchestrator.ledger.values import from_real, from_text, to_text
from orchestrator.model import Metric, Output
from orchestrator.records import output_to_json
from orchestrator.report import age

SHORT_ID = 16
"""How many digits of a run id are shown at least: twelve are only its millisecond."""

CANDIDATES = 5
"""How many runs an ambiguous name or prefix is explained with."""

VERDICTS = ("reproduced", "differs")
"""What a replay's verdict may be."""

_TOLD_PARAMETERS, _TOLD_CHARACTERS = 3, 40


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as a list shows it; the fields are those of the record and its spec, which one only logged lacks."""

    run_id: str
    status: str
    exit_code: int | None
    name: str | None
    experiment: str
    spec_id: str | None
    started_at: str
    ended_at: str | None
    wall_seconds: float | None
    url: str | None
    commit: str | None
    subdir: str | None
    revision: str | None
    dirty: bool
    entry_point: str | None
    lock_id: str | None
    platform: str | None
    replay_of: str | None
    parent: str | None
    hostname: str | None


def find_runs(
    connection: sqlite3.Connection,
    *,
    limit: int | None = None,
    experiment: str | None = None,
    status: str | None = None,
    name: str | None = None,
    replay_of: str | None = None,
    parent: str | None = None,
    deleted: bool = True,
) -> list[RunRow]:
    """The runs for which all that is given holds, newest first, at most `limit`; with those that were put away.

    `status` is one of a run, or a verdict on it.
    """
    wanted = {
        "experiment": to_text(experiment),
        "status": status,
        "name": to_text(name),
        "replay_of": replay_of,
        "parent": parent,
        "deleted": deleted,
        "limit": -1 if limit is None else limit,
    }
    with telling(connection):
        rows = connection.execute(_FIND, wanted).fetchall()
    return [_run_row(row) for row in rows]


_FIND = """
SELECT run_id, status, exit_code, runs.name, experiments.name, spec_id, started_at, ended_at, wall_seconds, url,
    commit_id, subdir, revision, dirty, entry_point, lock_id, platform, replay_of, parent, hostname
FROM runs JOIN experiments USING (experiment_id) JOIN hosts USING (host_id)
WHERE (:experiment IS NULL OR experiments.name = :experiment)
    AND (:status IS NULL OR :status IN (status, json_extract(verdict, '$.result')))
    AND (:name IS NULL OR runs.name = :name)
    AND (:replay_of IS NULL OR replay_of = :replay_of)
    AND (:parent IS NULL OR parent = :parent)
    AND (:deleted OR NOT runs.deleted)
ORDER BY run_id DESC LIMIT :limit
"""


def _run_row(row: tuple[Any, ...]) -> RunRow:
    # Any text column may hold a BLOB (see `values`); the one boolean is the dirty flag.
    values: list[Any] = [from_text(value) if isinstance(value, bytes) else value for value in row]
    values[13] = bool(values[13])
    return RunRow(*values)


def family(connection: sqlite3.Connection, run_id: str) -> list[tuple[str, int]]:
    """The runs that were started in one another, `run_id` among them: ids and depths, each run before its children.

    Children are in the order in which they began; those that were put away are left out.
    """
    with snapshot(connection):
        root = connection.execute(_ROOT, (run_id,)).fetchone()[0]
        return [(str(found), int(depth)) for found, depth in connection.execute(_BELOW, (root,))]


# A run whose parent was removed stands for itself.
_ROOT = """
WITH RECURSIVE above(run_id, parent) AS (
    SELECT run_id, parent FROM runs WHERE run_id = ?
    UNION SELECT runs.run_id, runs.parent FROM runs JOIN above ON runs.run_id = above.parent
)
SELECT run_id FROM above ORDER BY parent IS NULL DESC, run_id LIMIT 1
"""
# https://sqlite.org/lang_with.html: an ORDER BY in a recursive query decides whether it is depth-first. The record of a
# run that came from elsewhere may say that it is its own grandparent: hence the bounds.
_BELOW = """
WITH RECURSIVE below(run_id, depth) AS (
    SELECT ?, 0
    UNION SELECT runs.run_id, depth + 1 FROM runs JOIN below ON runs.parent = below.run_id
    WHERE NOT deleted AND depth < 50 ORDER BY 2 DESC, 1 LIMIT 10000
)
SELECT run_id, depth FROM below
"""


# --- one run, whole ---------------------------------------------------------------------------------------------


def load_run(connection: sqlite3.Connection, run_id: str) -> dict[str, Any]:
    """The run as `model.record_to_json` has it. Raises OrchError when the ledger has no run of this full id."""
    with snapshot(connection):
        cursor = connection.cursor()
        cursor.row_factory = sqlite3.Row
        row = cursor.execute(_LOAD, (run_id,)).fetchone()
        if row is None:
            raise OrchError(f"the ledger has no run {run_id}.")
        return {
            "run_id": run_id,
            "status": row["status"],
            "exit_code": row["exit_code"],
            "reason": from_text(row["reason"]),
            "name": from_text(row["name"]),
            "experiment": from_text(row["experiment"]),
            "spec": _spec(connection, run_id, row),
            "spec_id": row["spec_id"],
            "params": _texts(connection, "SELECT key, value FROM params WHERE run_id = ? ORDER BY key", run_id),
            "metrics": _metrics(connection, run_id),
            "tags": _texts(connection, "SELECT key, value FROM tags WHERE run_id = ? ORDER BY key", run_id),
            "outputs": _outputs(connection, run_id),
            "usage": {
                key: row[key] for key in ("wall_seconds", "cpu_seconds", "peak_memory", "read_bytes", "written_bytes")
            },
            "host": json.loads(row["facts"]) | json.loads(row["host_more"]),
            "started_at": row["started_at"],
            "ended_at": row["ended_at"],
            "replay_of": row["replay_of"],
            "verdict": None if row["verdict"] is None else json.loads(row["verdict"]),
            "parent": row["parent"],
            "bundle": row["bundle"],
            "notes": _notes(connection, run_id),
            "tracking": None if row["tracking"] is None else json.loads(row["tracking"]),
        }


def load_metric(connection: sqlite3.Connection, run_id: str, name: str) -> list[Metric]:
    """Every point of one metric of a run, in the order logged."""
    history = "SELECT step, timestamp, value FROM metrics WHERE run_id = ? AND key = ? ORDER BY position"
    with telling(connection):
        rows = connection.execute(history, (run_id, to_text(name)))
        return [Metric(name, from_real(value), step, timestamp) for step, timestamp, value in rows]


_LOAD = """
SELECT runs.*, experiments.name AS experiment, specs.canonical, hosts.facts
FROM runs JOIN experiments USING (experiment_id) LEFT JOIN specs USING (spec_id) JOIN hosts USING (host_id)
WHERE run_id = ?
"""


def _spec(connection: sqlite3.Connection, run_id: str, row: sqlite3.Row) -> dict[str, Any] | None:
    """The JSON of the run's spec: its portable part, and what the run alone knows; None for one only logged."""
    if row["canonical"] is None:
        return None
    spec: dict[str, Any] = json.loads(row["canonical"])
    spec["entry_point"] = from_text(row["entry_point"])
    # What is empty has no place in the portable part.
    spec["environment"] = {"link_scripts": [], **spec["environment"]}
    spec["environment"] |= {"as_of": row["as_of"], "others": json.loads(row["other_locks"] or "{}")}
    urls = connection.execute("SELECT url FROM submodules WHERE run_id = ? ORDER BY position", (run_id,))
    submodules = [s | {"url": from_text(url)} for s, (url,) in zip(spec["source"]["submodules"], urls, strict=True)]
    spec["source"] |= {
        "url": from_text(row["url"]),
        "commit": row["commit_id"],
        "commit_time": row["commit_time"],
        "submodules": submodules,
        "revision": from_text(row["revision"]),
        "origin": from_text(row["origin"]),
        "dirty": bool(row["dirty"]),
    }
    origins = connection.execute("SELECT origin FROM inputs WHERE run_id = ? ORDER BY position", (run_id,))
    spec["inputs"] = [i | {"origin": from_text(origin)} for i, (origin,) in zip(spec["inputs"], origins, strict=True)]
    return spec


def _texts(connection: sqlite3.Connection, query: str, run_id: str) -> dict[str, str]:
    return {str(from_text(key)): str(from_text(value)) for key, value in connection.execute(query, (run_id,))}


def _metrics(connection: sqlite3.Connection, run_id: str) -> dict[str, float | str]:
    rows = connection.execute("SELECT key, value FROM latest_metrics WHERE run_id = ? ORDER BY key", (run_id,))
    return {str(from_text(key)): number_to_json(from_real(value)) for key, value in rows}


def _outputs(connection: sqlite3.Connection, run_id: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT path, sha256, size, mode, link FROM outputs WHERE run_id = ? ORDER BY position", (run_id,)
    )
    return [
        output_to_json(Output(str(from_text(path)), sha256, size, mode, from_text(link)))
        for path, sha256, size, mode, link in rows
    ]


def _notes(connection: sqlite3.Connection, run_id: str) -> list[str]:
    rows = connection.execute("SELECT text FROM notes WHERE run_id = ? ORDER BY position", (run_id,))
    return [str(from_text(text)) for (text,) in rows]


# --- which run is meant -----------------------------------------------------------------------------------------


def resolve_run(connection: sqlite3.Connection, text: str) -> str:
    """The full id of the run that `text` means: `latest`, a unique prefix of an id, or a run's name.

    A prefix comes before a name. Raises OrchError when there is none, or several (with up to five of them).
    """
    with snapshot(connection):
        if text == "latest":
            return _latest(connection)
        by_id = runs_by_prefix(connection, text.lower(), limit=CANDIDATES + 1)
        if len(by_id) == 1:
            return by_id[0]
        by_name = connection.execute(_BY_NAME, {"name": to_text(text), "limit": CANDIDATES + 1}).fetchall()
        if len(by_name) == 1:
            return str(by_name[0][0])
        found = [str(run_id) for (run_id,) in by_name] or by_id
        if not found:
            raise OrchError(f"no run has an id that begins with {text!r}, or this name; orch list shows the runs.")
        tell = _told if by_name else short_id
        shown = ", ".join(tell(connection, run_id) for run_id in found[:CANDIDATES])
        more = " and more" if len(found) > CANDIDATES else ""
        what = "are named" if by_name else "begin with"
        raise OrchError(f"several runs {what} {text!r}: {shown}{more}.")


def _told(connection: sqlite3.Connection, run_id: str) -> str:
    """A run's short id, with what tells it from others of its name."""
    query = "SELECT status, started_at FROM runs WHERE run_id = ?"
    status, started_at = connection.execute(query, (run_id,)).fetchone()
    params = _texts(connection, "SELECT key, value FROM params WHERE run_id = ? ORDER BY key", run_id)
    words = [f"{key}={value}"[:_TOLD_CHARACTERS] for key, value in params.items()]
    about = [status, age(started_at), " ".join(words[:_TOLD_PARAMETERS] + ["..."] * (len(words) > _TOLD_PARAMETERS))]
    return f"{short_id(connection, run_id)} ({', '.join(part for part in about if part)})"


# Somebody else's run has its name only where no run made here has it.
_BY_NAME = """
SELECT run_id FROM runs WHERE name = :name
    AND (bundle IS NULL OR NOT EXISTS (SELECT 1 FROM runs WHERE name = :name AND bundle IS NULL))
ORDER BY run_id DESC LIMIT :limit
"""


_NEWEST = """
SELECT run_id FROM runs ORDER BY bundle IS NOT NULL, spec_id IS NULL, parent IS NOT NULL, run_id DESC LIMIT 1
"""


def _latest(connection: sqlite3.Connection) -> str:
    # What was imported, only logged, or a step of another run is the latest only where there is nothing else.
    row = connection.execute(_NEWEST).fetchone()
    if row is None:
        raise OrchError("there is no run yet; orch run makes one.")
    return str(row[0])


def runs_by_prefix(connection: sqlite3.Connection, prefix: str, *, limit: int = -1) -> list[str]:
    """The ids that begin with `prefix` (lower-case hex digits), newest first, at most `limit`."""
    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        return []
    # "g" sorts behind every hex digit
    between = "SELECT run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id DESC LIMIT ?"
    with telling(connection):
        return [str(run_id) for (run_id,) in connection.execute(between, (prefix, prefix + "g", limit))]


def short_id(runs: sqlite3.Connection | Iterable[str], run_id: str) -> str:
    """The shortest prefix of `run_id`, at least 16 digits, that no other of `runs` begins with.

    `runs` is a connection to the ledger, or run ids.
    """
    if isinstance(runs, sqlite3.Connection):
        neighbours = (
            "SELECT max(run_id) FROM runs WHERE run_id < ?1 UNION ALL SELECT min(run_id) FROM runs WHERE run_id > ?1"
        )
        with telling(runs):
            others: Sequence[str] = [other for (other,) in runs.execute(neighbours, (run_id,)) if other is not None]
    else:
        others = [other for other in runs if other != run_id]
    length = SHORT_ID
    for other in others:
        while length < len(run_id) and other.startswith(run_id[:length]):
            length += 1
    return run_id[:length]


def find_by_spec(connection: sqlite3.Connection, spec_id: str, *, status: str = "finished") -> str | None:
    """The newest run of this spec that ended so, or None. What was imported is no answer: nobody here saw it run."""
    newest = "SELECT max(run_id) FROM runs WHERE spec_id = ? AND status = ? AND bundle IS NULL"
    with telling(connection):
        found: str | None = connection.execute(newest, (spec_id, status)).fetchone()[0]
    return found


def varying_outputs(connection: sqlite3.Connection, spec_id: str) -> list[str]:
    """The paths of outputs that are not the same in all finished runs of a spec: it is not deterministic.

    Runs with secrets are passed over: their values, which no record has, may have been others; and runs that were
    imported, for nobody here saw them. So are outputs that a replay's verdict calls equivalent or ignored, those named
    after their run, and MLflow's file on a model, which has ids and times in it.
    """
    with telling(connection):
        rows = connection.execute(_VARYING, {"spec_id": spec_id}).fetchall()
        verdicts = connection.execute(
            "SELECT verdict FROM runs WHERE spec_id = ? AND verdict IS NOT NULL", (spec_id,)
        ).fetchall()
    items = [item for (verdict,) in verdicts for item in json.loads(verdict)["outputs"]] if rows else []
    same = [item for item in items if item["result"] in ("equivalent", "identical", "ignored")]
    near = {item["path"] for item in same if item["result"] != "identical"}
    near |= {path for item in same if (moved := item.get("moved_to")) for path in (item["path"], moved)}
    return [path for path in (str(from_text(path)) for (path,) in rows) if path not in near]


_VARYING = """
WITH same AS (
    SELECT run_id FROM runs JOIN specs USING (spec_id)
    WHERE spec_id = :spec_id AND status = 'finished' AND bundle IS NULL
        AND json_array_length(canonical, '$.secret_parameters') = 0
        AND json_array_length(canonical, '$.secret_variables') = 0
)
SELECT path FROM outputs WHERE run_id IN (SELECT run_id FROM same) AND instr(path, run_id) = 0
    AND path != 'MLmodel' AND path NOT LIKE '%/MLmodel'
GROUP BY path HAVING COUNT(DISTINCT sha256) > 1 OR COUNT(*) < (SELECT COUNT(*) FROM same) ORDER BY path
"""


def experiment_name(connection: sqlite3.Connection, experiment_id: str) -> str | None:
    """The name of an experiment by its id, or None if the ledger has none with it."""
    with telling(connection):
        row = connection.execute("SELECT name FROM experiments WHERE experiment_id = ?", (experiment_id,)).fetchone()
    return None if row is None else from_text(row[0])
