"""The model registry: the calls below `registered-models/` and `model-versions/`.

The program of a run registers what that run and those below it have logged, and changes nothing that is of others.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.tracking import models as logged_models
from orchestrator.tracking.asked import ApiError, Asked, invalid, missing
from orchestrator.tracking.model_source import download_uri, logged_in, origin_of, version_meant
from orchestrator.tracking.registered_asked import (
    STAGES,
    alias_of,
    description_of,
    name_of,
    new_alias_of,
    stage_of,
    tag_of,
    tags_of,
)
from orchestrator.tracking.registered_shown import (
    latest,
    registered_json,
    search_models,
    search_versions,
    version_json,
)
from orchestrator.tracking.registry import ModelVersion, RegisteredModel, Registry, alone, find, put, read, registry_of
from orchestrator.tracking.registry import remove as put_away
from orchestrator.tracking.tracker import Tracker, check_own, run_of, run_to_write

_ACTIVE = ("Staging", "Production")
_OF_MODEL = "mlflow.modelVersions"


# --- registered models ------------------------------------------------------------------------------------------


def create(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST registered-models/create`."""
    name, tags, now = name_of(asked), tags_of(asked), _now()
    registry = _registry(tracker)
    with alone(registry):
        if find(registry, name) is not None:
            raise ApiError("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.")
        model = RegisteredModel(os.urandom(16).hex(), name, now, now, description_of(asked), tags)
        put(registry, model, now)
    return {"registered_model": registered_json(model)}


def get(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET registered-models/get`."""
    return {"registered_model": registered_json(_model(_registry(tracker), asked))}


def search(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET registered-models/search`."""
    return search_models(read(_registry(tracker)), asked)


def get_latest_versions(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST` and `GET registered-models/get-latest-versions`."""
    model = _model(_registry(tracker), asked)
    stages = {stage_of(stage) for stage in asked.texts("stages")} or {*STAGES}
    return {"model_versions": [version_json(model, version) for version in latest(model) if version.stage in stages]}


def update(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`PATCH registered-models/update`: another description."""
    with _changing(tracker, asked) as change:
        model = change.put(updated=change.now, description=description_of(asked))
    return {"registered_model": registered_json(model)}


def rename(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST registered-models/rename`."""
    name = name_of(asked, "new_name")
    with _changing(tracker, asked, whole=True) as change:
        if name != change.model.name and find(change.registry, name) is not None:
            raise ApiError("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.")
        versions = {n: replace(version, updated=change.now) for n, version in change.model.versions.items()}
        model = change.put(name=name, updated=change.now, versions=versions)
    return {"registered_model": registered_json(model)}


def delete(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`DELETE registered-models/delete`: with its versions; their files stay outputs of the runs."""
    with _changing(tracker, asked, whole=True) as change:
        put_away(change.registry, change.model, change.now)
    return {}


def set_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST registered-models/set-tag`."""
    tag = tag_of(asked)
    with _changing(tracker, asked) as change:
        change.put(tags={**change.model.tags, **tag})
    return {}


def delete_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`DELETE registered-models/delete-tag`; one that is not there is no error."""
    key = asked.key()
    with _changing(tracker, asked) as change:
        change.put(tags=_without(change.model.tags, key))
    return {}


# --- aliases ----------------------------------------------------------------------------------------------------


def set_alias(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST registered-models/alias`: another version may have had it before."""
    alias = new_alias_of(asked)
    with _changing_version(tracker, asked) as (change, version):
        change.put(aliases={**change.model.aliases, alias: version.number})
    return {}


def get_by_alias(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET registered-models/alias`."""
    model, alias = _model(_registry(tracker), asked), alias_of(asked)
    version = version_meant(model, alias if alias.lower() == "latest" else f"@{alias}")
    if version is None and alias.lower() == "latest":
        raise missing(f"Latest version not found for model {model.name}.")
    if version is None:
        raise invalid(f"Registered model alias {alias} not found.")
    return {"model_version": version_json(model, version)}


def delete_alias(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`DELETE registered-models/alias`; one that is not there is no error."""
    alias = alias_of(asked)
    with _changing(tracker, asked) as change:
        if (version := change.model.versions.get(change.model.aliases.get(alias, 0))) is not None:
            _check_own(tracker, version)
        aliases = {name: number for name, number in change.model.aliases.items() if name != alias}
        change.put(aliases=aliases)
    return {}


# --- versions ---------------------------------------------------------------------------------------------------


def create_version(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST model-versions/create`. It is ready at once: its files are there already, and are not copied."""
    registry, name, tags = _registry(tracker), name_of(asked), tags_of(asked)
    source, run_id, model_id = asked.text("source"), asked.text("run_id", ""), asked.text("model_id", "")
    link, description = asked.text("run_link", ""), description_of(asked)
    with alone(registry):
        model, now = _model(registry, asked), _now()
        origin = origin_of(tracker, registry, source, run_id, model_id)
        number = max(model.last, *model.versions, 0) + 1
        version = ModelVersion(
            number, now, now, origin.source, origin.place, origin.run_id, link, description, "None", tags
        )
        _check_own(tracker, version)
        if model_id := model_id or logged_in(source):
            run_to_write(tracker, logged_models.find_model(tracker, model_id)[0].record.run_id)
        versions = {**model.versions, number: version}
        model = replace(model, updated=now, last=number, versions=versions)
        put(registry, model, now)
    if model_id:
        _tell_logged_model(tracker, model_id, name, version)
    return {"model_version": version_json(model, version)}


def get_version(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET model-versions/get`."""
    model = _model(_registry(tracker), asked)
    return {"model_version": version_json(model, _version(model, asked))}


def find_versions(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET model-versions/search`."""
    return search_versions(read(_registry(tracker)), asked)


def get_download_uri(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET model-versions/get-download-uri`."""
    model = _model(_registry(tracker), asked)
    return {"artifact_uri": download_uri(tracker, model, _version(model, asked))}


def update_version(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`PATCH model-versions/update`: another description, or none."""
    description = description_of(asked) if asked.has("description") else None
    with _changing_version(tracker, asked) as (change, version):
        model = change.put_version(replace(version, updated=change.now, description=description))
    return {"model_version": version_json(model, model.versions[version.number])}


def transition_stage(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST model-versions/transition-stage`. Those that were at the stage may have to make way."""
    stage, archive = stage_of(asked.text("stage")), asked.values.get("archive_existing_versions")
    if not isinstance(archive, bool | None):
        raise invalid("Invalid value for parameter 'archive_existing_versions' supplied: it is no boolean.")
    if archive and stage not in _ACTIVE:
        raise invalid(f"Versions make way at {' and '.join(_ACTIVE)} only, not at {stage}.")
    with _changing_version(tracker, asked) as (change, version):
        versions = {
            n: replace(other, stage="Archived", updated=change.now) if archive and other.stage == stage else other
            for n, other in change.model.versions.items()
        }
        versions[version.number] = replace(version, stage=stage, updated=change.now)
        model = change.put(updated=change.now, versions=versions)
    return {"model_version": version_json(model, model.versions[version.number])}


def delete_version(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`DELETE model-versions/delete`: its number is not given again."""
    with _changing_version(tracker, asked) as (change, version):
        versions = {n: other for n, other in change.model.versions.items() if n != version.number}
        aliases = {alias: number for alias, number in change.model.aliases.items() if number != version.number}
        change.put(updated=change.now, versions=versions, aliases=aliases)
    return {}


def set_version_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`POST model-versions/set-tag`."""
    tag = tag_of(asked)
    with _changing_version(tracker, asked) as (change, version):
        change.put_version(replace(version, tags={**version.tags, **tag}))
    return {}


def delete_version_tag(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`DELETE model-versions/delete-tag`; one that is not there is no error."""
    key = asked.key()
    with _changing_version(tracker, asked) as (change, version):
        change.put_version(replace(version, tags=_without(version.tags, key)))
    return {}


REGISTRY_CALLS = {
    ("POST", "registered-models/create"): create,
    ("GET", "registered-models/get"): get,
    ("GET", "registered-models/search"): search,
    ("POST", "registered-models/get-latest-versions"): get_latest_versions,
    ("GET", "registered-models/get-latest-versions"): get_latest_versions,
    ("PATCH", "registered-models/update"): update,
    ("POST", "registered-models/rename"): rename,
    ("DELETE", "registered-models/delete"): delete,
    ("POST", "registered-models/set-tag"): set_tag,
    ("DELETE", "registered-models/delete-tag"): delete_tag,
    ("POST", "registered-models/alias"): set_alias,
    ("GET", "registered-models/alias"): get_by_alias,
    ("DELETE", "registered-models/alias"): delete_alias,
    ("POST", "model-versions/create"): create_version,
    ("GET", "model-versions/get"): get_version,
    ("GET", "model-versions/search"): find_versions,
    ("GET", "model-versions/get-download-uri"): get_download_uri,
    ("PATCH", "model-versions/update"): update_version,
    ("POST", "model-versions/transition-stage"): transition_stage,
    ("DELETE", "model-versions/delete"): delete_version,
    ("POST", "model-versions/set-tag"): set_version_tag,
    ("DELETE", "model-versions/delete-tag"): delete_version_tag,
}


# --- what the calls share ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Change:
    """A model that nobody else changes meanwhile."""

    registry: Registry
    model: RegisteredModel
    now: int

    def put(self, **changes: Any) -> RegisteredModel:
        model = replace(self.model, **changes)
        put(self.registry, model, self.now)
        return model

    def put_version(self, version: ModelVersion) -> RegisteredModel:
        return self.put(versions={**self.model.versions, version.number: version})


@contextmanager
def _changing(tracker: Tracker, asked: Asked, *, whole: bool = False) -> Iterator[_Change]:
    """Change a model. In a run it must have a version of that, or none yet; as a `whole`, none of any other run."""
    registry = _registry(tracker)
    with alone(registry):
        model = _model(registry, asked)
        own = (_is_own(tracker, version) for version in reversed([*model.versions.values()]))
        if model.versions and not (all(own) if whole else any(own)):
            raise _not_own(f"The registered model '{model.name}' has versions of other runs")
        yield _Change(registry, model, _now())


@contextmanager
def _changing_version(tracker: Tracker, asked: Asked) -> Iterator[tuple[_Change, ModelVersion]]:
    registry = _registry(tracker)
    with alone(registry):
        model = _model(registry, asked)
        version = _version(model, asked)
        _check_own(tracker, version)
        yield _Change(registry, model, _now()), version


def _registry(tracker: Tracker) -> Registry:
    if tracker.registry is None:
        tracker.registry = registry_of(tracker.home, tracker.own)
    return tracker.registry


def _model(registry: Registry, asked: Asked) -> RegisteredModel:
    name = name_of(asked)
    model = find(registry, name)
    if model is None:
        raise missing(f"Registered Model with name={name} not found")
    return model


def _version(model: RegisteredModel, asked: Asked) -> ModelVersion:
    said = asked.text("version")
    if not said.removeprefix("-").isdecimal():
        raise invalid(f"Parameter 'version' must be an integer, got '{said[:100]}'.")
    version = None if "-" in said else version_meant(model, said)
    if version is None:
        raise missing(f"Model Version (name={model.name}, version={said[:100]}) not found")
    return version


def _check_own(tracker: Tracker, version: ModelVersion) -> None:
    if not _is_own(tracker, version):
        raise _not_own(f"Version {version.number} is not of this run")


def _is_own(tracker: Tracker, version: ModelVersion) -> bool:
    if tracker.own is None:
        return True
    try:
        check_own(tracker, run_of(tracker, version.run_id))
    except ApiError:
        return False
    return True


def _not_own(what: str) -> ApiError:
    return ApiError(
        "PERMISSION_DENIED",
        f"{what}: a program that runs under orch registers what its own run and those it starts have logged. "
        "Do it from outside, with orch server.",
    )


def _tell_logged_model(tracker: Tracker, model_id: str, name: str, version: ModelVersion) -> None:
    """The logged model says where it is registered, as MLflow 3 has it."""
    _, model = logged_models.find_model(tracker, model_id)
    try:
        known = json.loads(model.tags.get(_OF_MODEL, "[]"))
    except (ValueError, RecursionError):
        known = []
    told = [*(known if isinstance(known, list) else []), {"name": name, "version": version.number}]
    tags = [{"key": _OF_MODEL, "value": json.dumps(told)}]
    logged_models.set_tags(tracker, Asked({"model_id": model_id, "tags": tags}))


def _without(tags: Mapping[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name != key}


def _now() -> int:
    return time.time_ns() // 1_000_000
