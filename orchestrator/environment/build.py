"""Wheels that no index has: built here from a source archive, a git commit or a directory, hashed, and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.environment.lock import kept_wheel
from orchestrator.environment.pypi import run_uv, uv_message
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError
from orchestrator.paths import Home

_LINES_OF_LOG = 25


@dataclass(frozen=True, slots=True)
class Wheel:
    """A kept wheel. `size` is in bytes."""

    file_name: str
    sha256: str
    size: int

    @property
    def version(self) -> str:
        """The version that its name tells."""
        from packaging.utils import parse_wheel_filename

        return str(parse_wheel_filename(self.file_name)[1])


def build_from_directory(directory: Path, *, python: Path, home: Home, as_of: str | None = None) -> Wheel:
    """Build the project in `directory` (it may be written to) with the environment's own Python.

    With `as_of` (RFC 3339) what it is built with is not newer.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as aside:
        done = run_uv(
            home,
            [
                "build",
                "--wheel",
                "--out-dir",
                aside,
                "--python",
                str(python),
                "--no-create-gitignore",
                *_until(as_of),
                str(directory),
            ],
            cwd=Path(aside),
            path=python.parent,
        )
        if done.returncode:
            raise _failed("the project of this repository", done.stderr)
        return keep(_only_wheel(Path(aside), "the project of this repository"), home)


def build_from_source(requirement: str, *, python: Path, home: Home, as_of: str | None = None) -> Wheel:
    """Fetch and build what `requirement` names (`name @ URL`, with `--hash=...` for an archive), once.

    With `as_of` (RFC 3339) what it is built with is not newer.
    """
    name = requirement.partition(" @ ")[0]
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        aside = Path(folder)
        (aside / "requirements.txt").write_text(requirement + "\n", "utf-8")
        hashed = ["--require-hashes"] if "--hash=" in requirement else []
        # A cache of its own: afterwards the one wheel in it that was built from source is this one.
        done = run_uv(
            home,
            [
                *("pip", "install", "--no-deps", *hashed, *_until(as_of), "--python", str(python)),
                *("--target", str(aside / "target"), "-r", str(aside / "requirements.txt")),
            ],
            cwd=aside,
            cache=aside / "cache",
            path=python.parent,
        )
        if done.returncode:
            raise _failed(without_credentials(requirement.partition(" --hash=")[0]), done.stderr)
        return keep(_only_wheel(aside / "cache", name), home)


def _until(as_of: str | None) -> list[str]:
    return ["--exclude-newer", as_of] if as_of else []


def keep(wheel: Path, home: Home) -> Wheel:
    """Copy a wheel to where it is found again by its sha256."""
    data = wheel.read_bytes()
    found = Wheel(wheel.name, hashlib.sha256(data).hexdigest(), len(data))
    place = kept_wheel(home, found.sha256, found.file_name)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copyfile(wheel, aside)
    aside.rename(place)
    return found


def _only_wheel(folder: Path, what: str) -> Path:
    found = [path for path in folder.rglob("*.whl") if path.is_file()]
    if len(found) != 1:
        raise OrchError(f"building {what} gave {len(found)} wheels where one was expected.")
    return found[0]


def _failed(what: str, stderr: str) -> OrchError:
    log = uv_message(stderr).splitlines()
    return OrchError("\n".join([f"{what} can't be built.", *log[-_LINES_OF_LOG:]]))
