"""A commit as raw objects: out of a mirror, and into a fresh repository.

The form is what `git cat-file --batch` prints for the commit, its trees and its blobs, sorted by id, and nothing else:
`<id> <type> <size>`, a line feed, the bytes, a line feed. What comes in is not trusted: every id is made anew from its
bytes, and what does not belong to the commit is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from orchestrator.errors import OrchError
from orchestrator.model import Source
from orchestrator.paths import Home
from orchestrator.report import Report, silent
from orchestrator.source.belonging import Found, check_belonging
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.location import Remote, is_full_id
from orchestrator.source.mirror import (
    CommitFacts,
    Pointer,
    World,
    forget_facts,
    init_repository,
    known_facts,
    list_objects,
    mirror_path,
)

MAX_TREE_BYTES = 1 << 28
"""The commit and all its trees; they are held in memory."""

MAX_OBJECTS = 5_000_000

_HEADER = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) (commit|tree|blob) (0|[1-9][0-9]{0,14})\n")
_LONGEST_HEADER = 100
_PACK_TYPES = {"commit": 1, "tree": 2, "blob": 3}
_CHUNK = 1 << 20
_SAMPLE = 1 << 16

# A file above it is never whole in git's memory.
_STREAMED = (("core.bigFileThreshold", "1m"),)


@dataclass(frozen=True, slots=True)
class _Header:
    id: str
    kind: str
    size: int

    @property
    def line(self) -> bytes:
        return f"{self.id} {self.kind} {self.size}\n".encode()


def commits_of(source: Source) -> tuple[tuple[str, str], ...]:
    """The (url, commit) of a source and of its submodules, each once; what is inside comes before what holds it."""
    inside = sorted(source.submodules, key=lambda submodule: -submodule.path.count("/"))
    return tuple(dict.fromkeys([*((s.url, s.commit) for s in inside), (source.url, source.commit)]))


def write_objects(url: str, commit: str, out: BinaryIO, *, home: Home, report: Report = silent) -> None:
    """Write the objects of `commit` (a full id) to `out`: the same bytes on every machine.

    When the mirror of `url` lacks the commit, it is fetched. Each object is checked on its way. Raises OrchError when
    one can't be had or is damaged; then `out` may hold a part.
    """
    world = World(home, report)
    mirror = mirror_path(home, url)
    ids = _needed(url, commit, world)
    from tempfile import TemporaryFile

    command = ["git", "cat-file", "--batch", "--buffer"]
    env = local_env(mirror, config=_STREAMED)
    with TemporaryFile() as asked:
        asked.write("".join(f"{object_id}\n" for object_id in ids).encode())
        asked.seek(0)
        with subprocess.Popen(
            command, stdin=asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, cwd=os.sep
        ) as git:
            try:
                _copy_objects(cast("IO[bytes]", git.stdout), ids, out)
            except ValueError as error:
                raise OrchError(
                    f"commit {commit} of {url} can't be read: {error}; remove {mirror} to fetch it anew."
                ) from error


def lfs_objects(url: str, commit: str, *, home: Home, report: Report = silent) -> Mapping[Pointer, Path | None]:
    """The Git LFS pointers of `commit` (a full id), each with the file that it stands for; None when that is not here.

    When the mirror of `url` lacks the commit, it is fetched. Raises OrchError when it can't be had.
    """
    from orchestrator.source.lfs import object_path

    mirror = mirror_path(home, url)
    places = {p: object_path(mirror, p.oid) for p in _complete(url, commit, World(home, report)).pointers}
    return {p: place if place.is_file() and place.stat().st_size == p.size else None for p, place in places.items()}


def unpack_objects(stream: BinaryIO, commit: str, into: Path) -> None:
    """Make a bare repository in `into` (a fresh folder) of the objects of `commit`, exactly those that it needs.

    Nothing in `stream` is trusted, and nothing of it is checked out or executed; a large blob is never whole in
    memory. Raises OrchError when it is not what `write_objects` wrote, or a check-out could not be made of it.
    """
    try:
        if not is_full_id(commit):
            raise ValueError("that is not the full id of a commit")
        if into.exists() and any(into.iterdir()):
            raise ValueError(f"{into} is not empty")
        pack = into / "objects" / "pack" / f"pack-{commit}.pack"
        check_belonging(_write_pack(stream, commit, pack), commit)
        init_repository(into, "sha1" if len(commit) == 40 else "sha256")
        run_git("index-pack", str(pack), env=local_env(into, config=_STREAMED))
        _check_paths(into, commit)
    except ValueError as error:
        raise OrchError(f"the objects of commit {commit} can't be taken: {error}.") from error
    except GitFailed as error:
        raise OrchError(f"the objects of commit {commit} can't be taken: git says {error.line!r}.") from error
    except OSError as error:
        raise OrchError(f"the objects of commit {commit} can't be unpacked: {error.strerror}.") from error


# --- out of a mirror -------------------------------------------------------------------------------------------------


def _complete(url: str, commit: str, world: World) -> CommitFacts:
    if not is_full_id(commit):  # git would take another text for a name, or for an option
        raise OrchError(f"{commit!r} is not the full id of a commit.")
    facts = known_facts(mirror_path(world.home, url), commit)
    if facts is None:
        from orchestrator.source.contents import obtain

        facts = obtain(Remote(url), commit, world)
    return facts


def _needed(url: str, commit: str, world: World) -> list[str]:
    """The ids of all objects of a commit, sorted, after fetching what the mirror lacks."""
    mirror = mirror_path(world.home, url)
    _complete(url, commit, world)
    try:
        return sorted(list_objects(mirror, commit))
    except GitFailed:
        forget_facts(mirror, commit)
    _complete(url, commit, world)
    try:
        return sorted(list_objects(mirror, commit))
    except GitFailed as error:
        raise OrchError(f"commit {commit} of {url} can't be read: {error.line}.") from error


def _copy_objects(git: IO[bytes], ids: Iterable[str], out: BinaryIO) -> None:
    for object_id in ids:
        header = _read_header(git)
        if header is None or header.id != object_id:
            raise ValueError(f"the object {object_id} is not there")
        out.write(header.line)
        _copy_content(git, header, out.write)
        out.write(b"\n")


# --- one object ------------------------------------------------------------------------------------------------------


def _read_header(stream: IO[bytes]) -> _Header | None:
    """The header of the next object, None at the end. Raises ValueError."""
    line = stream.readline(_LONGEST_HEADER)
    if not line:
        return None
    match = _HEADER.fullmatch(line)
    if match is None:
        raise ValueError(f"{line[:80]!r} is not the header of an object")
    return _Header(match[1].decode(), match[2].decode(), int(match[3]))


def _copy_content(stream: IO[bytes], header: _Header, sink: Callable[[bytes], object]) -> None:
    """Hand the bytes of an object to `sink`. Raises ValueError when they are not those that its id names."""
    digest = hashlib.sha1(usedforsecurity=False) if len(header.id) == 40 else hashlib.sha256()
    digest.update(f"{header.kind} {header.size}\0".encode())
    left = header.size
    while left:
        block = stream.read(min(left, _CHUNK))
        if not block:
            raise ValueError(f"they end within the object {header.id}")
        left -= len(block)
        digest.update(block)
        sink(block)
    if digest.hexdigest() != header.id:
        raise ValueError(f"the bytes of the object {header.id} are not those that its id names")
    if stream.read(1) != b"\n":
        raise ValueError(f"the object {header.id} has no end")


# --- into a repository -----------------------------------------------------------------------------------------------


def _write_pack(stream: BinaryIO, commit: str, place: Path) -> Found:
    """Write all objects of `stream` into a pack without an index (gitformat-pack(5)), and tell which they are."""
    found = Found()
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb+") as pack:
        pack.write(struct.pack(">4sII", b"PACK", 2, 0))
        last, count, held = "", 0, 0
        while header := _read_header(stream):
            if len(header.id) != len(commit):
                raise ValueError(f"the object {header.id} has an id of another kind")
            if header.id <= last:
                raise ValueError(f"the object {header.id} is there twice, or not in its place")
            if header.kind == "commit" and header.id != commit:
                raise ValueError(f"they hold another commit, {header.id}")
            last, count, held = header.id, count + 1, held + header.size * (header.kind != "blob")
            if count > MAX_OBJECTS or held > MAX_TREE_BYTES:
                raise ValueError("they hold more files and folders than orch takes")
            _take_object(stream, header, pack, found)
        pack.seek(8)
        pack.write(struct.pack(">I", count))
        pack.seek(0)
        digest = hashlib.file_digest(pack, "sha1" if len(commit) == 40 else "sha256")
        pack.seek(0, os.SEEK_END)
        pack.write(digest.digest())
    return found


def _take_object(stream: BinaryIO, header: _Header, pack: BinaryIO, found: Found) -> None:
    """Copy one object into the pack, and note it in `found`."""
    first, rest = header.size & 15, header.size >> 4
    info = bytearray([_PACK_TYPES[header.kind] << 4 | first])
    while rest:
        info[-1] |= 0x80
        info.append(rest & 0x7F)
        rest >>= 7
    pack.write(info)
    deflate = None
    blocks: list[bytes] = []

    def keep(block: bytes) -> None:
        nonlocal deflate
        deflate = deflate or zlib.compressobj(0 if _is_dense(block) else 1)
        pack.write(deflate.compress(block))
        if header.kind != "blob":
            blocks.append(block)

    _copy_content(stream, header, keep)
    pack.write((deflate or zlib.compressobj(1)).flush())
    if header.kind == "blob":
        found.blobs[header.id] = header.size
    elif header.kind == "tree":
        found.trees[header.id] = b"".join(blocks)
    else:
        found.commit = b"".join(blocks)


def _is_dense(block: bytes) -> bool:
    """Whether a block of a large file does not shrink, so that trying would take most of the time of an import."""
    sample = block[:_SAMPLE]
    return len(block) == _CHUNK and len(zlib.compress(sample, 1)) > 0.9 * len(sample)


def _check_paths(repository: Path, commit: str) -> None:
    """Let git judge all paths, by the rules of a check-out. Raises GitFailed."""
    index = repository / "index"
    run_git("read-tree", commit, env=local_env(repository, index=index))
    index.unlink()
