"""A sequence of calls spoken with a server, and its answers in a form that two servers can share."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from tracking.calls import API, Call

IGNORED = {
    "workspace": "only MLflow 3 has workspaces, and its clients do not need the field",
    "sqlstate": "MLflow 3 says it of some errors and not of others; its clients do not read it",
    "error_class": "as sqlstate",
    "message": "an error's words are each server's own; its code and status are compared",
}

# Lists that are sets to MLflow: it gives them in the order in which SQLite finds them.
_UNORDERED = ("params", "tags", "dataset_inputs", "model_inputs", "model_outputs", "files")

_IDS = re.compile(r"m-[0-9a-f]{32}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_EXPERIMENT_IN_PATH = re.compile(r"mlflow-artifacts:/(\d+)(?![0-9a-f])")
_INVENTED_NAME = re.compile(r"[a-z]+-[a-z]+-\d{1,4}|[0-9a-f]{16}")
_A_WHILE = 3600_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered: `JSON`, `a file` (its bytes as text), or `a page` for people (not looked at)."""

    status: int
    kind: str
    content: Any


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two values of JSON, or two answers, differ: a line for each place, with both values."""
    if isinstance(one, Answer) and isinstance(other, Answer):
        pairs = ((name, getattr(one, name), getattr(other, name)) for name in ("status", "kind", "content"))
        return [line for name, ours, theirs in pairs for line in differences(ours, theirs, name)]
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other})
        return [
            line
            for name in names
            for line in differences(one.get(name, "(absent)"), other.get(name, "(absent)"), f"{place}.{name}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            line
            for number, (ours, theirs) in enumerate(zip(one, other, strict=True))
            for line in differences(ours, theirs, f"{place}[{number}]")
        ]
    same = one == other and type(one) is type(other)
    return [] if same else [f"{place}: {_short(one)} instead of {_short(other)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 400 else f"{text[:400]}... ({len(text)} characters)"


@dataclass(slots=True)
class Conversation:
    """Speaks with one server. What it keeps and the ids it has seen are this conversation's own."""

    url: str
    kept: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kept["salt"] = secrets.token_hex(6)

    def answers(self, calls: Iterable[Call]) -> list[Answer]:
        """The answers to the calls, in a form that does not tell servers apart by ids, times and invented names."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            return [self._answer(connection, call) for call in calls]
        finally:
            connection.close()

    def _answer(self, connection: HTTPConnection, call: Call) -> Answer:
        path = self._filled(call.path if call.path.startswith("/") else API + call.path)
        if call.query:
            path = f"{path}?{urlencode(self._filled(call.query), doseq=True)}"
        headers = {}
        body = call.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(self._filled(body)).encode()
        if call.method != "PUT" and body is not None:
            headers["Content-Type"] = "application/json"
        content = iter([body] if body else []) if call.chunked else body
        connection.request(call.method, path, content, headers, encode_chunked=call.chunked)
        with connection.getresponse() as response:
            raw, status = response.read(), response.status
            kind = (response.getheader("Content-Type") or "").split(";")[0]
        if status == 200 and not raw and call.method != "GET":
            kind = "application/json"  # an upload is answered with nothing by MLflow 3, and with `{}` by MLflow 2
        if kind != "application/json":
            # What kind of file a download is told to be is for browsers.
            return Answer(status, "a page" if status != 200 else "a file", raw.decode("latin-1") * (status == 200))
        said = json.loads(raw) if raw else {}
        for name, place in call.keep.items():
            self.kept[name] = _at(said, place)
            time.sleep(0.002)  # else two things may be as old as each other, and their order one of ids
        return Answer(status, "JSON", self._shared(said))

    def _filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda found: self.kept.get(found[1], found[0]), value)
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        return value

    def _shared(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            # To protobuf, which reads the answers, a list or a message that is empty is one that is not there.
            told = (name for name in sorted(value) if name not in IGNORED and value[name] not in ([], {}))
            return {name: self._shared(value[name], name) for name in told}
        if isinstance(value, list):
            of_a_run = key == "metrics" and len({item["key"] for item in value}) == len(value)
            if key in _UNORDERED or of_a_run:
                value = sorted(value, key=_sort_key)
            return [self._shared(item, key) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return "now" if abs(value - time.time() * 1000) < _A_WHILE else value
        return self._shared_text(value, key) if isinstance(value, str) else value

    def _shared_text(self, text: str, key: str) -> str:
        if key == "next_page_token":
            return "a token"
        if key == "experiment_id":
            return self._name(text, "experiment")
        if key in ("run_name", "name", "value") and _INVENTED_NAME.fullmatch(text):
            return "an invented name"
        text = text.replace(self.kept["salt"], "SALT")
        text = _EXPERIMENT_IN_PATH.sub(lambda found: f"mlflow-artifacts:/{self._name(found[1], 'experiment')}", text)
        return _IDS.sub(lambda found: self._name(found[0], "model" if found[0].startswith("m-") else "id"), text)

    def _name(self, told: str, kind: str) -> str:
        if told not in self.names:
            self.names[told] = f"{kind} {sum(name.startswith(kind) for name in self.names.values()) + 1}"
        return self.names[told]


def _at(said: Any, place: str) -> str:
    """What is at `place`; a text that is no id where the answer has none, so that the other calls can go on."""
    for part in place.split("."):
        try:
            said = said[int(part) if isinstance(said, list) else part]
        except (KeyError, IndexError, ValueError, TypeError):
            return "not-told"
    return str(said)


def _sort_key(item: dict[str, Any]) -> str:
    first = [item.get(name, "") for name in ("key", "path", "step")]
    return json.dumps([first, {key: value for key, value in item.items() if key != "model_id"}], sort_keys=True)
