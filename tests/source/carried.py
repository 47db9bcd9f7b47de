"""Commits as a bundle carries them, honest ones and forged ones."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.model import Source
from orchestrator.paths import Home
from orchestrator.source import commits_of, lfs_objects, place_objects, unpack_objects, write_objects

Objects = list[tuple[str, bytes]]
"""Type and bytes of objects."""


def objects_of(url: str, commit: str, home: Home) -> bytes:
    """What a bundle holds of a commit."""
    out = io.BytesIO()
    write_objects(url, commit, out, home=home)
    return out.getvalue()


def unpack_all(source: Source, home: Home, folder: Path) -> dict[str, Path]:
    """The commits of a source, written from `home` and unpacked below `folder`."""
    unpacked = {}
    for url, commit in commits_of(source):
        unpacked[commit] = folder / commit
        if not unpacked[commit].exists():
            unpack_objects(io.BytesIO(objects_of(url, commit, home)), commit, unpacked[commit])
    return unpacked


def carry(source: Source, home: Home, other: Home, folder: Path) -> None:
    """Bring the commits of a source from one home to another."""
    kept = [lfs_objects(url, commit, home=home) for url, commit in commits_of(source)]
    lfs = {pointer.oid: place for found in kept for pointer, place in found.items() if place is not None}
    place_objects(unpack_all(source, home, folder), source, lfs, home=other)


def object_id(kind: str, content: bytes, algorithm: str = "sha1") -> str:
    return hashlib.new(algorithm, f"{kind} {len(content)}\0".encode() + content).hexdigest()


def tree(*entries: tuple[str, str | bytes, str]) -> bytes:
    """A raw tree of (mode, name, id)."""
    return b"".join(
        mode.encode() + b" " + (name.encode() if isinstance(name, str) else name) + b"\0" + bytes.fromhex(item)
        for mode, name, item in entries
    )


def commit_of(tree_id: str, time: int = 1_700_000_000) -> bytes:
    who = f"Eve <eve@example.org> {time} +0000"
    return f"tree {tree_id}\nauthor {who}\ncommitter {who}\n\nx\n".encode()


def printed(objects: Iterable[tuple[str, bytes]], algorithm: str = "sha1") -> bytes:
    """Objects in the form of a bundle."""
    lines = {object_id(kind, content, algorithm): (kind, content) for kind, content in objects}
    return b"".join(
        f"{name} {kind} {len(content)}\n".encode() + content + b"\n" for name, (kind, content) in sorted(lines.items())
    )


def forged(files: Mapping[str, bytes], time: int = 1_700_000_000) -> tuple[str, bytes]:
    """A commit of plain files (no folders) that git never saw: its id, and its objects in the form of a bundle."""
    root = tree(*(("100644", name, object_id("blob", content)) for name, content in sorted(files.items())))
    top = commit_of(object_id("tree", root), time)
    objects = [*(("blob", content) for content in files.values()), ("tree", root), ("commit", top)]
    return object_id("commit", top), printed(objects)
