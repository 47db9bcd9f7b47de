"""Facts of the machine that a result may depend on, and which of them two machines do not share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.variables import without_secrets

FLAGS = "cpu_flags"
"""The fact that has all features of a processor: sorted names with a blank between them, as the kernel writes them.

One text, not a list: it is in every run's JSON, and there one line.
"""


def host_facts(variables: Mapping[str, str]) -> dict[str, Any]:
    """Name, system, processor, memory (bytes), GPUs of this machine, and the host's `variables` that a run was given.

    `cpus` are the threads that this process may use. `cpu_flags` is missing where the system does not tell.
    """
    system = os.uname()
    model, flags = _cpu_of_sysctl() if sys.platform == "darwin" else _cpu_of_proc()
    return {
        "hostname": system.nodename,
        "os": system.sysname,
        "kernel": system.release,
        "machine": system.machine,
        "cpu": model or system.machine,
        **({FLAGS: flags} if flags else {}),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus(),
        "orch": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "variables": without_secrets(variables),
    }


def differing_facts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The facts of two hosts that differ: name, the one's, the other's. What only one of them tells is no difference.

    Of the processor's flags only those are told that the other does not have, as lists.
    """
    found = []
    for name in one:
        if name not in other or one[name] == other[name]:
            continue
        if name == FLAGS:
            before, after = set(str(one[name]).split()), set(str(other[name]).split())
            if before != after:
                found.append((name, sorted(before - after), sorted(after - before)))
        else:
            found.append((name, one[name], other[name]))
    return found


# --- processor --------------------------------------------------------------------------------------------------


def _cpu_of_proc() -> tuple[str, str]:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return cpu_of_cpuinfo(lines)
    except OSError:
        return "", ""


def cpu_of_cpuinfo(lines: Iterable[str]) -> tuple[str, str]:
    """Model and flags of the first processor in the lines of Linux' /proc/cpuinfo; "" for what is not there.

    No line is read beyond it, for the kernel makes them while they are read.
    """
    facts: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon and facts:
            break
        facts[name.strip()] = value.strip()
    model = facts.get("model name") or facts.get("cpu") or ""
    if not model and "CPU part" in facts:
        model = f"ARM implementer {facts.get('CPU implementer')}, part {facts['CPU part']}"
    flags = facts.get("flags") or facts.get("Features") or facts.get("features") or facts.get("isa") or ""
    return model, " ".join(sorted(set(flags.split())))


def _cpu_of_sysctl() -> tuple[str, str]:
    import subprocess

    command = ["/usr/sbin/sysctl", "machdep.cpu", "hw.optional"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    return cpu_of_sysctl(done.stdout)


def cpu_of_sysctl(text: str) -> tuple[str, str]:
    """Model and flags in what macOS' `sysctl machdep.cpu hw.optional` prints; "" for what is not there.

    Intel's have lists of features; Apple's own processors have a number, 1 or 0, for each.
    """
    facts = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    lists = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
    flags = {flag.lower() for name in lists for flag in facts.get(name, "").split()}
    if not flags:
        optional = "hw.optional."
        flags = {n.removeprefix(optional) for n, value in facts.items() if n.startswith(optional) and value == "1"}
    return facts.get("machdep.cpu.brand_string", "").strip(), " ".join(sorted(flags))


# --- GPUs -------------------------------------------------------------------------------------------------------


def gpus(root: Path = Path("/")) -> list[str]:
    """Each GPU with the version of its driver, as the drivers of NVIDIA and AMD tell in files below `root`.

    No program is started: nvidia-smi may take seconds to wake a GPU, only to tell the same.
    """
    return sorted([*_of_nvidia(root), *_of_amd(root)])


def _of_nvidia(root: Path) -> list[str]:
    folder = root / "proc/driver/nvidia/gpus"
    if not folder.is_dir():
        return []
    driver = _text(root / "sys/module/nvidia/version").strip()
    found = []
    for about in folder.glob("*/information"):
        lines = (line.partition(":") for line in _text(about).splitlines())
        model = next((value.strip() for name, _, value in lines if name.strip() == "Model"), "NVIDIA GPU")
        found.append(f"{model}, driver {driver}" if driver else model)
    return found


def _of_amd(root: Path) -> list[str]:
    folder = root / "sys/class/kfd/kfd/topology/nodes"
    if not folder.is_dir():
        return []
    driver = _text(root / "sys/module/amdgpu/version").strip()  # the kernel's own has none
    found = []
    for about in folder.glob("*/properties"):
        pairs = (line.split() for line in _text(about).splitlines())
        facts = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
        if facts.get("simd_count", 0):  # a processor is a node too, without any
            major, rest = divmod(facts.get("gfx_target_version", 0), 10000)
            target = f"gfx{major}{rest // 100:x}{rest % 100:x}"
            model = f"AMD {target} (device {facts.get('device_id', 0):#06x})"
            found.append(f"{model}, driver {driver}" if driver else model)
    return found


def _text(path: Path) -> str:
    """Empty for a file that can't be read: a container has some of them only."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
