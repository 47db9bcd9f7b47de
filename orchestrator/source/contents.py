"""Making a commit complete in its mirror: all its blobs, its submodules at their recorded commits, its LFS objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.model import Submodule
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.lfs import collect_objects, find_pointers
from orchestrator.source.location import Remote, file_url, parse_remote, path_of
from orchestrator.source.mirror import (
    CommitFacts,
    World,
    import_objects,
    is_partial,
    known_facts,
    make_mirror,
    mirror_path,
    read_commit,
    remember_facts,
)
from orchestrator.source.repository import Repository, find_repository, find_revision, repository_at


@dataclass(frozen=True, slots=True)
class Owner:
    """The repository that a part of a tree came from: `base` is the URL its relative submodule URLs start from.

    `repository` is its copy on this machine, if there is one: submodules are looked for there first.
    """

    base: Remote
    repository: Repository | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf of a tree: mode and id as git prints them; `path` may hold surrogate escapes."""

    mode: str
    id: str
    path: str


def obtain(
    remote: Remote, commit: str, world: World, *, local: Repository | None = None, base: Remote | None = None
) -> CommitFacts:
    """The facts of `commit` (a full id), after making it complete in the mirror of `remote`.

    A warm call starts no process. With `local`, a repository of this machine, the objects come from there if it
    has them. Relative submodule URLs start from `base` (default `remote`). Raises OrchError when the commit, a
    blob, or a submodule can't be had.
    """
    mirror = mirror_path(world.home, remote.url)
    base = base or remote
    facts = known_facts(mirror, commit, base.url)
    if facts is None:
        if local is None or not import_commit(local, remote, commit, world):
            from orchestrator.source.remote import ensure_commit

            ensure_commit(remote, commit, world)
        facts = complete(remote, mirror, commit, {"": Owner(base, local)}, base.url, world)
    if facts.pointers:
        place = local or _place_of(remote)
        collect_objects(mirror, commit, facts.pointers, remote, [place] if place else [], world)
    return facts


def import_commit(local: Repository, remote: Remote, commit: str, world: World) -> bool:
    """Copy a commit from a repository of this machine into the mirror of `remote`; False when it is not there."""
    if find_revision(local, commit) != commit:
        return False
    mirror = make_mirror(world.home, remote.url, "sha1" if len(commit) == 40 else "sha256")
    try:
        import_objects(mirror, commit, [local.objects])
    except GitFailed:
        return False
    return True


def complete(
    remote: Remote, mirror: Path, commit: str, owners: Mapping[str, Owner], base: str, world: World
) -> CommitFacts:
    """Fetch what a commit in `mirror` still lacks, and write its facts.

    `owners` maps a path prefix of the tree ("" or "sub/") to the repository that this part is from.
    """
    env = local_env(mirror)
    try:
        content = run_git("cat-file", "commit", commit, env=env)
        entries = list_tree(mirror, commit)
        if is_partial(mirror):
            listed = run_git(
                "rev-list", "--objects", "--no-walk", "--no-object-names", "--missing=print", commit, env=env
            )
            missing = [line[1:] for line in listed.splitlines() if line.startswith(b"?")]
            if missing:
                from orchestrator.source.remote import fetch_blobs

                fetch_blobs(remote, mirror, missing, world)
        submodules, notes = _submodules(mirror, entries, owners, world)
        pointers = find_pointers(mirror, [(e.mode, e.id, e.path) for e in entries])
    except GitFailed as error:
        raise OrchError(f"{commit} of {remote.url} can't be read: {error.line}.") from error
    tree, commit_time = read_commit(content)
    facts = CommitFacts(tree, commit_time, base, submodules, pointers, notes)
    remember_facts(mirror, commit, facts)
    return facts


def list_tree(mirror: Path, tree_ish: str, alternates: Iterable[Path] = ()) -> list[Entry]:
    """All leaves of a tree. Raises GitFailed."""
    out = run_git("ls-tree", "-r", "-z", "--full-tree", tree_ish, env=local_env(mirror, alternates=alternates))
    entries = []
    for line in out.split(b"\0")[:-1]:
        info, _, path = line.partition(b"\t")
        mode, _, object_id = info.decode().split(" ")
        entries.append(Entry(mode, object_id, os.fsdecode(path)))
    return entries


def submodule_urls(mirror: Path, blob: str, alternates: Iterable[Path] = ()) -> dict[str, tuple[str, str]]:
    """What a .gitmodules file says: path -> (name, URL as written). Raises GitFailed for a broken one."""
    env = local_env(mirror, alternates=alternates)
    try:
        out = run_git("config", "-z", "--blob", blob, "--get-regexp", r"^submodule\..*\.(path|url)$", env=env)
    except GitFailed as error:
        if error.stderr.strip():
            raise
        return {}
    values: dict[str, dict[str, str]] = {}
    for item in out.split(b"\0")[:-1]:
        key, _, value = os.fsdecode(item).partition("\n")
        name, _, variable = key.removeprefix("submodule.").rpartition(".")
        values.setdefault(name, {})[variable] = value
    return {v["path"].strip("/"): (name, v["url"]) for name, v in values.items() if "path" in v and "url" in v}


def join_url(base: str, relative: str) -> str:
    """A submodule's URL that begins with ./ or ../, from its parent's URL, as git-submodule(1) has it."""
    base = base.rstrip("/")
    separator = "/"
    while True:
        if relative.startswith("./"):
            relative = relative[2:]
        elif relative.startswith("../"):
            relative = relative[3:]
            cut = max(base.rfind("/"), base.rfind(":"))
            if cut < 0:
                raise OrchError(f"the submodule URL {relative!r} leaves {base!r}.")
            base, separator = base[:cut], base[cut]
        else:
            return base + separator + relative.rstrip("/")


def _submodules(
    mirror: Path, entries: Sequence[Entry], owners: Mapping[str, Owner], world: World
) -> tuple[tuple[Submodule, ...], tuple[str, ...]]:
    links = [entry for entry in entries if entry.mode == "160000"]
    if not links:
        return (), ()
    ids = {entry.path: entry.id for entry in entries}
    urls = {
        prefix: submodule_urls(mirror, ids[prefix + ".gitmodules"]) if prefix + ".gitmodules" in ids else {}
        for prefix in owners
    }
    found: list[Submodule] = []
    notes: list[str] = []
    for link in links:
        prefix = max((p for p in owners if link.path.startswith(p)), key=len)
        named = urls[prefix].get(link.path.removeprefix(prefix))
        if named is None:
            notes.append(f"submodule {link.path} has no URL in {prefix}.gitmodules; its folder is left empty.")
            continue
        remote = _submodule_remote(link.path, named[1], owners[prefix].base)
        local = _submodule_repository(owners[prefix].repository, named[0], link.path.removeprefix(prefix), link.id)
        try:
            facts = obtain(remote, link.id, world, local=local)
        except OrchError as error:
            raise OrchError(f"submodule {link.path}: {error}") from error
        found.append(Submodule(link.path, link.id, remote.url))
        found += [Submodule(f"{link.path}/{s.path}", s.commit, s.url) for s in facts.submodules]
        notes += [f"in submodule {link.path}: {note}" for note in facts.notes]
    return tuple(found), tuple(notes)


def _submodule_remote(path: str, url: str, base: Remote) -> Remote:
    """The remote of a submodule, under the same rules as a URL on the command line. A URL of a file is taken only
    from a repository of this machine: another's must not reach into it (CVE-2022-39253)."""
    text = url
    if url.startswith(("./", "../")):
        text = join_url(base.secret_url or base.url, url)
    elif url.startswith("/"):
        text = file_url(Path(url))
    try:
        remote = parse_remote(text)
    except OrchError as error:
        raise OrchError(f"submodule {path}: {error}") from error
    if remote.url.startswith("file:") and not base.url.startswith("file:"):
        raise OrchError(f"submodule {path} of {base.url} names a folder of this machine ({remote.url}); refused.")
    return remote


def _submodule_repository(parent: Repository | None, name: str, path: str, commit: str) -> Repository | None:
    """The submodule as the parent's copy on this machine has it, if that has the commit."""
    if parent is None:
        return None
    places: list[Repository | None] = []
    if parent.work_tree is not None:
        places.append(repository_at(parent.work_tree / path))
    folder = parent.common / "modules" / name
    if ".." not in Path(name).parts and not Path(name).is_absolute() and (folder / "HEAD").exists():
        places.append(Repository(None, folder, folder))
    return next((p for p in places if p is not None and find_revision(p, commit) == commit), None)


def _place_of(remote: Remote) -> Repository | None:
    if not remote.url.startswith("file:"):
        return None
    path = path_of(remote.url)
    return find_repository(path) if path is not None and path.is_dir() else None
