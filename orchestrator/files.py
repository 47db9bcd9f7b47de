"""Files and folders as whole things: written whole or not at all, hashed, removed."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def write_whole(path: Path, data: bytes) -> bool:
    """Write all of a file or nothing of it; False when it is the same already, and is left untouched.

    Who reads it meanwhile has the old or the new one, and of two writers one wins. Raises OSError.
    """
    if path.is_file() and path.read_bytes() == data:
        return False
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a device or a pipe, which no file can stand for
        return True
    aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return True


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file, in lower-case hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_disk(folder: Path) -> None:
    """Bring the file system of `folder` to its disk: one call for thousands of files. Raises OSError."""
    if not sys.platform.startswith("linux"):
        os.sync()
        return
    import ctypes

    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # No other (hanging) file system is waited for.
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove a directory tree that may be read-only. A missing one is fine. Raises OSError."""
    import shutil

    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)  # noqa: PTH101 (a str, thousands of them)
    if path.exists():
        shutil.rmtree(path)
