"""URLs without the secrets that they may carry."""

from __future__ import annotations

import re

_USER = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s@]*@")
_TOKEN = re.compile(r"/t/[^/\s]+(?=/)")


def without_credentials(text: str) -> str:
    """`text` (a URL, or a message with URLs in it) without user names, passwords and conda tokens (`/t/<token>/`).

    The user name of ssh stays: `ssh://git@host` is an address, not a secret.
    """
    return _TOKEN.sub("", _USER.sub(_kept_user, text))


def _kept_user(match: re.Match[str]) -> str:
    scheme = match["scheme"]
    if scheme.endswith("ssh://") and ":" not in (user := match[0][len(scheme) :]):
        return scheme + user
    return scheme
