"""Wheels for a platform that is not the running one: uv's name for it, the tags that fit, and what markers see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.errors import OrchError


@dataclass(frozen=True, slots=True)
class _Target:
    uv: str
    system: str
    machine: str


_TARGETS = {
    "linux-64": _Target("x86_64-manylinux", "linux", "x86_64"),
    "linux-aarch64": _Target("aarch64-manylinux", "linux", "aarch64"),
    "osx-64": _Target("x86_64-apple-darwin", "macos", "x86_64"),
    "osx-arm64": _Target("aarch64-apple-darwin", "macos", "arm64"),
    "win-64": _Target("x86_64-pc-windows-msvc", "windows", "amd64"),
}
WHEEL_PLATFORMS = tuple(_TARGETS)
"""The conda platforms that PyPI has wheels for."""

_SYSTEMS = {
    "linux": {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"},
    "macos": {"os_name": "posix", "sys_platform": "darwin", "platform_system": "Darwin"},
    "windows": {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows"},
}
SUPPOSED_GLIBC = 28
"""The minor version of glibc 2 that conda-lock's table of virtual packages supposes."""
_UV_GLIBC = (17, 28, *range(31, 41))
"""The minor versions of glibc 2 that uv has a platform for."""
_MACOS = (13, 0)
"""What uv supposes."""
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def uv_platform(platform: str, glibc: int = SUPPOSED_GLIBC) -> str:
    """uv's name (`--python-platform`) of a conda platform, for machines with glibc 2.`glibc` where that has a say.

    Raises OrchError for a platform that PyPI has no wheels for.
    """
    target = _target(platform)
    if target.system != "linux":
        return target.uv
    return f"{target.uv}_2_{max((minor for minor in _UV_GLIBC if minor <= glibc), default=_UV_GLIBC[0])}"


def glibc_of(virtual_packages: Iterable[str]) -> int:
    """The minor version of glibc 2 among virtual packages (`name=version=build`), or what is supposed."""
    found = (re.match(r"__glibc=2\.(\d+)", text) for text in virtual_packages)
    return next((int(match[1]) for match in found if match), SUPPOSED_GLIBC)


def platform_tags(platform: str, glibc: int = SUPPOSED_GLIBC) -> tuple[str, ...]:
    """The platform tags of wheels that a platform takes, the most specific first (PEP 425, PEP 600)."""
    from packaging.tags import mac_platforms

    target = _target(platform)
    if target.system == "windows":
        return (f"win_{target.machine}",)
    if target.system == "macos":
        return tuple(mac_platforms(_MACOS, target.machine))
    return tuple(_manylinux(target.machine, glibc))


def marker_variables(platform: str) -> Mapping[str, str]:
    """What the markers of a requirement see of a platform (PEP 508)."""
    target = _target(platform)
    machine = target.machine.upper() if target.system == "windows" else target.machine
    return _SYSTEMS[target.system] | {"platform_machine": machine, "platform_release": "", "platform_version": ""}


def _manylinux(machine: str, glibc: int) -> Iterator[str]:
    for minor in range(glibc, 4, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _LEGACY:
            yield f"{_LEGACY[minor]}_{machine}"
    yield f"linux_{machine}"


def _target(platform: str) -> _Target:
    try:
        return _TARGETS[platform]
    except KeyError:
        raise OrchError(
            f"pip packages can't be locked for {platform} from here; they can for {', '.join(_TARGETS)}."
        ) from None
