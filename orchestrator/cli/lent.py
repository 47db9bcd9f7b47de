"""A terminal on which a program's output is shown: what must not be asked of it again, and what is to be undone.

The sequences are those of ECMA-48, of xterm ("XTerm Control Sequences") and of kitty's keyboard protocol. The terminal
is one of UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_CONTROL = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]?"  # CSI
    rb"|\x1b\][^\x07\x18\x1a\x1b]*(?:[\x07\x18\x1a]|\x1b\\)?"  # OSC
    rb"|\x1b[PX^_][^\x18\x1a\x1b]*(?:[\x18\x1a]|\x1b\\)?"  # DCS, SOS, PM, APC
    rb"|\x1b[ -/]*[0-~]?"
    rb"|[\x05\x0e\x0f]"  # ENQ, shift out, shift in
    rb"|\xc2(?:[\x90\x98\x9a\x9b\x9d-\x9f]|(?![\x80-\xbf]))"  # what ESC begins, as one character; half a character
)
"""Control sequences, broken ones too: where one is left out, what stands around it must not become another."""
_UNFINISHED = re.compile(
    rb"(?:\x1b(?:[ -/]*|\[[0-?]*[ -/]*|\][^\x07\x18\x1a\x1b]*\x1b?|[PX^_][^\x18\x1a\x1b]*\x1b?)|\xc2)\Z"
)
_LONGEST, _MOST_PUSHED = 4096, 99
_SHOWS = re.compile(
    rb"\x1b\[(?:"
    rb"[0-9:;]*[@-MPSTXZ^`abd-hj-mrsu]|\?[0-9;]*[hlJK]|[<=>][0-9;:]*u|>[0-9;]*m|2[23](?:;[0-9]*)*t"
    rb"|[0-9;]*(?: [q@A]|!p|\"q|\$[rtvxz{]|'[}~]|#[{}pq])"
    rb")"
    rb"|\x1b(?:[6-9=>DEHMNO\\ck-o|}~]|[()*+][0-~]|#[0-9])"
    rb"|\x1b\](?:[012]|8;[^\x00-\x1f;\x7f\xc2]*);(?:[^\x00-\x1f\x7f\xc2]|\xc2[\xa0-\xbf])*(?:\x07|\x1b\\)"
    rb"|[\x0e\x0f]"
)
"""Sequences that only show something (titles and links too) or change how it is shown. Others are, or may be, asked."""
_ANSWERED = {b"1004", b"2031", b"2048"}
"""Modes whose beginning is a question: has the window the focus, what is its colour scheme, its size."""
_SCREENS = {"?47", "?1047", "?1049"}
_ON = {"?7", "?25"}
"""Modes that are usually set: wrapping lines, and the cursor."""
_OFF = _SCREENS | {
    *("4", "20", "?1", "?5", "?66", "?69"),  # inserting, newlines, keys, reverse video, keypad, margins
    *("?9", "?1000", "?1001", "?1002", "?1003", "?1005", "?1006", "?1015", "?1016"),  # the mouse
    *("?1004", "?2004", "?2026", "?2031", "?2048"),  # focus, pastes, held updates, colour scheme, size
}
_UNDO = {
    "flags": "\x1b[=0u",
    "modifiers": "\x1b[>4m",
    "keypad": "\x1b>",
    "charset": "\x1b(B",
    "shift": "\x0f",
    "region": "\x1b7\x1b[r\x1b8",  # it moves the cursor
    "shape": "\x1b[0 q",
    "link": "\x1b]8;;\x1b\\",
    "colours": "\x1b[0m",
}
"""What undoes other changes."""
_SIMPLE = {b"\x0e": ("shift", True), b"\x0f": ("shift", False), b"\x1b=": ("keypad", True), b"\x1b>": ("keypad", False)}
_CSI = re.compile(rb"\x1b\[([<=>?]?)([0-9:;]*)([ -/]*[@-~])")
_GIVEN = {(b"", b"m"): "colours", (b"", b"r"): "region", (b"", b" q"): "shape"}
_MOVES = frozenset(bytes([kind]) for kind in b"ABCDEFGHIJSTZ`adef")


@dataclass(slots=True)
class ShownAgain:
    """Output that was shown before, without what the terminal would answer: that would be keys for somebody else."""

    _rest: bytes = b""
    _reports: set[bytes] = field(default_factory=set)

    def feed(self, data: bytes) -> bytes:
        """What may be shown now. The beginning of a sequence is kept for its end."""
        whole, self._rest = _split(self._rest + data)
        return _CONTROL.sub(self._kept, whole)

    def end(self) -> bytes:
        """After all of it, when the program lives: the reports that it waits for are asked for, once."""
        data = b"".join(b"\x1b[?%sh" % mode for mode in sorted(self._reports)) + self._rest
        self._reports, self._rest = set(), b""
        return data

    def _kept(self, found: re.Match[bytes]) -> bytes:
        token = found[0]
        if not _SHOWS.fullmatch(token):
            return b""
        if token == b"\x1bc":
            self._reports.clear()
        if token[:3] == b"\x1b[?" and token[-1] in b"hl":
            modes = [number.lstrip(b"0") for number in token[3:-1].split(b";")]
            if asked := _ANSWERED.intersection(modes):
                self._reports = self._reports | asked if token.endswith(b"h") else self._reports - asked
                others = [mode for mode in modes if mode not in asked]
                return b"\x1b[?" + b";".join(others) + token[-1:] if others else b""
        return token


@dataclass(slots=True)
class Lent:
    """What a program has changed of the terminal, seen from what is shown of it."""

    at_line_start: bool = True
    """Whether the cursor of the usual screen stands at the beginning of a line, as far as it can be known."""
    _changed: set[str] = field(default_factory=set)
    _pushed: list[int] = field(default_factory=lambda: [0, 0])
    """How often kitty's keyboard flags were pushed: on the usual screen, on the other one."""
    _rest: bytes = b""

    def note(self, data: bytes) -> None:
        """See a piece of what is shown."""
        whole, self._rest = _split(self._rest + data)
        position = 0
        for found in _CONTROL.finditer(whole):
            self._note_text(whole[position : found.start()])
            self._note_control(found[0])
            position = found.end()
        self._note_text(whole[position:])

    def undo(self) -> bytes:
        """What makes the terminal usable for others, once; nothing when nothing was changed."""
        broken = self._rest.startswith(b"\x1b")
        if not (self._changed or self._pushed[0] or broken):
            return b""
        modes = sorted(self._changed & (_ON | _OFF), key=lambda mode: int(mode.removeprefix("?")))
        back = [
            "\x1b\\" if broken else "",  # or a title, say, would swallow what comes next
            _pop(self._pushed[1]) if self._on_other_screen() else "",
            *(f"\x1b[{mode}{'h' if mode in _ON else 'l'}" for mode in modes),
            _pop(self._pushed[0]),
            *(way for key, way in _UNDO.items() if key in self._changed),
        ]
        self._rest = b""
        self._forget()
        return "".join(back).encode()

    def _on_other_screen(self) -> bool:
        return not _SCREENS.isdisjoint(self._changed)

    def _forget(self) -> None:
        self._changed, self._pushed = set(), [0, 0]

    def _note_text(self, text: bytes) -> None:
        if text.strip(b"\r") and not self._on_other_screen():
            self.at_line_start = text.endswith(b"\n")

    def _note_control(self, token: bytes) -> None:
        if found := _CSI.fullmatch(token):
            self._note_csi(*found.groups())
        elif token in _SIMPLE:
            self._set(*_SIMPLE[token])
        elif token.startswith(b"\x1b("):
            self._set("charset", token != b"\x1b(B")
        elif token.startswith(b"\x1b]8;"):
            self._set("link", not token.endswith((b";\x07", b";\x1b\\")))
        elif token == b"\x1bc":
            self._forget()

    def _note_csi(self, mark: bytes, numbers: bytes, kind: bytes) -> None:
        """A sequence by the mark before its numbers, these, and what stands behind them."""
        if kind in _MOVES and not self._on_other_screen():
            self.at_line_start = False
        if kind in (b"h", b"l"):
            for number in numbers.split(b";"):
                mode = (mark + number.lstrip(b"0")).decode()
                if mode in _ON | _OFF:
                    self._set(mode, (kind == b"h") != (mode in _ON))
        elif (mark, kind) in _GIVEN:
            self._set(_GIVEN[mark, kind], _is_given(numbers))
        elif (mark, kind) == (b">", b"m"):
            which, _, value = numbers.partition(b";")
            if which in (b"4", b""):
                self._set("modifiers", _is_given(value))
        elif kind == b"u":
            self._note_flags(mark, numbers)

    def _note_flags(self, mark: bytes, numbers: bytes) -> None:
        """Kitty's keyboard flags; each screen has its own stack of them."""
        screen = int(self._on_other_screen())
        if mark == b">":
            self._pushed[screen] = min(self._pushed[screen] + 1, _MOST_PUSHED)
        elif mark == b"<":
            count = int(numbers[:3]) if numbers.isdigit() else 1
            self._pushed[screen] = max(0, self._pushed[screen] - max(1, count))
        elif mark == b"=" and not self._pushed[screen]:
            self._set("flags", _is_given(numbers.partition(b";")[0]))

    def _set(self, key: str, changed: bool) -> None:
        (self._changed.add if changed else self._changed.discard)(key)


@dataclass(slots=True)
class ShownLog:
    """A log that is shown on a terminal, whoever has had it before."""

    _again: ShownAgain = field(default_factory=ShownAgain)
    _lent: Lent = field(default_factory=Lent)

    @property
    def at_line_start(self) -> bool:
        """Whether the cursor stands at the beginning of a line, as far as it can be known."""
        return self._lent.at_line_start

    def feed(self, data: bytes) -> bytes:
        """What may be shown of it."""
        data = self._again.feed(data)
        self._lent.note(data)
        return data

    def end(self) -> bytes:
        """What gives the terminal back as it was."""
        return self._lent.undo()


def _is_given(numbers: bytes) -> bool:
    """Whether there is any number but 0, which stands for what is usual."""
    return bool(numbers.strip(b"0:;"))


def _split(data: bytes) -> tuple[bytes, bytes]:
    """What is whole, and the beginning of a sequence at the end; of a very long one only that it is none of ours."""
    found = _UNFINISHED.search(data)
    if found is None:
        return data, b""
    rest = found[0]
    if len(rest) > _LONGEST:
        rest = rest[:2] + b"?" + (b"\x1b" if rest.endswith(b"\x1b") else b"")
    return data[: found.start()], rest


def _pop(count: int) -> str:
    return f"\x1b[<{count}u" if count else ""
