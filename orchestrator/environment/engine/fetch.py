"""The archives of packages as files: what the package cache does not keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from rattler.package_streaming import download_to_path

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.engine.errors import explained
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.offline import not_here
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.space import said_full
from orchestrator.errors import OrchError
from orchestrator.files import sha256_of_file

_AT_ONCE = 8
_ATTEMPTS = 3


async def fetch(
    connection: Connection,
    wanted: Mapping[Path, LockedPackage],
    aside: Path,
    *,
    fetched: Callable[[LockedPackage], None],
) -> None:
    """Download the archives of conda packages, each to its path, whole and with the sha256 of the lock.

    `aside` is a folder of the same file system for what is not yet whole. `fetched` is called after each. Raises
    OrchError that names the package, offline all that are missing; OSError when the disk is full.
    """
    if connection.offline:
        absent = [p for p in wanted.values() if not connection.in_folder(connection.reached(p.url))]
        if missing := sorted(package.file_name for package in absent):
            raise OrchError(not_here(missing, f"in [mirrors] of {connection.config}"))
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, place: Path, package: LockedPackage) -> None:
        async with turns:
            part = aside / f"{number}.part"
            await _download(connection, package, part)
            part.replace(place)
            fetched(package)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number, (place, package) in enumerate(wanted.items()):
                tasks.create_task(one(number, place, package))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _download(connection: Connection, package: LockedPackage, part: Path) -> None:
    url = connection.reached(package.url)
    for _ in range(_ATTEMPTS):
        try:
            await download_to_path(connection.client, url, part)
        except Exception as error:
            raise said_full(str(error), part) or _failed(error, package, url, connection) from error
        # rattler takes the end of a connection for the end of the file.
        found = await asyncio.to_thread(sha256_of_file, part)
        if found == package.sha256:
            return
    size = part.stat().st_size
    of = f" of {package.size}" if package.size is not None else ""
    raise OrchError(
        f"the package {package.file_name} does not match its hash: the lock says sha256 {package.sha256}, "
        f"{without_credentials(package.url)} has {found} ({size}{of} bytes). It was not taken."
    )


def _failed(error: Exception, package: LockedPackage, url: str, connection: Connection) -> OrchError | OSError:
    text = str(error)
    if text.startswith("Request failed after"):
        # All that rattler says when it reached no server.
        text = f"error sending request for url ({url})"
    return explained(RuntimeError(f"failed to fetch {package.file_name}\n{text}"), connection)
