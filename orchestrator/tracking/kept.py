"""The process that keeps the server of one run: it has the listening socket, and starts a server again that has failed.

What a server had acknowledged is in the journals, and who asks meanwhile waits. This process has next to nothing in
memory; should it be killed itself, its server goes on alone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any, NoReturn

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds before the third start, and before each when many have failed."""
_GOOD_SECONDS = 60.0
"""A server that lived for so long was none that fails at once."""
_MOMENT_SECONDS = 0.3
"""For how long a server is not started unless somebody asks; to import MLflow takes a program longer."""


def main() -> None:
    """Read the job, a line of JSON on the standard input, and serve. The socket is the descriptor that is given."""
    # In a child run the supervisor of the parent asks everything for its end, while the program may still log.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP, signal.SIGTERM))
    job = json.loads(_line(0))
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        if _ended_soon(listener):
            return
        pause, again = 0.0, True
        while True:
            began = time.monotonic()
            child = os.fork()
            if child == 0:
                _serve(job, listener)
            _, status = os.waitpid(child, 0)
            if status == 0:
                return
            if os.WIFSIGNALED(status):  # else it has said itself what was wrong
                by = signal.Signals(os.WTERMSIG(status)).name
                sys.stderr.write(f"it was ended by {by}{', and started again' * again}.\n")
                sys.stderr.flush()
            if not again:
                return
            pause = 0.0 if time.monotonic() - began > _GOOD_SECONDS else pause
            again = _goes_on(job["run_id"], pause)
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)


def _goes_on(run_id: str, pause: float) -> bool:
    """Wait until the next server is to be started; False when that is the last one, which only brings it to its end."""
    ready = select.poll()
    ready.register(0, select.POLLIN)
    (heard,) = [event for _, event in ready.poll(int(pause * 1000))] or [0]
    if heard & select.POLLIN or not heard:
        return not heard
    time.sleep(pause)  # the supervisor was killed: that the program has ended nobody says
    from orchestrator.execute.tree import processes_of

    return bool(processes_of(run_id))


def _ended_soon(listener: socket.socket) -> bool:
    """Whether the run ends within a moment and nobody asked: it need not wait for a server that only starts yet."""
    ready = select.select([listener.fileno(), 0], [], [], _MOMENT_SECONDS)[0]
    return ready == [0] and os.read(0, 1) != b""


def _serve(job: dict[str, Any], listener: socket.socket) -> NoReturn:
    code = 1
    try:
        from orchestrator.tracking.in_run import serve_run

        serve_run(job, listener)
        code = 0
    except BaseException:  # the log is where somebody will look
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _line(file: int) -> bytes:
    """The first line, byte by byte: what comes behind it is for the server."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(file, 1)):
        line += byte
    return line


if __name__ == "__main__":
    main()
