"""How the rooms below say what they are doing, without knowing who listens."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

_SECONDS = 0.1


class Report(Protocol):
    """Receives progress. `phase` is the word in the left column (`source`, `environment`, ...)."""

    def __call__(self, phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say `text` of `phase`. With `done` it is a passing count (`text` says of what), else a line to keep."""


def silent(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
    """The report nobody listens to."""


def plural(count: int, noun: str) -> str:
    """`1 output`, `2 outputs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def seldom(report: Report) -> Report:
    """`report`, with ten counts in a second at most and none twice. Lines to keep and a count's end get through."""
    told, last = 0.0, ("", 0)

    def say(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        nonlocal told, last
        if done is None:
            report(phase, text)
            return
        now = time.monotonic()
        if (text, done) != last and (done == total or now - told >= _SECONDS):
            told, last = now, (text, done)
            report(phase, text, done=done, total=total)

    return say


def project_name(url: str | None, subdir: str | None) -> str:
    """What a project is called, by its URL and its folder in there: `wine`, `wine#models/small`.

    A run that was only logged has none.
    """
    if url is None:
        return "(logged)"
    name = url.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return f"{name}#{subdir}" if subdir else name


def age(text: str) -> str:
    """How long ago an RFC 3339 time was: 3 s ago, 5 min ago, 2 h ago, 12 d ago, else the day."""
    seconds = seconds_since(text)
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h"), (30 * 86400, 86400, "d")):
        if seconds < limit:
            return f"{max(seconds, 0) / unit:.0f} {name} ago"
    return datetime.fromisoformat(text).strftime("%Y-%m-%d")


def seconds_since(text: str) -> float:
    """The seconds since an RFC 3339 time."""
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
