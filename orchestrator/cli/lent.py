"""The terminal that a viewer lends to a program: what must not be asked of it again, and what is to be undone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_QUESTION = re.compile(
    rb"\x1b\[(?:[?>=]?[0-9;]*c|\??[0-9;]*n|>[0-9;]*q|\?u|\??[0-9;]*\$p|1[1-9]t|2[01]t)"  # what, where, how are you
    rb"|\x1b\][0-9;]*;\?(?:\x07|\x1b\\)"  # which colour
    rb"|\x1bP[+$]q[^\x1b]*\x1b\\"  # which capability, which setting
    rb"|\x1bZ|\x05"
)
_MODE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
_CURSOR = 25
_AS_FOUND = {7, _CURSOR}
"""Modes that are usually set: wrapping lines, and the cursor."""
_OTHERS = {1, 9, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1049, 2004}
"""Those that are not: keys of an application, mouse, another screen, marked pastes."""


def without_questions(data: bytes) -> bytes:
    """Output that was shown before, to be shown again: the terminal's answers would be keys for the program."""
    return _QUESTION.sub(b"", data)


@dataclass(slots=True)
class Modes:
    """What a program has changed of the terminal's modes (DECSET)."""

    changed: set[int] = field(default_factory=set)

    def note(self, data: bytes) -> None:
        """See a piece of the program's output."""
        for numbers, how in _MODE.findall(data):
            for mode in map(int, filter(None, numbers.split(b";"))):
                if mode in _AS_FOUND | _OTHERS:
                    usual = (how == b"h") == (mode in _AS_FOUND)
                    (self.changed.discard if usual else self.changed.add)(mode)

    def undo(self) -> bytes:
        """What makes the terminal usable for others; nothing when nothing was changed."""
        back = [f"\x1b[?{mode}{'h' if mode in _AS_FOUND else 'l'}" for mode in sorted(self.changed)]
        return "".join([*back, "\x1b[0m"] if back else []).encode()
