"""The job `export`: locks in the formats that conda-lock and rattler write. Runs in the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from orchestrator.canonical import sha256_of
from orchestrator.environment.conda_lock_file import content_hash_of, load_lock, sources_of, write_locks
from orchestrator.environment.export.plain import channels_of
from orchestrator.environment.lock import Lock, LockedPackage, lock_path
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """`{text}`: locks that may be shown, as one `conda-lock.yml` or `pixi.lock`."""
    locks = [_lock(row) for row in job["locks"]]
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "lock.yml"
        if job["format"] == "conda-lock":
            _write_conda_lock(path, locks, home)
        else:
            _write_pixi_lock(path, locks)
        return {"text": path.read_text("utf-8")}


def _lock(row: Mapping[str, Any]) -> Lock:
    packages = tuple(LockedPackage(**{**p, **_tuples(p, "depends", "constrains")}) for p in row["packages"])
    asked = _tuples(row, "channels", "virtual_packages", "conda", "pip")
    return Lock(**{**row, **asked, "packages": packages})


def _tuples(row: Mapping[str, Any], *keys: str) -> dict[str, tuple[str, ...]]:
    return {key: tuple(row[key]) for key in keys}


def _write_conda_lock(path: Path, locks: Sequence[Lock], home: Home) -> None:
    digests, sources = {}, list[str]()
    for lock in locks:
        digest, names = _made_from(lock, home)
        digests[lock.platform] = digest
        sources += [name for name in names if name not in sources]
    packages = {lock.platform: lock.packages for lock in locks}
    write_locks(path, packages, channels=channels_of(locks), sources=sources, content_hashes=digests)


def _made_from(lock: Lock, home: Home) -> tuple[str, tuple[str, ...]]:
    """conda-lock's content hash and the sources of a lock, as its own file has them where that is there."""
    kept = lock_path(home, lock.lock_id)
    try:
        table = load_lock(kept.name, kept.read_bytes())
    except (OSError, OrchError):
        table = {}
    digest = content_hash_of(table, lock.platform) if table else None
    # A source that is named by its whole path is of the machine that wrote the lock.
    sources = tuple(Path(name).name if name.startswith(("/", "~")) else name for name in sources_of(table))
    return digest or sha256_of([lock.conda, lock.pip, list(lock.channels), lock.lock_id]), sources


# --- pixi.lock --------------------------------------------------------------------------------------------------


def _write_pixi_lock(path: Path, locks: Sequence[Lock]) -> None:
    import rattler

    from orchestrator.environment.engine import package_record

    platforms = {lock.platform: rattler.LockPlatform(lock.platform) for lock in locks}
    file = rattler.LockFile(list(platforms.values()))
    file.set_channels("default", [rattler.LockChannel(f"{url}/") for url in _channel_urls(locks)])
    for lock in locks:
        for package in lock.packages:
            platform = platforms[lock.platform]
            if package.manager == "conda":
                urls = _whole(package.url), _whole(package.channel or "")
                record = rattler.RepoDataRecord(package_record(package), package.file_name, *urls)
                file.add_conda_package("default", platform, record)
            else:
                file.add_pypi_package("default", platform, package.name, package.version, package.url)
    file.to_path(path)
    _add_hashes(path, locks)


def _channel_urls(locks: Sequence[Lock]) -> list[str]:
    """Those that packages came from, which must be whole; in the order in which they were asked for by name."""
    asked = [channel.rstrip("/") for lock in locks for channel in lock.channels]
    urls = dict.fromkeys(p.channel for lock in locks for p in lock.packages if p.channel and "://" in p.channel)

    def place(url: str) -> int:
        return next((n for n, name in enumerate(asked) if url == name or url.endswith(f"/{name}")), len(asked))

    return sorted(urls, key=place)


def _whole(url: str) -> str:
    # rattler takes nothing but URLs, also where only the name of a file or a channel may be told.
    return url if urlsplit(url).scheme else f"file:///{url}"


def _add_hashes(path: Path, locks: Sequence[Lock]) -> None:
    """Put the sha256 of pip packages, which rattler's writer can't be given, into the file."""
    import yaml

    hashes = {p.url: p.source_sha256 or p.sha256 for lock in locks for p in lock.packages if p.manager == "pip"}
    if not hashes:
        return
    table = yaml.safe_load(path.read_text("utf-8"))
    for row in table["packages"]:
        url = row.get("pypi")
        # Of a git repository or a package URL nothing can be fetched that has this hash.
        if url in hashes and url.startswith(("https:", "http:")):
            row["sha256"] = hashes[url]
    path.write_text(yaml.safe_dump(table, sort_keys=False, width=10_000, allow_unicode=True), "utf-8")
