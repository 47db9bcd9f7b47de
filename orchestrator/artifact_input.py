"""Artifacts of runs as inputs of others: what an address by which MLflow names one, means in this home."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from orchestrator import ledger, store
from orchestrator.canonical import canonical_json, local_path
from orchestrator.errors import OrchError
from orchestrator.paths import Home, stays_below

_ADDRESS = re.compile(
    r"runs:/(?P<run>[0-9a-f]{32})(/(?P<path>.+))?"
    r"|mlflow-artifacts:/([0-9]+/)?(?P<own_run>[0-9a-f]{32})/artifacts(/(?P<own_path>.+))?"
)


def artifact(uri: str, *, home: Home) -> Path | None:
    """A copy, in the cache, of the file or folder that `uri` names; None for what is no address of a run's artifact.

    Raises OrchError when there is no such run or artifact, or the store has lost it.
    """
    found = _ADDRESS.fullmatch(uri.rstrip("/"))
    if found is None:
        return None
    run_id, path = found["run"] or found["own_run"], found["path"] or found["own_path"] or ""
    record = ledger.read_run(home, run_id, logged=False)
    if record is None:
        raise OrchError(f"{uri}: there is no run {run_id} here.")
    wanted = "/".join(filter(None, ["artifacts", path]))
    outputs = [
        (local_path(output.path), output.sha256, output.mode) for output in record.outputs if output.link is None
    ]
    files = sorted(file for file in outputs if file[0] == wanted or file[0].startswith(f"{wanted}/"))
    if not files or not all(stays_below(name) for name, *_ in files):
        raise OrchError(f"{uri}: run {run_id[:16]} has no artifact {path or 'at all'}.")
    name = wanted.rpartition("/")[2]
    folder = home.cache / "artifacts" / hashlib.sha256(canonical_json([list(file) for file in files])).hexdigest()[:32]
    for file, sha256, mode in files:
        target = folder / (name + file.removeprefix(wanted))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OrchError(f"{target.parent} can't be made: {error.strerror}.") from error
        store.copy_out(home, sha256, target, mode)
    return folder / name
