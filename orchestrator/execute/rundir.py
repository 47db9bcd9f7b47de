"""The directory of one run: what its supervisor writes and any viewer reads."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator import journal
from orchestrator.errors import OrchError
from orchestrator.model import ProcessIdentity
from orchestrator.paths import Home

HEARTBEAT_SECONDS = 10.0
_COUNT_SECONDS = 0.1
_GRACE_BYTES, _SUPERVISOR_BYTES = 32, 4096


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of `$ORCH_HOME/runs/<run id>/`. The program can reach them, so anything may stand in their places."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id, which is the directory's name."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """What happened, as `model.record_from_journal` reads it: the truth about the run."""
        return self.path / "journal.jsonl"

    @property
    def progress(self) -> Path:
        """What viewers show: phases, counts, an error, the end."""
        return self.path / "progress.jsonl"

    @property
    def events(self) -> Path:
        """`$ORCH_EVENTS`: JSON lines that the program writes."""
        return self.path / "events.jsonl"

    @property
    def stdout(self) -> Path:
        """The program's output; with a terminal, or one stream for both, all of it."""
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        """The program's standard error, where somebody kept it apart."""
        return self.path / "stderr.log"

    @property
    def supervisor(self) -> Path:
        """Who supervises the run, written before anything else."""
        return self.path / "supervisor.json"

    @property
    def socket(self) -> Path:
        """Where viewers knock while the run has a supervisor."""
        return self.path / "viewers"

    @property
    def asked_grace(self) -> Path:
        """The seconds that somebody who asks for the run's end gives it, in place of its own grace."""
        return self.path / "grace"

    @property
    def supervisor_log(self) -> Path:
        """What orch itself had to say, tracebacks included."""
        return self.path / "supervisor.log"

    @property
    def tracking_log(self) -> Path:
        """What went wrong in the run's tracking server; not there when nothing did."""
        return self.path / "tracking.log"

    def record(self, event: str, *, sync: bool = True, **values: Any) -> None:
        """Add one event to the journal; with `sync` it is on the disk when this returns."""
        journal.append(self.journal, [{"event": event, **values}], sync=sync)

    def beat(self) -> None:
        """Say that the supervisor lives, for machines that can't ask for its process."""
        os.utime(self.supervisor)

    def heard(self) -> float | None:
        """When the supervisor last said that it lives, in seconds since the epoch."""
        try:
            return self.supervisor.stat().st_mtime
        except OSError:
            return None

    def supervised_by(self) -> ProcessIdentity | None:
        """The supervisor, as it said itself; None when it could not."""
        try:
            with journal.open_plain(self.supervisor) as file:
                found = ProcessIdentity(**json.loads(file.read(_SUPERVISOR_BYTES)))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return found if _is_identity(found) else None

    def told(self) -> list[dict[str, Any]]:
        """What viewers have been told so far; nothing where that can't be read."""
        try:
            return journal.read(self.progress)[0]
        except OrchError:
            return []

    def ask_grace(self, seconds: float) -> None:
        """Say how long the program is to be given, once it is asked for its end. Raises OSError."""
        aside = self.path / f".grace.{os.urandom(4).hex()}"
        try:
            with aside.open("x") as file:
                file.write(str(seconds))
            aside.replace(self.asked_grace)
        finally:
            aside.unlink(missing_ok=True)

    def granted(self) -> float | None:
        """The seconds that somebody has asked for with `ask_grace`; None when nobody has."""
        try:
            with journal.open_plain(self.asked_grace) as file:
                text = file.read(_GRACE_BYTES + 1)
            seconds = float(text) if len(text) <= _GRACE_BYTES else -1.0
        except (OSError, ValueError):
            return None
        return seconds if seconds >= 0 else None  # not a number is none


def create_run_directory(home: Home, run_id: str, asked: Mapping[str, str]) -> RunDirectory:
    """A new run directory, which tells only what was `asked`: `source`, `entry_point`, ..., as people read it.

    Raises OrchError when the disk does not take it.
    """
    directory = RunDirectory(home.run(run_id))
    try:
        directory.path.mkdir(mode=0o700)
    except OSError as error:
        raise OrchError(f"{home.runs} can't take a new run: {error.strerror}.") from error
    try:
        journal.append(directory.progress, [{"asked": dict(asked), "at": round(time.time(), 4)}])
    except BaseException:
        shutil.rmtree(directory.path, ignore_errors=True)  # it would be a run that is prepared for ever
        raise
    return directory


class ProgressWriter:
    """A Report that writes to a run's progress file, and wakes its viewers after each line."""

    def __init__(self, directory: RunDirectory, ring: Callable[[], None]) -> None:
        self._path = directory.progress
        self._ring = ring
        self._counted = 0.0

    def __call__(self, phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        """See `report.Report`. Counts are thinned to ten a second."""
        if done is None:
            self.write({"phase": phase, "text": text})
            return
        now = time.monotonic()
        if now - self._counted >= _COUNT_SECONDS or done == total:
            self._counted = now
            self.write({"phase": phase, "text": text, "done": done, "total": total})

    def write(self, line: Mapping[str, Any]) -> None:
        """Add one line for viewers, with the time at which it was written (seconds since the epoch)."""
        journal.append(self._path, [{**line, "at": round(time.time(), 4)}])
        self._ring()


def _is_identity(found: ProcessIdentity) -> bool:
    texts = isinstance(found.machine, str) and isinstance(found.boot, str)
    return texts and isinstance(found.pid, int) and isinstance(found.start, int | float)


def now_text() -> str:
    """The time as RFC 3339 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
