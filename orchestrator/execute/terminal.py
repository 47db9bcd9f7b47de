"""The pseudo-terminal of a run, and what its viewers send to it. POSIX only.

Viewer to supervisor, over the socket between them: one byte kind, two bytes length (big endian),
then that many bytes. `i` is typed input, `w` the window's rows and columns (two bytes each).
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from dataclasses import dataclass, field

TYPED, WINDOW = b"i", b"w"
_HEAD = struct.Struct(">cH")
_SIZE = struct.Struct(">HH")
_LONGEST = 60_000


@dataclass(slots=True)
class Terminal:
    """Both ends of a pseudo-terminal; `pending` is input that the program has not taken yet."""

    master: int
    slave: int
    size: tuple[int, int]
    pending: bytearray = field(default_factory=bytearray)


def open_terminal(size: tuple[int, int]) -> Terminal:
    """A new pseudo-terminal of `size` (rows, columns)."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    terminal = Terminal(master, slave, (0, 0))
    resize(terminal, size)
    return terminal


def resize(terminal: Terminal, size: tuple[int, int]) -> None:
    """Tell the program its window's new size, if it is one."""
    if size != terminal.size:
        terminal.size = size
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def take_controlling(slave: int) -> None:
    """In the child, after setsid: make the terminal the controlling one, so that Ctrl-C there is a signal."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def typed(data: bytes) -> bytes:
    """The messages that carry typed bytes."""
    chunks = [data[i : i + _LONGEST] for i in range(0, len(data), _LONGEST)]
    return b"".join(_HEAD.pack(TYPED, len(chunk)) + chunk for chunk in chunks)


def window(size: tuple[int, int]) -> bytes:
    """The message that carries a window's size."""
    return _HEAD.pack(WINDOW, _SIZE.size) + _SIZE.pack(*size)


def take_message(buffer: bytearray, *, keys: bool) -> bytes | tuple[int, int] | None:
    """Take the first whole message out of `buffer`: typed bytes, or a window's size; None when there is none.

    Without `keys` typed bytes stay where they are, with all that came after them. Raises ValueError for no message.
    """
    if len(buffer) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack_from(buffer)
    if kind not in (TYPED, WINDOW) or length > _LONGEST or (kind == WINDOW and length != _SIZE.size):
        raise ValueError("no message of a viewer")
    if len(buffer) < _HEAD.size + length or (kind == TYPED and not keys):
        return None
    body = bytes(buffer[_HEAD.size : _HEAD.size + length])
    del buffer[: _HEAD.size + length]
    if kind == TYPED:
        return body
    rows, columns = _SIZE.unpack(body)
    return rows, columns


def feed(terminal: Terminal) -> None:
    """Give the program as much of the pending input as it takes now."""
    try:
        written = os.write(terminal.master, terminal.pending)
    except BlockingIOError:
        return
    except OSError:
        written = len(terminal.pending)  # nobody reads any more
    del terminal.pending[:written]
