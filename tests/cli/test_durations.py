"""Lengths of time, as people type them."""

from __future__ import annotations

import pytest

from orchestrator.cli.durations import parse_duration
from orchestrator.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("90s", 90),
        ("10m", 600),
        ("10 min", 600),
        ("2h", 7200),
        ("1.5h", 5400),
        ("2h30m", 9000),
        ("1h 30m", 5400),
        ("1 h 30 min", 5400),
        ("1d12h", 129600),
        ("1d 2h 3m 4s", 93784),
    ],
)
def test_a_length_of_time_is_read_as_it_is_said(text: str, seconds: float) -> None:
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "h", "soon", "-5", "1h30", "30m1h", "1h1h", "1:30", "1,5h", "1e3", "nan", "inf", "5w", "٣", "9999999d"],
)
def test_what_is_no_length_of_time_is_refused_with_the_option_and_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"--grace takes a length of time.*2h30m"):
        parse_duration(text, "--grace", zero=True)


def test_nothing_is_no_time_to_run_but_may_be_a_grace() -> None:
    assert parse_duration("0", "--grace", zero=True) == 0
    with pytest.raises(UsageError, match="longer than 0"):
        parse_duration("0s", "--timeout")
