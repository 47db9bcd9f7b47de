"""What a client asks of the model registry: names, aliases, stages and tags, and the error for what can be none."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.tracking.asked import ApiError, Asked, invalid
from orchestrator.variables import is_secret

STAGES = ("None", "Staging", "Production", "Archived")
IS_PROMPT = "mlflow.prompt.is_prompt"

_LONGEST_NAME, _LONGEST_ALIAS, _LONGEST_TEXT = 256, 255, 100_000
_ALIAS, _RESERVED = re.compile(r"[\w\-]+"), re.compile(r"latest|v\d+", re.IGNORECASE)


def name_of(asked: Asked, field: str = "name") -> str:
    """The name of a registered model."""
    name = asked.text(field)
    if not name.strip():
        raise invalid(f"Missing value for required parameter '{field}'.")
    if "/" in name or ":" in name or name in (".", "..") or name.startswith(".."):
        raise invalid(f"Invalid model name '{name[:_LONGEST_NAME]}'. Names cannot contain '/' or ':', and are no '.'.")
    if len(name) > _LONGEST_NAME:
        raise invalid(f"'{field}' exceeds the maximum length of {_LONGEST_NAME} characters")
    return name


def alias_of(asked: Asked) -> str:
    """The name that a version has beside its number."""
    alias = asked.text("alias")
    if not _ALIAS.fullmatch(alias) or len(alias) > _LONGEST_ALIAS:
        raise invalid(
            f"Invalid alias name: '{alias[:_LONGEST_ALIAS]}'. Names may only contain alphanumerics, underscores (_) "
            f"and dashes (-), at most {_LONGEST_ALIAS}."
        )
    return alias


def new_alias_of(asked: Asked) -> str:
    """`alias_of`, for a name to give: some mean a version already."""
    alias = alias_of(asked)
    if _RESERVED.fullmatch(alias):
        raise invalid(f"The alias '{alias}' is reserved.")
    return alias


def stage_of(said: str) -> str:
    """A stage as it is written."""
    found = next((stage for stage in STAGES if stage.lower() == said.lower()), None)
    if found is None:
        raise invalid(f"Invalid Model Version stage: {said[:100]}. Value must be one of {', '.join(STAGES)}.")
    return found


def description_of(asked: Asked) -> str:
    """The description; empty where there is none."""
    return _checked(asked.text("description", ""), "description")


def tag_of(asked: Asked) -> dict[str, str]:
    """The one tag that is set."""
    return _kept({asked.key(): asked.text("value", "")})


def tags_of(asked: Asked) -> dict[str, str]:
    """The tags of what is made."""
    return _kept(asked.pairs("tags"))


def _kept(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as they are recorded: a secret's value is not."""
    if tags.get(IS_PROMPT, "").lower() == "true":  # MLflow keeps prompts as registered models
        raise ApiError("FEATURE_DISABLED", "orch keeps no prompts.")
    return {key: "" if is_secret(key, value) else _checked(value, key) for key, value in tags.items()}


def _checked(value: str, what: str) -> str:
    if len(value) > _LONGEST_TEXT:
        raise invalid(f"The value of '{what}' exceeds the maximum length of {_LONGEST_TEXT} characters.")
    return value
