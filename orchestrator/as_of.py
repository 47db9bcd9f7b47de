"""The day that an environment is solved for, as people give it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from orchestrator.errors import UsageError


def moment(text: str) -> str:
    """The time, RFC 3339 in UTC, that `--as-of` names: of a day its last second. Raises UsageError for another text."""
    try:
        return rfc3339(_end_of_day(text) or datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--as-of takes a day as 2021-06-30, or a time as 2021-06-30T12:00, not {text!r}.") from error


def rfc3339(when: datetime) -> str:
    """A time in the form in which it is recorded: UTC, whole seconds. One without a zone is UTC."""
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _end_of_day(text: str) -> datetime | None:
    try:
        return datetime.combine(date.fromisoformat(text), time(23, 59, 59), UTC)
    except ValueError:
        return None
