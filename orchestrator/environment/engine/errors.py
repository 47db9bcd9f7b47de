"""rattler's errors as sentences for people."""

from __future__ import annotations

import re
import sys

from orchestrator.environment.engine.connection import Connection
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError

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
