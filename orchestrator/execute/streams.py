"""What flows while a program runs: its terminal's output into the log, its viewers' keys into the terminal. POSIX only.

A program without a terminal writes its logs by itself; its viewers are only woken.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.execute.terminal import TYPED, Terminal, feed, resize, take_message
from orchestrator.execute.viewers import Viewers

_CHUNK = 1 << 16
_FULL_SECONDS, _AGAIN_SECONDS = 10.0, 0.2
"""How long a full disk is waited for when the program has ended, and how often it is tried."""
_MOST_TYPED = 1 << 20
_RING_SECONDS = 0.01
"""How often viewers are woken at most: many of them would cost more than what the program prints."""


@dataclass(slots=True)
class Streams:
    """The open ends. `unwritten` is what the program has printed and a full disk does not take: it is held back."""

    viewers: Viewers
    terminal: Terminal | None
    log_path: Path
    unwritten: bytearray = field(default_factory=bytearray)
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _wake: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _paused: set[socket.socket] = field(default_factory=set)
    """The viewers whose keys wait: the program has a lot of them to read."""
    _log: int = -1
    _is_news: bool = False
    """There is something in the log that nobody was woken for."""
    _next_ring: float = 0.0

    def open(self) -> None:
        """Begin, when the program has started. Signals end a wait from now on."""
        for end in self._wake:
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake[1].fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wake[0], selectors.EVENT_READ)
        for viewer in self.viewers.connected:
            self._selector.register(viewer, selectors.EVENT_READ)
        self._take_viewers()
        if self.viewers.listener is not None:
            self._selector.register(self.viewers.listener, selectors.EVENT_READ)
        if self.terminal is not None:
            self._log = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._selector.register(self.terminal.master, selectors.EVENT_READ)

    def serve(self, seconds: float) -> None:
        """Wait so long for anything to happen, and do what it asks for."""
        if self._is_news:
            seconds = max(0.0, min(seconds, self._next_ring - time.monotonic()))
        for key, events in self._selector.select(seconds):
            if key.fileobj is self._wake[0]:
                self._wake[0].recv(_CHUNK)
            elif key.fileobj is self.viewers.listener:
                self._take_viewers()
            elif isinstance(key.fileobj, socket.socket):
                self._hear(key.fileobj)
            elif events & selectors.EVENT_READ:
                self._copy_output()
        self._feed()
        if self._is_news and time.monotonic() >= self._next_ring:
            self._ring()

    def write_log(self) -> None:
        """Write what was printed. While the disk is full nothing more is read: the program waits, and is not ended."""
        if self.terminal is None:
            return
        with contextlib.suppress(OSError):
            while self.unwritten:
                del self.unwritten[: os.write(self._log, self.unwritten)]
        is_read = self.terminal.master in self._selector.get_map()
        if self.unwritten and is_read:
            self._selector.unregister(self.terminal.master)
        elif not self.unwritten and not is_read:
            self._selector.register(self.terminal.master, selectors.EVENT_READ)
        self._is_news = True

    def drain(self) -> None:
        """After the last process has ended: all that was printed goes into the log."""
        if self.terminal is None:
            return
        os.close(self.terminal.slave)  # with nobody at that end the read that finds nothing more says so
        self.terminal.slave = -1
        end, more = time.monotonic() + _FULL_SECONDS, True
        while more or self.unwritten:
            if not self.unwritten:
                more = self._copy_output()
            elif time.monotonic() < end:
                time.sleep(_AGAIN_SECONDS)
                self.write_log()
            else:
                break
        self._ring()

    def close(self) -> None:
        """Let go of everything but the viewers."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for end in self._wake:
            end.close()
        if self.terminal is not None:
            for number in (self._log, self.terminal.master, self.terminal.slave):
                if number >= 0:
                    os.close(number)

    def _ring(self) -> None:
        self.viewers.ring()
        self._is_news, self._next_ring = False, time.monotonic() + _RING_SECONDS

    def _take_viewers(self) -> None:
        listener = self.viewers.listener
        for viewer in self.viewers.accept():
            self._selector.register(viewer, selectors.EVENT_READ)
        if listener is not None and self.viewers.listener is None and listener in self._selector.get_map():
            self._selector.unregister(listener)

    def _hear(self, channel: socket.socket) -> None:
        try:
            data = channel.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.viewers.connected[channel].unread += data
        if data:
            self._obey(channel)
        else:
            self._forget(channel)

    def _obey(self, channel: socket.socket) -> None:
        """Do what a viewer has sent, as far as the program keeps up with its keys."""
        viewer = self.viewers.connected[channel]
        try:
            while (message := take_message(viewer.unread, keys=self._keeps_up())) is not None:
                if isinstance(message, bytes):
                    if self.terminal is not None:
                        self.terminal.pending += message
                else:
                    viewer.window = message
                    self.viewers.connected[channel] = self.viewers.connected.pop(channel)  # the newest stands last
                    self._fit()
        except ValueError:
            self._forget(channel)  # that is no viewer
            return
        if viewer.unread.startswith(TYPED) and not self._keeps_up():
            self._paused.add(channel)
            self._selector.unregister(channel)

    def _keeps_up(self) -> bool:
        return self.terminal is None or len(self.terminal.pending) < _MOST_TYPED

    def _fit(self) -> None:
        """Give the program the window that was sized last, of those who still look."""
        windows = [viewer.window for viewer in self.viewers.connected.values() if viewer.window is not None]
        if self.terminal is not None and windows:
            resize(self.terminal, windows[-1])

    def _forget(self, channel: socket.socket) -> None:
        """A viewer has gone; the run goes on."""
        if channel not in self._paused:
            self._selector.unregister(channel)
        self._paused.discard(channel)
        del self.viewers.connected[channel]
        channel.close()
        self._fit()

    def _feed(self) -> None:
        """Give the program what was typed, and hear more from those who wait when it has taken some."""
        if self.terminal is None:
            return
        if self.terminal.pending:
            feed(self.terminal)
        if self.terminal.master in self._selector.get_map():
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.terminal.pending else 0)
            if self._selector.get_key(self.terminal.master).events != wanted:
                self._selector.modify(self.terminal.master, wanted)
        if self._paused and self._keeps_up():
            for channel in list(self._paused):
                self._paused.discard(channel)
                self._selector.register(channel, selectors.EVENT_READ)
                self._obey(channel)

    def _copy_output(self) -> bool:
        """One chunk of the program's output into the log; False when there is no more."""
        assert self.terminal is not None  # noqa: S101 - registered only then
        try:
            data = os.read(self.terminal.master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the session that had the terminal is over
            data = b""
        if not data:
            if self.terminal.master in self._selector.get_map():
                self._selector.unregister(self.terminal.master)
            return False
        self.unwritten += data
        self.write_log()
        return True
