"""The index of a folder of conda packages, as a channel has it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError

_PARTS = {".conda": "packages.conda", ".tar.bz2": "packages"}


def write_indexes(folder: Path, said: Mapping[str, Mapping[str, Any]], subdirs: Collection[str]) -> None:
    """Write `repodata.json` of `noarch`, of `subdirs`, and of each subdirectory with packages, where it must change.

    A package stands there with what its own `index.json` says, but for the fields `said` of it by
    `<subdir>/<file name>`. Raises OrchError for a file that is no package.
    """
    archives = sorted(path for end in _PARTS for path in folder.glob(f"[!.]*/*{end}"))
    for subdir in sorted({"noarch", *subdirs, *(path.parent.name for path in archives)}):
        index = folder / subdir / "repodata.json"
        known = _read(index)
        content: dict[str, Any] = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}}
        content |= {"removed": [], "repodata_version": 1}
        for path in archives:
            if path.parent.name == subdir:
                part = next(part for end, part in _PARTS.items() if path.name.endswith(end))
                entry = known.get(part, {}).get(path.name)
                if entry is None or entry.get("size") != path.stat().st_size:
                    entry = _entry(path)
                content[part][path.name] = {**entry, **said.get(f"{subdir}/{path.name}", {})}
        if content != known:
            index.parent.mkdir(exist_ok=True)
            aside = index.with_name(".repodata.json.new")
            aside.write_text(json.dumps(content, indent=1), "utf-8")
            aside.replace(index)


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


def _read(index: Path) -> dict[str, Any]:
    try:
        content = json.loads(index.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
