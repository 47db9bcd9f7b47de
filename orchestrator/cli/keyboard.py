"""The terminal of a viewer: its keys, one by one, its size, and the keys that leave a run."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from typing import Any

_CTRL_P, _CTRL_Q = b"\x10", b"\x11"


def window_size() -> tuple[int, int]:
    """Rows and columns of the terminal."""
    columns, rows = os.get_terminal_size()
    return rows, columns


def window_message() -> bytes:
    """The message that carries the size of this terminal."""
    from orchestrator.execute.terminal import window

    return window(window_size())


@dataclass(slots=True)
class Keys:
    """What was typed: `unsent` is on its way to the program; `held` may be the beginning of the detach keys."""

    unsent: bytearray = field(default_factory=bytearray)
    held: bytes = b""


def split_detach(data: bytes) -> tuple[bytes, bytes, bool]:
    """Of typed keys: those for the program, a Ctrl-P that may become Ctrl-P Ctrl-Q, and whether those were there."""
    before, found, _ = data.partition(_CTRL_P + _CTRL_Q)
    if found:
        return before, b"", True
    return (data[:-1], _CTRL_P, False) if data.endswith(_CTRL_P) else (data, b"", False)


class Terminal:
    """The terminal: heard key by key, raw while the program has one too; always given back as it was."""

    def __init__(self, wanted: bool) -> None:
        self.listens = wanted
        self.raw = False
        self._before: list[Any] = []

    def __enter__(self) -> Terminal:
        if self.listens:
            import termios

            self._before = termios.tcgetattr(sys.stdin)
            modes = [*self._before[:6], [*self._before[6]]]
            # Ctrl-C and Ctrl-Z are signals still, but no key waits for the end of its line, Ctrl-Q not at all.
            modes[0] &= ~(termios.IXON | termios.ICRNL)
            modes[3] &= ~(termios.ICANON | termios.ECHO)
            modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, modes)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def start(self) -> bool:
        """Hand all keys to the program, if there is a terminal here."""
        if self.listens:
            import termios
            import tty

            tty.setraw(sys.stdin, termios.TCSADRAIN)  # what was typed ahead stays
            self.raw = True
        return self.raw

    def end_lines(self) -> None:
        """The program prints no more: a newline of orch's own begins a line again. Keys are heard as before."""
        if self.raw:
            import termios

            with contextlib.suppress(termios.error):
                modes = termios.tcgetattr(sys.stdin)
                modes[1] = self._before[1]
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, modes)

    def restore(self) -> None:
        if self._before:
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
            self._before = []
        self.listens = self.raw = False
