"""Watches a run: phases to stderr, the program's output to where it belongs, keys and signals to the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from typing import Any, BinaryIO

from orchestrator.cli.text import count_line, duration, size
from orchestrator.execute.launch import SIGNALS, Launched
from orchestrator.report import plural

_POLL_SECONDS = 0.03
_CHUNK = 1 << 16
_INTERRUPTS, _INTERRUPT_SECONDS = 3, 2.0
_LONG_SECONDS = 2.0
_LABEL = 14
"""Characters of a line before its text."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to show a run. `as_json`: stdout is kept for the record, the program's output goes to stderr."""

    quiet: bool = False
    as_json: bool = False
    terminal: bool = False
    """The run has a pseudo-terminal: keys go there, and Ctrl-C with them."""


@dataclass(slots=True)
class Seen:
    """What the viewer has been told so far."""

    exit_code: int | None = None
    cached: str | None = None
    ended: Mapping[str, Any] | None = None
    phase: tuple[str, str, float] | None = None
    """The phase that goes on, its text, and when it began."""
    counting: bool = False
    at_line_start: bool = True
    interrupts: list[float] = field(default_factory=list)


def window_size() -> tuple[int, int]:
    """Rows and columns of the terminal."""
    columns, rows = os.get_terminal_size()
    return rows, columns


def watch(launched: Launched, wishes: Wishes) -> Seen:
    """Show the run until its supervisor has ended; `exit_code` is None when it did so without a last word."""
    seen = Seen()
    logs: dict[str, tuple[FileIO, int]] = {}
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(_signals_forwarded(launched, wishes))
        raw = cleanup.enter_context(_RawTerminal(wishes.terminal))
        over = False
        while not over:
            # Whether the supervisor still speaks is asked before its last words are read.
            over = _wait(launched, raw, seen, polling=bool(logs) and not wishes.terminal)
            if not logs:
                _print_waiting(seen)
            for line in _lines(launched.progress):
                if "program" in line:
                    seen.phase = None
                    logs = _open_logs(launched, wishes, cleanup)
                    raw.start()
                if "ended" in line or "end" in line:
                    _copy(logs, seen)
                    raw.restore()
                _show(line, wishes, seen)
            _copy(logs, seen)
    return seen


def _wait(launched: Launched, raw: _RawTerminal, seen: Seen, *, polling: bool) -> bool:
    """Wait for the supervisor's bell, for keys, or for the next look at the logs. True when it is gone."""
    watched = [launched.channel, *([sys.stdin] if raw.active else [])]
    ready, _, _ = select.select(watched, [], [], _POLL_SECONDS if polling else 1.0)
    if sys.stdin in ready:
        keys = os.read(sys.stdin.fileno(), _CHUNK)
        _count_interrupts(keys, launched, seen)
        _send(launched, keys)
    if launched.channel in ready:
        try:
            return not launched.channel.recv(_CHUNK)
        except OSError:
            return True
    return False


def _count_interrupts(keys: bytes, launched: Launched, seen: Seen) -> None:
    """Ctrl-C is the program's; three within two seconds are for orch."""
    now = time.monotonic()
    seen.interrupts += [now] * keys.count(b"\x03")
    seen.interrupts = [t for t in seen.interrupts if now - t <= _INTERRUPT_SECONDS]
    if len(seen.interrupts) >= _INTERRUPTS:
        seen.interrupts.clear()
        sys.stderr.write("\r\n  stopping     the run, gently first\r\n")
        sys.stderr.flush()
        _signal(launched, signal.SIGTERM)
    elif keys.count(b"\x03") and len(seen.interrupts) == _INTERRUPTS - 1:
        sys.stderr.write("\r\n  note         Ctrl-C is the program's; once more at once stops the run\r\n")
        sys.stderr.flush()


def _send(launched: Launched, keys: bytes) -> None:
    from orchestrator.execute.terminal import typed

    with contextlib.suppress(OSError):
        launched.channel.sendall(typed(keys))


def _signal(launched: Launched, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(launched.pid, number)


@contextlib.contextmanager
def _signals_forwarded(launched: Launched, wishes: Wishes) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)}
    signal.signal(signal.SIGINT, lambda number, _: _signal(launched, number))
    signal.signal(signal.SIGTERM, lambda number, _: _signal(launched, number))
    if wishes.terminal:
        signal.signal(signal.SIGWINCH, lambda *_: _tell_size(launched))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_size(launched: Launched) -> None:
    from orchestrator.execute.terminal import window

    with contextlib.suppress(OSError):
        launched.channel.sendall(window(window_size()))


class _RawTerminal:
    """The terminal, raw from the program's start to its end; always given back as it was."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.active = False
        self._before: list[Any] = []

    def __enter__(self) -> _RawTerminal:
        if self.wanted:
            import termios

            self._before = termios.tcgetattr(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def start(self) -> None:
        if self.wanted and not self.active:
            import termios
            import tty

            tty.setraw(sys.stdin, termios.TCSADRAIN)  # what was typed ahead stays
            self.active = True

    def restore(self) -> None:
        if self.active:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
            self.active = False


def _open_logs(launched: Launched, wishes: Wishes, cleanup: contextlib.ExitStack) -> dict[str, tuple[FileIO, int]]:
    if wishes.as_json and wishes.quiet:
        return {}
    stdout = 2 if wishes.as_json else 1
    opened: dict[str, tuple[FileIO, int]] = {}
    for name, path, target in (("out", launched.directory.stdout, stdout), ("err", launched.directory.stderr, 2)):
        opened[name] = cleanup.enter_context(path.open("rb", buffering=0)), target
    return opened


def _copy(logs: dict[str, tuple[FileIO, int]], seen: Seen) -> None:
    for file, target in logs.values():
        while data := file.read(_CHUNK):
            _end_count(seen)
            seen.at_line_start = data.endswith(b"\n")
            while data:
                data = data[os.write(target, data) :]


def _lines(progress: BinaryIO) -> Iterator[dict[str, Any]]:
    """The whole lines that came since the last look."""
    start = progress.tell()
    data = progress.read()
    whole = data.rfind(b"\n") + 1
    progress.seek(start + whole)
    for line in data[:whole].splitlines():
        if line.strip():
            yield json.loads(line)


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
        _print(line["phase"], line["text"], seen)
        seen.phase = line["phase"], line["text"], time.monotonic()


def _print(label: str, text: str, seen: Seen) -> None:
    _end_count(seen)
    if not seen.at_line_start:
        sys.stderr.write("\n")
        seen.at_line_start = True
    sys.stderr.write(f"{_dim(f'  {label:<12}')} {text}\n")
    sys.stderr.flush()


def _print_waiting(seen: Seen) -> None:
    """On a terminal a phase that takes long shows that it lives: the seconds it has taken."""
    if seen.phase is None or seen.exit_code is not None or not sys.stderr.isatty():
        return
    label, text, since = seen.phase
    seconds = time.monotonic() - since
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
    sys.stderr.write(f"orch: {line['error']}\n")
    if "traceback" in line and os.environ.get("ORCH_LOG") != "debug":
        sys.stderr.write("ORCH_LOG=debug shows where.\n")


def _print_end(line: Mapping[str, Any], seen: Seen) -> None:
    for note in line["notes"]:
        _print("note", note, seen)
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
