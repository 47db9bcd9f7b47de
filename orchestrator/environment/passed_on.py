"""Which of the caller's variables reach what locks and installs: rattler, uv, git, and the build backends they start.

Much of that is code, or an address, that a project names. So a variable passes only when something here needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAMES = re.compile(
    r"HOME|USER|LOGNAME|PATH|TMPDIR|LANG|LANGUAGE|LC_\w+|TZ|TERM|XDG_\w+|ORCH_LOG"
    # What the network is reached by.
    r"|(?i:(HTTP|HTTPS|FTP|ALL|NO)_PROXY)|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NETRC"
    # What keys and passwords are asked for with; none is in these.
    r"|SSH_AUTH_SOCK|SSH_ASKPASS|GIT_ASKPASS|GIT_SSH|GIT_SSH_COMMAND|GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)"
    r"|KEYRING_\w+|PYTHON_KEYRING_BACKEND|DBUS_SESSION_BUS_ADDRESS"
    # What an interpreter or a compiler that a module system brings does not start without.
    r"|LD_LIBRARY_PATH|DYLD_\w+|CC|CXX|FC|CPATH|LIBRARY_PATH|PKG_CONFIG_PATH"
)
_PLACES = re.compile(r"UV_\w+|PIP_(INDEX_URL|EXTRA_INDEX_URL|NO_INDEX|FIND_LINKS|CONFIG_FILE|TRUSTED_HOST|CERT)")
_RATTLER = re.compile(r"RATTLER_\w+|CONDA_OVERRIDE_\w+")


def for_worker(environ: Mapping[str, str], texts: tuple[str, ...] = ()) -> dict[str, str]:
    """What the worker gets: also where packages are, and the variables that `texts` of the configuration name."""
    named = {name for text in texts for name in re.findall(r"\$\{?(\w+)", text)}
    return {
        name: value
        for name, value in environ.items()
        if name in named or any(kind.fullmatch(name) for kind in (_NAMES, _PLACES, _RATTLER))
    }


def for_builds(environ: Mapping[str, str]) -> dict[str, str]:
    """What uv gets, and with it a build backend: code of whoever wrote the package."""
    return {name: value for name, value in environ.items() if _NAMES.fullmatch(name)}
