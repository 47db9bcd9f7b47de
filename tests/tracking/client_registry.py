"""Programs that register models."""

from __future__ import annotations

import json
import uuid

import mlflow
from client_models import REQUIREMENTS, fitted
from client_script import THREE, check, refused
from mlflow import MlflowClient

NAMED = {"name" if THREE else "artifact_path": "model"}


def a_registered_model() -> None:
    """As MLflow's examples do it."""
    model, frame = fitted()
    name = f"Elasticnet Wine Model {uuid.uuid4().hex}"
    runs = []
    for _ in range(2):
        with mlflow.start_run() as run:
            info = mlflow.sklearn.log_model(model, **NAMED, registered_model_name=name, **REQUIREMENTS)
        runs.append(run.info.run_id)
    check(str(info.registered_model_version), "2")
    client = MlflowClient()
    found = client.search_model_versions(f"name = '{name}'")
    check([(str(v.version), v.run_id, v.status) for v in found], [("2", runs[1], "READY"), ("1", runs[0], "READY")])
    for uri in (f"models:/{name}/1", f"models:/{name}/2", f"models:/{name}/latest"):
        check(mlflow.pyfunc.load_model(uri).predict(frame).tolist(), model.predict(frame).tolist())
    check(mlflow.sklearn.load_model(f"models:/{name}/1").coef_.tolist(), model.coef_.tolist())
    if THREE:
        told = json.loads(mlflow.get_logged_model(info.model_id).tags["mlflow.modelVersions"])
        check({(version["name"], str(version["version"])) for version in told}, {(name, "2")})


def a_model_registered_later() -> None:
    model, frame = fitted()
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(model, **NAMED, **REQUIREMENTS)
    client, name = MlflowClient(), f"later-{uuid.uuid4().hex}"
    made = mlflow.register_model(f"runs:/{run.info.run_id}/model", name, tags={"from": "a run"})
    check(
        (str(made.version), made.run_id, made.tags, made.current_stage),
        ("1", run.info.run_id, {"from": "a run"}, "None"),
    )
    client.set_registered_model_alias(name, "champion", "1")
    check(client.get_model_version_by_alias(name, "champion").aliases, ["champion"])
    check(client.get_registered_model(name).aliases, {"champion": "1"})
    check(mlflow.sklearn.load_model(f"models:/{name}@champion").coef_.tolist(), model.coef_.tolist())
    client.set_model_version_tag(name, "1", "validation", "passed")
    client.delete_model_version_tag(name, "1", "from")
    check(client.get_model_version(name, "1").tags, {"validation": "passed"})
    client.set_registered_model_tag(name, "task", "regression")
    client.update_registered_model(name, "of wine")
    client.update_model_version(name, "1", "the first one")
    known = client.get_registered_model(name)
    check((known.description, known.tags), ("of wine", {"task": "regression"}))
    check(known.latest_versions[0].description, "the first one")
    client.transition_model_version_stage(name, "1", "Production")
    check([str(v.version) for v in client.get_latest_versions(name, ["Production"])], ["1"])
    check(mlflow.pyfunc.load_model(f"models:/{name}/Production").predict(frame).tolist(), model.predict(frame).tolist())
    client.delete_registered_model_alias(name, "champion")
    refused("INVALID_PARAMETER_VALUE", lambda: client.get_model_version_by_alias(name, "champion"))
    client.rename_registered_model(name, f"{name}-2")
    check([m.name for m in client.search_registered_models(f"name LIKE '{name}%'")], [f"{name}-2"])
    check(
        [m.name for m in client.search_registered_models("tags.task = 'regression'") if name in m.name], [f"{name}-2"]
    )
    copied = client.copy_model_version(f"models:/{name}-2/1", f"{name}-copy")
    check((str(copied.version), copied.run_id), ("1", run.info.run_id))
    check(mlflow.sklearn.load_model(f"models:/{name}-copy/1").coef_.tolist(), model.coef_.tolist())
    check(len(client.search_model_versions(f"run_id = '{run.info.run_id}'")), 2)
    client.delete_model_version(f"{name}-2", "1")
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version(f"{name}-2", "1"))
    client.delete_registered_model(f"{name}-2")
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_registered_model(f"{name}-2"))


def a_model_that_is_only_named() -> None:
    client, name = MlflowClient(), f"named-{uuid.uuid4().hex}"
    client.create_registered_model(name, tags={"a": "b"}, description="nothing in it")
    refused("RESOURCE_ALREADY_EXISTS", lambda: client.create_registered_model(name))
    refused("INVALID_PARAMETER_VALUE", lambda: client.set_registered_model_alias(name, "v1", "1"))
    found = client.search_registered_models(f"name = '{name}'", order_by=["last_updated_timestamp DESC"], max_results=1)
    check([(m.name, m.tags, m.latest_versions) for m in found], [(name, {"a": "b"}, [])])
    refused("RESOURCE_DOES_NOT_EXIST", lambda: mlflow.pyfunc.load_model(f"models:/{name}/1"))
