"""A channel whose binary packages bring their bytecode, as those of conda-forge do: none is compiled twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path

from conda_package_streaming.extract import extract

from orchestrator.environment.package import Member, Recipe, conda_platform, write_package
from orchestrator.environment.repodata import write_indexes


def compile_packages(channel: Path) -> None:
    """Add to the packages for this platform the bytecode of their Python files, and write the indexes anew."""
    for archive in sorted((channel / conda_platform()).glob("*.conda")):
        with tempfile.TemporaryDirectory(dir=channel) as work:
            inside = Path(work) / "inside"
            extract(archive, inside)
            how = ["-q", "-j", "0", "-s", inside, "--invalidation-mode", "unchecked-hash"]
            subprocess.run([sys.executable, "-W", "ignore", "-m", "compileall", *how, inside], capture_output=True)
            index, about = (json.loads((inside / "info" / f"{name}.json").read_bytes()) for name in ("index", "about"))
            recipe = Recipe(index, about, lambda inside=inside: _members(inside))
            write_package(recipe, Path(work)).replace(archive)
    write_indexes(channel)


def _members(inside: Path) -> Iterator[Member]:
    for entry in json.loads((inside / "info/paths.json").read_bytes())["paths"]:
        path, name, placeholder = inside / entry["_path"], entry["_path"], entry.get("prefix_placeholder")
        if path.is_symlink():
            yield Member(name, target=str(path.readlink()))
            continue
        yield Member(name, path.read_bytes(), os.access(path, os.X_OK), placeholder)
        # What has the prefix in it is compiled where it is installed.
        if path.suffix == ".py" and placeholder is None and (compiled := Path(cache_from_source(path))).exists():
            yield Member(compiled.relative_to(inside).as_posix(), compiled.read_bytes())
