"""Locks the pip part of an environment with uv, around the packages that conda provides. Runs in the worker."""

from __future__ import annotations

import posixpath
import re
import sys
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from orchestrator.environment.build import Wheel, build_from_directory, build_from_source, keep
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.pypi import run_uv, uv_message
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import Line, logical_lines, parse_line, pinned_line, split_extras, within
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


@dataclass(slots=True)
class Requirements:
    """The lines of a pip section with all the files that they name, told apart. `origins` has the file of each line."""

    entries: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)


def gather(lines: Sequence[str], path: str, layout: Path, checkout: Path | None) -> Requirements:
    """Follow the lines of the file `path`; the files of the request stand in `layout`, projects in `checkout`."""
    found = Requirements()
    base = posixpath.dirname(path)
    seen: set[str] = set()

    def place(value: str, origin: str) -> str:
        name, extras = split_extras(value)
        inner = within(base, name.removeprefix("file://").removeprefix("file:"), origin)
        root = layout if (layout / inner).is_file() or checkout is None else checkout
        return f"{root / inner}{extras}"

    def follow(line: Line, origin: str, entries: list[str]) -> None:
        _refuse_what_uv_would_expand(line, origin)
        if line.kind in ("file", "constraints"):
            inner = within(posixpath.dirname(origin), line.value, origin)
            if inner in seen:
                return
            seen.add(inner)
            if not (layout / inner).is_file():
                raise OrchError(f"the file {inner}, which {origin} names, is not in the commit.")
            into = found.constraints if line.kind == "constraints" else entries
            for text_line in logical_lines((layout / inner).read_text("utf-8", "replace")):
                follow(parse_line(text_line), inner, into)
        elif line.kind == "option":
            _take_option(line, found)
        elif line.kind == "editable":
            entries.append(f"-e {place(line.value, origin)}")
        else:
            entries.append(place(line.value, origin) if line.kind == "local" else line.value)
            found.origins.setdefault(entries[-1], origin)

    for text in lines:
        follow(parse_line(text), path, found.entries)
    return found


def _refuse_what_uv_would_expand(line: Line, origin: str) -> None:
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", line.value):
        raise OrchError(f"{origin} has a pip line that is more than one: {line.value!r}. Write each for itself.")
    # Whatever the variable holds would go to an address that the project names.
    if "${" in line.value:
        raise OrchError(
            f"{origin} has a variable in the pip line {without_credentials(line.value)!r}, and orch puts none in what "
            "a project names: an index that needs credentials belongs into the configuration, as [pypi] index in "
            "config.toml."
        )


def lock_pip(
    requirements: Requirements,
    *,
    path: str,
    conda: Sequence[LockedPackage],
    kept: Sequence[LockedPackage] = (),
    projects: Projects = "with",
    elsewhere: str | None,
    as_of: str | None,
    scratch: Path,
    home: Home,
    report: Report,
    python_of_environment: Callable[[], Path],
) -> list[LockedPackage]:
    """The pip packages that `requirements` need beside the `conda` packages, each with its sha256.

    `elsewhere` is the platform when it is not this one: then wheels alone are taken, for nothing can be built there.
    What was uploaded after `as_of` (RFC 3339) does not exist. Of the packages `kept`, from an earlier lock, only those
    move that must. `projects` tells what becomes of the projects and archives that lines name by path.
    `python_of_environment` installs the conda part aside and gives its Python; it is called only when something must
    be built. Raises OrchError with uv's explanation.
    """
    entries = requirements.entries
    if projects == "only":
        entries = [entry for entry in entries if entry.startswith("/")]
    if not entries:
        return []
    python = next(package.version for package in conda if package.name == "python")
    provided = _provided(conda)
    _refuse_paths(requirements, path)
    _write_inputs(entries, requirements.constraints, provided, kept, scratch)
    arguments = [
        *("pip", "compile", "--quiet", "--no-header", "--format", "pylock.toml", "--generate-hashes"),
        *("--constraints", "constraints.txt", "--output-file", _ANSWER, *requirements.options),
        *(["--index-strategy", "unsafe-best-match"] if _more_than_one_index(requirements.options) else []),
    ]
    # Wheels alone decide first: nothing of the project's dependencies runs then.
    report("environment", f"locking the pip packages of {path}")
    release = ".".join(re.findall(r"\d+", python)[:3])
    host = ["--python", sys.executable, "--python-version", release]
    host += ["--python-platform", uv_platform(elsewhere)] if elsewhere else []
    arguments += ["--exclude-newer", as_of] if as_of else []
    arguments += ["--no-deps"] if projects == "only" else []
    # Who moves a package wants what is there now, not what uv saw some minutes ago.
    arguments += ["--refresh"] if kept and projects != "only" else []
    done = run_uv(home, [*arguments, *host, "--no-build", "requirements.in"], cwd=scratch)
    if done.returncode and _wants_build(done.stderr) and not elsewhere:
        done = run_uv(
            home,
            [*arguments, "--python", str(python_of_environment()), "requirements.in"],
            cwd=scratch,
            path=python_of_environment().parent,
        )
    if done.returncode:
        raise _unsolvable(path, _with_true_files(done.stderr, requirements, path, scratch), provided)
    table = tomllib.loads((scratch / _ANSWER).read_text("utf-8"))
    locked = []
    for package in table.get("packages", ()):
        name = package["name"]
        if name in provided or package.get("directory", {}).get("editable"):
            continue
        if projects == "without" and ("directory" in package or "path" in package.get("archive", {})):
            continue
        if elsewhere:
            locked.append(_locked_elsewhere(package, python, elsewhere, path, home))
        else:
            locked.append(_locked(package, python, home=home, report=report, python_path=python_of_environment))
    return sorted(locked, key=lambda package: package.name)


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
    entries: Sequence[str],
    constraints: Sequence[str],
    provided: Mapping[str, str],
    kept: Sequence[LockedPackage],
    scratch: Path,
) -> None:
    # A stand-in of each conda package: its version is settled, it brings no further dependencies, and uv says so
    # when that contradicts. A plain `name==version` would let uv seek, and miss, that version in the index.
    stand_ins = [f"{name} @ {_stand_in(name, version, scratch).as_uri()}" for name, version in provided.items()]
    (scratch / "constraints.txt").write_text("\n".join([*stand_ins, *constraints, ""]), "utf-8")
    (scratch / "requirements.in").write_text("\n".join([*entries, ""]), "utf-8")
    # What stands in the file that uv writes its answer to, it keeps where it can.
    rows = [f'[[packages]]\nname = "{package.name}"\nversion = "{package.version}"\n' for package in kept]
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
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    found: dict[str, str] = {}
    for package in conda:
        if not any(text.split(" ")[0] == "python" for text in package.depends):
            continue
        name = PYPI_NAMES.get(package.name, package.name)
        try:
            version = str(Version(package.version))
        except InvalidVersion:
            continue
        found[canonicalize_name(name)] = version
    return found


def _locked(
    package: Mapping[str, Any], python: str, *, home: Home, report: Report, python_path: Callable[[], Path]
) -> LockedPackage:
    name = package["name"]
    wheel = _best_wheel(package.get("wheels", ()), python)
    if wheel is None and "archive" in package and _file_name(package["archive"]).endswith(".whl"):
        wheel = package["archive"]
    if wheel is not None:
        return _from_wheel(name, package.get("version"), wheel, home)
    report("environment", f"building {name}, for which there is no wheel")
    if "directory" in package:
        built = build_from_directory(Path(package["directory"]["path"]), python=python_path(), home=home)
        return _kept(name, built, None)
    if "vcs" in package:
        vcs = package["vcs"]
        url = f"{vcs['type']}+{vcs['url']}@{vcs['commit-id']}"
        if "subdirectory" in vcs:
            url += f"#subdirectory={vcs['subdirectory']}"
        return _kept(name, build_from_source(pinned_line(name, url), python=python_path(), home=home), url)
    source = package.get("sdist") or package.get("archive")
    if source is None:
        raise OrchError(f"the pip package {name} has no file for this platform.")
    url = source.get("url") or Path(source["path"]).as_uri()
    digest = _sha256(name, source)
    wheel_built = build_from_source(pinned_line(name, url, digest), python=python_path(), home=home)
    return _kept(name, wheel_built, url, source_sha256=digest)


def _locked_elsewhere(package: Mapping[str, Any], python: str, platform: str, path: str, home: Home) -> LockedPackage:
    name = package["name"]
    wheel = _best_wheel(package.get("wheels", ()), python, platform_tags(platform))
    if "directory" in package:
        # The environment's own Python does not run here; a pure wheel is the same whoever builds it.
        built = build_from_directory(Path(package["directory"]["path"]), python=Path(sys.executable), home=home)
        if built.file_name.endswith("-none-any.whl"):
            return _kept(name, built, None)
    if wheel is None:
        raise OrchError(
            f"{path} asks for {name}, which has no wheel for {platform}: it would have to be built there, so the "
            f"environment can't be locked for {platform} on this machine."
        )
    return _from_wheel(name, package.get("version"), wheel, home)


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
    file_name = _file_name(wheel)
    clean = without_credentials(url)
    uploaded = wheel.get("upload-time")
    return LockedPackage(
        manager="pip",
        name=name,
        version=version or _version(file_name),
        build=None,
        url=clean,
        file_name=file_name,
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
        (min(order[tag] for tag in fitting), wheel.get("url", "file:").startswith("file:"), _file_name(wheel), wheel)
        for wheel in wheels
        if (fitting := [tag for tag in parse_wheel_filename(_file_name(wheel))[3] if tag in order])
    ]
    return min(ranked, key=lambda item: item[:3])[3] if ranked else None


def _file_name(file: Mapping[str, Any]) -> str:
    name: str = file.get("name") or unquote(urlsplit(file.get("url") or file["path"]).path).rpartition("/")[2]
    return name


def _version(file_name: str) -> str:
    from packaging.utils import parse_wheel_filename

    return str(parse_wheel_filename(file_name)[1])


def _sha256(name: str, file: Mapping[str, Any]) -> str:
    value = file.get("hashes", {}).get("sha256")
    if not isinstance(value, str):
        raise OrchError(f"the index gives no sha256 for {_file_name(file)} of the pip package {name}: it is refused.")
    return value


def _take_option(line: Line, found: Requirements) -> None:
    if line.option == "--index-url":
        found.options.append(f"--default-index={line.value}")
    elif line.option == "--extra-index-url":
        found.options.append(f"--index={line.value}")
    elif line.option == "--find-links" and re.match(r"[a-z+]+://|/", line.value):
        found.options.append(f"--find-links={line.value}")
    elif line.option == "--trusted-host":
        found.options.append(f"--allow-insecure-host={line.value}")
    elif line.option == "--pre":
        found.options.append("--prerelease=allow")
    elif line.option in ("--no-binary", "--only-binary"):
        found.options += [f"{line.option}={name}" for name in re.split(r"[,\s]+", line.value) if name]
    elif line.option == "--no-index":
        found.options.append(line.option)
    else:
        found.ignored.append(line.option)


def _more_than_one_index(options: Sequence[str]) -> bool:
    # With several indexes pip takes the best version of all, and so do the files that were written for it.
    return any(option.startswith("--index=") for option in options)


def _wants_build(stderr: str) -> bool:
    return "--no-build" in stderr or "building from source is disabled" in stderr or "no usable wheels" in stderr


def _unsolvable(path: str, stderr: str, provided: Mapping[str, str]) -> OrchError:
    text = re.sub(r"file://\S*/([A-Za-z0-9_.]+)-py3-none-any\.whl", r"\1 of conda", uv_message(stderr))
    named = [f"{name} {version}" for name, version in provided.items() if re.search(rf"\b{re.escape(name)}\b", text)]
    given = f"\nconda provides {', '.join(named)}." if named else ""
    return OrchError(f"the pip packages of {path} can't be locked.\n{text}{given}")
