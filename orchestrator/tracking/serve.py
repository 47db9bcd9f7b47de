"""The server's process: a socket that is there already, until somebody says that it is enough."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator import __version__
from orchestrator.errors import OrchError
from orchestrator.tracking.app import make_app
from orchestrator.tracking.artifacts import remove_replaced
from orchestrator.tracking.tracker import Tracker, flush

_FLUSH_SECONDS = 0.25
_LOOK_SECONDS = 1.0
_LONGEST_HEAD = 2**20


def serve(
    tracker: Tracker,
    listener: socket.socket,
    *,
    token: str | None,
    hosts: frozenset[str],
    ready: Callable[[], None] = lambda: None,
    over: int | None = None,
    enough: Callable[[], bool] = lambda: True,
) -> None:
    """Answer until SIGTERM or SIGINT, or until a byte can be read from the file descriptor `over`.

    When that is closed without one, `enough` says when it is time. What was asked before is answered; what was taken is
    in the ledger when this returns.
    """
    app = make_app(tracker, token=token, hosts=hosts, version=__version__)
    config = uvicorn.Config(
        app,
        http=_Bounded,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    # uvicorn raises SIGTERM again when it has shut down, which must not end the process before the ledger has it all.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        asyncio.run(_serve(uvicorn.Server(config), listener, tracker, ready, over, enough))
    finally:
        flush(tracker)
        with contextlib.suppress(OrchError):
            remove_replaced(tracker, older=0)
        signal.signal(signal.SIGTERM, before)


class _Bounded(HttpToolsProtocol):
    """uvicorn's protocol, which by itself keeps a head or a trailer that has no end until the memory is full."""

    head = 0
    """Bytes that came and were no body, since the last part of a request that was whole."""

    def data_received(self, data: bytes) -> None:
        self.head += len(data)
        super().data_received(data)
        if self.head > _LONGEST_HEAD:
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        self.head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.head = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.head = 0
        super().on_body(body)


async def _serve(
    server: uvicorn.Server,
    listener: socket.socket,
    tracker: Tracker,
    ready: Callable[[], None],
    over: int | None,
    enough: Callable[[], bool],
) -> None:
    tasks = [asyncio.create_task(_keep_up(tracker)), asyncio.create_task(_say_when_ready(server, ready))]
    if over is not None:
        tasks.append(asyncio.create_task(_end_when_over(server, over, enough)))
    try:
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when it has shut down
            await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_up(tracker: Tracker) -> None:
    """Bring the ledger up now and then."""
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        with contextlib.suppress(Exception):  # the disk may have room again later; the journals have it all
            flush(tracker)
            remove_replaced(tracker)


async def _say_when_ready(server: uvicorn.Server, ready: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    ready()


async def _end_when_over(server: uvicorn.Server, over: int, enough: Callable[[], bool]) -> None:
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(over, heard.set)
    await heard.wait()
    loop.remove_reader(over)
    if not os.read(over, 1):
        while not enough():
            await asyncio.sleep(_LOOK_SECONDS)
    server.should_exit = True
