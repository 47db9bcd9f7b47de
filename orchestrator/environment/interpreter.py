"""The recipes of the conda packages `python` and `python_abi` out of the running interpreter."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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

LEFT_OUT = frozenset({"test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages", "turtledemo"})
LEFT_OUT_FILES = frozenset({"EXTERNALLY-MANAGED", "sitecustomize.py", "usercustomize.py"})
"""What the administrator of a machine says about its own interpreter, and not about a copy of it."""

SYSTEM_PREFIXES = frozenset({"/", "/usr"})
"""Prefixes that stand in many files with another meaning than "where Python is"."""


def python_recipes() -> list[Recipe]:
    """The packages `python` and `python_abi`, out of the interpreter that runs this (a virtual environment's base).

    The interpreter's own files are taken, without its tests and installed packages. Libraries of the operating
    system that it needs (OpenSSL, libffi, ...) are not, so it works where those are: on machines like this one.
    Raises OrchError when it is no CPython.
    """
    if sys.implementation.name != "cpython":
        raise OrchError(f"a channel is built with CPython; this is {sys.implementation.name}.")
    base = Path(sys.base_prefix).resolve()
    level = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(sys.version_info.releaselevel)
    version = "{}.{}.{}".format(*sys.version_info[:3]) + (f"{level}{sys.version_info.serial}" if level else "")
    flavour = "cpython" if ABI.rstrip("t") == ABI else ABI
    # The libraries' own needs decide which machines it runs on; finding them means reading the files once more.
    needs = _glibc_needs(base)
    common = {"build_number": 0, "timestamp": TIMESTAMP * 1000}
    python = {
        "name": "python",
        "version": version,
        "build": f"h{digest(sys.version, str(base), *needs)}_0_{flavour}",
        "subdir": conda_platform(),
        "depends": needs,
        "constrains": [f"python_abi {MINOR}.* *_{ABI}"],
        "license": "PSF-2.0",
        "python_site_packages_path": SITE_PACKAGES,
    }
    abi = {
        "name": "python_abi",
        "version": MINOR,
        "build": f"0_{ABI}",
        "subdir": "noarch",
        "noarch": "generic",
        "depends": [],
        "constrains": [f"python {MINOR}.* *_{flavour}"],
    }
    about = {"summary": "The Python programming language", "extra": {"interpreter": sys.version}}
    return [
        Recipe(python | common, about, lambda: _python_members(base)),
        Recipe(abi | common, {"summary": f"Selects the binary interface {ABI}"}, lambda: ()),
    ]


def _python_members(base: Path) -> Iterator[Member]:
    for path in _python_files(base):
        relative = path.relative_to(base).as_posix()
        if path.is_symlink() and "/" not in (target := str(path.readlink())):
            yield Member(relative, target=target)
            continue
        data = _stripped(path)
        placeholder = None
        if _is_binary(data):
            data = _relocated(data, base, relative)
        elif str(base) not in SYSTEM_PREFIXES and str(base).encode() in data:
            placeholder = str(base)
        yield Member(relative, data, os.access(path, os.X_OK), placeholder)
    for name in ("python", f"python{sys.version_info.major}"):
        yield Member(f"bin/{name}", target=f"python{MINOR}")
    yield Member(f"{SITE_PACKAGES}/README.txt", b"Packages are installed here.\n")


def _python_files(base: Path) -> list[Path]:
    """The files of the interpreter below `base`, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib")).resolve()
    executable = base / "bin" / f"python{MINOR}"
    if not executable.exists() or not library.is_relative_to(base):
        raise OrchError(f"the interpreter in {base} is not laid out as bin/python{MINOR} and lib/python{MINOR}.")
    files = [executable]
    for top in (library, base / "include" / f"python{MINOR}{sys.abiflags}"):
        for root, folders, names in os.walk(top):
            folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.startswith("config-"))
            files += [Path(root, name) for name in sorted(names) if _is_wanted(name)]
    return files + _own_libraries(base, files)


def _is_wanted(name: str) -> bool:
    return not name.endswith((".pyc", ".a")) and not name.startswith("_test") and name not in LEFT_OUT_FILES


def _own_libraries(base: Path, files: list[Path]) -> list[Path]:
    """The shared libraries in `base`/lib that the files need: libpython, and in a conda prefix OpenSSL and the like."""
    if str(base) in SYSTEM_PREFIXES:
        return []
    candidates = {p.name: p for pattern in ("*.so*", "*.dylib") for p in sorted((base / "lib").glob(pattern))}
    found: dict[str, Path] = {}
    queue = [path for path in files if path.suffix in (".so", ".dylib") or path.parent.name == "bin"]
    while queue:
        data = queue.pop().read_bytes()
        for name, path in candidates.items():
            if name not in found and name.encode() in data:
                found[name] = path
                queue.append(path)
    # A link among them needs its target too.
    for path in list(found.values()):
        target = path.resolve()
        if target.parent == path.parent.resolve():
            found.setdefault(target.name, path.parent / target.name)
    return sorted(found.values())


def _glibc_needs(base: Path) -> list[str]:
    """The newest glibc symbol version that a file of the interpreter asks for, as a virtual package."""
    versions = {
        (int(major), int(minor))
        for path in _python_files(base)
        if path.suffix == ".so" or ".so." in path.name or path.parent == base / "bin"
        for major, minor in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", path.read_bytes())
    }
    return [f"__glibc >={'.'.join(map(str, max(versions)))}"] if versions else []


def _is_binary(data: bytes) -> bool:
    return b"\0" in data[:1024]


def _stripped(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:4] != b"\x7fELF" or shutil.which("strip") is None:
        return data
    with tempfile.TemporaryDirectory() as work:
        small = Path(work) / "stripped"
        command = ["strip", "--strip-unneeded", "-o", str(small), "--", str(path)]
        done = subprocess.run(command, capture_output=True, check=False)
        return small.read_bytes() if done.returncode == 0 else data


def _relocated(data: bytes, base: Path, relative: str) -> bytes:
    """The library search path `base`/lib in an ELF file, made relative to the file (ld.so's `$ORIGIN`).

    It is replaced in place, padded with zeros, and stays when the prefix is so short that it does not fit.
    """
    absolute = f"\0{base}/lib\0".encode()
    up = os.path.relpath("lib", PurePosixPath(relative).parent)
    origin = "\0$ORIGIN\0" if up == "." else f"\0$ORIGIN/{up}\0"
    if data[:4] != b"\x7fELF" or len(origin) > len(absolute):
        return data
    return data.replace(absolute, origin.encode().ljust(len(absolute), b"\0"))
