"""`orch server` in a process of its own, and requests to it as bytes, which no client library makes better."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking.real_mlflow import plain_environ, started

ORCH = Path(sys.executable).with_name("orch")
_STARTS_WITHIN = 30


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. `folder` has its home, and the files `stdout` and `stderr`."""

    port: int
    token: str | None
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """As MLFLOW_TRACKING_URI takes it, with the token in it."""
        user = "" if self.token is None else f"orch:{self.token}@"
        return f"http://{user}127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "home"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


@contextmanager
def orch_serving(folder: Path, *options: str, home: Path | None = None) -> Iterator[Server]:
    """`orch server` with a home in `folder`, or another one; it ends with the context."""
    environ = environ_of(folder, home)
    with started([str(ORCH), "server", "--port", "0", *options], folder, environ) as process:
        port, token = _told(process, folder)
        yield Server(port, token, folder, process)


def environ_of(folder: Path, home: Path | None = None) -> dict[str, str]:
    """The variables of whoever uses the home of a server."""
    return {**plain_environ(folder), "ORCH_HOME": str(home or folder / "home"), "PYTHONUNBUFFERED": "1"}


def ask(
    server: Server,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str | None] | None = None,
    *,
    timeout: float = 30,
) -> Reply:
    """The reply to one request. `body` is JSON, or bytes; a header that is None is left out."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    told: dict[str, str | None] = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json"}
    told |= {"Content-Length": str(len(data))} if body is not None else {}
    told |= {"Authorization": f"Bearer {server.token}"} if server.token is not None else {}
    told |= {"Connection": "close", **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items() if value is not None)]
    return exchange(server, "\r\n".join([*lines, "", ""]).encode("latin-1") + data, timeout=timeout)


def exchange(server: Server, request: bytes, *, timeout: float = 30) -> Reply:
    """The reply to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has answered before it had everything
            connection.sendall(request)
        return read_reply(connection)


def read_reply(connection: socket.socket) -> Reply:
    """What a server says until it closes the connection, or has said what it announced."""
    said = b""
    while True:
        head, blank, body = said.partition(b"\r\n\r\n")
        headers = _headers(head) if blank else {}
        if blank and len(body) >= int(headers.get("content-length", sys.maxsize)):
            break
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            break
        said += piece
    assert head.startswith(b"HTTP/1.1 "), said[:300]
    return Reply(int(head.split()[1]), _headers(head), body)


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in lines}


def _told(server: subprocess.Popen[bytes], folder: Path) -> tuple[int, str | None]:
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        ended = server.poll() is not None
        if found := re.search(r"http://(?:orch:([^@\s]+)@)?[^\s/]+:(\d+)", (folder / "stdout").read_text()):
            return int(found[2]), found[1]
        if ended or time.monotonic() > deadline:
            raise AssertionError(f"orch server told no URL:\n{(folder / 'stderr').read_text(errors='replace')}")
        time.sleep(0.02)
