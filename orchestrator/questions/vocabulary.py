"""What can be asked of runs, experiments and logged models, and how: tables only.

A field that MLflow does not have is a further `Entity`, or a further key of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EQUAL = ("=", "!=")
RANGE = (*EQUAL, "<", "<=", ">", ">=")
TEXT = (*EQUAL, "LIKE", "ILIKE")
PRESENCE = ("IS NULL", "IS NOT NULL")
LISTS = ("IN", "NOT IN")


@dataclass(frozen=True, slots=True)
class Field:
    """A value that is asked for: what it is compared with, and by which operators."""

    kind: Literal["number", "text"]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entity:
    """What stands before the point in `metrics.rmse`."""

    name: str
    fields: Field | Mapping[str, Field]
    """By key; one `Field` where any key can be asked for."""
    words: tuple[str, ...]
    """How it may be written, besides its name."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of keys."""
    ordered: bool = True
    """Whether results can be in its order."""


Vocabulary = tuple[Entity, ...]
"""The first entity is the one that is meant where none is written."""

NUMBER = Field("number", RANGE)
_TEXT, _LISTED, _PRESENT = Field("text", TEXT), Field("text", TEXT + LISTS), Field("text", TEXT + PRESENCE)

_ATTRIBUTE = ("attribute", "attr", "run")
_METRIC, _PARAM, _TAG = ("metric",), ("param", "parameter", "parameters"), ("tag",)

RUNS: Vocabulary = (
    Entity(
        "attributes",
        {
            "run_id": _LISTED,
            **dict.fromkeys(("run_name", "status", "user_id", "artifact_uri"), _TEXT),
            **dict.fromkeys(("start_time", "end_time"), NUMBER),
        },
        _ATTRIBUTE,
        {
            **dict.fromkeys(("created", "Created"), "start_time"),
            **dict.fromkeys(("run name", "Run name", "Run Name"), "run_name"),
        },
    ),
    Entity("metrics", NUMBER, _METRIC),
    Entity("params", _PRESENT, _PARAM),
    Entity("tags", _PRESENT, _TAG),
    Entity("datasets", dict.fromkeys(("name", "digest", "context"), _LISTED), ("dataset",), ordered=False),
)

EXPERIMENTS: Vocabulary = (
    Entity(
        "attributes",
        {
            "name": _TEXT,
            "experiment_id": Field("text", EQUAL + LISTS),
            **dict.fromkeys(("creation_time", "last_update_time"), NUMBER),
        },
        _ATTRIBUTE,
    ),
    Entity("tags", _PRESENT, _TAG, ordered=False),
)

MODELS: Vocabulary = (
    Entity(
        "attributes",
        {
            **dict.fromkeys(("name", "model_id", "model_type", "status", "source_run_id"), _LISTED),
            **dict.fromkeys(("creation_timestamp", "last_updated_timestamp"), NUMBER),
        },
        _ATTRIBUTE,
        {
            **dict.fromkeys(("creation_time", "creation_timestamp_ms"), "creation_timestamp"),
            **dict.fromkeys(("last_updated_time", "last_updated_timestamp_ms"), "last_updated_timestamp"),
        },
    ),
    Entity("metrics", NUMBER, _METRIC),
    Entity("params", _LISTED, _PARAM, ordered=False),
    Entity("tags", _LISTED, _TAG, ordered=False),
)
