"""Reads and writes `conda-lock.yml`, conda-lock's unified format, version 1. Runs in the worker.

Files from the wild are read as YAML: conda-lock's own models and rattler each refuse some that are sound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from orchestrator.environment.lock import LockedPackage
from orchestrator.errors import OrchError

_VERSIONS = (1,)
_ARCHIVE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)\.(conda|tar\.bz2)")


def load_lock(path: str, data: bytes) -> dict[str, Any]:
    """The table of a `conda-lock.yml`. Raises OrchError when it is not one that can be read."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        table = yaml.load(data.decode("utf-8"), loader)  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OrchError(f"{path} is not valid YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(table, dict) or not isinstance(table.get("package"), list):
        raise OrchError(f"{path} is not a conda-lock file: it has no list `package`.")
    if table.get("version") not in _VERSIONS:
        raise OrchError(f"{path} has version {table.get('version')!r}; orch reads version 1 of conda-lock's format.")
    return table


def content_hash_of(table: Mapping[str, Any], platform: str) -> str | None:
    """The content hash that the lock has for a platform."""
    hashes = table.get("metadata", {}).get("content_hash", {})
    return hashes.get(platform) if isinstance(hashes, dict) else None


def sources_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that the lock was made from, relative to it."""
    return tuple(str(source) for source in table.get("metadata", {}).get("sources", ()))


def packages_of(path: str, table: Mapping[str, Any], platform: str) -> tuple[list[LockedPackage], tuple[str, ...]]:
    """The packages of the category `main` for a platform, and the other categories that were left out.

    Raises OrchError for a platform that the lock lacks (naming those it has), and for a package without sha256.
    """
    rows = [row for row in table["package"] if isinstance(row, dict) and row.get("platform") == platform]
    if not rows:
        there = sorted(
            {str(row["platform"]) for row in table["package"] if isinstance(row, dict) and "platform" in row}
        )
        raise OrchError(f"{path} has no packages for {platform}; it has {', '.join(there) or 'none'}.")
    try:
        kept = [row for row in rows if (row.get("category") or "main") == "main"]
        others = tuple(sorted({row["category"] for row in rows} - {"main"} if len(kept) < len(rows) else ()))
        return [_package(path, row) for row in kept], others
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise OrchError(f"{path} has a package that can't be read: {type(error).__name__} {error}.") from error


def _package(path: str, row: Mapping[str, Any]) -> LockedPackage:
    manager, name, version, url = row["manager"], row["name"], str(row["version"]), row["url"]
    if manager not in ("conda", "pip"):
        raise OrchError(f"{path}: {name} is of the manager {manager!r}; orch knows conda and pip.")
    hashes = _hashes(row["hash"])
    if "sha256" not in hashes:
        raise OrchError(f"{path} has no sha256 for {name} {version}: it can't be verified and is refused.")
    parts = urlsplit(url)
    # A wheel that orch kept is named in a package URL.
    named = parse_qs(parts.query).get("file_name") if parts.scheme == "pkg" else None
    file_name = Path(named[0]).name if named else unquote(parts.path).rpartition("/")[2]
    depends = row.get("dependencies") or {}
    if manager == "pip":
        return LockedPackage("pip", name, version, None, url, file_name, hashes["sha256"], md5=hashes.get("md5"))
    archive = _ARCHIVE.fullmatch(file_name)
    if archive is None:
        raise OrchError(f"{path}: {url} is not the URL of a conda package.")
    channel, subdir, _ = url.rsplit("/", 2)
    return LockedPackage(
        manager="conda",
        name=name,
        version=version,
        build=row.get("build") or archive["build"],
        url=url,
        file_name=file_name,
        sha256=hashes["sha256"],
        md5=hashes.get("md5"),
        subdir=subdir,
        channel=channel,
        depends=tuple(_depends(depends)),
    )


def _hashes(value: object) -> dict[str, str]:
    if isinstance(value, dict):
        found = {str(kind): text for kind, text in value.items() if isinstance(text, str)}
    else:
        # An early form: `sha256:...`.
        kind, _, text = str(value).partition(":")
        found = {kind: text}
    return {kind: text for kind, text in found.items() if re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", text)}


def _depends(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, spec in value.items():
            yield f"{name} {spec or ''}".strip()
    elif isinstance(value, list):
        yield from (str(item) for item in value)


def write_lock(
    path: Path,
    packages: Sequence[LockedPackage],
    *,
    platform: str,
    channels: Sequence[str],
    sources: Sequence[str],
    content_hash: str,
) -> None:
    """Write a `conda-lock.yml` with conda-lock's own models, so that its tools take it. Not atomic."""
    from conda_lock.lockfile import write_conda_lock_file
    from conda_lock.lockfile.v2prelim.models import Lockfile, LockMeta
    from conda_lock.models.channel import Channel

    lock = Lockfile(
        package=[_dependency(package, platform) for package in packages],
        metadata=LockMeta(
            content_hash={platform: content_hash},
            channels=[Channel(url=channel, used_env_vars=()) for channel in channels],
            platforms=[platform],
            sources=list(sources),
        ),
    )
    write_conda_lock_file(lock, path, metadata_choices=None, include_help_text=False)


def _dependency(package: LockedPackage, platform: str) -> Any:
    from conda_lock.lockfile.v2prelim.models import HashModel, LockedDependency

    depends: dict[str, str] = {}
    for text in package.depends:
        name, _, spec = text.partition(" ")
        name = name.split("[")[0]
        depends[name] = ",".join(part for part in (depends.get(name), spec) if part)
    return LockedDependency(
        name=package.name,
        version=package.version,
        manager=package.manager,
        platform=platform,
        dependencies=depends,
        url=package.url,
        # conda-lock wants a field md5 for a conda package; a channel without it leaves it empty.
        hash=HashModel(
            md5=package.md5 or ("" if package.manager == "conda" else None),
            # Others build from the source themselves.
            sha256=package.source_sha256 or package.sha256,
        ),
        build=package.build,
        categories={"main"},
    )


def content_hash(layout: Path, path: str, sources: Sequence[str], platform: str) -> str | None:
    """conda-lock's content hash of the environment files `sources` beside `path`, both in the folder `layout`.

    None when a source is not there, or when conda-lock can't parse it.
    """
    from conda_lock.content_hash import compute_content_hashes
    from conda_lock.src_parser import make_lock_spec
    from conda_lock.virtual_package import default_virtual_package_repodata, virtual_package_repo_from_specification

    folder = (layout / path).parent
    files = [folder / source for source in sources]
    if not all(file.is_file() for file in files):
        return None
    # conda-lock would fetch its table of PyPI names; names of pip packages do not enter the hash through it.
    mapping = layout / ".pypi-names.json"
    mapping.write_text("{}", "utf-8")
    given = folder / "virtual-packages.yml"
    try:
        spec = make_lock_spec(src_files=files, mapping_url=str(mapping), platform_overrides=[platform])
        if given.is_file():
            repository = virtual_package_repo_from_specification(given)
        else:
            repository = default_virtual_package_repodata()
        value: str = compute_content_hashes(spec, repository)[platform]
    except Exception:
        # Its parser fails in many ways on what real files hold (`-r`, `.`, options); that is no fault of the file.
        return None
    return value
