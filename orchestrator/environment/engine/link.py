"""The installer: package records into a prefix, and what the packages say of themselves."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import rattler

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.engine.errors import explained
from orchestrator.environment.engine.record import facts_of, noarch_of, package_record, refuse_misnamed
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.offline import NO_ADDRESS, lost, not_here
from orchestrator.errors import OrchError
from orchestrator.files import remove_tree


async def install(
    connection: Connection,
    records: Sequence[rattler.RepoDataRecord],
    target: Path,
    *,
    final: Path,
    reporter: Any = None,
    full_validation: bool = False,
) -> None:
    """Install packages into the new folder `target`, with all paths in them as they will be at `final`.

    Archives are checked by sha256. Link scripts do not run. With `full_validation` every file of the package cache is
    hashed before it is used. Raises OrchError, OSError when a disk is full; `target` is then incomplete and must go.

    What the packages say of themselves holds against the records: a project names its channels, and what one of them
    claims must not shape a prefix that other projects share.
    """
    link = functools.partial(_link, connection, target=target, final=final, reporter=reporter, full=full_validation)
    await link(records)
    if _corrected(records, target):
        remove_tree(target)
        await link(records)
    if connection.stand_ins:
        _record_true_urls(target, connection)


async def _link(
    connection: Connection,
    records: Sequence[rattler.RepoDataRecord],
    *,
    target: Path,
    final: Path,
    reporter: Any = None,
    full: bool = False,
) -> None:
    mode = rattler.package_cache.ValidationMode
    cache = rattler.PackageCache.new_layered(
        [connection.package_cache], validation_mode=mode.full() if full else mode.fast()
    )
    if connection.offline:
        await _refuse_missing(connection, records)
    try:
        await rattler.install(
            list(records),
            target,
            package_cache=cache,
            client=connection.client,
            alternative_target_prefix=final,
            execute_link_scripts=False,
            show_progress=False,
            reporter=reporter,
        )
    except Exception as error:
        raise explained(error, connection) from error


async def to_fetch(connection: Connection, records: Sequence[rattler.RepoDataRecord]) -> list[rattler.RepoDataRecord]:
    """Those of the packages that the package cache does not have."""
    known = await rattler.PackageCache.new_layered([connection.package_cache]).index()
    return [record for record in records if not known.contains_record(record)]


async def _refuse_missing(connection: Connection, records: Sequence[rattler.RepoDataRecord]) -> None:
    """Raise OrchError that names all packages that are neither in the cache nor in a folder."""
    absent = await to_fetch(connection, records)
    missing = [record for record in absent if not connection.in_folder(record.url)]
    # Those that a run without --offline would not find either come first.
    for sentence, some in ((lost, [r for r in missing if r.url.startswith(NO_ADDRESS)]), (not_here, missing)):
        if some:
            raise OrchError(sentence(sorted(r.file_name for r in some), f"in [mirrors] of {connection.config}"))


def _corrected(records: Sequence[rattler.RepoDataRecord], prefix: Path) -> bool:
    """Make the records say what the packages say that were linked into `prefix`; whether any said something else."""
    extracted = _extracted(prefix)
    corrected = False
    for record in records:
        true = _own_record(extracted[record.file_name], record.file_name)
        if noarch_of(true) != noarch_of(record) or _site_packages(true) != _site_packages(record):
            record.noarch, record.python_site_packages_path = true.noarch, true.python_site_packages_path
            corrected = True
    return corrected


def records_of(packages: Iterable[LockedPackage], connection: Connection) -> list[rattler.RepoDataRecord]:
    """The conda packages of a lock in the form that `install` takes. Raises OrchError for what rattler refuses."""
    records = []
    for package in packages:
        try:
            records += [_record(package, connection)] if package.manager == "conda" else []
        except Exception as error:
            raise OrchError(f"the lock has {package.file_name}, which is no conda package: {error}.") from error
    return records


async def packaged(
    packages: Sequence[LockedPackage], connection: Connection, aside: Path, *, reporter: Any = None
) -> list[LockedPackage]:
    """Conda packages of a lock that a project brings, each with what its archive says of itself.

    What a package needs and how it is installed (its kind, Python's folder) is not in the hashes that identify a lock.
    A lie about it would be kept under the identity of an honest lock, and reach all other projects; so of a file in a
    repository only the URL and the hashes are believed. The archives come into the package cache, checked by sha256,
    by way of a prefix at `aside` that is good for nothing else. Raises OrchError.
    """
    plain = [replace(package, md5=None, depends=(), noarch="generic") for package in packages]
    await _link(connection, records_of(plain, connection), target=aside, final=aside, reporter=reporter)
    extracted = _extracted(aside)
    own = (_own_record(extracted[package.file_name], package.file_name) for package in packages)
    return [replace(package, md5=None, **facts_of(record)) for package, record in zip(packages, own, strict=True)]


def _extracted(prefix: Path) -> dict[str, Path]:
    """Where in the package cache the packages of a prefix are, by file name."""
    rows = [json.loads(path.read_bytes()) for path in (prefix / "conda-meta").glob("*.json")]
    return {row["fn"]: Path(row["extracted_package_dir"]) for row in rows}


def _own_record(extracted: Path, file_name: str) -> rattler.PackageRecord:
    try:
        record = rattler.PackageRecord.from_index_json(extracted / "info/index.json")
    except Exception as error:
        raise OrchError(f"the package {file_name} can't be read: {error}.") from error
    refuse_misnamed(record, file_name)
    return record


def _site_packages(record: rattler.PackageRecord) -> str | None:
    if record.name.normalized != "python":
        return None
    usual = f"lib/python{'.'.join(str(record.version).split('.')[:2])}/site-packages"
    return record.python_site_packages_path or usual


def _record(package: LockedPackage, connection: Connection) -> rattler.RepoDataRecord:
    channel = package.channel or package.url.rsplit("/", 2)[0]
    url = connection.reached(package.url)
    return rattler.RepoDataRecord(package_record(package), package.file_name, url, connection.reached(channel))


def _record_true_urls(prefix: Path, connection: Connection) -> None:
    for path in (prefix / "conda-meta").glob("*.json"):
        text = path.read_text("utf-8")
        row = json.loads(text)
        for url in filter(None, (row.get("url"), row.get("channel"))):
            # The text itself, for rattler's own writing is what a prefix has everywhere.
            text = text.replace(json.dumps(url), json.dumps(connection.true(url)))
        path.write_text(text, "utf-8")
