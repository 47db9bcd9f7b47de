"""The process that keeps the server of one run: it has the listening socket, and starts a killed server again.

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
import traceback
from typing import Any, NoReturn

_STARTS = 4
"""How often a server is started, should each be killed."""
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
        for start in range(_STARTS):
            child = os.fork()
            if child == 0:
                _serve(job, listener)
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                return
            by, again = signal.Signals(os.WTERMSIG(status)).name, start + 1 < _STARTS
            sys.stderr.write(f"it was ended by {by}{', and started again' * again}.\n")
            sys.stderr.flush()


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
