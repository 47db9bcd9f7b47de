"""The server of one run: started by its supervisor, it lives as long as the run's program does.

It ends by any byte on its standard input. Should the supervisor be killed, it goes on for the program, whose calls
nobody else would answer, and ends after it.
"""

from __future__ import annotations

import socket
from typing import Any

from orchestrator import ledger
from orchestrator.execute.identity import state_of
from orchestrator.execute.tree import processes_of
from orchestrator.paths import open_home
from orchestrator.tracking.followed import follow
from orchestrator.tracking.runs import end_left
from orchestrator.tracking.serve import serve
from orchestrator.tracking.tracker import Tracker, flush


def serve_run(job: dict[str, Any], listener: socket.socket) -> None:
    """Serve until the end, also in the place of a server that was killed."""
    home = open_home()
    connection = ledger.connect(home)
    tracker = Tracker(home, connection, own=job["run_id"], may_move=job["may_move"], may_name=job["may_name"])
    hosts = frozenset({f"127.0.0.1:{listener.getsockname()[1]}"})
    serve(tracker, listener, token=job["token"], hosts=hosts, over=0, enough=lambda: not _lives(tracker))
    end_left(tracker)
    flush(tracker)
    connection.close()


def _lives(tracker: Tracker) -> bool:
    """Whether anything of the run's program lives."""
    run = follow(tracker.home, str(tracker.own))
    if run is None or run.record.status not in ("running", "orphaned"):
        return False
    child = run.record.child
    return (child is not None and state_of(child) == "alive") or bool(processes_of(run.record.run_id))
