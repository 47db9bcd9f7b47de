"""What a run calls itself: its ids and folders, which are others in every replay.

In text these names are put out of the way before two runs are compared, by built-in rules with a version. A rule never
looks at the other run: what it replaces is known to be the run's own.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orchestrator.canonical import local_path
from orchestrator.model import RunRecord
from orchestrator.paths import Home

OWN_PATHS = "own-paths-1"
"""The run's folder, its environment's and the user's home stand for one another."""
OWN_RUN_ID = "own-run-id-1"
"""The run's id, also with the dashes of a UUID."""
MLFLOW_IDS = "mlflow-ids-1"
"""The ids that MLflow gave the run and its models, as its own files tell."""

MARK = "‹own "
"""So begins what stands in place of a name."""
_STOPS = " \t\r\n\"'`<>|;,()[]{}=:"
"""A path in text begins behind one of these."""
_LONGEST_PATH = 4096
_PREFIX = r"{}(?:-[0-9a-f]{{16}})?(?:\.[0-9]+)?(?![0-9A-Za-z])"

Replace = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class OwnNames:
    """The names of one run, as steps by rule that put them out of the way of a text, and of the path of an output."""

    in_text: tuple[tuple[str, Replace], ...]
    in_path: tuple[tuple[str, Replace], ...]


def own_names(record: RunRecord, other: RunRecord, *, home: Home, mlflow_ids: Sequence[str] = ()) -> OwnNames:
    """What `record` calls itself. `mlflow_ids` are those that MLflow gave it, in their order.

    The user's home only counts where that of `other` is another. The run may be of another machine: its folders are
    those that it recorded, or known by the run's id, or the lock's, behind `work`, `runs` or `envs`.
    """
    run, lock = record.run_id, record.spec.environment.lock_id
    said = {name: local_path(path) for name, path in record.host.get("folders", {}).items()}
    works = (said.get("work", home.work), said.get("runs", home.runs))
    paths = [
        _folder(run + r"(?![0-9A-Za-z])", ("work", "runs"), works, f"{MARK}folder›"),
        _folder(_PREFIX.format(lock), ("envs",), (said.get("envs", home.envs),), f"{MARK}environment›"),
    ]
    user, users = (str(about.host.get("variables", {}).get("HOME", "")).rstrip("/") for about in (record, other))
    if user != users and user.startswith("/") and users:
        paths.append(_pattern(rf"(?<![\w/.~-]){re.escape(user)}(?![\w.-])", f"{MARK}home›"))
    ids = [_pattern(run, f"{MARK}run id›"), _pattern(str(uuid.UUID(run)), f"{MARK}run uuid›")]
    others = enumerate((name for name in mlflow_ids if run not in name), 1)
    known = [_pattern(re.escape(name), f"{MARK}MLflow id{number}›") for number, name in others]
    by_id = ((OWN_RUN_ID, _all(ids)), (MLFLOW_IDS, _all(known)))
    return OwnNames(((OWN_PATHS, _all(paths)), *by_id), by_id)


def without_own(text: str, steps: Iterable[tuple[str, Replace]]) -> tuple[str, frozenset[str]]:
    """`text` with the run's own names put out of the way, and the rules that found any."""
    used = set()
    text = text.replace(MARK, f"‹{MARK}")  # what looks like ours stays apart from ours
    for rule, step in steps:
        changed = step(text)
        if changed != text:
            used.add(rule)
            text = changed
    return text, frozenset(used)


def _all(steps: Sequence[Replace]) -> Replace:
    def replace(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return replace


def _pattern(pattern: str, placeholder: str) -> Replace:
    compiled = re.compile(pattern)
    return lambda text: compiled.sub(placeholder, text)


def _folder(name: str, parents: Sequence[str], known: Sequence[object], placeholder: str) -> Replace:
    """Puts `placeholder` for each absolute path that ends in a folder `name`, below one of `parents` or a `known` one.

    Not a regular expression from the path's start: text without blanks would be read again from each slash.
    """
    found = re.compile(rf"(?<=/){name}")
    # Where several users share the folder, each has a part of it by number.
    below = re.compile(rf"/(?:{'|'.join(parents)})(?:/[0-9]+)?/\Z")

    def replace(text: str) -> str:
        done, at = [], 0
        for match in found.finditer(text):
            start = _start(text, match.start(), at, known, below)
            if start is not None:
                done += [text[at:start], placeholder]
                at = match.end()
        return "".join([*done, text[at:]])

    return replace


def _start(text: str, end: int, first: int, known: Sequence[object], below: re.Pattern[str]) -> int | None:
    """Where the absolute path before `end` begins; None when it is none of ours."""
    before = text[max(first, end - _LONGEST_PATH) : end]
    for folder in known:  # which may have blanks in it
        if before.endswith(f"{folder}/"):
            return end - len(f"{folder}/")
    path = before[max(before.rfind(stop) for stop in _STOPS) + 1 :]
    is_url = path.startswith("//") and not path.startswith("///")
    if not path.startswith("/") or is_url or not below.search(path):
        return None
    return end - len(path.lstrip("/")) - 1
