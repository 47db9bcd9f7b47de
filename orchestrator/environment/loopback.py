"""Folders served over HTTP on this machine only, for the time of a call.

rattler checks no hash of an archive that it reads from a `file://` URL, and refuses `file://` mirrors. Served over
HTTP, the same folder is a mirror like any other: hashes are checked, and the channel's own URL is what is recorded.
"""

from __future__ import annotations

import http.server
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit


class Folders:
    """The served folders. Each has a name that can't be guessed: other users of the machine reach the port too."""

    def __init__(self) -> None:
        self.port = 0
        self.by_name: dict[str, Path] = {}

    def url(self, folder: Path) -> str:
        """The URL under which `folder` is served from now on."""
        for name, known in self.by_name.items():
            if known == folder:
                return f"http://127.0.0.1:{self.port}/{name}"
        name = secrets.token_urlsafe(16)
        self.by_name[name] = folder
        return f"http://127.0.0.1:{self.port}/{name}"


@contextmanager
def loopback() -> Iterator[Folders]:
    """A server on 127.0.0.1 that gives out the files of the folders named to it, and ends with the block."""
    folders = Folders()
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(folders))
    except OSError:
        # Who needs no folder needs no server; what others are told is `why_unreachable`.
        yield folders
        return
    folders.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield folders
    finally:
        server.shutdown()
        server.server_close()


def _handler(folders: Folders) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

        def _answer(self, body: bool) -> None:
            file = _open(folders, self.path)
            if file is None:
                self._head(HTTPStatus.NOT_FOUND, 0)
                return
            with file:
                import os

                facts = os.fstat(file.fileno())
                tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
                if self.headers.get("If-None-Match") == tag:
                    self._head(HTTPStatus.NOT_MODIFIED, 0, tag)
                    return
                self._head(HTTPStatus.OK, facts.st_size, tag)
                if body:
                    shutil.copyfileobj(file, self.wfile, 1 << 20)

        def _head(self, status: HTTPStatus, size: int, tag: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(size))
            if tag is not None:
                self.send_header("ETag", tag)
            self.end_headers()

    return Handler


def why_unreachable() -> str | None:
    """Why nothing on 127.0.0.1 can be reached here, as in a network namespace whose loopback is down; None: it can."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def folder_of(url: str) -> Path | None:
    """The folder that a `file://` URL names; None for any other URL."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _open(folders: Folders, request: str) -> BinaryIO | None:
    _, _, rest = unquote(urlsplit(request).path).partition("/")
    name, _, path = rest.partition("/")
    folder = folders.by_name.get(name)
    if folder is None or ".." in path.split("/") or "\0" in path:
        return None
    try:
        return (folder / path.lstrip("/")).open("rb")
    except OSError:
        return None
