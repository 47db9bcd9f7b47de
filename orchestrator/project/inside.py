"""Paths that a project writes down must stay in its repository."""

from __future__ import annotations

import posixpath


def inside(subdir: str, written: str) -> str | None:
    """The path that a project in `subdir` means by `written`, relative to the commit's root ("" is the root).

    None when it is absolute, leaves the root, or could be read as something else than a path.
    """
    if not written or "\0" in written or written.startswith(("/", "~")) or "\\" in written:
        return None
    path = posixpath.normpath(posixpath.join(subdir, written))
    if path == ".." or path.startswith(("../", "/")):
        return None
    return "" if path == "." else path
