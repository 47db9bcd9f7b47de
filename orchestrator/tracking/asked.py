"""What a client asks: the fields of a request, each of the type that it must have, and the error that says otherwise.

The error codes and their meaning are those of MLflow's REST API 2.0.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import OrchError

LONGEST_KEY = 250
_KEY = re.compile(r"[\w\-. :/]*")
_INT64 = range(-(2**63), 2**63)
_STATUS = {
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "FEATURE_DISABLED": 400,
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "INTERNAL_ERROR": 400,
    "TEMPORARILY_UNAVAILABLE": 503,
}
"""Clients try again for minutes what 408, 429 and 5xx answer: no permanent error may be one."""


class ApiError(OrchError):
    """An answer that says why not. `code` is MLflow's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _STATUS[self.code]


def invalid(message: str) -> ApiError:
    """What refuses a value."""
    return ApiError("INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> ApiError:
    """What says that something is not there."""
    return ApiError("RESOURCE_DOES_NOT_EXIST", message)


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of a request, from its JSON body or its query. Unknown ones are passed over, as MLflow does."""

    values: Mapping[str, Any]
    where: str = ""

    def has(self, name: str) -> bool:
        """Whether the field is there, and not null."""
        return self.values.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A text. Without a default it must be there and not be empty."""
        value = self.values.get(name)
        if value in (None, ""):
            if default is None:
                raise self._required(name)
            return default if value is None else ""
        if not isinstance(value, str):
            raise self._wrong(name, "string")
        return value

    def run_id(self) -> str:
        """The run that is meant; older clients call it `run_uuid`."""
        found = self.text("run_id", "") or self.text("run_uuid", "")
        if not found:
            raise self._required("run_id")
        return found

    def int64(self, name: str, default: int | None = None) -> int:
        """A signed 64-bit number, also as text."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise self._required(name)
            return default
        try:
            number = int(value) if not isinstance(value, (bool, float)) or value == int(value) else None
        except (ValueError, TypeError, OverflowError):
            number = None
        if number is None or isinstance(value, bool) or number not in _INT64:
            raise self._wrong(name, "integer")
        return number

    def double(self, name: str) -> float:
        """A number; `NaN` and the infinities come as text."""
        value = self.values.get(name)
        if value is None:
            raise self._required(name)
        try:
            if isinstance(value, bool):
                raise TypeError
            return float(value)
        except (ValueError, TypeError, OverflowError):
            raise self._wrong(name, "number") from None

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty where there is none."""
        value = self.values.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "list of strings")
        return value

    def items(self, name: str) -> list[Asked]:
        """A list of objects; empty where there is none."""
        value = self.values.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(name, "list of objects")
        return [Asked(item, f"{self.where}{name}[{index}].") for index, item in enumerate(value)]

    def pairs(self, name: str) -> dict[str, str]:
        """A list of objects with `key` and `value`, as tags and parameters are sent."""
        return {item.key(): item.text("value", "") for item in self.items(name)}

    def key(self, name: str = "key") -> str:
        """The name of a metric, a parameter or a tag. Raises ApiError for one that MLflow refuses too."""
        key = self.text(name)
        if not _KEY.fullmatch(key):
            raise invalid(
                f"Invalid value {key!r} for parameter {self.where + name!r} supplied: Names may only contain "
                "alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colons (:) and slashes (/)."
            )
        if key != posixpath.normpath(key) or key == "." or key.startswith(("..", "/")):
            raise invalid(f"Invalid value {key!r} for parameter {self.where + name!r} supplied: it is no plain path.")
        if len(key) > LONGEST_KEY:
            raise invalid(f"{self.where + name!r} exceeds the maximum length of {LONGEST_KEY} characters.")
        return key

    def _required(self, name: str) -> ApiError:
        return invalid(f"Missing value for required parameter '{self.where}{name}'.")

    def _wrong(self, name: str, kind: str) -> ApiError:
        shown = json.dumps(self.values.get(name))[:100]
        return invalid(f"Invalid value {shown} for parameter '{self.where}{name}' supplied: it is no {kind}.")


def asked_of_body(body: bytes) -> Asked:
    """The fields of a JSON body. Raises ApiError when it is none, or holds text that is no Unicode."""
    try:
        values = json.loads(body) if body.strip() else {}
        json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ApiError("BAD_REQUEST", "The body of the request is no JSON.") from None
    if not isinstance(values, dict):
        raise ApiError("BAD_REQUEST", "The body of the request is no JSON object.")
    return Asked(values)


def number(value: float) -> float | str:
    """A double as MLflow's server answers it: infinities as the largest finite ones, NaN as text."""
    if math.isnan(value):
        return "NaN"
    return math.copysign(1.7976931348623157e308, value) if math.isinf(value) else value
