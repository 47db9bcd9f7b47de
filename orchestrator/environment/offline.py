"""What `--offline` means for packages: where a connection ends that must not be made, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

NOWHERE = "http://127.0.0.1:1"
"""A port that nobody listens on: whatever would leave the machine fails there at once."""

_SHOWN = 5


def closed_network() -> dict[str, str]:
    """Variables under which no program reaches more than this machine, as far as it honours proxies."""
    proxies = {
        name: NOWHERE for kind in ("HTTP", "HTTPS", "ALL") for name in (f"{kind}_PROXY", f"{kind}_PROXY".lower())
    }
    return proxies | dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")


def not_here(names: Sequence[str], place: str) -> str:
    """The sentence for packages that are missing. `place` says where the user may name a folder that has them."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    verb = "is" if len(names) == 1 else "are"
    them = "it" if len(names) == 1 else "them"
    return (
        f"{', '.join(names[:_SHOWN])}{more} {verb} not here, and --offline asks no network: run it once without, or "
        f"name a folder that has {them} {place}."
    )
