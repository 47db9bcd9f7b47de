"""The machine as conda sees it: its platform and its virtual packages (`__glibc`, `__cuda`, ...).

Only rattler can find the virtual packages; what it found is kept for as long as the machine runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError, UsageError
from orchestrator.files import write_whole
from orchestrator.paths import Home
from orchestrator.report import Report, silent

_SUBDIRS = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("linux", "ppc64le"): "linux-ppc64le",
    ("linux", "s390x"): "linux-s390x",
    ("linux", "riscv64"): "linux-riscv64",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
    ("win32", "AMD64"): "win-64",
    ("win32", "ARM64"): "win-arm64",
}


PLATFORMS = tuple(_SUBDIRS.values())
"""The platforms that conda knows."""


def known_platform(name: str | None) -> str:
    """The platform of this name; None is the running one. Raises UsageError for one that conda does not have."""
    if name is not None and name not in PLATFORMS:
        raise UsageError(f"--platform {name} is unknown; there are {', '.join(PLATFORMS)}.")
    return name or current_subdir()


def cuda_version(text: str | None) -> str | None:
    """A version of CUDA as `--cuda` takes it. Raises UsageError for what is none."""
    if text is not None and not re.fullmatch(r"\d+(\.\d+)*", text):
        raise UsageError(f"--cuda takes a version as 12.4, not {text!r}.")
    return text


def current_subdir() -> str:
    """conda's name of the running platform, as `linux-64`. Raises OrchError for one that conda does not know."""
    machine = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    try:
        return _SUBDIRS[sys.platform, machine]
    except KeyError:
        raise OrchError(f"conda has no packages for this platform ({sys.platform} on {machine}).") from None


def virtual_packages(home: Home, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The machine's virtual packages as sorted `name=version=build`; `CONDA_OVERRIDE_*` variables are honoured."""
    kept = home.cache / "virtual-packages" / f"{_machine(environ)}.json"
    try:
        return tuple(json.loads(kept.read_bytes()))
    except (FileNotFoundError, ValueError):
        pass
    from orchestrator.environment.worker import run_job

    found: list[str] = run_job("host", {}, home=home, report=silent)["virtual_packages"]
    kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(kept, json.dumps(found).encode())
    return tuple(found)


def _machine(environ: Mapping[str, str]) -> str:
    # A shared home serves many machines, and a reboot may bring another kernel or driver.
    facts = [f"{k}={v}" for k, v in sorted(environ.items()) if k.startswith("CONDA_OVERRIDE_")]
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        try:
            facts.append(Path(path).read_text("ascii").strip())
        except OSError:
            facts += [str(part) for part in os.uname()] if hasattr(os, "uname") else []
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:  # noqa: ARG001 - every job's form
    """The job `host`: `{"virtual_packages": [...]}`. Runs in the worker."""
    from rattler import VirtualPackage, VirtualPackageOverrides

    try:
        found = VirtualPackage.detect(VirtualPackageOverrides.from_env())
    except Exception as error:
        raise OrchError(f"the virtual packages of this machine can't be found out: {error}.") from error
    return {"virtual_packages": sorted(str(package.into_generic()) for package in found)}
