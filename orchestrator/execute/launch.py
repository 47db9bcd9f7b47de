"""The fork: one supervisor per run, in a session of its own, that outlives the terminal. POSIX only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from orchestrator.errors import OrchError
from orchestrator.execute.execute import Attachment
from orchestrator.execute.identity import identify
from orchestrator.execute.rundir import HEARTBEAT_SECONDS, ProgressWriter, RunDirectory
from orchestrator.execute.supervisor import Interrupted, listen_for_signals
from orchestrator.execute.viewers import Viewers, Watched, open_viewers
from orchestrator.fields import fields_to_json

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def launch(
    directory: RunDirectory,
    job: Callable[[Attachment], int],
    *,
    window: tuple[int, int] | None = None,
    one_stream: bool = False,
) -> Watched:
    """Fork a supervisor that does `job` and writes its exit code as the last line of the run's progress.

    `window` and `one_stream` are those of the Attachment. Call it before anything heavy is imported: what this process
    has in memory, the supervisor has for the whole run. Of its open files `job` finds none. Afterwards SIGNALS are
    blocked here, for the caller to unblock when it has its handlers. A directory in which no run began stays, with the
    error in its progress, for the one who has shown it to remove.
    """
    progress = directory.progress.open("rb")
    _say_who_supervises(directory)  # until the supervisor says it itself, it is this process
    here, there = socket.socketpair()
    # Until each of the two has its own answer to signals, none may end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    pid = os.fork()
    if pid == 0:
        here.close()
        _supervisor(directory, job, there, window, one_stream)
    there.close()
    return Watched(directory, progress, identify(pid), here)


def leave(watched: Watched) -> None:
    """Wait until the supervisor stands on its own, so that this process may end."""
    assert watched.channel is not None  # noqa: S101 - launch gives one
    watched.channel.recv(1)
    watched.channel.close()


def _supervisor(
    directory: RunDirectory,
    job: Callable[[Attachment], int],
    first: socket.socket,
    window: tuple[int, int] | None,
    one_stream: bool,
) -> NoReturn:
    code = OrchError.exit_code
    viewers = Viewers()
    progress = ProgressWriter(directory, lambda: viewers.ring())
    try:
        os.setsid()
        _leave_terminal(directory)
        _let_go_of_all_but(first.fileno())
        _say_who_supervises(directory)
        stop = listen_for_signals()
        _beat(directory)
        viewers = open_viewers(directory)
        viewers.add(first)
        progress.write({"begun": os.getpid()})
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            code = job(Attachment(directory, progress, stop, viewers, window, one_stream))
        except OrchError as error:
            code = error.exit_code
            progress.write({"error": str(error)})
        except Interrupted as interrupted:
            code = 128 + interrupted.number
            progress.write({"error": "stopped before the program was started; nothing was recorded."})
        except BaseException as error:  # the supervisor's last word: without it the viewer would know nothing
            progress.write(
                {"error": f"an error inside orch: {type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            )
    finally:
        try:
            directory.socket.unlink(missing_ok=True)
            progress.write({"end": code})
        finally:
            os._exit(0)  # also on a full disk: this process must never go on with its parent's work


def _beat(directory: RunDirectory) -> None:
    """Beat from now on, whatever this process does or waits for."""

    def beat(*_: object) -> None:
        with contextlib.suppress(OSError):
            directory.beat()

    signal.signal(signal.SIGALRM, beat)
    signal.setitimer(signal.ITIMER_REAL, HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)


def _say_who_supervises(directory: RunDirectory) -> None:
    me = identify(os.getpid())
    aside = directory.supervisor.with_suffix(".new")
    aside.write_text(json.dumps(me and fields_to_json(me)), "utf-8")
    aside.replace(directory.supervisor)


def _let_go_of_all_but(kept: int) -> None:
    """Nothing that the caller holds open, such as a lock of its own, is to be held for the whole run."""
    for number in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if number > 2 and number != kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _leave_terminal(directory: RunDirectory) -> None:
    """Nothing of orch's own may write to, or read from, a terminal that can go away."""
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(directory.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)
