"""Lines of the dashboard, as text and styles. Nothing is read and nothing is drawn here.

A line is a tuple of spans: a text without control characters, and a style as rich spells it.
"""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from orchestrator.cli.text import (
    Column,
    duration,
    end_of_path,
    first_pairs,
    fitted,
    size,
    status_of,
    telling_first,
    visible,
)
from orchestrator.elsewhere import seen_on
from orchestrator.ledger.browse import PageRow
from orchestrator.live import LiveRun
from orchestrator.report import plural, project_name
from orchestrator.tui.snapshot import Log, Series
from orchestrator.tui.state import Layout, State, layout

Line = tuple[tuple[str, str], ...]

SHORT = 16
"""Digits of a run id that are shown."""

KEYS = "Enter show  f follow  s stop  r replay  d diff  / filter  ? keys  q quit"

ALL_KEYS = (
    "Up, Down     move; also k and j, PageUp and PageDown, Home and End",
    "Tab          from the live runs to the history, and back",
    "Enter        show the run",
    "f            follow its log",
    "s            stop it; asks first",
    "r            replay it; asks first",
    "Space        mark it, for d",
    "d            what differs between the two that are marked",
    "/            filter while you type: each word in id, name, status, source, commit, experiment or a parameter",
    "Enter        in the filter: back to the runs that match",
    "Escape       all runs again",
    "Ctrl-Z       suspend; fg comes back",
    "q, Ctrl-C    quit",
)

_BARS = "▁▂▃▄▅▆▇█"
_WIDE = 120
_STYLES = {
    "failed": "red",
    "lost": "red",
    "differs": "yellow",
    "stopped": "yellow",
    "orphaned": "yellow",
    "never began": "red",
    "reproduced": "green",
}
_TITLE = "bold"
_FAINT = "dim"
_GAP = "  "
_FEWEST_BARS = 4


def dashboard(state: State, now: float, footer: str = KEYS) -> list[Line]:
    """The whole screen, `state.height` lines of at most `state.width` cells."""
    parts = layout(state)
    lines = [_title_line(state)]
    if parts.live:
        lines += _live_lines(state, parts, now)
    lines += _history_lines(state, parts, now)
    if parts.log:
        lines += _log_lines(state, parts, now)
    # A long note takes the place of what stands above it; the keys are cut.
    notes = [KEYS] if footer == KEYS else textwrap.wrap(footer, max(1, state.width))
    lines = lines[: max(0, state.height - len(notes))]
    lines += [((note, _FAINT if footer == KEYS else _TITLE),) for note in notes]
    return [cut(line, state.width) for line in lines[: state.height]]


def cut(line: Line, width: int) -> Line:
    """A line without what is beyond `width` cells."""
    kept = []
    for text, style in line:
        length = cell_len(text)
        if width > 0 and length > 0:
            kept.append((text if length <= width else _fit(text, width), style))
        width -= length
    return tuple(kept)


def _fit(text: str, width: int) -> str:
    """A text in exactly `width` cells, one at least."""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _title_line(state: State) -> Line:
    snapshot = state.snapshot
    facts = [f"{snapshot.alive} live", plural(snapshot.total, "run")]
    if state.filter:
        facts.append(f"{len(snapshot.live) + len(snapshot.history)} with: {visible(state.filter)}")
    if state.marked:
        facts.append(f"marked: {' '.join(run_id[:SHORT] for run_id in state.marked)}")
    line: Line = (("orch top", _TITLE), (_GAP + ", ".join(facts), ""))
    return (*line, (_GAP + visible(snapshot.error, 300), "red")) if snapshot.error else line


# --- live runs --------------------------------------------------------------------------------------------------

_LIVE = (
    Column("LIVE", None),
    Column("numbers", None),
    Column("NAME", 3),
    Column("SOURCE", 2, end_of_path),
    Column("ENTRY", 0),
    Column("METRIC", None),
)
_NEWS = 14
"""Cells that the last column has at least."""


def _live_lines(state: State, parts: Layout, now: float) -> Iterator[Line]:
    snapshot = state.snapshot
    count = len(snapshot.live)
    place = f"{state.cursor + 1}/{count}" if state.cursor < count else str(count)
    title = f"LIVE {place}" if count > parts.live else "LIVE"
    header = [title, _numbers("TIME", "CPU", "MEMORY"), "NAME", "SOURCE", "ENTRY", "METRIC"]
    rows = [_live_cells(run, now, parts.width) for run in snapshot.live]
    columns = [replace(column, header=text) for column, text in zip(_LIVE, header, strict=True)]
    widths = _fitted(columns, rows, parts.width)
    room = parts.width - sum(widths[i] + len(_GAP) for i in widths if i != len(columns) - 1) - len(_GAP)
    widths[len(columns) - 1] = max(1, room)
    yield ((_GAP + _GAP.join(_joined(columns, header, widths)), _FAINT),)
    for index in range(state.live_top, state.live_top + parts.live):
        run = snapshot.live[index]
        news = _news(run, snapshot.metrics.get(run.run_id), now, room)
        text = _GAP + _GAP.join(_joined(columns, [*rows[index][:-1], news], widths))
        yield _with_cursor([(text, _STYLES.get(run.status, ""))], run.run_id, index, state)


def _live_cells(run: LiveRun, now: float, width: int) -> list[str]:
    began = run.status != "never began"
    numbers = _numbers(
        clock(now - run.since) if began else "",
        ("-" if run.cpu_percent is None else f"{run.cpu_percent:.0f}%") if began else "",
        ("-" if run.memory is None else size(run.memory)) if began else "",
    )
    commit = f"@{run.commit[:7]}" if run.commit and width >= _WIDE else ""
    entry = "" if run.entry_point == "main" else visible(run.entry_point, 16)
    return [run.run_id[:SHORT], numbers, visible(run.name or ""), visible(run.source) + commit, entry, "-" * _NEWS]


def _numbers(began: str, cpu: str, memory: str) -> str:
    return f"{began.rjust(8)} {cpu.rjust(5)} {memory.rjust(8)}"


def remark(run: LiveRun, now: float) -> str:
    """What else there is to know of a live run: its status where that is no plain `running`, where it is, its text."""
    parts: list[str] = [] if run.status == "running" else [run.status]
    if run.host:
        host = visible(run.host)
        parts.append(f"on {host}" if run.heard is None else seen_on(host, max(0.0, now - run.heard)))
    parts += [visible(run.text.partition("\n")[0], 300)] if run.text else []
    return ", ".join(parts)


def _news(run: LiveRun, metric: Series | None, now: float, room: int) -> str:
    """The remark and the last metric with its course; where there is little room, only one of the two."""
    text = remark(run, now)
    if metric is None:
        return text
    said = f"{metric.points[-1]:.4g} {visible(metric.name, 24)}"
    left = room - len(said) - 1 - (cell_len(text) + len(_GAP) if text else 0)
    if text and left < 0:
        return text
    bars = f"{sparkline(metric, min(40, left))} " if left >= _FEWEST_BARS else ""
    return f"{text}{_GAP if text else ''}{bars}{said}"


def sparkline(series: Series, width: int) -> str:
    """The last points of a metric as bars between their least and their greatest; a gap for what is no number."""
    points = series.points[-width:]
    finite = [p for p in points if math.isfinite(p)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return "".join(_BARS[3] if math.isfinite(p) else " " for p in points)
    return "".join(_BARS[round((p - low) / span * 7)] if math.isfinite(p) else " " for p in points)


# --- history ----------------------------------------------------------------------------------------------------

_HISTORY = (
    Column("HISTORY", None),
    Column("NAME", 3),
    Column("STATUS", None),
    Column("   AGE", 1),
    Column("    TOOK", 0),
    Column("SOURCE", 2, end_of_path),
    Column("METRICS", 4, first_pairs),
    Column("PARAMETERS", 5, first_pairs),
)
_STATUS = 2
"""Which of them has the status."""


def _history_lines(state: State, parts: Layout, now: float) -> Iterator[Line]:
    snapshot, lives = state.snapshot, len(state.snapshot.live)
    count, row = len(snapshot.history), state.cursor - lives
    place = f"{row + 1}/{count}" if 0 <= row < count else str(count)
    columns = [replace(_HISTORY[0], header=f"HISTORY {place}" if len(place) < 9 else place), *_HISTORY[1:]]
    # All rows that are known, also those that are not in view: so the columns rarely move.
    cells = _cells(snapshot.rows, now, parts.width)
    widths = _fitted(columns, list(cells.values()), parts.width)
    yield ((_GAP + _GAP.join(_joined(columns, [column.header for column in columns], widths)), _FAINT),)
    for index in range(state.top, state.top + parts.history):
        if index >= count:
            nothing = not count and index == state.top
            yield ((_GAP + _why_empty(state), ""),) if nothing else ()
            continue
        run_id = snapshot.history[index]
        found = cells.get(run_id) or [run_id[:SHORT], *[""] * (len(columns) - 1)]
        before, status, after = _around(_STATUS, _joined(columns, found, widths), widths)
        style = _STYLES.get(found[_STATUS].partition(" ")[0].rstrip(","), "")
        yield _with_cursor([(_GAP + before, ""), (status, style), (after, "")], run_id, lives + index, state)


def _why_empty(state: State) -> str:
    if state.snapshot.question.filter:
        return "no such runs; Escape shows all."
    return "no runs have ended yet." if state.snapshot.total else "no runs yet: orch run REPO makes the first."


def _cells(rows: Mapping[str, PageRow], now: float, width: int) -> dict[str, list[str]]:
    metrics, params = (
        telling_first([dict(pairs) for pairs in of_runs])
        for of_runs in ([row.metrics for row in rows.values()], [row.params for row in rows.values()])
    )
    return {run_id: _cells_of(row, metrics, params, now, width) for run_id, row in rows.items()}


def _cells_of(row: PageRow, metrics: Sequence[str], params: Sequence[str], now: float, width: int) -> list[str]:
    commit = f"@{row.commit[:7]}{'*' if row.dirty else ''}" if row.commit and width >= _WIDE else ""
    last, given = dict(row.metrics), dict(row.params)
    return [
        row.run_id[:SHORT],
        visible(row.name or "", 24),
        status_of(row.status, row.exit_code, row.verdict, uncompared=row.is_uncompared, varies=row.varies),
        _age(row.started_at, now).rjust(6),
        ("" if row.wall_seconds is None or row.status == "lost" else _took(row.wall_seconds)).rjust(8),
        visible(project_name(row.url, row.subdir)) + commit,
        " ".join(f"{visible(name, 24)}={last[name]:.4g}" for name in metrics if name in last),
        " ".join(f"{visible(name, 24)}={visible(given[name], 24)}" for name in params if name in given),
    ]


def _took(seconds: float) -> str:
    return clock(seconds) if seconds >= 60 else duration(seconds)


# --- columns ----------------------------------------------------------------------------------------------------


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """The widths of those columns that have room, and something to say in any row."""
    said = [i for i, column in enumerate(columns) if column.telling is None or any(row[i].strip() for row in rows)]
    found = fitted([columns[i] for i in said], [[row[i] for i in said] for row in rows], width - len(_GAP), cell_len)
    return {said[i]: wide for i, wide in found.items()}


def _joined(columns: Sequence[Column], cells: Sequence[str], widths: Mapping[int, int]) -> list[str]:
    """A row's texts, in the cells that they have."""
    return [_fit(columns[i].shortened(cells[i], width), width) for i, width in widths.items()]


def _around(column: int, texts: Sequence[str], widths: Mapping[int, int]) -> tuple[str, str, str]:
    """The texts before a column, with the gap behind them, its own, and those after it."""
    place = list(widths).index(column)
    return (
        "".join(text + _GAP for text in texts[:place]),
        texts[place],
        "".join(_GAP + text for text in texts[place + 1 :]),
    )


def _with_cursor(spans: Sequence[tuple[str, str]], run_id: str, index: int, state: State) -> Line:
    (first, style), *rest = spans
    if run_id in state.marked:
        first = "*" + first[1:]
    if index == state.cursor:
        return (("".join([first, *(text for text, _ in rest)]).ljust(state.width), "reverse"),)
    return ((first, style), *rest)


# --- log, times -------------------------------------------------------------------------------------------------


def _log_lines(state: State, parts: Layout, now: float) -> list[Line]:
    run_id, snapshot = state.selected, state.snapshot
    title = f"LOG OF {run_id[:SHORT]}" if run_id else "LOG"
    title += "".join(_GAP + remark(run, now) for run in snapshot.live if run.run_id == run_id)
    log = snapshot.log if snapshot.question.log_of == run_id else Log()
    body: list[Line] = [((_GAP + line, ""),) for line in log.output]
    if log.errors:
        room = parts.log - 1
        below = min(len(log.errors), max((room + 1) // 2, room - len(log.output)))
        body = [*body[max(0, len(body) - room + below) :], ((f"{_GAP}── stderr ".ljust(parts.width, "─"), _FAINT),)]
        body += [((_GAP + line, ""),) for line in log.errors[-below:]]
    body = body[-parts.log :]
    return [((_GAP + title, _FAINT),), *body, *[()] * (parts.log - len(body))]


def clock(seconds: float) -> str:
    """A length of time as a clock counts it: 0:07, 2:05, 3:07:12, 2d 03h."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02d}h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _age(text: str, now: float) -> str:
    """How long ago an RFC 3339 time was, in six characters at most."""
    try:
        seconds = max(0.0, now - datetime.fromisoformat(text).timestamp())
    except ValueError:
        return "?"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def epoch_now() -> float:
    """The time in seconds since the epoch."""
    return time.time()
