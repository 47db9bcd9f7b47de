"""Append-only journals: one JSON object a line. What a journal says is the truth; the ledger only indexes it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError

_LARGEST = 2 << 30
"""Bytes of a journal; what is larger was not written by orch, and would fill the memory."""
_PLAIN = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading in a place where a program may have put anything: a pipe holds nobody up, and a link
    leads nobody away. Raises OSError for what is no regular file.
    """
    number = os.open(path, os.O_RDONLY | _PLAIN)
    try:
        _refuse_special(number)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def append(path: Path, events: Iterable[Mapping[str, Any]], *, sync: bool = False) -> int:
    """Add `events` to the journal at `path` (made when it is not there), in one write; how many bytes that was.

    With `sync` they are on the disk when this returns. The lines are pure ASCII, so text that is no Unicode
    (lone surrogates) comes back as it was. Raises OrchError when the file can't be written, and ValueError for
    NaN or infinity (see `canonical.number_to_json`).
    """
    lines = [json.dumps(event, allow_nan=False, separators=(",", ":")) + "\n" for event in events]
    data = "".join(lines).encode("ascii")
    try:
        is_new = sync and not path.exists()
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _PLAIN, 0o600)
        try:
            _refuse_special(file)
            if _is_torn(file):
                data = b"\n" + data
            # Never cut back after a failed write: another process may have appended behind it. What is left of
            # the line is passed over by `read`.
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            if sync:
                os.fsync(file)
        finally:
            os.close(file)
        if is_new:
            _sync_folder(path.parent)
    except OSError as error:
        raise OrchError(f"the journal {path} can't be written: {error.strerror}.") from error
    return len(data)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one, among those who ask for it, to look at a journal and add what follows from it.

    Writers that ask nobody are not held up. Where the disk knows no locks, nothing is.
    """
    import fcntl

    try:
        file = open_plain(path)
    except OSError as error:
        raise OrchError(f"the journal {path} can't be read: {error.strerror}.") from error
    with file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(path: Path, *, without: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The events of a journal, and a sentence for each line that is no JSON object.

    Events `without` are passed over unread: those of what a program logged may be millions.

    A journal that is not there is empty. What a killed writer left of its last line, without a newline, is
    passed over silently. Raises OrchError when the file can't be read, or is no regular file.
    """
    events: list[dict[str, Any]] = []
    broken: list[str] = []
    unread = (b"\n",) if without is None else (b"\n", f'{{"event":"{without}",'.encode("ascii"))
    try:
        with open_plain(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _LARGEST:
                raise OrchError(f"the journal {path} can't be read: it has {size} bytes, which orch never wrote.")
            for number, line in enumerate(file, 1):
                if line.startswith(unread):
                    continue
                event = _object(line)
                if event is not None:
                    events.append(event)
                elif line.endswith(b"\n"):
                    broken.append(f"{path}, line {number}: not a JSON object; passed over.")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise OrchError(f"the journal {path} can't be read: {error.strerror}.") from error
    return events, broken


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_special(file: int) -> None:
    mode = os.fstat(file).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def _is_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
