"""Append-only journals: one JSON object a line. What a journal says is the truth; the ledger only indexes it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError


def append(path: Path, events: Iterable[Mapping[str, Any]], *, sync: bool = False) -> None:
    """Add `events` to the journal at `path` (made when it is not there), in one write.

    With `sync` they are on the disk when this returns. The lines are pure ASCII, so text that is no Unicode
    (lone surrogates) comes back as it was. Raises OrchError when the file can't be written, and ValueError for
    NaN or infinity (see `canonical.number_to_json`).
    """
    lines = [json.dumps(event, allow_nan=False, separators=(",", ":")) + "\n" for event in events]
    data = "".join(lines).encode("ascii")
    try:
        is_new = sync and not path.exists()
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
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


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one, among those who ask for it, to look at a journal and add what follows from it.

    Writers that ask nobody are not held up. Where the disk knows no locks, nothing is.
    """
    import fcntl

    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OrchError(f"the journal {path} can't be read: {error.strerror}.") from error
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def read(path: Path, *, without: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The events of a journal, and a sentence for each line that is no JSON object.

    Events `without` are passed over unread: those of what a program logged may be millions.

    A journal that is not there is empty. What a killed writer left of its last line, without a newline, is
    passed over silently. Raises OrchError when the file can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise OrchError(f"the journal {path} can't be read: {error.strerror}.") from error
    events: list[dict[str, Any]] = []
    broken: list[str] = []
    lines = data.split(b"\n")
    unread = b"\n" if without is None else f'{{"event":"{without}",'.encode("ascii")
    for number, line in enumerate(lines, 1):
        if line.startswith(unread):
            continue
        event = _object(line)
        if event is not None:
            events.append(event)
        elif line and number < len(lines):
            broken.append(f"{path}, line {number}: not a JSON object; passed over.")
    return events, broken


def _object(line: bytes) -> dict[str, Any] | None:
    if not line:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
