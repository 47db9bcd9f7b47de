"""The sha256 of packages that a `conda-lock.yml` has without: what channels and indexes say now. Runs in the worker.

Only where the user lets them be taken on trust. From then on they are pinned, as all others.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.environment import engine
from orchestrator.environment.conda_lock_file import Row, load_lock, platforms_of, unhashed_rows
from orchestrator.environment.host import PLATFORMS, current_subdir
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.pylock import compiled, file_name
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import pinned_line
from orchestrator.environment.wheel_tags import uv_platform
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import plural

_NAMED = 5
"""Packages that a sentence names."""


async def with_hashes(path: str, data: bytes, platform: str, home: Home) -> tuple[bytes, tuple[str, ...]]:
    """The lock `data` with a sha256 for each package, and sentences: how many were taken on trust.

    Where the lock has an md5 of a conda package, that of its channel must be the same. Another platform of which a hash
    can't be had is left out, with a sentence. Raises OrchError for a package of `platform` whose hash can't be had, and
    for one that must be built from its source.
    """
    table = load_lock(path, data)
    notes: list[str] = []
    for name in [platform, *sorted(set(platforms_of(table)) & set(PLATFORMS) - {platform})]:
        rows = unhashed_rows(table, name)
        if not rows:
            continue
        try:
            found = await _hashes(path, rows, name, _python(table, name), home)
        except OrchError as error:
            if name == platform:
                raise
            notes.append(f"{path}: its packages for {name} are not kept for a replay there: {error}")
            table["package"] = [
                row for row in table["package"] if not (isinstance(row, dict) and row.get("platform") == name)
            ]
            continue
        for row in rows:
            row.table["hash"] = {**row.hashes, "sha256": found[row.package.url]}
        notes.append(_sentence(path, name, [row.package for row in rows]))
    return (_dumped(table) if notes else data), tuple(notes)


def _sentence(path: str, platform: str, trusted: Sequence[LockedPackage]) -> str:
    count = f"{plural(len(trusted), 'package')} for {platform}"
    names = ", ".join(package.name for package in trusted[:_NAMED]) + (", ..." if len(trusted) > _NAMED else "")
    return f"{path} has no sha256 of {count} ({names}): what their channels and indexes have now was taken on trust."


def _dumped(table: Mapping[str, Any]) -> bytes:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(dict(table), Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text.encode()


def _python(table: Mapping[str, Any], platform: str) -> str | None:
    """The version of Python that a lock has for a platform, as its file names it."""
    for row in table["package"]:
        if isinstance(row, dict) and (row.get("name"), row.get("platform")) == ("python", platform):
            file_name = urlsplit(str(row.get("url"))).path.rpartition("/")[2]
            return ".".join(file_name.removeprefix("python-").split("-")[0].split(".")[:3])
    return None


async def _hashes(path: str, rows: Sequence[Row], platform: str, python: str | None, home: Home) -> dict[str, str]:
    """The sha256 of each package by its URL."""
    conda = [row.package for row in rows if row.package.manager == "conda"]
    pip = [row.package for row in rows if row.package.manager == "pip"]
    for package in pip:
        if not package.file_name.endswith(".whl") or urlsplit(package.url).scheme not in ("https", "http"):
            raise OrchError(
                f"{path} has no sha256 of {package.name} {package.version}, and only the URL of its source: what is "
                "built must be verified, so it is refused, with --allow-unhashed too."
            )
    with engine.connect(home, {package.channel or "" for package in conda}) as connection:
        found = await asyncio.gather(*(_of_channel(path, package, connection) for package in conda))
    hashes = {package.url: sha256 for package, sha256 in zip(conda, found, strict=True)}
    return hashes | await asyncio.to_thread(_of_wheels, path, pip, platform, python, home)


async def _of_channel(path: str, package: LockedPackage, connection: engine.Connection) -> str:
    channel, subdir = package.channel or "", package.subdir or "noarch"
    records = await engine.query(connection, [engine.match_spec(package.name)], [channel], subdir=subdir)
    record = next((r for r in records if (r.file_name, r.subdir) == (package.file_name, subdir)), None)
    shown = f"{package.file_name}, of which {path} has no sha256"
    if record is None or record.sha256 is None:
        what = "does not have it any more" if record is None else "has none either"
        raise OrchError(f"{shown}: the channel {without_credentials(channel)} {what}. Make the lock anew.")
    if package.md5 and record.md5 is not None and record.md5.hex() != package.md5:
        raise OrchError(
            f"{shown}, does not match: the lock says md5 {package.md5}, the channel {without_credentials(channel)} has "
            f"{record.md5.hex()}. It is refused."
        )
    return str(record.sha256.hex())


def _of_wheels(
    path: str, wheels: Sequence[LockedPackage], platform: str, python: str | None, home: Home
) -> dict[str, str]:
    """The sha256 of wheels: as the index has it, or of what is at the URL."""
    if not wheels:
        return {}
    where = ["--python-platform", uv_platform(platform)] if platform != current_subdir() else []
    where += ["--python", sys.executable, *(["--python-version", python] if python else [])]
    by_version = [f"{package.name}=={package.version}" for package in wheels]
    known, _ = _asked(by_version, where, home)
    found = {package.url: known[package.file_name] for package in wheels if package.file_name in known}
    if left := [package for package in wheels if package.url not in found]:
        known, said = _asked([pinned_line(package.name, package.url) for package in left], where, home)
        if missing := [package for package in left if package.file_name not in known]:
            raise OrchError(
                f"{path} has no sha256 of {missing[0].file_name} ({without_credentials(missing[0].url)}), and none "
                f"can be had.\n{said}".rstrip()
            )
        found |= {package.url: known[package.file_name] for package in left}
    return found


def _asked(lines: Sequence[str], where: Sequence[str], home: Home) -> tuple[dict[str, str], str]:
    """What uv finds of these requirements: sha256 by file name; else what it says."""
    with tempfile.TemporaryDirectory() as folder:
        found = compiled(lines, ["--no-deps", *where], Path(folder), home=home)
    if isinstance(found, str):
        return {}, found
    files = [file for package in found for file in (*package.get("wheels", ()), package.get("archive")) if file]
    return {file_name(file): sha256 for file in files if (sha256 := file["hashes"].get("sha256"))}, ""
