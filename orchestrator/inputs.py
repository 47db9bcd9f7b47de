"""Inputs: data that is not in git. Named, hashed, placed in the work directory, never written through."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator import store
from orchestrator.canonical import canonical_json, local_path, portable_path, sha256_of
from orchestrator.errors import OrchError
from orchestrator.model import Input
from orchestrator.paths import Home, stays_below

COPY_LIMIT = 256 * 1024 * 1024
"""Bytes up to which an input is copied where the file system can't clone it; a larger one is linked and checked."""

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file
_SETTLED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of an input: where it is, and its path within the input ("" for an input that is one file)."""

    path: str
    place: Path
    executable: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """An input file that the program sees through a link; `signature` is what its stat said before."""

    place: Path
    signature: tuple[int, ...]


def describe_input(name: str, origin: Path, path: str, *, home: Home) -> Input:
    """Hash a file or folder into an Input. A file that did not change since the last time is not read again.

    `path` is where it will stand, relative to the project's directory. Raises OrchError when it can't be read.
    """
    files = list_files(origin)
    hashes = hash_cached([file.place for file in files], home=home)
    kind: Literal["file", "folder"] = "folder" if origin.is_dir() else "file"
    return Input(
        name=name,
        path=path,
        sha256=_identity(kind, files, hashes),
        size=sum(size for _, size in hashes),
        kind=kind,
        executable=kind == "file" and files[0].executable,
        origin=portable_path(str(origin)),
    )


def check_inputs(inputs: Iterable[Input], *, named: Container[str], home: Home) -> None:
    """Look whether the bytes of every input can be had, before anything is made for them.

    Those whose `path` is `named` must have them where their origin says: who names a place means that one. Raises
    OrchError.
    """
    for item in inputs:
        _unchanged(item, home=home, named=item.path in named)


def place_inputs(inputs: Iterable[Input], project: Path, *, home: Home) -> list[Placed]:
    """Put every input where the spec wants it, below `project`; what had to be linked is returned, to be checked.

    Raises OrchError when an input is gone, has other bytes than the spec says, or its place is taken.
    """
    placed: list[Placed] = []
    for item in inputs:
        target = project / item.path
        if os.path.lexists(target):
            raise OrchError(
                f"the input {item.name} is to stand at {item.path}, but the commit has that path already: "
                "choose another with --input PATH=DEST."
            )
        files, _ = _unchanged(item, home=home)
        if not target.parent.resolve().is_relative_to(project.resolve()):
            raise OrchError(
                f"the input {item.name} would stand at {item.path}, which a link in the commit leads out of it."
            )
        if item.kind == "folder":
            target.mkdir(parents=True)
        for file in files:
            placed += _place(file, target / file.path if file.path else target)
    return placed


def bytes_of_input(item: Input, *, home: Home) -> tuple[list[tuple[Path, str, int]], bytes | None]:
    """Where the bytes of an input are: of each file its place, sha256 and size; and of a folder its listing.

    Raises OrchError when it is gone, or has changed since the run was specified.
    """
    files, hashes = _unchanged(item, home=home)
    listing = canonical_json(_listing(files, hashes)) if item.kind == "folder" else None
    return [(file.place, *hashed) for file, hashed in zip(files, hashes, strict=True)], listing


def read_listing(data: bytes) -> list[tuple[str, str, int]]:
    """The path, sha256 and size of each file that the listing of a folder names, from bytes of anybody.

    Raises OrchError when it is not as orch writes a listing.
    """
    try:
        rows = [(str(path), str(sha256), int(size), bool(mode)) for path, sha256, size, mode in json.loads(data)]
        again = canonical_json([list(row) for row in rows])
    except (ValueError, TypeError, RecursionError) as error:
        raise OrchError(f"the listing of an input folder is damaged: {error}.") from error
    paths = [local_path(path) for path, *_ in rows]
    if again != data or len({*paths}) != len(paths) or not all(map(stays_below, paths)):
        raise OrchError("the listing of an input folder is damaged, or made to harm.")
    return [(path, sha256, size) for path, sha256, size, _ in rows]


def written_through(placed: Iterable[Placed]) -> list[Path]:
    """The linked inputs whose original the program changed."""
    return [item.place for item in placed if _signature_or_none(item.place) != item.signature]


def store_input(item: Input, *, home: Home) -> list[str]:
    """Keep the bytes of an input in the store: of a file under its sha256, of a folder each file and its listing.

    Returns a sentence when it has changed since the run was specified, and keeps nothing then.
    """
    try:
        files, hashes = _unchanged(item, home=home)
    except OrchError:
        return [f"the input {item.name} changed during the run; its bytes were not kept."]
    for file in files:
        store.put_file(home, file.place, move=False)
    if item.kind == "folder":
        store.put_bytes(home, canonical_json(_listing(files, hashes)))
    return []


def listed_blobs(sha256: str, *, home: Home) -> set[str]:
    """The stored files that the stored listing of a folder names; none when that is not stored, or is no listing."""
    if not store.has_blob(home, sha256):
        return set()
    try:
        return {digest for _, digest, _ in read_listing(store.read_blob(home, sha256))}
    except OrchError:
        return set()


def list_files(origin: Path) -> list[Listed]:
    """The regular files of an input in a stable order; links are followed, but never back to a folder above."""
    if origin.is_file():
        return [Listed("", origin, os.access(origin, os.X_OK))]
    if not origin.is_dir():
        problem = "is neither a file nor a folder" if os.path.lexists(origin) else "is not there"
        raise OrchError(f"the input {origin} {problem}.")
    return sorted(_walk(origin, "", ()), key=lambda file: file.path)


def hash_cached(places: Sequence[Path], *, home: Home) -> list[tuple[str, int]]:
    """sha256 and size of each file; one whose stat did not change since it was last hashed is not read."""
    signatures = [_signature(place) for place in places]
    keys = [os.fsencode(place) for place in places]
    with closing(_open_cache(home)) as cache:
        known = [_known(cache, key, signature) for key, signature in zip(keys, signatures, strict=True)]
        missing = [index for index, found in enumerate(known) if found is None]
        try:
            fresh = store.hash_files([places[index] for index in missing])
        except OSError as error:
            raise OrchError(f"the input {error.filename} can't be read: {error.strerror}.") from error
        settled = time.time() - _SETTLED_SECONDS
        rows = []
        for index, (digest, size) in zip(missing, fresh, strict=True):
            known[index] = digest, size
            # A file written this very moment can change again without its times telling (git's "racy" files).
            if _signature(places[index]) == signatures[index] and signatures[index][3] / 1e9 < settled:
                rows.append((keys[index], repr(signatures[index]), digest))
        with contextlib.suppress(sqlite3.Error):  # it is a cache: next time they are hashed again
            cache.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
    return [found for found in known if found is not None]


def _open_cache(home: Home) -> sqlite3.Connection:
    try:
        cache = sqlite3.connect(home.cache / "input-hashes.db", timeout=30, isolation_level=None)
        cache.execute("CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, signature TEXT, sha256 TEXT)")
    except sqlite3.Error as error:
        raise OrchError(
            f"{home.cache / 'input-hashes.db'} can't be used ({error}); remove it, it is a cache."
        ) from error
    return cache


def _known(cache: sqlite3.Connection, key: bytes, signature: tuple[int, ...]) -> tuple[str, int] | None:
    row = cache.execute("SELECT signature, sha256 FROM hashes WHERE path = ?", (key,)).fetchone()
    return (row[1], signature[2]) if row and row[0] == repr(signature) else None


def _signature(place: Path) -> tuple[int, ...]:
    """What stat says of a file: device, inode, size, mtime and ctime."""
    try:
        info = place.stat()
    except OSError as error:
        raise OrchError(f"the input {place} can't be read: {error.strerror}.") from error
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _signature_or_none(place: Path) -> tuple[int, ...] | None:
    try:
        return _signature(place)
    except OrchError:
        return None


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Listed]:
    try:
        info = folder.stat()
        if (info.st_dev, info.st_ino) in above:
            return  # a link to a folder that it is in
        entries = list(os.scandir(folder))
    except OSError as error:
        raise OrchError(f"the input folder {folder} can't be read: {error.strerror}.") from error
    for entry in entries:
        path = prefix + entry.name
        if entry.is_dir():
            yield from _walk(Path(entry.path), path + "/", (*above, (info.st_dev, info.st_ino)))
        elif entry.is_file():
            yield Listed(path, Path(entry.path), os.access(entry.path, os.X_OK))
        else:
            raise OrchError(f"the input {entry.path} is no regular file (a broken link, a socket, a device?).")


def _identity(kind: str, files: Sequence[Listed], hashes: Sequence[tuple[str, int]]) -> str:
    return sha256_of(_listing(files, hashes)) if kind == "folder" else hashes[0][0]


def _listing(files: Sequence[Listed], hashes: Sequence[tuple[str, int]]) -> list[list[object]]:
    return [
        [portable_path(file.path), digest, size, file.executable]
        for file, (digest, size) in zip(files, hashes, strict=True)
    ]


def _unchanged(item: Input, *, home: Home, named: bool = False) -> tuple[list[Listed], list[tuple[str, int]]]:
    """The files of an input and their hashes: where they were found, else (but for a `named` place) from the store.

    Raises OrchError when neither has the bytes that the spec says.
    """
    found = ""
    if item.origin is not None and os.path.lexists(local_path(item.origin)):
        origin = Path(local_path(item.origin))
        files = list_files(origin)
        hashes = hash_cached([file.place for file in files], home=home)
        kind = "folder" if origin.is_dir() else "file"
        found = _identity(kind, files, hashes)
        if (kind, found) == (item.kind, item.sha256):
            return files, hashes
        if named:
            raise OrchError(
                f"{item.origin}, named for the input {item.path}, is not what the run had: its sha256 is {found}, "
                f"the recorded one {item.sha256}."
            )
    if not store.has_blob(home, item.sha256):
        raise _not_to_be_had(item, found)
    files = _stored_files(item, home=home)
    hashes = hash_cached([file.place for file in files], home=home)
    if _identity(item.kind, files, hashes) != item.sha256:
        raise OrchError(f"the stored bytes of the input {item.name} (sha256 {item.sha256}) are damaged.")
    return files, hashes


def _not_to_be_had(item: Input, found: str) -> OrchError:
    if found:
        return OrchError(
            f"the input {item.name} ({item.origin}) has changed: sha256 {found}, while the run was specified with "
            f"{item.sha256}."
        )
    gone = f"not at {item.origin} any more, and its bytes were not kept (--store-inputs keeps them)"
    where = "not in the bundle that brought the run" if item.origin is None else gone
    return OrchError(
        f"the input {item.name} (sha256 {item.sha256}) is {where}; if you have it, name it for a replay with "
        f"--input PATH={item.path}, or leave it out of a bundle with --no-inputs."
    )


def _stored_files(item: Input, *, home: Home) -> list[Listed]:
    if item.kind == "file":
        return [Listed("", store.blob_path(home, item.sha256), item.executable)]
    listing = json.loads(store.read_blob(home, item.sha256))
    if not all(stays_below(local_path(path)) for path, *_ in listing):
        raise OrchError(f"the stored listing of the input {item.name} names files outside its folder.")
    return [Listed(local_path(path), store.blob_path(home, sha256), mode) for path, sha256, _, mode in listing]


def _place(file: Listed, target: Path) -> list[Placed]:
    """Clone the file's blocks, or copy a small one; else link it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    info = file.place.stat()
    if _clone(file.place, target) or info.st_size <= COPY_LIMIT:
        if not target.exists():
            shutil.copyfile(file.place, target)
        target.chmod(0o755 if file.executable else 0o644)
        return []
    target.symlink_to(file.place.resolve())
    return [Placed(file.place, _signature(file.place))]


def _clone(source: Path, target: Path) -> bool:
    """Whether `target` now shares the blocks of `source` (copy on write: btrfs, xfs, bcachefs)."""
    try:
        import fcntl

        with source.open("rb") as original, target.open("xb") as clone:
            fcntl.ioctl(clone, _FICLONE, original.fileno())
    except (OSError, ImportError):
        target.unlink(missing_ok=True)
        return False
    return True
