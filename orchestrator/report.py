"""How the rooms below say what they are doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Receives progress. `phase` is the word in the left column (`source`, `environment`, ...)."""

    def __call__(self, phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        """Say `text` of `phase`. With `done` and `total` it is a passing count, else a line to keep."""


def silent(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
    """The report nobody listens to."""
