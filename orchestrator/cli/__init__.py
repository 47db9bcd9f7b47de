"""The command line: parse, call one function, print. Everything heavy is imported inside the commands."""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import NoReturn

from orchestrator.errors import OrchError

_NOBODY_READS = 141
"""As a shell tells SIGPIPE: whoever read our output has enough."""


def main() -> NoReturn:
    """Run `orch`, and end with its exit code: 2 for wrong usage, 125 for orch's own failures."""
    _open_missing_streams()
    gc.disable()  # a tenth of the start; who lives on (a supervisor) turns it on again
    code = _exit_code()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _NOBODY_READS
    except OSError as error:
        code = _tell(error)
    # Taking the interpreter apart takes longer (27 ms) than most of what a run adds; nothing is left to be done.
    os._exit(code)


def _open_missing_streams() -> None:
    """Put nothing in place of a closed stdin, stdout or stderr: the next file opened would take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - these are for good
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115 - as above
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115 - as above
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exit_code() -> int:
    from orchestrator.cli.app import app

    try:
        app()
    except SystemExit as ended:
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # click puts it there, and ends with 1
            return _NOBODY_READS
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else OrchError.exit_code
    except BrokenPipeError:
        return _NOBODY_READS
    except KeyboardInterrupt:
        return 130
    except (OrchError, OSError, MemoryError) as error:
        return _tell(error)
    return 0


def _tell(error: Exception) -> int:
    """Say in one sentence what went wrong; the exit code."""
    if os.environ.get("ORCH_LOG") == "debug":
        import traceback

        traceback.print_exception(error)
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename or 'standard output'}."
    from orchestrator.cli.text import harmless, wrapped

    print(wrapped(f"orch: {harmless(text)}", sys.stderr, 6), file=sys.stderr)
    return error.exit_code if isinstance(error, OrchError) else OrchError.exit_code
