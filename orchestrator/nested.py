"""A run that a program of another run asks for: it is a child of that run, and made of the same commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator import ledger, source
from orchestrator.model import RunRecord
from orchestrator.paths import Home
from orchestrator.source import Resolved
from orchestrator.source.location import Folder, parse_location


def run_around(environ: Mapping[str, str], home: Home) -> RunRecord | None:
    """The run of this home in whose program this process is, also when its supervisor died; None outside of any."""
    run_id = environ.get("ORCH_RUN_ID", "")
    if not (len(run_id) == 32 and run_id.isalnum() and home.run(run_id).is_dir()):
        return None
    record = ledger.read_run(home, run_id, logged=False)
    if record is None or record.pinned is None or record.status not in ("running", "orphaned"):
        return None
    return record


def source_inside(around: RunRecord, text: str, revision: str | None, home: Home) -> Resolved | None:
    """The commit of `around`, when `text` names a folder of its checkout; None for what lies elsewhere.

    What the program has changed there since is not in it: a step that needs it takes it as an input, or an artifact.
    """
    location = parse_location(text)
    checkout = (home.work / around.run_id / "checkout").resolve()
    if revision is not None or not isinstance(location, Folder):
        return None
    folder = (Path(location.path).resolve() / location.subdir).resolve()
    if not folder.is_relative_to(checkout):
        return None
    subdir = folder.relative_to(checkout).as_posix()
    return source.Resolved(replace(around.spec.source, subdir="" if subdir == "." else subdir))
