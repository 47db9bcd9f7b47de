"""The only door to rattler: one place that knows its client, its solver and its installer.

Runs in the worker process only. Nothing here is imported by a warm run.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import rattler
from rattler.exceptions import SolverError

from orchestrator.environment.config import Settings, config_files, rattler_text, read_settings
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.loopback import Folders, folder_of, loopback
from orchestrator.environment.prefix import remove_tree
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError
from orchestrator.paths import Home

_RETRIES = 3

_SENTENCES = (
    (r"No space left", "can't be stored: no space is left on the disk."),
    (
        r"\(401|\(403",
        "refuses access: put credentials for its host into rattler's auth file (the configuration's "
        "`authentication-override-file`, or RATTLER_AUTH_FILE) or into the keyring.",
    ),
    (r"could not find subdir|\(404", "is not there (404): look at the channel's name and the configured mirrors."),
    (r"\(5\d\d", "can't be had now: its server fails. Try again later, or name a mirror in the configuration."),
    (
        r"dns error|\(Connect\)|error sending request|timed out",
        "can't be reached: there is no network, or no such host. A mirror or a folder with a channel is named in "
        "[mirrors] of {config}.",
    ),
    (
        r"Invalid checksum|unexpected end of file|corruption",
        "came damaged or cut off, several times. It was not installed.",
    ),
)


@dataclass(frozen=True, slots=True)
class Connection:
    """What a call needs to reach packages.

    `stand_ins` maps a `file://` channel to the URL that stands for it; `places` maps what people know (a folder) to
    what stands in rattler's messages.
    """

    client: rattler.Client
    gateway: rattler.Gateway
    package_cache: Path
    stand_ins: Mapping[str, str]
    places: Mapping[str, str]
    config: Path
    """Where the user may name mirrors."""

    def reached(self, url: str) -> str:
        """`url`, or the URL by which rattler can reach it and check hashes."""
        return _rebased(url, self.stand_ins)

    def recorded(self, url: str) -> str:
        """The inverse of `reached`, without credentials: what stands in a lock."""
        return without_credentials(_rebased(url, {value: key for key, value in self.stand_ins.items()}))


class UnsolvableError(OrchError):
    """The channels were asked, and there is no set of packages that fits; the message is the solver's."""


@contextmanager
def connect(home: Home, channels: Collection[str] = ()) -> Iterator[Connection]:
    """A connection for the time of the block, as the configuration says: mirrors, proxies, certificates, credentials.

    `channels` are the URLs of channels (or packages in them) that will be asked. Mirrors and channels that are
    folders are served on loopback. Raises OrchError when the configuration is wrong.
    """
    settings = read_settings(home)
    with loopback() as folders:
        stand_ins: dict[str, str] = {}
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
        config = _config(home, mirrors)
        client = rattler.Client.from_config(config, max_retries=_RETRIES, user_agent="orch")
        gateway = rattler.Gateway.from_config(config, cache_dir=home.cache / "repodata", client=client)
        served = {folder.as_uri(): folders.url(folder) for folder in folders.by_name.values()}
        yield Connection(client, gateway, home.cache / "pkgs", stand_ins, stand_ins | served, home.config)


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


def match_spec(text: str) -> rattler.MatchSpec:
    """A package as people write it in an environment file. Raises OrchError when it is none."""
    try:
        return rattler.MatchSpec(text, strict=False)
    except Exception as error:
        raise OrchError(f"{text!r} is not a package specification that conda knows: {error}.") from error


async def solve(
    connection: Connection,
    specs: Sequence[str],
    channels: Sequence[str],
    *,
    subdir: str,
    virtual_packages: Sequence[str],
    as_of: datetime | None = None,
) -> list[rattler.RepoDataRecord]:
    """The packages of an environment, sorted by name. Channel priority is strict, as conda-lock's and conda-forge's.

    `specs` and `channels` are texts, URLs for channels; `virtual_packages` are `name=version=build`; packages newer
    than `as_of` do not exist. Raises UnsolvableError, or OrchError when the channels can't be asked.
    """
    try:
        records = await rattler.solve(
            [rattler.Channel(connection.reached(url)) for url in channels],
            [match_spec(_reached_spec(spec, connection)) for spec in specs],
            gateway=connection.gateway,
            platforms=[rattler.Subdir(subdir), rattler.Subdir("noarch")],
            virtual_packages=[_virtual_package(text) for text in virtual_packages],
            channel_priority=rattler.ChannelPriority.Strict,
            exclude_newer=as_of,
        )
    except SolverError as error:
        raise UnsolvableError(str(error).removeprefix("Cannot solve the request because of: ").strip()) from error
    except OrchError:
        raise
    except Exception as error:
        raise explained(error, connection) from error
    return sorted(records, key=lambda record: record.name.normalized)


async def package_names(connection: Connection, channels: Sequence[str], *, subdir: str) -> set[str]:
    """The names of all packages that the channels have for a platform; none when they can't be asked."""
    with contextlib.suppress(Exception):
        found = await connection.gateway.names(
            [rattler.Channel(connection.reached(url)) for url in channels], [subdir, "noarch"]
        )
        return {name.normalized for name in found}
    return set()


async def has_package(connection: Connection, spec: str, channels: Sequence[str], *, subdir: str) -> bool:
    """Whether the channels have a package that fits `spec`; True when they can't be asked."""
    with contextlib.suppress(Exception):
        found = await connection.gateway.query(
            [rattler.Channel(connection.reached(url)) for url in channels],
            [subdir, "noarch"],
            [match_spec(spec)],
            recursive=False,
        )
        return any(found)
    return True


async def install(
    connection: Connection,
    records: Sequence[rattler.RepoDataRecord],
    target: Path,
    *,
    final: Path,
    reporter: Any = None,
    full_validation: bool = False,
) -> None:
    """Install packages into the new folder `target`, with all paths in them as they will be at `final`.

    Archives are checked by sha256. Link scripts do not run. With `full_validation` every file of the package cache is
    hashed before it is used. Raises OrchError; `target` is then incomplete and must go.

    What the packages say of themselves holds against the records: a project names its channels, and what one of them
    claims must not shape a prefix that other projects share.
    """
    link = functools.partial(_link, connection, target=target, final=final, reporter=reporter, full=full_validation)
    await link(records)
    if _corrected(records, target):
        remove_tree(target)
        await link(records)
    if connection.stand_ins:
        _record_true_urls(target, connection)


async def _link(
    connection: Connection,
    records: Sequence[rattler.RepoDataRecord],
    *,
    target: Path,
    final: Path,
    reporter: Any = None,
    full: bool = False,
) -> None:
    mode = rattler.package_cache.ValidationMode
    try:
        await rattler.install(
            list(records),
            target,
            package_cache=rattler.PackageCache.new_layered(
                [connection.package_cache], validation_mode=mode.full() if full else mode.fast()
            ),
            client=connection.client,
            alternative_target_prefix=final,
            execute_link_scripts=False,
            show_progress=False,
            reporter=reporter,
        )
    except Exception as error:
        raise explained(error, connection) from error


def _corrected(records: Sequence[rattler.RepoDataRecord], prefix: Path) -> bool:
    """Make the records say what the packages say that were linked into `prefix`; whether any said something else."""
    extracted = _extracted(prefix)
    corrected = False
    for record in records:
        true = _own_record(extracted[record.file_name], record.file_name)
        if noarch_of(true) != noarch_of(record) or _site_packages(true) != _site_packages(record):
            record.noarch, record.python_site_packages_path = true.noarch, true.python_site_packages_path
            corrected = True
    return corrected


def records_of(packages: Iterable[LockedPackage], connection: Connection) -> list[rattler.RepoDataRecord]:
    """The conda packages of a lock in the form that `install` takes. Raises OrchError for what rattler refuses."""
    records = []
    for package in packages:
        try:
            records += [_record(package, connection)] if package.manager == "conda" else []
        except Exception as error:
            raise OrchError(f"the lock has {package.file_name}, which is no conda package: {error}.") from error
    return records


async def packaged(packages: Sequence[LockedPackage], connection: Connection, aside: Path) -> list[LockedPackage]:
    """Conda packages of a lock that a project brings, each with what its archive says of itself.

    What a package needs and how it is installed (its kind, Python's folder) is not in the hashes that identify a lock.
    A lie about it would be kept under the identity of an honest lock, and reach all other projects; so of a file in a
    repository only the URL and the hashes are believed. The archives come into the package cache, checked by sha256,
    by way of a prefix at `aside` that is good for nothing else. Raises OrchError.
    """
    plain = [replace(package, md5=None, depends=(), noarch="generic") for package in packages]
    await _link(connection, records_of(plain, connection), target=aside, final=aside)
    extracted = _extracted(aside)
    return [_as_packaged(package, extracted[package.file_name]) for package in packages]


def _as_packaged(package: LockedPackage, extracted: Path) -> LockedPackage:
    record = _own_record(extracted, package.file_name)
    return replace(
        package,
        name=record.name.normalized,
        md5=None,
        subdir=record.subdir,
        depends=tuple(record.depends),
        site_packages=record.python_site_packages_path,
        noarch=noarch_of(record),
    )


def _extracted(prefix: Path) -> dict[str, Path]:
    """Where in the package cache the packages of a prefix are, by file name."""
    rows = [json.loads(path.read_bytes()) for path in (prefix / "conda-meta").glob("*.json")]
    return {row["fn"]: Path(row["extracted_package_dir"]) for row in rows}


def _own_record(extracted: Path, file_name: str) -> rattler.PackageRecord:
    try:
        record = rattler.PackageRecord.from_index_json(extracted / "info/index.json")
    except Exception as error:
        raise OrchError(f"the package {file_name} can't be read: {error}.") from error
    refuse_misnamed(record, file_name)
    return record


def refuse_misnamed(record: rattler.PackageRecord, file_name: str) -> None:
    """Raise OrchError when the file of a package has another name than the package."""
    named = f"{record.name.normalized}-{record.version}-{record.build}"
    if file_name.lower() not in (f"{named}.conda".lower(), f"{named}.tar.bz2".lower()):
        raise OrchError(f"the package {file_name} is said to be {named}: it is refused.")


def _site_packages(record: rattler.PackageRecord) -> str | None:
    if record.name.normalized != "python":
        return None
    usual = f"lib/python{'.'.join(str(record.version).split('.')[:2])}/site-packages"
    return record.python_site_packages_path or usual


def noarch_of(record: rattler.PackageRecord) -> Literal["python", "generic"] | None:
    """The kind of a package for every platform; None for one of a single platform."""
    return "python" if record.noarch.python else "generic" if record.noarch.generic else None


def explained(error: Exception, connection: Connection) -> OrchError:
    """An error of rattler as a sentence for people, with what to do where that is known, or else its own words.

    Its own words go to stderr in any case; the worker's is shown to who asks for it.
    """
    text = str(error)
    for url, stand_in in connection.places.items():
        text = text.replace(stand_in, url)
    text = without_credentials(text).strip()
    sys.stderr.write(f"{text}\n")
    url = next(iter(re.findall(r"(?:https?|file)://[^\s)'\"]+", text)), "")
    what = re.search(r"failed to fetch (\S+)", text)
    channel = re.sub(r"/[a-z0-9-]+/(repodata|current_repodata)[^/]*$", "", url).rstrip("/")
    package = f"the package {what[1]}" if what else f"the channel {channel}"
    if (mismatch := re.search(r"expected ([0-9a-f]{64}), got ([0-9a-f]{64})", text)) is not None:
        return OrchError(
            f"{package} does not match its hash: the lock or channel says sha256 {mismatch[1]}, "
            f"{url} has {mismatch[2]}. It was not installed."
        )
    sentence = next((say for pattern, say in _SENTENCES if re.search(pattern, text)), None)
    if sentence is None:
        return OrchError(text)
    return OrchError(f"{package} {sentence.format(config=connection.config)}")


def _record(package: LockedPackage, connection: Connection) -> rattler.RepoDataRecord:
    subdir = package.subdir or "noarch"
    noarch: str | None = package.noarch
    if noarch is None and subdir == "noarch":
        # An old kind of package, that does not say more.
        on_python = any(text.split()[:1] == ["python"] for text in package.depends)
        noarch = "python" if on_python else "generic"
    record = rattler.PackageRecord(
        package.name,
        package.version,
        rattler.BuildString(package.build or ""),
        _build_number(package.build),
        subdir,
        noarch=noarch,
        depends=list(package.depends),
        sha256=bytes.fromhex(package.sha256),
        md5=bytes.fromhex(package.md5) if package.md5 else None,
        size=package.size,
        python_site_packages_path=package.site_packages,
    )
    channel = package.channel or package.url.rsplit("/", 2)[0]
    return rattler.RepoDataRecord(
        record, package.file_name, connection.reached(package.url), connection.reached(channel)
    )


def _build_number(build: str | None) -> int:
    digits = (build or "").rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def _config(home: Home, mirrors: Mapping[str, list[str]]) -> rattler.Config:
    config = rattler.Config()
    for path, shared in config_files(home):
        config = config.merge(_one_config(path, shared=shared))
    try:
        config.validate()
        config.set("mirrors", json.dumps(mirrors))
        # A proxy can't reach this machine's loopback.
        hosts = [*config.proxy_non_proxy_hosts, "127.0.0.1"]
        if config.proxy_http or config.proxy_https:
            config.set("proxy-config.non-proxy-hosts", json.dumps(hosts))
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
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


def _reached_spec(spec: str, connection: Connection) -> str:
    channel, separator, rest = spec.partition("::")
    return connection.reached(channel) + separator + rest if separator else spec


def _virtual_package(text: str) -> rattler.GenericVirtualPackage:
    name, version, build = text.split("=", 2)
    return rattler.GenericVirtualPackage(
        rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build)
    )


def _record_true_urls(prefix: Path, connection: Connection) -> None:
    for path in (prefix / "conda-meta").glob("*.json"):
        text = path.read_text("utf-8")
        for url, stand_in in connection.stand_ins.items():
            text = text.replace(f'"{stand_in}/', f'"{url}/')
        path.write_text(text, "utf-8")
