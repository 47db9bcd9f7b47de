"""What the commands say on stderr while they work."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.cli.text import can_move, count_line, harmless, visible, wrapped

_LONGEST_NOTE = 1000


@dataclass(slots=True)
class _Teller:
    """A report to stderr: a line for each sentence, counts in passing where there is a terminal."""

    counting: bool = False
    """The line above is a count. It ends like any other, for an error or a program's output may come next."""
    quiet: bool = False
    """Nothing is said."""

    def __call__(self, phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        if self.quiet:
            return
        text = harmless(text)
        above = "\x1b[A\r\x1b[K" if self.counting else ""
        if done is None:
            print(above + wrapped(f"  {phase:<12} {text}", sys.stderr, 15), file=sys.stderr)
        elif can_move(sys.stderr):
            ended = done == total
            line = "" if ended else count_line(phase, text, done, total) + "\n"
            print(f"{above}{line}", end="", file=sys.stderr, flush=True)
        self.counting = done is not None and done != total and can_move(sys.stderr)


tell = _Teller()


def tell_notes(notes: Iterable[str]) -> None:
    """A line for each note, and one for those that are the same."""
    for note in dict.fromkeys(notes):
        tell("note", visible(note, _LONGEST_NOTE))
