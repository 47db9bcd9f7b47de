"""The index of a folder of conda packages, as a channel has it.

rattler can write one too, but its own tells the time at which it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from orchestrator.errors import OrchError
from orchestrator.files import write_whole

_PARTS = {".conda": "packages.conda", ".tar.bz2": "packages"}


def write_indexes(
    folder: Path,
    *,
    said: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    subdirs: Collection[str] = (),
    removed: Collection[str] = (),
) -> None:
    """Write `repodata.json` of `noarch`, of `subdirs`, and of each subdirectory with packages, where it must change.

    A package (`<subdir>/<file name>`) stands there with what its own `index.json` says, but for the fields `said` of
    it. What is `removed` stays for locks, and no new environment gets it. Raises OrchError for a file that is no
    package.
    """
    archives = sorted(path for end in _PARTS for path in folder.glob(f"[!.]*/*{end}"))
    for subdir in sorted({"noarch", *subdirs, *(path.parent.name for path in archives)}):
        index = folder / subdir / "repodata.json"
        known = read_json(index)
        content: dict[str, Any] = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}}
        content |= {"removed": [], "repodata_version": 1}
        for path in archives:
            place = f"{subdir}/{path.name}"
            if path.parent.name != subdir:
                continue
            if place in removed:
                content["removed"].append(path.name)
                continue
            part = next(part for end, part in _PARTS.items() if path.name.endswith(end))
            entry = known.get(part, {}).get(path.name)
            if entry is None or entry.get("size") != path.stat().st_size:
                entry = _entry(path)
            content[part][path.name] = {**entry, **said.get(place, {})}
        if content != known:
            index.parent.mkdir(exist_ok=True)
            write_whole(index, json.dumps(content, indent=1).encode())


def _entry(archive: Path) -> dict[str, Any]:
    from conda_package_streaming.package_streaming import stream_conda_info

    try:
        entry: dict[str, Any] = next(
            json.load(contents.extractfile(member))
            for contents, member in stream_conda_info(archive)
            if member.name == "info/index.json"
        )
    except Exception as error:
        # zipfile, tarfile, bz2 and zstd have no common base for what a broken archive is.
        raise OrchError(f"{archive} is no conda package that can be read: {error}.") from error
    digests = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    with archive.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in digests.values():
                digest.update(chunk)
    return entry | {name: digest.hexdigest() for name, digest in digests.items()} | {"size": archive.stat().st_size}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one when the file is not there or holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
