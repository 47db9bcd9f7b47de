"""What rattler tells while it installs, as progress for people. Runs in the worker process."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from orchestrator.report import Report, plural, seldom


class Progress:
    """A sentence when the first archive is fetched, then one count of bytes fetched and packages linked.

    The methods are rattler's `InstallerReporter`, called in several threads; a package is known to them by its number.
    """

    def __init__(self, report: Report, absent: Mapping[str, int | None]) -> None:
        """`absent` are the packages to fetch, by name, each with the bytes of its archive where they are known."""
        self._report, self._sizes = seldom(report), dict(absent)
        self._names: dict[int, str] = {}
        self._fetched: dict[str, int] = {}
        self._linked = self._packages = 0
        self._lock = threading.Lock()

    def on_transaction_start(self, total_operations: int) -> None:
        self._linked, self._packages = 0, total_operations

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        self._names[operation] = package_name
        return operation

    def on_download_start(self, cache_entry: int) -> int:
        name = self._names[cache_entry]
        with self._lock:
            # What was in the cache, and damaged, is fetched too.
            self._sizes.setdefault(name, None)
            if not self._fetched:
                self._report("environment", _fetching(self._sizes.values()))
            self._fetched[name] = 0
        return cache_entry

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
        name = self._names[download_idx]
        with self._lock:
            self._fetched[name] = progress
            self._sizes[name] = total or self._sizes[name]
            self._tell()

    def on_link_complete(self, index: int) -> None:  # noqa: ARG002 - rattler's form
        with self._lock:
            self._linked += 1
            self._tell()

    def _tell(self) -> None:
        text = "packages linked"
        if self._fetched:
            fetched = sum(self._fetched.values())
            unit, [shown, total] = _counted(fetched, max(fetched, _sum(self._sizes.values())))
            text = f"{unit} fetched {shown}/{total}, {text}"
        self._report("environment", text, done=self._linked, total=self._packages)


def _fetching(sizes: Collection[int | None]) -> str:
    unit, [total] = _counted(_sum(sizes))
    size = f", {total} {unit}" if None not in sizes else ""
    return f"fetching {plural(len(sizes), 'package')}{size}"


def _sum(sizes: Collection[int | None]) -> int:
    return sum(size or 0 for size in sizes)


def _counted(*sizes: int) -> tuple[str, list[str]]:
    """Numbers of bytes in the unit that suits the last of them."""
    unit, worth = ("MiB", 1 << 20) if sizes[-1] >= 1 << 20 else ("KiB", 1 << 10)
    digits = 0 if sizes[-1] >= 10 * worth else 1
    return unit, [f"{size / worth:.{digits}f}" for size in sizes]
