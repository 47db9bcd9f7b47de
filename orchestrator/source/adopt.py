"""Commits that came with a bundle: into the mirrors of the URLs that the bundle names, without asking these.

A bundle's word counts for what its objects prove (trees, times, which commits the submodules are at), and for nothing
else: what it says of URLs is taken as names only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.errors import OrchError, UsageError
from orchestrator.model import Source, Submodule
from orchestrator.paths import Home
from orchestrator.source.contents import list_tree, submodule_urls
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.lfs import find_pointers, keep_object
from orchestrator.source.location import clean_subdir, is_full_id, parse_remote
from orchestrator.source.mirror import (
    CommitFacts,
    Pointer,
    has_commit,
    import_objects,
    known_facts,
    list_objects,
    locked,
    make_mirror,
    mark_foreign,
    mirror_path,
    read_commit,
    remember_facts,
)
from orchestrator.source.objects import commits_of
from orchestrator.source.tree import Tree

MAX_SUBMODULES = 2000


@dataclass(frozen=True, slots=True)
class _Commit:
    """What the objects of a commit prove. `links` are its submodules' commits by path, `named` those with a URL."""

    tree: str
    time: int
    links: Mapping[str, str]
    named: frozenset[str]
    pointers: tuple[Pointer, ...]


def check_source(source: Source, unpacked: Mapping[str, Path]) -> tuple[Pointer, ...]:
    """Raise OrchError unless `unpacked`, repositories by commit, holds what `source` says, and nothing else.

    They are what `unpack_objects` made. Returns the Git LFS pointers in them, each once for each path. No mirror is
    looked at, and no URL of `source` is asked.
    """
    found = _read_all(source, unpacked)
    return tuple(pointer for commit in found.values() for pointer in commit.pointers)


def place_objects(unpacked: Mapping[str, Path], source: Source, lfs: Mapping[str, Path], *, home: Home) -> None:
    """Put the commits of `source` into their mirrors, so that a check-out needs no network.

    `unpacked` is what `unpack_objects` made, by commit; `lfs` are files by sha256, of which those are taken that a
    pointer names. All is checked before anything is written, and a commit counts as being there only at the end. Raises
    OrchError for what `check_source` refuses, for other bytes than a sha256 names, and when a mirror can't be written.
    """
    found = _read_all(source, unpacked)
    facts = {(url, commit): _facts(source, url, commit, found[commit]) for url, commit in commits_of(source)}
    try:
        new = [key for key in facts if _place(*key, unpacked[key[1]], found[key[1]].pointers, lfs, home)]
        for url, commit in new:
            remember_facts(mirror_path(home, url), commit, facts[url, commit])
    except OSError as error:
        raise OrchError(
            f"commit {source.commit} can't be written to {error.filename or home.sources}: {error.strerror}."
        ) from error


# --- what the objects prove ------------------------------------------------------------------------------------------


def _read_all(source: Source, unpacked: Mapping[str, Path]) -> dict[str, _Commit]:
    """The commits by id, when all that `source` says agrees with them."""
    try:
        _check_words(source)
        odd = {commit for _, commit in commits_of(source)} ^ unpacked.keys()
        if odd:
            raise ValueError(f"the objects of {min(odd)} are missing, or nobody needs them")
        found = {commit: _read(repository, commit) for commit, repository in unpacked.items()}
        _check_commit(source, found[source.commit], unpacked[source.commit])
        _check_submodules(source, found)
    except (ValueError, UsageError) as error:
        raise OrchError(f"commit {source.commit} can't be taken: {str(error).rstrip('.')}.") from error
    except GitFailed as error:
        raise OrchError(f"commit {source.commit} can't be taken: git says {error.line!r}.") from error
    return found


def _check_words(source: Source) -> None:
    """The types and the texts, before anything is done with them."""
    if len(source.submodules) > MAX_SUBMODULES:
        raise ValueError(f"it has more than {MAX_SUBMODULES} submodules")
    texts = [source.url, source.commit, source.tree, source.subdir]
    texts += [text for s in source.submodules for text in (s.path, s.commit, s.url)]
    if any(not isinstance(text, str) for text in texts) or type(source.commit_time) is not int:
        raise ValueError("its description is damaged")
    for url, commit in commits_of(source):
        if not is_full_id(commit):
            raise ValueError(f"{commit!r} is not the full id of a commit")
        recorded = parse_remote(url).url
        if recorded != url:
            raise ValueError(f"a URL is not as orch records it; that would be {recorded!r}")
        url.encode()
    if clean_subdir(source.subdir) != source.subdir:
        raise ValueError(f"the subdirectory {source.subdir!r} is not a path as orch records it")


def _read(repository: Path, commit: str) -> _Commit:
    """Raises GitFailed, and ValueError for a malformed commit."""
    content = run_git("cat-file", "commit", commit, env=local_env(repository))
    try:
        tree, time = read_commit(content)
    except (StopIteration, ValueError, IndexError) as error:
        raise ValueError(f"the commit {commit} is malformed") from error
    entries = list_tree(repository, commit)
    links = {entry.path: entry.id for entry in entries if entry.mode == "160000"}
    named: frozenset[str] = frozenset()
    blob = next((entry.id for entry in entries if entry.path == ".gitmodules"), None)
    if links and blob is not None:
        named = frozenset(submodule_urls(repository, blob))
    return _Commit(tree, time, links, named, find_pointers(repository, [(e.mode, e.id, e.path) for e in entries]))


def _check_commit(source: Source, commit: _Commit, repository: Path) -> None:
    if (source.tree, source.commit_time) != (commit.tree, commit.time):
        raise ValueError(
            f"its tree and time are {commit.tree} and {commit.time}, not {source.tree} and {source.commit_time}"
        )
    if source.subdir:
        with Tree(repository, commit.tree) as tree:
            if tree.directory(source.subdir) != source.subdir:
                raise ValueError(f"it has no directory {source.subdir!r}")


def _check_submodules(source: Source, found: Mapping[str, _Commit]) -> None:
    """Each submodule must be in the tree of the one that holds it; and none that has a URL may be left out."""
    commits = {"": source.commit} | {s.path: s.commit for s in source.submodules}
    if len(commits) <= len(source.submodules):
        raise ValueError("it names a submodule twice")
    for submodule in source.submodules:
        owner = next(path for path in _above(submodule.path) if path in commits)
        if found[commits[owner]].links.get(_inside(owner, submodule.path)) != submodule.commit:
            raise ValueError(f"the submodule {submodule.path!r} is not in it at commit {submodule.commit}")
    for owner, commit in commits.items():
        for path in found[commit].named & found[commit].links.keys():
            if (f"{owner}/{path}" if owner else path) not in commits:
                raise ValueError(f"the submodule {path!r} of {owner or 'the project'!r} is left out")


def _above(path: str) -> Iterator[str]:
    """The paths of the folders above a path, the nearest first, "" (the root) last."""
    for parent in PurePosixPath(path).parents:
        yield "" if parent == PurePosixPath() else str(parent)
    yield ""


def _inside(folder: str, path: str) -> str:
    return path.removeprefix(f"{folder}/") if folder else path


def _facts(source: Source, url: str, commit: str, found: _Commit) -> CommitFacts:
    """`base` is "": a later run of the URL itself finds its submodules' URLs anew."""
    places = {"": (source.url, source.commit)} | {s.path: (s.url, s.commit) for s in source.submodules}
    place = next(path for path, key in places.items() if key == (url, commit))
    inside = (s for s in source.submodules if not place or s.path.startswith(f"{place}/"))
    submodules = tuple(Submodule(_inside(place, s.path), s.commit, s.url) for s in inside)
    return CommitFacts(found.tree, found.time, "", submodules, found.pointers)


# --- into the mirrors ------------------------------------------------------------------------------------------------


def _place(
    url: str, commit: str, repository: Path, pointers: tuple[Pointer, ...], lfs: Mapping[str, Path], home: Home
) -> bool:
    """Put one commit into its mirror; whether its facts are still to be written."""
    with locked(home, mirror_path(home, url)):
        mirror = make_mirror(home, url, "sha1" if len(commit) == 40 else "sha256")
        (mirror / "orch").touch()  # in use: no prune takes it before a run is recorded that names it
        known = known_facts(mirror, commit) is not None
        try:
            if not known or not _is_whole(mirror, commit):
                if not has_commit(mirror, commit):
                    mark_foreign(mirror, commit)
                import_objects(mirror, commit, [repository / "objects"])
        except GitFailed as error:
            raise OrchError(f"commit {commit} can't be put into the mirror {mirror}: {error.line}.") from error
        for pointer in pointers:
            if pointer.oid in lfs and not keep_object(mirror, pointer, lfs[pointer.oid]):
                raise OrchError(f"the bytes of {pointer.path!r} of commit {commit} are not those of its sha256.")
    return not known


def _is_whole(mirror: Path, commit: str) -> bool:
    try:
        return bool(list_objects(mirror, commit))
    except GitFailed:
        return False
