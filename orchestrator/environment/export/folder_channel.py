"""An environment as a folder that is itself a conda channel: all that a machine without network needs.

    <subdir>/<archive>, <subdir>/repodata.json    a conda channel, of the packages of all channels of the lock
    pypi/<wheel>, pypi/simple/                    the wheels, and a package index (PEP 503) of them
    conda-lock.yml                                the lock
    config.toml                                   what makes a machine ask this folder in place of the channels

Only `export_channel` is for other processes than the worker.
"""

from __future__ import annotations

import html
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.environment.export.archives import fetch_archives
from orchestrator.environment.export.public import is_local, published
from orchestrator.environment.host import PLATFORMS
from orchestrator.environment.lock import Lock, LockedPackage, read_lock
from orchestrator.environment.offline import NO_ADDRESS
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError, UsageError
from orchestrator.files import sha256_of_file, write_whole
from orchestrator.paths import Home
from orchestrator.report import Report, silent

PLACE = "/PLACE/OF/THE/FOLDER"
"""What stands in `config.toml` for the folder's path on the other machine."""

_OTHER_INDEXES = (
    "channel.json",
    *(f"*/{name}" for name in ("*repodata*.zst", "*repodata*.bz2", "current_repodata.json")),
)
"""What stands in a channel that another tool keeps: it would no longer fit, or be written over."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What is now in the folder for the locks. `size` is in bytes; `config` are the lines for the other machine."""

    packages: int
    wheels: int
    size: int
    config: str


def export_channel(folder: Path, lock_ids: Mapping[str, str], *, home: Home, report: Report = silent) -> Exported:
    """Write, or complete, a channel in `folder` with every package of the locks (by platform), wheels included.

    A channel that is there grows; each file appears whole or not at all, the indexes last, and the same locks give
    the same bytes. No path of this machine and no credential is in any file. Raises UsageError when `folder` is
    something else, OrchError when a package can't be had or differs from the lock.
    """
    from orchestrator.environment.worker import run_job

    job = {"folder": str(folder.absolute()), "locks": dict(lock_ids)}
    _refuse_other(folder)
    return Exported(**run_job("channel", job, home=home, report=report))


def _refuse_other(folder: Path) -> None:
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"{folder} is a file; --format channel writes a folder.") from None
    except OSError as error:
        raise OrchError(f"{folder} can't be read: {error.strerror}.") from error
    if names - {".lock", "noarch"} and not (folder / "noarch/repodata.json").is_file():
        raise UsageError(f"{folder} has files and is no conda channel: name an empty folder, or one that is not there.")
    if others := [path.relative_to(folder) for pattern in _OTHER_INDEXES for path in folder.glob(pattern)]:
        raise UsageError(f"{folder} is a channel that something else keeps ({others[0]}): name a folder of its own.")


# --- inside the worker ------------------------------------------------------------------------------------------


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """The job `channel`: `job["locks"]` into `job["folder"]`; the fields of `Exported`."""
    from filelock import FileLock

    from orchestrator.environment.repodata import write_indexes

    folder = Path(job["folder"])
    locks = [read_lock(home, lock_id, platform) for platform, lock_id in sorted(job["locks"].items())]
    wanted = _places(locks)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for left in folder.glob(".new-*"):
                shutil.rmtree(left)  # of an export that was killed: the lock is ours
            write_indexes(folder)  # From here on it is a channel, of what there is, and may be completed.
            fetch_archives(folder, wanted, home=home, report=report, phase="channel")
            write_indexes(folder, said=_said(locks), subdirs=[lock.platform for lock in locks])
            wheels = _write_simple_index(folder / "pypi", wanted.values())
            _write(folder / "conda-lock.yml", _lock_file(locks, home, report))
            config = _config(_mirrored(locks, home) | _mirrored_before(folder), wheels=wheels)
            _write(folder / "config.toml", config)
        size = sum((folder / place).stat().st_size for place in wanted)
    except OSError as error:
        raise OrchError(
            f"the channel {folder} can't be written: {error.strerror} ({error.filename or folder})."
        ) from error
    conda = [package for package in wanted.values() if package.manager == "conda"]
    exported = Exported(len(conda), len(wanted) - len(conda), size, config)
    return asdict(exported)


def _places(locks: Iterable[Lock]) -> dict[str, LockedPackage]:
    """The packages by their paths in the folder. Raises OrchError when two different ones have the same."""
    found: dict[str, LockedPackage] = {}
    for lock in locks:
        for package in lock.packages:
            place = _place(package)
            other = found.setdefault(place, package)
            if other.sha256 != package.sha256:
                raise OrchError(
                    f"two packages are called {place}, and a folder has room for one: that of {_origin(other)} (sha256 "
                    f"{other.sha256}) and that of {_origin(package)} (sha256 {package.sha256}). Export each platform "
                    "into a folder of its own, with --platform."
                )
    return dict(sorted(found.items()))


def _place(package: LockedPackage) -> str:
    # An adopted lock, and the package itself, may say what they like.
    name, subdir = package.file_name, package.subdir or "noarch"
    ends = (".whl",) if package.manager == "pip" else (".conda", ".tar.bz2")
    if not name.endswith(ends) or name.startswith(".") or any(c in name for c in "/\\\0\n\r"):
        raise OrchError(f"the lock has the file {name!r}, which is no {package.manager} package.")
    if package.manager == "pip":
        return f"pypi/{name}"
    if subdir not in ("noarch", *PLATFORMS):
        raise OrchError(f"{name} is said to be for {subdir!r}, which is no platform.")
    return f"{subdir}/{name}"


def _origin(package: LockedPackage) -> str:
    return without_credentials(package.channel or package.url)


def _said(locks: Iterable[Lock]) -> dict[str, dict[str, Any]]:
    """What channels said of packages, by their paths in the folder.

    A channel corrects what its packages say of what they need; a solve elsewhere must see what this one saw. Locks
    that were brought by a project say nothing of it that can be trusted.
    """
    return {
        _place(package): {"depends": list(package.depends), "constrains": list(package.constrains)}
        for lock in locks
        if lock.solved
        for package in lock.packages
        if package.manager == "conda"
    }


def _write_simple_index(folder: Path, packages: Iterable[LockedPackage]) -> bool:
    """The pages of all wheels in the folder; whether there are any. An earlier page is asked for what nobody says."""
    from packaging.utils import parse_wheel_filename

    uploaded = {package.file_name: package.timestamp for package in packages if package.timestamp is not None}
    links: dict[str, list[str]] = defaultdict(list)
    for wheel in sorted(folder.glob("*.whl")):
        name = str(parse_wheel_filename(wheel.name)[0])
        page = folder / "simple" / name / "index.html"
        known = page.read_text("utf-8") if page.exists() else ""
        time = uploaded.get(wheel.name)
        if time is None and (line := _line_of(wheel.name, known)) is not None:
            links[name].append(line)
        else:
            links[name].append(_link(f"../../{quote(wheel.name)}#sha256={sha256_of_file(wheel)}", wheel.name, time))
    for name, lines in links.items():
        _write(folder / "simple" / name / "index.html", _page(lines))
    if links:
        _write(folder / "simple" / "index.html", _page(_link(f"{name}/", name) for name in sorted(links)))
    return bool(links)


def _line_of(name: str, page: str) -> str | None:
    return next((line for line in page.splitlines(keepends=True) if line.endswith(_ending(name))), None)


def _link(address: str, name: str, uploaded: int | None = None) -> str:
    """A link. `uploaded`, in milliseconds since the epoch, is what uv wants to know for a solve as of a day."""
    time = "" if uploaded is None else f' data-upload-time="{datetime.fromtimestamp(uploaded / 1000, UTC).isoformat()}"'
    return f'<a href="{html.escape(address)}"{time}{_ending(name)}'


def _ending(name: str) -> str:
    return f">{html.escape(name)}</a><br>\n"


def _page(lines: Iterable[str]) -> str:
    return f"<!DOCTYPE html>\n{''.join(lines)}"


def _lock_file(locks: Sequence[Lock], home: Home, report: Report) -> str:
    """The `conda-lock.yml` of locks, the same packages by addresses that the folder stands for."""
    from orchestrator.environment.export import locks as formats

    shown = [published(replace(lock, packages=tuple(map(_addressed, lock.packages))))[0] for lock in locks]
    text: str = formats.work(
        {"format": "conda-lock", "locks": [asdict(lock) for lock in shown]}, home=home, report=report
    )["text"]
    return text


def _addressed(package: LockedPackage) -> LockedPackage:
    if package.manager == "conda":
        return without_its_address(package) if is_local(package.url) else package
    if package.source_sha256 is None and package.url.startswith(("https:", "http:")):
        return package
    # Built here: to build it again would ask the network, and give other bytes.
    return without_its_address(package)


def without_its_address(package: LockedPackage) -> LockedPackage:
    """The package as one that has no address but in what is exported. Raises OrchError for a file name that is none."""
    url = f"{NO_ADDRESS}/{quote(_place(package))}"
    return replace(package, url=url, channel=NO_ADDRESS if package.manager == "conda" else None, source_sha256=None)


# --- what the other machine must know ---------------------------------------------------------------------------


def _mirrored(locks: Iterable[Lock], home: Home) -> set[str]:
    """The URLs of the channels that the folder stands for: those asked, and those that packages came from."""
    from orchestrator.environment import engine
    from orchestrator.environment.config import read_settings

    asked = {name for lock in locks for name in lock.channels if not is_local(name)}
    came_from = {_addressed(package).channel or "" for lock in locks for package in lock.packages}
    urls = {*engine.channel_urls(sorted(asked), read_settings(home)), *came_from} - {""}
    return {without_credentials(url) for url in urls if not is_local(url)}


def _mirrored_before(folder: Path) -> set[str]:
    import tomllib

    try:
        return set(tomllib.loads((folder / "config.toml").read_text("utf-8"))["mirrors"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _config(channels: Iterable[str], *, wheels: bool) -> str:
    lines = [
        f"# For $ORCH_HOME/config.toml of another machine, with the folder's own path in place of {PLACE}.",
        "# Then orch runs there with --offline.",
        "",
        "[mirrors]",
        *(f"{json.dumps(url)} = [{json.dumps(PLACE)}]" for url in sorted(channels)),
    ]
    if wheels:
        lines += ["", "[pypi]", f"index = {json.dumps(f'file://{PLACE}/pypi/simple')}"]
    return "\n".join([*lines, ""])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
