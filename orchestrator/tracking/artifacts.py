"""Artifacts: files that clients send are put into the store and recorded as outputs of their run, one by one.

A path names a run, or a model of a run, and a file among its artifacts. It is only ever compared with the paths that
are recorded: no file is looked for by a name that a client sent.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from orchestrator import ledger, store
from orchestrator.canonical import local_path, portable_path
from orchestrator.inputs import listed_blobs
from orchestrator.model import Output
from orchestrator.records import output_to_json
from orchestrator.sweep import sweep
from orchestrator.tracking.asked import Asked, invalid, missing
from orchestrator.tracking.followed import Followed
from orchestrator.tracking.models import find_model
from orchestrator.tracking.tracker import Tracker, experiment_id_of, flush, run_of, run_to_log, tell_of

_ROOT = "artifacts/"
_LONGEST_PATH, _LONGEST_PART = 4096, 255
REPLACED_SECONDS = 3.0
"""For so long the bytes of a file that another has replaced stay: somebody may have asked for them just before."""
_DRIVE = re.compile(r"(^|/artifacts/)/*[A-Za-z]:(/|$)")


def place_of(tracker: Tracker, path: str) -> tuple[Followed, str]:
    """The run of an address, and the folder or file there, as an output's path.

    `[experiment/]run/artifacts[/file]` is an artifact of a run, `experiment/models/id/artifacts[/file]` one of a model.
    Raises ApiError for any other, and for one that leads elsewhere.
    """
    parts = [part for part in path.split("/") if part]
    if len(path) > _LONGEST_PATH or any(part in (".", "..") for part in parts) or "\0" in path or "\\" in path:
        raise invalid("Invalid path")
    if any(len(os.fsencode(part)) > _LONGEST_PART for part in parts) or _DRIVE.search(path):
        raise invalid("Invalid path")
    if _names_model(path):
        run, model = find_model(tracker, parts[2])
        return run, "/".join([_ROOT + model.folder, *parts[4:]])
    rest = parts[1:] if len(parts) >= 3 and parts[2] == "artifacts" else parts
    if len(rest) < 2 or rest[1] != "artifacts":
        raise missing(f"No such artifact: '{path}'")
    return run_of(tracker, rest[0]), "/".join([_ROOT.rstrip("/"), *rest[2:]])


def _names_model(path: str) -> bool:
    parts = [part for part in path.split("/") if part]
    return len(parts) >= 4 and parts[1] == "models" and parts[3] == "artifacts"


def check_place(tracker: Tracker, path: str) -> tuple[Followed, str]:
    """The run of an address and the output's path there. Raises ApiError where no file may be put."""
    run, name = place_of(tracker, path)
    run = run_to_log(tracker, run.record.run_id)
    if name.count("/") == 0:
        raise invalid("Invalid path")
    for output in run.record.outputs:
        there = local_path(output.path)
        if there.startswith(f"{name}/") or name.startswith(f"{there}/"):
            raise invalid(f"'{path}' can't be a file: there is a folder of that name, or a file in its way.")
    return run, name


def put(tracker: Tracker, path: str, file: Path) -> dict[str, Any]:
    """Keep a file that was received, moving it away, under this address."""
    run, name = check_place(tracker, path)
    with store.adding(tracker.home):
        sha256, size = store.put_file(tracker.home, file, move=True)
        output = Output(portable_path(name), sha256, size)
        for there in run.record.outputs:
            if there.path == output.path and there.link is None and there.sha256 != sha256:
                tracker.replaced[there.sha256] = time.monotonic()
        tell_of(tracker, run, {"event": "output", "output": output_to_json(output)})
        flush(tracker)  # whoever removes bytes asks the ledger who names them
    return {}


def remove_replaced(tracker: Tracker, *, older: float = REPLACED_SECONDS) -> None:
    """Remove the bytes of files that others have replaced for `older` seconds, unless something else names them.

    Nobody is waited for: while somebody stores or compares something, they stay until the next call.
    """
    home, now = tracker.home, time.monotonic()
    due = [sha256 for sha256, since in tracker.replaced.items() if now - since >= older]
    if not due:
        return
    connection = flush(tracker)
    with contextlib.suppress(_BusyError), store.removing(home, waiting=_refuse_to_wait):
        sweep(home, connection)  # whoever stored something before has recorded it; the ledger must know it too
        listed = {blob for folder in ledger.folder_inputs(connection) for blob in listed_blobs(folder, home=home)}
        for sha256 in due:
            if sha256 not in listed and not ledger.is_named(connection, sha256):
                store.remove_blob(home, sha256)
            del tracker.replaced[sha256]


class _BusyError(Exception):
    """The store is in use."""


def _refuse_to_wait() -> None:
    raise _BusyError


def find(tracker: Tracker, path: str) -> Output:
    """The artifact of this address. Raises ApiError when there is none."""
    run, name = place_of(tracker, path)
    for output in run.record.outputs:
        if output.path == portable_path(name) and output.link is None:
            return output
    raise missing(f"No such artifact: '{path}'")


def list_proxied(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET mlflow-artifacts/artifacts?path=`: what is in a folder, with paths relative to it."""
    run, name = place_of(tracker, asked.text("path", ""))
    files = _listed(run, name, of_model=_names_model(asked.text("path", "")))
    return {"files": [{**file, "path": posixpath.relpath(file["path"], name)} for file in files]}


def list_of_run(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET artifacts/list`: what is in a folder of a run, with paths relative to its artifacts."""
    run = run_of(tracker, asked.run_id())
    _, name = place_of(tracker, f"{run.record.run_id}/artifacts/{unquote(asked.text('path', ''))}")
    files = [{**file, "path": file["path"].removeprefix(_ROOT)} for file in _listed(run, name, of_model=False)]
    uri = f"mlflow-artifacts:/{experiment_id_of(tracker, run.record.run_id)}/{run.record.run_id}/artifacts"
    return {"root_uri": uri, **({"files": files} if files else {})}


def list_of_model(tracker: Tracker, asked: Asked) -> dict[str, Any]:
    """`GET logged-models/<id>/artifacts/directories`: what is in a folder of a model."""
    run, model = find_model(tracker, asked.text("model_id"))
    identity = experiment_id_of(tracker, run.record.run_id)
    root = f"{identity}/models/{model.model_id}/artifacts"
    _, name = place_of(tracker, f"{root}/{unquote(asked.text('artifact_directory_path', ''))}")
    top = f"{_ROOT}{model.folder}/"
    files = [{**file, "path": file["path"].removeprefix(top)} for file in _listed(run, name, of_model=True)]
    return {"root_uri": f"mlflow-artifacts:/{root}", **({"files": files} if files else {})}


def _listed(run: Followed, folder: str, *, of_model: bool) -> list[dict[str, Any]]:
    """The files and folders right below `folder`, by name.

    Those of models are listed by who asks for the model alone: clients of MLflow 3 add them to those of the run.
    """
    models = tuple(f"{_ROOT}{model.folder}/" for model in run.record.tracking.models)
    found: dict[str, dict[str, Any]] = {}
    for output in run.record.outputs:
        path = local_path(output.path)
        if not path.startswith(f"{folder}/") or output.link is not None or (path.startswith(models) and not of_model):
            continue
        name, deeper, _ = path.removeprefix(f"{folder}/").partition("/")
        size = {"file_size": output.size} if output.size and not deeper else {}
        found[name] = {"path": f"{folder}/{name}", "is_dir": bool(deeper), **size}
    return [found[name] for name in sorted(found)]
