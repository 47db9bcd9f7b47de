"""A channel of records without archives, in a folder: enough to solve against, for any platform and any day."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


def record(
    name: str, version: str, subdir: str = "noarch", depends: Sequence[str] = (), built: str | None = None
) -> dict[str, Any]:
    """A package record; `built` is the day (UTC)."""
    stem = f"{name}-{version}-0"
    facts = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": list(depends),
        "subdir": subdir,
        "sha256": hashlib.sha256(f"{subdir}/{stem}".encode()).hexdigest(),
        "md5": hashlib.md5(f"{subdir}/{stem}".encode()).hexdigest(),
        "size": 1,
    }
    if built:
        facts["timestamp"] = int(datetime.fromisoformat(f"{built}T12:00:00+00:00").timestamp() * 1000)
    return facts


def make_channel(folder: Path, *records: dict[str, Any]) -> str:
    """Write `repodata.json` for each subdir of the records; the channel's URL."""
    for subdir in {"noarch", *(facts["subdir"] for facts in records)}:
        packages = {f"{r['name']}-{r['version']}-0.conda": r for r in records if r["subdir"] == subdir}
        place = folder / subdir / "repodata.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps({"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages}))
    return folder.as_uri()
