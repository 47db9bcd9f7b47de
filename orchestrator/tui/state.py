"""Where one is on the dashboard: the cursor, what is marked, what is scrolled. A new state for each step; no screen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orchestrator.tui.snapshot import Question, Snapshot

_MARGIN = 2
"""Screens of rows that are read ahead, on both sides."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How many lines each part has; the titles of the parts are one more each."""

    width: int
    live: int
    history: int
    log: int


@dataclass(frozen=True, slots=True)
class State:
    """`cursor` counts through the live runs, then through the history. `selected` is the run it stands on."""

    snapshot: Snapshot = field(default_factory=lambda: Snapshot(Question()))
    width: int = 80
    height: int = 24
    cursor: int = 0
    selected: str | None = None
    live_top: int = 0
    top: int = 0
    marked: tuple[str, ...] = ()
    filter: str = ""


def layout(state: State) -> Layout:
    """The parts in `height` lines: title, live runs and history (only as high as they are many), log, keys.

    What few runs leave free is the log's.
    """
    height, lives = state.height, len(state.snapshot.live)
    live = min(lives, max(2, height // 4))
    log = 0 if height < 14 else 4 if height < 36 else 10
    used = 1 + (live + 1 if live else 0) + 1 + (log + 1 if log else 0) + 1
    history = max(1, height - used)
    spare = history - max(1, len(state.snapshot.history)) if log else 0
    return Layout(state.width, live, history - max(0, spare), log + max(0, spare))


def question_of(state: State) -> Question:
    """What has to be known to show this state."""
    parts = layout(state)
    # Of the whole screen: before the first answer nobody knows how many rows there are to show.
    margin = _MARGIN * state.height
    first = max(0, state.top - margin)
    # Coarse steps, so that not every move asks anew.
    first -= first % state.height
    return Question(state.filter, first, 2 * margin + 2 * state.height, state.selected, parts.log)


def run_at(state: State, index: int) -> str | None:
    """The id of the run at a place of the cursor."""
    live, history = state.snapshot.live, state.snapshot.history
    if index < len(live):
        return live[index].run_id if index >= 0 else None
    return history[index - len(live)] if index - len(live) < len(history) else None


def move(state: State, index: int) -> State:
    """The cursor at a place, or as near as there is one."""
    last = len(state.snapshot.live) + len(state.snapshot.history) - 1
    index = max(0, min(index, last))
    return _in_view(replace(state, cursor=index, selected=run_at(state, index)))


def page(state: State, direction: int) -> State:
    """A screen further, of the part that the cursor is in."""
    parts, lives = layout(state), len(state.snapshot.live)
    step = max(1, parts.history - 1) if state.cursor >= lives else max(1, parts.live - 1)
    return move(state, state.cursor + direction * step)


def other_part(state: State) -> State:
    """The cursor from the live runs to the first of the history that is in view, or back."""
    lives = len(state.snapshot.live)
    return move(state, lives + state.top if state.cursor < lives else state.live_top)


def seen(state: State, snapshot: Snapshot) -> State:
    """The same place in a new snapshot: the cursor stays with its run, also when that ends; without one, near by."""
    live_ids = [run.run_id for run in snapshot.live]
    index = state.cursor
    is_filtered = snapshot.question.filter != state.snapshot.question.filter
    if state.selected is None and is_filtered and index >= len(state.snapshot.live):
        index = len(live_ids)  # of the history, whatever lives with the new filter
    state = replace(state, snapshot=snapshot)
    if state.selected is not None and run_at(state, index) != state.selected:
        if state.selected in live_ids:
            index = live_ids.index(state.selected)
        elif state.selected in snapshot.history:
            index = len(live_ids) + snapshot.history.index(state.selected)
    return move(state, index)


def filtered(state: State, text: str) -> State:
    """Another filter; when the answer comes, the cursor goes to the newest run that matches. Without one, it stays."""
    if text == state.filter:
        return state
    lives = len(state.snapshot.live)
    if state.cursor < lives or not text:
        return replace(state, filter=text)
    return replace(state, filter=text, top=0, cursor=lives, selected=None)


def resized(state: State, width: int, height: int) -> State:
    """Another size of the screen."""
    return _in_view(replace(state, width=width, height=height))


def mark(state: State) -> State:
    """The run under the cursor marked, or no longer; of three the one that was marked first is let go."""
    run_id = state.selected
    if run_id is None:
        return state
    if run_id in state.marked:
        return replace(state, marked=tuple(other for other in state.marked if other != run_id))
    return replace(state, marked=(*state.marked, run_id)[-2:])


def _in_view(state: State) -> State:
    parts, lives = layout(state), len(state.snapshot.live)
    live_top = max(0, min(state.live_top, lives - parts.live))
    top = max(0, min(state.top, len(state.snapshot.history) - parts.history))
    if state.cursor < lives:
        live_top = _covering(live_top, parts.live, state.cursor)
    else:
        top = _covering(top, parts.history, state.cursor - lives)
    return replace(state, live_top=live_top, top=top)


def _covering(top: int, height: int, row: int) -> int:
    return row if row < top else max(top, row - height + 1)
