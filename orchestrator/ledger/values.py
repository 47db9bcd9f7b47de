"""How values stand in SQLite columns where SQLite has no exact place for them."""

from __future__ import annotations

import math
import re


def to_text(value: str | None) -> str | bytes | None:
    """Text for a column. Text that is no Unicode (lone surrogates, from file names) becomes a BLOB of its bytes."""
    if value is None or value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


def from_text(value: str | bytes | None) -> str | None:
    """The inverse of `to_text`."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def to_real(value: float) -> float | None:
    """A double for a column. SQLite has no NaN; NULL stands for it, and like it compares with nothing."""
    return None if math.isnan(value) else value


def from_real(value: float | None) -> float:
    """The inverse of `to_real`."""
    return math.nan if value is None else value


_TOKEN = re.compile(r"[0-9]+|[a-z]+|\+")
_DEV, _PRE, _END, _LOCAL, _POST, _NUMBER = "ABCDEF"
_WORDS = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc", "r": "post", "rev": "post"}


def version_key(version: str) -> str:
    """Text that sorts, byte by byte, as versions do, so that `<` works in SQL; equal for `1.0` and `1`.

    The order is that of PEP 440, and that of conda where versions have no letters or the letters of PEP 440:
    dev releases, other words (pre-releases, OpenSSL's letters) by the alphabet, the release itself, local
    versions, post-releases, then further numbers. Numbers are prefixed with their count of digits. Every
    connection of the ledger has this as the SQL function `version_key(text)`.
    """
    epoch, _, release = version.lower().strip().rpartition("!")
    tokens = _TOKEN.findall(release.removeprefix("v"))
    kept: list[str] = []
    for token in tokens:
        if not token.isdigit():
            # Zeros before a word or the end do not count: 1.0rc1 is a pre-release of 1.
            _drop_zeros(kept)
        kept.append(token)
    _drop_zeros(kept)
    return "".join(map(_token_key, [epoch if epoch.isdigit() else "0", *kept])) + _END


def _drop_zeros(tokens: list[str]) -> None:
    while tokens and tokens[-1].isdigit() and not tokens[-1].strip("0"):
        tokens.pop()


def _token_key(token: str) -> str:
    if token.isdigit():
        digits = token.lstrip("0") or "0"
        return f"{_NUMBER}{len(digits):03d}{digits}"
    word = _WORDS.get(token, token)
    if word in ("dev", "post", "+"):
        return {"dev": _DEV, "post": _POST, "+": _LOCAL}[word]
    return f"{_PRE}{word} "
