"""A channel over HTTP on loopback, with the faults that real servers have."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Literal

Kind = Literal["altered", "truncated", "missing", "unavailable", "unauthorized", "slow", "trickle", "cut"]
"""altered: a whole, valid archive with other bytes, so another sha256. truncated: half of it, with a length that says
so. missing: 404. unavailable: 503. unauthorized: 401. slow: one second late. trickle: in twenty pieces, within
a second. cut: the connection ends in the middle of the file."""


@dataclass
class ChannelServer:
    """`url` is the channel. `requests` counts GETs by path below it, as "linux-64/repodata.json"."""

    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    faults: list[list[object]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def fail(self, pattern: str, kind: Kind, times: int | None = None) -> None:
        """From now on, or for the next `times` GETs, answer paths that match the glob `pattern` with a fault."""
        self.faults.append([pattern, kind, times])

    def heal(self) -> None:
        """Forget all faults."""
        self.faults.clear()

    def next_fault(self, path: str, counted: bool) -> object:
        """The fault of this request, if any. A `counted` one is a GET: it uses up one of its `times`."""
        with self.lock:
            self.requests[path] += counted
            for fault in self.faults:
                pattern, kind, left = fault
                if fnmatch.fnmatch(path, str(pattern)) and left != 0:
                    if counted and isinstance(left, int):
                        fault[2] = left - 1
                    return kind
        return None


@contextmanager
def serve_channel(directory: Path) -> Iterator[ChannelServer]:
    """Serve the files of `directory` until the end of the block."""
    channel = ChannelServer()
    with _Server(directory, channel) as server:
        channel.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield channel
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, directory: Path, channel: ChannelServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory, self.channel = directory, channel

    def handle_error(self, *_: object) -> None: ...  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.reply(with_body=False)

    def do_GET(self) -> None:
        self.reply(with_body=True)

    def reply(self, with_body: bool) -> None:
        fault = self.server.channel.next_fault(self.path.lstrip("/"), counted=with_body)
        status, data = self.answer(self.path.lstrip("/"), fault)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body and fault == "cut":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif with_body:
            piece = len(data) // 20 + 1 if fault == "trickle" else len(data) + 1
            for start in range(0, len(data), piece):
                self.wfile.write(data[start : start + piece])
                time.sleep(0.05 if fault == "trickle" else 0)

    def answer(self, path: str, fault: object) -> tuple[int, bytes]:
        file = self.server.directory / path
        if fault == "slow":
            time.sleep(1)
        if fault == "unavailable":
            return 503, b""
        if fault == "unauthorized" and "Authorization" not in self.headers:
            return 401, b""
        if fault == "missing" or ".." in path or not file.is_file():
            return 404, b""
        data = file.read_bytes()
        if fault == "altered":
            # A comment at the end of a zip file: the archive stays whole.
            return 200, data[:-2] + b"\1\0x" if data[:2] == b"PK" else data + b"\n"
        return 200, data[: len(data) // 2] if fault == "truncated" else data
