"""Registered models and their versions as the API answers them: their JSON, and searches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.tracking.asked import Asked
from orchestrator.tracking.paging import page
from orchestrator.tracking.registered_asked import IS_PROMPT
from orchestrator.tracking.registry import ModelVersion, RegisteredModel
from orchestrator.tracking.shown import key_values

if TYPE_CHECKING:
    from orchestrator.questions.grammar import Comparison, Order
    from orchestrator.questions.matching import Fact
    from orchestrator.questions.vocabulary import Vocabulary

_Item = TypeVar("_Item")


def registered_json(model: RegisteredModel) -> dict[str, Any]:
    """A registered model, with the latest version of each stage."""
    aliases = [{"alias": alias, "version": str(number)} for alias, number in model.aliases.items()]
    return {
        "name": model.name,
        "creation_timestamp": model.created,
        "last_updated_timestamp": model.updated,
        **({"description": model.description} if model.description else {}),
        "latest_versions": [version_json(model, version, aliases=False) for version in latest(model)],
        "tags": key_values(model.tags),
        "aliases": aliases,
    }


def version_json(model: RegisteredModel, version: ModelVersion, *, aliases: bool = True) -> dict[str, Any]:
    """A version; lists of versions lack the aliases."""
    found = [alias for alias, number in model.aliases.items() if number == version.number] if aliases else []
    return {
        "name": model.name,
        "version": str(version.number),
        "creation_timestamp": version.created,
        "last_updated_timestamp": version.updated,
        "current_stage": version.stage,
        **({} if version.description is None else {"description": version.description}),
        "source": version.source,
        "run_id": version.run_id,
        "status": "READY",
        "tags": key_values(version.tags),
        "run_link": version.link,
        **({"aliases": found} if found else {}),
    }


def latest(model: RegisteredModel) -> list[ModelVersion]:
    """The version of the highest number of each stage."""
    return list({version.stage: version for version in model.versions.values()}.values())


def search_models(models: Iterable[RegisteredModel], asked: Asked) -> dict[str, Any]:
    """The answer to `GET registered-models/search`."""
    named: list[tuple[Mapping[str, Fact], Mapping[str, str], RegisteredModel]] = [
        ({"name": model.name, "last_updated_timestamp": model.updated}, model.tags, model) for model in models
    ]
    named.sort(key=lambda item: item[2].name)
    filters, orders = _of_models()
    found = _found(named, asked, filters, orders)
    shown, token = page(found, asked, most=1_000, usual=100)
    return {"registered_models": [registered_json(model) for model in shown], **token}


def search_versions(models: Iterable[RegisteredModel], asked: Asked) -> dict[str, Any]:
    """The answer to `GET model-versions/search`."""
    named: list[tuple[Mapping[str, Fact], Mapping[str, str], tuple[RegisteredModel, ModelVersion]]] = []
    for model in models:
        for version in model.versions.values():
            facts: dict[str, Fact] = {
                "name": model.name,
                "version_number": version.number,
                "run_id": version.run_id,
                "source_path": version.source,
                "creation_timestamp": version.created,
                "last_updated_timestamp": version.updated,
            }
            named.append((facts, version.tags, (model, version)))
    named.sort(key=lambda item: (item[2][0].name, -item[2][1].number))
    filters, orders = _of_versions()
    if not asked.texts("order_by"):
        asked = Asked({**asked.values, "order_by": ["last_updated_timestamp DESC"]})
    found = _found(named, asked, filters, orders)
    shown, token = page(found, asked, most=200_000, usual=200_000)
    return {"model_versions": [version_json(*pair, aliases=False) for pair in shown], **token}


def _found(
    named: Iterable[tuple[Mapping[str, Fact], Mapping[str, str], _Item]],
    asked: Asked,
    filters: Vocabulary,
    orders: Vocabulary,
) -> list[_Item]:
    """What the filter matches, in the order that is asked for; what ties stays as it was."""
    from orchestrator.questions.grammar import parse_filter, parse_order_by
    from orchestrator.questions.matching import in_order, matches

    conditions = parse_filter(asked.text("filter", ""), filters)
    order: tuple[Order, ...] = parse_order_by(asked.texts("order_by"), orders)
    if any(_asks_for_prompts(condition) for condition in conditions):
        return []
    conditions = tuple(condition for condition in conditions if condition.key != IS_PROMPT)
    found = [(facts, item) for facts, tags, item in named if all(matches(c, facts, tags=tags) for c in conditions)]
    return [item for _, item in in_order(found, order)]


def _asks_for_prompts(condition: Comparison) -> bool:
    """MLflow keeps prompts as registered models of this tag, and its clients say that they want none of them."""
    asked = (condition.operator, str(condition.value).lower())
    return condition.key == IS_PROMPT and asked in (("=", "true"), ("!=", "false"))


def _of_models() -> tuple[Vocabulary, Vocabulary]:
    """What registered models are asked for by, and what they are ordered by."""
    from orchestrator.questions.vocabulary import LISTS, NUMBER, TEXT, Entity, Field

    text, listed = Field("text", TEXT), Field("text", TEXT + LISTS)
    aliases = {"timestamp": "last_updated_timestamp"}
    return (
        (Entity("attributes", {"name": listed}, ("attribute",)), Entity("tags", text, ("tag",))),
        (Entity("attributes", {"name": text, "last_updated_timestamp": NUMBER}, ("attribute",), aliases),),
    )


def _of_versions() -> tuple[Vocabulary, Vocabulary]:
    """What versions are asked for by, and what they are ordered by."""
    from orchestrator.questions.vocabulary import LISTS, NUMBER, TEXT, Entity, Field

    text, listed = Field("text", TEXT), Field("text", TEXT + LISTS)
    asked = {"name": listed, "run_id": listed, "source_path": text, "version_number": NUMBER}
    times = dict.fromkeys(("creation_timestamp", "last_updated_timestamp"), NUMBER)
    return (
        (Entity("attributes", asked, ("attribute",)), Entity("tags", text, ("tag",))),
        (Entity("attributes", {"name": text, "version_number": NUMBER, **times}, ("attribute",)),),
    )
