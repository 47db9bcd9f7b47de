"""Watches a run: phases to stderr, the program's output to where it belongs, keys and signals to the supervisor."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from orchestrator.cli import phases
from orchestrator.cli.copied import CopiedLog, copy_some, open_logs, take_back
from orchestrator.cli.keyboard import Keys, Terminal, split_detach, window_message
from orchestrator.errors import OrchError
from orchestrator.execute.launch import SIGNALS
from orchestrator.execute.viewers import Watched

_POLL_SECONDS, _LOOK_SECONDS = 0.03, 0.25
"""How long to wait for a log that rings no bell, and for anything else."""
_INTERRUPTS, _INTERRUPT_SECONDS = 3, 2.0
_LAST_SECONDS = 1.0
"""How long the supervisor has to take the keys that were typed before the ones that leave."""
_ENDS = {"over", "ended", "end", "error"}
"""What tells that the program prints no more, and orch says the rest."""
_CHUNK = 1 << 16
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
    over: int | None = None
    """The program's exit code, when it has ended."""
    behind: bool = False
    """It has ended, and not all that it printed is shown."""
    running: bool = False
    typed: bool = False
    """There were keys that don't leave."""
    said: set[str] = field(default_factory=set)
    """What a person at a terminal has been told once."""
    printed: phases.Printed = field(default_factory=phases.Printed)
    interrupts: list[float] = field(default_factory=list)


class _Detached(BaseException):
    """A signal that ends the look, and not the run."""


@dataclass(slots=True)
class _View:
    """A look at a run while it lasts; `lines` of its progress wait to be shown."""

    run: Watched
    wishes: Wishes
    seen: Seen
    keys: Keys
    terminal: Terminal
    cleanup: contextlib.ExitStack
    logs: list[CopiedLog] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)


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
        _note_end(_lines(run.progress), seen)
        phases.end_line(seen.printed)
    return seen


def _watch(run: Watched, wishes: Wishes, seen: Seen) -> None:
    keys = Keys()
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(_signals(run, wishes, keys, seen))
        terminal = cleanup.enter_context(Terminal(wishes.terminal))
        view = _View(run, wishes, seen, keys, terminal, cleanup)
        over = more = False
        while (more or not over) and not seen.detached and seen.exit_code is None:
            seconds = 0.0 if more else _POLL_SECONDS if view.logs and not terminal.raw else _LOOK_SECONDS
            # Whether the supervisor still speaks is asked before its last words are read, and these are read before
            # the keys: what Ctrl-C means depends on them.
            typed, over = _wait(view, seconds)
            view.lines += _lines(run.progress)
            _note_end(view.lines, seen)
            if typed:
                _hear(view)
            more = not seen.detached and _show_some(view)
        if seen.detached and terminal.raw and seen.over is None:
            _send_last(run, keys)


def _wait(view: _View, seconds: float) -> tuple[bool, bool]:
    """Wait so long for the supervisor's bell and for keys: whether there are keys, and whether nobody supervises."""
    run, terminal, keys = view.run, view.terminal, view.keys
    if run.channel is None and not run.is_supervised():
        seconds = 0.0
    watched = [*([run.channel] if run.channel else []), *([sys.stdin] if terminal.listens else [])]
    sending = [run.channel] if run.channel and keys.unsent and terminal.raw else []
    ready, writable, _ = select.select(watched, sending, [], seconds)
    if writable:
        _send(run, keys)
    if run.channel in ready:
        _listen(run)
    return sys.stdin in ready, run.channel is None and not run.is_supervised()


def _note_end(lines: Iterable[Mapping[str, Any]], seen: Seen) -> None:
    for line in lines:
        if seen.over is None and not _ENDS.isdisjoint(line):
            seen.over = line.get("over", OrchError.exit_code)


def _show_some(view: _View) -> bool:
    """Show what is new, but of what the program printed a little at a time: keys and signals must be heard.

    Returns whether there is more. What orch says at the end waits until all is shown that was printed.
    """
    seen, lines = view.seen, view.lines
    if not view.logs:
        phases.print_waiting(seen.printed)
    if view.wishes.attached and not seen.said:
        _say_which_keys(view, lines)
    while lines:
        if not _ENDS.isdisjoint(lines[0]):
            seen.behind = copy_some(view.logs, seen.printed)
            if seen.behind:
                return True
            take_back(view.logs, seen.printed)
            view.terminal.end_lines()
        line = lines.pop(0)
        if "ended" in line or "end" in line:
            view.terminal.restore()
        if "program" in line:
            _begin(view, line)
        _show(line, view.wishes, seen)
    return copy_some(view.logs, seen.printed)


def _begin(view: _View, line: Mapping[str, Any]) -> None:
    """The program runs: what it prints is shown from now on, and it gets the keys if it has a terminal."""
    wishes = view.wishes
    view.seen.printed.phase, view.seen.running = None, True
    _say_which_keys(view, [line])
    if line.get("terminal") and view.terminal.start():
        view.keys.unsent[:0] = window_message()  # before what was typed ahead
    if not (wishes.as_json and wishes.quiet):
        view.logs = open_logs(
            view.run,
            view.cleanup,
            stdout=2 if wishes.as_json else 1,
            attached=wishes.attached,
            tail=wishes.tail,
            hears=view.terminal.raw,
        )
    view.cleanup.callback(take_back, view.logs, view.seen.printed)
    _say_unheard(view)


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


def _hear(view: _View) -> None:
    from orchestrator.execute.terminal import typed

    seen, keys, is_raw = view.seen, view.keys, view.terminal.raw
    try:
        data = os.read(sys.stdin.fileno(), _CHUNK)
    except OSError:
        data = b""
    if not data:  # the terminal is gone
        view.terminal.listens = False
        return
    data, keys.held, seen.detached = split_detach(keys.held + data)
    seen.typed = seen.typed or bool(data)
    _say_unheard(view)
    if is_raw and seen.over is not None:
        seen.detached = seen.detached or _CTRL_C in data
    elif is_raw:
        _count_interrupts(data, view.run, seen)
    if is_raw or len(keys.unsent) < _MOST_AHEAD:  # what is typed ahead is the program's, when there is one
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


def _say_which_keys(view: _View, lines: Iterable[Mapping[str, Any]]) -> None:
    """Tell a person which keys leave the run that these lines tell of, and what Ctrl-C does where that is not plain."""
    has_terminal = any(line.get("terminal") for line in lines)
    if view.wishes.attached and has_terminal:
        text = "Ctrl-C goes to the program; Ctrl-P Ctrl-Q leaves, it goes on"
    elif view.wishes.attached:
        text = "Ctrl-C leaves, as Ctrl-P Ctrl-Q does; the run goes on"
    else:
        leaves = "Ctrl-P Ctrl-Q leaves; the run goes on"
        text = leaves if has_terminal else "Ctrl-C stops the run; Ctrl-P Ctrl-Q leaves, it goes on"
    _say_once(view, phases.print_keys, text)


def _say_unheard(view: _View) -> None:
    if view.seen.running and view.seen.typed and not view.terminal.raw:
        _say_once(view, phases.print_note, "the program has no terminal: what you type goes nowhere")


def _say_once(view: _View, say: Callable[[str, phases.Printed], None], text: str) -> None:
    """Tell a person at a terminal, while the run goes on."""
    seen, wishes, run = view.seen, view.wishes, view.run
    if text in seen.said or seen.over is not None or not (run.channel or run.is_supervised()):
        return
    if wishes.terminal and not wishes.quiet and sys.stderr.isatty():
        seen.said.add(text)
        say(text, seen.printed)


def _ends_the_look(run: Watched, wishes: Wishes, seen: Seen) -> bool:
    """Whether Ctrl-C does: for a run that was started elsewhere, or has ended."""
    return wishes.attached or seen.behind or not run.is_supervised()


@contextlib.contextmanager
def _signals(run: Watched, wishes: Wishes, keys: Keys, seen: Seen) -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        if _ends_the_look(run, wishes, seen):
            raise _Detached
        forward(number, frame)

    def leave(number: int, _: object) -> None:
        for other in answers:
            signal.signal(other, signal.SIG_DFL)  # should the terminal take no more, the next one ends it at once
        raise SystemExit(128 + number)

    def forward(number: int, _: object) -> None:
        run.signal(signal.Signals(number))

    def resized(*_: object) -> None:
        keys.unsent += window_message()

    answers: dict[signal.Signals, Callable[[int, object], None]] = {
        signal.SIGINT: interrupt,
        signal.SIGTERM: leave if wishes.attached else forward,
        **({signal.SIGWINCH: resized} if wishes.terminal else {}),
    }
    if any(map(os.isatty, range(3))):  # there is something to give back
        heard = (number for number in (signal.SIGHUP, signal.SIGQUIT) if signal.getsignal(number) != signal.SIG_IGN)
        answers |= dict.fromkeys(heard, leave)  # nohup ignores one
    before = {number: signal.signal(number, answer) for number, answer in answers.items()}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(progress: BinaryIO) -> Iterator[dict[str, Any]]:
    """The whole lines that came since the last look."""
    start = progress.tell()
    data = progress.read()
    whole = data.rfind(b"\n") + 1
    progress.seek(start + whole)
    lines = [line for line in map(phases.told, data[:whole].splitlines()) if line is not None]
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
