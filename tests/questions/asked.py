"""Pieces of filters, for hypothesis: keys, texts and numbers with which anything can be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Ask = Callable[[dict[str, Any]], Any]
"""The fixture `ask_mlflow`."""

KEYS = st.sampled_from(["rmse", "a b", "x.y", "É"])
TEXTS = st.sampled_from(
    [
        "a",
        "A",
        "ab",
        "aB",
        "a%b",
        "a_b",
        "5.1",
        "10",
        "é",
        "É",
        "it's",
        'say "x"',
        "[a]",
        "a*b",
        "a?b",
        "a\\",
        "",
        "ab\n",
    ]
)
PATTERNS = st.text("aAbB%_*?[]é^-\\", max_size=5)
TEXT_OPERATORS, NUMBER_OPERATORS = ["=", "!=", "LIKE", "ILIKE", "like"], ["=", "!=", "<", "<=", ">", ">="]


def quoted_key(key: str) -> st.SearchStrategy[str]:
    ways = [f"`{key}`", f'"{key}"'] + ([key] if key.replace(".", "").isalnum() else [])
    return st.sampled_from(ways)


def quoted(text: str) -> str:
    # No quote can be written inside of itself, and a backslash keeps one from ending the text.
    return f'"{text}"' if "'" in text else f"'{text}'"


def writable(text: str) -> bool:
    return not text.endswith("\\") and not ("'" in text and '"' in text)


ASKED_TEXTS = (TEXTS | PATTERNS).filter(writable).map(quoted)
ASKED_NUMBERS = st.sampled_from(["0", "0.5", "-3", "1", "1.0", "1e10", "1e-7", "-.5", "5."])


def examples(count: int) -> settings:
    """Of so many examples. A failure names the one question; making its example smaller takes minutes."""
    phases = [Phase.generate]
    return settings(
        max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), phases=phases, database=None
    )
