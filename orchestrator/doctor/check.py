"""What `orch doctor` finds: one result for each thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "note", "fault"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one thing.

    A `fault` keeps orch, or a part of it, from working; a `note` is something that may surprise, or cost time. No
    credential stands in any of the texts.
    """

    name: str
    result: Result
    found: str
    advice: str = ""
    """What to do about it, as one or more sentences; empty where nothing is to be done."""


def ok(name: str, found: str) -> Check:
    """A thing that is as it should be."""
    return Check(name, "ok", found)


def note(name: str, found: str, advice: str = "") -> Check:
    """A thing that works, but not as well as it could."""
    return Check(name, "note", found, advice)


def fault(name: str, found: str, advice: str = "") -> Check:
    """A thing that does not work."""
    return Check(name, "fault", found, advice)


def amount(count: int) -> str:
    """A number of bytes in the unit that suits disks and memories."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
