"""What is said when a disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from orchestrator.paths import Home

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether an error means that no space, or none of the user's share, is left."""
    return error.errno in _FULL


def said_full(text: str, place: Path) -> OSError | None:
    """The error of a full disk, for `place`, where that is what a library or a program says; else None."""
    return next((OSError(code, os.strerror(code), str(place)) for code in _FULL if os.strerror(code) in text), None)


def no_space(home: Home, purpose: str) -> str:
    """The sentence that names the fullest of the places where environments are made, and what can be done."""
    places = {"cache": home.cache, "envs": home.envs, "": home.root}
    name = min(places, key=lambda name: free_space(places[name]))
    # The user's share may be what has run out, wherever it is.
    more = f", or move `{name}` with [paths] in {home.config}" if name else ""
    return f"No space is left in {places[name]} to {purpose} the environment; free some{more}."


def free_space(folder: Path) -> int:
    """The bytes that the user may still write on the disk of a folder."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize
