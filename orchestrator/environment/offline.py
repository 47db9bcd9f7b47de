"""What `--offline` means for packages: where a connection ends that must not be made, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

NOWHERE = "http://127.0.0.1:1"
"""A port that nobody listens on: whatever would leave the machine fails there at once."""

NO_ADDRESS = "https://folder.invalid"
"""The channel of packages that came from a folder, or were built, on the machine that exports. `.invalid` is never a
host (RFC 2606): only the exported folder, or the bundle, has them."""

_SHOWN = 5


def closed_network() -> dict[str, str]:
    """Variables under which no program reaches more than this machine, as far as it honours proxies."""
    proxies = {
        name: NOWHERE for kind in ("HTTP", "HTTPS", "ALL") for name in (f"{kind}_PROXY", f"{kind}_PROXY".lower())
    }
    return proxies | dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")


def not_here(names: Sequence[str], place: str) -> str:
    """The sentence for packages that are missing. `place` says where the user may name a folder that has them."""
    shown, verb, them = _told(names)
    return (
        f"{shown} {verb} not here, and --offline asks no network: run it once without, or name a folder that has "
        f"{them} {place}."
    )


def lost(names: Sequence[str], place: str) -> str:
    """The sentence for packages that no server has (`NO_ADDRESS`) and that are missing. `place` as for `not_here`."""
    shown, verb, them = _told(names)
    return (
        f"{shown} {verb} not kept here any more, and no server has {them}: import the bundle again that brought "
        f"{them}, or name a folder that has {them} {place}."
    )


def _told(names: Sequence[str]) -> tuple[str, str, str]:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    one = len(names) == 1
    return f"{', '.join(names[:_SHOWN])}{more}", "is" if one else "are", "it" if one else "them"
