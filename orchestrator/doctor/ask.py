"""One question to a server: whether it answers, with what, how soon, and what time it has."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.request
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit

from orchestrator import __version__
from orchestrator.doctor.configuration import Found
from orchestrator.doctor.credentials import Credential

SECONDS = 2.5
"""How long a server may take for each step: to take the connection, and to answer."""

_WHO = {"User-Agent": f"orch/{__version__}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` is None where nothing did: `error` says why."""

    status: int | None
    seconds: float
    error: str = ""
    ahead: float | None = None
    """By how many seconds the server's clock is ahead of ours, to about a second."""
    is_page: bool = False
    """Whether it is a web page, as proxies send that want a login."""


def ask(url: str, found: Found, credential: Credential | None = None) -> Answer:
    """Ask for the head of an http or https `url`, by the proxies of `found`, logged in with `credential`.

    Nothing is raised. Each step may take `SECONDS`: a server that is slow at every one takes longer.
    """
    answer = _ask("HEAD", url, found, credential)
    if answer.status in (405, 501):  # a server that knows GET only
        return _ask("GET", url, found, credential)
    return answer


def _ask(method: str, url: str, found: Found, credential: Credential | None) -> Answer:
    begun = time.monotonic()
    try:
        request = _request(method, url, credential)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(_proxies(url, found)))
        with opener.open(request, timeout=SECONDS) as response:
            is_page = response.headers.get_content_type() == "text/html"
            return Answer(response.status, time.monotonic() - begun, "", _ahead(response.headers), is_page)
    except HTTPError as error:
        with error:
            return Answer(error.code, time.monotonic() - begun, ahead=_ahead(error.headers))
    except (OSError, http.client.HTTPException, ValueError) as error:
        proxy = _proxies(url, found).get(urlsplit(url).scheme)
        by = f", by the proxy {urlsplit(proxy).netloc.rpartition('@')[2]}" if proxy else ""
        return Answer(None, time.monotonic() - begun, _reason(error) + by)


def _request(method: str, url: str, credential: Credential | None) -> urllib.request.Request:
    parts = urlsplit(url)
    path = parts.path
    if credential and credential.token:
        path = f"/t/{credential.token}{path}"
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, parts.query, ""))
    request = urllib.request.Request(plain, method=method, headers=_WHO)  # noqa: S310 - the callers take http(s) only
    if credential and credential.header:
        # Where the server sends us on to another host, it does not go along.
        request.add_unredirected_header("Authorization", credential.header)
    return request


def _proxies(url: str, found: Found) -> dict[str, str]:
    return {} if _is_direct(urlsplit(url).hostname or "", found.no_proxy) else dict(found.proxies)


def _is_direct(host: str, no_proxy: tuple[str, ...]) -> bool:
    if host in ("127.0.0.1", "::1", "localhost"):
        return True
    names = [name.partition(":")[0].lstrip("*").lstrip(".") for name in no_proxy]
    return "*" in no_proxy or any(host == name or host.endswith(f".{name}") for name in names if name)


def _ahead(headers: Message) -> float | None:
    now = time.time()
    try:
        # A cache on the way passes the time on at which it got the answer, and says how long ago that was.
        return parsedate_to_datetime(headers["Date"]).timestamp() + float(headers.get("Age") or 0) - now
    except (TypeError, ValueError, KeyError):
        return None


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message})"
    if isinstance(reason, TimeoutError):
        return f"no answer within {SECONDS} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    if isinstance(reason, ValueError | http.client.InvalidURL):
        return "its address is not valid"  # the error's own words may quote it, with what is secret in it
    if isinstance(reason, http.client.HTTPException):
        return "it does not speak HTTP"
    return str(reason) or type(reason).__name__
