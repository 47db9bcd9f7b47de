"""The files of packages, conda's and wheels, brought into a folder. Runs in the worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.environment.kept import kept_place
from orchestrator.environment.lock import LockedPackage
from orchestrator.errors import OrchError
from orchestrator.files import sha256_of_file
from orchestrator.paths import Home
from orchestrator.report import Report, plural, seldom


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """The job `packages`: the files of `job["packages"]` to `<sha256>/<file name>` in `job["folder"]`."""
    folder = Path(job["folder"])
    packages = [LockedPackage(**row) for row in job["packages"]]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {f"{package.sha256}/{package.file_name}": package for package in packages}
        fetch_archives(folder, wanted, home=home, report=report, phase="environment")
    except OSError as error:
        raise OrchError(f"{folder} can't be written: {error.strerror} ({error.filename or folder}).") from error
    return {}


def fetch_archives(
    folder: Path, wanted: Mapping[str, LockedPackage], *, home: Home, report: Report, phase: str
) -> None:
    """Bring the files of packages, each to its path in `folder`, whole and with the sha256 of the lock.

    What is there already stays, what is kept in the home is copied, the rest comes from channels and indexes. Raises
    OrchError that names a package that can't be had, offline all of them, and for another file at a path. `phase` is
    the word for `report`.
    """
    missing = {folder / place: package for place, package in wanted.items() if not _is_there(folder / place, package)}
    if not missing:
        return
    report(phase, f"fetching {plural(len(missing), 'package')}")
    done, say = [0], seldom(report)

    def fetched(_: LockedPackage) -> None:
        done[0] += 1
        say(phase, "packages", done=done[0], total=len(missing))

    for place in missing:
        place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as name:
        rest = _copy_kept(missing, Path(name), home=home, fetched=fetched)
        _fetch(rest, Path(name), home=home, fetched=fetched)


def _copy_kept(
    missing: Mapping[Path, LockedPackage], aside: Path, *, home: Home, fetched: Callable[[LockedPackage], None]
) -> dict[Path, LockedPackage]:
    """Copy what is kept; what is not, or damaged."""
    rest = {}
    for place, package in missing.items():
        kept, part = kept_place(home, package), aside / "kept.part"
        # Copies: others may write into what leaves the home.
        if kept.is_file() and sha256_of_file(Path(shutil.copyfile(kept, part))) == package.sha256:
            part.replace(place)
            fetched(package)
        else:
            rest[place] = package
    return rest


def _fetch(
    missing: Mapping[Path, LockedPackage], aside: Path, *, home: Home, fetched: Callable[[LockedPackage], None]
) -> None:
    from orchestrator.environment import engine
    from orchestrator.environment.export.wheels import fetch_wheels

    conda = {place: package for place, package in missing.items() if package.manager == "conda"}
    wheels = {place: package for place, package in missing.items() if package.manager == "pip"}
    channels = {package.channel or package.url.rsplit("/", 2)[0] for package in conda.values()}
    said = None
    try:
        if conda:
            with engine.connect(home, sorted(channels)) as connection:
                engine.run(engine.fetch(connection, conda, aside, fetched=fetched))
    except OrchError as error:
        if not home.offline:
            raise
        said = error
    try:
        if wheels:
            fetch_wheels(wheels, aside, home=home, fetched=fetched)
    except OrchError as error:
        raise OrchError(f"{said}\n{error}" if said else str(error)) from error
    if said:
        raise said


def _is_there(path: Path, package: LockedPackage) -> bool:
    """Whether the folder has the package. Raises OrchError when it has another file of that name."""
    if not path.exists():
        return False
    found = sha256_of_file(path)
    if found != package.sha256:
        raise OrchError(
            f"{path} is not the package of the lock: it has sha256 {found}, the lock says {package.sha256}. "
            "Export into another folder, or remove the file."
        )
    return True
