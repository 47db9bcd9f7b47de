"""A text that is read over the dashboard, as a screen of Textual's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from textual.app import ComposeResult
from textual.events import Key
from textual.screen import Screen

from orchestrator.tui.canvas import Canvas
from orchestrator.tui.page import Page, paged, scrolled
from orchestrator.tui.snapshot import Log
from orchestrator.tui.view import SHORT


class PageScreen(Screen[None]):
    """A text to read: as it is, or (`follows`) the log of a run that grows. `opened` is called when it is there."""

    def __init__(
        self,
        title: str,
        lines: tuple[str, ...] | None = None,
        *,
        follows: str | None = None,
        opened: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.page = Page(f"log of {follows[:SHORT]}" if follows else title, lines, at_end=follows is not None)
        self.follows = follows
        self.opened = opened
        self.log_lines = Log()
        self.errors = False
        """Shown is stderr, not the output."""

    def compose(self) -> ComposeResult:
        """The lines."""
        yield Canvas()

    def on_mount(self) -> None:
        """Tell who opened it."""
        if self.opened is not None:
            self.opened()

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
