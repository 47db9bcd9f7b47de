"""Runs, experiments and models as the API answers them, from what the ledger knows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.ledger import Experiment
from orchestrator.ledger.connection import telling
from orchestrator.ledger.query import SHORT_ID
from orchestrator.ledger.values import from_real, from_text
from orchestrator.model import LoggedModel
from orchestrator.questions.sql import OWN_TAGS, STATUS
from orchestrator.tracked import tracking_from_json
from orchestrator.tracking.asked import number
from orchestrator.tracking.tracker import Told

RUN_NAME, PARENT, USER = "mlflow.runName", "mlflow.parentRunId", "mlflow.user"
MODEL_STATUS = {
    "pending": "LOGGED_MODEL_PENDING",
    "ready": "LOGGED_MODEL_READY",
    "failed": "LOGGED_MODEL_UPLOAD_FAILED",
}


def milliseconds(time: str) -> int:
    """A time of a record, in milliseconds since the epoch."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def time_text(moment: int) -> str:
    """The inverse of `milliseconds`. Raises ValueError for a year that no record can hold."""
    try:
        time = datetime.fromtimestamp(moment / 1000, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"no time: {moment}") from error
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def key_values(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags and parameters as the API has them."""
    return [{"key": key, "value": value} for key, value in values.items()]


def experiment_json(experiment: Experiment) -> dict[str, Any]:
    """An experiment."""
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "artifact_location": f"mlflow-artifacts:/{experiment.experiment_id}",
        "lifecycle_stage": "deleted" if experiment.deleted else "active",
        "creation_time": experiment.created or 0,
        "last_update_time": experiment.updated or experiment.created or 0,
        **({"tags": key_values(experiment.tags)} if experiment.tags else {}),
    }


def model_json(model: LoggedModel, run_id: str, experiment: str) -> dict[str, Any]:
    """A logged model."""
    measures = [
        {
            "key": m.metric.name,
            "value": number(m.metric.value),
            "timestamp": m.metric.timestamp,
            "step": m.metric.step,
            "model_id": model.model_id,
            "run_id": run_id,
            **({"dataset_name": m.dataset, "dataset_digest": m.digest} if m.dataset is not None else {}),
        }
        for m in model.measures
    ]
    return {
        "info": {
            "model_id": model.model_id,
            "experiment_id": experiment,
            "name": model.name,
            "creation_timestamp_ms": model.created,
            "last_updated_timestamp_ms": model.updated,
            "artifact_uri": f"mlflow-artifacts:/{experiment}/models/{model.model_id}/artifacts",
            "status": MODEL_STATUS[model.state],
            "model_type": model.kind,
            "source_run_id": run_id,
            "tags": key_values(model.tags),
        },
        "data": ({"params": key_values(model.params)} if model.params else {})
        | ({"metrics": measures} if measures else {}),
    }


def runs_json(
    connection: sqlite3.Connection, run_ids: Sequence[str], *, told: Mapping[str, Told] | None = None
) -> list[dict[str, Any]]:
    """The runs of these ids, in that order; those that are gone are left out.

    `told` has what programs that still run have said of their end.
    """
    page = (json.dumps(run_ids),)
    with telling(connection):
        rows = connection.cursor()
        rows.row_factory = sqlite3.Row
        infos = {row["run_id"]: row for row in rows.execute(_RUNS, page)}
        params, tags = (_texts(connection, table, page) for table in ("params", "tags"))
        metrics: dict[str, list[dict[str, Any]]] = {}
        for run_id, key, value, timestamp, step in connection.execute(_METRICS, page):
            point = {"key": from_text(key), "value": number(from_real(value)), "timestamp": timestamp, "step": step}
            metrics.setdefault(run_id, []).append(point)
    return [
        _run_json(
            infos[run_id],
            metrics.get(run_id, []),
            params.get(run_id, {}),
            tags.get(run_id, {}),
            (told or {}).get(run_id),
        )
        for run_id in run_ids
        if run_id in infos
    ]


_RUNS = " ".join(
    (
        "SELECT run_id, status, name, experiment_id, started_at, ended_at, deleted, tracking,",
        "json_extract(host_more, '$.variables.USER') AS user,",
        ", ".join(f"CAST({column} AS BLOB) AS '{key}'" for key, column in OWN_TAGS.items()),  # it may be no Unicode
        "FROM runs WHERE run_id IN (SELECT value FROM json_each(?))",
    )
)
_METRICS = """
SELECT run_id, key, value, timestamp, step FROM latest_metrics
WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY run_id, key
"""
_TEXTS = {
    "params": "SELECT run_id, key, value FROM params WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY key",
    "tags": "SELECT run_id, key, value FROM tags WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY key",
}


def _texts(connection: sqlite3.Connection, table: str, page: tuple[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for run_id, key, value in connection.execute(_TEXTS[table], page):
        found.setdefault(run_id, {})[str(from_text(key))] = str(from_text(value))
    return found


def _run_json(
    row: sqlite3.Row,
    metrics: list[dict[str, Any]],
    params: Mapping[str, str],
    tags: Mapping[str, str],
    told: Told | None,
) -> dict[str, Any]:
    run_id, name = row["run_id"], str(from_text(row["name"]) or row["run_id"][:SHORT_ID])
    own = {key: str(from_text(row[key])) for key in OWN_TAGS if row[key]}
    tags = {**own, **tags, RUN_NAME: name}
    status = STATUS[row["status"]]
    end = None if row["ended_at"] is None else milliseconds(row["ended_at"])
    if told is not None and status == "RUNNING":
        status, end = told.status, told.end_time
    tracking = tracking_from_json(None if row["tracking"] is None else json.loads(row["tracking"]))
    datasets = [
        {
            "tags": key_values(d.tags),
            "dataset": {"name": d.name, "digest": d.digest, "source_type": d.source_type, "source": d.source}
            | ({} if d.schema is None else {"schema": d.schema})
            | ({} if d.profile is None else {"profile": d.profile}),
        }
        for d in tracking.datasets
    ]
    models_in = [{"model_id": model_id} for model_id in tracking.models_in]
    models_out = [{"model_id": model_id, "step": step} for model_id, step in tracking.models_out]
    return {
        "info": {
            "run_uuid": run_id,
            "run_id": run_id,
            "experiment_id": row["experiment_id"],
            "run_name": name,
            "user_id": tags.get(USER) or row["user"] or "",
            "status": status,
            "start_time": milliseconds(row["started_at"]),
            **({} if end is None else {"end_time": end}),
            "artifact_uri": f"mlflow-artifacts:/{row['experiment_id']}/{run_id}/artifacts",
            "lifecycle_stage": "deleted" if row["deleted"] else "active",
        },
        "data": {
            **({"metrics": metrics} if metrics else {}),
            **({"params": key_values(params)} if params else {}),
            "tags": key_values(tags),
        },
        "inputs": ({"dataset_inputs": datasets} if datasets else {})
        | ({"model_inputs": models_in} if models_in else {}),
        "outputs": {"model_outputs": models_out} if models_out else {},
    }
