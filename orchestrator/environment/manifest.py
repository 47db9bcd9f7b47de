"""What a prefix held when it was built, and what differs now.

Two files in the prefix tell it. `.orch/look.json` is small: directory times and package records, for the look that
every run takes. `.orch/files.json` has every file with its size and sha256, for the look that a replay takes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST_VERSION = 1
FOLDER = ".orch"
LOOK = f"{FOLDER}/look.json"
FILES = f"{FOLDER}/files.json"
BYTECODE = "__pycache__"
"""Python may add to these folders at any time (another -O level, numba's cache); what was there at the start is
still part of the manifest, for it is what runs."""


@dataclass(frozen=True, slots=True)
class Built:
    """What was said of a prefix when it was built."""

    lock_id: str
    packages: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Tree:
    directories: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[str, ...]


def built(prefix_path: Path) -> Built | None:
    """What the prefix says of itself; None where no prefix was completed."""
    look = _read(prefix_path / LOOK)
    return None if look is None else Built(look["lock_id"], look["packages"], tuple(look["notes"]))


def drift(prefix_path: Path) -> tuple[str, ...]:
    """What changed in a prefix since it was built, by a quick look; () when nothing did.

    Directory times and package records are compared; where one differs, the hashes of that directory's files decide.
    So a file that is added, removed or replaced is found; bytes written into a file in its place are not
    (`verify_prefix` finds them). A prefix that was never completed has drifted too.
    """
    look = _read(prefix_path / LOOK)
    if look is None:
        return (f"{prefix_path} is not a complete prefix",)
    root = os.fspath(prefix_path)
    suspects = {"conda-meta"} if _records(prefix_path) != look["records"] else set()
    if _root_names(root) != look["root"]:
        suspects.add("")
    for name, mtime_ns in look["directories"].items():
        try:
            changed = os.lstat(f"{root}/{name}").st_mtime_ns != mtime_ns
        except OSError:
            changed = True
        if changed:
            suspects.add(name)
    return _differences(prefix_path, look, suspects) if suspects else ()


def verify_prefix(prefix_path: Path) -> tuple[str, ...]:
    """Every file that differs from the manifest, is missing or is new, as sentences; () when all are as built.

    What Python added to `__pycache__` folders is passed over.
    """
    expected = _read(prefix_path / FILES)
    if expected is None:
        return (f"{prefix_path} is not a complete prefix",)
    tree = _walk(prefix_path)
    known = expected["files"].keys() | expected["links"].keys()
    present = set(tree.files) | set(tree.links)
    found = [f"{name} is missing" for name in known - present]
    found += [f"{name} is new" for name in present - known if not _is_bytecode(name)]
    found += _changed_files(prefix_path, expected, known & present)
    return tuple(sorted(found))


def write_manifest(prefix_path: Path, *, lock_id: str, packages: int, notes: Iterable[str]) -> int:
    """Write the manifest of a prefix whose files are all in place. Returns the number of bytes that they hold."""
    tree = _walk(prefix_path)
    files = dict(zip(tree.files, _fingerprints(prefix_path, tree.files), strict=True))
    root = os.fspath(prefix_path)
    (prefix_path / FOLDER).mkdir()
    _write(
        prefix_path / FILES,
        {
            "version": MANIFEST_VERSION,
            "files": files,
            "links": {name: str((prefix_path / name).readlink()) for name in tree.links},
        },
    )
    # The prefix folder's own time changes when it is moved into place on some file systems: its names are kept.
    _write(
        prefix_path / LOOK,
        {
            "version": MANIFEST_VERSION,
            "lock_id": lock_id,
            "packages": packages,
            "notes": list(notes),
            "root": sorted({*_root_names(root), FOLDER}),
            "records": _records(prefix_path),
            "directories": {
                name: os.lstat(f"{root}/{name}").st_mtime_ns for name in tree.directories if not _is_bytecode(name)
            },
        },
    )
    return sum(size for size, _, _ in files.values())


def _differences(prefix_path: Path, look: dict[str, Any], suspects: set[str]) -> tuple[str, ...]:
    """What differs among the direct children of the suspected directories."""
    expected = _read(prefix_path / FILES)
    if expected is None:
        return (f"{FILES} is missing or damaged",)
    known = {name for key in ("files", "links") for name in expected[key] if _parent(name) in suspects}
    folders = {name for name in look["directories"] if _parent(name) in suspects}
    present: set[str] = set()
    present_folders: set[str] = set()
    for folder in suspects:
        for entry in _entries(prefix_path / folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name not in (BYTECODE, FOLDER):
                (present_folders if entry.is_dir(follow_symlinks=False) else present).add(name)
    found = [f"{name} is missing" for name in (known | folders) - present - present_folders]
    found += [f"{name} is new" for name in (present | present_folders) - known - folders]
    found += [f"{name} differs" for name in (known & present_folders) | (folders & present)]
    found += _changed_files(prefix_path, expected, known & present)
    return tuple(sorted(found))


def _changed_files(prefix_path: Path, expected: dict[str, Any], names: Iterable[str]) -> list[str]:
    root = os.fspath(prefix_path)
    links = expected["links"]
    found, plain = [], []
    for name in sorted(names):
        if os.path.islink(f"{root}/{name}") != (name in links) or (  # noqa: PTH114 (thousands of them)
            name in links and os.readlink(f"{root}/{name}") != links[name]  # noqa: PTH115
        ):
            found.append(f"{name} differs")
        elif name not in links:
            plain.append(name)
    for name, fingerprint in zip(plain, _fingerprints(prefix_path, plain), strict=True):
        if list(fingerprint) != expected["files"][name]:
            found.append(f"{name} differs")
    return found


def _walk(prefix_path: Path) -> _Tree:
    root = os.fspath(prefix_path)
    directories: list[str] = []
    files: list[str] = []
    links: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(Path(root, folder)):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink():
                links.append(name)
            elif not entry.is_dir(follow_symlinks=False):
                files.append(name)
            elif name != FOLDER:
                directories.append(name)
                waiting.append(name)
    return _Tree(tuple(sorted(directories)), tuple(sorted(files)), tuple(sorted(links)))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _fingerprints(prefix_path: Path, names: Iterable[str]) -> list[tuple[int, str, bool]]:
    """Size, sha256 and whether it is executable, of each file; on all cores, for hashing leaves the interpreter."""
    from concurrent.futures import ThreadPoolExecutor

    root = os.fspath(prefix_path)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(lambda name: _fingerprint(f"{root}/{name}"), names))


def _fingerprint(path: str) -> tuple[int, str, bool]:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (thousands of them)
        status = os.fstat(file.fileno())
        return status.st_size, hashlib.file_digest(file, "sha256").hexdigest(), bool(status.st_mode & 0o111)


def _records(prefix_path: Path) -> dict[str, list[int]]:
    """Size and time of each package record; lists, as JSON gives them back."""
    records = {}
    for entry in _entries(prefix_path / "conda-meta"):
        if entry.name.endswith(".json"):
            status = entry.stat(follow_symlinks=False)
            records[entry.name] = [status.st_size, status.st_mtime_ns]
    return records


def _root_names(root: str) -> list[str]:
    return sorted(name for name in os.listdir(root) if name != BYTECODE)  # noqa: PTH208 (the names are wanted)


def _is_bytecode(name: str) -> bool:
    return name.startswith(f"{BYTECODE}/") or f"/{BYTECODE}/" in name or name.endswith(BYTECODE)


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and value.get("version") == MANIFEST_VERSION else None


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, separators=(",", ":")), "ascii")
