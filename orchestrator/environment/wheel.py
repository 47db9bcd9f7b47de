"""The recipe of a conda package out of a wheel."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
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
    Member,
    Recipe,
    conda_platform,
    digest,
    site_packages,
)
from orchestrator.environment.wheel_tags import marker_variables
from orchestrator.errors import OrchError
from orchestrator.files import sha256_of_file

PLACEHOLDER = "/PLACEHOLDER_PREFIX"

MADE_UP = frozenset({(1980, 1, 1), (2016, 1, 1), (2020, 2, 2)})
"""The days that build tools write into each wheel, so that its bytes do not depend on the day it is built."""

_BINDING = {
    "python": re.compile(r"python_|implementation"),
    "system": re.compile(r"os_name|sys_platform|platform_(system|release|version)"),
    "machine": re.compile(r"platform_machine"),
}
"""What a marker can depend on."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel file, what its METADATA says, its commands: (name, "module:function"), and when it came to be (UTC)."""

    path: Path
    sha256: str
    name: str
    version: str
    tags: frozenset[Tag]
    metadata: Message
    commands: tuple[tuple[str, str], ...]
    made: datetime | None


def read_wheel(path: Path, uploaded: datetime | None = None) -> Wheel:
    """Read the name, tags, METADATA and entry points of a wheel. Raises OrchError when it is damaged.

    Where the time of its upload is not known, the newest time of a file in it counts, unless that is one of MADE_UP.
    """
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
        with WheelFile.open(path) as wheel:
            metadata = Parser().parsestr(wheel.read_dist_info("METADATA"))
            commands = _commands(wheel)
        sha256 = sha256_of_file(path)
        made = uploaded or _newest(path)
    except (ValueError, KeyError, AssertionError, zipfile.BadZipFile) as error:
        raise OrchError(f"{path.name} can't be read as a wheel: {error}") from error
    for command, _ in commands:
        if not re.fullmatch(r"\w[\w.+-]*", command):
            raise OrchError(f"{path.name} has an entry point with the name {command!r}, which can't be a command.")
    return Wheel(path, sha256, str(name), str(version), frozenset(tags), metadata, tuple(commands), made)


def _newest(path: Path) -> datetime | None:
    with zipfile.ZipFile(path) as archive:
        newest = max(member.date_time for member in archive.infolist())
    return None if newest[:3] in MADE_UP else datetime(*newest, tzinfo=UTC)


def _commands(wheel: WheelFile) -> list[tuple[str, str]]:
    if "entry_points.txt" not in wheel.dist_info_filenames:
        return []
    found = parse_entrypoints(wheel.read_dist_info("entry_points.txt"))
    return sorted((name, f"{module}:{function}") for name, module, function, _ in found)


def wheel_recipe(wheel: Wheel, wheels: Mapping[str, Wheel], platform: str | None = None) -> Recipe:
    """The conda package of a wheel.

    A pure wheel becomes `noarch: python`, another one a package for `platform` (the running one) and this Python; so
    does a pure one whose requirements are others on another machine. `wheels`, by name, are those that extras
    (`name[extra]`) in its requirements may name: conda has no extras, so what an extra asks for becomes a dependency
    of the one who asks. A package for Windows has no commands: they would be programs of their own there.
    """
    platform = platform or conda_platform()
    pure = all(tag.abi == "none" and tag.platform == "any" for tag in wheel.tags)
    needed, bound = requirements_of(wheel.metadata, wheels, platform)
    noarch = pure and "machine" not in bound
    python = wheel.metadata.get("Requires-Python")
    depends = [*needed, _match_text("python", SpecifierSet(python)) if python else "python"]
    if "python" in bound or not noarch:
        depends.append(_this_python())
    if "system" in bound and noarch:
        depends.append(f"__{platform.partition('-')[0]}")
    if not pure:
        depends += [f"python_abi {MINOR}.* *_{ABI}", *_system_needs(wheel.tags)]
    depends = sorted(set(depends))
    content = digest(wheel.sha256, str(wheel.made), *depends)
    index = {
        "name": canonicalize_name(wheel.name),
        "version": wheel.version,
        "build": f"pyh{content}_0" if noarch else f"py{ABI[2:]}h{content}_0",
        "build_number": 0,
        "subdir": "noarch" if noarch else platform,
        "depends": depends,
    }
    if wheel.made is not None:
        index["timestamp"] = int(wheel.made.timestamp()) * 1000
    if noarch:
        index["noarch"] = "python"
    if license_name := wheel.metadata.get("License-Expression"):
        index["license"] = license_name
    return Recipe(
        index,
        {"summary": wheel.metadata.get("Summary", ""), "extra": {"wheel": wheel.path.name, "sha256": wheel.sha256}},
        lambda: _wheel_members(wheel, None if noarch else platform),
        tuple(f"{name} = {call}" for name, call in wheel.commands) if noarch else (),
    )


def requirements_of(
    metadata: Message,
    wheels: Mapping[str, Wheel],
    platform: str,
    extras: Collection[str] = ("",),
    asked: frozenset[str] = frozenset(),
) -> tuple[list[str], set[str]]:
    """The dependencies that METADATA asks for on a platform, with this Python, as conda match specs.

    The second value tells what could give other ones: another "python", another operating "system", another
    "machine". Raises OrchError when METADATA holds a requirement that isn't one.
    """
    found: list[str] = []
    bound: set[str] = set()
    machine = {key: str(value) for key, value in default_environment().items()}
    if platform != conda_platform():
        machine |= marker_variables(platform)
    for line in metadata.get_all("Requires-Dist") or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise OrchError(f"{metadata['Name']} {metadata['Version']} has a broken Requires-Dist: {error}") from error
        if requirement.marker is not None:
            if not _is_of_extras(str(requirement.marker), extras):
                continue
            bound |= {what for what, words in _BINDING.items() if words.search(str(requirement.marker))}
            if not any(requirement.marker.evaluate({**machine, "extra": extra}) for extra in extras):
                continue
        found.append(match_spec(requirement))
        name = canonicalize_name(requirement.name)
        if requirement.extras and name in wheels and name not in asked:
            more_asked = asked | {name}
            more, also = requirements_of(
                wheels[name].metadata, wheels, platform, sorted(requirement.extras), more_asked
            )
            found += more
            bound |= also
    return sorted(set(found)), bound


def _is_of_extras(marker: str, extras: Collection[str]) -> bool:
    """False when the marker holds only with an extra that is not among `extras`, on whatever machine."""
    named = re.findall(r'extra == "([^"]*)"', marker)
    return not named or " or " in marker or any(extra in named for extra in extras)


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


def _wheel_members(wheel: Wheel, platform: str | None) -> Iterator[Member]:
    windows = platform is not None and platform.startswith("win-")
    site = site_packages(platform) if platform else "site-packages"
    scripts = "Scripts" if windows else "bin" if platform else "python-scripts"
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
    if platform and not windows:
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
