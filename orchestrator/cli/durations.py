"""Lengths of time, as people type them."""

from __future__ import annotations

import re

from orchestrator.errors import UsageError

_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(
    r"\s*".join(
        [
            rf"(?:(?P<d>{_NUMBER})\s*d)?",
            rf"(?:(?P<h>{_NUMBER})\s*h)?",
            rf"(?:(?P<m>{_NUMBER})\s*(?:min|m))?",
            rf"(?:(?P<s>{_NUMBER})\s*s?)?(?<!\s)",
        ]
    ),
    re.ASCII,
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_LONGEST = 10 * 365 * 86400


def parse_duration(text: str, option: str, *, zero: bool = False) -> float:
    """Seconds: 30, 90s, 10m, 2h30m, `1 h 30 min`, 1d. Raises UsageError that names the option; 0 only with `zero`."""
    found = _DURATION.fullmatch(text)
    given = {unit: number for unit, number in found.groupdict().items() if number} if found else {}
    seconds = sum(float(number) * _SECONDS[unit] for unit, number in given.items())
    bare = len(given) > 1 and text[-1].isdigit()  # 1h30: of what?
    if not given or bare or not 0 <= seconds <= _LONGEST or (seconds == 0 and not zero):
        least = "" if zero else ", longer than 0"
        raise UsageError(f"{option} takes a length of time{least}, as 30, 90s, 10m, 2h30m or 1d, not {text!r}.")
    return seconds
