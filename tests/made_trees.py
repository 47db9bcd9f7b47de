"""A commit's files without a repository: what `environment_request` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.model import Source

SOURCE = Source(url="https://example.org/x", commit="c" * 40, tree="7" * 40, commit_time=1_700_000_000)


@dataclass
class FileTree:
    """Files by POSIX path; text is UTF-8."""

    files: Mapping[str, str | bytes] = field(default_factory=dict)

    def read(self, path: str) -> bytes | None:
        data = self.files.get(path)
        return data.encode() if isinstance(data, str) else data

    def names(self, directory: str) -> tuple[str, ...]:
        start = f"{directory}/" if directory else ""
        return tuple(sorted({p[len(start) :].partition("/")[0] for p in self.files if p.startswith(start)}))

    def check_out(self, directory: Path) -> Path:
        """Write the files to a directory, which is returned."""
        for path in self.files:
            place = directory / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.read(path) or b"")
        return directory
