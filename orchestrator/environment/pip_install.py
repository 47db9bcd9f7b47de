"""The pip part of a prefix: uv puts the wheels of a lock into it. Runs inside the worker process."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.environment.kept import kept_whole
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.offline import not_here
from orchestrator.environment.pypi import is_offline, run_uv, uv_environment
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import VERSION, pinned_line
from orchestrator.errors import OrchError
from orchestrator.paths import Home

_DROPPED = ("direct_url.json", "uv_cache.json", "uv_build.json")
"""Files that uv adds to a package's metadata and that tell of this machine: paths and times."""

_HASHES = re.compile(r"Expected:\s+sha256:([0-9a-f]+)\s+Computed:\s+sha256:([0-9a-f]+)")
_TROUBLE = ("error:", "cause:", "×", "├─▶", "╰─▶", "Caused by:")


def install_wheels(
    packages: Iterable[LockedPackage], aside: Path, *, final: Path, site_packages: str, home: Home, hold_fd: int
) -> None:
    """Install the pip packages of a lock into the prefix at `aside`, as it will be at `final`.

    Every wheel is checked by sha256 and comes from the wheels kept here, uv's cache, the index or its URL. `hold_fd`
    is passed on to uv, so that a lock on it holds as long as uv runs. Raises OrchError that names the package.
    """
    wheels = [package for package in packages if package.manager == "pip"]
    if not wheels:
        return
    requirements = aside.with_name(f"{aside.name}.txt")
    environ = uv_environment(home)
    kept = kept_whole(home, wheels)
    try:
        for from_index, options in _attempts(environ, offline=home.offline):
            lines = [_requirement(package, kept, from_index=from_index) for package in wheels]
            requirements.write_text("\n".join(lines) + "\n", "utf-8")
            done = _uv(requirements, aside, home, environ, hold_fd, options)
            if done.returncode == 0:
                break
        else:
            if home.offline and is_offline(done.stderr):
                rest = [package for package in wheels if package.sha256 not in kept]
                names = [p.file_name for p in rest if not _is_here(p, requirements, aside, home, environ, hold_fd)]
                if names:
                    raise OrchError(not_here(names, f"as [pypi] index in {home.config}"))
            raise _failure(done.stderr, wheels)
    finally:
        requirements.unlink(missing_ok=True)
    for metadata in (aside / site_packages).glob("*.dist-info"):
        if _installed_by_uv(metadata):
            _settle(metadata, aside, final)


def _attempts(environ: Mapping[str, str], *, offline: bool) -> list[tuple[bool, tuple[str, ...]]]:
    """Whether to ask the index rather than the wheels' URLs, and options of uv: in the order to try them.

    What is in the cache needs no network, not even a question whether it is still fresh. Then comes the index that
    the user has set: where there is one, other hosts may be out of reach. The hash decides in any case.
    """
    has_index = any(environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL"))
    places = [True, False] if has_index else [False]
    ways: list[tuple[str, ...]] = [("--offline",)] if offline else [("--offline",), ()]
    return [(place, options) for options in ways for place in places]


def _requirement(package: LockedPackage, kept: Mapping[str, Path], *, from_index: bool) -> str:
    line = pinned_line(package.name, package.url, package.sha256)
    if (place := kept.get(package.sha256)) is not None:
        line = pinned_line(package.name, place.resolve().as_uri(), package.sha256)
    elif urlsplit(package.url).scheme not in ("https", "http") or not package.file_name.endswith(".whl"):
        raise OrchError(
            f"the wheel of {package.name} {package.version}, built from {without_credentials(package.url)}, "
            "is not kept here any more, or damaged; solve the environment again with --relock."
        )
    elif from_index and re.fullmatch(VERSION, package.version):
        line = f"{package.name}=={package.version} --hash=sha256:{package.sha256}"
    return line


def _uv(
    requirements: Path, aside: Path, home: Home, environ: Mapping[str, str], hold_fd: int, options: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    arguments = (
        *("pip", "install", "--no-config", "--no-deps", "--require-hashes", "--no-build", "--break-system-packages"),
        *("--python", str(aside / "bin/python"), *options, "--requirements", str(requirements)),
    )
    return run_uv(home, arguments, cwd=aside, environ=environ, pass_fds=(hold_fd,))


def _is_here(
    package: LockedPackage, requirements: Path, aside: Path, home: Home, environ: Mapping[str, str], hold_fd: int
) -> bool:
    # uv names the first that it misses; so it is asked for each one.
    for from_index, options in _attempts(environ, offline=True):
        requirements.write_text(_requirement(package, {}, from_index=from_index) + "\n", "utf-8")
        done = _uv(requirements, aside, home, environ, hold_fd, (*options, "--dry-run"))
        if done.returncode == 0 and "Would download" not in done.stderr:
            return True
    return False


def _failure(said: str, wheels: Sequence[LockedPackage]) -> OrchError:
    said = without_credentials(said)
    package = next((p for p in wheels if f"`{p.name} @" in said or without_credentials(p.url) in said), None)
    of = f"{package.name} {package.version}" if package else "the pip packages"
    url = f" ({without_credentials(package.url)})" if package else ""
    hashes = _HASHES.search(said)
    if hashes:
        return OrchError(
            f"the wheel of {of}{url} is not the one of the lock: its sha256 is {hashes[2]}, the lock has {hashes[1]}."
        )
    causes = [line.strip() for line in said.splitlines() if line.strip().startswith(_TROUBLE)]
    last = re.sub(r"^(error:|cause:|[×├─▶╰]+|Caused by:)\s*", "", causes[-1]) if causes else said.strip()
    return OrchError(f"{of}{url} can't be installed: {last.rstrip('.')}.")


def _installed_by_uv(metadata: Path) -> bool:
    try:
        return (metadata / "INSTALLER").read_text("utf-8").strip() == "uv"
    except OSError:
        return False


def _settle(metadata: Path, aside: Path, final: Path) -> None:
    """Make a package that uv put into `aside` what it would be at `final`: first lines of scripts, and its RECORD."""
    record = metadata / "RECORD"
    rows = []
    for name, digest, size, *_ in csv.reader(io.StringIO(record.read_text("utf-8"))):
        path = Path(os.path.normpath(metadata.parent / name))
        if path.parent == metadata and path.name in _DROPPED:
            path.unlink()
            continue
        if path.parent == aside / "bin" and (script := _moved_script(path, aside, final)) is not None:
            path.write_bytes(script)
            digest = "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(script).digest()).decode().rstrip("=")
            size = str(len(script))
        rows.append((name, digest, size))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    record.write_text(text.getvalue(), "utf-8")


def _moved_script(path: Path, aside: Path, final: Path) -> bytes | None:
    """The script with its interpreter at `final`; None when it does not name the one at `aside`."""
    data = path.read_bytes()
    old = os.fsencode(aside) + b"/"
    return data.replace(old, os.fsencode(final) + b"/") if data.startswith(b"#!") and old in data else None
