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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from typing import TYPE_CHECKING, Any, BinaryIO

from orchestrator.cli.keyboard import Keys, Terminal, split_detach, window_message
from orchestrator.cli.text import count_line, duration, harmless, size
from orchestrator.execute.launch import SIGNALS
from orchestrator.execute.viewers import Watched
from orchestrator.report import plural

if TYPE_CHECKING:
    from orchestrator.cli.lent import Modes

_POLL_SECONDS, _LOOK_SECONDS = 0.03, 0.25
"""How long to wait for a log that rings no bell, and for anything else."""
_CHUNK = 1 << 16
_INTERRUPTS, _INTERRUPT_SECONDS = 3, 2.0
_LONG_SECONDS = 2.0
_LABEL = 14
"""Characters of a line before its text."""
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
    phase: tuple[str, str, float] | None = None
    """The phase that goes on, its text, and when it began, in seconds since the epoch."""
    waited: int = 0
    """The seconds that are shown of it."""
    counting: bool = False
    at_line_start: bool = True
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
    if seen.detached:
        _end_line(seen)
    return seen


def _watch(run: Watched, wishes: Wishes, seen: Seen) -> None:
    keys = Keys()
    logs: list[_Log] = []
    with contextlib.ExitStack() as cleanup:
        terminal = cleanup.enter_context(Terminal(wishes.terminal))
        cleanup.enter_context(_signals(run, wishes, keys))
        over = more = False
        while not over and not seen.detached and seen.exit_code is None:
            seconds = 0.0 if more else _POLL_SECONDS if logs and not terminal.raw else _LOOK_SECONDS
            # Whether the supervisor still speaks is asked before its last words are read.
            over = _wait(run, terminal, keys, seen, seconds)
            if not logs:
                _print_waiting(seen)
            for line in _lines(run.progress):
                if "over" in line or "ended" in line or "end" in line:
                    _copy_all(logs, seen)
                if "program" in line:
                    seen.phase = None
                    logs = _open_logs(run, wishes, cleanup)
                    if line.get("terminal") and terminal.start():
                        keys.unsent[:0] = window_message()  # before what was typed ahead
                        logs[0].lend(again=wishes.attached)
                if "ended" in line or "end" in line:
                    terminal.restore()
                _show(line, wishes, seen)
            # A little at a time: a program that prints without an end must not keep keys and signals from being heard.
            more = _copy_some(logs, seen)
        if not seen.detached:
            _copy_all(logs, seen)
        if seen.detached and logs:
            logs[0].take_back()


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


@contextlib.contextmanager
def _signals(run: Watched, wishes: Wishes, keys: Keys) -> Iterator[None]:
    def detach(*_: object) -> None:
        raise _Detached

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    def forward(number: int, _: object) -> None:
        run.signal(signal.Signals(number))

    def resized(*_: object) -> None:
        keys.unsent += window_message()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)}
    signal.signal(signal.SIGINT, detach if wishes.attached else forward)
    signal.signal(signal.SIGTERM, leave if wishes.attached else forward)
    if wishes.terminal:
        signal.signal(signal.SIGWINCH, resized)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class _Log:
    """A log that is copied to a stream; with `modes`, to the terminal that the program has."""

    file: FileIO
    target: int
    modes: Modes | None = None
    shown_before: int = 0
    """How many bytes of it another viewer may have shown."""

    def lend(self, *, again: bool) -> None:
        """From now on the program has the terminal; with `again` it may have had another."""
        from orchestrator.cli.lent import Modes

        self.modes = Modes()
        self.shown_before = os.fstat(self.file.fileno()).st_size if again else 0

    def read(self) -> bytes:
        from_before = self.file.tell() < self.shown_before
        data = self.file.read(_CHUNK)
        if self.modes is not None:
            self.modes.note(data)
        if from_before and data:
            from orchestrator.cli.lent import without_questions

            return without_questions(data) or b"\0"  # which a terminal does not show
        return data

    def take_back(self) -> None:
        if self.modes is not None:
            os.write(self.target, self.modes.undo())


def _open_logs(run: Watched, wishes: Wishes, cleanup: contextlib.ExitStack) -> list[_Log]:
    if wishes.as_json and wishes.quiet:
        return []
    stdout = 2 if wishes.as_json else 1
    opened = []
    for path, target in ((run.directory.stdout, stdout), (run.directory.stderr, 2)):
        file = cleanup.enter_context(path.open("rb", buffering=0))
        if wishes.tail is not None:
            from orchestrator.cli.logs import start_of_tail

            file.seek(start_of_tail(file, wishes.tail))
        opened.append(_Log(file, target))
    return opened


def _copy_all(logs: list[_Log], seen: Seen) -> None:
    while _copy_some(logs, seen):
        continue


def _copy_some(logs: list[_Log], seen: Seen) -> bool:
    """Show a chunk of what each log has more; whether there was any."""
    more = False
    for log in logs:
        if data := log.read():
            more = True
            _end_count(seen)
            seen.at_line_start = data.endswith(b"\n")
            while data:
                data = data[os.write(log.target, data) :]
    return more


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
        _print_error(line, seen)
    elif "cached" in line:
        seen.cached = line["cached"]
    elif wishes.quiet:
        seen.ended = line if "ended" in line else seen.ended
    elif "ended" in line:
        seen.ended = line
        _print_end(line, seen)
    elif "done" in line:
        _print_count(line, seen)
    elif "phase" in line:
        text = harmless(line["text"])
        _print(line["phase"], text, seen)
        seen.phase, seen.waited = (line["phase"], text, line.get("at", time.time())), 0


def _print(label: str, text: str, seen: Seen) -> None:
    _end_line(seen)
    sys.stderr.write(f"{_dim(f'  {label:<12}')} {text}\n")
    sys.stderr.flush()


def _end_line(seen: Seen) -> None:
    _end_count(seen)
    if not seen.at_line_start:
        sys.stderr.write("\n")
        sys.stderr.flush()
        seen.at_line_start = True


def _print_waiting(seen: Seen) -> None:
    """On a terminal a phase that takes long shows that it lives: the seconds it has taken."""
    if seen.phase is None or seen.exit_code is not None or not sys.stderr.isatty():
        return
    label, text, since = seen.phase
    seconds = time.time() - since
    if int(seconds) == seen.waited:
        return
    seen.waited = int(seconds)
    fits = len(text) + 24 < os.get_terminal_size(2).columns  # a line that was broken could not be written again
    if seconds >= _LONG_SECONDS and fits and not seen.counting:
        sys.stderr.write(f"\x1b[A\r\x1b[K{_dim(f'  {label:<12}')} {text}  {seconds:.0f} s\n")
        sys.stderr.flush()


def _print_count(line: Mapping[str, Any], seen: Seen) -> None:
    """A passing count: on a terminal one line that changes, elsewhere nothing."""
    if sys.stderr.isatty():
        shown = count_line(line["phase"], line["text"], line["done"], line["total"])
        sys.stderr.write(f"\r\x1b[K{_dim(shown[:_LABEL])}{shown[_LABEL:]}")
        sys.stderr.flush()
        seen.counting = True


def _end_count(seen: Seen) -> None:
    if seen.counting:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
        seen.counting = False


def _print_error(line: Mapping[str, Any], seen: Seen) -> None:
    _end_count(seen)
    if os.environ.get("ORCH_LOG") == "debug" and "traceback" in line:
        sys.stderr.write(line["traceback"])
    sys.stderr.write(f"orch: {harmless(line['error'])}\n")
    if "traceback" in line and os.environ.get("ORCH_LOG") != "debug":
        sys.stderr.write("ORCH_LOG=debug shows where.\n")


def _print_end(line: Mapping[str, Any], seen: Seen) -> None:
    for note in line["notes"]:
        _print("note", harmless(note), seen)
    facts = [
        duration(line["seconds"]),
        f"{size(line['memory'])} peak",
        plural(line["outputs"], "output"),
        plural(line["metrics"], "metric"),
    ]
    if line["reason"]:
        facts.insert(0, line["reason"])
    elif line["exit_code"]:
        facts.insert(0, f"exit code {line['exit_code']}")
    _print(line["ended"], ", ".join(facts), seen)
    if line["run"] is not None:
        sys.stderr.write(f"run {line['run']}  again: orch replay {line['run']}\n")


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else text
