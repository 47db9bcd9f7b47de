"""The day that an environment is solved for, as people give it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from orchestrator.errors import UsageError


def moment(text: str) -> str:
    """The time, RFC 3339 in UTC, that `--as-of` names: of a day its last second. Raises UsageError for another text."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            text += "T23:59:59+00:00"
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--as-of takes a day as 2021-06-30 or a time as 2021-06-30T12:00 (of a run also `commit`), not {text!r}."
        ) from error
    return rfc3339(time if time.tzinfo else time.replace(tzinfo=UTC))


def rfc3339(time: datetime) -> str:
    """A time in the form in which it is recorded: UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
