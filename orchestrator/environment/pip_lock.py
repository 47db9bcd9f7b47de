"""Locks the pip part of an environment with uv, around the packages that conda provides. Runs in the worker."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from orchestrator.environment.build import Wheel, build_from_directory, build_from_source, keep
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.pip_lines import Requirements, hashes_asked
from orchestrator.environment.pylock import COMPILE, file_name, read_pylock, with_hashes
from orchestrator.environment.pypi import run_uv, uv_environment, uv_message
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import pinned_line
from orchestrator.environment.wheel_tags import platform_tags, uv_platform
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report

PYPI_NAMES: Mapping[str, str] = {
    "brotli-python": "brotli",
    "dask-core": "dask",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "pandas-base": "pandas",
    "py-opencv": "opencv-python",
    "py-xgboost": "xgboost",
    "pytables": "tables",
    "python-graphviz": "graphviz",
    "python-kaleido": "kaleido",
    "python-tzdata": "tzdata",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "scikit-learn-base": "scikit-learn",
    "seaborn-base": "seaborn",
    "streamlit-base": "streamlit",
    "tensorflow-base": "tensorflow",
    "torchvision-base": "torchvision",
}
"""conda packages that hold a Python distribution of another name."""

_ANSWER = "pylock.orch.toml"

Projects = Literal["with", "without", "only"]
"""What becomes of the projects and archives that pip lines name by path, as `.` and `wheels/x.whl`: a lock of this
machine has them, built, with all else; a lock file for every machine has only what they need, and who adopts one
asks for only them. That of a `-e .` line is in none: it is on the import path."""


@dataclass(frozen=True, slots=True)
class PipTask:
    """What to lock the pip packages of the file `path` for: around the `conda` packages.

    Wheels are those of machines of `platform` with glibc 2.`glibc`, of this very machine when it is None. Without
    `buildable` wheels alone are taken: what is of another platform can't be built here.
    What was uploaded after `as_of` (RFC 3339) does not exist. Of the packages `kept`, from an earlier lock, only those
    move that must; with `refresh` indexes are asked for what is there now, not some minutes ago.
    `python_of_environment` installs the conda part aside and gives its Python; it is called only when something must
    be built. `scratch` is a folder for uv's files.
    """

    path: str
    conda: Sequence[LockedPackage]
    platform: str | None
    glibc: int
    buildable: bool
    as_of: str | None
    kept: Sequence[LockedPackage]
    projects: Projects
    refresh: bool
    scratch: Path
    home: Home
    report: Report
    python_of_environment: Callable[[], Path]

    @property
    def tags(self) -> tuple[str, ...] | None:
        """The platform tags of wheels; None for those of this machine."""
        return None if self.platform is None else platform_tags(self.platform, self.glibc)

    @property
    def python(self) -> str:
        """The version of the environment's Python."""
        return next(package.version for package in self.conda if package.name == "python")


@dataclass(frozen=True, slots=True)
class PipPart:
    """The pip packages of an environment, sorted by name, each with its sha256.

    `provided` are the names of those conda packages that they need, as PyPI has them (see `pypi_name`).
    """

    packages: tuple[LockedPackage, ...] = ()
    provided: frozenset[str] = frozenset()


def lock_pip(requirements: Requirements, task: PipTask) -> PipPart:
    """The pip packages that `requirements` need beside the conda packages.

    Raises OrchError with uv's explanation when there are none that fit, and for one that can't be had for sure.
    """
    entries = requirements.entries
    if task.projects == "only":
        entries = [entry for entry in entries if entry.startswith("/")]
    if not entries:
        return PipPart()
    provided = _provided(task.conda)
    _refuse_paths(requirements, task.path)
    _write_inputs(entries, requirements.constraints, provided, task)
    locked = []
    found = _compiled(requirements, provided, task)
    asked = hashes_asked([*requirements.entries, *requirements.constraints], task.path)
    for package in found:
        if package["name"] in provided or package.get("directory", {}).get("editable"):
            continue
        if task.projects == "without" and ("directory" in package or "path" in package.get("archive", {})):
            continue
        allowed = with_hashes(package, asked.get(package["name"]), task.path)
        locked.append(_locked(allowed, task) if task.buildable else _locked_elsewhere(allowed, task))
    return PipPart(
        packages=tuple(sorted(locked, key=lambda package: package.name)),
        provided=frozenset(package["name"] for package in found if package["name"] in provided),
    )


def _compiled(requirements: Requirements, provided: Mapping[str, str], task: PipTask) -> list[dict[str, Any]]:
    """The packages of uv's answer, a pylock.toml (PEP 751)."""
    arguments = [
        *COMPILE,
        *("--constraints", "constraints.txt", "--output-file", _ANSWER, *requirements.options),
        *(["--index-strategy", "unsafe-best-match"] if _more_than_one_index(requirements.options) else []),
        *(["--exclude-newer", task.as_of] if task.as_of else []),
        *(["--no-deps"] if task.projects == "only" else []),
        # uv does not take both.
        *(["--refresh"] if task.refresh and "UV_OFFLINE" not in uv_environment(task.home) else []),
    ]
    # Wheels alone decide first: nothing of the project's dependencies runs then.
    task.report("environment", f"locking the pip packages of {task.path}")
    release = ".".join(re.findall(r"\d+", task.python)[:3])
    host = ["--python", sys.executable, "--python-version", release]
    host += ["--python-platform", uv_platform(task.platform, task.glibc)] if task.platform else []
    done = run_uv(task.home, [*arguments, *host, "--no-build", "requirements.in"], cwd=task.scratch)
    if done.returncode and _wants_build(done.stderr) and task.buildable:
        python = task.python_of_environment()
        built = [*arguments, *host[4:], "--python", str(python), "requirements.in"]
        done = run_uv(task.home, built, cwd=task.scratch, path=python.parent)
    if done.returncode:
        raise _unsolvable(task.path, _with_true_files(done.stderr, requirements, task.path, task.scratch), provided)
    return read_pylock(task.scratch / _ANSWER)


def _refuse_paths(requirements: Requirements, path: str) -> None:
    # `pip freeze` writes such lines for packages that conda has built.
    for entry in requirements.entries:
        name, separator, url = entry.partition(" @ ")
        if separator and url.strip().startswith("file:"):
            raise OrchError(
                f"{path} takes {name} from {url.strip()}, a folder of the machine where the list was made: "
                f"write {name}==VERSION instead."
            )


def needs_wheel(package: LockedPackage) -> bool:
    """Whether a package of a lock from elsewhere must be built: a source archive or a git commit."""
    return package.manager == "pip" and not package.file_name.endswith(".whl")


def built_wheel(package: LockedPackage, *, python: Callable[[], Path], home: Home) -> LockedPackage:
    """The package with a wheel built from its source, which is checked by its sha256 where it is an archive.

    `python` gives the environment's own Python.
    """
    of_git = package.url.startswith("git+")
    requirement = pinned_line(package.name, package.url, None if of_git else package.sha256)
    wheel = build_from_source(requirement, python=python(), home=home)
    return _kept(package.name, wheel, package.url, source_sha256=None if of_git else package.sha256)


def _write_inputs(
    entries: Sequence[str], constraints: Sequence[str], provided: Mapping[str, str], task: PipTask
) -> None:
    scratch = task.scratch
    # A stand-in of each conda package: its version is settled, it brings no further dependencies, and uv says so
    # when that contradicts. A plain `name==version` would let uv seek, and miss, that version in the index.
    stand_ins = [f"{name} @ {_stand_in(name, version, scratch).as_uri()}" for name, version in provided.items()]
    (scratch / "constraints.txt").write_text("\n".join([*stand_ins, *constraints, ""]), "utf-8")
    (scratch / "requirements.in").write_text("\n".join([*entries, ""]), "utf-8")
    # What stands in the file that uv writes its answer to, it keeps where it can.
    rows = [f'[[packages]]\nname = "{package.name}"\nversion = "{package.version}"\n' for package in task.kept]
    head = ['lock-version = "1.0"\ncreated-by = "orch"\n', *([] if rows else ["packages = []\n"])]
    (scratch / _ANSWER).write_text("\n".join([*head, *rows]), "utf-8")


def _with_true_files(stderr: str, requirements: Requirements, path: str, scratch: Path) -> str:
    """What uv says, with the user's file of a wrong line in the place of the one that was written for uv."""

    def true_file(match: re.Match[str]) -> str:
        data = (scratch / match[1]).read_bytes()
        number = data[: int(match[2])].count(b"\n")
        return f"`{requirements.origins.get(data.decode().splitlines()[number], path)}`"

    return re.sub(r"`(requirements\.in|constraints\.txt)` at position (\d+)", true_file, stderr)


def _stand_in(name: str, version: str, scratch: Path) -> Path:
    stem = f"{name.replace('-', '_')}-{version}"
    wheel = scratch / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = f"{stem}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def _provided(conda: Sequence[LockedPackage]) -> dict[str, str]:
    """Name and version, as PyPI has them, of the Python distributions among conda packages."""
    from packaging.version import InvalidVersion, Version

    found: dict[str, str] = {}
    for package in conda:
        if not any(text.split(" ")[0] == "python" for text in package.depends):
            continue
        try:
            found[pypi_name(package.name)] = str(Version(package.version))
        except InvalidVersion:
            continue
    return found


def pypi_name(conda_name: str) -> str:
    """The name that the Python distribution in a conda package has on PyPI."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(PYPI_NAMES.get(conda_name, conda_name))


def _locked(package: Mapping[str, Any], task: PipTask) -> LockedPackage:
    name, home = package["name"], task.home
    wheel = _best_wheel(package.get("wheels", ()), task.python, task.tags)
    if wheel is None and "archive" in package and file_name(package["archive"]).endswith(".whl"):
        wheel = package["archive"]
    if wheel is not None:
        return _from_wheel(name, package.get("version"), wheel, task.home)
    task.report("environment", f"building {name}, for which there is no wheel")
    if "directory" in package:
        built = build_from_directory(
            Path(package["directory"]["path"]), python=task.python_of_environment(), home=home, as_of=task.as_of
        )
        return _kept(name, built, None)
    if "vcs" in package:
        vcs = package["vcs"]
        url = f"{vcs['type']}+{vcs['url']}@{vcs['commit-id']}"
        if "subdirectory" in vcs:
            url += f"#subdirectory={vcs['subdirectory']}"
        return _kept(
            name,
            build_from_source(pinned_line(name, url), python=task.python_of_environment(), home=home, as_of=task.as_of),
            url,
        )
    source = package.get("sdist") or package.get("archive")
    if source is None:
        raise OrchError(f"the pip package {name} has no file for this platform.")
    url = source.get("url") or Path(source["path"]).as_uri()
    digest = _sha256(name, source)
    wheel_built = build_from_source(
        pinned_line(name, url, digest), python=task.python_of_environment(), home=home, as_of=task.as_of
    )
    return _kept(name, wheel_built, url, source_sha256=digest)


def _locked_elsewhere(package: Mapping[str, Any], task: PipTask) -> LockedPackage:
    name, platform = package["name"], task.platform
    wheel = _best_wheel(package.get("wheels", ()), task.python, task.tags)
    if "directory" in package:
        # The environment's own Python does not run here; a pure wheel is the same whoever builds it.
        built = build_from_directory(
            Path(package["directory"]["path"]), python=Path(sys.executable), home=task.home, as_of=task.as_of
        )
        if built.file_name.endswith("-none-any.whl"):
            return _kept(name, built, None)
    if wheel is None:
        raise OrchError(
            f"{task.path} asks for {name}, which has no wheel for {platform}: it would have to be built there, so the "
            f"environment can't be locked for {platform} on this machine."
        )
    return _from_wheel(name, package.get("version"), wheel, task.home)


def _from_wheel(name: str, version: str | None, wheel: Mapping[str, Any], home: Home) -> LockedPackage:
    url = wheel.get("url") or Path(wheel["path"]).as_uri()
    if urlsplit(url).scheme == "file":
        kept = keep(Path(unquote(urlsplit(url).path)), home)
        if kept.sha256 != _sha256(name, wheel):
            raise OrchError(
                f"{kept.file_name} does not match: its index gives sha256 {_sha256(name, wheel)}, the file has "
                f"{kept.sha256}."
            )
        return _kept(name, kept, None)
    name_of_file = file_name(wheel)
    clean = without_credentials(url)
    uploaded = wheel.get("upload-time")
    return LockedPackage(
        manager="pip",
        name=name,
        version=version or _version(name_of_file),
        build=None,
        url=clean,
        file_name=name_of_file,
        sha256=_sha256(name, wheel),
        size=wheel.get("size"),
        timestamp=int(uploaded.timestamp() * 1000) if isinstance(uploaded, datetime) else None,
    )


def _kept(name: str, wheel: Wheel, url: str | None, source_sha256: str | None = None) -> LockedPackage:
    clean = without_credentials(url) if url else ""
    if not clean or "file:" in clean.partition("//")[0]:
        # A package URL (ECMA-427): what it is, where no address would mean anything on another machine.
        clean, source_sha256 = f"pkg:pypi/{name}@{quote(wheel.version)}?file_name={quote(wheel.file_name)}", None
    return LockedPackage(
        manager="pip",
        name=name,
        version=wheel.version,
        build=None,
        url=clean,
        file_name=wheel.file_name,
        sha256=wheel.sha256,
        size=wheel.size,
        source_sha256=source_sha256,
    )


def _best_wheel(
    wheels: Sequence[Mapping[str, Any]], python: str, platforms: Sequence[str] | None = None
) -> Mapping[str, Any] | None:
    """The wheel that fits best: on this machine, or where wheels have the tags `platforms`."""
    from packaging import tags
    from packaging.utils import parse_wheel_filename

    major, minor = (int(part) for part in python.split(".")[:2])
    interpreter = f"cp{major}{minor}"
    wanted = [
        *tags.cpython_tags((major, minor), platforms=platforms),
        *tags.compatible_tags((major, minor), interpreter, platforms),
    ]
    order = {tag: index for index, tag in enumerate(wanted)}
    ranked = [
        # Of the same wheel in a folder and on the network, the one whose address holds elsewhere.
        (min(order[tag] for tag in fitting), wheel.get("url", "file:").startswith("file:"), file_name(wheel), wheel)
        for wheel in wheels
        if (fitting := [tag for tag in parse_wheel_filename(file_name(wheel))[3] if tag in order])
    ]
    return min(ranked, key=lambda item: item[:3])[3] if ranked else None


def _version(wheel: str) -> str:
    from packaging.utils import parse_wheel_filename

    return str(parse_wheel_filename(wheel)[1])


def _sha256(name: str, file: Mapping[str, Any]) -> str:
    value = file.get("hashes", {}).get("sha256")
    if not isinstance(value, str):
        raise OrchError(f"the index gives no sha256 for {file_name(file)} of the pip package {name}: it is refused.")
    return value


def _more_than_one_index(options: Sequence[str]) -> bool:
    # With several indexes pip takes the best version of all, and so do the files that were written for it.
    return any(option.startswith("--index=") for option in options)


def _wants_build(stderr: str) -> bool:
    said = "--no-build|building from source is disabled|Building source distributions .*is disabled|no usable wheels"
    return re.search(said, " ".join(stderr.split())) is not None


def _unsolvable(path: str, stderr: str, provided: Mapping[str, str]) -> OrchError:
    text = re.sub(r"file://\S*/([A-Za-z0-9_.]+)-py3-none-any\.whl", r"\1 of conda", uv_message(stderr))
    named = [f"{name} {version}" for name, version in provided.items() if re.search(rf"\b{re.escape(name)}\b", text)]
    given = f"\nconda provides {', '.join(named)}." if named else ""
    return OrchError(f"the pip packages of {path} can't be locked.\n{text}{given}")
