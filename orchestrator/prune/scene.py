"""What is looked at when things are to go, and the things themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.paths import Home

Kind = Literal["environment", "package", "wheel", "cache", "lock", "mirror", "left over"]

HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing that goes. `bytes` is what the disk gets back; `more` are files that go with `path`."""

    kind: Kind
    name: str
    path: Path
    bytes: int = 0
    more: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, and sentences about what stays for another reason than that it is needed.

    `days` are those that were asked for. `failed` has a sentence for each thing that should have gone and could not.
    """

    days: int | None
    things: tuple[Thing, ...]
    notes: tuple[str, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Needs:
    """Lock ids, and names of mirrors below `home.sources`, that runs need.

    `unclear` has a sentence for each run whose record can't be read, so that nobody knows what it needs. `preparing`
    are the runs that have begun and have not written down yet what they need; `runs` are all that were looked at.
    """

    locks: frozenset[str]
    mirrors: frozenset[str]
    unclear: tuple[str, ...]
    preparing: frozenset[str]
    runs: frozenset[str]

    @property
    def are_known(self) -> bool:
        """Whether something that is not named here is needed by no run."""
        return not self.unclear and not self.preparing


@dataclass(frozen=True, slots=True)
class Scene:
    """What runs need, and for how long (in seconds) a thing must not have been used to go.

    `idle` is for what no run needs, `idle_needed` for what a run needs that can be made again; None: it stays. `now`
    is in seconds since the epoch.
    """

    home: Home
    needs: Needs
    now: float
    idle: float
    idle_needed: float | None

    def is_idle(self, used: float, seconds: float) -> bool:
        """Whether what was last used at `used` was not for so long."""
        return self.now - used >= seconds


def newest(paths: Iterable[Path]) -> float:
    """When the youngest of some files was changed, in seconds since the epoch; 0 when there is none."""
    times = [0.0]
    for path in paths:
        with contextlib.suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(times)


def is_own(folder: Path, home: Home) -> bool:
    """Whether a folder is in the home. One that `[paths]` has moved may be shared with another home."""
    return folder.is_relative_to(home.root)
