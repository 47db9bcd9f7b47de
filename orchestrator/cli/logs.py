"""`orch logs`: what a run printed, as it stands or as it grows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO, RawIOBase
from pathlib import Path

from orchestrator import ledger
from orchestrator.beginning import find_recorded, find_run, newest_live, read_beginning, why_unrecorded
from orchestrator.cli.lent import ShownLog
from orchestrator.cli.phases import write_whole
from orchestrator.cli.runs import open_ledger
from orchestrator.cli.tell import tell
from orchestrator.elsewhere import SILENT_SECONDS, host_of, way_to_end
from orchestrator.errors import OrchError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.ledger.kept import is_logged
from orchestrator.paths import Home
from orchestrator.plain import PlainText
from orchestrator.sweep import fate

_CHUNK = 1 << 16
_POLL_SECONDS = 0.1
_GIVEN_UP_SECONDS = 5.0
_SCREEN = 200
"""Lines above the last one that a program may still change."""


def logs(wanted: str | None, *, follow: bool, tail: int | None, plain: bool) -> None:
    """`orch logs`."""
    with open_ledger() as (home, connection):
        live = newest_live(home, connection) if follow and wanted is None else None
        run_id = live or (find_run if follow else find_recorded)(home, connection, wanted or "latest")
        refuse_logged(connection, run_id)
    if follow and wanted is None:
        tell("following", f"run {run_id}")
    directory = RunDirectory(home.run(run_id))
    _give_back_on_signals()
    if follow:
        follow_logs(home, directory, tail=tail, plain=plain)
    else:
        show_logs(directory, tail=tail, plain=plain)


def refuse_logged(connection: sqlite3.Connection, run_id: str) -> None:
    """Raise OrchError for a run that was only logged: its program is not one of ours."""
    if is_logged(connection, run_id):
        way = f"orch show {run_id[:16]} shows what it has."
        raise OrchError(f"run {run_id} was only logged, and has printed nothing here; {way}")


def _give_back_on_signals() -> None:
    """On a terminal a signal that ends us leaves time to undo what the log has changed of it."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if sys.stdout.isatty() and signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, leave)


def show_logs(directory: RunDirectory, *, tail: int | None = None, plain: bool = False) -> None:
    """What a run has printed: its output to stdout, its errors to stderr; of each only the last `tail` lines."""
    with _streams(directory, tail, plain, kept=_SCREEN) as copy:
        copy()


def start_of_tail(file: RawIOBase, lines: int) -> int:
    """Where the last `lines` lines of a file begin; the file's position is not kept."""
    position = file.seek(0, os.SEEK_END)
    if lines <= 0 or position == 0:
        return position
    file.seek(-1, os.SEEK_END)
    wanted = lines + (file.read(1) == b"\n")  # newlines, counted from the end
    while position > 0:
        start = max(0, position - _CHUNK)
        file.seek(start)
        block = file.read(position - start)
        count = block.count(b"\n")
        if count >= wanted:
            cut = len(block)
            for _ in range(wanted):
                cut = block.rindex(b"\n", 0, cut)
            return start + cut + 1
        wanted -= count
        position = start
    return 0


@dataclass(slots=True)
class _Stream:
    """One log, copied as it grows; it may not be there yet."""

    path: Path
    target: int
    tail: int | None
    shown: PlainText | ShownLog | None
    file: FileIO | None = None
    at_line_start: bool = True

    def copy(self) -> None:
        if self.file is None:
            try:
                self.file = self.path.open("rb", buffering=0)
            except FileNotFoundError:
                return
            if self.tail is not None:
                self.file.seek(start_of_tail(self.file, self.tail))
        while data := self.file.read(_CHUNK):
            self._write(self.shown.feed(data) if self.shown else data)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        if self.shown is not None:
            self._write(self.shown.end())
        if not self.at_line_start and os.isatty(self.target):
            self._write(b"\n")  # the shell's prompt comes next

    def _write(self, data: bytes) -> None:
        if data:
            shown = self.shown
            self.at_line_start = shown.at_line_start if isinstance(shown, ShownLog) else data.endswith(b"\n")
            write_whole(self.target, data)


@contextmanager
def _streams(directory: RunDirectory, tail: int | None, plain: bool, *, kept: int) -> Iterator[Callable[[], None]]:
    """A function that copies what the logs have now."""
    streams = [
        _Stream(path, target, tail, PlainText(kept) if plain else ShownLog() if os.isatty(target) else None)
        for path, target in ((directory.stdout, 1), (directory.stderr, 2))
    ]

    def copy() -> None:
        for stream in streams:
            stream.copy()

    try:
        yield copy
    finally:
        for stream in streams:
            stream.close()


def follow_logs(home: Home, directory: RunDirectory, *, tail: int | None = None, plain: bool = False) -> None:
    """Copy the logs until the run has ended; only files are looked at, so that it works from another machine.

    An end that no supervisor told is told here, on stderr. Raises OrchError for a run that never began, and for one of
    another machine that is not heard of any more.
    """
    lives = _liveness(home, directory)
    with contextlib.closing(_Progress(directory.progress)) as progress:
        with _streams(directory, tail, plain, kept=0) as copy:
            over = False
            while not over:
                over = progress.is_over() or not lives()
                copy()
                if not over:
                    time.sleep(_POLL_SECONDS)
        told = progress.is_over()  # its last word may have come after our look
    beginning = read_beginning(directory)
    if beginning is not None:
        raise OrchError(why_unrecorded(beginning))
    if not told:
        _tell_end(directory)


def _tell_end(directory: RunDirectory) -> None:
    """How a run ended whose supervisor was killed; the ledger is made true first."""
    with open_ledger() as (home, _):
        record = ledger.read_run(home, directory.run_id, logged=False)
    if record is None:
        raise OrchError(f"run {directory.run_id} has no directory any more.")
    if record.exit_code is None and record.status not in ("running", "orphaned"):
        tell(record.status, record.reason or "")


@dataclass(slots=True)
class _Progress:
    """What a supervisor tells its viewers, read on from where it was read up to."""

    path: Path
    file: FileIO | None = None
    unread: bytes = b""
    over: bool = False

    def is_over(self) -> bool:
        """Whether the program has ended, or the run before it began one."""
        if self.file is None:
            with contextlib.suppress(FileNotFoundError):
                self.file = self.path.open("rb", buffering=0)
        while self.file is not None and (data := self.file.read(_CHUNK)):
            *lines, self.unread = (self.unread + data).split(b"\n")
            self.over = self.over or any(map(_tells_the_end, lines))
        return self.over

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _tells_the_end(line: bytes) -> bool:
    if b'"over":' not in line and b'"end":' not in line:
        return False
    try:
        told = json.loads(line)
    except ValueError:
        return False
    return isinstance(told, dict) and ("over" in told or "end" in told)


def _liveness(home: Home, directory: RunDirectory) -> Callable[[], bool]:
    """A function that says whether anything may still write to the logs."""
    beat, changed, looked, orphaned = directory.heard(), time.monotonic(), 0.0, False

    def lives() -> bool:
        nonlocal beat, changed, looked, orphaned
        supervisor, now = directory.supervised_by(), time.monotonic()
        state = "dead" if supervisor is None else state_of(supervisor)
        if state == "elsewhere":
            if (heard := directory.heard()) != beat:  # its clock may be another's: what counts is that it moves
                beat, changed = heard, now
            if now - max(changed, looked) >= _GIVEN_UP_SECONDS:  # somebody may have given it up
                looked = now
                return _is_recorded_live(home, directory, silent=now - changed > SILENT_SECONDS)
            return True
        if state == "dead" and now - looked >= 1:  # to look at every process takes a while
            looked, before = now, orphaned
            record = ledger.read_run(home, directory.run_id, logged=False)
            orphaned = record is not None and fate(record) == "orphaned"
            if orphaned and not before:
                short = directory.run_id[:16]
                why = f"the supervisor of run {short} was killed, its program lives"
                tell("orphaned", f"{why}; orch stop {short} ends it")
        return state == "alive" or orphaned

    return lives


def _is_recorded_live(home: Home, directory: RunDirectory, *, silent: bool) -> bool:
    """Whether a run of another machine has not ended. Raises OrchError for one that is `silent`."""
    record = ledger.read_run(home, directory.run_id, logged=False)
    if record is not None and record.status not in ("running", "orphaned"):
        return False
    if silent:
        host = host_of(record, directory.supervised_by())
        raise OrchError(f"run {directory.run_id} is not heard of any more; {way_to_end(home, directory, host)}")
    return True
