"""Git LFS: files that git holds only as pointers, and where their bytes are found.

The pointer format: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md. Objects are kept in
`<mirror>/lfs/objects`, where git-lfs itself would put them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator.source.gitprogram import GitFailed, local_env, network_env, run_git
from orchestrator.source.location import Remote
from orchestrator.source.mirror import Pointer, World
from orchestrator.source.repository import Repository

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-\d-\w+ [^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)
MAX_POINTER_BYTES = 1024
_CHUNK = 1 << 20


def find_pointers(mirror: Path, entries: Sequence[tuple[str, str, str]]) -> tuple[Pointer, ...]:
    """The LFS pointers among the (mode, id, path) of a tree whose .gitattributes name LFS. Raises GitFailed."""
    attributes = {object_id for _, object_id, path in entries if path.rpartition("/")[2] == ".gitattributes"}
    if not any(b"filter=lfs" in content for content in read_blobs(mirror, sorted(attributes)).values()):
        return ()
    files = [(object_id, path) for mode, object_id, path in entries if mode.startswith("100")]
    pointers = read_pointers(mirror, [object_id for object_id, _ in files])
    return tuple(Pointer(path, *pointers[object_id]) for object_id, path in files if object_id in pointers)


def read_pointers(git_dir: Path, ids: Iterable[str], alternates: Iterable[Path] = ()) -> dict[str, tuple[str, int]]:
    """Which of these blobs are LFS pointers: id -> (sha256, size). Raises GitFailed."""
    alternates = tuple(alternates)
    env = local_env(git_dir, alternates=alternates)
    wanted = "".join(f"{object_id}\n" for object_id in dict.fromkeys(ids)).encode()
    if not wanted:
        return {}
    out = run_git("cat-file", "--batch-check=%(objectname) %(objectsize)", env=env, data=wanted)
    small = [
        name.decode()
        for name, _, size in (line.partition(b" ") for line in out.splitlines())
        if size.isdigit() and int(size) <= MAX_POINTER_BYTES
    ]
    found = {}
    for object_id, content in read_blobs(git_dir, small, alternates).items():
        match = _POINTER.fullmatch(content)
        if match:
            found[object_id] = (match[1].decode(), int(match[2]))
    return found


def read_blobs(git_dir: Path, ids: Sequence[str], alternates: Iterable[Path] = ()) -> dict[str, bytes]:
    """The contents of (small) blobs by id. Raises GitFailed."""
    if not ids:
        return {}
    env = local_env(git_dir, alternates=alternates)
    out = run_git("cat-file", "--batch", env=env, data="".join(f"{object_id}\n" for object_id in ids).encode())
    contents, position = {}, 0
    while position < len(out):
        end = out.index(b"\n", position)
        words = out[position:end].split(b" ")
        if len(words) != 3:
            raise GitFailed(out[position:end].decode("utf-8", "replace"))
        size = int(words[2])
        contents[words[0].decode()] = out[end + 1 : end + 1 + size]
        position = end + 1 + size + 1
    return contents


def object_path(mirror: Path, oid: str) -> Path:
    """Where the mirror keeps an LFS object."""
    return mirror / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def collect_objects(
    mirror: Path,
    commit: str,
    pointers: Sequence[Pointer],
    remote: Remote,
    places: Sequence[Repository],
    world: World,
) -> None:
    """Bring the objects that the mirror lacks: from repositories of this machine, then with git-lfs if it is there.

    What can't be had stays missing; a check-out says so.
    """
    missing = [p for p in pointers if not object_path(mirror, p.oid).exists()]
    for pointer in missing:
        for source in _local_copies(pointer, places):
            if source.is_file() and source.stat().st_size == pointer.size and keep_object(mirror, pointer, source):
                break
    import shutil

    if all(object_path(mirror, p.oid).exists() for p in missing) or world.offline or not shutil.which("git-lfs"):
        return
    world.report("source", f"fetching {len(missing)} LFS files of {remote.url}")
    credentials = ((f"url.{remote.secret_url}.insteadOf", remote.url),) if remote.secret_url else ()
    try:
        run_git("lfs", "fetch", "origin", commit, env=network_env(mirror, http=remote.plain_http, config=credentials))
    except GitFailed as error:
        world.report("source", f"git-lfs could not fetch: {error.line}")


def keep_object(mirror: Path, pointer: Pointer, source: Path) -> bool:
    """Copy the bytes of a pointer into the mirror, verified; False when `source` holds others."""
    target = object_path(mirror, pointer.oid)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{pointer.oid}.{os.getpid()}.{os.urandom(4).hex()}")
    if not _copy_verified(source, aside, pointer.oid):
        return False
    aside.replace(target)
    return True


def copy_object(mirror: Path, pointer: Pointer, target: Path) -> bool:
    """Write the bytes of a pointer over `target`, verified; False when they are not in the mirror, or are not right."""
    source = object_path(mirror, pointer.oid)
    if not source.exists():
        return False
    mode = target.stat().st_mode
    aside = target.with_name(f".{os.urandom(8).hex()}")
    if not _copy_verified(source, aside, pointer.oid):
        return False
    aside.chmod(mode & 0o777)
    aside.replace(target)
    return True


def file_matches(path: Path, oid: str, size: int) -> bool:
    """Whether a file holds the bytes that a pointer stands for."""
    if path.stat().st_size != size:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == oid


def _local_copies(pointer: Pointer, places: Iterable[Repository]) -> Iterable[Path]:
    for place in places:
        yield object_path(place.common, pointer.oid)
        if place.work_tree is not None:
            yield place.work_tree / pointer.path


def _copy_verified(source: Path, target: Path, oid: str) -> bool:
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    if digest.hexdigest() == oid:
        return True
    target.unlink()
    return False
