"""`orch get`: a run's outputs, brought out of the store."""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from orchestrator import ledger, store
from orchestrator.beginning import find_recorded
from orchestrator.canonical import local_path
from orchestrator.cli.runs import open_ledger
from orchestrator.errors import OrchError
from orchestrator.model import Output
from orchestrator.paths import Home, stays_below
from orchestrator.report import plural


def get(wanted: str, patterns: Sequence[str], output: Path, *, quiet: bool, as_json: bool) -> None:
    """`orch get`."""
    with open_ledger() as (home, connection):
        run_id = find_recorded(home, connection, wanted)
    brought = bring(home, run_id, patterns, output)
    if as_json:
        print(json.dumps({"run_id": run_id, "folder": str(output), "outputs": [o.path for o in brought]}, indent=2))
    elif not quiet:
        print(f"{plural(len(brought), 'output')} in {output}", file=sys.stderr)


def bring(home: Home, run_id: str, patterns: Sequence[str], output: Path) -> list[Output]:
    """Copy a run's outputs that match any of `patterns` (all when there are none) below `output`, and say which.

    A file that stands there already with other bytes is not overwritten: OrchError names it before anything is
    written. Links come last, so that no file is ever written through one.
    """
    chosen = _chosen_outputs(home, run_id, patterns)
    targets = [(item, _target(output, local_path(item.path))) for item in chosen]
    for item, target in targets:
        if os.path.lexists(target) and not _is_same(target, item.sha256, item.link):
            raise OrchError(f"{target} is there already and differs; move it away, or choose another folder with -o.")
    for item, target in sorted(targets, key=lambda pair: pair[0].link is not None):
        if os.path.lexists(target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if item.link is not None:
            target.symlink_to(local_path(item.link))
        else:
            store.copy_out(home, item.sha256, target, item.mode)
    return chosen


def _chosen_outputs(home: Home, run_id: str, patterns: Sequence[str]) -> list[Output]:
    record = ledger.read_run(home, run_id)
    if record is None:
        raise OrchError(f"run {run_id} has no directory any more.")
    if record.status in ("running", "orphaned"):
        raise OrchError(f"run {run_id} is {record.status}; its outputs are there when it has ended.")
    if record.exit_code is None and record.pinned is not None and not record.outputs:
        raise OrchError(f"the outputs of run {run_id} were not stored: {record.reason or record.status}.")
    chosen = [o for o in record.outputs if not patterns or any(_matches(o.path, p) for p in patterns)]
    if not chosen and patterns:
        there = ", ".join(o.path for o in record.outputs[:5]) or "none"
        raise OrchError(f"run {run_id} has no output that matches {' or '.join(patterns)}; it has: {there}.")
    return chosen


def _matches(path: str, pattern: str) -> bool:
    """A pattern without a slash is matched against the file's name too, and a folder brings all below it."""
    name = PurePosixPath(path).name
    folder = pattern.rstrip("/")
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern) or path.startswith(f"{folder}/")


def _target(output: Path, path: str) -> Path:
    """Where an output goes: below `output`, and by no link that stands there."""
    if not stays_below(path):
        raise OrchError(f"the record names an output {path!r} that would leave the folder; it is not brought.")
    for parent in list(PurePosixPath(path).parents)[:-1]:
        if (output / parent).is_symlink():
            raise OrchError(f"{output / parent} is a link; {output / path} is not written through it.")
    return output / path


def _is_same(target: Path, sha256: str, link: str | None) -> bool:
    if link is not None:
        return target.is_symlink() and os.fspath(target.readlink()) == local_path(link)
    return target.is_file() and not target.is_symlink() and store.hash_file(target)[0] == sha256
