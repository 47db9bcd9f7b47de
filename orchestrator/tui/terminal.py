"""The dashboard in a terminal: signals, and what the terminal sends and gets back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import termios
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver
from textual.message import Message

from orchestrator.paths import Home
from orchestrator.tui.app import Dashboard, Leave
from orchestrator.tui.state import State

_LAST_WORD_SECONDS = 2.0
"""How long the terminal may take to hear that we leave, after a signal."""

_ESCAPE_AND_KEY = re.compile(r"\x1b(?=[^\x1b\[\]OPX^_])")
"""An Escape with something behind it that no sequence begins with: both were pressed, and came together."""

_ESCAPE = "\x1b[27u"
"""The key as terminals with the newer protocol send it, which has an end."""


class _Parser(XTermParser):
    """Textual's, which takes Escape and another key that come at once for the other key alone, or for `^` and it."""

    def feed(self, data: str) -> Iterable[Message]:
        """The events in what the terminal has sent."""
        return super().feed(_ESCAPE_AND_KEY.sub(lambda _: _ESCAPE, data))


def show(home: Home, state: State) -> Leave:
    """Show the dashboard until it is left, and give the terminal back as it was, also when a signal ends it."""
    app = Dashboard(home, state)
    # A name of Textual's own; where another version has another, Escape and a key at once are one key.
    vars(linux_driver)["XTermParser"] = _Parser
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
