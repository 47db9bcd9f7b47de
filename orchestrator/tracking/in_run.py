"""The server of one run: started by its supervisor, it lives as long as the run's program does.

It is told what to do in a line of JSON on its standard input, and to end by any byte behind it. Should the supervisor
be killed, it goes on for the program, whose calls nobody else would answer, and ends after it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

from orchestrator import ledger
from orchestrator.execute.identity import state_of
from orchestrator.execute.tree import processes_of
from orchestrator.paths import open_home
from orchestrator.tracking.followed import follow
from orchestrator.tracking.runs import end_left
from orchestrator.tracking.serve import serve
from orchestrator.tracking.tracker import Tracker, flush


def main() -> None:
    """Read the job, and serve. The listening socket is the file descriptor that is the first argument."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    job = json.loads(_line(0))
    home = open_home()
    connection = ledger.connect(home)
    tracker = Tracker(home, connection, own=job["run_id"], may_move=job["may_move"], may_name=job["may_name"])
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        port = listener.getsockname()[1]
        hosts = frozenset({f"127.0.0.1:{port}"})
        serve(tracker, listener, token=job["token"], hosts=hosts, over=0, enough=lambda: not _lives(tracker))
    end_left(tracker)
    flush(tracker)
    connection.close()


def _line(file: int) -> bytes:
    """The first line, byte by byte: what comes behind it means the end."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(file, 1)):
        line += byte
    return line


def _lives(tracker: Tracker) -> bool:
    """Whether anything of the run's program lives."""
    run = follow(tracker.home, str(tracker.own))
    if run is None or run.record.status not in ("running", "orphaned"):
        return False
    child = run.record.child
    return (child is not None and state_of(child) == "alive") or bool(processes_of(run.record.run_id))


if __name__ == "__main__":
    try:
        main()
    except Exception:
        import traceback

        traceback.print_exc(file=sys.stderr)
        sys.exit(1)
