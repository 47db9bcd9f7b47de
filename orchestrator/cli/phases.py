"""What a viewer prints on stderr of a run's progress: its phases, passing counts, errors, and its end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cli.text import can_move, coloured, count_line, duration, harmless, size, wrapped
from orchestrator.report import plural

_LONG_SECONDS = 2.0
_LABEL = 14
"""Characters of a line before its text."""
_DIM = "2"


@dataclass(slots=True)
class Printed:
    """Where the printing stands."""

    at_line_start: bool = True
    phase: tuple[str, str, float] | None = None
    """The phase that goes on, its text, and when it began, in seconds since the epoch."""
    waited: int = 0
    """The seconds that are shown of it."""
    counting: bool = False
    """The line is a passing count."""


def print_phase(line: Mapping[str, Any], printed: Printed) -> None:
    """A phase that begins."""
    text = harmless(line["text"])
    _print(line["phase"], text, printed)
    printed.phase, printed.waited = (line["phase"], text, line.get("at", time.time())), 0


def print_waiting(printed: Printed) -> None:
    """On a terminal a phase that takes long shows that it lives: the seconds it has taken."""
    if printed.phase is None or not can_move(sys.stderr):
        return
    label, text, since = printed.phase
    seconds = time.time() - since
    if int(seconds) == printed.waited:
        return
    printed.waited = int(seconds)
    fits = len(text) + 24 < os.get_terminal_size(2).columns  # a line that was broken could not be written again
    if seconds >= _LONG_SECONDS and fits and not printed.counting:
        sys.stderr.write(f"\x1b[A\r\x1b[K{_dim(f'  {label:<12}')} {text}  {seconds:.0f} s\n")
        sys.stderr.flush()


def print_count(line: Mapping[str, Any], printed: Printed) -> None:
    """A passing count: on a terminal one line that changes, elsewhere nothing."""
    if can_move(sys.stderr):
        shown = count_line(line["phase"], line["text"], line["done"], line["total"])
        sys.stderr.write(f"\r\x1b[K{_dim(shown[:_LABEL])}{shown[_LABEL:]}")
        sys.stderr.flush()
        printed.counting = True


def print_error(line: Mapping[str, Any], printed: Printed) -> None:
    """Why there is no run, or no end of it."""
    end_line(printed)
    debug = os.environ.get("ORCH_LOG") == "debug"
    if debug and "traceback" in line:
        sys.stderr.write(line["traceback"])
    sys.stderr.write(wrapped(f"orch: {harmless(line['error'])}", sys.stderr, 6) + "\n")
    if "traceback" in line and not debug:
        sys.stderr.write("ORCH_LOG=debug shows where.\n")
    sys.stderr.flush()


def print_end(line: Mapping[str, Any], printed: Printed) -> None:
    """How the run ended."""
    for note in line["notes"]:
        _print("note", harmless(note), printed)
    facts = [
        duration(line["seconds"]),
        f"{size(line['memory'])} peak",
        plural(line["outputs"], "output"),
        plural(line["metrics"], "metric"),
    ]
    if line["reason"]:
        facts.insert(0, line["reason"])
    elif line["exit_code"]:
        facts.insert(0, f"exit code {line['exit_code']}")
    _print(line["ended"], ", ".join(facts), printed)
    if line["run"] is not None:
        sys.stderr.write(f"run {line['run']}  again: orch replay {line['run']}\n")
        sys.stderr.flush()


def end_line(printed: Printed) -> None:
    """Go to the beginning of a line."""
    end_count(printed)
    if not printed.at_line_start:
        sys.stderr.write("\n")
        sys.stderr.flush()
        printed.at_line_start = True


def end_count(printed: Printed) -> None:
    """Take the count away, for what comes now."""
    if printed.counting:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
        printed.counting = False


def _print(label: str, text: str, printed: Printed) -> None:
    end_line(printed)
    label = f"  {label:<12} "
    sys.stderr.write(f"{_dim(label)}{wrapped(label + text, sys.stderr, len(label)).removeprefix(label)}\n")
    sys.stderr.flush()


def _dim(text: str) -> str:
    return coloured(text, _DIM, sys.stderr)
