"""What of a lock may leave this machine: addresses without credentials, and no folder of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from orchestrator.environment.lock import Lock, LockedPackage
from orchestrator.environment.redact import without_credentials
from orchestrator.report import plural

_FILE_URL = re.compile(r"\b(?:git\+)?file:[^\s'\"\],]*/")
_ABSOLUTE = re.compile(r"(?<![^\s=@'\"\[,])/(?:[^\s/'\"\],]+/)*")


def is_local(address: str) -> bool:
    """Whether a URL or path means something only on this machine."""
    scheme, separator, _ = address.partition(":")
    return address.startswith(("/", "~")) or bool(separator and scheme.lower().endswith("file"))


def published(lock: Lock) -> tuple[Lock, tuple[str, ...]]:
    """The lock as others may see it, and sentences on what that took away.

    A conda package of a folder keeps `<channel>/<subdir>/<file>` when its environment file calls the channel by a
    name, else its file name; a wheel of a folder becomes a package URL, as one that was built here is.
    """
    local = [package.file_name for package in lock.packages if is_local(package.url)]
    hidden = sum(map(is_local, lock.channels))
    notes = [f"{name}: its address is a folder of the machine that locked it, and is left out." for name in local]
    if hidden:
        notes.append(f"{plural(hidden, 'channel')} in a folder of the machine that locked it: left out.")
    conda = tuple(_asked_conda(text) for text in lock.conda)
    pip = tuple(_asked(text) for text in lock.pip)
    if (conda, pip) != (lock.conda, lock.pip):
        notes.append("Folders and credentials in what was asked for are left out.")
    shown = replace(
        lock,
        packages=tuple(_package(package, lock.channels) for package in lock.packages),
        channels=tuple(without_credentials(text) for text in lock.channels if not is_local(text)),
        conda=conda,
        pip=pip,
    )
    return shown, tuple(notes)


def wheel_url(package: LockedPackage) -> str:
    """The package URL (ECMA-427) of a wheel that no index has."""
    return f"pkg:pypi/{package.name}@{quote(package.version)}?file_name={quote(package.file_name)}"


def is_on_index(package: LockedPackage) -> bool:
    """Whether the URL of a pip package is that of a file which pip can fetch by name or address."""
    return package.url.startswith(("https:", "http:"))


def comment(text: str) -> str:
    """A line that YAML, conda and pip pass over, whatever the text holds."""
    return f"# {' '.join(text.split())}"


def _package(package: LockedPackage, channels: Sequence[str]) -> LockedPackage:
    channel = package.channel and without_credentials(package.channel)
    if not is_local(package.url):
        channel = None if channel and is_local(channel) else channel
        return replace(package, url=without_credentials(package.url), channel=channel)
    if package.manager == "pip":
        return replace(package, url=wheel_url(package), source_sha256=None)
    name = _name(package.channel or package.url.rsplit("/", 2)[0], channels)
    url = f"{name}/{package.subdir}/{package.file_name}" if name else package.file_name
    return replace(package, url=url, channel=name)


def _name(channel: str, channels: Sequence[str]) -> str | None:
    last = channel.rstrip("/").rpartition("/")[2]
    return last if last in channels else None


def _asked_conda(text: str) -> str:
    # A folder's last part, left alone before `::`, would name a public channel.
    channel, separator, spec = text.rpartition("::")
    return spec if separator and is_local(channel) else _asked(text)


def _asked(text: str) -> str:
    return _ABSOLUTE.sub("", _FILE_URL.sub("", without_credentials(text)))
