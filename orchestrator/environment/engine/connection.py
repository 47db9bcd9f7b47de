"""How packages are reached: rattler's client as the configuration says, and folders as if they were channels."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import rattler

from orchestrator.environment.config import Settings, config_files, rattler_text, read_settings
from orchestrator.environment.loopback import Folders, folder_of, loopback
from orchestrator.environment.offline import NOWHERE, closed_network
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError
from orchestrator.paths import Home

_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Connection:
    """What a call needs to reach packages.

    `stand_ins` maps a `file://` channel to the URL that stands for it, and a package to the `file://` URL of its
    archive that is kept here; `places` maps what people know (a folder) to what stands in rattler's messages;
    `mirrors` maps the URL of a channel to those that are asked instead, `folders` to the folders among them.
    """

    client: rattler.Client
    gateway: rattler.Gateway
    package_cache: Path
    stand_ins: Mapping[str, str]
    places: Mapping[str, str]
    mirrors: Mapping[str, Sequence[str]]
    folders: Mapping[str, tuple[Path, ...]]
    config: Path
    """Where the user may name mirrors."""
    offline: bool

    def in_folder(self, url: str) -> bool:
        """Whether a package that rattler would fetch from `url` is kept here, or in a folder that stands for its
        channel."""
        if (kept := folder_of(url)) is not None:
            return kept.is_file()
        for base, folders in self.folders.items():
            if url.startswith(base + "/"):
                rest = unquote(url[len(base) + 1 :])
                return any((folder / rest).is_file() for folder in folders)
        return False

    def reached(self, url: str) -> str:
        """`url`, or the URL by which rattler can reach it and check hashes."""
        return _rebased(url, self.stand_ins)

    def true(self, url: str) -> str:
        """The inverse of `reached`."""
        return _rebased(url, {value: key for key, value in self.stand_ins.items()})

    def recorded(self, url: str) -> str:
        """The inverse of `reached`, without credentials: what stands in a lock."""
        return without_credentials(self.true(url))


@contextmanager
def connect(
    home: Home, channels: Collection[str] = (), kept: Mapping[str, Path] = MappingProxyType({})
) -> Iterator[Connection]:
    """A connection for the time of the block, as the configuration says: mirrors, proxies, certificates, credentials.

    `channels` are the URLs of channels (or packages in them) that will be asked. Mirrors and channels that are
    folders are served on loopback; offline, they are all that is asked, and the cache. `kept` are archives of packages,
    by the packages' URLs: rattler reads them as they are, so their hashes have been checked. Raises OrchError when the
    configuration is wrong.
    """
    settings = read_settings(home)
    if home.offline:
        os.environ.update(closed_network())
    with loopback() as folders:
        stand_ins = {url: path.absolute().as_uri() for url, path in kept.items()}
        mirrors: dict[str, list[str]] = {}
        for url in channels:
            if url.startswith("file:"):
                stand_ins[url.rstrip("/")] = _stand_in(url)
                mirrors[_stand_in(url)] = [_served(url, folders)]
        for url, places in settings.mirrors.items():
            mirrors[url] = [_served(place, folders) if place.startswith("file:") else place for place in places]
        for url in channels:
            # A mirror is named by the channel's address, without a token that stands in it.
            if url not in mirrors and (clean := without_credentials(url)) in mirrors:
                mirrors[url] = mirrors[clean]
        served = {folder.as_uri(): folders.url(folder) for folder in folders.by_name.values()}
        local = _folders_of(mirrors, folders)
        if home.offline:
            mirrors = _without_network(mirrors, channels, served.values())
        config = _config(home, mirrors)
        retries = 0 if home.offline else _RETRIES
        client = rattler.Client.from_config(config, max_retries=retries, user_agent="orch")
        gateway = _gateway(home, config, client, local)
        yield Connection(
            client,
            gateway,
            package_cache=home.packages,
            stand_ins=stand_ins,
            places=stand_ins | served,
            mirrors=mirrors,
            folders=local,
            config=home.config,
            offline=home.offline,
        )


def channel_urls(names: Sequence[str], settings: Settings, path: str = "") -> list[str]:
    """The URLs of channels named as in an environment file (`conda-forge`, `defaults`, a URL, a folder), in order.

    `path` is the file that names them, "" for the user's configuration: only the user may name variables of theirs in
    a URL, for a project would send their values to whom it likes. Raises OrchError for what names no channel.
    """
    urls: list[str] = []
    for name in names:
        if name == "nodefaults":
            continue
        for part in settings.conda_defaults if name == "defaults" else (name,):
            if "$" in part and path and name != "defaults":
                raise OrchError(
                    f"{path} has a variable in the channel {without_credentials(name)}, and orch puts none in what a "
                    "project names: name the channel without credentials, and give those with rattler's auth file (the "
                    "configuration's `authentication-override-file`, or RATTLER_AUTH_FILE)."
                )
            expanded = os.path.expandvars(part)
            if expanded.startswith(("/", "~")):
                url = Path(expanded).expanduser().as_uri()
            else:
                try:
                    url = rattler.Channel(expanded).base_url
                except Exception as error:
                    raise OrchError(f"{name!r} is not the name or URL of a channel: {error}.") from error
            if (url := url.rstrip("/")) not in urls:
                urls.append(url)
    return urls


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that calls rattler to its end."""

    async def go() -> Any:
        try:
            return await work
        finally:
            # rattler's threads must drop what they hold of Python before the event loop ends.
            await asyncio.sleep(0.02)

    return asyncio.run(go())


def _folders_of(mirrors: Mapping[str, Sequence[str]], folders: Folders) -> dict[str, tuple[Path, ...]]:
    by_url = {folders.url(folder): folder for folder in folders.by_name.values()}
    found = {url: tuple(by_url[place] for place in places if place in by_url) for url, places in mirrors.items()}
    return {url: places for url, places in found.items() if places}


def _without_network(
    mirrors: Mapping[str, Sequence[str]], channels: Collection[str], served: Collection[str]
) -> dict[str, list[str]]:
    """The mirrors that are folders; what has none is nowhere, also when its own address is on this machine."""
    left = {url: [place for place in places if place in served] or [NOWHERE] for url, places in mirrors.items()}
    return left | {url: [NOWHERE] for url in channels if not any(url == at or url.startswith(at + "/") for at in left)}


def _gateway(home: Home, config: rattler.Config, client: rattler.Client, local: Collection[str]) -> rattler.Gateway:
    cache = home.repodata
    if not home.offline:
        return rattler.Gateway.from_config(config, cache_dir=cache, client=client)
    known = rattler.SourceConfig(cache_action="force-cache-only")
    # A folder may have changed since it was read, and asking it is no network.
    return rattler.Gateway(cache, known, {url: rattler.SourceConfig() for url in local}, client=client)


def _config(home: Home, mirrors: Mapping[str, list[str]]) -> rattler.Config:
    config = rattler.Config()
    for path, shared in config_files(home):
        config = config.merge(_one_config(path, shared=shared))
    try:
        config.validate()
        config.set("mirrors", json.dumps(mirrors))
        # A proxy can't reach this machine's loopback.
        hosts = ["127.0.0.1"] if home.offline else [*config.proxy_non_proxy_hosts, "127.0.0.1"]
        if home.offline:
            config.set("proxy-config.http", NOWHERE)
            config.set("proxy-config.https", NOWHERE)
        if config.proxy_http or config.proxy_https:
            config.set("proxy-config.non-proxy-hosts", json.dumps(hosts))
        for name in ("NO_PROXY", "no_proxy"):
            given = None if home.offline else os.environ.get(name)
            os.environ[name] = ",".join(filter(None, (given, "127.0.0.1")))
    except Exception as error:
        raise OrchError(f"the configuration can't be used: {str(error).splitlines()[0]}.") from error
    return config


def _one_config(path: Path, *, shared: bool) -> rattler.Config:
    try:
        return rattler.Config.from_toml(rattler_text(path), shared)
    except ValueError as error:
        text = without_credentials(str(error)).strip()
        line = re.search(r"at (line \d+)", text)
        where = f"{path}, {line[1]}" if line else str(path)
        raise OrchError(f"{where}: {text.splitlines()[-1]}.") from error


def _served(url: str, folders: Folders) -> str:
    folder = folder_of(url)
    if folder is None or not folder.is_dir():
        raise OrchError(f"the channel {url} is not there: no such folder.")
    return folders.url(folder)


def _stand_in(url: str) -> str:
    # `.invalid` is never a real host (RFC 2606); the same folder always has the same one, so that caches hold.
    url = url.rstrip("/")
    return f"https://{hashlib.sha256(url.encode()).hexdigest()[:32]}.invalid/{url.rpartition('/')[2]}"


def _rebased(url: str, bases: Mapping[str, str]) -> str:
    for base, other in bases.items():
        if url == base or url.startswith(base + "/"):
            return other + url[len(base) :]
    return url
