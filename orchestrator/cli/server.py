"""`orch server`: the MLflow tracking API over this ledger, for notebooks, scripts and other machines' browsers."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
import sys
import time
from pathlib import Path

from orchestrator import journal, ledger
from orchestrator.cli.tell import tell
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import open_home
from orchestrator.sweep import sweep

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TOKEN = re.compile(rb"([A-Za-z0-9_-]{32,128})\n?")
_MADE_WITHIN = 1.0
"""Seconds in which a token is written by a server that has begun at the same time."""


def run_server(host: str, port: int, *, with_token: bool) -> None:
    """Serve until it is interrupted."""
    from orchestrator.tracking.serve import serve
    from orchestrator.tracking.tracker import Tracker, heal

    if not with_token and host not in _LOOPBACK:
        raise UsageError("--no-token is for this machine alone: leave --host out, or --no-token.")
    home = open_home()
    listener = _listen(host, port)
    token = _kept_token(home.root / "server-token") if with_token else None
    port = listener.getsockname()[1]
    connection = ledger.connect(home)
    tracker = Tracker(home, connection)
    try:
        sweep(home, connection)
        heal(tracker)
        with listener:
            serve(
                tracker,
                listener,
                token=token,
                hosts=_names(host),
                ready=lambda: _say(host, port, token),
            )
    finally:
        connection.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise OrchError(f"{host}:{port} can't be listened on: {said}. Choose another with --port or --host.") from error
    return listener


def _kept_token(path: Path) -> str:
    """The token that all servers of a home have, one after another: who logs goes on when one is started again."""
    token = secrets.token_urlsafe(24)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read_token(path)
    except OSError as error:
        raise OrchError(f"{path} can't be written: {error.strerror}.") from error
    try:
        with os.fdopen(file, "w") as target:
            target.write(f"{token}\n")
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OrchError(f"{path} can't be written: {error.strerror}.") from error
    return token


def _read_token(path: Path) -> str:
    deadline = time.monotonic() + _MADE_WITHIN
    try:
        with journal.open_plain(path) as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.geteuid():
                raise _no_token(path, "belongs to another user")
            if facts.st_mode & 0o066:
                raise _no_token(path, "can be read or written by other users")
            while not (data := file.read(200)) and time.monotonic() < deadline:
                time.sleep(0.02)
    except OSError as error:
        raise _no_token(path, "can't be read" if path.is_file() and not path.is_symlink() else "is no file") from error
    found = _TOKEN.fullmatch(data)
    if found is None:
        raise _no_token(path, "holds no token")
    return found[1].decode()


def _no_token(path: Path, fault: str) -> OrchError:
    return OrchError(
        f"{path}, where orch server keeps its token, {fault}; remove it, and the next server makes a new one."
    )


def _names(host: str) -> frozenset[str]:
    """The names in a `Host` header that mean this server. Its port may be that of a tunnel to it."""
    names = {"127.0.0.1", "localhost", "[::1]"}
    if host not in _LOOPBACK:
        with_addresses = (str(address[4][0]) for address in socket.getaddrinfo(socket.gethostname(), None))
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        names |= {f"[{name}]" if ":" in name else name for name in (host.lower(), *with_addresses)}
    return frozenset(names)


def _say(host: str, port: int, token: str | None) -> None:
    shown = socket.getfqdn() if _is_any(host) else host
    shown = f"[{shown}]" if ":" in shown else shown
    print(f"http://{'' if token is None else f'orch:{token}@'}{shown}:{port}", flush=True)
    _say_whole(f"export MLFLOW_TRACKING_URI=http://{shown}:{port}")
    if token is not None:
        _say_whole(f"export MLFLOW_TRACKING_TOKEN={token}")
    if host not in _LOOPBACK:
        tell("note", "what is sent is not encrypted: who can read this network can read the token")
    tell("server", "Ctrl-C ends it")


def _say_whole(line: str) -> None:
    """A line that is to be copied, which `tell` would break on a narrow terminal; the terminal's break is none."""
    if not tell.quiet:
        print(f"  {'server':<12} {line}", file=sys.stderr)


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
