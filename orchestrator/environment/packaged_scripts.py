"""Link scripts as packages bring them: whose a script is, its package's record says, and not the script's name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.files import sha256_of_file

_LINK_SCRIPT = re.compile(r"bin/\.(?P<name>.+)-(post|pre)-link\.sh")
_RECORD = re.compile(r"conda-meta/[^/]*\.json", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PackagedScript:
    """A link script, by its path in the prefix, the package that brings it, and the sha256 that it has there."""

    path: str
    package: str
    sha256: str


def packaged_scripts(prefix: Path) -> tuple[PackagedScript, ...]:
    """The link scripts in a prefix of which the packages' records tell.

    It is to be asked before wheels are installed and scripts run: these can replace records. Raises OrchError when a
    package brings records itself.
    """
    if not any(prefix.glob("bin/.*-link.sh")):
        return ()
    scripts = []
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record = json.loads(path.read_bytes())
        for entry in record["paths_data"]["paths"]:
            name = entry["_path"]
            # Were records of each other's replaced, the one that was written last would still tell of it.
            if _RECORD.fullmatch(name):
                raise OrchError(
                    f"the package {record['name']} brings {name}, a record of what is installed, which is not a "
                    "package's to bring; its environment can't be installed."
                )
            if _LINK_SCRIPT.fullmatch(name):
                sha256 = entry.get("sha256_in_prefix") or entry.get("sha256") or ""
                scripts.append(PackagedScript(name, record["name"], sha256))
    return tuple(scripts)


def post_link_script(name: str, scripts: Sequence[PackagedScript], prefix: Path) -> Path:
    """The script that conda runs when the package is in its place.

    Raises OrchError when the package has none, or another one stands in the place of its own.
    """
    path = _post_link(name)
    script = next((script for script in scripts if script.path == path), None)
    if script is None:
        have = sorted(script.package for script in scripts if script.path == _post_link(script.package))
        only = f"only {', '.join(have)} {'has' if len(have) == 1 else 'have'} one" if have else "none has one here"
        raise OrchError(f"--link-scripts {name}: the package has no post-link script; {only}.")
    if script.package != name:
        raise OrchError(f"--link-scripts {name}: {path} is no script of that package; it comes with {script.package}.")
    place = prefix / path
    if place.is_symlink() or not place.is_file() or sha256_of_file(place) != script.sha256:
        raise OrchError(f"--link-scripts {name}: {path} is not as the package has it; something replaced it.")
    return place


def not_run(scripts: Iterable[PackagedScript], run: Iterable[str]) -> list[str]:
    """The sentence about the packages whose scripts were not run, if any."""
    names = sorted({script.package for script in scripts} - set(run))
    if not names:
        return []
    return [f"link scripts were not run, of {', '.join(names)}; only `orch run --link-scripts NAME` runs one."]


def _post_link(name: str) -> str:
    return f"bin/.{name}-post-link.sh"
