"""Lengths of time, as people type them."""

from __future__ import annotations

import re

from orchestrator.errors import UsageError

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_LONGEST = 10 * 365 * 86400


def parse_duration(text: str, option: str) -> float:
    """Seconds: 30, 90s, 10m, 2h, 1d. Raises UsageError that names the option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?", text, re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2] or ""] if found else 0.0
    if not 0 < seconds <= _LONGEST:
        raise UsageError(f"{option} takes a length of time, as 30, 90s, 10m, 2h or 1d, not {text!r}.")
    return seconds
