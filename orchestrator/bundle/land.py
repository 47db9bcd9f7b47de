"""`orch bundle import`: the run of a bundle becomes one of this home, whole or not at all. Nothing is executed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from os import getpid
from pathlib import Path

from orchestrator import journal, ledger, source, store
from orchestrator.bundle import layout
from orchestrator.bundle.read import Bundle, unpack_bundle, unpacked_commit
from orchestrator.bundle.run_json import run_json
from orchestrator.environment.carried import LOCK_FILES, adopt_lock, keep_packages
from orchestrator.errors import OrchError
from orchestrator.execute.rundir import RunDirectory
from orchestrator.files import flush_disk, remove_tree
from orchestrator.model import RunRecord
from orchestrator.paths import Home
from orchestrator.records import journal_events
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
            _refuse_other(ledger.read_run(home, bundle.record.run_id), bundle.record, file)
            report("bundle", "taking it in")
            _land_needs(bundle, stage, home)
            # Who removes runs waits until the record names what was stored.
            with store.adding(home):
                _land_blobs(bundle, stage, home)
                new = _land_run(bundle, stage, home)
                _refuse_other(ledger.read_run(home, bundle.record.run_id), bundle.record, file)
        except OSError as error:
            raise OrchError(f"{error.filename or home.root} can't be written: {error.strerror or error}.") from error
    record = ledger.read_run(home, bundle.record.run_id)
    if record is None:
        raise OrchError(f"run {bundle.record.run_id} was removed while it was imported.")
    index(home, record)
    return Imported(bundle, record, new=new)


def _refuse_other(here: RunRecord | None, brought: RunRecord, file: Path) -> None:
    """Raise OrchError when a run that is here has the id of the one of the bundle, and is another."""
    # Its name and tags may have been changed, and notes been added, since.
    if here is not None and run_json(_bare(here)) != run_json(_bare(brought)):
        raise OrchError(f"run {here.run_id} is here already, and is not the one of {file}.")


def _bare(record: RunRecord) -> RunRecord:
    return replace(record, name=None, tags={}, notes=())


def _land_needs(bundle: Bundle, stage: Path, home: Home) -> None:
    """Code and environment: each counts as being there only when it is whole, and does no harm if nothing names it."""
    repositories = {
        commit: unpacked_commit(stage, commit) for _, commit in source.commits_of(bundle.record.spec.source)
    }
    blobs = {Path(name).name: stage / name for name in bundle.members if name.startswith("blobs/")}
    source.place_objects(repositories, bundle.record.spec.source, blobs, home=home)
    for (lock_id, platform), packages in bundle.locks.items():
        files = {name: (stage / layout.lock_member(lock_id, name)).read_bytes() for name in LOCK_FILES}
        adopt_lock(home, lock_id, platform, files)
        places = {p.sha256: stage / layout.package_member(p.sha256, p.file_name) for p in packages}
        keep_packages(home, packages, {digest: place for digest, place in places.items() if place.exists()})


def _land_blobs(bundle: Bundle, stage: Path, home: Home) -> None:
    flush_disk(stage)
    for digest in bundle.stored:
        if (member := bundle.members.get(layout.blob_member(digest))) is not None:
            place = stage / member.path
            store.put_file(home, place, move=True, hashed=(member.sha256, member.size), flushed=True)


def _land_run(bundle: Bundle, stage: Path, home: Home) -> bool:
    """Put the run's directory in its place; False when there is one already, also of an import at the same time."""
    record = bundle.record
    if home.run(record.run_id).exists():
        return False
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
    except OSError:
        if not RunDirectory(home.run(record.run_id)).journal.exists():
            raise
        return False
    finally:
        remove_tree(aside)
    return True
