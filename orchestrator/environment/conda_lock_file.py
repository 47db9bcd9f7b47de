"""Reads and writes `conda-lock.yml`, conda-lock's unified format, version 1. Runs in the worker.

Files from the wild are read as YAML: conda-lock's own models and rattler each refuse some that are sound.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import BAD_IN_URL, NAME, VERSION
from orchestrator.errors import OrchError

_VERSIONS = (1,)
_ARCHIVE = re.compile(
    r"(?P<name>[A-Za-z0-9_.][A-Za-z0-9_.-]*)-(?P<version>[A-Za-z0-9_.!+]+)-(?P<build>[A-Za-z0-9_.!+]+)\.(conda|tar\.bz2)"
)
_HASHES = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}
_SCHEMES = {
    "conda": ("https", "http", "file", "s3", "gcs", "oci"),
    "pip": ("https", "http", "git+https", "git+http", "git+ssh", "pkg"),
}


Categories = Mapping[tuple[str, str], Collection[str]]
"""Categories of packages, by manager and name."""


def load_lock(path: str, data: bytes) -> dict[str, Any]:
    """The table of a `conda-lock.yml`. Raises OrchError when it is not one that can be read."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        table = yaml.load(data.decode("utf-8"), loader)  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise OrchError(f"{path} is not valid YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(table, dict) or not isinstance(table.get("package"), list):
        raise OrchError(f"{path} is not a conda-lock file: it has no list `package`.")
    if table.get("version") not in _VERSIONS:
        raise OrchError(f"{path} has version {table.get('version')!r}; orch reads version 1 of conda-lock's format.")
    return table


def content_hash_of(table: Mapping[str, Any], platform: str) -> str | None:
    """The content hash that the lock has for a platform."""
    hashes = _metadata(table).get("content_hash")
    return hashes.get(platform) if isinstance(hashes, dict) else None


def sources_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that the lock was made from, relative to it."""
    sources = _metadata(table).get("sources")
    return tuple(str(source) for source in sources) if isinstance(sources, list) else ()


def remembered_of(table: Mapping[str, Any], key: str) -> str | None:
    """What `write_locks` was given to remember."""
    remembered = _metadata(table).get("custom_metadata")
    text = remembered.get(key) if isinstance(remembered, dict) else None
    return text if isinstance(text, str) else None


def _metadata(table: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = table.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def platforms_of(table: Mapping[str, Any]) -> list[str]:
    """The platforms that the lock has packages for, sorted."""
    return sorted({str(row["platform"]) for row in table["package"] if isinstance(row, dict) and "platform" in row})


def packages_of(
    path: str, table: Mapping[str, Any], platform: str, *, categories: Collection[str] | None = ("main",)
) -> tuple[list[LockedPackage], tuple[str, ...]]:
    """The packages of some categories (None: of all) for a platform, and the categories that were left out.

    What a package needs, and of which kind it is, a conda-lock file only claims: see `engine.packaged`.

    Raises OrchError for a platform that the lock lacks (naming those it has), when nothing is in those categories, for
    a package without sha256 or whose name, version or build is not that of its file, and when there are packages for
    Python and no python.
    """
    rows = [
        (number, row)
        for number, row in enumerate(table["package"], 1)
        if isinstance(row, dict) and row.get("platform") == platform
    ]
    if not rows:
        raise OrchError(f"{path} has no packages for {platform}; it has {', '.join(platforms_of(table)) or 'none'}.")
    packages: dict[tuple[str, str], LockedPackage] = {}
    others: set[str] = set()
    seen: set[tuple[str, str, str]] = set()
    for number, row in rows:
        try:
            category = _text(row, "category") if row.get("category") else "main"
            if categories is not None and category not in categories:
                others.add(category)
                continue
            package = _package(row)
        except ValueError as error:
            name = row.get("name")
            named = f" ({name})" if isinstance(name, str) and re.fullmatch(NAME, name) else ""
            raise OrchError(f"{path}, package {number}{named}: {error}.") from error
        key = (package.manager, package.name.lower())
        # A package of two categories stands there twice.
        if packages.setdefault(key, package) != package or (*key, category) in seen:
            raise OrchError(f"{path} has {package.name} of {package.manager} twice for {platform}.")
        seen.add((*key, category))
    if not packages:
        wanted = " and ".join(sorted(categories or ()))
        raise OrchError(f"{path} has nothing for {platform} in {wanted}, only in {', '.join(sorted(others))}.")
    _refuse_incomplete(path, list(packages.values()))
    return list(packages.values()), tuple(sorted(others))


@dataclass(frozen=True, slots=True)
class Row:
    """A package of a lock that has no sha256: its row in the table, the hashes of other kinds, what it would be."""

    table: dict[str, Any]
    hashes: Mapping[str, str]
    package: LockedPackage


def unhashed_rows(table: Mapping[str, Any], platform: str) -> list[Row]:
    """The packages of the category `main` for a platform that have no sha256 and are sound but for that."""
    found = []
    for row in table["package"]:
        if not isinstance(row, dict) or row.get("platform") != platform or (row.get("category") or "main") != "main":
            continue
        hashes = _hashes(row.get("hash"))
        if "sha256" not in hashes:
            try:
                package = _package({**row, "hash": {**hashes, "sha256": "0" * 64}})
            except ValueError:
                continue  # `packages_of` says what is wrong with it
            found.append(Row(row, hashes, replace(package, sha256="")))
    return found


def _refuse_incomplete(path: str, packages: Sequence[LockedPackage]) -> None:
    # A file that was cut off, or edited by hand, can be valid YAML.
    names = {package.name.lower() for package in packages if package.manager == "conda"}
    for package in packages:
        needs = (
            {text.partition(" ")[0].lower() for text in package.depends} if package.manager == "conda" else {"python"}
        )
        for name in sorted(needs - names):
            if not name.startswith("__"):
                raise OrchError(
                    f"{path} is incomplete: {package.name} needs {name}, which it does not have. Make the lock anew."
                )


def refuse_without(path: str, wanted: Iterable[str], packages: Iterable[LockedPackage]) -> None:
    """Raise OrchError when the lock at `path` lacks a package of the names that its environment file asks for."""
    names = {package.name.lower() for package in packages}
    for name in wanted:
        if name not in names and not name.startswith("__"):
            raise OrchError(
                f"{path} is incomplete: it does not have {name}, which its environment file asks for. Make the lock "
                "anew."
            )


def _package(row: Mapping[str, Any]) -> LockedPackage:
    """The package of a row. Raises ValueError with what is wrong with the row."""
    manager, name = _text(row, "manager"), _text(row, "name")
    if manager not in _SCHEMES:
        raise ValueError(f"its manager is {manager!r}; orch knows conda and pip")
    if not re.fullmatch(NAME, name):
        raise ValueError(f"its name is {name!r}, which no package can have")
    url = _url(row, _SCHEMES[manager])
    hashes = _hashes(row.get("hash"))
    if "sha256" not in hashes:
        raise ValueError(
            f"it has no sha256 for {name} {row.get('version')}: it can't be verified and is refused; "
            "only `orch run --allow-unhashed` takes what its channel or index has now"
        )
    parts = urlsplit(url)
    # A wheel that orch kept is named in a package URL.
    named = parse_qs(parts.query).get("file_name") if parts.scheme == "pkg" else None
    file_name = Path(named[0]).name if named else unquote(parts.path).rpartition("/")[2]
    if manager == "pip":
        version = _pip_version(row, file_name, url)
        return LockedPackage("pip", name, version, None, url, file_name, hashes["sha256"], md5=hashes.get("md5"))
    archive = _ARCHIVE.fullmatch(file_name)
    if archive is None or url.count("/") < 2:
        raise ValueError(f"its url {without_credentials(url)} is not that of a conda package")
    _same(row, "name", name.lower() == archive["name"].lower(), file_name)
    for key in ("version", "build"):
        _same(row, key, row.get(key) in (archive[key], None, ""), file_name)
    channel, subdir, _ = url.rsplit("/", 2)
    return LockedPackage(
        manager="conda",
        name=name,
        version=archive["version"],
        build=archive["build"],
        url=url,
        file_name=file_name,
        sha256=hashes["sha256"],
        md5=hashes.get("md5"),
        subdir=subdir,
        channel=channel,
        depends=tuple(_depends(row.get("dependencies"))),
    )


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"its {key} is {value!r}, which is no text")
    return value


def _url(row: Mapping[str, Any], schemes: Sequence[str]) -> str:
    url = _text(row, "url")
    try:
        good = urlsplit(url).scheme in schemes and not re.search(BAD_IN_URL, url)
    except ValueError:
        good = False
    if not good:
        kinds = ", ".join(schemes)
        raise ValueError(f"its url is {without_credentials(repr(url))}; one of the kinds {kinds} is needed")
    return url


def _pip_version(row: Mapping[str, Any], file_name: str, url: str) -> str:
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    given = row.get("version")
    text = str(given)
    if not file_name.endswith(".whl"):
        if urlsplit(url).scheme == "pkg" or not re.fullmatch(VERSION, text):
            raise ValueError(f"its version is {given!r} and its url {without_credentials(url)}, which name no package")
        return text
    try:
        name, version, _, _ = parse_wheel_filename(file_name)
    except InvalidWheelFilename as error:
        raise ValueError(f"its url {without_credentials(url)} is not that of a wheel") from error
    try:
        same = Version(text) == version
    except InvalidVersion:
        same = False
    _same(row, "name", canonicalize_name(row["name"]) == name, file_name)
    _same(row, "version", same, file_name)
    return str(version)


def _same(row: Mapping[str, Any], key: str, same: bool, file_name: str) -> None:
    # Where YAML made a number of it (3.10 is 3.1), the file's name is what there is.
    if not same and not isinstance(value := row.get(key), (int, float)):
        raise ValueError(f"its {key} is {value!r}, its file {file_name}")


def _hashes(value: object) -> dict[str, str]:
    if isinstance(value, dict):
        found = {kind: text for kind, text in value.items() if isinstance(text, str)}
    else:
        # An early form: `sha256:...`.
        kind, _, text = str(value).partition(":")
        found = {kind: text}
    return {kind: found[kind] for kind, form in _HASHES.items() if form.fullmatch(found.get(kind, ""))}


def _depends(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, spec in value.items():
            yield f"{name} {spec or ''}".strip()
    elif isinstance(value, list):
        yield from (str(item) for item in value)


def write_locks(
    path: Path,
    packages: Mapping[str, Sequence[LockedPackage]],
    *,
    channels: Sequence[str],
    sources: Sequence[str],
    content_hashes: Mapping[str, str],
    categories: Mapping[str, Categories] | None = None,
    remembered: Mapping[str, str] | None = None,
) -> None:
    """Write a `conda-lock.yml` with conda-lock's own models, so that its tools take it. Not atomic.

    `packages` and `content_hashes` are by platform; `categories` are those of the packages of a platform that are not
    in `main` alone; `remembered` is free text.
    """
    from conda_lock.lockfile import write_conda_lock_file
    from conda_lock.lockfile.v2prelim.models import Lockfile, LockMeta
    from conda_lock.models.channel import Channel

    lock = Lockfile(
        package=[
            _dependency(package, platform, (categories or {}).get(platform, {}))
            for platform, some in packages.items()
            for package in some
        ],
        metadata=LockMeta(
            content_hash=dict(content_hashes),
            channels=[Channel(url=channel, used_env_vars=()) for channel in channels],
            platforms=list(packages),
            sources=list(sources),
            custom_metadata=dict(remembered) if remembered else None,
        ),
    )
    write_conda_lock_file(lock, path, metadata_choices=None, include_help_text=False)


def _dependency(package: LockedPackage, platform: str, categories: Categories) -> Any:
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
        categories=set(categories.get((package.manager, package.name), {"main"})),
    )


def no_names(folder: Path) -> str:
    """An empty table of PyPI's names in conda, where they are of no matter; conda-lock would fetch its own."""
    place = folder / ".no-names.json"
    place.write_text("{}", "utf-8")
    return str(place)


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
    given = folder / "virtual-packages.yml"
    try:
        spec = make_lock_spec(src_files=files, mapping_url=no_names(layout), platform_overrides=[platform])
        if given.is_file():
            repository = virtual_package_repo_from_specification(given)
        else:
            repository = default_virtual_package_repodata()
        value: str = compute_content_hashes(spec, repository)[platform]
    except Exception:
        # Its parser fails in many ways on what real files hold (`-r`, `.`, options); that is no fault of the file.
        return None
    return value
