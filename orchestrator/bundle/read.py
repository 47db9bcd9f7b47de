"""Reading a bundle that may come from anybody: every byte is checked before any of it is believed or kept.

Nothing in it is executed, unpickled or checked out here, and no name in it becomes a path but those that `layout` lets
through.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import IO, BinaryIO, cast

from orchestrator import source
from orchestrator.bundle import layout
from orchestrator.bundle.archive import copy, names_of, reading
from orchestrator.bundle.layout import Member, shown
from orchestrator.bundle.manifest import Manifest, read_manifest
from orchestrator.bundle.points import MAX_BYTES as MAX_POINTS_BYTES
from orchestrator.bundle.run_json import check_apart, is_clean, read_run
from orchestrator.canonical import local_path
from orchestrator.environment.carried import LOCK_FILES, check_lock
from orchestrator.environment.lock import LockedPackage
from orchestrator.errors import OrchError
from orchestrator.inputs import read_listing
from orchestrator.model import Input, RunRecord
from orchestrator.report import Report, plural, seldom, silent


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was checked. `id` is the sha256 of its manifest; `record` has it as its `bundle`.

    `locks` are the packages by lock id and platform; `lacking` are the inputs (their `path`) whose bytes it lacks.
    """

    id: str
    record: RunRecord
    members: Mapping[str, Member]
    locks: Mapping[tuple[str, str], tuple[LockedPackage, ...]]
    lacking: tuple[str, ...]
    stored: frozenset[str]
    """The sha256 of what belongs into the store: outputs, the files of inputs and their listings."""


def unpack_bundle(file: Path, into: Path, *, keep: bool = True, report: Report = silent) -> Bundle:
    """Check all of a bundle, and unpack it into the fresh folder `into`: each member at its name.

    The objects of a commit become a bare repository at `unpacked_commit(into, commit)`. Without `keep`, only these are
    written. Raises OrchError for whatever is not as `create_bundle` makes it.
    """
    with reading(file) as archive:
        sizes = names_of(archive)
        manifest = read_manifest(_small(archive, layout.MANIFEST), sizes)
        points = _small(archive, layout.METRICS, MAX_POINTS_BYTES)
        record = read_run(_small(archive, layout.SPEC), _small(archive, layout.RECORD), points)
        if record.run_id != manifest.run_id:
            raise OrchError(f"the bundle's manifest is of run {manifest.run_id}, its record of run {record.run_id}.")
        report("bundle", f"checking {plural(len(sizes), 'member')}")
        _take_members(archive, manifest, into if keep else None, report)
        locks = _locks(archive, record, manifest)
        listings = _listings(archive, record, manifest)
        repositories = {commit: unpacked_commit(into, commit) for _, commit in source.commits_of(record.spec.source)}
        for commit, place in repositories.items():
            with archive.open(_there(layout.source_member(commit), manifest)) as objects:
                source.unpack_objects(cast("BinaryIO", objects), commit, place)
    pointers = source.check_source(record.spec.source, repositories)
    needed = {pointer.oid: pointer.size for pointer in pointers}
    needed |= {output.sha256: output.size for output in record.outputs if output.link is None}
    lacking = [item.path for item in record.spec.inputs if not _has_input(item, listings, manifest)]
    _check_set(record, manifest, locks, needed, listings)
    record = replace(record, bundle=manifest.id)
    return Bundle(manifest.id, record, manifest.members, locks, tuple(lacking), _stored(record, listings))


def _stored(record: RunRecord, listings: Mapping[str, Mapping[str, int]]) -> frozenset[str]:
    outputs = (output.sha256 for output in record.outputs if output.link is None)
    files = (digest for listing in listings.values() for digest in listing)
    return frozenset({*outputs, *files, *(item.sha256 for item in record.spec.inputs)})


def unpacked_commit(into: Path, commit: str) -> Path:
    """The bare repository with the objects of a commit."""
    return into / "git" / commit


# --- the members ------------------------------------------------------------------------------------------------


def _there(name: str, manifest: Manifest) -> str:
    if name not in manifest.members:
        raise OrchError(f"the bundle of run {manifest.run_id} is not whole: it has no {name}.")
    return name


def _small(archive: zipfile.ZipFile, name: str, most: int = layout.MAX_JSON) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise OrchError(f"{archive.filename or 'the file'} is no whole bundle: it has no {name}.") from None
    if info.file_size > most:
        raise OrchError(f"{name} of the bundle has {info.file_size} bytes; no run's has as many.")
    return archive.read(info)


def _take_members(archive: zipfile.ZipFile, manifest: Manifest, into: Path | None, report: Report) -> None:
    """Compare each member with its sha256, and write it below `into`."""
    total, done, say = sum(member.size for member in manifest.members.values()), [0], seldom(report)

    def take(member: Member) -> None:
        with archive.open(member.path) as source:
            found = copy(source, None) if into is None else _write(source, into / member.path)
        if found != (member.sha256, member.size):
            raise OrchError(
                f"{member.path} of the bundle is damaged: its sha256 is {found[0]}, the manifest says {member.sha256}."
            )
        done[0] += member.size
        say("bundle", "bytes checked", done=done[0], total=total)

    # Hashing releases the interpreter's lock, so threads use all cores.
    with ThreadPoolExecutor(cpu_count() or 1) as threads:
        for _ in threads.map(take, manifest.members.values()):
            pass


def _write(source: IO[bytes], place: Path) -> tuple[str, int]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as sink:
            return copy(source, sink)
    except OSError as error:
        raise OrchError(f"{place} can't be written: {error.strerror or error}.") from error


# --- that all is there, and nothing else ------------------------------------------------------------------------


def _locks(
    archive: zipfile.ZipFile, record: RunRecord, manifest: Manifest
) -> dict[tuple[str, str], tuple[LockedPackage, ...]]:
    ref = record.spec.environment
    found = {}
    for platform, lock_id in {ref.platform: ref.lock_id, **ref.others}.items():
        names = {name: layout.lock_member(lock_id, name) for name in LOCK_FILES}
        if lock_id == ref.lock_id or any(name in manifest.members for name in names.values()):
            files = {name: _small(archive, _there(member, manifest)) for name, member in names.items()}
            found[lock_id, platform] = check_lock(lock_id, platform, files)
    return found


def _listings(archive: zipfile.ZipFile, record: RunRecord, manifest: Manifest) -> dict[str, dict[str, int]]:
    """The sha256 and size of the files of each input, by the input's own sha256; none where its listing is missing."""
    found = {}
    for item in record.spec.inputs:
        name = layout.blob_member(item.sha256)
        if item.kind == "file":
            found[item.sha256] = {item.sha256: item.size}
        elif name in manifest.members:
            found[item.sha256] = _listing(item, read_listing(_small(archive, name)))
    return found


def _listing(item: Input, files: Sequence[tuple[str, str, int]]) -> dict[str, int]:
    paths = [local_path(path) for path, *_ in files]
    check_apart("file of an input", paths)
    if paths != sorted(paths) or not all(map(is_clean, paths)):
        raise OrchError(f"the listing of the input {shown(item.path)} in the bundle is not as orch writes it.")
    if sum(size for *_, size in files) != item.size:
        raise OrchError(f"the listing of the input {shown(item.path)} in the bundle does not add up to its size.")
    return {digest: size for _, digest, size in files}


def _has_input(item: Input, listings: Mapping[str, Mapping[str, int]], manifest: Manifest) -> bool:
    files = listings.get(item.sha256)
    return files is not None and all(layout.blob_member(digest) in manifest.members for digest in files)


def _check_set(
    record: RunRecord,
    manifest: Manifest,
    locks: Mapping[tuple[str, str], tuple[LockedPackage, ...]],
    needed: Mapping[str, int],
    listings: Mapping[str, Mapping[str, int]],
) -> None:
    """Raise OrchError unless all that the run needs is there in its size, and nothing that it does not name."""
    for name in (layout.README, layout.CRATE):
        _there(name, manifest)
    for digest in needed:
        _there(layout.blob_member(digest), manifest)
    for digest, size in (pair for sizes in (needed, *listings.values()) for pair in sizes.items()):
        member = manifest.members.get(layout.blob_member(digest))
        if member is not None and member.size != size:
            raise OrchError(f"the file {digest} of the bundle has another size than its run says.")
    commits = (commit for _, commit in source.commits_of(record.spec.source))
    named = {layout.README, layout.CRATE, layout.SPEC, layout.RECORD, layout.METRICS, layout.STDOUT, layout.STDERR}
    named |= set(map(layout.source_member, commits))
    named |= {layout.lock_member(lock_id, name) for lock_id, _ in locks for name in LOCK_FILES}
    blobs = {*needed, *(item.sha256 for item in record.spec.inputs)}
    blobs |= {digest for files in listings.values() for digest in files}
    named |= {layout.blob_member(digest) for digest in blobs}
    named |= {layout.package_member(p.sha256, p.file_name) for packages in locks.values() for p in packages}
    for name in manifest.members:
        if name not in named:
            raise OrchError(f"the bundle has {name}, which its run does not name.")
