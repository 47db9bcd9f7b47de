"""The dashboard as a Textual app: keys become steps of the state, and each state is drawn."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from textual.app import App, ComposeResult
from textual.events import Key, Resize
from textual.message import Message
from textual.widgets import Input

from orchestrator.live import LiveRun
from orchestrator.paths import Home
from orchestrator.tui import state as states
from orchestrator.tui.canvas import Canvas
from orchestrator.tui.look import Desk, ask, close, keep_looking
from orchestrator.tui.page_screen import PageScreen
from orchestrator.tui.snapshot import Question, Snapshot
from orchestrator.tui.state import State
from orchestrator.tui.subcommand import orch
from orchestrator.tui.view import ALL_KEYS, KEYS, SHORT, dashboard, epoch_now

_FOLLOWED_LINES = 2000


@dataclass(frozen=True, slots=True)
class Leave:
    """Why the dashboard ended: with an exit code, or to replay a run and come back to `state`."""

    state: State
    code: int = 0
    replay: str | None = None


class Told(Message):
    """The reader has looked."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class Filter(Input):
    """The field for the filter. Its keys are the dashboard's first: those behind an Escape may be here already."""

    def on_key(self, event: Key) -> None:
        """Give the key to the dashboard."""
        if isinstance(self.app, Dashboard):
            self.app.on_key(event)


class Dashboard(App[Leave], inherit_bindings=False):
    """Live runs, history and a log. Reading is a thread's work; see `look`.

    Textual's own keys are left out: its Ctrl-Q would quit, and often follows a Ctrl-P that meant `orch replay`.
    """

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    CSS = """
    Screen { background: ansi_default; color: ansi_default; overflow: hidden; }
    Input { dock: bottom; height: 1; border: none; padding: 0; background: ansi_default; color: ansi_default; }
    Input:focus { border: none; }
    """

    def __init__(self, home: Home, state: State) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.animation_level = "none"
        self.home = home
        self.state = state
        self.desk = Desk(states.question_of(state))
        self.loop: asyncio.AbstractEventLoop | None = None
        self.failure: Exception | None = None
        """What went wrong in the reader's thread, that nobody had thought of."""
        self.note = ""
        self.asked: Callable[[], None] | None = None
        """What is done at the answer y, while a question stands in the last line."""

    # --- start and end ------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """The lines, and the field for the filter, which is seen only while one types."""
        yield Canvas()
        field = Filter(value=self.state.filter, compact=True, placeholder="filter")
        field.display = False
        yield field

    def on_mount(self) -> None:
        """Begin to look."""
        self.loop = asyncio.get_running_loop()
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))  # what was shown is gone
        threading.Thread(target=self._look, name="orch-look", daemon=True).start()
        self.screen.set_focus(None)

    def _look(self) -> None:
        try:
            keep_looking(self.home, self.desk, self._tell)
        except Exception as error:
            # While we leave, there may be nobody any more to tell.
            if not self.desk.closed and self.loop is not None:
                self.failure = error
                self.loop.call_soon_threadsafe(self.leave, Leave(self.state, 1))

    def _tell(self, snapshot: Snapshot) -> None:
        if not self.desk.closed:
            self.post_message(Told(snapshot))

    def leave(self, leave: Leave) -> None:
        """End the dashboard."""
        close(self.desk)
        self.exit(leave)

    # --- what is shown ------------------------------------------------------------------------------------------

    def on_told(self, told: Told) -> None:
        """Show what was seen, unless the filter is another one by now."""
        if told.snapshot.question.filter != self.state.filter:
            return
        page = self._page()
        if page is not None and page.follows == told.snapshot.question.log_of and page.follows is not None:
            page.show_log(told.snapshot.log)
        self.become(states.seen(self.state, told.snapshot))

    def on_resize(self, event: Resize) -> None:
        """Another size."""
        self.become(states.resized(self.state, event.size.width, event.size.height))

    def become(self, state: State) -> None:
        """Be in this state, show it, and ask for what it needs."""
        self.state = state
        ask(self.desk, self.question())
        footer = self.note or KEYS
        self.screen_stack[0].query_one(Canvas).draw(dashboard(state, epoch_now(), footer))

    def question(self) -> Question:
        """What has to be known now."""
        question, page = states.question_of(self.state), self._page()
        if page is None or page.follows is None:
            return question
        return replace(question, log_of=page.follows, log_lines=_FOLLOWED_LINES)

    def _page(self) -> PageScreen | None:
        return self.screen if isinstance(self.screen, PageScreen) else None

    def _say(self, text: str) -> None:
        self.note = text
        self.become(self.state)

    # --- keys ---------------------------------------------------------------------------------------------------

    def on_key(self, event: Key) -> None:
        """A key that no field took, or that was typed before there was the field, or the page, that it is meant for."""
        if (page := self._page()) is not None:
            page.on_key(event)
            return
        field = self.query_one(Input)
        if self.asked is not None:
            self._answered(event.character)
        elif event.key in _MOVES:
            self.note = ""
            self.become(_MOVES[event.key](self.state))
        elif field.display:
            if event.key in ("escape", "enter"):
                self._end_filter(field, event.key)
            elif event.is_printable and event.character:
                field.insert_text_at_cursor(event.character)
            else:
                return
        elif event.key in _KEYS:
            self.note = ""
            _KEYS[event.key](self)
            self.become(self.state)
        else:
            return
        event.stop()
        event.prevent_default()

    def _answered(self, key: str | None) -> None:
        asked, self.asked = self.asked, None
        self._say("")
        if key in ("y", "Y") and asked is not None:
            asked()

    def begin_filter(self) -> None:
        """Show the field for the filter."""
        field = self.query_one(Input)
        field.display = True
        self.screen.set_focus(field)

    def _end_filter(self, field: Input, key: str) -> None:
        field.display = False
        self.screen.set_focus(None)
        if key == "escape":
            field.value = ""

    def clear_filter(self) -> None:
        """All runs again."""
        self.query_one(Input).value = ""

    def on_input_changed(self, event: Input.Changed) -> None:
        """The filter works while one types."""
        self.become(states.filtered(self.state, event.value))

    def on_input_submitted(self) -> None:
        """The filter stays, the field goes."""
        self._end_filter(self.query_one(Input), "enter")

    # --- actions ------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """Mark the run, and go on to the next."""
        self.state = states.move(states.mark(self.state), self.state.cursor + 1)

    def show_run(self) -> None:
        """The text of `orch show`."""
        if self.state.selected:
            self._open(self.state.selected[:SHORT], "show", self.state.selected)

    def diff(self) -> None:
        """The text of `orch diff`."""
        if len(self.state.marked) != 2:
            self.note = "d compares two runs: mark them with Space"
            return
        one, other = sorted(self.state.marked)  # from the older to the newer
        self._open(f"from {one[:SHORT]} to {other[:SHORT]}", "diff", one, other)

    def _open(self, title: str, *arguments: str) -> None:
        page = PageScreen(title)
        self.push_screen(page)
        page.run_worker(self._fill(page, *arguments))

    async def _fill(self, page: PageScreen, *arguments: str) -> None:
        page.show_lines(await orch(*arguments))

    def follow(self) -> None:
        """The log of the run, as it grows."""
        if self.state.selected:
            run_id = self.state.selected
            page = PageScreen("", follows=run_id, opened=lambda: ask(self.desk, self.question()))
            self.push_screen(page, lambda _: self.become(self.state))

    def _live_run(self) -> LiveRun | None:
        return next((run for run in self.state.snapshot.live if run.run_id == self.state.selected), None)

    def stop_run(self) -> None:
        """Ask, then `orch stop`."""
        run = self._live_run()
        if run is None:
            self.note = "s stops a live run; this one has ended" if self.state.selected else "there is no run to stop"
            return
        self.asked = lambda: self._stop(run.run_id)
        self.note = f"stop run {run.run_id[:SHORT]}? y/n"

    def _stop(self, run_id: str) -> None:
        self._say(f"stopping {run_id[:SHORT]}")
        self.run_worker(self._stopped(run_id))

    async def _stopped(self, run_id: str) -> None:
        lines = await orch("stop", run_id)
        self._say(lines[-1] if lines else f"stopped {run_id[:SHORT]}")

    def replay(self) -> None:
        """Ask, then leave, to run `orch replay` in the terminal."""
        run, run_id = self._live_run(), self.state.selected
        if run is not None:
            what = "never began" if run.status == "never began" else f"is {run.status}"
            self.note = f"r replays a run that has ended; this one {what}"
        elif run_id:
            self.asked = lambda: self.leave(Leave(self.state, replay=run_id))
            self.note = f"replay run {run_id[:SHORT]} now? y/n"

    def show_keys(self) -> None:
        """What each key does."""
        self.push_screen(PageScreen("keys", ALL_KEYS))

    def quit(self) -> None:
        """The end."""
        self.leave(Leave(self.state))


_MOVES: dict[str, Callable[[State], State]] = {
    "up": lambda s: states.move(s, s.cursor - 1),
    "down": lambda s: states.move(s, s.cursor + 1),
    "pageup": lambda s: states.page(s, -1),
    "pagedown": lambda s: states.page(s, 1),
}

_KEYS: dict[str, Callable[[Dashboard], None]] = {
    "k": lambda app: app.become(_MOVES["up"](app.state)),
    "j": lambda app: app.become(_MOVES["down"](app.state)),
    "home": lambda app: app.become(states.move(app.state, 0)),
    "end": lambda app: app.become(states.move(app.state, sys.maxsize)),
    "tab": lambda app: app.become(states.other_part(app.state)),
    "enter": Dashboard.show_run,
    "f": Dashboard.follow,
    "s": Dashboard.stop_run,
    "r": Dashboard.replay,
    "space": Dashboard.mark,
    "d": Dashboard.diff,
    "slash": Dashboard.begin_filter,
    "question_mark": Dashboard.show_keys,
    "escape": Dashboard.clear_filter,
    "q": Dashboard.quit,
    "ctrl+c": Dashboard.quit,
    "ctrl+z": lambda app: app.action_suspend_process(),
}
