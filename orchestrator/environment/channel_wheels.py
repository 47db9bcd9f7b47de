"""The wheels that PyPI requirements come to on a platform, and when each was uploaded: uv chooses, pip downloads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.environment.package import MINOR, conda_platform
from orchestrator.environment.pylock import compiled
from orchestrator.environment.pypi import uv_environment
from orchestrator.environment.wheel_tags import platform_tags, uv_platform
from orchestrator.errors import OrchError
from orchestrator.files import sha256_of_file
from orchestrator.paths import Home

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def download_wheels(
    requirements: Sequence[Requirement], platform: str, folder: Path
) -> list[tuple[Path, datetime | None]]:
    """The wheels of the requirements and of all that they require, downloaded into `folder`, each with its upload time.

    They are looked for where pip is configured to look, for this Python. An index that is a folder, or an old one,
    tells no times; then the main index is asked, and a wheel that it does not know has None. Raises OrchError when
    there are no wheels for `platform`.
    """
    folder.mkdir()
    asked = [str(requirement) for requirement in requirements]
    # uv alone: pip takes the markers of a requirement to be about the machine that it runs on.
    locked = _compiled(asked, platform, folder)
    if isinstance(locked, str):
        raise OrchError(f"there are no wheels of {', '.join(asked)} for {platform}:\n{locked}")
    times = _upload_times(locked)
    if any(not times.keys() & _hashes(package) for package in locked):
        times = _asked_times(locked, platform, folder) | times
    paths = _pip(locked, platform, folder)
    return [(path, times.get(sha256_of_file(path))) for path in paths]


def _compiled(
    lines: Sequence[str], platform: str, folder: Path, *options: str, environ: Mapping[str, str] | None = None
) -> list[dict[str, Any]] | str:
    options += ("--python", sys.executable)
    options += () if platform == conda_platform() else ("--python-platform", uv_platform(platform))
    return compiled(lines, options, folder, home=_home(folder), environ=environ)


def _home(folder: Path) -> Home:
    # None of the user's: a channel does not depend on one, and what pip is configured to is what counts.
    return Home(*(folder.parent / name for name in ("home", "envs", "store", "work", "cache")))


def _asked_times(locked: Sequence[Mapping[str, Any]], platform: str, folder: Path) -> dict[str, datetime]:
    """What the main index alone says; nothing when it lacks one of them, or can't be reached."""
    environ = uv_environment(_home(folder))
    environ = {name: value for name, value in environ.items() if name not in ("UV_INDEX", "UV_FIND_LINKS")}
    # A local version (1.0+cpu) is on no main index.
    pins = [f"{package['name']}=={package['version']}" for package in locked if "+" not in package["version"]]
    found = _compiled(pins, platform, folder, "--no-deps", environ=environ)
    return {} if isinstance(found, str) else _upload_times(found)


def _upload_times(packages: Sequence[Mapping[str, Any]]) -> dict[str, datetime]:
    wheels = [wheel for package in packages for wheel in package["wheels"] if "upload-time" in wheel]
    return {wheel["hashes"]["sha256"]: wheel["upload-time"].astimezone(UTC) for wheel in wheels}


def _hashes(package: Mapping[str, Any]) -> set[str]:
    return {wheel["hashes"]["sha256"] for wheel in package["wheels"] if "sha256" in wheel["hashes"]}


def _pip(locked: Sequence[Mapping[str, Any]], platform: str, folder: Path) -> list[Path]:
    pins = folder / "pins.txt"
    pins.write_text("".join(_pin(package) for package in locked), "utf-8")
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "download"]
    command += ["--only-binary", ":all:", "--no-deps", "--dest", str(folder), "--requirement", str(pins)]
    if platform != conda_platform():
        command += ["--python-version", MINOR, "--implementation", "cp"]
        command += [part for tag in platform_tags(platform) for part in ("--platform", tag)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        explanation = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        raise OrchError(f"pip can't download the wheels for {platform}:\n{explanation.strip()}")
    return sorted(folder.glob("*.whl"))


def _pin(package: Mapping[str, Any]) -> str:
    hashes = [f" --hash=sha256:{digest}" for digest in sorted(_hashes(package))]
    return f"{package['name']}=={package['version']}{''.join(hashes)}\n"
