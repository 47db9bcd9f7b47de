"""Registered models and their versions, as a journal tells them: `registry.jsonl` in the home.

Each line tells the whole of a model, and the whole of those of its versions that have changed; so that a line which
can't be read takes along only what it told. Whoever changes something looks at the journal and adds to it alone.

What a replay registers is none of the user's: it goes into a journal of its own, in the directory of its run, and is
added to what was registered when the original began. So a replay gets the same version numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator import journal
from orchestrator.fields import fields_to_json
from orchestrator.paths import Home
from orchestrator.tracking.followed import follow
from orchestrator.tracking.shown import milliseconds

REGISTRY = "registry.jsonl"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model. Times are in milliseconds since the epoch.

    `source` is what a client said, and `place` the same, where that was a version of a registered model its place.
    Neither is ever opened. `run_id` and `link` are empty where nobody told them.
    """

    number: int
    created: int
    updated: int
    source: str
    place: str
    run_id: str = ""
    link: str = ""
    description: str | None = None
    stage: str = "None"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A name for versions of a model, which number up from 1; `last` is the number that was given last."""

    identity: str
    name: str
    created: int
    updated: int
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    last: int = 0
    versions: Mapping[int, ModelVersion] = field(default_factory=dict)


@dataclass(slots=True)
class Registry:
    """What is registered, as far as it was read. Of `base` only what was registered `before` a time counts."""

    path: Path
    base: Path | None = None
    before: int = 0
    models: dict[str, RegisteredModel] = field(default_factory=dict)
    """By identity."""
    mark: tuple[int, ...] = ()
    """What tells the journal that was read from one to which something was added."""


def registry_of(home: Home, run_id: str | None) -> Registry:
    """The registry that the program of a run sees; None: whoever asks at no run's server."""
    path = home.root / REGISTRY
    while run_id is not None and (run := follow(home, run_id)) is not None:
        if (original := run.record.replay_of) is not None:
            first = follow(home, original) or run
            return Registry(home.run(run_id) / REGISTRY, path, milliseconds(first.record.started_at))
        run_id = run.record.parent
    return Registry(path)


def read(registry: Registry) -> Iterable[RegisteredModel]:
    """The models that are registered now. Raises OrchError when the journal can't be read."""
    mark = _mark(registry.path)
    if mark != registry.mark or not mark:
        models: dict[str, RegisteredModel] = {}
        if registry.base is not None:
            for event in journal.read(registry.base)[0]:
                if _time(event) < registry.before:
                    _apply(models, event)
        for event in journal.read(registry.path)[0]:
            _apply(models, event)
        registry.models, registry.mark = models, mark
    return registry.models.values()


def find(registry: Registry, name: str) -> RegisteredModel | None:
    """The model of this name, as it is now."""
    return next((model for model in read(registry) if model.name == name), None)


@contextlib.contextmanager
def alone(registry: Registry) -> Iterator[None]:
    """For the block nobody else changes the registry. Raises OrchError when its journal can't be written."""
    if not registry.path.exists():
        journal.append(registry.path, (), sync=True)
    with journal.alone(registry.path):
        yield


def put(registry: Registry, model: RegisteredModel, now: int) -> None:
    """Record a model as it is from now on; on the disk when this returns. Only for who is `alone`."""
    before = registry.models.get(model.identity)
    known = {} if before is None else before.versions
    changed = [version for number, version in model.versions.items() if known.get(number) != version]
    told = fields_to_json(model) | {"tags": dict(model.tags), "aliases": dict(model.aliases)}
    told["versions"] = [fields_to_json(version) | {"tags": dict(version.tags)} for version in changed]
    gone = [number for number in known if number not in model.versions]
    _tell(registry, {"event": "model", "time": now, "model": told, "gone": gone})


def remove(registry: Registry, model: RegisteredModel, now: int) -> None:
    """Record that a model is no longer registered, with its versions. Only for who is `alone`."""
    _tell(registry, {"event": "model gone", "time": now, "identity": model.identity})


def _tell(registry: Registry, event: Mapping[str, Any]) -> None:
    size = registry.path.stat().st_size
    written = journal.append(registry.path, [event], sync=True)
    _apply(registry.models, event)
    mark = _mark(registry.path)
    # Where the disk knows no locks, another may have come between; it is read again then.
    registry.mark = mark if mark[1] == size + written else ()


def _mark(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return ()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _time(event: Mapping[str, Any]) -> int:
    time = event.get("time")
    return time if isinstance(time, int) else 0


def _apply(models: dict[str, RegisteredModel], event: Mapping[str, Any]) -> None:
    """What is no such event is passed over."""
    if event.get("event") == "model gone":
        models.pop(str(event.get("identity")), None)
    if event.get("event") != "model":
        return
    try:
        told, gone = event["model"], {int(number) for number in event["gone"]}
        new = [_version(version) for version in told["versions"]]
        model = _model(told)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return
    known = models[model.identity].versions if model.identity in models else {}
    versions = {**known, **{version.number: version for version in new}}
    model = replace(model, versions={n: version for n, version in sorted(versions.items()) if n not in gone})
    models[model.identity] = model


def _model(told: Mapping[str, Any]) -> RegisteredModel:
    return RegisteredModel(
        identity=str(told["identity"]),
        name=str(told["name"]),
        created=int(told["created"]),
        updated=int(told["updated"]),
        description=str(told["description"]),
        tags=_texts(told["tags"]),
        aliases={str(alias): int(number) for alias, number in told["aliases"].items()},
        last=int(told["last"]),
    )


def _version(told: Mapping[str, Any]) -> ModelVersion:
    return ModelVersion(
        number=int(told["number"]),
        created=int(told["created"]),
        updated=int(told["updated"]),
        source=str(told["source"]),
        place=str(told["place"]),
        run_id=str(told["run_id"]),
        link=str(told["link"]),
        description=None if told["description"] is None else str(told["description"]),
        stage=str(told["stage"]),
        tags=_texts(told["tags"]),
    )


def _texts(told: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in told.items()}
