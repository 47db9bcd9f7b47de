"""Watches a run: phases to stderr, the program's output to where it belongs, keys and signals to the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from typing import TYPE_CHECKING, Any, BinaryIO

from orchestrator.cli import phases
from orchestrator.cli.keyboard import Keys, Terminal, split_detach, window_message
from orchestrator.execute.launch import SIGNALS
from orchestrator.execute.viewers import Watched

if TYPE_CHECKING:
    from orchestrator.cli.lent import Lent, ShownAgain

_POLL_SECONDS, _LOOK_SECONDS = 0.03, 0.25
"""How long to wait for a log that rings no bell, and for anything else."""
_CHUNK = 1 << 16
_INTERRUPTS, _INTERRUPT_SECONDS = 3, 2.0
_LAST_SECONDS = 1.0
"""How long the supervisor has to take the keys that were typed before the ones that leave."""
_ENDS = {"over", "ended", "end", "error"}
"""What tells that the program prints no more, and orch says the rest."""
_CTRL_C = b"\x03"
_MOST_AHEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to show a run. `as_json`: stdout is kept for the record, the program's output goes to stderr."""

    quiet: bool = False
    as_json: bool = False
    terminal: bool = False
    """There is a terminal here: its keys, Ctrl-C with them, go to the program if that has one too."""
    attached: bool = False
    """The run was started elsewhere: a signal ends the look at it, not the run."""
    tail: int | None = None
    """Show only so many of the lines that each log has when it is opened."""


@dataclass(slots=True)
class Seen:
    """What the viewer has been told so far."""

    exit_code: int | None = None
    cached: str | None = None
    ended: Mapping[str, Any] | None = None
    detached: bool = False
    printed: phases.Printed = field(default_factory=phases.Printed)
    interrupts: list[float] = field(default_factory=list)


class _Detached(BaseException):
    """A signal that ends the look, and not the run."""


def watch(run: Watched, wishes: Wishes) -> Seen:
    """Show the run until its supervisor has ended, or the user leaves it.

    `exit_code` is None when the supervisor ended without a last word, and for a run that goes on.
    """
    seen = Seen()
    try:
        _watch(run, wishes, seen)
    except _Detached:
        seen.detached = True
    except SystemExit:  # the shell's prompt comes next
        with contextlib.suppress(OSError):
            phases.end_line(seen.printed)
        raise
    if seen.detached:
        phases.end_line(seen.printed)
    return seen


def _watch(run: Watched, wishes: Wishes, seen: Seen) -> None:
    keys = Keys()
    logs: list[_Log] = []
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(_signals(run, wishes, keys))
        terminal = cleanup.enter_context(Terminal(wishes.terminal))
        over = more = False
        while not over and not seen.detached and seen.exit_code is None:
            seconds = 0.0 if more else _POLL_SECONDS if logs and not terminal.raw else _LOOK_SECONDS
            # Whether the supervisor still speaks is asked before its last words are read.
            over = _wait(run, terminal, keys, seen, seconds)
            if not logs:
                phases.print_waiting(seen.printed)
            for line in _lines(run.progress):
                if not _ENDS.isdisjoint(line):
                    _copy_all(logs, seen)
                    _take_back(logs, seen)
                if "program" in line:
                    seen.printed.phase = None
                    if line.get("terminal") and terminal.start():
                        keys.unsent[:0] = window_message()  # before what was typed ahead
                    logs = _open_logs(run, wishes, cleanup, hears=terminal.raw)
                    cleanup.callback(_take_back, logs, seen)
                if "ended" in line or "end" in line:
                    terminal.restore()
                _show(line, wishes, seen)
            # A little at a time: a program that prints without an end must not keep keys and signals from being heard.
            more = _copy_some(logs, seen)
        if not seen.detached:
            _copy_all(logs, seen)
        elif terminal.raw:
            _send_last(run, keys)


def _wait(run: Watched, terminal: Terminal, keys: Keys, seen: Seen, seconds: float) -> bool:
    """Wait so long for the supervisor's bell and for keys. True when the supervisor is gone."""
    if run.channel is None and not run.is_supervised():
        return True
    watched = [*([run.channel] if run.channel else []), *([sys.stdin] if terminal.listens else [])]
    sending = [run.channel] if run.channel and keys.unsent and terminal.raw else []
    ready, writable, _ = select.select(watched, sending, [], seconds)
    if sys.stdin in ready:
        _hear(run, terminal, keys, seen)
    if writable:
        _send(run, keys)
    if run.channel in ready:
        _listen(run)
        return run.channel is None and not run.is_supervised()
    return False


def _listen(run: Watched) -> None:
    """Take the bells; without a supervisor behind it there is no socket any more."""
    assert run.channel is not None  # noqa: S101 - selected only then
    try:
        if run.channel.recv(_CHUNK):
            return
    except OSError:
        pass
    run.channel.close()
    run.channel = None


def _hear(run: Watched, terminal: Terminal, keys: Keys, seen: Seen) -> None:
    from orchestrator.execute.terminal import typed

    try:
        data = os.read(sys.stdin.fileno(), _CHUNK)
    except OSError:
        data = b""
    if not data:  # the terminal is gone
        terminal.listens = False
        return
    data, keys.held, seen.detached = split_detach(keys.held + data)
    if terminal.raw:
        _count_interrupts(data, run, seen)
    if terminal.raw or len(keys.unsent) < _MOST_AHEAD:  # what is typed ahead is the program's, when there is one
        keys.unsent += typed(data)


def _count_interrupts(data: bytes, run: Watched, seen: Seen) -> None:
    """Ctrl-C is the program's; three within two seconds are for orch."""
    now = time.monotonic()
    seen.interrupts += [now] * data.count(_CTRL_C)
    seen.interrupts = [t for t in seen.interrupts if now - t <= _INTERRUPT_SECONDS]
    if len(seen.interrupts) >= _INTERRUPTS:
        seen.interrupts.clear()
        sys.stderr.write("\r\n  stopping     the run, gently first\r\n")
        sys.stderr.flush()
        run.signal(signal.SIGTERM)
    elif data.count(_CTRL_C) and len(seen.interrupts) == _INTERRUPTS - 1:
        sys.stderr.write("\r\n  note         Ctrl-C is the program's; once more at once stops the run\r\n")
        sys.stderr.flush()


def _send(run: Watched, keys: Keys) -> None:
    """Send what the supervisor takes now. It takes no more while the program does not read."""
    assert run.channel is not None  # noqa: S101 - selected only then
    try:
        del keys.unsent[: run.channel.send(keys.unsent, socket.MSG_DONTWAIT)]
    except BlockingIOError:
        return
    except OSError:
        keys.unsent.clear()


def _send_last(run: Watched, keys: Keys) -> None:
    """Send what was typed before the keys that leave, as far as the supervisor takes it soon."""
    end = time.monotonic() + _LAST_SECONDS
    while run.channel and keys.unsent and select.select([], [run.channel], [], max(0.0, end - time.monotonic()))[1]:
        _send(run, keys)


@contextlib.contextmanager
def _signals(run: Watched, wishes: Wishes, keys: Keys) -> Iterator[None]:
    def detach(*_: object) -> None:
        raise _Detached

    def leave(number: int, _: object) -> None:
        for other in answers:
            signal.signal(other, signal.SIG_DFL)  # should the terminal take no more, the next one ends it at once
        raise SystemExit(128 + number)

    def forward(number: int, _: object) -> None:
        run.signal(signal.Signals(number))

    def resized(*_: object) -> None:
        keys.unsent += window_message()

    answers: dict[signal.Signals, Callable[[int, object], None]] = {
        signal.SIGINT: detach if wishes.attached else forward,
        signal.SIGTERM: leave if wishes.attached else forward,
        **({signal.SIGWINCH: resized} if wishes.terminal else {}),
    }
    if any(map(os.isatty, range(3))):  # there is something to give back
        for number in (signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                answers[number] = leave
    before = {number: signal.signal(number, answer) for number, answer in answers.items()}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class _Log:
    """A log that is copied to a stream; if that is a terminal, `lent` knows what becomes of it."""

    file: FileIO
    target: int
    lent: Lent | None
    again: ShownAgain | None
    """What filters the part that another viewer may have shown."""
    shown_before: int
    """How many bytes that part has."""
    hears: bool
    """The program hears of what happens in this terminal."""

    def read(self) -> bytes | None:
        """What is to be shown next, perhaps nothing; None when that is all for now."""
        if self.again is None:
            return self.file.read(_CHUNK) or None
        left = self.shown_before - self.file.tell()
        if left > 0 and (data := self.file.read(min(_CHUNK, left))):
            return self.again.feed(data)
        again, self.again = self.again, None
        return again.end() if self.hears else b""


def _open_logs(run: Watched, wishes: Wishes, cleanup: contextlib.ExitStack, *, hears: bool) -> list[_Log]:
    if wishes.as_json and wishes.quiet:
        return []
    stdout = 2 if wishes.as_json else 1
    hears = hears and (run.channel is not None or run.is_supervised())
    opened = []
    for path, target in ((run.directory.stdout, stdout), (run.directory.stderr, 2)):
        file = cleanup.enter_context(path.open("rb", buffering=0))
        shown_before = os.fstat(file.fileno()).st_size if wishes.attached else 0
        if wishes.tail is not None:
            from orchestrator.cli.logs import start_of_tail

            file.seek(start_of_tail(file, wishes.tail))
        lent = again = None
        if os.isatty(target):
            from orchestrator.cli.lent import Lent, ShownAgain

            lent, again = Lent(), ShownAgain() if wishes.attached else None
        opened.append(_Log(file, target, lent, again, shown_before, hears))
    return opened


def _take_back(logs: list[_Log], seen: Seen) -> None:
    """Undo what the program has changed of the terminal, and not undone itself."""
    for log in logs:
        if log.lent is not None and (data := log.lent.undo()):
            seen.printed.at_line_start = log.lent.at_line_start
            with contextlib.suppress(OSError):  # the terminal is gone
                _write(log.target, data)


def _copy_all(logs: list[_Log], seen: Seen) -> None:
    while _copy_some(logs, seen):
        continue


def _copy_some(logs: list[_Log], seen: Seen) -> bool:
    """Show a chunk of what each log has more; whether there was any."""
    more = False
    for log in logs:
        data = log.read()
        more = more or data is not None
        if data:
            phases.end_count(seen.printed)
            if log.lent is not None:
                log.lent.note(data)
            seen.printed.at_line_start = log.lent.at_line_start if log.lent else data.endswith(b"\n")
            _write(log.target, data)
    return more


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _lines(progress: BinaryIO) -> Iterator[dict[str, Any]]:
    """The whole lines that came since the last look."""
    start = progress.tell()
    data = progress.read()
    whole = data.rfind(b"\n") + 1
    progress.seek(start + whole)
    lines = [json.loads(line) for line in data[:whole].splitlines() if line.endswith(b"}")]  # none a full disk cut off
    for number, line in enumerate(lines, 1):
        if "done" not in line or number == len(lines):  # a count that has passed is nobody's interest
            yield line


def _show(line: Mapping[str, Any], wishes: Wishes, seen: Seen) -> None:
    if "end" in line:
        seen.exit_code = line["end"]
    elif "error" in line:
        phases.print_error(line, seen.printed)
    elif "cached" in line:
        seen.cached = line["cached"]
    elif "ended" in line:
        seen.ended = line
        if not wishes.quiet:
            phases.print_end(line, seen.printed)
    elif wishes.quiet:
        return
    elif "done" in line:
        phases.print_count(line, seen.printed)
    elif "phase" in line:
        phases.print_phase(line, seen.printed)
