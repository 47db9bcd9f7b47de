"""Whether a lock that may come from anybody is one that this home would have written itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from orchestrator.canonical import canonical_json
from orchestrator.environment.export.public import published
from orchestrator.environment.host import PLATFORMS
from orchestrator.environment.lock import LOCK_VERSION, Lock, LockedPackage, lock_id_of
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import BAD_IN_URL
from orchestrator.errors import OrchError

CONDA_LOCK, PACKAGES = "conda-lock.yml", "packages.json"
LOCK_FILES = (CONDA_LOCK, PACKAGES)
"""The files of a lock."""

PACKAGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!~=-]*(\.conda|\.tar\.bz2|\.whl)")
"""The file name of a package, as conda and PyPI have them."""

_BYTES = 8 << 20
"""Most bytes that a file of a lock may have. A thousand packages take about one million."""
_ROWS = 10_000
_PARTS = 300_000
"""Most values that a file may hold: pydantic and YAML take a thousand bytes for each. A thousand packages have about
50,000."""
_TEXT = 4096
_LAST = 253_402_300_799_000
"""The end of the year 9999, in milliseconds since the epoch: no later time can be written."""
_MOST = 2**53
_DEPTH = 16
_SHOWN = 120
_SAID = ("manager", "name", "version", "build", "url")
_SHA256, _MD5 = r"[0-9a-f]{64}", r"[0-9a-f]{32}"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ENDS = {"conda": (".conda", ".tar.bz2"), "pip": (".whl",)}


def check_lock(lock_id: str, platform: str, files: Mapping[str, bytes]) -> tuple[LockedPackage, ...]:
    """The packages of a lock whose `files` may come from anybody.

    Nothing is taken from it that this home would not have written itself: the id is that of the packages, names are
    those of their files, addresses are on servers and have no credentials, and both files say the same. Raises
    OrchError with what is wrong.
    """
    try:
        lock = _checked_table(lock_id, platform, files)
        _check_conda_lock(lock, platform, files[CONDA_LOCK])
    except ValueError as error:
        raise OrchError(f"the lock {_shown(lock_id)[:12]} is refused: {error}.") from error
    return lock.packages


def is_file_at(url: str, file_name: str) -> bool:
    """Whether a URL is that of a file of this name, on a server."""
    if len(url) > _TEXT or re.search(BAD_IN_URL, url):
        return False
    try:
        parts = urlsplit(url)
        is_server = parts.scheme in ("https", "http") and bool(parts.hostname)
    except ValueError:
        return False
    return is_server and unquote(parts.path).rpartition("/")[2] == file_name


# --- what is refused: each of these raises ValueError with what is wrong ------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """`packages.json`, as pydantic reads it: these keys and types, and no others."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    version: int
    platform: str
    packages: tuple[LockedPackage, ...]
    solved: bool
    channels: tuple[str, ...]
    virtual_packages: tuple[str, ...]
    as_of: str | None
    conda: tuple[str, ...]
    pip: tuple[str, ...]


def _checked_table(lock_id: str, platform: str, files: Mapping[str, bytes]) -> Lock:
    from orchestrator.environment.conda_lock_file import packages_of

    _refuse_files(lock_id, platform, files)
    lock = _read_table(lock_id, files[PACKAGES])
    if lock.platform not in PLATFORMS:
        raise ValueError(f"it is for the platform {_shown(lock.platform)}, which conda does not know")
    for package in lock.packages:
        try:
            _refuse_package(package)
        except ValueError as error:
            raise ValueError(f"{PACKAGES}, {_shown(package.file_name)}: {error}") from error
        if lock.platform != platform and package.subdir not in (None, "noarch"):
            raise ValueError(f"it is for {lock.platform}, not for {platform}")
    _refuse_doubles(lock.packages)
    if (found := lock_id_of(lock.packages)) != lock_id:
        raise ValueError(f"the packages that it has are those of the lock {found[:12]}")
    try:
        # The words of a file are held against its name as those of a lock are that a project brings.
        packages_of(PACKAGES, {"package": [_row(package, platform) for package in lock.packages]}, platform)
    except OrchError as error:
        raise ValueError(str(error).rstrip(".")) from error
    if published(lock)[0] != lock:
        raise ValueError(f"{PACKAGES} has credentials, or names places of the machine that made it")
    return lock


def _refuse_files(lock_id: str, platform: str, files: Mapping[str, bytes]) -> None:
    if not re.fullmatch(_SHA256, lock_id):
        raise ValueError("its id is none: 64 hex digits are")
    if platform not in PLATFORMS:
        raise ValueError(f"conda does not know the platform {_shown(platform)}")
    if sorted(files) != sorted(LOCK_FILES):
        raise ValueError(
            f"it has {', '.join(map(_shown, sorted(files))) or 'no file'}; {' and '.join(LOCK_FILES)} make one"
        )
    for name, data in files.items():
        if len(data) > _BYTES:
            raise ValueError(f"{name} has {len(data)} bytes, more than {_BYTES}")


def _read_table(lock_id: str, data: bytes) -> Lock:
    from pydantic import TypeAdapter, ValidationError

    if data.count(b",") > _PARTS:
        raise ValueError(f"{PACKAGES} has too many values")
    try:
        table = TypeAdapter(_Table).validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(_shown(str(part)) for part in first["loc"])
        raise ValueError(f"{PACKAGES}{', ' if place else ''}{place}: {_shown(first['msg'])}") from error
    if table.version != LOCK_VERSION:
        raise ValueError(f"{PACKAGES} has version {table.version}; this orch knows version {LOCK_VERSION}")
    if canonical_json(asdict(table)) != data:
        raise ValueError(f"{PACKAGES} is not canonical JSON")
    if not 0 < len(table.packages) <= _ROWS:
        raise ValueError(f"it has {len(table.packages)} packages; from 1 to {_ROWS} are taken")
    if table.solved:
        raise ValueError("it is said to have been solved here")
    asked = {key: getattr(table, key) for key in ("channels", "virtual_packages", "conda", "pip")}
    _refuse_texts([*(text for texts in asked.values() for text in texts), table.as_of or ""])
    if list(table.packages) != sorted(table.packages, key=lambda package: (package.manager, package.name)):
        raise ValueError(f"{PACKAGES} is not sorted")
    return Lock(lock_id, table.platform, table.packages, as_of=table.as_of, **asked)


def _refuse_package(package: LockedPackage) -> None:
    refuse_name(package)
    _refuse_texts([package.name, package.version, package.build or "", package.license or ""])
    _refuse_texts([*package.depends, *package.constrains])
    if not is_file_at(package.url, package.file_name):
        raise ValueError("its url is not that of its file on a server")
    for name, text, form in (("sha256", package.sha256, _SHA256), ("md5", package.md5, _MD5)):
        if text is not None and not re.fullmatch(form, text):
            raise ValueError(f"its {name} is none")
    for name, number, most in (("size", package.size, _MOST), ("timestamp", package.timestamp, _LAST)):
        if number is not None and not 0 <= number <= most:
            raise ValueError(f"its {name} is {number}")
    if package.source_sha256 is not None:
        raise ValueError("it has to be built, and no bundle carries what does not come built")
    only_conda = (package.build, package.subdir, package.channel, package.noarch, package.site_packages)
    if package.manager == "conda":
        _refuse_conda(package)
    elif any(text is not None for text in only_conda):
        raise ValueError("it is of pip, and has what only conda packages have")


def _refuse_conda(package: LockedPackage) -> None:
    if package.subdir not in ("noarch", *PLATFORMS) or not package.build:
        raise ValueError("it has no build, or is for no platform that conda knows")
    if not is_file_at(f"{package.channel}/file", "file"):
        raise ValueError("its channel is not on a server")
    folder = package.site_packages
    if folder is not None and (folder.startswith("/") or ".." in folder.split("/") or "\\" in folder):
        raise ValueError("it has its packages outside of the environment")


def refuse_name(package: LockedPackage) -> None:
    name = package.file_name
    if len(name) > 255 or not PACKAGE_NAME.fullmatch(name) or not name.endswith(_ENDS[package.manager]):
        raise OrchError(f"the lock has the file {_shown(name)}, which is no {package.manager} package.")


def _refuse_doubles(packages: Sequence[LockedPackage]) -> None:
    from packaging.utils import canonicalize_name

    seen = set()
    for package in packages:
        name = canonicalize_name(package.name) if package.manager == "pip" else package.name.lower()
        if (package.manager, name) in seen:
            raise ValueError(f"it has {_shown(package.name)} of {package.manager} twice")
        seen.add((package.manager, name))


def _refuse_texts(texts: Sequence[str]) -> None:
    if len(texts) > _TEXT:
        raise ValueError(f"it has a list of {len(texts)} texts")
    for text in texts:
        if len(text) > _TEXT or _CONTROL.search(text):
            raise ValueError(f"it has the text {_shown(text)}, which is too long or has control characters")


def _row(package: LockedPackage, platform: str) -> dict[str, Any]:
    """The package as a row of a conda-lock file. What it needs is left out: a channel may say that in many ways."""
    version, build = package.version, package.build
    stem = re.sub(r"\.(conda|tar\.bz2)$", "", package.file_name)
    if stem.lower() == f"{package.name}-{version}-{build}".lower():
        _, version, build = stem.rsplit("-", 2)  # a channel may write them in other letters
    named = {"manager": package.manager, "name": package.name, "version": version, "build": build}
    return {**named, "platform": platform, "url": package.url, "hash": {"sha256": package.sha256}}


def _check_conda_lock(lock: Lock, platform: str, data: bytes) -> None:
    """Refuse a `conda-lock.yml` that says other than `packages.json`, for this platform or another."""
    from orchestrator.environment.conda_lock_file import load_lock

    _refuse_yaml(data)
    try:
        table = load_lock(CONDA_LOCK, data)
    except OrchError as error:
        raise ValueError(_shown(str(error).rstrip("."))) from error
    said: dict[str, list[tuple[object, ...]]] = {platform: []}
    for number, row in enumerate(table["package"], 1):
        if not isinstance(row, dict) or row.get("platform") not in PLATFORMS:
            raise ValueError(f"{CONDA_LOCK}, package {number}: it is for no platform that conda knows")
        digest = row["hash"].get("sha256") if isinstance(row.get("hash"), dict) else None
        said.setdefault(row["platform"], []).append((*map(row.get, _SAID), digest))
    true = sorted((*(getattr(package, key) for key in _SAID), package.sha256) for package in lock.packages)
    for name, rows in said.items():
        if sorted(rows, key=repr) != sorted(true, key=repr):
            raise ValueError(f"{CONDA_LOCK} and {PACKAGES} do not say the same for {name}")


def _refuse_yaml(data: bytes) -> None:
    """Refuse what conda-lock never writes, and what can make much of little: aliases, tags, deep nests."""
    import yaml

    depth = 0
    try:
        events = yaml.parse(data.decode("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for number, event in enumerate(events):
            if number > _PARTS:
                raise ValueError(f"{CONDA_LOCK} has too many values")
            opens = isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent))
            depth += opens - isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent))
            if getattr(event, "anchor", None) or getattr(event, "tag", None) or depth > _DEPTH:
                raise ValueError(f"{CONDA_LOCK} has an alias, a tag or a nest of YAML, which no lock needs")
            if "://" in (value := getattr(event, "value", "")) and without_credentials(value) != value:
                raise ValueError(f"{CONDA_LOCK} has credentials")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{CONDA_LOCK} is not valid YAML") from error


def _shown(text: str) -> str:
    """Somebody else's text as a part of a sentence."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return cut if cut.isprintable() else ascii(cut)
