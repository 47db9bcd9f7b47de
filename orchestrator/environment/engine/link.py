"""The installer: package records into a prefix, and what the packages say of themselves."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import rattler

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.engine.errors import explained
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.offline import not_here
from orchestrator.environment.prefix import remove_tree
from orchestrator.errors import OrchError


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
    hashed before it is used. Raises OrchError; `target` is then incomplete and must go.

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
    missing = [record.file_name for record in absent if not connection.in_folder(record.url)]
    if missing:
        raise OrchError(not_here(sorted(missing), f"in [mirrors] of {connection.config}"))


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


async def packaged(packages: Sequence[LockedPackage], connection: Connection, aside: Path) -> list[LockedPackage]:
    """Conda packages of a lock that a project brings, each with what its archive says of itself.

    What a package needs and how it is installed (its kind, Python's folder) is not in the hashes that identify a lock.
    A lie about it would be kept under the identity of an honest lock, and reach all other projects; so of a file in a
    repository only the URL and the hashes are believed. The archives come into the package cache, checked by sha256,
    by way of a prefix at `aside` that is good for nothing else. Raises OrchError.
    """
    plain = [replace(package, md5=None, depends=(), noarch="generic") for package in packages]
    await _link(connection, records_of(plain, connection), target=aside, final=aside)
    extracted = _extracted(aside)
    return [_as_packaged(package, extracted[package.file_name]) for package in packages]


def _as_packaged(package: LockedPackage, extracted: Path) -> LockedPackage:
    record = _own_record(extracted, package.file_name)
    return replace(
        package,
        name=record.name.normalized,
        md5=None,
        subdir=record.subdir,
        depends=tuple(record.depends),
        site_packages=record.python_site_packages_path,
        noarch=noarch_of(record),
        constrains=tuple(record.constrains),
        license=record.license,
        timestamp=milliseconds(record),
    )


def milliseconds(record: rattler.PackageRecord) -> int | None:
    """When a package was built, in milliseconds since the epoch, where it says so."""
    return int(record.timestamp.timestamp() * 1000) if record.timestamp else None


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


def refuse_misnamed(record: rattler.PackageRecord, file_name: str) -> None:
    """Raise OrchError when the file of a package has another name than the package."""
    named = f"{record.name.normalized}-{record.version}-{record.build}"
    if file_name.lower() not in (f"{named}.conda".lower(), f"{named}.tar.bz2".lower()):
        raise OrchError(f"the package {file_name} is said to be {named}: it is refused.")


def _site_packages(record: rattler.PackageRecord) -> str | None:
    if record.name.normalized != "python":
        return None
    usual = f"lib/python{'.'.join(str(record.version).split('.')[:2])}/site-packages"
    return record.python_site_packages_path or usual


def noarch_of(record: rattler.PackageRecord) -> Literal["python", "generic"] | None:
    """The kind of a package for every platform; None for one of a single platform."""
    return "python" if record.noarch.python else "generic" if record.noarch.generic else None


def _record(package: LockedPackage, connection: Connection) -> rattler.RepoDataRecord:
    subdir = package.subdir or "noarch"
    noarch: str | None = package.noarch
    if noarch is None and subdir == "noarch":
        # An old kind of package, that does not say more.
        on_python = any(text.split()[:1] == ["python"] for text in package.depends)
        noarch = "python" if on_python else "generic"
    record = rattler.PackageRecord(
        package.name,
        package.version,
        rattler.BuildString(package.build or ""),
        _build_number(package.build),
        subdir,
        noarch=noarch,
        depends=list(package.depends),
        sha256=bytes.fromhex(package.sha256),
        md5=bytes.fromhex(package.md5) if package.md5 else None,
        size=package.size,
        python_site_packages_path=package.site_packages,
    )
    channel = package.channel or package.url.rsplit("/", 2)[0]
    return rattler.RepoDataRecord(
        record, package.file_name, connection.reached(package.url), connection.reached(channel)
    )


def _build_number(build: str | None) -> int:
    digits = (build or "").rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def _record_true_urls(prefix: Path, connection: Connection) -> None:
    for path in (prefix / "conda-meta").glob("*.json"):
        text = path.read_text("utf-8")
        for url, stand_in in connection.stand_ins.items():
            text = text.replace(f'"{stand_in}/', f'"{url}/')
        path.write_text(text, "utf-8")
