"""The wheels of a lock as files: kept ones, or those of the configured index, or of their own addresses.

uv fetches wheels too, but keeps only what is in them. Runs in the worker.
"""

from __future__ import annotations

import base64
import errno
import netrc
import os
import re
import shutil
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from orchestrator.environment.lock import LockedPackage, kept_wheel
from orchestrator.environment.offline import not_here
from orchestrator.environment.pypi import uv_environment
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError
from orchestrator.files import sha256_of_file
from orchestrator.paths import Home

_AT_ONCE = 4
_ATTEMPTS = 3
_SECONDS = 60
_INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")


def fetch_wheels(
    wanted: Mapping[Path, LockedPackage], aside: Path, *, home: Home, fetched: Callable[[LockedPackage], None]
) -> None:
    """Bring the wheels of pip packages, each to its path, whole and with the sha256 of the lock.

    `aside` is a folder of the same file system for what is not yet whole. `fetched` is called after each. Raises
    OrchError that names the wheel, offline all that are missing.
    """
    environ = uv_environment(home)
    places = _Places(home, tuple(_indexes(environ)), ssl.create_default_context(cafile=environ.get("SSL_CERT_FILE")))

    def one(item: tuple[int, tuple[Path, LockedPackage]]) -> str | None:
        number, (place, package) = item
        part = aside / f"{number}.part"
        reason = _brought(package, part, places)
        if reason is None:
            part.replace(place)
        return reason

    failed: dict[str, str] = {}
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for (place, package), reason in zip(wanted.items(), threads.map(one, enumerate(wanted.items())), strict=True):
            if reason is None:
                fetched(package)
            else:
                failed[place.name] = reason
    if failed and home.offline:
        raise OrchError(not_here(sorted(failed), f"as [pypi] index in {home.config}"))
    if failed:
        name = min(failed)
        raise OrchError(f"the wheel {name} can't be fetched: {failed[name]}.")


@dataclass(frozen=True, slots=True)
class _Places:
    """Where wheels are looked for, and how servers are known."""

    home: Home
    indexes: tuple[str, ...]
    tls: ssl.SSLContext


def _brought(package: LockedPackage, part: Path, places: _Places) -> str | None:
    """Write the wheel to `part`; None, or why that can't be."""
    reason: str | None = None
    for address in _addresses(package, places):
        for _ in range(_ATTEMPTS):
            try:
                with _opened(address, places) as reader, part.open("wb") as writer:
                    shutil.copyfileobj(reader, writer, 1 << 20)
            except HTTPError as error:
                reason = _refusal(error, address)
                break
            except (OSError, HTTPException, ValueError) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    raise
                reason = f"{without_credentials(address)}: {without_credentials(str(error))}"
                continue
            found = sha256_of_file(part)
            if found == package.sha256:
                return None
            reason = f"the lock says sha256 {package.sha256}, {without_credentials(address)} has {found}"
    part.unlink(missing_ok=True)
    return (
        reason or f"it was built here or read from a folder, and is not kept any more ({_kept(package, places.home)})"
    )


def _addresses(package: LockedPackage, places: _Places) -> Iterator[str]:
    """Where the wheel may be, the nearest first. What is no file is left out offline."""
    offline = places.home.offline
    if (kept := _kept(package, places.home)).is_file():
        yield kept.resolve().as_uri()
    for index in places.indexes:
        if not offline or index.startswith("file:"):
            yield from _links(package, index, places)
    if not offline and package.url.startswith(("https:", "http:")) and package.source_sha256 is None:
        yield package.url


def _kept(package: LockedPackage, home: Home) -> Path:
    return kept_wheel(home, package.sha256, package.file_name)


def _indexes(environ: Mapping[str, str]) -> list[str]:
    named = [part for name in _INDEXES for part in environ.get(name, "").split()]
    # uv takes an index with a name before it: `name=URL`.
    return list(dict.fromkeys(re.sub(r"^[\w.-]+=(?=[a-z]+:)", "", text).rstrip("/") for text in named))


def _links(package: LockedPackage, index: str, places: _Places) -> list[str]:
    """The addresses that an index (PEP 503) gives for the file of a package."""
    from packaging.utils import canonicalize_name

    page = f"{index}/{canonicalize_name(package.name)}/"
    parser = _Page()
    try:
        with _opened(f"{page}index.html" if page.startswith("file:") else page, places) as reader:
            parser.feed(reader.read().decode("utf-8", "replace"))
    except (OSError, HTTPException, ValueError):
        return []  # it has no such package, or is out of reach: the file's own address is left
    links = [urldefrag(urljoin(page, link))[0] for link in parser.links]
    schemes: tuple[str, ...] = ("file:",) if places.home.offline else ("file:", "http:", "https:")
    if not page.startswith("file:"):
        schemes = ("http:", "https:")  # a page of the network names no file of this machine
    return [
        link
        for link in links
        if link.startswith(schemes) and unquote(urlsplit(link).path).rpartition("/")[2] == package.file_name
    ]


class _Page(HTMLParser):
    """The links of a page. The method is HTMLParser's."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _opened(address: str, places: _Places) -> IO[bytes]:
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    clean = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    request = urllib.request.Request(clean, headers={"User-Agent": "orch", "Accept": "text/html, */*"})  # noqa: S310 - the schemes were checked
    if (pair := _credentials(parts.scheme, host, [address, *places.indexes])) is not None:
        # unredirected: another host gets no credentials
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    opened: IO[bytes] = urllib.request.urlopen(request, timeout=_SECONDS, context=places.tls)  # noqa: S310 - as above
    return opened


def _credentials(scheme: str, host: str, known: Sequence[str]) -> str | None:
    """`user:password` for a host: of an address that has some for it, else of the netrc file."""
    if scheme == "file":
        return None
    for parts in map(urlsplit, known):
        if parts.username and (parts.scheme, parts.netloc.rpartition("@")[2]) == (scheme, host):
            return f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host.partition(":")[0])
    except (OSError, netrc.NetrcParseError):
        return None
    return f"{found[0]}:{found[2]}" if found else None


def _refusal(error: HTTPError, address: str) -> str:
    with error:
        said = f"{without_credentials(address)}: {error.code} {error.reason}"
    hint = "; put credentials for its host into the URL of [pypi] index in config.toml, or into ~/.netrc"
    return said + hint if error.code in (401, 403) else said
