"""One run's program, from its start to the end of its whole process tree. POSIX only."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from orchestrator.errors import OrchError
from orchestrator.execute.rundir import RunDirectory
from orchestrator.execute.streams import Streams
from orchestrator.execute.terminal import Terminal, take_controlling
from orchestrator.execute.tree import ProcessTree, adopt_orphans, look, sample, signal_tree
from orchestrator.execute.viewers import Viewers
from orchestrator.model import Usage

_FIRST_SAMPLE, _SAMPLE_SECONDS = 0.05, 1.0
_ENOUGH = 3
_BROKEN_OFF_SECONDS, _POLL_SECONDS = 10.0, 0.05


class Interrupted(BaseException):
    """orch was asked to stop before the program was started. `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class NotStartedError(OrchError):
    """The program could not be started: nothing ran."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: an argument list, where, with which variables, and its streams."""

    arguments: Sequence[str]
    directory: Path
    variables: Mapping[str, str]
    stdin: Path | None
    keep_open: tuple[int, ...] = ()
    one_stream: bool = False
    """Errors go where the output goes, so that the log has both in the order in which they were written."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the program ended. `exit_code` is 128+N after signal N; `stopped`: a person, or a signal to orch, asked."""

    exit_code: int
    usage: Usage
    stopped: bool = False
    reason: str | None = None
    notes: tuple[str, ...] = ()
    error: Exception | None = None
    """What went wrong inside orch, so that nobody could look after the program any more and it was ended."""


@dataclass(slots=True)
class StopRequest:
    """Set by the signal handlers; read by the loop. Until the program runs, a signal raises Interrupted at once."""

    number: int = 0
    count: int = 0
    program_runs: bool = False


def listen_for_signals() -> StopRequest:
    """From now on SIGHUP is nothing, and SIGINT and SIGTERM ask for the run's end."""
    request = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        request.number = number
        request.count += 1
        if not request.program_runs:
            raise Interrupted(number)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return request


def supervise(
    program: Program,
    directory: RunDirectory,
    *,
    stop: StopRequest,
    grace: float,
    timeout: float | None,
    viewers: Viewers,
    terminal: Terminal | None,
    born: Callable[[], None],
    started: Callable[[int], None],
    tick: Callable[[], None],
) -> Ended:
    """Start the program, wait for its end and that of all its descendants, and say how it went.

    `born` is called in the new process before it becomes the program, so that no program ever runs unrecorded;
    `started` then with its pid, `tick` about once a second. A stop request, or the end of `timeout` seconds, is
    forwarded to the process group; what still lives after `grace` seconds, or at the third request, is killed. Raises
    NotStartedError when the program can't be started; what it raises says that nothing runs. An unexpected error after
    the start ends the program and all its descendants, and stands in what is returned.
    """
    adopt_orphans()
    begin = time.monotonic()
    streams = Streams(viewers, terminal, directory.stdout)
    try:
        stop.program_runs = True
        process = _start(program, directory, terminal, born)
        loop = _Loop(ProcessTree(process.pid), directory, stop, grace, timeout, streams)
        try:
            gc.enable()
            streams.open()
            started(process.pid)
            loop.run(process, tick)
            return loop.ended(time.monotonic() - begin)
        except Exception as error:
            loop.break_off(process, error)
            return loop.ended(time.monotonic() - begin)
    finally:
        streams.close()


def _start(
    program: Program, directory: RunDirectory, terminal: Terminal | None, born: Callable[[], None]
) -> subprocess.Popen[bytes]:
    slave = terminal.slave if terminal else None

    def in_child() -> None:
        os.umask(0o022)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if slave is not None:
            take_controlling(slave)
        born()

    with ExitStack() as files:
        try:
            streams = [
                files.enter_context((program.stdin or Path(os.devnull)).open("rb")).fileno(),
                files.enter_context(directory.stdout.open("ab")).fileno(),
                files.enter_context(directory.stderr.open("ab")).fileno(),
            ]
        except OSError as error:
            raise NotStartedError(f"the program can't be started ({error.filename}: {error.strerror}).") from error
        stdin, stdout, stderr = [slave] * 3 if slave is not None else streams
        if program.one_stream:
            stderr = stdout
        try:
            return subprocess.Popen(
                program.arguments,
                cwd=program.directory,
                env=dict(program.variables),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                pass_fds=program.keep_open,
                preexec_fn=in_child,
            )
        except OSError as error:
            raise NotStartedError(f"the program can't be started ({error.filename}: {error.strerror}).") from error
        except subprocess.SubprocessError as error:
            raise NotStartedError(
                f"the program can't be started: the run directory {directory.path} can't be written."
            ) from error


@dataclass(slots=True)
class _Loop:
    """The state of a running supervision."""

    tree: ProcessTree
    directory: RunDirectory
    stop: StopRequest
    grace: float
    timeout: float | None
    streams: Streams
    status: int | None = None
    children: tuple[float, int] = (0.0, 0)
    forwarded: int = 0
    stopped_by: str | None = None
    """What asked for the end: a signal's name, or the timeout."""
    deadline: float | None = None
    killed: bool = False
    left: int = 0
    beyond: tuple[int, ...] = ()
    """The processes that still ran at the end, and that this user may not end."""
    error: Exception | None = None

    def run(self, process: subprocess.Popen[bytes], tick: Callable[[], None]) -> None:
        begin = time.monotonic()
        next_sample, next_tick, interval = begin + _FIRST_SAMPLE, begin + 1.0, _FIRST_SAMPLE
        while True:
            self._reap(process)
            if self.status is not None and self._tree_has_ended():
                break
            now = time.monotonic()
            if self.timeout is not None and now - begin >= self.timeout:
                self._stop(signal.SIGTERM, f"its timeout of {self.timeout:.10g} s")
                self.timeout = None
            self._forward_stop()
            if now >= next_sample:
                sample(self.tree)
                interval = min(2 * interval, _SAMPLE_SECONDS)  # short runs are seen too, long ones not disturbed
                next_sample = time.monotonic() + interval
            if now >= next_tick:
                tick()
                if self.streams.unwritten:
                    self.streams.write_log()
                next_tick = now + 1.0
            waits = [next_sample, next_tick, *([self.deadline] if self.deadline else [])]
            waits += [begin + self.timeout] if self.timeout is not None else []
            self.streams.serve(max(0.0, min(waits) - time.monotonic()))
        self.streams.drain()

    def break_off(self, process: subprocess.Popen[bytes], error: Exception) -> None:
        """End everything after an error of our own: no program goes on that nobody looks after."""
        self.error = error
        for number, seconds in (
            (signal.SIGTERM, min(self.grace, _BROKEN_OFF_SECONDS)),
            (signal.SIGKILL, _BROKEN_OFF_SECONDS),
        ):
            if self.status is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, number)
            end = time.monotonic() + seconds
            # Whatever went wrong may go wrong again.
            with contextlib.suppress(Exception):
                signal_tree(self.tree, number)
            while time.monotonic() < end:
                with contextlib.suppress(Exception):
                    self._reap(process)
                    if self.status is not None and not look(self.tree, afresh=True):
                        break
                time.sleep(_POLL_SECONDS)
        with contextlib.suppress(Exception):
            self.streams.drain()

    def ended(self, seconds: float) -> Ended:
        code = -signal.SIGKILL if self.status is None else os.waitstatus_to_exitcode(self.status)
        cpu, largest = self.children
        stopped = self.stopped_by
        if self.error is None and stopped is None and self.stop.count > self.forwarded:
            stopped = signal.Signals(self.stop.number).name  # the program ended before it could be told
        if stopped is None and self.streams.terminal is not None and code in (-signal.SIGINT, 128 + signal.SIGINT):
            stopped = signal.SIGINT.name  # Ctrl-C went to the program itself
        reason = None
        if self.error is not None:
            stopped = None
            code = code or OrchError.exit_code
            reason = f"ended by an error inside orch ({type(self.error).__name__}: {self.error})"
        elif stopped is not None:
            reason = f"stopped by {stopped}"
            reason += ", then killed" if self.killed else ""
        elif code < 0:
            reason = f"ended by {signal.Signals(-code).name}"
        usage = Usage(
            wall_seconds=round(seconds, 3),
            cpu_seconds=round(cpu, 3),
            peak_memory=max(self.tree.memory, largest),
            read_bytes=self.tree.read,
            written_bytes=self.tree.written,
        )
        exit_code, notes = code if code >= 0 else 128 - code, tuple(self._notes())
        return Ended(exit_code, usage, stopped is not None, reason, notes, self.error)

    def _notes(self) -> Iterator[str]:
        ended = self.left - len(self.beyond)
        if ended > 0 and self.stopped_by is None:
            yield (
                f"{ended} process{'es' * (ended > 1)} of the program still ran when it had ended; "
                f"{'they were' if ended > 1 else 'it was'} ended too."
            )
        if self.beyond:
            pids = ", ".join(map(str, self.beyond))
            yield f"what the program started as another user still runs, and can't be ended from here: process {pids}."
        if self.streams.unwritten:
            yield "the disk is full: the end of what the program printed is lost."

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Collect every ended child: the program, and adopted orphans."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            cpu, largest = self.children
            unit = 1 if os.uname().sysname == "Darwin" else 1024
            self.children = cpu + used.ru_utime + used.ru_stime, max(largest, used.ru_maxrss * unit)
            if pid == process.pid:
                self.status = status
                self.tree.reaped = True
                process.returncode = os.waitstatus_to_exitcode(status)

    def _tree_has_ended(self) -> bool:
        """After the program: whether nothing of it is left. What is left is ended, gently, then firmly."""
        has_children = _has_children()
        if has_children is False:
            return True
        alive = {process.pid for process in look(self.tree, afresh=True)}
        if self.killed and alive <= self.tree.refused:
            self.beyond = tuple(sorted(alive))
            return True
        if self.left == 0:
            self.left = len(alive)
            signal_tree(self.tree, signal.SIGTERM)
            self.deadline = self.deadline or time.monotonic() + self.grace
        return not alive and has_children is None

    def _forward_stop(self) -> None:
        if self.stop.count > self.forwarded:
            self.forwarded += 1
            self._stop(self.stop.number, signal.Signals(self.stop.number).name)
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            self.killed = True
            signal_tree(self.tree, signal.SIGKILL)
            self.deadline = now + 0.2

    def _stop(self, number: int, by: str) -> None:
        """Ask the program for its end. An impatient third request, or one that gives it no time, kills it at once."""
        self.stopped_by = self.stopped_by or by
        signal_tree(self.tree, number)
        granted = 0.0 if self.forwarded >= _ENOUGH else self.directory.granted()
        deadline = time.monotonic() + (self.grace if granted is None else granted)
        self.deadline = deadline if self.deadline is None else min(deadline, self.deadline)


def _has_children() -> bool | None:
    """Whether this process has any child, asked of the kernel; None where orphans of the program are not adopted."""
    if sys.platform != "linux":
        return None
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
