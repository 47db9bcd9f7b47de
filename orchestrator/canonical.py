"""Canonical JSON: the same value always has the same bytes, so that its sha256 names it.

RFC 8785 (JSON Canonicalization Scheme). JSON has no NaN and no infinities; they are the strings "NaN",
"Infinity" and "-Infinity" here, as in MLflow's REST API. Integers beyond 2**53 are refused, as RFC 8785 asks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> bytes:
    """The RFC 8785 bytes of `value`.

    Raises ValueError for text that is no Unicode scalar text (lone surrogates: percent-encode such a path
    first, see `portable_path`), and for integers that a double can't hold.
    """
    import rfc8785

    try:
        return rfc8785.dumps(_plain(value))
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from error


def sha256_of(value: Any) -> str:
    """The sha256 (lower-case hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def number_to_json(value: float) -> float | str:
    """A double as JSON holds it: NaN and infinities as text."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def number_from_json(value: float | int | str) -> float:
    """The inverse of `number_to_json`. Raises ValueError for any other text, and for what no double can hold."""
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"not a number: {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("an integer too large for a double") from error


def portable_path(path: str) -> str:
    """A path as JSON can hold it: bytes that are no UTF-8 (surrogate escapes) and `%` are percent-encoded."""
    if "%" not in path and path.isprintable() and not _has_surrogates(path):
        return path
    out = []
    for byte_or_char in path:
        if byte_or_char == "%":
            out.append("%25")
        elif 0xDC80 <= ord(byte_or_char) <= 0xDCFF:
            out.append(f"%{ord(byte_or_char) - 0xDC00:02X}")
        else:
            out.append(byte_or_char)
    return "".join(out)


def local_path(portable: str) -> str:
    """The inverse of `portable_path`: the path as this machine's file functions take it."""
    if "%" not in portable:
        return portable
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(portable).decode("utf-8", "surrogateescape")


def _has_surrogates(text: str) -> bool:
    return any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return number_to_json(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
