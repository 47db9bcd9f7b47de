"""What a program prints, copied from its logs to where it belongs, and a terminal that is given back as it was."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from io import RawIOBase
from typing import TYPE_CHECKING

from orchestrator.cli import phases
from orchestrator.execute.viewers import Watched
from orchestrator.journal import open_plain

if TYPE_CHECKING:
    from orchestrator.cli.lent import Lent, ShownAgain

_CHUNK = 1 << 16


@dataclass(slots=True)
class CopiedLog:
    """A log that is copied to a stream; if that is a terminal, `lent` knows what becomes of it."""

    file: RawIOBase
    target: int
    place: int | None
    """Whose lines it ends or begins: as in Printed, None where nobody who sees stderr sees it."""
    lent: Lent | None
    again: ShownAgain | None
    """What filters the part whose questions have been, or will not be, answered to the program."""
    shown_before: int
    """How many bytes that part has, if the program hears of what happens in this terminal; else all is that part."""
    hears: bool

    def read(self) -> bytes | None:
        """What is to be shown next, perhaps nothing; None when that is all for now."""
        if self.again is None:
            return self.file.read(_CHUNK) or None
        left = self.shown_before - self.file.tell() if self.hears else _CHUNK
        if left > 0 and (data := self.file.read(min(_CHUNK, left))):
            return self.again.feed(data)
        if not self.hears:
            return None
        again, self.again = self.again, None
        return again.end()


def open_logs(
    run: Watched, cleanup: contextlib.ExitStack, *, stdout: int, attached: bool, tail: int | None, hears: bool
) -> list[CopiedLog]:
    """The logs of a run, from their beginning or their last `tail` lines on; what it prints to stdout goes to `stdout`.

    `attached`: what they have already was shown to somebody else. `hears`: the program hears of this terminal. Raises
    OSError.
    """
    hears = hears and (run.channel is not None or run.is_supervised())
    opened = []
    for path, target in ((run.directory.stdout, stdout), (run.directory.stderr, 2)):
        file = cleanup.enter_context(open_plain(path).detach())
        shown_before = os.fstat(file.fileno()).st_size if attached else 0
        if tail is not None:
            from orchestrator.cli.logs import start_of_tail

            file.seek(start_of_tail(file, tail))
        lent = again = None
        if os.isatty(target):
            from orchestrator.cli.lent import Lent, ShownAgain

            lent, again = Lent(), ShownAgain() if attached or not hears else None
        opened.append(CopiedLog(file, target, _place(target), lent, again, shown_before, hears))
    return opened


def _place(target: int) -> int | None:
    """What goes into a file is seen by nobody now; what goes into a pipe may come out beside stderr, as of `tee`."""
    if os.path.sameopenfile(target, 2):
        return 2
    return target if os.isatty(2) and not stat.S_ISREG(os.fstat(target).st_mode) else None


def take_back(logs: list[CopiedLog], printed: phases.Printed) -> None:
    """Undo what the program has changed of the terminal, and not undone itself."""
    for log in logs:
        if log.lent is not None and (data := log.lent.undo()):
            _note_place(log, data, printed)
            with contextlib.suppress(OSError):  # the terminal is gone
                phases.write_whole(log.target, data)


def copy_some(logs: list[CopiedLog], printed: phases.Printed) -> bool:
    """Show a chunk of what each log has more; whether there was any."""
    more = False
    for log in logs:
        data = log.read()
        more = more or data is not None
        if data:
            phases.end_count(printed)
            if log.lent is not None:
                log.lent.note(data)
            _note_place(log, data, printed)
            phases.write_whole(log.target, data)
    return more


def _note_place(log: CopiedLog, data: bytes, printed: phases.Printed) -> None:
    if log.place is not None:
        at_start = log.lent.at_line_start if log.lent is not None else data.endswith(b"\n")
        (printed.unfinished.discard if at_start else printed.unfinished.add)(log.place)
