"""A conda channel out of PyPI wheels and the running interpreter, for machines that reach no conda channel.

    scripts/channel DIR [SPEC]

SPEC is an environment file whose `dependencies` are PyPI requirement strings. pip finds the wheels, with all that
they require, where it is configured to look; each becomes a conda package of the same name. A package that is
listed twice is taken twice, each time resolved on its own. python, from the running interpreter, is always in it.

The same wheels always give the same packages, byte for byte. A channel only grows: another SPEC, or another
Python, adds its packages. What a SPEC was resolved to stays in `channel.json`; remove that file to look for newer
releases. Names are PyPI's, which for most packages are conda's.

DIR is a folder of files: copy it to a machine without a network, or put it behind any web server. Its packages are
for this platform and this Python, and its python needs the libraries that this one takes from the operating system
(OpenSSL, libffi, ...): build it on a machine like those that will use it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.canonical import sha256_of
from orchestrator.errors import OrchError, UsageError
from orchestrator.report import Report, silent

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from orchestrator.environment.package import Recipe

RECORD = "channel.json"
"""What the channel was built from: for each SPEC and interpreter, the packages."""


def build_channel(directory: Path, spec: Path, report: Report = silent) -> list[Path]:
    """Build, or complete, a channel in `directory` of what `spec` lists; return the packages of `spec`, sorted.

    Packages that are there are kept, and nothing is downloaded when none is missing. Several processes may build in
    one directory; a package and an index are complete or not there at all. Raises UsageError for a `spec` that is
    wrong, and OrchError when pip finds no wheels for it or the directory can't be written.
    """
    from filelock import FileLock

    requirements = read_spec(spec)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            key = _key(requirements)
            packages = _recorded(directory, key)
            if packages is None:
                packages = _build(directory, requirements, report)
                _record(directory, key, packages)
            else:
                report("channel", f"{len(packages)} packages are there")
            write_indexes(directory)
    except OSError as error:
        raise OrchError(f"the channel can't be written: {error.strerror} ({error.filename}).") from error
    return [directory / name for name in packages]


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
        elif requirement.marker is None or requirement.marker.evaluate():
            requirements.append(requirement)
    return requirements


def _check_python(path: Path, requirement: Requirement) -> None:
    running = "{}.{}.{}".format(*sys.version_info[:3])
    if not requirement.specifier.contains(running, prereleases=True):
        raise UsageError(
            f"{path} asks for {requirement}, and this is Python {running}: a channel has the Python that builds it."
        )


# --- packages ---------------------------------------------------------------------------------------------------


def _build(directory: Path, requirements: Sequence[Requirement], report: Report) -> list[str]:
    """Make the packages that are missing; return the paths of all, relative to `directory`."""
    from orchestrator.environment.interpreter import python_recipes
    from orchestrator.environment.wheel import read_wheel, wheel_recipe

    for left in directory.glob(".new-*"):
        shutil.rmtree(left)  # of a builder that was killed: the lock is ours
    with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as work:
        packages = [_add_package(directory, Path(work), recipe, report) for recipe in python_recipes()]
        for number, turn in enumerate(_turns(requirements)):
            report("channel", f"downloading {', '.join(map(str, turn))}")
            wheels = {wheel.name: wheel for wheel in map(read_wheel, _download(turn, Path(work) / f"{number}"))}
            recipes = [wheel_recipe(wheel, wheels) for wheel in wheels.values()]
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


def _download(requirements: Sequence[Requirement], folder: Path) -> list[Path]:
    """The wheels of the requirements and all that they require, as pip resolves them for this interpreter."""
    folder.mkdir()
    listed = folder / "requirements.txt"
    listed.write_text("".join(f"{requirement}\n" for requirement in requirements), "utf-8")
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "download"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "--requirement", str(listed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        explanation = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("WARNING"))
        raise OrchError(f"pip finds no wheels for {', '.join(map(str, requirements))}:\n{explanation.strip()}")
    return sorted(folder.glob("*.whl"))


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


def _key(requirements: Sequence[Requirement]) -> str:
    from orchestrator.environment.package import REVISION

    return sha256_of([REVISION, sys.version, sys.base_prefix, [str(requirement) for requirement in requirements]])


def _recorded(directory: Path, key: str) -> list[str] | None:
    """The packages that an earlier build with this key made, when all are still there."""
    packages = _read_json(directory / RECORD).get(key)
    if not isinstance(packages, list) or not all((directory / name).exists() for name in packages):
        return None
    return packages


def _record(directory: Path, key: str, packages: list[str]) -> None:
    _write_json(directory / RECORD, _read_json(directory / RECORD) | {key: packages})


def write_indexes(directory: Path) -> None:
    """Write `repodata.json` of each subdirectory whose packages are not exactly those that it lists.

    (rattler can do this, but its index tells the time at which it was made.)
    """
    for folder in {directory / "noarch", *(path.parent for path in directory.glob("*/*.conda"))}:
        folder.mkdir(exist_ok=True)
        index = folder / "repodata.json"
        files = sorted(folder.glob("*.conda"))
        if list(_read_json(index).get("packages.conda", {"": None})) == [path.name for path in files]:
            continue
        content = {
            "info": {"subdir": folder.name},
            "packages": {},
            "packages.conda": {path.name: _index_entry(path) for path in files},
            "removed": [],
            "repodata_version": 1,
        }
        _write_json(index, content)


def _index_entry(package: Path) -> dict[str, Any]:
    from conda_package_streaming.package_streaming import stream_conda_info

    entry: dict[str, Any] = {}
    for archive, member in stream_conda_info(package):
        if member.name == "info/index.json":
            entry = json.load(archive.extractfile(member))
    data = package.read_bytes()
    digests = {"md5": hashlib.md5(data, usedforsecurity=False), "sha256": hashlib.sha256(data)}
    return entry | {name: digest.hexdigest() for name, digest in digests.items()} | {"size": len(data)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content, indent=1), "utf-8")
    temporary.replace(path)


# --- the command ------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`scripts/channel`. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/channel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).parents[2] / "envs" / "channel.yml"
    parser.add_argument("directory", metavar="DIR", type=Path, help="the channel, made when it is not there")
    parser.add_argument("spec", metavar="SPEC", type=Path, nargs="?", default=default, help="default: %(default)s")
    options = parser.parse_args(arguments)
    directory = Path(os.path.abspath(options.directory))  # noqa: PTH100  (resolve() would name what a link leads to)
    try:
        packages = build_channel(directory, options.spec, _say)
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
