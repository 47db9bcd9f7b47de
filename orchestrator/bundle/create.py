"""`orch bundle create`: a run, and all that is needed to do it again, into one file."""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO

from orchestrator import ledger, source, store
from orchestrator.bundle import layout
from orchestrator.bundle.archive import write_archive
from orchestrator.bundle.crate import crate
from orchestrator.bundle.layout import Member
from orchestrator.bundle.manifest import manifest_json
from orchestrator.bundle.readme import readme
from orchestrator.bundle.run_json import carried, read_run, run_json
from orchestrator.environment.carried import CarriedLock, carried_locks, fetch_packages, without_address
from orchestrator.environment.lock import locked_packages
from orchestrator.errors import OrchError, UsageError
from orchestrator.execute.rundir import RunDirectory
from orchestrator.files import sha256_of_file
from orchestrator.inputs import bytes_of_input
from orchestrator.model import Input, RunRecord
from orchestrator.paths import Home
from orchestrator.report import Report, plural, silent


@dataclass(frozen=True, slots=True)
class Created:
    """A bundle that was written. `size` is in bytes; `notes` are sentences on what it lacks."""

    members: int
    size: int
    packages: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A member, and what opens its bytes."""

    member: Member
    opened: Callable[[], IO[bytes]]


def create_bundle(
    run_id: str,
    file: Path,
    *,
    home: Home,
    offline: bool = False,
    platforms: Sequence[str] = (),
    inputs: bool = True,
    report: Report = silent,
) -> Created:
    """Write the bundle of a run that has ended. `file` is there whole or not at all, and must not be there before.

    With `offline` it has every package of the environment, for `platforms` (default: that of the run); without, those
    that no address has. Without `inputs` it lacks the bytes of the inputs, which whoever replays it must have. The same
    run gives the same bytes. Raises UsageError, and OrchError when something of the run can't be had any more.
    """
    record = _ended(run_id, home)
    wanted = _wanted(record, platforms)
    if platforms and not offline:
        raise UsageError("--platform is for --offline: without it only packages that no address has are put in.")
    if os.path.lexists(file):
        raise _is_there(file)
    if not os.access(file.parent, os.W_OK):
        raise UsageError(f"{file.parent} is no folder that you can write to.")
    try:
        # Who removes runs waits until their bytes were copied.
        with store.adding(home), store.staging(home) as stage:
            locks = _locks(record, home)
            parts = [*_run_parts(record, home), *_lock_parts(locks), *_source_parts(record, stage, home, report)]
            parts += _outputs(record, home)
            parts += [part for item in record.spec.inputs for part in _input(item, home)] if inputs else []
            packages = list(_packages(locks, wanted if offline else (), stage, home, report))
            parts = _with_contents(record, [*_each_once(parts), *packages])
            size = _write(parts, file, report)
    except OSError as error:
        raise OrchError(f"{error.filename or file} can't be used: {error.strerror or error}.") from error
    return Created(len(parts), size, len(packages), tuple(_lacking(record, locks, inputs=inputs)))


def _ended(run_id: str, home: Home) -> RunRecord:
    record = ledger.read_run(home, run_id)
    if record is None:
        raise OrchError(f"run {run_id} has no directory any more, so nothing tells what it was.")
    if record.status in ("running", "orphaned"):
        raise OrchError(f"run {run_id} is {record.status}; a bundle is made when it has ended.")
    return record


def _wanted(record: RunRecord, platforms: Sequence[str]) -> tuple[str, ...]:
    ref = record.spec.environment
    known = (ref.platform, *ref.others)
    for name in platforms:
        if name not in known:
            raise UsageError(f"--platform {name}: the run is locked for {', '.join(known)}.")
    return tuple(platforms) or (ref.platform,)


# --- its parts --------------------------------------------------------------------------------------------------


def _run_parts(record: RunRecord, home: Home) -> Iterator[_Part]:
    yield _of_bytes(layout.README, readme(carried(record)))
    spec, told, points = run_json(record)
    read_run(spec, told, points)  # what nobody could import is better known now
    yield _of_bytes(layout.SPEC, spec)
    yield _of_bytes(layout.RECORD, told)
    yield _of_bytes(layout.METRICS, points)
    directory = RunDirectory(home.run(record.run_id))
    for name, log in ((layout.STDOUT, directory.stdout), (layout.STDERR, directory.stderr)):
        if log.exists():
            yield _of_file(name, log)


def _source_parts(record: RunRecord, stage: Path, home: Home, report: Report) -> Iterator[_Part]:
    for url, commit in source.commits_of(record.spec.source):
        report("bundle", f"the objects of {commit[:12]}")
        place = stage / f"{commit}.objects"
        with place.open("wb") as out:
            source.write_objects(url, commit, out, home=home, report=report)
        yield _of_file(layout.source_member(commit), place)
        for pointer, found in source.lfs_objects(url, commit, home=home, report=report).items():
            if found is None:
                raise OrchError(f"{pointer.path} of {commit} is a Git LFS pointer, and its bytes are not here.")
            yield _of_blob(pointer.oid, pointer.size, found)


def _outputs(record: RunRecord, home: Home) -> Iterator[_Part]:
    for output in record.outputs:
        if output.link is None:
            place = store.blob_path(home, output.sha256)
            if not place.exists():
                raise OrchError(f"the output {output.path} of run {record.run_id} is not stored any more.")
            yield _Part(Member(layout.blob_member(output.sha256), output.sha256, output.size), partial(_open, place))


def _input(item: Input, home: Home) -> Iterator[_Part]:
    files, listing = bytes_of_input(item, home=home)
    for place, digest, size in files:
        yield _of_blob(digest, size, place)
    if listing is not None:
        yield _of_bytes(layout.blob_member(item.sha256), listing)


def _locks(record: RunRecord, home: Home) -> tuple[CarriedLock, ...]:
    """That of the run, and those for other platforms that are still here."""
    ref = record.spec.environment
    others = {platform: lock_id for platform, lock_id in ref.others.items() if (home.locks / lock_id).exists()}
    return carried_locks(home, {ref.platform: ref.lock_id, **others})


def _lock_parts(locks: Sequence[CarriedLock]) -> Iterator[_Part]:
    for lock in locks:
        for name, data in lock.files.items():
            yield _of_bytes(layout.lock_member(lock.lock_id, name), data)


def _packages(
    locks: Sequence[CarriedLock], whole: Sequence[str], stage: Path, home: Home, report: Report
) -> Iterator[_Part]:
    """Those that no address has, and all of the platforms in `whole`."""
    wanted = {
        package.sha256: package
        for lock in locks
        for package in locked_packages(home, lock.lock_id)
        if without_address(package) or {*whole} & {*lock.platforms}
    }
    places = fetch_packages([*wanted.values()], stage / "packages", home=home, report=report)
    for digest, place in places.items():
        name = layout.package_member(digest, wanted[digest].file_name)
        yield _Part(Member(name, digest, place.stat().st_size), partial(_open, place))


def _lacking(record: RunRecord, locks: Sequence[CarriedLock], *, inputs: bool) -> Iterator[str]:
    if record.spec.inputs and not inputs:
        yield f"it lacks {plural(len(record.spec.inputs), 'input')}: who replays it names them with --input."
    ref, carried_ids = record.spec.environment, {lock.lock_id for lock in locks}
    if gone := [platform for platform, lock_id in ref.others.items() if lock_id not in carried_ids]:
        yield f"the lock for {', '.join(gone)} is not here any more: the bundle can be replayed on {ref.platform} only."


# --- the file ---------------------------------------------------------------------------------------------------


def _with_contents(record: RunRecord, parts: Sequence[_Part]) -> list[_Part]:
    """The parts, with the crate that describes them and the manifest that lists all."""
    members = sorted((part.member for part in parts), key=lambda member: member.path)
    described = [*parts, _of_bytes(layout.CRATE, crate(carried(record), members))]
    listing = manifest_json(record.run_id, [part.member for part in described])
    return [*described, _of_bytes(layout.MANIFEST, listing)]


def _each_once(parts: Sequence[_Part]) -> list[_Part]:
    return list({part.member.path: part for part in parts}.values())


def _write(parts: Sequence[_Part], file: Path, report: Report) -> int:
    total, done = sum(part.member.size for part in parts), [0]

    def opened(part: _Part) -> IO[bytes]:
        done[0] += part.member.size
        report("bundle", "bytes", done=done[0], total=total)
        return part.opened()

    report("bundle", f"writing {plural(len(parts), 'member')}")
    with _whole_or_not(file) as target:
        write_archive(target, [(part.member, partial(opened, part)) for part in parts])
        return target.tell()


@contextmanager
def _whole_or_not(file: Path) -> Iterator[BinaryIO]:
    """`file`, to be written: beside it first, where what a killed process left is written over."""
    aside = file.with_name(f".{file.name}.part")
    with aside.open("ab") as target:
        try:
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = aside.exists() and os.path.samestat(aside.stat(), os.fstat(target.fileno()))
        except BlockingIOError:
            is_ours = False
        except OSError:  # a disk without locks
            is_ours = True
        if not is_ours:  # or it was, and is whole by now
            raise OrchError(f"another orch is writing {file}.")
        try:
            target.truncate(0)
            with aside.open("r+b") as whole:
                yield whole
                whole.flush()
                os.fsync(whole.fileno())
            _name(aside, file)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def _name(aside: Path, file: Path) -> None:
    """Give what is whole its name, which nothing has that came meanwhile."""
    try:
        os.link(aside, file)
    except FileExistsError:
        raise _is_there(file) from None
    except OSError:  # a disk without links
        if os.path.lexists(file):
            raise _is_there(file) from None
        aside.rename(file)
    else:
        aside.unlink()


def _is_there(file: Path) -> UsageError:
    advice = "name a file in it" if file.is_dir() else "name another file, or remove it"
    return UsageError(f"{file} is there already: {advice}.")


def _open(place: Path) -> IO[bytes]:
    return place.open("rb")


def _of_blob(digest: str, size: int, place: Path) -> _Part:
    return _Part(Member(layout.blob_member(digest), digest, size), partial(_open, place))


def _of_bytes(name: str, data: bytes) -> _Part:
    return _Part(Member(name, sha256(data).hexdigest(), len(data)), lambda: io.BytesIO(data))


def _of_file(name: str, place: Path) -> _Part:
    return _Part(Member(name, sha256_of_file(place), place.stat().st_size), partial(_open, place))
