"""The recipe of a conda package out of a wheel."""

from __future__ import annotations

import hashlib
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

from installer.sources import WheelFile
from installer.utils import parse_entrypoints
from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

from orchestrator.environment.package import (
    ABI,
    MINOR,
    SITE_PACKAGES,
    TIMESTAMP,
    Member,
    Recipe,
    conda_platform,
    digest,
)
from orchestrator.errors import OrchError

PLACEHOLDER = "/PLACEHOLDER_PREFIX"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel file, what its METADATA says, and its commands: (name, "module:function")."""

    path: Path
    sha256: str
    name: str
    version: str
    tags: frozenset[Tag]
    metadata: Message
    commands: tuple[tuple[str, str], ...]


def read_wheel(path: Path) -> Wheel:
    """Read the name, tags, METADATA and entry points of a wheel. Raises OrchError when it is damaged."""
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
        with WheelFile.open(path) as wheel, path.open("rb") as file:
            metadata = Parser().parsestr(wheel.read_dist_info("METADATA"))
            commands = _commands(wheel)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (ValueError, KeyError, AssertionError, zipfile.BadZipFile) as error:
        raise OrchError(f"{path.name} can't be read as a wheel: {error}") from error
    for command, _ in commands:
        if not re.fullmatch(r"\w[\w.+-]*", command):
            raise OrchError(f"{path.name} has an entry point with the name {command!r}, which can't be a command.")
    return Wheel(path, sha256, str(name), str(version), frozenset(tags), metadata, tuple(commands))


def _commands(wheel: WheelFile) -> list[tuple[str, str]]:
    if "entry_points.txt" not in wheel.dist_info_filenames:
        return []
    found = parse_entrypoints(wheel.read_dist_info("entry_points.txt"))
    return sorted((name, f"{module}:{function}") for name, module, function, _ in found)


def wheel_recipe(wheel: Wheel, wheels: Mapping[str, Wheel]) -> Recipe:
    """The conda package of a wheel.

    A pure wheel becomes `noarch: python`, another one a package for the running platform and Python. `wheels`, by
    name, are those that extras (`name[extra]`) in its requirements may name: conda has no extras, so what an extra
    asks for becomes a dependency of the one who asks.
    """
    pure = all(tag.abi == "none" and tag.platform == "any" for tag in wheel.tags)
    needed, python_bound = requirements_of(wheel.metadata, wheels)
    python = wheel.metadata.get("Requires-Python")
    depends = [*needed, _match_text("python", SpecifierSet(python)) if python else "python"]
    if python_bound or not pure:
        depends.append(_this_python())
    if not pure:
        depends += [f"python_abi {MINOR}.* *_{ABI}", *_system_needs(wheel.tags)]
    depends = sorted(set(depends))
    content = digest(wheel.sha256, *depends)
    index = {
        "name": canonicalize_name(wheel.name),
        "version": wheel.version,
        "build": f"pyh{content}_0" if pure else f"py{ABI[2:]}h{content}_0",
        "build_number": 0,
        "subdir": "noarch" if pure else conda_platform(),
        "depends": depends,
        "timestamp": TIMESTAMP * 1000,
    }
    if pure:
        index["noarch"] = "python"
    if license_name := wheel.metadata.get("License-Expression"):
        index["license"] = license_name
    return Recipe(
        index,
        {"summary": wheel.metadata.get("Summary", ""), "extra": {"wheel": wheel.path.name, "sha256": wheel.sha256}},
        lambda: _wheel_members(wheel, pure),
        tuple(f"{name} = {call}" for name, call in wheel.commands) if pure else (),
    )


def requirements_of(
    metadata: Message, wheels: Mapping[str, Wheel], extras: Iterable[str] = ("",), asked: frozenset[str] = frozenset()
) -> tuple[list[str], bool]:
    """The dependencies that METADATA asks for on this platform and Python, as conda match specs.

    The second value tells whether another Python could give other ones. Raises OrchError when METADATA holds a
    requirement that isn't one.
    """
    found: list[str] = []
    python_bound = False
    machine = {key: str(value) for key, value in default_environment().items()}
    for line in metadata.get_all("Requires-Dist") or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise OrchError(f"{metadata['Name']} {metadata['Version']} has a broken Requires-Dist: {error}") from error
        if requirement.marker is not None:
            python_bound |= "python_" in str(requirement.marker) or "implementation" in str(requirement.marker)
            if not any(requirement.marker.evaluate({**machine, "extra": extra}) for extra in extras):
                continue
        found.append(match_spec(requirement))
        name = canonicalize_name(requirement.name)
        if requirement.extras and name in wheels and name not in asked:
            more, bound = requirements_of(wheels[name].metadata, wheels, sorted(requirement.extras), asked | {name})
            found += more
            python_bound |= bound
    return sorted(set(found)), python_bound


def match_spec(requirement: Requirement) -> str:
    """A PyPI requirement (PEP 508, PEP 440) as a conda match spec; marker, extras and URL are left out."""
    return _match_text(canonicalize_name(requirement.name), requirement.specifier)


def _match_text(name: str, specifiers: SpecifierSet) -> str:
    parts = []
    for specifier in sorted(specifiers, key=str):
        operator, version = specifier.operator, specifier.version
        if operator in ("==", "===") and version.endswith(".*"):
            parts.append(version)
        else:
            parts.append(("==" if operator == "===" else operator) + version)
    return f"{name} {','.join(parts)}".rstrip()


def _this_python() -> str:
    return f"python >={MINOR},<{sys.version_info.major}.{sys.version_info.minor + 1}.0a0"


def _system_needs(tags: Iterable[Tag]) -> list[str]:
    """The oldest glibc or macOS that a platform tag allows (PEP 600), as a virtual package."""
    found: dict[str, list[tuple[int, int]]] = {}
    legacy = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    for tag in tags:
        if match := re.match(r"(manylinux|macosx)_(\d+)_(\d+)_", tag.platform):
            name = "__glibc" if match[1] == "manylinux" else "__osx"
            found.setdefault(name, []).append((int(match[2]), int(match[3])))
        elif (version := legacy.get(tag.platform.split("_")[0])) is not None:
            found.setdefault("__glibc", []).append(version)
    return [f"{name} >={min(versions)[0]}.{min(versions)[1]}" for name, versions in found.items()]


def _wheel_members(wheel: Wheel, pure: bool) -> Iterator[Member]:
    site = "site-packages" if pure else SITE_PACKAGES
    scripts = "python-scripts" if pure else "bin"
    places = {"purelib": site, "platlib": site, "scripts": scripts, "data": "", "headers": f"include/{wheel.name}"}
    with WheelFile.open(wheel.path) as source:
        data_folder = source.data_dir + "/"
        for (path, _, _), stream, executable in source.get_contents():
            data, placeholder, place = stream.read(), None, site
            if path.startswith(data_folder):
                scheme, _, path = path.removeprefix(data_folder).partition("/")
                if scheme not in places:
                    raise OrchError(f"{wheel.path.name} has an unknown data directory {scheme!r}.")
                place = places[scheme]
                if scheme == "scripts":
                    data, placeholder = _with_shebang(data)
                    executable = True
            yield Member(str(PurePosixPath(place, path)), data, executable, placeholder)
        yield Member(f"{site}/{source.dist_info_dir}/INSTALLER", b"conda\n")
    if not pure:
        for name, call in wheel.commands:
            module, _, function = call.partition(":")
            lines = ["import sys", f"from {module} import {function.split('.')[0]}", f"sys.exit({function}())", ""]
            text = "\n".join([f"#!{PLACEHOLDER}/bin/python", *lines])
            yield Member(f"bin/{name}", text.encode(), executable=True, placeholder=PLACEHOLDER)


def _with_shebang(data: bytes) -> tuple[bytes, str | None]:
    # A wheel's script begins with the literal "#!python" ("Binary distribution format", recommended features).
    if not re.match(rb"#!pythonw?[\s]", data):
        return data, None
    return f"#!{PLACEHOLDER}/bin/python".encode() + data[data.index(b"\n") :], PLACEHOLDER
