"""The mirrors below `home.sources`: one bare repository per URL, and what is known of the commits in it.

A mirror is made aside and renamed. A commit counts as being there only when its facts file is (`<mirror>/orch/
<commit>.json`, written last): then its trees, blobs and submodules are there too, and no git need be asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.canonical import local_path, portable_path
from orchestrator.errors import OrchError
from orchestrator.model import Submodule
from orchestrator.paths import Home
from orchestrator.report import Report
from orchestrator.source.gitprogram import GitFailed, local_env, run_git

FACTS_VERSION = 1

_RAW_BYTES = "* -text !eol !crlf !ident !filter !working-tree-encoding\n"
"""info/attributes of a mirror: it outranks .gitattributes, so that files are checked out as their blobs are."""


@dataclass(frozen=True, slots=True)
class World:
    """What resolving may use: the home, and the listener."""

    home: Home
    report: Report

    @property
    def offline(self) -> bool:
        """Whether the network is out of bounds."""
        return self.home.offline


@dataclass(frozen=True, slots=True)
class Pointer:
    """A Git LFS pointer in a tree: the file `path` stands for the bytes with sha256 `oid`, `size` of them."""

    path: str
    oid: str
    size: int


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """What a run needs to know of a commit.

    `base` is the URL against which submodule URLs were resolved; "" when they, or their absence, are only a bundle's
    word.
    """

    tree: str
    commit_time: int
    base: str
    submodules: tuple[Submodule, ...] = ()
    pointers: tuple[Pointer, ...] = ()
    notes: tuple[str, ...] = ()


def mirror_path(home: Home, url: str) -> Path:
    """The place of the mirror of a credential-free `url`: a readable name and a hash."""
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-")[:40] or "repository"
    return home.sources / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:16]}.git"


def make_mirror(home: Home, url: str, object_format: str = "sha1") -> Path:
    """The mirror of `url`, made empty when it is not there. `object_format` is git's (sha1, sha256)."""
    mirror = mirror_path(home, url)
    if mirror.exists():
        return mirror
    aside = mirror.with_name(f".{mirror.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        init_repository(aside, object_format)
        (aside / "info").mkdir()
        (aside / "info" / "attributes").write_text(_RAW_BYTES)
        (aside / "orch").mkdir()
        with (aside / "config").open("a") as config:
            config.write('[remote "origin"]\n\turl = "' + url.replace("\\", "\\\\").replace('"', '\\"') + '"\n')
            config.write("[gc]\n\tauto = 0\n\tpruneExpire = never\n")
        try:
            aside.rename(mirror)
        except OSError:
            if not mirror.exists():
                raise
    except OSError as error:
        raise OrchError(f"the mirror {mirror} can't be made: {error.strerror}.") from error
    except GitFailed as error:
        raise OrchError(f"the mirror {mirror} can't be made: {error.line}.") from error
    finally:
        remove_folder(aside)
    return mirror


def init_repository(folder: Path, object_format: str = "sha1") -> None:
    """Make an empty bare repository in `folder`, with no hooks. Raises GitFailed."""
    env = local_env(folder)
    # `git init` takes the name of the first branch from the configuration, and warns when there is none
    run_git(
        "init", "-q", "--bare", "--template=", "-b", "main", f"--object-format={object_format}", str(folder), env=env
    )


def make_snapshot_repository(mirror: Path, object_format: str = "sha1") -> Path:
    """The git directory inside `mirror` for recording work trees: .gitattributes counts there, unlike in a mirror."""
    place = mirror / "snapshot"
    if not place.exists():
        aside = mirror / f".snapshot.{os.getpid()}.{os.urandom(4).hex()}"
        init_repository(aside, object_format)
        try:
            aside.rename(place)
        except OSError:
            if not place.exists():
                raise
        finally:
            remove_folder(aside)
    return place


@contextmanager
def locked(home: Home, mirror: Path) -> Iterator[None]:
    """Alone, among all processes, in writing refs to `mirror`."""
    from filelock import FileLock

    with FileLock(home.sources / f".{mirror.name}.lock"):
        yield


def known_facts(mirror: Path, commit: str, base: str | None = None) -> CommitFacts | None:
    """The facts of a commit that is completely in `mirror`, or None. Starts no process.

    With `base`, facts whose submodule URLs were resolved against another one, or came with a bundle, do not count.
    """
    try:
        value = json.loads((mirror / "orch" / f"{commit}.json").read_bytes())
        elsewhere = base is not None and value["base"] != base and (value["submodules"] or not value["base"])
        if value["version"] != FACTS_VERSION or elsewhere:
            return None
        return CommitFacts(
            value["tree"],
            value["commit_time"],
            value["base"],
            tuple(Submodule(*item) for item in value["submodules"]),
            tuple(Pointer(local_path(path), oid, size) for path, oid, size in value["pointers"]),
            tuple(value["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_facts(mirror: Path, commit: str) -> None:
    """Take back that `commit` is completely in `mirror`."""
    (mirror / "orch" / f"{commit}.json").unlink(missing_ok=True)


def remember_facts(mirror: Path, commit: str, facts: CommitFacts) -> None:
    """Write down that `commit` is completely in `mirror`."""
    value = {
        "version": FACTS_VERSION,
        "base": facts.base,
        "tree": facts.tree,
        "commit_time": facts.commit_time,
        "submodules": [[s.path, s.commit, s.url] for s in facts.submodules],
        "pointers": [[portable_path(p.path), p.oid, p.size] for p in facts.pointers],
        "notes": list(facts.notes),
    }
    place = mirror / "orch" / f"{commit}.json"
    aside = place.with_name(f".{commit}.{os.getpid()}.{os.urandom(4).hex()}")
    aside.write_text(json.dumps(value))
    aside.replace(place)


def mark_foreign(mirror: Path, commit: str) -> None:
    """Write down that `commit` is brought into `mirror` by a bundle: its URL may never have had it."""
    (mirror / "orch" / f"{commit}.foreign").touch()


def is_foreign(mirror: Path, commit: str) -> bool:
    """Whether a bundle brought `commit` into `mirror`."""
    return (mirror / "orch" / f"{commit}.foreign").exists()


def has_commit(mirror: Path, commit: str) -> bool:
    """Whether the commit object itself is in `mirror`."""
    return find_commit(mirror, commit) is not None


def find_commit(mirror: Path, name: str) -> str | None:
    """The full id of the commit that a ref, or a full or short id, names in `mirror`; None when there is none."""
    if not mirror.exists():
        return None
    try:
        out = run_git("rev-parse", "--verify", "-q", "--end-of-options", name + "^{commit}", env=local_env(mirror))
    except GitFailed:
        return None
    return out.decode().strip()


def read_commit(content: bytes) -> tuple[str, int]:
    """The tree id and the committer's time (seconds since the epoch) of a raw commit object."""
    header = content.partition(b"\n\n")[0].split(b"\n")
    tree = next(line[5:] for line in header if line.startswith(b"tree "))
    committer = next(line for line in header if line.startswith(b"committer "))
    return tree.decode(), int(committer.rsplit(b" ", 2)[1])


def is_partial(mirror: Path) -> bool:
    """Whether `mirror` was fetched without blobs."""
    return "promisor = true" in (mirror / "config").read_text()


def list_objects(mirror: Path, commit: str) -> list[str]:
    """The ids of a commit, its trees and its blobs. Raises GitFailed when one is not in `mirror`."""
    return _rev_list(commit, local_env(mirror)).decode().split()


def import_objects(mirror: Path, commit: str, object_folders: Iterable[Path]) -> None:
    """Copy a commit, its trees and blobs, but not its history, from the object folders of other repositories.

    Raises GitFailed when one is missing there.
    """
    whole = local_env(mirror, alternates=object_folders)
    wanted = _rev_list(commit, whole)
    if not is_partial(mirror):
        checked = run_git("cat-file", "--batch-check", env=local_env(mirror), data=wanted)
        lines = [line.split(b" ") for line in checked.splitlines()]
        wanted = b"".join(line[0] + b"\n" for line in lines if line[1] == b"missing")
    if wanted:
        pack = str(mirror / "objects" / "pack" / "pack")
        # no search for new deltas: those of the other repository are copied, and time matters more than space
        run_git("pack-objects", "-q", "--window=0", "--", pack, env=whole, data=wanted)


def remove_folder(folder: Path) -> None:
    """Remove a folder of ours if it is there."""
    if folder.exists():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _rev_list(commit: str, env: Mapping[str, str]) -> bytes:
    return run_git("rev-list", "--objects", "--no-walk", "--no-object-names", commit, env=env)
