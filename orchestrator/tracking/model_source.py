"""Where the files of a registered version are: the `source` that a client names.

A source is text. What it names of ours, a run or a logged model, is looked up by its id; nothing is ever opened by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

from orchestrator.tracking.artifacts import place_of
from orchestrator.tracking.asked import ApiError, invalid, missing
from orchestrator.tracking.models import find_model
from orchestrator.tracking.registry import ModelVersion, RegisteredModel, Registry, find
from orchestrator.tracking.tracker import Tracker, experiment_id_of, run_of

_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Origin:
    """A source as it is kept, its place (see `ModelVersion`), and the run that it names; empty where it names none."""

    source: str
    place: str
    run_id: str


def origin_of(tracker: Tracker, registry: Registry, source: str, run_id: str, model_id: str) -> Origin:
    """What a client's source means, and the run and the logged model that it names beside.

    Raises ApiError for a path of this machine, for one that leads elsewhere, and where they contradict one another.
    """
    scheme, host, parts = _checked(source)
    if host or scheme not in ("models", "runs", "mlflow-artifacts"):
        named = find_model(tracker, model_id)[0].record.run_id if model_id else ""
        return Origin(source, source, run_id or named)
    if scheme == "models" and not _is_logged(parts):
        model, version = _registered(registry, source, parts)
        if run_id not in ("", version.run_id) or model_id not in ("", logged_in(version.place)):
            raise _contradicts(source, "run_id and model_id")
        return Origin(f"models:/{model.name}/{version.number}", version.place, version.run_id)
    if scheme == "models":
        if model_id not in ("", parts[0]):
            raise _contradicts(source, "model_id")
        return Origin(source, source, run_id or find_model(tracker, parts[0])[0].record.run_id)
    if scheme == "runs":
        if model_id or run_id not in ("", parts[0]):
            raise _contradicts(source, "run_id")
        return Origin(source, source, parts[0])
    try:
        run = place_of(tracker, "/".join(parts))[0].record.run_id
    except ApiError:
        raise _contradicts(source, "run_id") from None
    if run_id not in ("", run) or (model_id and parts[1:3] != ["models", model_id]):
        raise _contradicts(source, "run_id")
    return Origin(source, source, run)


def download_uri(tracker: Tracker, model: RegisteredModel, version: ModelVersion) -> str:
    """Where a client finds the files of a version. Raises ApiError when they were ours, and their run is gone."""
    try:
        scheme, host, parts = _checked(version.place)
        if host or scheme not in ("models", "runs", "mlflow-artifacts"):
            return version.place
        if scheme == "models":
            run, logged = find_model(tracker, parts[0])
            experiment = experiment_id_of(tracker, run.record.run_id)
            return f"mlflow-artifacts:/{experiment}/models/{logged.model_id}/artifacts"
        if scheme == "runs":
            run_of(tracker, parts[0])
        else:
            place_of(tracker, "/".join(parts))
    except ApiError:
        of = f"run {version.run_id}" if version.run_id else "the run that made it"
        raise missing(
            f"The files of version {version.number} of '{model.name}' are not here any more: {of} was removed, or its "
            "model was."
        ) from None
    return version.place


def version_meant(model: RegisteredModel, said: str) -> ModelVersion | None:
    """The version that `1` or `latest` names, or an alias behind an `@`."""
    if said.lower() == "latest":
        return model.versions.get(max(model.versions, default=0))
    if said.startswith("@"):
        return model.versions.get(model.aliases.get(said[1:], 0))
    return model.versions.get(int(said)) if said.isascii() and said.isdigit() and len(said) < 20 else None


def logged_in(source: str) -> str:
    """The id of the logged model that a source is; empty where it is none."""
    scheme, host, parts = _checked(source)
    return parts[0] if scheme == "models" and not host and _is_logged(parts) else ""


def _registered(registry: Registry, source: str, parts: list[str]) -> tuple[RegisteredModel, ModelVersion]:
    name, at, alias = parts[0].partition("@")
    said = at + alias if at else parts[1] if len(parts) == 2 else ""
    if not said or len(parts) != (1 if at else 2):
        raise invalid(f"Invalid model version source: '{source}'. It is none of models:/NAME/VERSION, models:/m-ID.")
    model = find(registry, name)
    if model is None:
        raise missing(f"Registered Model with name={name} not found")
    version = version_meant(model, said)
    if version is None and at:
        raise invalid(f"Registered model alias {alias} not found.")
    if version is None:
        raise missing(f"Model Version (name={name}, version={said}) not found")
    return model, version


def _is_logged(parts: list[str]) -> bool:
    return len(parts) == 1 and parts[0].startswith("m-") and "@" not in parts[0]


def _checked(source: str) -> tuple[str, str, list[str]]:
    """Scheme, host and the parts of the path. Raises ApiError for a path of this machine and for one that leads up."""
    plain, once = "", source
    while once != plain and len(source) <= _LONGEST:
        plain, once = once, unquote_plus(once)
    try:
        split = urlsplit(plain)
    except ValueError:
        split = urlsplit("")
    parts = [part for part in split.path.split("/") if part]
    leads_up = ".." in plain.split("/") or "." in parts or "\0" in plain or "\\" in plain
    if leads_up or not parts or not split.path.startswith("/") or split.scheme in ("", "file"):
        raise invalid(
            f"Invalid model version source: '{source[:200]}'. It is the address of a logged model, of artifacts of a "
            "run, or of an object store; a path of this machine, or one with '..', is none."
        )
    if split.password is not None:
        raise invalid("Invalid model version source: it has a password in it, which would be kept. Leave it out.")
    told = urlsplit(source)
    return told.scheme, told.netloc, [part for part in told.path.split("/") if part]


def _contradicts(source: str, field: str) -> ApiError:
    return invalid(f"Invalid model version source: '{source}'. It is not of what {field} names.")
