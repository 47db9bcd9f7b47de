"""Reading files of a commit without a check-out."""

from __future__ import annotations

import os
import posixpath
import subprocess
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from orchestrator.errors import OrchError
from orchestrator.model import Source
from orchestrator.paths import Home
from orchestrator.source.gitprogram import local_env
from orchestrator.source.mirror import mirror_path

_MAX_LINKS = 40
"""Symbolic links followed for one path, as Linux does (path_resolution(7))."""

_FOLDER, _LINK, _SUBMODULE = "40000", "120000", "160000"


class Tree:
    """The files of one commit, read through one `git cat-file --batch` process that starts when it is needed.

    Paths are POSIX and relative to the root of the commit; symbolic links are followed inside the tree, never out of
    it. The contents of submodules are not seen. A context manager; `close` ends the process.
    """

    def __init__(self, git_dir: Path, tree: str) -> None:
        self._git_dir = git_dir
        self._tree = tree
        self._process: subprocess.Popen[bytes] | None = None
        self._folders: dict[str, dict[str, tuple[str, str]]] = {}

    def read(self, path: str) -> bytes | None:
        """The bytes of the file at `path`; None when there is no file. Raises OrchError for a damaged mirror."""
        found = self._find(path)
        if found is None or found[1] in (_FOLDER, _LINK, _SUBMODULE):
            return None
        return self._object(found[2])

    def names(self, directory: str = "") -> tuple[str, ...]:
        """The names in a directory, sorted, directories (and submodules) with "/" at the end; () if it is none."""
        found = self._find(directory)
        if found is None or found[1] != _FOLDER:
            return ()
        entries = self._folder(found[2])
        return tuple(sorted(n + "/" * (mode in (_FOLDER, _SUBMODULE)) for n, (mode, _) in entries.items()))

    def directory(self, path: str) -> str | None:
        """The path of the directory that `path` leads to, with symbolic links resolved; None when it is none."""
        found = self._find(path)
        return found[0] if found is not None and found[1] == _FOLDER else None

    def close(self) -> None:
        """End the git process, if one runs."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, path: str) -> tuple[str, str, str] | None:
        """The real path, mode and object id of what `path` leads to."""
        if path.startswith("/"):
            return None
        parts = path.split("/")[::-1]
        above: list[tuple[str, str]] = [("", self._tree)]
        links = 0
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                above.pop()
                if not above:
                    return None
                continue
            real, folder = above[-1]
            mode, object_id = self._folder(folder).get(part, ("", ""))
            real = posixpath.join(real, part)
            if mode == _LINK:
                links += 1
                target = os.fsdecode(self._object(object_id))
                if links > _MAX_LINKS or target.startswith("/"):
                    return None
                parts += target.split("/")[::-1]
            elif mode == _FOLDER:
                above.append((real, object_id))
            elif mode and not any(p not in ("", ".") for p in parts):
                return real, mode, object_id
            else:
                return None
        return above[-1][0], _FOLDER, above[-1][1]

    def _folder(self, object_id: str) -> dict[str, tuple[str, str]]:
        """The entries of a tree object: name -> (mode, id)."""
        if object_id not in self._folders:
            self._folders[object_id] = _parse_tree(self._object(object_id), len(object_id) // 2)
        return self._folders[object_id]

    def _object(self, object_id: str) -> bytes:
        if self._process is None:
            self._process = subprocess.Popen(
                ["git", "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=local_env(self._git_dir),
                cwd=os.sep,
            )
        reader, writer = cast("IO[bytes]", self._process.stdout), cast("IO[bytes]", self._process.stdin)
        try:
            writer.write(object_id.encode() + b"\n")
            writer.flush()
            words = reader.readline().split()
            if len(words) == 3:
                size = int(words[2])
                content = reader.read(size + 1)
                if len(content) == size + 1:
                    return content[:-1]
        except BrokenPipeError:
            pass
        raise OrchError(f"the mirror {self._git_dir} lacks object {object_id}; remove it to fetch it anew.")


def open_tree(source: Source, *, home: Home) -> Tree:
    """The files of the commit of a resolved source."""
    return Tree(mirror_path(home, source.url), source.tree)


def _parse_tree(content: bytes, id_length: int) -> dict[str, tuple[str, str]]:
    """A raw tree object: `mode SP name NUL id`, one after the other (gitformat, "tree objects")."""
    entries = {}
    position = 0
    while position < len(content):
        end = content.index(b"\0", position)
        mode, _, name = content[position:end].partition(b" ")
        entries[os.fsdecode(name)] = (mode.decode(), content[end + 1 : end + 1 + id_length].hex())
        position = end + 1 + id_length
    return entries
