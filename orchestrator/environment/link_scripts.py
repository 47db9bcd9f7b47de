"""The job `link`: run packages' post-link scripts in a prefix that stands in its place, and finish it.

Runs in the worker. A script is the package's own code, and runs only where the user names the package. It is given
what conda gives it: bash that traces (`-x`), in the prefix's `bin`, with PREFIX, PKG_NAME, PKG_VERSION, PKG_BUILDNUM.
https://docs.conda.io/projects/conda-build/en/stable/resources/link-scripts.html
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.environment.install import explained, finish, hold
from orchestrator.environment.lock import LockedPackage, locked_packages
from orchestrator.environment.packaged_scripts import PackagedScript, post_link_script
from orchestrator.environment.passed_on import for_builds
from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.report import Report

_MESSAGES = ".messages.txt"
"""Where a script in the prefix writes what people should read; its output is for errors."""
_SHOWN = 10
"""Lines of a script that are shown."""


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """Run the scripts of the packages `job["link_scripts"]` in the prefix at `job["final"]`; see `install.work`,
    which gives `job["scripts"]`.

    Raises OrchError with what the script said when one fails; the prefix is then good for nothing.
    """
    prefix = Path(job["final"])
    packages = locked_packages(home, job["lock_id"])
    scripts = [PackagedScript(**row) for row in job["scripts"]]
    hold_fd = hold(Path(job["guard"]))
    notes: list[str] = []
    try:
        for package in _in_order(packages):
            if package.manager == "conda" and package.name in job["link_scripts"]:
                report("environment", f"running the post-link script of {package.name}")
                notes += _run(package, post_link_script(package.name, scripts, prefix), prefix)
        finish(job, packages, prefix, scripts=scripts, hold_fd=hold_fd, report=report, notes=notes)
    except OSError as error:
        raise explained(error, home, prefix) from error
    return {}


def _in_order(packages: Sequence[LockedPackage]) -> Iterable[LockedPackage]:
    """The packages, each after those that it needs; where they need each other (python and pip), by name."""
    by_name = {package.name: package for package in packages if package.manager == "conda"}
    ordered: dict[str, LockedPackage] = {}
    entered: set[str] = set()

    def visit(name: str) -> None:
        if name not in by_name or name in entered:
            return
        entered.add(name)
        for text in sorted(by_name[name].depends):
            visit(text.split()[0])
        ordered[name] = by_name[name]

    for name in sorted(by_name):
        visit(name)
    return ordered.values()


def _run(package: LockedPackage, script: Path, prefix: Path) -> list[str]:
    """Run a package's script to its end; the sentence it has for people, if any."""
    bash = shutil.which("bash")
    if bash is None:
        raise OrchError(f"the post-link script of {package.name} needs bash, which is not on PATH.")
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            [bash, "-x", script],
            cwd=script.parent,
            env=_variables(package, prefix),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            check=False,
        )
        printed, traced = _lines(output), _lines(errors)
    messages = prefix / _MESSAGES
    said = _readable(messages.read_bytes()) if messages.is_file() else []
    messages.unlink(missing_ok=True)
    if done.returncode:
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        last = "\n".join(f"  {line}" for line in [*said, *printed, *traced][-_SHOWN:])
        raise OrchError(f"the post-link script of {package.name} failed with {how}.\n{last}".rstrip())
    shown = [*said, *printed][-_SHOWN:]
    return [f"the post-link script of {package.name} says: {' / '.join(shown)}"] if shown else []


def _variables(package: LockedPackage, prefix: Path) -> dict[str, str]:
    environ = for_builds(os.environ)
    return environ | {
        "PATH": f"{prefix / 'bin'}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "PREFIX": str(prefix),
        "PKG_NAME": package.name,
        "PKG_VERSION": package.version,
        "PKG_BUILDNUM": str(_build_number(package, prefix)),
        # A Python that a script starts would compile for the time of its files; see `install`.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }


def _build_number(package: LockedPackage, prefix: Path) -> int:
    # As the package itself says: a lock may not have it, and a build string only hints at it.
    record = prefix / "conda-meta" / f"{package.name}-{package.version}-{package.build}.json"
    extracted = Path(json.loads(record.read_bytes())["extracted_package_dir"])
    number: int = json.loads((extracted / "info/index.json").read_bytes())["build_number"]
    return number


def _lines(file: Any) -> list[str]:
    file.seek(0)
    return _readable(file.read())


def _readable(data: bytes) -> list[str]:
    """The lines of a script's text that hold something, without credentials and without control characters."""
    text = without_credentials(data.decode("utf-8", "replace"))
    lines = ("".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines())
    return [line for line in lines if line]
