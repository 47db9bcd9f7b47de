"""Locks for tests of prefixes: written as the lock half writes them, out of a channel's own index, without solving."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from orchestrator.environment.lock import LOCK_VERSION, LockedPackage, kept_wheel, lock_id_of
from orchestrator.environment.package import Member, Recipe, write_package
from orchestrator.paths import Home

CONDA_FORGE = "https://conda.anaconda.org/conda-forge"


def conda_packages(channel: Path, *names: str, url: str = CONDA_FORGE) -> tuple[LockedPackage, ...]:
    """The newest packages of these names in a channel folder, as if they came from `url`."""
    newest: dict[str, LockedPackage] = {}
    for subdir in ("noarch", *(path.name for path in channel.iterdir() if path.is_dir() and path.name != "noarch")):
        repodata = channel / subdir / "repodata.json"
        if not repodata.exists():
            continue
        for file_name, row in json.loads(repodata.read_bytes())["packages.conda"].items():
            package = LockedPackage(
                manager="conda",
                name=row["name"],
                version=row["version"],
                build=row["build"],
                url=f"{url}/{subdir}/{file_name}",
                file_name=file_name,
                sha256=row["sha256"],
                md5=row["md5"],
                size=row["size"],
                subdir=subdir,
                channel=url,
                depends=tuple(row["depends"]),
            )
            known = newest.get(package.name)
            if known is None or _numbers(known.version) < _numbers(package.version):
                newest[package.name] = package
    return tuple(newest[name] for name in names)


def small_package(channel: Path, name: str, members: Iterable[Member], *, url: str = CONDA_FORGE) -> LockedPackage:
    """Write a conda package `name` 1.0, of any kind of files and for no Python, into a channel folder."""
    index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": []}
    index |= {"subdir": "noarch", "noarch": "generic", "timestamp": 0}
    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    file = write_package(Recipe(index, {}, lambda: members), channel / "noarch")
    data = file.read_bytes()
    return LockedPackage(
        manager="conda",
        name=name,
        version="1.0",
        build="0",
        url=f"{url}/noarch/{file.name}",
        file_name=file.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        subdir="noarch",
        channel=url,
    )


def pip_package(wheel: Path, url: str, *, sha256: str | None = None) -> LockedPackage:
    """A wheel file as a locked package that came from `url`."""
    name, version, *_ = wheel.name.split("-")
    return LockedPackage(
        manager="pip",
        name=name,
        version=version,
        build=None,
        url=url,
        file_name=wheel.name,
        sha256=sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest(),
    )


def write_lock(home: Home, packages: Iterable[LockedPackage]) -> str:
    """Put a lock of these packages into the home; returns its id."""
    packages = tuple(sorted(packages, key=lambda package: (package.manager, package.name)))
    lock_id = lock_id_of(packages)
    folder = home.locks / lock_id
    folder.mkdir(parents=True, exist_ok=True)
    table = {"version": LOCK_VERSION, "platform": "linux-64", "packages": [asdict(package) for package in packages]}
    (folder / "packages.json").write_text(json.dumps(table))
    return lock_id


def keep(home: Home, wheel: Path) -> None:
    """Keep a wheel as one that was built here."""
    data = wheel.read_bytes()
    kept = kept_wheel(home, hashlib.sha256(data).hexdigest(), wheel.name)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(data)


def make_wheel(folder: Path, name: str, files: Mapping[str, str], *, scripts: Iterable[str] = ()) -> Path:
    """A small real wheel `name` 1.0 with these files, and console scripts as `tool = module:function`."""
    info = f"{name}-1.0.dist-info"
    entry_points = "[console_scripts]\n" + "".join(f"{line}\n" for line in scripts)
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **({f"{info}/entry_points.txt": entry_points} if scripts else {}),
    }
    rows = []
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    rows.append(f"{info}/RECORD,,")
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**members, f"{info}/RECORD": "\n".join(rows) + "\n"}.items():
            archive.writestr(path, text)
    return wheel


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
