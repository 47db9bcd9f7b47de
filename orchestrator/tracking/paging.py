"""Pages of long answers: MLflow's tokens, which hold an offset."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TypeVar

from orchestrator.tracking.asked import Asked, invalid

_T = TypeVar("_T")


def page(items: Sequence[_T], asked: Asked, *, most: int, usual: int) -> tuple[Sequence[_T], dict[str, str]]:
    """The page of `items` that is asked for, and the field that names the next one, if there is one."""
    offset, count = start(asked), size(asked, most=most, usual=usual)
    return items[offset : offset + count], token(offset + count) if offset + count < len(items) else {}


def start(asked: Asked) -> int:
    """Where the page begins that is asked for. Raises ApiError for a token that is none of ours."""
    if not asked.text("page_token", ""):
        return 0
    try:
        offset = json.loads(base64.b64decode(asked.text("page_token"), validate=True))["offset"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise invalid("Invalid page token, could not be decoded.") from None
    if not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise invalid("Invalid page token, it has no offset.")
    return offset


def size(asked: Asked, *, most: int, usual: int) -> int:
    """How many items a page has. Raises ApiError for more than `most`, and for none."""
    count = asked.int64("max_results", usual)
    if not 1 <= count <= most:
        raise invalid(
            f"Invalid value {count} for parameter 'max_results' supplied. It must be at least 1 and at most {most}."
        )
    return count


def token(offset: int) -> dict[str, str]:
    """The field that names the page that begins there."""
    return {"next_page_token": base64.b64encode(json.dumps({"offset": offset}).encode()).decode()}
