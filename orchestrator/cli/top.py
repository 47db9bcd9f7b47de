"""`orch top`: the full-screen dashboard, and the replays that it is left for."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys

from orchestrator.cli.text import can_move
from orchestrator.errors import OrchError
from orchestrator.paths import open_home


def top() -> int:
    """`orch top`. Raises OrchError where there is no terminal for it, or no Textual."""
    _check_terminal()
    try:
        from orchestrator.tui.terminal import show
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise OrchError("orch top needs Textual, which is not here; get it with: pip install textual") from error
    from orchestrator.tui.state import State

    gc.enable()  # a dashboard stays for hours
    home = open_home(make=False)
    if not home.runs.is_dir():
        raise OrchError(f"there is nothing to show: {home.root} has no runs yet; orch run makes the first.")
    leave = show(home, State())
    while leave.replay is not None:
        _replay(leave.replay)
        leave = show(home, leave.state)
    return leave.code


def _check_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise OrchError("orch top needs a terminal; elsewhere orch ps and orch list tell the same.")
    if not can_move(sys.stdout):
        raise OrchError("orch top needs a terminal whose cursor can be moved, and TERM says that this one has none.")


def _replay(run_id: str) -> None:
    """`orch replay` in the foreground; Ctrl-C there is the program's."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        subprocess.run([sys.executable, "-P", "-m", "orchestrator", "replay", run_id], check=False)
        print("\nEnter goes back to orch top.", end="", file=sys.stderr, flush=True)
        sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
