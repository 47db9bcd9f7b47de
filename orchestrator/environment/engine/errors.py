"""rattler's errors as sentences for people."""

from __future__ import annotations

import re
import sys
from urllib.parse import urlsplit

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.host import PLATFORMS
from orchestrator.environment.loopback import why_unreachable
from orchestrator.environment.offline import NO_ADDRESS, lost, not_here
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.space import said_full
from orchestrator.errors import OrchError

_SENTENCES = (
    (
        r"\(401|\(403",
        "refuses access (401 or 403): credentials for its host go into the keyring or into rattler's auth file, which "
        "`authentication-override-file` in {config} or RATTLER_AUTH_FILE names, as "
        '{{"{host}": {{"BearerToken": "..."}}}} or {{"{host}": {{"BasicHTTP": {{"username": "...", "password": '
        '"..."}}}}}}.',
    ),
    (r"could not find subdir|\(404", "is not there (404): look at the channel's name and the configured mirrors."),
    (r"\(5\d\d", "can't be had now: its server fails. Try again later, or name a mirror in the configuration."),
    (
        r"dns error|\(Connect\)|error sending request|timed out",
        "can't be reached: there is no network, or no such host. A mirror or a folder with a channel is named in "
        "[mirrors] of {config}.",
    ),
    (
        r"Invalid checksum|unexpected end of file|corruption|reading a body from connection",
        "came damaged or cut off, several times. It was not installed.",
    ),
)

_GONE = (
    "is not there (404): its channel has it no more. Solve the environment again with --relock, or name a mirror or a "
    "folder that still has it in [mirrors] of {config}."
)
_NO_LOOPBACK = (
    "folders are read through 127.0.0.1, which can't be reached here ({why}): bring the loopback interface up (ip link "
    "set lo up)."
)
_SUBDIRS = "|".join(("noarch", *PLATFORMS))
_ASKED_IN_VAIN = r"no usable repodata cache|\(404|dns error|\(Connect\)|error sending request|timed out"


def explained(error: Exception, connection: Connection) -> OrchError | OSError:
    """An error of rattler as a sentence for people, with what to do where that is known, or else its own words.

    Only that a disk is full stays the system's error, as everywhere: who called knows for what there was no space.
    Its own words go to stderr in any case; the worker's is shown to who asks for it.
    """
    text = str(error)
    for url, stand_in in connection.places.items():
        text = text.replace(stand_in, url)
    text = without_credentials(text).strip()
    sys.stderr.write(f"{text}\n")
    if (full := said_full(text, connection.package_cache.parent)) is not None:
        return full
    url = next(iter(re.findall(r"(?:https?|file)://[^\s)'\"]+", text)), "")
    what = re.search(r"failed to fetch (\S+)", text)
    channel = re.sub(rf"/({_SUBDIRS})/((repodata|current_repodata)[^/]*)?$", "", url).rstrip("/")
    package = f"the package {what[1]}" if what else f"the channel {channel}"
    if (mismatch := re.search(r"expected ([0-9a-f]{64}), got ([0-9a-f]{64})", text)) is not None:
        return OrchError(
            f"{package} does not match its hash: the lock or channel says sha256 {mismatch[1]}, "
            f"{url} has {mismatch[2]}. It was not installed."
        )
    in_vain = re.search(_ASKED_IN_VAIN, text)
    if in_vain and connection.folders and (why := why_unreachable()) is not None:
        return OrchError(f"{package} can't be read: {_NO_LOOPBACK.format(why=why)}")
    if in_vain and what is not None and url.startswith(NO_ADDRESS):
        return OrchError(lost([what[1]], f"in [mirrors] of {connection.config}"))
    if connection.offline and (shard := re.search(r"the shard for package '([^']+)' is not in the cache", text)):
        return OrchError(_not_known(f"what the channels have of {shard[1]}", connection))
    if connection.offline and in_vain:
        return OrchError(_not_here(what[1] if what else None, channel, connection))
    if what is not None and "(404" in text:
        return OrchError(f"{package} {_GONE.format(config=connection.config)}")
    sentence = next((say for pattern, say in _SENTENCES if re.search(pattern, text)), None)
    if sentence is None:
        return OrchError(text)
    said = sentence.format(config=connection.config, host=_asked_host(url, connection))
    return OrchError(f"{package} {said}")


def _asked_host(url: str, connection: Connection) -> str:
    """The host under which rattler looks for the credentials of a URL: a mirror gets those of its channel."""
    for channel, places in connection.mirrors.items():
        if any(url.startswith(without_credentials(place)) for place in places):
            url = channel
    return urlsplit(url).hostname or "HOST"


def _not_here(package: str | None, channel: str, connection: Connection) -> str:
    if package is not None:
        return not_here([package], f"in [mirrors] of {connection.config}")
    return _not_known(f"what the channel {channel} has", connection)


def _not_known(what: str, connection: Connection) -> str:
    return (
        f"{what} is not known here, and --offline asks no network: run it once without, or "
        f"name a folder with this channel in [mirrors] of {connection.config}."
    )
