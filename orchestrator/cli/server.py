"""`orch server`: the MLflow tracking API over this ledger, for notebooks, scripts and other machines' browsers."""

from __future__ import annotations

import ipaddress
import secrets
import socket

from orchestrator import ledger
from orchestrator.cli.tell import tell
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import open_home
from orchestrator.sweep import sweep

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run_server(host: str, port: int, *, with_token: bool) -> None:
    """Serve until it is interrupted."""
    from orchestrator.tracking.serve import serve
    from orchestrator.tracking.tracker import Tracker, heal

    if not with_token and host not in _LOOPBACK:
        raise UsageError("--no-token is for this machine alone: leave --host out, or --no-token.")
    home = open_home()
    listener = _listen(host, port)
    token = secrets.token_urlsafe(24) if with_token else None
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
                hosts=_names(host, port),
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


def _names(host: str, port: int) -> frozenset[str]:
    """The values of a `Host` header that mean this server."""
    names = {"127.0.0.1", "localhost", "[::1]"}
    if host not in _LOOPBACK:
        names |= {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        with_addresses = (address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None))
        names |= {f"[{a}]" if ":" in str(a) else str(a) for a in with_addresses}
    return frozenset({f"{name}:{port}" for name in names} | (names if port == 80 else set()))


def _say(host: str, port: int, token: str | None) -> None:
    shown = socket.getfqdn() if _is_any(host) else host
    shown = f"[{shown}]" if ":" in shown else shown
    if token is None:
        print(f"http://{shown}:{port}", flush=True)
        tell("server", f"export MLFLOW_TRACKING_URI=http://{shown}:{port}")
    else:
        print(f"http://orch:{token}@{shown}:{port}", flush=True)
        tell("server", f"export MLFLOW_TRACKING_URI=http://{shown}:{port} MLFLOW_TRACKING_TOKEN={token}")
    if host not in _LOOPBACK:
        tell("note", "what is sent is not encrypted: who can read this network can read the token")
    tell("server", "Ctrl-C ends it")


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
