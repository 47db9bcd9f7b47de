"""A folder of this machine, read as the tree of a commit is: nothing outside of it is seen."""

from __future__ import annotations

from pathlib import Path


class LocalFolder:
    """The files below `root`, by POSIX path from there. Links are followed inside the folder, never out of it."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def read(self, path: str) -> bytes | None:
        """The bytes of a file; None when there is none of that name, or only outside of the folder."""
        place = self._place(path)
        return place.read_bytes() if place is not None and place.is_file() else None

    def names(self, directory: str = "") -> tuple[str, ...]:
        """The names in a directory ("" for the root), sorted, directories with "/" at the end; () when it is none."""
        place = self._place(directory)
        if place is None or not place.is_dir():
            return ()
        return tuple(sorted(entry.name + "/" * entry.is_dir() for entry in place.iterdir()))

    def _place(self, path: str) -> Path | None:
        if path.startswith("/") or "\0" in path:
            return None
        try:
            place = (self._root / path).resolve()
        except (OSError, RuntimeError):  # links in a circle
            return None
        return place if place.is_relative_to(self._root) else None
