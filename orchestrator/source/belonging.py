"""What belongs to a commit: whether objects that somebody sent are those that it needs, and fit on a disk."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MAX_LISTING_BYTES = 1 << 27
"""What a listing of all files of the commit may take: the same few trees can be named again and again."""

MAX_DEPTH = 1000
"""Folders in folders."""

MAX_READ_BYTES = 10_000_000
"""A .gitattributes or .gitmodules file, which git and we read as a whole."""

_PLAIN_CONTENT = 1 << 30
_REPEATED = 100
"""Files may be there many times in a commit, but all of them together not beyond both of these: bytes, and times."""

_ENTRY = re.compile(rb"([0-7]{5,7}) ([^\0/]+)\0")
_TREE_LINE = re.compile(rb"tree ([0-9a-f]+)\n")
_FILES = (stat.S_IFREG, stat.S_IFLNK)
_KINDS = (*_FILES, stat.S_IFDIR, 0o160000)
_LINE_BYTES = 60
"""Of a line of `git ls-tree` without the path."""


@dataclass(slots=True)
class Found:
    """The objects of a stream: the commit and the trees as they are, the blobs by their sizes."""

    commit: bytes = b""
    trees: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    """As stat.S_IFMT has it."""
    name: bytes
    id: str


@dataclass(frozen=True, slots=True)
class _Extent:
    """What is below a folder, files and folders counted at each place where they are."""

    entries: int
    path_bytes: int
    content_bytes: int
    depth: int


def check_belonging(found: Found, commit: str) -> None:
    """Raise ValueError unless the objects are those that the commit needs, and no more files than a disk can hold."""
    if not found.commit:
        raise ValueError("the commit itself is not among them")
    match = _TREE_LINE.match(found.commit)
    if match is None or len(match[1]) != len(commit):
        raise ValueError("the commit is malformed")
    root = match[1].decode()
    unneeded = (found.trees.keys() | found.blobs.keys()) - _walk(found, root)
    if unneeded:
        raise ValueError(f"the commit does not need the object {min(unneeded)}")


def _walk(found: Found, root: str) -> set[str]:
    """The ids of all trees and blobs from the tree `root` on. Raises ValueError when one is missing, or too many."""
    most_content = max(_PLAIN_CONTENT, _REPEATED * sum(found.blobs.values()))
    extents: dict[str, _Extent] = {}
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        tree = waiting[-1]
        if tree in extents:
            waiting.pop()
            continue
        entries = _entries(tree, found)
        inner = [entry.id for entry in entries if stat.S_ISDIR(entry.kind) and entry.id not in extents]
        if inner:
            waiting += inner
            continue
        extents[tree] = extent = _extent(entries, extents, found.blobs)
        if extent.depth > MAX_DEPTH:
            raise ValueError(f"they hold more than {MAX_DEPTH} folders in each other")
        if extent.entries * _LINE_BYTES + extent.path_bytes > MAX_LISTING_BYTES or extent.content_bytes > most_content:
            raise ValueError("the same files and folders are there too many times")
        seen.add(tree)
        seen.update(entry.id for entry in entries if entry.kind in _FILES)
    return seen


def _entries(tree: str, found: Found) -> list[_Entry]:
    """The entries of a tree object: `mode SP name NUL id`, one after the other."""
    content = found.trees.get(tree)
    if content is None:
        raise ValueError(f"the folder {tree} is missing")
    entries: dict[bytes, _Entry] = {}
    position = 0
    while position < len(content):
        match = _ENTRY.match(content, position)
        if match is None:
            raise ValueError(f"the folder {tree} is malformed")
        position = match.end() + len(tree) // 2
        entry = _Entry(stat.S_IFMT(int(match[1], 8)), match[2], content[match.end() : position].hex())
        if len(entry.id) != len(tree) or entry.kind not in _KINDS or entry.name in entries:
            raise ValueError(f"the folder {tree} is malformed")
        if entry.kind in _FILES:
            _check_file(entry, found.blobs)
        entries[entry.name] = entry
    return list(entries.values())


def _check_file(entry: _Entry, blobs: Mapping[str, int]) -> None:
    if entry.id not in blobs:
        raise ValueError(f"the file {entry.id} is missing")
    if entry.name in (b".gitattributes", b".gitmodules") and blobs[entry.id] > MAX_READ_BYTES:
        raise ValueError(f"a file {entry.name.decode()} has more than {MAX_READ_BYTES} bytes")


def _extent(entries: Iterable[_Entry], extents: Mapping[str, _Extent], blobs: Mapping[str, int]) -> _Extent:
    count = path_bytes = content_bytes = depth = 0
    for entry in entries:
        count += 1
        path_bytes += len(entry.name)
        if stat.S_ISDIR(entry.kind):
            inner = extents[entry.id]
            count += inner.entries
            path_bytes += inner.path_bytes + inner.entries * (len(entry.name) + 1)
            content_bytes += inner.content_bytes
            depth = max(depth, inner.depth)
        else:
            content_bytes += blobs.get(entry.id, 0)
    return _Extent(count, path_bytes, content_bytes, depth + 1)
