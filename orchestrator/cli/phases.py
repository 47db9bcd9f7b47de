"""What a viewer reads of a run's progress, and prints of it on stderr: phases, passing counts, errors, the end."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cli.text import can_move, coloured, count_line, duration, harmless, size, wrapped
from orchestrator.report import plural

_LONG_SECONDS = 2.0
_LABEL = 14
"""Characters of a line before its text."""
_DIM = "2"
_LARGEST = 1e18
"""No number that a supervisor tells is larger."""
_WORDS, _COUNTS = ("phase", "text", "error", "traceback", "cached", "ended"), ("done", "memory", "outputs", "metrics")
_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(_WORDS, (str,)),
    **dict.fromkeys(("reason", "run"), (str, type(None))),
    **dict.fromkeys((*_COUNTS, "program", "over", "end"), (int,)),
    **dict.fromkeys(("total", "exit_code"), (int, type(None))),
    **dict.fromkeys(("seconds", "at"), (int, float)),
    "notes": (list,),
}
_NEEDED = {
    "phase": {"text"},
    "done": {"phase", "total"},
    "ended": {"run", "reason", "exit_code", "seconds", "memory", "outputs", "metrics", "notes"},
}
"""What comes with what."""


@dataclass(slots=True)
class Printed:
    """Where the printing stands."""

    unfinished: set[int] = field(default_factory=set)
    """The streams whose last line has no end, of those that may be seen where stderr is."""
    phase: tuple[str, str, float] | None = None
    """The phase that goes on, its text, and when it began, in seconds since the epoch."""
    waited: int = 0
    """The seconds that are shown of it."""
    counting: bool = False
    """The line is a passing count."""


def told(line: bytes) -> dict[str, Any] | None:
    """A line of the progress; None for what no supervisor tells: the program may write there, a disk may be full."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not all(
        _fits(value[key], types) for key, types in _TYPES.items() if key in value
    ):
        return None
    return value if all(needed <= value.keys() for key, needed in _NEEDED.items() if key in value) else None


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, list):
        return list in types and all(isinstance(item, str) for item in value)
    return isinstance(value, types) and (not isinstance(value, int | float) or abs(value) < _LARGEST)


def print_phase(line: Mapping[str, Any], printed: Printed) -> None:
    """A phase that begins."""
    text = harmless(line["text"])
    _print(line["phase"], text, printed)
    printed.phase, printed.waited = (harmless(line["phase"]), text, line.get("at", time.time())), 0


def print_note(text: str, printed: Printed) -> None:
    """Something that the user should know."""
    _print("note", text, printed)


def print_keys(text: str, printed: Printed) -> None:
    """Which keys do what, for who does not know it yet."""
    end_line(printed)
    _say(_dim(f"  {'keys':<12} {text}") + "\n")


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
        _say(f"\x1b[A\r\x1b[K{_dim(f'  {label:<12}')} {text}  {seconds:.0f} s\n")


def print_count(line: Mapping[str, Any], printed: Printed) -> None:
    """A passing count: on a terminal one line that changes, elsewhere nothing."""
    if can_move(sys.stderr):
        shown = count_line(harmless(line["phase"]), harmless(line["text"]), line["done"], line["total"])
        _say(f"\r\x1b[K{_dim(shown[:_LABEL])}{shown[_LABEL:]}")
        printed.counting = True


def print_error(line: Mapping[str, Any], printed: Printed) -> None:
    """Why there is no run, or no end of it."""
    end_line(printed)
    debug = os.environ.get("ORCH_LOG") == "debug"
    if debug and "traceback" in line:
        _say(harmless(line["traceback"]))
    _say(wrapped(f"orch: {harmless(line['error'])}", sys.stderr, 6) + "\n")
    if "traceback" in line and not debug:
        _say("ORCH_LOG=debug shows where.\n")


def print_end(line: Mapping[str, Any], printed: Printed) -> None:
    """How the run ended."""
    for note in line["notes"]:
        _print("note", note, printed)
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
        run = harmless(line["run"])
        _say(f"run {run}  again: orch replay {run}\n")


def end_line(printed: Printed) -> None:
    """Go to the beginning of a line."""
    end_count(printed)
    if printed.unfinished:
        _say("\n")
        printed.unfinished.clear()


def end_count(printed: Printed) -> None:
    """Take the count away, for what comes now."""
    if printed.counting:
        _say("\r\x1b[K")
        printed.counting = False


def write_whole(target: int, data: bytes) -> None:
    """Write all of it; a stream that somebody has made non-blocking is waited for."""
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            select.select([], [target], [])


def _print(label: str, text: str, printed: Printed) -> None:
    end_line(printed)
    label = f"  {harmless(label):<12} "
    _say(f"{_dim(label)}{wrapped(label + harmless(text), sys.stderr, len(label)).removeprefix(label)}\n")


def _say(text: str) -> None:
    write_whole(2, text.encode(sys.stderr.encoding, "backslashreplace"))


def _dim(text: str) -> str:
    return coloured(text, _DIM, sys.stderr)
