"""Files of a commit, made from a mapping: what `orchestrator.source` gives, without git."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass


@dataclass(frozen=True)
class MadeTree:
    files: dict[str, str]

    def read(self, path: str) -> bytes | None:
        content = self.files.get(path)
        return None if content is None else content.encode()

    def names(self, directory: str) -> tuple[str, ...]:
        found = set()
        for path in self.files:
            below = posixpath.relpath(path, directory or ".")
            if not below.startswith(".."):
                first, slash, _ = below.partition("/")
                found.add(first + slash)
        return tuple(sorted(found))
