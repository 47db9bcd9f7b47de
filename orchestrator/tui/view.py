"""Lines of the dashboard, as text and styles. Nothing is read and nothing is drawn here.

A line is a tuple of spans: a text without control characters, and a style as rich spells it.
"""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from orchestrator.cli.text import duration, size, visible
from orchestrator.ledger.browse import PageRow
from orchestrator.live import LiveRun
from orchestrator.report import plural, project_name
from orchestrator.tui.snapshot import Log, Series
from orchestrator.tui.state import Layout, State, layout

Line = tuple[tuple[str, str], ...]

SHORT = 16
"""Digits of a run id that are shown."""

KEYS = "Enter show  f follow  s stop  r replay  Space mark  d diff  / filter  q quit"

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
_STATUS = 10
"""Cells of that column."""


def dashboard(state: State, now: float, footer: str = KEYS) -> list[Line]:
    """The whole screen, `state.height` lines of at most `state.width` cells."""
    parts = layout(state)
    lines = [_title_line(state)]
    if parts.live:
        lines += [_live_header(state, parts), *_live_lines(state, parts, now)]
    lines += [_history_header(state, parts), *_history_lines(state, parts, now)]
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


def _live_header(state: State, parts: Layout) -> Line:
    count = len(state.snapshot.live)
    place = f"{state.cursor + 1}/{count}" if state.cursor < count else str(count)
    return (
        (
            _row(
                [f"LIVE {place}" if count > parts.live else "LIVE", "TIME", "CPU", "MEMORY", "SOURCE", "METRIC"],
                parts.width,
            ),
            _FAINT,
        ),
    )


def _row(cells: Sequence[str], width: int) -> str:
    """The columns of a live run."""
    run, began, cpu, memory, source, rest = cells
    numbers = f"{began.rjust(8)} {cpu.rjust(5)} {memory.rjust(8)}"
    return f"  {_fit(run, SHORT)} {numbers}  {_fit(source, _live_width(width))}  {rest}"


def _live_width(width: int) -> int:
    return 18 if width < _WIDE else 44


def _live_lines(state: State, parts: Layout, now: float) -> Iterator[Line]:
    for index in range(state.live_top, state.live_top + parts.live):
        run = state.snapshot.live[index]
        began = run.status != "never began"
        cells = [
            run.run_id[:SHORT],
            clock(now - run.since) if began else "",
            ("-" if run.cpu_percent is None else f"{run.cpu_percent:.0f}%") if began else "",
            ("-" if run.memory is None else size(run.memory)) if began else "",
            _called(run, parts.width),
            _news(run, state.snapshot.metrics.get(run.run_id), now, parts.width),
        ]
        yield _with_cursor(_row(cells, parts.width), run.run_id, index, state, _STYLES.get(run.status, ""))


def _called(run: LiveRun, width: int) -> str:
    """Name, project and entry point; where there is little room, the project of a run with a name is left out."""
    if width < _WIDE:
        called, room = run.name or run.source, _live_width(width) - 1
        entry = visible(run.entry_point, max(room // 2, room - len(called)))
        return f"{visible(called, room - len(entry))} {entry}"
    entry = visible(run.entry_point, 16)
    project = visible(run.source) + (f"@{run.commit[:7]}" if run.commit else "")
    return f"{visible(run.name, 15)} {project} {entry}" if run.name else f"{project} {entry}"


def remark(run: LiveRun, now: float) -> str:
    """What else there is to know of a live run: its status where that is no plain `running`, where it is, its text."""
    parts: list[str] = [] if run.status == "running" else [run.status]
    if run.host:
        parts.append(f"on {visible(run.host)}")
        parts += [] if run.heard is None else [f"seen {duration(max(0.0, now - run.heard))} ago"]
    parts += [visible(run.text.partition("\n")[0], 300)] if run.text else []
    return ", ".join(parts)


def _news(run: LiveRun, metric: Series | None, now: float, width: int) -> str:
    """The remark and the last metric; where there is little room, only one of the two."""
    text = remark(run, now)
    if metric is None or (text and width < _WIDE):
        return text
    beside = 62 + _live_width(width)  # the other columns, and the value
    bars = sparkline(metric, max(4, min(40, width - beside)))
    return f"{text}{_GAP if text else ''}{bars} {metric.points[-1]:.4g} {visible(metric.name, 24)}"


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


def _history_header(state: State, parts: Layout) -> Line:
    count = len(state.snapshot.history)
    row = state.cursor - len(state.snapshot.live)
    place = f"{row + 1}/{count}" if 0 <= row < count else str(count)
    place = f"HISTORY {place}" if len(place) < 9 else place
    return ((_ended_row([place, "STATUS", "AGE", "TOOK", "SOURCE", "METRICS", "PARAMETERS"], parts.width), _FAINT),)


def _source_width(width: int) -> int:
    return 14 if width < _WIDE else 30


def _ended_row(cells: Sequence[str], width: int) -> str:
    run, status, age, took, source, metrics, params = cells
    head = _GAP.join(
        [_fit(run, SHORT), _fit(status, _STATUS), f"{age.rjust(6)} {took.rjust(8)}", _fit(source, _source_width(width))]
    )
    if width < _WIDE:
        return f"  {head}  {metrics}"
    return f"  {head}  {_fit(metrics, (width - 88) * 3 // 5)}  {params}"


def _history_lines(state: State, parts: Layout, now: float) -> Iterator[Line]:
    snapshot, lives = state.snapshot, len(state.snapshot.live)
    for index in range(state.top, state.top + parts.history):
        if index >= len(snapshot.history):
            nothing = not snapshot.history and index == state.top
            yield ((_GAP + _why_empty(state), ""),) if nothing else ()
            continue
        run_id = snapshot.history[index]
        row = snapshot.rows.get(run_id)
        status = _status(row) if row else ""
        cells = _cells_of(row, status, now, parts.width) if row else [run_id[:SHORT], *[""] * 6]
        line = _with_cursor(_ended_row(cells, parts.width), run_id, lives + index, state, "")
        yield _with_status(line, _STYLES.get(status.partition(" ")[0], ""))


def _why_empty(state: State) -> str:
    if state.snapshot.question.filter:
        return "no such runs; Escape after / shows all."
    return "no runs have ended yet." if state.snapshot.total else "no runs yet: orch run REPO makes the first."


def _with_status(line: Line, style: str) -> Line:
    """The line with its status in another style; that of the cursor stays as it is."""
    ((text, old),) = line
    begin, end = 2 + SHORT + len(_GAP), 2 + SHORT + len(_GAP) + _STATUS
    return line if old or not style else ((text[:begin], ""), (text[begin:end], style), (text[end:], ""))


def _cells_of(row: PageRow, status: str, now: float, width: int) -> list[str]:
    commit = f"@{row.commit[:7]}{'*' if row.dirty else ''}" if row.commit else ""
    project = project_name(row.url, row.subdir) + commit
    return [
        row.run_id[:SHORT],
        status,
        _age(row.started_at, now),
        "" if row.wall_seconds is None or row.status == "lost" else _took(row.wall_seconds),
        f"{visible(row.name, 15)} {visible(project)}" if row.name and width >= _WIDE else visible(row.name or project),
        " ".join(f"{visible(name, 24)}={value:.4g}" for name, value in row.metrics[:12]),
        " ".join(f"{visible(name, 24)}={visible(value, 24)}" for name, value in row.params[:12]),
    ]


def _took(seconds: float) -> str:
    return clock(seconds) if seconds >= 60 else duration(seconds)


def _status(row: PageRow) -> str:
    if row.status == "failed":
        return f"failed {row.exit_code}"
    return row.verdict if row.status == "finished" and row.verdict else row.status


def _with_cursor(text: str, run_id: str, index: int, state: State, style: str) -> Line:
    if run_id in state.marked:
        text = "*" + text[1:]
    if index == state.cursor:
        return ((text.ljust(state.width), "reverse"),)
    return ((text, style),)


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
