"""Content-addressed files: each is kept once, under its sha256, read-only, and verified when it is read.

A file of the store is at `store/ab/cdef...`. It is written in `store/incoming` and renamed into place when it is
complete, so a killed or failing writer leaves nothing under a hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import OrchError
from orchestrator.files import remove_tree
from orchestrator.paths import Home

BUFFER_SIZE = 256 * 1024
INCOMING = "incoming"
"""The folder of the store that holds what is being written; anything old in it was left by a killed process."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


# --- hashing ----------------------------------------------------------------------------------------------------


def hash_file(path: Path, buffer: bytearray | None = None) -> tuple[str, int]:
    """The sha256 (lower-case hex) and the size in bytes of a file; a symbolic link is followed.

    `buffer` is used for reading when given. Raises OrchError when it can't be read or is no regular file.
    """
    with _reading(path) as file:
        return _copy(file, None, buffer)


def hash_files(paths: Sequence[Path]) -> list[tuple[str, int]]:
    """`hash_file` of each path, in their order, on all cores. Raises OrchError for the first that can't be read."""
    threads = min(os.cpu_count() or 1, len(paths))
    if threads < 2:
        buffer = bytearray(BUFFER_SIZE)
        return [hash_file(path, buffer) for path in paths]
    from concurrent.futures import ThreadPoolExecutor

    results: list[tuple[str, int]] = [("", 0)] * len(paths)
    todo = iter(enumerate(paths))  # next() on it is atomic: each path goes to one thread

    def work() -> None:
        buffer = bytearray(BUFFER_SIZE)
        for index, path in todo:
            results[index] = hash_file(path, buffer)

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()
    return results


# --- into the store ---------------------------------------------------------------------------------------------


def put_file(
    home: Home, path: Path, *, move: bool, hashed: tuple[str, int] | None = None, flushed: bool = False
) -> tuple[str, int]:
    """Put a file into the store; its sha256 and size.

    With `move` the file itself is renamed into the store where it can be (same file system, no other hard link
    to it), else copied and removed; a symbolic link is refused. Without, it is copied and left as it is. `hashed`
    is what `hash_file` said of it just now, and spares reading it again; a copy is checked against it. A file that is
    `flushed` is on the disk already. Raises OrchError when it can't be read or stored, or differs from `hashed`; then
    the store has no part of it.
    """
    if move:
        done = _put_by_rename(home, path, hashed, flushed=flushed)
        if done is not None:
            return done
    with _reading(path, follow=not move) as source, _incoming(home) as (target, temporary):
        sha256, size = _copy(source, target)
        if hashed is not None and hashed != (sha256, size):
            raise OrchError(f"{path} changed while it was put into the store; nothing of it was stored.")
        _keep(home, target, temporary, sha256)
    if move:
        with contextlib.suppress(OSError):
            path.unlink()
    return sha256, size


def put_bytes(home: Home, data: bytes) -> str:
    """Put bytes into the store; their sha256. Raises OrchError when they can't be stored."""
    sha256 = hashlib.sha256(data).hexdigest()
    if not _is_stored(home, sha256, len(data)):
        with _incoming(home) as (target, temporary):
            target.write(data)
            _keep(home, target, temporary, sha256)
    return sha256


def _put_by_rename(home: Home, path: Path, hashed: tuple[str, int] | None, *, flushed: bool) -> tuple[str, int] | None:
    """Move `path` without copying; None where that can't be done, and the file is still there."""
    with _reading(path, follow=False) as source:
        # The other name of a hard link would lead into the store: a later write through it would change a blob.
        if os.fstat(source.fileno()).st_nlink != 1:
            return None
        sha256, size = hashed or _copy(source, None)
        if os.fstat(source.fileno()).st_size != size:
            raise OrchError(f"{path} changed while it was put into the store; nothing of it was stored.")
        if _is_stored(home, sha256, size):
            with contextlib.suppress(OSError):
                path.unlink()
            return sha256, size
        blob = blob_path(home, sha256)
        try:
            blob.parent.mkdir(exist_ok=True, mode=0o700)
            if path.parent.stat().st_dev != blob.parent.stat().st_dev:
                return None
            os.fchmod(source.fileno(), 0o444)
            if not flushed:
                os.fsync(source.fileno())
            path.rename(blob)
        except OSError:
            return None  # copying says what is wrong, if anything
    return sha256, size


def _keep(home: Home, target: BinaryIO, temporary: Path, sha256: str) -> None:
    blob = blob_path(home, sha256)
    target.flush()
    if _is_stored(home, sha256, os.fstat(target.fileno()).st_size):
        return
    os.fchmod(target.fileno(), 0o444)
    os.fsync(target.fileno())
    blob.parent.mkdir(exist_ok=True, mode=0o700)
    temporary.rename(blob)


@contextlib.contextmanager
def _incoming(home: Home) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file of the store and its temporary path, which is gone at the end, whatever happened."""
    temporary = home.store / INCOMING / f"{os.getpid()}-{os.urandom(8).hex()}"
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _writing(temporary) as target:
            yield target, temporary
    except OSError as error:
        raise OrchError(f"the store {home.store} can't be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def staging(home: Home) -> Iterator[Path]:
    """A folder on the store's file system for the time of the block, for files that may be moved into the store.

    Raises OrchError when it can't be made. What a killed process leaves of it is removed by `orch env prune`.
    """
    stage = home.store / INCOMING / f"{os.getpid()}-{os.urandom(8).hex()}"
    try:
        stage.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise OrchError(f"the store {home.store} can't be written: {error.strerror}.") from error
    try:
        yield stage
    finally:
        remove_tree(stage)


def _is_stored(home: Home, sha256: str, size: int) -> bool:
    """Whether the blob is there in full length; one cut short by a damaged disk is written again."""
    try:
        return blob_path(home, sha256).stat().st_size == size
    except OSError:
        return False


# --- out of the store -------------------------------------------------------------------------------------------


def blob_path(home: Home, sha256: str) -> Path:
    """Where the store keeps the file with this sha256, whether it has it or not.

    Raises OrchError when `sha256` is not 64 lower-case hex digits.
    """
    if not _SHA256.fullmatch(sha256):
        raise OrchError(f"{sha256!r} is not a sha256: 64 lower-case hex digits are.")
    return home.store / sha256[:2] / sha256[2:]


def has_blob(home: Home, sha256: str) -> bool:
    """Whether the store has a file of this name, whatever is in it. Raises OrchError when nobody can look."""
    try:
        blob_path(home, sha256).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise OrchError(f"the store {home.store} can't be read: {error.strerror}.") from error
    return True


def verify_blob(home: Home, sha256: str) -> bool:
    """Whether the store has this file, undamaged. Raises OrchError when it can't be read."""
    return has_blob(home, sha256) and hash_file(blob_path(home, sha256))[0] == sha256


def open_blob(home: Home, sha256: str) -> BinaryIO:
    """A file of the store, open for reading at its start, after it was verified.

    Raises OrchError when the store has no such file or it is damaged.
    """
    file = _open_blob(home, sha256)
    try:
        _check(home, sha256, _copy(file, None)[0])
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def read_blob(home: Home, sha256: str) -> bytes:
    """The bytes of a file of the store, verified. Raises OrchError when it is not there or damaged."""
    with _open_blob(home, sha256) as file:
        data = file.read()
    _check(home, sha256, hashlib.sha256(data).hexdigest())
    return data


def copy_out(home: Home, sha256: str, to: Path, mode: int) -> None:
    """Copy a file of the store to `to`, verified on the way, with the permission bits of `mode`.

    The folder of `to` must be there; a file or link at `to` is replaced. Raises OrchError when the store has no
    such file, it is damaged, or `to` can't be written; then `to` is as it was before.
    """
    temporary = to.with_name(f".{os.urandom(8).hex()}.part")
    with _open_blob(home, sha256) as source:
        try:
            with _writing(temporary) as target:
                _check(home, sha256, _copy(source, target)[0])
                target.flush()
                os.fchmod(target.fileno(), mode & 0o777)
            temporary.rename(to)
        except OSError as error:
            raise OrchError(f"{to} can't be written: {error.strerror}.") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _open_blob(home: Home, sha256: str) -> BufferedReader:
    if not has_blob(home, sha256):
        raise OrchError(f"the store {home.store} has no file {sha256}.")
    return _reading(blob_path(home, sha256))


def _check(home: Home, sha256: str, found: str) -> None:
    if found != sha256:
        raise OrchError(f"the stored file {sha256} is damaged: {blob_path(home, sha256)} has the sha256 {found}.")


# --- files ------------------------------------------------------------------------------------------------------


def _reading(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file; a pipe or a device in its place neither blocks nor is read."""
    # A program may leave an output that even its owner can't read; a regular file of ours may be made readable.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        try:
            number = os.open(path, flags)
        except PermissionError:
            if follow or not stat.S_ISREG(path.lstat().st_mode):
                raise
            path.chmod(0o400)
            number = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise OrchError(f"{path} is no regular file.")
    except OSError as error:
        raise OrchError(f"{path} can't be read: {error.strerror}.") from error
    return os.fdopen(number, "rb")


def _writing(path: Path) -> BufferedWriter:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _copy(source: BufferedReader, target: BinaryIO | None, buffer: bytearray | None = None) -> tuple[str, int]:
    """Read `source` to its end, into `target` if there is one; the sha256 and the number of the bytes."""
    view = memoryview(buffer if buffer is not None else bytearray(BUFFER_SIZE))
    digest = hashlib.sha256()
    size = 0
    while count := source.readinto(view):
        digest.update(view[:count])
        if target is not None:
            target.write(view[:count])
        size += count
    return digest.hexdigest(), size


# --- who may add, who may remove --------------------------------------------------------------------------------


@contextlib.contextmanager
def adding(home: Home) -> Iterator[None]:
    """While files are stored and until a record names them, or while many are read: nobody removes any.

    Many can do so at once.
    """
    with _locked(home, exclusive=False):
        yield


@contextlib.contextmanager
def removing(home: Home, *, waiting: Callable[[], None]) -> Iterator[None]:
    """While files that no record names are removed: nobody adds any. `waiting` is called before a wait for others."""
    with _locked(home, exclusive=True, waiting=waiting):
        yield


def remove_blob(home: Home, sha256: str) -> int:
    """Remove a file from the store; its size in bytes, 0 when it was not there. Only inside `removing`."""
    path = blob_path(home, sha256)
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


@contextlib.contextmanager
def _locked(home: Home, *, exclusive: bool, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    import fcntl

    try:
        number = os.open(home.store / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OrchError(f"the store {home.store} can't be written: {error.strerror}.") from error
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(number, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(number, kind)
        yield
    finally:
        os.close(number)
