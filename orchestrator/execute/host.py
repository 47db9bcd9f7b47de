"""Facts of the machine that a result may depend on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.variables import without_secrets


def host_facts(variables: Mapping[str, str]) -> dict[str, Any]:
    """Name, system, processor and memory (bytes) of this machine, and the host's `variables` that a run was given."""
    system = os.uname()
    return {
        "hostname": system.nodename,
        "os": system.sysname,
        "kernel": system.release,
        "machine": system.machine,
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "orch": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "variables": without_secrets(variables),
    }


def _cpu_model() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine
