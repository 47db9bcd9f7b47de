"""What a terminal would show in the end of what a program wrote: no colours, no line that was written over.

Control sequences are those of ECMA-48; the ones that move the cursor within the last lines, or erase there, are
obeyed (progress bars), all others are left out. Programs that draw a whole screen are beyond it.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"\x1b\[(?P<numbers>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[ -/]*[0-OQ-WYZ`-~\\]"
    r"|(?P<control>[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f])"
    r"|(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)"
)
_LONGEST_SEQUENCE = 4096
_FURTHEST_COLUMN = 1000
"""A cursor that is moved to the right stays here, as it stays in the last column of a terminal."""
_BLANKS, _BLANKS_PER_CHARACTER = 1 << 20, 16
"""What may be filled with blanks up to the cursor: so much, and so much for each character of the log."""


@dataclass(slots=True)
class PlainText:
    """Bytes of a log in, the text that is left of them out. `kept` lines above the last may still be changed."""

    kept: int = 0
    _lines: list[str] = field(default_factory=lambda: [""])
    _row: int = 0
    _column: int = 0
    _blanks: int = _BLANKS
    _rest: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("surrogateescape")
    )

    def feed(self, data: bytes) -> bytes:
        """The lines that nothing can change any more."""
        text = self._rest + self._decoder.decode(data)
        position = 0
        for token in _TOKEN.finditer(text):
            if token.start() != position and self._is_unfinished(text, position):
                break
            self._blanks += _BLANKS_PER_CHARACTER * (token.end() - position)
            position = token.end()
            if token["text"]:
                self._write(token["text"])
            elif token["control"]:
                self._control(token["control"])
            elif token["final"]:
                self._sequence(token["final"], token["numbers"])
        self._rest = text[position:]
        if self._rest and not self._is_unfinished(text, position):
            self._rest = ""
        done = len(self._lines) - 1 - self.kept
        if done <= 0:
            return b""
        lines, self._lines = self._lines[:done], self._lines[done:]
        self._row = max(0, self._row - done)
        return _encoded("".join(f"{line}\n" for line in lines))

    def end(self) -> bytes:
        """What is left."""
        text, self._lines, self._row, self._column = "\n".join(self._lines), [""], 0, 0
        return _encoded(text)

    def _is_unfinished(self, text: str, position: int) -> bool:
        return text[position] == "\x1b" and len(text) - position < _LONGEST_SEQUENCE

    def _write(self, text: str) -> None:
        line = self._lines[self._row]
        if len(line) < self._column:
            blanks = min(self._blanks, max(0, min(self._column, _FURTHEST_COLUMN) - len(line)))
            self._blanks -= blanks
            line += " " * blanks
            self._column = len(line)
        self._lines[self._row] = line[: self._column] + text + line[self._column + len(text) :]
        self._column += len(text)

    def _control(self, control: str) -> None:
        if control == "\n":
            self._row, self._column = self._row + 1, 0
            if self._row == len(self._lines):
                self._lines.append("")
        elif control == "\r":
            self._column = 0
        elif control == "\b":
            self._column = max(0, self._column - 1)

    def _sequence(self, final: str, numbers: str) -> None:
        first = numbers.partition(";")[0]
        count = int(first) if first.isdecimal() and len(first) < 6 else 0
        line = self._lines[self._row]
        if final in "AF":
            self._row = max(0, self._row - (count or 1))
        elif final in "BE":
            self._row = min(len(self._lines) - 1, self._row + (count or 1))
        elif final == "C":
            self._column = max(self._column, min(self._column + (count or 1), _FURTHEST_COLUMN))
        elif final == "D":
            self._column = max(0, self._column - (count or 1))
        elif final == "G":
            self._column = min(max(0, count - 1), _FURTHEST_COLUMN)
        elif final == "K":
            kept = {0: line[: self._column], 1: " " * min(self._column + 1, len(line)) + line[self._column + 1 :]}
            self._lines[self._row] = kept.get(count, "")
        elif final == "J" and count == 0:
            self._lines[self._row :] = [line[: self._column]]
        if final in "EF":
            self._column = 0


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
