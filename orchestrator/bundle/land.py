"""`orch bundle import`: the run of a bundle becomes one of this home, whole or not at all. Nothing is executed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from os import getpid
from pathlib import Path

from orchestrator import journal, ledger, source, store
from orchestrator.bundle import layout
from orchestrator.bundle.read import Bundle, unpack_bundle, unpacked_commit
from orchestrator.environment.carried import adopt_lock, keep_packages
from orchestrator.errors import OrchError
from orchestrator.execute.rundir import RunDirectory
from orchestrator.files import flush_disk, remove_tree
from orchestrator.model import RunRecord
from orchestrator.paths import Home
from orchestrator.records import journal_events, spec_id
from orchestrator.report import Report, silent
from orchestrator.run import index


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to: the run as it is here now. `new` is False when it was here before."""

    bundle: Bundle
    record: RunRecord
    new: bool


def import_bundle(file: Path, *, home: Home, report: Report = silent) -> Imported:
    """Check a bundle, and take its run, code, lock, packages, inputs and outputs into the home.

    A run that is here already stays as it is, and gets what it lacks. When this is killed, some bytes may be left that
    nothing names. Raises OrchError for a bundle that is damaged, or of another run that has the same id.
    """
    ledger.connect(home).close()
    with store.staging(home) as stage:
        try:
            bundle = unpack_bundle(file, stage, report=report)
            here = ledger.read_run(home, bundle.record.run_id)
            if here is not None and not _is_same(here, bundle.record):
                raise OrchError(f"run {here.run_id} is here already, and is not the one of {file}.")
            report("bundle", "taking it in")
            _land_needs(bundle, stage, home)
            # Who removes runs waits until the record names what was stored.
            with store.adding(home):
                _land_blobs(bundle, stage, home)
                if here is None:
                    _land_run(bundle, stage, home)
        except OSError as error:
            raise OrchError(f"{error.filename or home.root} can't be written: {error.strerror or error}.") from error
    record = ledger.read_run(home, bundle.record.run_id)
    if record is None:
        raise OrchError(f"run {bundle.record.run_id} was removed while it was imported.")
    index(home, record)
    return Imported(bundle, record, new=here is None)


def _is_same(here: RunRecord, brought: RunRecord) -> bool:
    """Whether two records are of one run, whose name and tags may have been changed."""
    facts = [
        (spec_id(record.spec), record.started_at, record.ended_at, record.status, record.exit_code, record.outputs)
        for record in (here, brought)
    ]
    return facts[0] == facts[1]


def _land_needs(bundle: Bundle, stage: Path, home: Home) -> None:
    """Code and environment: each counts as being there only when it is whole, and does no harm if nothing names it."""
    repositories = {
        commit: unpacked_commit(stage, commit) for _, commit in source.commits_of(bundle.record.spec.source)
    }
    blobs = {Path(name).name: stage / name for name in bundle.members if name.startswith("blobs/")}
    source.place_objects(repositories, bundle.record.spec.source, blobs, home=home)
    for (lock_id, platform), packages in bundle.locks.items():
        files = {
            name: (stage / layout.lock_member(lock_id, name)).read_bytes()
            for name in ("conda-lock.yml", "packages.json")
        }
        adopt_lock(home, lock_id, platform, files)
        places = {p.sha256: stage / layout.package_member(p.sha256, p.file_name) for p in packages}
        keep_packages(home, packages, {digest: place for digest, place in places.items() if place.exists()})


def _land_blobs(bundle: Bundle, stage: Path, home: Home) -> None:
    flush_disk(stage)
    for name, member in bundle.members.items():
        if name.startswith("blobs/"):
            store.put_file(home, stage / name, move=True, hashed=(member.sha256, member.size), flushed=True)


def _land_run(bundle: Bundle, stage: Path, home: Home) -> None:
    record = bundle.record
    directory = RunDirectory(stage / record.run_id)
    directory.path.mkdir(mode=0o700)
    for name, log in ((layout.STDOUT, directory.stdout), (layout.STDERR, directory.stderr)):
        if name in bundle.members:
            (stage / name).rename(log)
    journal.append(directory.journal, journal_events(record), sync=True)
    # The store may be on another file system; the last step must be one.
    aside = home.runs / f".imported-{getpid()}-{record.run_id}"
    try:
        shutil.move(directory.path, aside)
        aside.rename(home.run(record.run_id))
    finally:
        remove_tree(aside)
