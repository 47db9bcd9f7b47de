"""Packages of a lock as rattler's records, and what records say as the fields of such packages."""

from __future__ import annotations

from typing import Any, Literal

import rattler

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.environment_file import package_name
from orchestrator.environment.lock import LockedPackage
from orchestrator.errors import OrchError


def package_record(package: LockedPackage) -> rattler.PackageRecord:
    """The record of a conda package, without its address. Raises what rattler raises for what it refuses."""
    build, subdir = package.build or "", package.subdir or "noarch"
    number = build.rpartition("_")[2]
    noarch: str | None = package.noarch
    if noarch is None and subdir == "noarch":
        # An old kind of package, that does not say more.
        noarch = "python" if "python" in map(package_name, package.depends) else "generic"
    return rattler.PackageRecord(
        package.name,
        package.version,
        rattler.BuildString(build),
        int(number) if number.isdecimal() else 0,
        subdir,
        noarch=noarch,
        depends=list(package.depends),
        constrains=list(package.constrains),
        sha256=bytes.fromhex(package.sha256),
        md5=bytes.fromhex(package.md5) if package.md5 else None,
        size=package.size,
        license=package.license,
        python_site_packages_path=package.site_packages,
    )


def facts_of(record: rattler.PackageRecord) -> dict[str, Any]:
    """What a package says of itself, by the fields of LockedPackage."""
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "subdir": record.subdir,
        "depends": tuple(record.depends),
        "site_packages": record.python_site_packages_path,
        "noarch": noarch_of(record),
        "constrains": tuple(record.constrains),
        "license": record.license,
        "timestamp": int(record.timestamp.timestamp() * 1000) if record.timestamp else None,
    }


def facts_of_channel(record: rattler.RepoDataRecord, connection: Connection) -> dict[str, Any]:
    """What a channel says of a package, by the fields of LockedPackage. `sha256` is None where it says none."""
    return facts_of(record) | {
        "url": connection.recorded(record.url),
        "channel": connection.recorded(record.channel).rstrip("/"),
        "file_name": record.file_name,
        "sha256": record.sha256.hex() if record.sha256 else None,
        "md5": record.md5.hex() if record.md5 else None,
        "size": record.size,
    }


def noarch_of(record: rattler.PackageRecord) -> Literal["python", "generic"] | None:
    """The kind of a package for every platform; None for one of a single platform."""
    return "python" if record.noarch.python else "generic" if record.noarch.generic else None


def refuse_misnamed(record: rattler.PackageRecord, file_name: str) -> None:
    """Raise OrchError when the file of a package has another name than the package."""
    named = f"{record.name.normalized}-{record.version}-{record.build}"
    if file_name.lower() not in (f"{named}.conda".lower(), f"{named}.tar.bz2".lower()):
        raise OrchError(f"the package {file_name} is said to be {named}: it is refused.")
