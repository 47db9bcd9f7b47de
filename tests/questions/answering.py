"""A program for an interpreter that has MLflow: keeps runs in MLflow's store, and answers questions about them.

Each line on stdin is one JSON request, each line on stdout its answer. It imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    ExperimentTag,
    InputTag,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

VIEWS = {"active": ViewType.ACTIVE_ONLY, "deleted": ViewType.DELETED_ONLY, "all": ViewType.ALL}


def fill(store: SqlAlchemyStore, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A new experiment with the runs; its id and theirs."""
    experiment = store.create_experiment(f"e{len(store.search_experiments(ViewType.ALL))}")
    return {"experiment": experiment, "run_ids": [log(store, experiment, run) for run in runs]}


def log(store: SqlAlchemyStore, experiment: str, run: dict[str, Any]) -> str:
    tags = [RunTag(key, value) for key, value in run["tags"].items()]
    made = store.create_run(experiment, run["user"], run["start"], tags, run["name"])
    run_id: str = made.info.run_id
    metrics = [Metric(key, float(value), 0, step) for key, value, step in run["metrics"]]
    params = [Param(key, value) for key, value in run["params"].items()]
    store.log_batch(run_id, metrics, params, [])
    datasets = [
        DatasetInput(
            Dataset(name, digest, "local", "{}"), [] if context is None else [InputTag("mlflow.data.context", context)]
        )
        for name, digest, context in run["datasets"]
    ]
    if datasets:
        store.log_inputs(run_id, datasets)
    store.update_run_info(run_id, RunStatus.from_string(run["status"]), run["end"], None)
    if run["deleted"]:
        store.delete_run(run_id)
    return run_id


def search(store: SqlAlchemyStore, experiment: str, question: dict[str, Any]) -> Any:
    try:
        runs = store.search_runs(
            [experiment], question["filter"], VIEWS[question["view"]], question["limit"], question["order_by"]
        )
    except MlflowException as error:
        return str(error)
    return [run.info.run_id for run in runs]


def search_experiments(store: SqlAlchemyStore, question: dict[str, Any]) -> Any:
    try:
        found = store.search_experiments(ViewType.ALL, 1000, question["filter"], question["order_by"])
    except MlflowException as error:
        return str(error)
    return [experiment.name for experiment in found]


def make_experiments(store: SqlAlchemyStore, experiments: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    for name, tags in experiments.items():
        store.create_experiment(name, tags=[ExperimentTag(key, value) for key, value in tags.items()])
    return [
        {
            "name": e.name,
            "experiment_id": e.experiment_id,
            "creation_time": e.creation_time,
            "last_update_time": e.last_update_time,
            "tags": dict(e.tags),
        }
        for e in store.search_experiments(ViewType.ALL)
    ]


def make_models(store: SqlAlchemyStore, models: list[dict[str, Any]]) -> dict[str, Any]:
    from mlflow.entities import LoggedModelParameter, LoggedModelTag  # not in MLflow 2

    experiment = store.create_experiment(f"m{len(store.search_experiments(ViewType.ALL))}")
    run_id = store.create_run(experiment, "ada", 0, [], "models").info.run_id
    known = []
    for model in models:
        tags = [LoggedModelTag(key, value) for key, value in model["tags"].items()]
        params = [LoggedModelParameter(key, value) for key, value in model["params"].items()]
        made = store.create_logged_model(experiment, model["name"], run_id, tags, params, model["model_type"])
        metrics = [Metric(key, value, 0, 0, model_id=made.model_id) for key, value in model["metrics"].items()]
        store.log_batch(run_id, metrics, [], [])
        names = ("model_id", "name", "model_type", "source_run_id", "creation_timestamp", "last_updated_timestamp")
        known.append({name: getattr(made, name) for name in names})
    return {"experiment": experiment, "known": known}


def search_models(store: SqlAlchemyStore, experiment: str, question: dict[str, Any]) -> Any:
    order = [{"field_name": name, "ascending": ascending} for name, ascending in question["order_by"]]
    try:
        found = store.search_logged_models([experiment], question["filter"], None, 1000, order)
    except MlflowException as error:
        return str(error)
    return [model.model_id for model in found]


def main(folder: Path) -> None:
    store = SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"))
    for line in sys.stdin:
        asked = json.loads(line)
        if "runs" in asked:
            answer: Any = fill(store, asked["runs"])
        elif "experiments" in asked:
            answer = make_experiments(store, asked["experiments"])
        elif "models" in asked:
            answer = make_models(store, asked["models"])
        elif "models_of" in asked:
            answer = [search_models(store, asked["models_of"], question) for question in asked["questions"]]
        elif "experiment" in asked:
            answer = [search(store, asked["experiment"], question) for question in asked["questions"]]
        else:
            answer = [search_experiments(store, question) for question in asked["questions"]]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
