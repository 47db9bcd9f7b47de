"""`orch logs`: what a run printed, as it stands or as it grows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from orchestrator.beginning import find_recorded, find_run, newest_live, read_beginning, why_unrecorded
from orchestrator.cli.plain import PlainText
from orchestrator.cli.runs import open_ledger
from orchestrator.cli.tell import tell
from orchestrator.errors import OrchError
from orchestrator.execute.identity import state_of
from orchestrator.execute.rundir import HEARTBEAT_SECONDS, RunDirectory
from orchestrator.execute.tree import processes_of

_CHUNK = 1 << 16
_POLL_SECONDS = 0.1
_SCREEN = 200
"""Lines above the last one that a program may still change."""
_SILENT_SECONDS = 6 * HEARTBEAT_SECONDS
"""A supervisor on another machine that has not been heard of for so long is taken for dead."""


def logs(wanted: str | None, *, follow: bool, tail: int | None, plain: bool) -> None:
    """`orch logs`."""
    with open_ledger() as (home, connection):
        live = newest_live(home, connection) if follow and wanted is None else None
        run_id = live or (find_run if follow else find_recorded)(home, connection, wanted or "latest")
    if follow and wanted is None:
        tell("following", f"run {run_id}")
    directory = RunDirectory(home.run(run_id))
    if follow:
        _follow(directory, tail=tail, plain=plain)
    else:
        show_logs(directory, tail=tail, plain=plain)


def show_logs(directory: RunDirectory, *, tail: int | None = None, plain: bool = False) -> None:
    """What a run has printed: its output to stdout, its errors to stderr; of each only the last `tail` lines."""
    with _streams(directory, tail, plain, kept=_SCREEN) as copy:
        copy()


def start_of_tail(file: FileIO, lines: int) -> int:
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
    target: BinaryIO
    tail: int | None
    plain: PlainText | None
    file: FileIO | None = None

    def copy(self) -> None:
        if self.file is None:
            try:
                self.file = self.path.open("rb", buffering=0)
            except FileNotFoundError:
                return
            if self.tail is not None:
                self.file.seek(start_of_tail(self.file, self.tail))
        while data := self.file.read(_CHUNK):
            self.target.write(self.plain.feed(data) if self.plain else data)
        self.target.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        if self.plain is not None:
            self.target.write(self.plain.end())
            self.target.flush()


@contextmanager
def _streams(directory: RunDirectory, tail: int | None, plain: bool, *, kept: int) -> Iterator[Callable[[], None]]:
    """A function that copies what the logs have now."""
    logs = ((directory.stdout, sys.stdout.buffer), (directory.stderr, sys.stderr.buffer))
    streams = [_Stream(path, target, tail, PlainText(kept) if plain else None) for path, target in logs]

    def copy() -> None:
        for stream in streams:
            stream.copy()

    try:
        yield copy
    finally:
        for stream in streams:
            stream.close()


def _follow(directory: RunDirectory, *, tail: int | None, plain: bool) -> None:
    """Copy the logs until the run has ended; only files are looked at, so that it works from another machine."""
    lives = _liveness(directory)
    with _streams(directory, tail, plain, kept=0) as copy:
        over = False
        while not over:
            over = any("over" in line or "end" in line for line in directory.told()) or not lives()
            copy()
            if not over:
                time.sleep(_POLL_SECONDS)
    beginning = read_beginning(directory)
    if beginning is not None:
        raise OrchError(why_unrecorded(beginning))


def _liveness(directory: RunDirectory) -> Callable[[], bool]:
    """A function that says whether anything may still write to the logs."""
    beat, changed, looked, orphaned = directory.heard(), time.monotonic(), 0.0, True

    def lives() -> bool:
        nonlocal beat, changed, looked, orphaned
        supervisor, now = directory.supervised_by(), time.monotonic()
        state = "dead" if supervisor is None else state_of(supervisor)
        if state == "elsewhere":
            if (heard := directory.heard()) != beat:  # its clock may be another's: what counts is that it moves
                beat, changed = heard, now
            if now - changed > _SILENT_SECONDS:
                raise OrchError(
                    f"run {directory.run_id} is on another machine, and its supervisor there has not been heard of "
                    f"for {_SILENT_SECONDS:.0f} s."
                )
            return True
        if state == "dead" and now - looked >= 1:  # to look at every process takes a while
            looked, orphaned = now, bool(processes_of(directory.run_id))
        return state == "alive" or orphaned

    return lives
