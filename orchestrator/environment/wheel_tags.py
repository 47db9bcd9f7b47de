"""Wheels for a platform that is not the running one: uv's name for it, the tags that fit, and what markers see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.errors import OrchError


@dataclass(frozen=True, slots=True)
class _Target:
    uv: str
    system: str
    machine: str


_TARGETS = {
    "linux-64": _Target("x86_64-manylinux_2_28", "linux", "x86_64"),
    "linux-aarch64": _Target("aarch64-manylinux_2_28", "linux", "aarch64"),
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
_GLIBC_MINOR = 28
"""As conda-lock's table of virtual packages supposes, and uv's platform above."""
_MACOS = (13, 0)
"""What uv supposes."""
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def uv_platform(platform: str) -> str:
    """uv's name (`--python-platform`) of a conda platform. Raises OrchError for one that PyPI has no wheels for."""
    return _target(platform).uv


def platform_tags(platform: str) -> tuple[str, ...]:
    """The platform tags of wheels that a platform takes, the most specific first (PEP 425, PEP 600)."""
    from packaging.tags import mac_platforms

    target = _target(platform)
    if target.system == "windows":
        return (f"win_{target.machine}",)
    if target.system == "macos":
        return tuple(mac_platforms(_MACOS, target.machine))
    return tuple(_manylinux(target.machine))


def marker_variables(platform: str) -> Mapping[str, str]:
    """What the markers of a requirement see of a platform (PEP 508)."""
    target = _target(platform)
    machine = target.machine.upper() if target.system == "windows" else target.machine
    return _SYSTEMS[target.system] | {"platform_machine": machine, "platform_release": "", "platform_version": ""}


def _manylinux(machine: str) -> Iterator[str]:
    for minor in range(_GLIBC_MINOR, 4, -1):
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
