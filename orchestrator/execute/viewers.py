"""The viewers of a run: a socket in its directory that takes any number of them, beside the one it was started with.

The supervisor rings each at news; what is new stands in the run's files. What a viewer sends is in `terminal`. A viewer
that connects while the run is prepared waits in the backlog until the program runs, and looks at the files by itself.
POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from orchestrator import journal
from orchestrator.execute.identity import send_signal, state_of
from orchestrator.execute.rundir import RunDirectory
from orchestrator.model import ProcessIdentity

_MOST, _WAITING = 64, 64
_POLL_SECONDS = 0.01


@dataclass(slots=True)
class Viewer:
    """What a supervisor knows of one viewer: what it sent and nobody has acted on yet, and the size of its window."""

    unread: bytearray = field(default_factory=bytearray)
    window: tuple[int, int] | None = None


@dataclass(slots=True)
class Viewers:
    """Whom a supervisor talks to."""

    listener: socket.socket | None = None
    connected: dict[socket.socket, Viewer] = field(default_factory=dict)

    def add(self, viewer: socket.socket) -> None:
        """Talk to this one too."""
        viewer.setblocking(False)
        self.connected[viewer] = Viewer()

    def accept(self) -> list[socket.socket]:
        """Take those who wait. When no more can be taken nobody is ever again: they look at the files by themselves."""
        taken: list[socket.socket] = []
        while self.listener is not None:
            try:
                viewer, _ = self.listener.accept()
            except BlockingIOError:
                break
            except ConnectionAbortedError:  # who knocked has gone again
                continue
            except OSError:
                self.listener.close()
                self.listener = None
                break
            if len(self.connected) >= _MOST:
                viewer.close()
                continue
            self.add(viewer)
            taken.append(viewer)
        return taken

    def ring(self) -> None:
        """Wake everybody. One that has not heard the last bell will look anyway; one that has gone is nobody's loss."""
        for viewer in self.connected:
            with contextlib.suppress(OSError):
                viewer.send(b"\n")


@dataclass(slots=True)
class Watched:
    """What a viewer has of a run: its directory and open progress file, its supervisor, and the socket to that.

    Without a socket (`channel` is None) the files are looked at now and then. They stay readable when the directory
    is removed.
    """

    directory: RunDirectory
    progress: BinaryIO
    supervisor: ProcessIdentity | None
    channel: socket.socket | None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor, if it still lives."""
        if self.supervisor is not None:
            send_signal(self.supervisor, number)

    def is_supervised(self) -> bool:
        """Whether the supervisor lives."""
        return self.supervisor is not None and state_of(self.supervisor) == "alive"

    def wait_until_gone(self) -> None:
        """Wait for the supervisor's end: its files are closed before it is gone."""
        while self.is_supervised():
            time.sleep(_POLL_SECONDS)


def open_viewers(directory: RunDirectory) -> Viewers:
    """A socket in the run's directory for viewers; none where its file system has no sockets, or is full."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short_name(directory.socket) as name:
            listener.bind(name)
        listener.listen(_WAITING)
        listener.setblocking(False)
    except OSError:
        listener.close()
        return Viewers()
    return Viewers(listener)


def watch_from_elsewhere(directory: RunDirectory, supervisor: ProcessIdentity | None) -> Watched:
    """Connect to a run that another process has started. Raises OSError when the run has no directory any more."""
    progress = journal.open_plain(directory.progress)
    channel = socket.socket(socket.AF_UNIX)
    channel.setblocking(False)
    try:
        with _short_name(directory.socket) as name:
            channel.connect(name)
    except OSError:
        channel.close()
        return Watched(directory, progress, supervisor, None)
    channel.setblocking(True)
    return Watched(directory, progress, supervisor, channel)


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """A name that fits into a socket's address (some 100 bytes), however long the path is."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if sys.platform == "linux":
            yield f"/proc/self/fd/{folder}/{path.name}"
            return
        before = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchdir(folder)
            yield path.name
        finally:
            os.fchdir(before)
            os.close(before)
    finally:
        os.close(folder)
