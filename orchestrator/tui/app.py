"""The dashboard as a Textual app: keys become steps of the state, and each state is drawn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from textual.app import App, ComposeResult
from textual.events import Key, Resize
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from orchestrator.live import LiveRun
from orchestrator.paths import Home
from orchestrator.tui import state as states
from orchestrator.tui.canvas import Canvas
from orchestrator.tui.logtail import printable
from orchestrator.tui.look import Desk, ask, close, keep_looking
from orchestrator.tui.page import Page, paged, scrolled
from orchestrator.tui.snapshot import Log, Question, Snapshot
from orchestrator.tui.state import State
from orchestrator.tui.view import KEYS, SHORT, dashboard, epoch_now

_FOLLOWED_LINES = 2000
_LAST_WORD_SECONDS = 2.0
"""How long the terminal may take to hear that we leave, after a signal."""


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


class Dashboard(App[Leave]):
    """Live runs, history and a log. Reading is a thread's work; see `look`."""

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
        field = Input(value=self.state.filter, compact=True, placeholder="filter")
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
        page.show_lines(await _orch(*arguments))

    def follow(self) -> None:
        """The log of the run, as it grows."""
        if self.state.selected:
            run_id = self.state.selected
            self.push_screen(PageScreen("", follows=run_id), lambda _: self.become(self.state))

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
        lines = await _orch("stop", run_id)
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

    def quit(self) -> None:
        """The end."""
        self.leave(Leave(self.state))


class PageScreen(Screen[None]):
    """A text to read: as it is, or (`follows`) the log of a run that grows."""

    def __init__(self, title: str, follows: str | None = None) -> None:
        super().__init__()
        self.page = Page(f"log of {follows[:SHORT]}" if follows else title, at_end=follows is not None)
        self.follows = follows
        self.log_lines = Log()
        self.errors = False
        """Shown is stderr, not the output."""

    def compose(self) -> ComposeResult:
        """The lines."""
        yield Canvas()

    def on_mount(self) -> None:
        """For a log: ask for its lines."""
        if self.follows and isinstance(self.app, Dashboard):
            ask(self.app.desk, self.app.question())

    def show_lines(self, lines: tuple[str, ...]) -> None:
        """Another text; one that follows stays at the end where it was there."""
        self.page = replace(self.page, lines=lines)
        self._draw()

    def show_log(self, log: Log) -> None:
        """What is followed, as it is now: the output; the errors where Tab chose them, or there is nothing else."""
        self.log_lines = log
        both = bool(log.output and log.errors)
        errors = self.errors if both else bool(log.errors)
        name = "stderr" if errors else "log"
        other = ("output" if errors else "stderr") if both else ""
        self.page = replace(self.page, title=f"{name} of {(self.follows or '')[:SHORT]}", other=other)
        self.show_lines(log.errors if errors else log.output)

    def on_resize(self) -> None:
        """Another size."""
        self._draw()

    def _draw(self) -> None:
        self.page, lines = paged(self.page, self.size.width, self.size.height)
        for canvas in self.query(Canvas):
            canvas.draw(lines)

    def on_key(self, event: Key) -> None:
        """Keys that move, and those that leave."""
        event.stop()
        event.prevent_default()
        if event.key in ("q", "escape", "ctrl+c", "enter"):
            self.dismiss(None)
        elif event.key == "ctrl+z":
            self.app.action_suspend_process()
        elif event.key == "tab":
            if self.page.other:
                self.errors, self.page = not self.errors, replace(self.page, at_end=True)
                self.show_log(self.log_lines)
        else:
            self.page = scrolled(self.page, event.key, self.size.height)
            self._draw()


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
    "escape": Dashboard.clear_filter,
    "q": Dashboard.quit,
    "ctrl+c": Dashboard.quit,
    "ctrl+z": lambda app: app.action_suspend_process(),
}


async def _orch(*arguments: str) -> tuple[str, ...]:
    """What a command of orch prints. It has no terminal: whatever would ask fails instead."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "orchestrator", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()  # who waits for it would miss the loop
    return tuple(printable(line) for line in output.decode("utf-8", "replace").splitlines())


# --- in a terminal ----------------------------------------------------------------------------------------------


def show(home: Home, state: State) -> Leave:
    """Show the dashboard until it is left, and give the terminal back as it was, also when a signal ends it."""
    app = Dashboard(home, state)
    terminal = termios.tcgetattr(0)

    def end(number: int, _: FrameType | None) -> None:
        # No handler of the event loop: that may stand still with a terminal that takes no more, or is gone.
        last = threading.Timer(_LAST_WORD_SECONDS, _end_now, (128 + number, terminal))
        last.daemon = True
        last.start()
        if app.loop is None:
            _end_now(128 + number, terminal)
        else:
            app.loop.call_soon_threadsafe(app.leave, Leave(app.state, 128 + number))

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        leave = app.run(mouse=False)  # the terminal's own selection goes on working
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in (signal.SIGTSTP, signal.SIGCONT):
            signal.signal(number, signal.SIG_DFL)  # Textual's own would look for its screen
    if app.failure is not None:
        raise app.failure
    return Leave(app.state, 1) if leave is None else leave


def _end_now(code: int, terminal: list[Any]) -> None:
    """End, and give the terminal back as far as that goes without a word to it."""
    with contextlib.suppress(termios.error):
        termios.tcsetattr(0, termios.TCSANOW, terminal)
    os._exit(code)
