"""The directory of one run: what its supervisor writes and any viewer reads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator import journal
from orchestrator.errors import OrchError
from orchestrator.paths import Home

HEARTBEAT_SECONDS = 10.0
_COUNT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of `$ORCH_HOME/runs/<run id>/`."""

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
        """The program's output; with a terminal, all of it."""
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        """The program's standard error, unless it had a terminal."""
        return self.path / "stderr.log"

    @property
    def supervisor(self) -> Path:
        """Who supervises the run, written before anything else."""
        return self.path / "supervisor.json"

    @property
    def supervisor_log(self) -> Path:
        """What orch itself had to say, tracebacks included."""
        return self.path / "supervisor.log"

    def record(self, event: str, *, sync: bool = True, **values: Any) -> None:
        """Add one event to the journal; with `sync` it is on the disk when this returns."""
        journal.append(self.journal, [{"event": event, **values}], sync=sync)

    def beat(self) -> None:
        """Say that the supervisor lives, for machines that can't ask for its process."""
        os.utime(self.supervisor)


def create_run_directory(home: Home, run_id: str) -> RunDirectory:
    """A new, empty run directory. Raises OrchError when the disk does not take it."""
    directory = RunDirectory(home.run(run_id))
    try:
        directory.path.mkdir(mode=0o700)
        directory.progress.touch()
    except OSError as error:
        raise OrchError(f"{home.runs} can't take a new run: {error.strerror}.") from error
    return directory


class ProgressWriter:
    """A Report that writes to a run's progress file, and rings a bell after each line."""

    def __init__(self, directory: RunDirectory, bell: int | None) -> None:
        self._path = directory.progress
        self._bell = bell
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
        self.ring()

    def ring(self) -> None:
        """Wake the viewer that the run was started with, if it is still there."""
        if self._bell is not None:
            try:
                os.write(self._bell, b"\n")
            except BlockingIOError:
                pass  # it has not read the last one yet, so it will look anyway
            except OSError:
                self._bell = None


def now_text() -> str:
    """The time as RFC 3339 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
