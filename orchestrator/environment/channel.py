"""A conda channel out of PyPI wheels and the running interpreter, for machines that reach no conda channel.

    scripts/channel DIR [SPEC] [--platform PLATFORM]...

SPEC is an environment file whose `dependencies` are PyPI requirement strings. The wheels, with all that they require,
are looked for where pip is configured to look; each becomes a conda package of the same name, with the time of its
upload. A package that is listed twice is taken twice, each time resolved on its own. python, from the running
interpreter, is always in it.

The same wheels always give the same packages, byte for byte. A channel only grows: another SPEC, or another
Python, adds its packages. What a SPEC was resolved to stays in `channel.json`; remove that file to look for newer
releases. Names are PyPI's, which for most packages are conda's.

DIR is a folder of files: copy it to a machine without a network, or put it behind any web server. Its packages are
for this platform and this Python, and its python needs the libraries that this one takes from the operating system
(OpenSSL, libffi, ...): build it on a machine like those that will use it. For another PLATFORM (osx-arm64, win-64,
...) it has the same packages, and in place of python one that holds no interpreter: environments can be solved for
that platform, and run there once a channel with its python has been built there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.canonical import sha256_of
from orchestrator.environment.repodata import read_json, write_indexes
from orchestrator.errors import OrchError, UsageError
from orchestrator.files import write_whole
from orchestrator.report import Report, silent

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from orchestrator.environment.package import Recipe

RECORD = "channel.json"
"""What the channel was built from: for each SPEC, platform and interpreter, the packages."""


def build_channel(directory: Path, spec: Path, report: Report = silent, platforms: Sequence[str] = ()) -> list[Path]:
    """Build, or complete, a channel in `directory` of what `spec` lists; return the packages of `spec`, sorted.

    They are those for this machine and for the other `platforms`.

    Packages that are there are kept, and nothing is downloaded when none is missing. Several processes may build in
    one directory; a package and an index are complete or not there at all. Raises UsageError for a `spec` that is
    wrong or a platform without wheels, and OrchError when there are no wheels for it or the directory can't be written.
    """
    from filelock import FileLock

    from orchestrator.environment.package import conda_platform
    from orchestrator.environment.wheel_tags import WHEEL_PLATFORMS

    requirements = read_spec(spec)
    platforms = [conda_platform(), *sorted(set(platforms) - {conda_platform()})]
    for other in platforms[1:]:
        if other not in WHEEL_PLATFORMS:
            raise UsageError(
                f"there are no wheels for the platform {other}; there are for {', '.join(WHEEL_PLATFORMS)}."
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            packages: set[str] = set()
            for platform in platforms:
                key = _key(requirements, platform)
                found = _recorded(directory, key)
                if found is None:
                    found = _build(directory, requirements, platform, report)
                    _record(directory, key, found)
                else:
                    report("channel", f"{len(found)} packages for {platform} are there")
                packages |= set(found)
            write_indexes(directory, removed=_outdated(directory))
    except OSError as error:
        raise OrchError(f"the channel can't be written: {error.strerror} ({error.filename}).") from error
    return sorted(directory / name for name in packages)


def read_spec(path: Path) -> list[Requirement]:
    """The PyPI requirements that an environment file lists under `dependencies`, python left out.

    Raises UsageError for a file that is not there or no environment file, an entry that is no PyPI requirement, and a
    python that is not the running one.
    """
    import yaml
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list of packages {path} can't be read: {error}.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from error
    entries = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UsageError(f"{path} has no list `dependencies`.")
    requirements = []
    for entry in entries:
        try:
            requirement = Requirement(str(entry))
        except InvalidRequirement as error:
            raise UsageError(f"{path}: {entry!r} is no PyPI requirement, as `numpy>=2` is one.") from error
        if requirement.url is not None:
            raise UsageError(f"{path}: {entry!r} names a URL; the packages of a channel come from pip's index.")
        if requirement.name == "python":
            _check_python(path, requirement)
        else:
            requirements.append(requirement)
    return requirements


def _check_python(path: Path, requirement: Requirement) -> None:
    running = "{}.{}.{}".format(*sys.version_info[:3])
    if not requirement.specifier.contains(running, prereleases=True):
        raise UsageError(
            f"{path} asks for {requirement}, and this is Python {running}: a channel has the Python that builds it."
        )


# --- packages ---------------------------------------------------------------------------------------------------


def _build(directory: Path, requirements: Sequence[Requirement], platform: str, report: Report) -> list[str]:
    """Make the packages that are missing; return the paths of all, relative to `directory`."""
    from orchestrator.environment.channel_wheels import download_wheels
    from orchestrator.environment.interpreter import python_recipes, stand_in_recipe
    from orchestrator.environment.package import conda_platform
    from orchestrator.environment.wheel import read_wheel, wheel_recipe

    for left in directory.glob(".new-*"):
        shutil.rmtree(left)  # of a builder that was killed: the lock is ours
    with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as work:
        recipes = python_recipes() if platform == conda_platform() else [stand_in_recipe(platform)]
        packages = [_add_package(directory, Path(work), recipe, report) for recipe in recipes]
        for number, turn in enumerate(_turns(requirements)):
            report("channel", f"downloading {', '.join(map(str, turn))} for {platform}")
            found = download_wheels(turn, platform, Path(work) / f"{number}")
            wheels = {wheel.name: wheel for wheel in (read_wheel(path, uploaded) for path, uploaded in found)}
            if timeless := sorted(wheel.path.name for wheel in wheels.values() if wheel.made is None):
                report("channel", f"not known when they were made (--as-of passes them over): {', '.join(timeless)}")
            recipes = [wheel_recipe(wheel, wheels, platform) for wheel in wheels.values()]
            packages += [_add_package(directory, Path(work), recipe, report) for recipe in recipes]
    return sorted(set(packages))


def _turns(requirements: Sequence[Requirement]) -> list[list[Requirement]]:
    """The requirements, so divided that none names a package twice: first all first mentions, then all second ones."""
    from packaging.utils import canonicalize_name

    turns: list[list[Requirement]] = []
    seen: dict[str, int] = {}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        turn = seen[name] = seen.get(name, -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(requirement)
    return turns


def _add_package(directory: Path, work: Path, recipe: Recipe, report: Report) -> str:
    """Write the package, unless it is there; return its path relative to `directory`."""
    from orchestrator.environment.package import write_package

    folder = directory / recipe.index["subdir"]
    final = folder / f"{recipe.stem}.conda"
    if not final.exists():
        folder.mkdir(exist_ok=True)
        made = write_package(recipe, work)
        size = made.stat().st_size
        made.replace(final)
        report("package", f"{final.name}  {size / 1e6:.1f} MB")
    return f"{folder.name}/{final.name}"


# --- what is there ----------------------------------------------------------------------------------------------


def _key(requirements: Sequence[Requirement], platform: str) -> str:
    lines = [str(requirement) for requirement in requirements]
    return _key_prefix() + sha256_of([sys.version, sys.base_prefix, platform, lines])


def _key_prefix() -> str:
    from orchestrator.environment.package import REVISION

    return f"{REVISION}-"


def _recorded(directory: Path, key: str) -> list[str] | None:
    """The packages that an earlier build with this key made, when all are still there."""
    packages = read_json(directory / RECORD).get(key)
    if not isinstance(packages, list) or not all((directory / name).exists() for name in packages):
        return None
    return packages


def _record(directory: Path, key: str, packages: list[str]) -> None:
    record = read_json(directory / RECORD) | {key: packages}
    write_whole(directory / RECORD, json.dumps(record, indent=1).encode())


def _outdated(directory: Path) -> set[str]:
    """The packages that were built as they no longer are (see REVISION)."""
    built: dict[str, list[str]] = read_json(directory / RECORD)
    prefix = _key_prefix()
    current = {name for key, names in built.items() if key.startswith(prefix) for name in names}
    return {name for names in built.values() for name in names} - current


# --- the command ------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`scripts/channel`. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/channel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parents[2] / "envs" / "channel.yml"
    parser.add_argument("directory", metavar="DIR", type=Path, help="the channel, made when it is not there")
    parser.add_argument("spec", metavar="SPEC", type=Path, nargs="?", default=default, help="default: %(default)s")
    parser.add_argument("--platform", action="append", default=[], help="another platform; may be repeated")
    options = parser.parse_args(arguments)
    directory = Path(os.path.abspath(options.directory))  # noqa: PTH100  (resolve() would name what a link leads to)
    try:
        packages = build_channel(directory, options.spec, _say, options.platform)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OrchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error.name} is missing: install orch with its extra, as `pip install 'orch[channel]'`.\n")
        return OrchError.exit_code
    sys.stderr.write(_USAGE.format(count=len(packages), directory=directory, url=directory.as_uri()))
    return 0


_USAGE = """\
{count} packages in {directory}. To use it in place of conda-forge, write in $ORCH_HOME/config.toml:

    [mirrors]
    "https://conda.anaconda.org/conda-forge" = ["{url}"]
"""


def _say(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:  # noqa: ARG001  (a Report)
    sys.stderr.write(f"  {phase:<11}  {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
