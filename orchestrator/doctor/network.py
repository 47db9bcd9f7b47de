"""The servers and folders that packages come from: whether each can be reached, and what time they have."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.doctor.ask import Answer, ask
from orchestrator.doctor.check import Check, fault, note, ok
from orchestrator.doctor.configuration import Found
from orchestrator.doctor.credentials import Known
from orchestrator.environment.host import current_subdir
from orchestrator.environment.loopback import folder_of, why_unreachable
from orchestrator.environment.redact import without_credentials
from orchestrator.paths import Home

_WRONG_LOGIN = "They are wrong, or no longer valid: get new ones."
_NO_LOGIN = (
    "Put some for its host into rattler's auth file (RATTLER_AUTH_FILE, or authentication-override-file in the "
    'configuration), as {"host": {"BearerToken": "..."}}, or into ~/.netrc. (A keyring was not opened.)'
)
_NO_TRUST = (
    "If orch env search python finds some, all is well, for rattler has certificates of its own. Else name your "
    "site's, as SSL_CERT_FILE."
)
_CHANNEL = "channel "
_CLOCK_NOTE, _CLOCK_FAULT = 60.0, 3600.0

Look = tuple[str, Callable[[], Iterator[Check]]]


def looks(home: Home, found: Found, known: Known, clocks: list[float]) -> tuple[Look, ...]:
    """A look at each place of each channel, at the package index and at the proxies.

    What servers say of the time is added to `clocks`: by how many seconds each is ahead of this machine.
    """
    places = _channels(found)
    names = _names(places)
    channels = [
        (names[url], partial(_place, home, names[url], place, found, known, clocks))
        for url in places
        for place in places[url]
        if not home.offline or place.startswith("file:")
    ]
    here: tuple[Look, ...] = (("loopback", _loopback),)
    if home.offline:
        return (*channels, *here)
    return (*channels, ("package index", lambda: _index(home)), ("proxies", lambda: _proxies(found)), *here)


def spared(checks: Sequence[Check]) -> list[Check]:
    """`checks`, in which a dead mirror is a note where the same channel has another that answers."""
    well = {check.name for check in checks if check.name.startswith(_CHANNEL) and check.result == "ok"}
    spared = "Its other places answer, and are used."
    return [
        note(check.name, check.found, f"{spared} {check.advice}")
        if check.result == "fault" and check.name in well
        else check
        for check in checks
    ]


def clock(clocks: list[float]) -> Iterator[Check]:
    """This machine's clock, against that of the server which is nearest to it."""
    if not clocks:
        return
    ahead = min(clocks, key=abs)
    found = f"{_length(abs(ahead))} {'behind' if ahead > 0 else 'ahead of'} the servers that were asked"
    advice = "Let it keep network time (timedatectl set-ntp true), or ask who runs the machine."
    if abs(ahead) > _CLOCK_FAULT:
        yield fault("clock", found, f"{advice} Certificates are taken for expired, and --as-of means another day.")
    elif abs(ahead) > _CLOCK_NOTE:
        yield note("clock", found, advice)
    else:
        yield ok("clock", "agrees with the servers that were asked")


def _channels(found: Found) -> dict[str, tuple[str, ...]]:
    """The default channels, and those that have mirrors: the URL of each, and of the places that are asked for it."""
    mirrors = dict(found.settings.mirrors)
    channels: dict[str, tuple[str, ...]] = {}
    for url in found.channels:
        clean = without_credentials(url)
        base = max((m for m in mirrors if clean == m or clean.startswith(f"{m}/")), key=len, default=None)
        places = () if base is None else tuple(place.rstrip("/") + clean[len(base) :] for place in mirrors[base])
        channels[clean] = places or (url,)
    return channels | {url: places for url, places in mirrors.items() if url not in channels}


def _place(home: Home, name: str, place: str, found: Found, known: Known, clocks: list[float]) -> Iterator[Check]:
    folder = folder_of(place)
    if folder is not None:
        yield _folder(name, folder)
    else:
        yield _server(home, name, place, found, known, clocks)


def _folder(name: str, folder: Path) -> Check:
    there = [sub for sub in (current_subdir(), "noarch") if (folder / sub / "repodata.json").is_file()]
    if there:
        return ok(name, f"{folder} ({', '.join(there)})")
    if folder.is_dir():
        found = f"{folder} is no channel: it has no {current_subdir()}/repodata.json"
        return fault(
            name, found, "Name the folder of a channel in the configuration, or make one with scripts/channel."
        )
    return fault(name, f"{folder} is not there", "Mend the path in the configuration, or mount its disk.")


def _server(home: Home, name: str, place: str, found: Found, known: Known, clocks: list[float]) -> Check:
    shown, scheme = without_credentials(place), urlsplit(place).scheme
    by_socks = found.proxies.get(scheme, "").startswith("socks")
    if scheme not in ("http", "https") or by_socks:
        why = "only a SOCKS proxy leads there" if by_socks else f"{scheme} is not spoken here"
        return note(name, f"{shown}: not asked, for {why}", "orch itself can; look with: orch env search python")
    credential = known.for_host(urlsplit(place).netloc.rpartition("@")[2])
    # A channel has noarch; some servers have it for one platform only.
    for subdir in ("noarch", current_subdir()):
        answer = ask(f"{place.rstrip('/')}/{subdir}/repodata.json", found, credential)
        if answer.ahead is not None:
            clocks.append(answer.ahead)
        if answer.status != 404:
            break
    return _judged(home, name, shown, answer, credential.place if credential else "")


def _judged(home: Home, name: str, shown: str, answer: Answer, login: str) -> Check:
    took = f"{answer.seconds:.2f} s"
    status = answer.status
    mirror = f"name a mirror or a folder in [mirrors] of {home.config}"
    if status is None:
        if "certificate" in answer.error:
            return note(name, f"{shown}: {answer.error}", _NO_TRUST)
        return fault(name, f"{shown}: {answer.error}", f"Look at the network and the proxies; or {mirror}.")
    if status < 300 and answer.is_page:
        found = f"{shown}: a web page where the index of a channel should be"
        return fault(name, found, "Look at the address; or a proxy wants you to log in, in a browser.")
    if status < 300:
        return ok(name, f"{shown}, HTTP {status} in {took}")
    if status in (401, 403):
        found = f"{shown}: HTTP {status}, " + (f"with the credentials of {login}" if login else "and no credentials")
        return fault(name, found, _WRONG_LOGIN if login else _NO_LOGIN)
    if status == 404:
        return fault(
            name, f"{shown}: no channel there (HTTP 404)", f"Look at its name and at [mirrors] of {home.config}."
        )
    if status == 407:
        return fault(name, f"{shown}: the proxy wants a password (HTTP 407)", "Put user:password@ into its address.")
    if status >= 500:
        return fault(name, f"{shown}: its server fails (HTTP {status})", f"Try again later, or {mirror}.")
    return fault(name, f"{shown}: HTTP {status}", f"Look at the address; or {mirror}.")


def _index(home: Home) -> Iterator[Check]:
    """The package index, asked by uv as it will be: its certificates, proxies and credentials count."""
    import tempfile

    from orchestrator.environment.pypi import run_uv, uv_environment, uv_message

    environ = uv_environment(home)
    index = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    shown = without_credentials(index) if index else "uv's own default"
    environ |= {"UV_HTTP_TIMEOUT": "2", "UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "2"}
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home.cache, ignore_cleanup_errors=True) as name:
        room = Path(name)
        (room / "asked.in").write_text("pip\n")
        options = ("--no-deps", "--no-header", "--no-build", "--python", sys.executable, "--no-config")
        done = run_uv(home, ["pip", "compile", "asked.in", *options], cwd=room, cache=room / "uv", environ=environ)
    if done.returncode == 0 or "not found in the package registry" in done.stderr:
        yield ok("package index", f"{shown} answers")
        return
    said = [line.strip().removeprefix("cause: ") for line in uv_message(done.stderr).splitlines() if line.strip()]
    advice = f"Only projects with pip packages need it. Name one that can be reached: [pypi] index in {home.config}."
    yield note("package index", f"{shown}: {said[0]}" + (f" ({said[-1]})" if len(said) > 1 else ""), advice)


def _proxies(found: Found) -> Iterator[Check]:
    shown = [f"{scheme} by {urlsplit(url).netloc.rpartition('@')[2]}" for scheme, url in found.proxies.items()]
    if found.no_proxy and shown:
        shown.append(f"none for {', '.join(found.no_proxy)}")
    yield ok("proxies", ", ".join(shown) or "none")


def _loopback() -> Iterator[Check]:
    if (why := why_unreachable()) is not None:
        yield fault("loopback", f"127.0.0.1 can't be reached ({why})", "Folders are read by it: ip link set lo up")


def _names(urls: Iterable[str]) -> dict[str, str]:
    """The channels as people name them: by the last part of their URL, or by all of it where two share that."""
    last = {url: without_credentials(url).rstrip("/").rpartition("/")[2] for url in urls}
    shared = Counter(last.values())
    return {url: _CHANNEL + (name if shared[name] == 1 else without_credentials(url)) for url, name in last.items()}


def _length(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"
