"""`orch doctor`: what was found, the worst last, for that is what stands above the prompt."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from orchestrator.cli.text import coloured, visible
from orchestrator.doctor.check import Check, Result
from orchestrator.doctor.examine import examine
from orchestrator.report import plural

_ORDER: tuple[Result, ...] = ("ok", "note", "fault")
_COLOURS: dict[Result, str] = {"ok": "32", "note": "33", "fault": "31"}
_LONGEST = 2000
_NARROWEST = 40


def doctor(*, as_json: bool, offline: bool) -> int:
    """Look at the machine and say what was found; the exit code, 1 when there is a fault."""
    checks = examine(offline=offline)
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for line in _lines(checks):
            print(line)
    return 1 if any(check.result == "fault" for check in checks) else 0


def _lines(checks: Sequence[Check]) -> Iterator[str]:
    # In a pipe what was found is one line, for grep; the advice fits the terminal that is behind it (| tail).
    columns = _columns() if sys.stdout.isatty() else sys.maxsize
    room = _columns() if sys.stdout.isatty() or sys.stderr.isatty() else sys.maxsize
    width = max((len(check.name) for check in checks), default=0)
    for check in sorted(checks, key=lambda check: _ORDER.index(check.result)):
        mark = f"{check.result:<5}"
        start = coloured(mark, _COLOURS[check.result], sys.stdout)
        first = f"{check.name:<{width}}  {visible(check.found, _LONGEST)}"
        indent = " " * (7 + width + 2)
        lines = _wrapped(first, columns - 7, indent[7:])
        yield f"{start}  {lines[0]}"
        yield from (f"       {line}" for line in lines[1:])
        if check.advice:
            yield from _wrapped(indent + visible(check.advice, _LONGEST), room, indent)
    counts = {result: sum(check.result == result for check in checks) for result in _ORDER}
    yield f"{plural(counts['fault'], 'fault')}, {plural(counts['note'], 'note')}, {counts['ok']} ok"


def _columns() -> int:
    stream = sys.stdout if sys.stdout.isatty() else sys.stderr
    return max(os.get_terminal_size(stream.fileno()).columns or 80, _NARROWEST)


def _wrapped(text: str, columns: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
