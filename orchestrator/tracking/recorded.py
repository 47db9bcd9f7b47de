"""What clients tell, as it may be recorded: without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.tracking.asked import invalid
from orchestrator.variables import is_secret

_LONGEST_VALUE = 2**20
"""Characters of a parameter's or tag's value. MLflow cuts off what is longer than 6,000 and 8,000; here it is kept."""
_URL = re.compile(r"(https?|ftps?)?://([^\s\"'<>\\]*)", re.IGNORECASE)
_PORT = re.compile(r"(\[.*\]|[^:]*)(:[0-9]*)?")
_MARK = re.compile(r"([?&;#])")


def public_values(values: Mapping[str, str]) -> dict[str, str]:
    """Values by name, as parameters and tags are; a secret's is empty. Raises ApiError for one that is too long."""
    for key, value in values.items():
        if len(value) > _LONGEST_VALUE:
            raise invalid(f"The value of {key!r} exceeds the maximum length of {_LONGEST_VALUE} characters.")
    return {key: "" if is_secret(key, value) else value for key, value in values.items()}


def public_value(name: str, value: str) -> str:
    """`public_values` of one."""
    return public_values({name: value})[name]


def public_text(text: str) -> str:
    """A text without what is secret in the URLs that it names; nothing of it if there is still a secret in it."""
    text = _URL.sub(_public_url, text)
    return "" if is_secret("", text) else text


def _public_url(found: re.Match[str]) -> str:
    scheme, (place, *rest) = found[1] or "", _MARK.split(found[2])
    authority, _, path = place.partition("/")
    user, at, _ = authority.rpartition("@")
    if at and (scheme or ":" in user):  # else it may be a part of the address, as in abfss://container@account
        place = place[len(user) + 1 :]
    elif not at and "@" in path and not _PORT.fullmatch(authority):  # a slash in a password
        place = place.rpartition("@")[2]
    left_out, url = "", f"{scheme}://{place}"
    for mark, part in zip(rest[::2], rest[1::2], strict=True):
        name, given, _ = part.partition("=")
        if given and is_secret(name, f"?{part}"):
            left_out = left_out or mark
        else:
            url += (left_out if left_out and mark != "#" else mark) + part
            left_out = ""
    return url
