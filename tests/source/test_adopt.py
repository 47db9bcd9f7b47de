"""Commits that came with a bundle: another home checks them out without network, and believes nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from source.carried import (
    Objects,
    carry,
    commit_of,
    forged,
    object_id,
    objects_of,
    printed,
    tree,
    unpack_all,
)
from source.repositories import commit, git, listing, make_repository, serve, write

from orchestrator.errors import OrchError
from orchestrator.model import Source, Submodule
from orchestrator.paths import Home, open_home
from orchestrator.source import (
    Resolved,
    check_source,
    checkout,
    code_changes,
    commits_of,
    open_tree,
    place_objects,
    resolve_source,
    unpack_objects,
)
from orchestrator.source.mirror import has_commit, known_facts, mirror_path

Resolve = Callable[..., Resolved]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Home:
    """A home of another machine, without network."""
    return open_home({"ORCH_HOME": str(tmp_path / "elsewhere")}, offline=True)


def everything(folder: Path) -> dict[str, tuple[object, int]]:
    """Contents and modes of all files."""
    return {name: (content, stat.S_IMODE((folder / name).lstat().st_mode)) for name, content in listing(folder).items()}


def same_elsewhere(source: Source, home: Home, elsewhere: Home, tmp_path: Path, *gone: Path) -> dict[str, object]:
    """Carry a source to the other home, take its repositories away, and compare the check-outs."""
    checkout(source, tmp_path / "here", home=home)
    carry(source, home, elsewhere, tmp_path / "unpacked")
    for folder in (*gone, home.sources):
        shutil.rmtree(folder)
    checkout(source, tmp_path / "there", home=elsewhere)
    assert everything(tmp_path / "there") == everything(tmp_path / "here")
    return dict(listing(tmp_path / "there"))


def files_of(home: Home) -> dict[str, bytes | str]:
    return {name: content for name, content in listing(home.sources).items() if not name.endswith(".lock")}


# --- there and back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_files_of_all_kinds(tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve, object_format: str) -> None:
    folder = tmp_path / "r"
    write(
        folder, {"a/b/c/d": "deep", "empty": b"", "run.sh": "#!/bin/sh\n", "crlf": "1\r\n", "data": os.urandom(300_000)}
    )
    write(folder, {".gitattributes": "* text=auto eol=lf\ncrlf -text\nx export-ignore\n", "x": "1"})
    (folder / "run.sh").chmod(0o755)
    (folder / "to-file").symlink_to("a/b/c/d")
    (folder / "to-folder").symlink_to("a")
    (folder / "to-nowhere").symlink_to("/no/such\nplace")
    (folder / os.fsdecode(b"\xff\xfe name\n")).write_text("odd")
    git(folder, "init", "-q", f"--object-format={object_format}")
    commit(folder)
    source = resolve(folder.as_uri()).source
    assert len(same_elsewhere(source, home, elsewhere, tmp_path, folder)) == 11
    with open_tree(source, home=elsewhere) as files:
        assert files.read("to-folder/b/c/d") == b"deep"


def test_a_commit_without_files(
    tmp_path: Path, home: Home, elsewhere: Home, repository: Path, resolve: Resolve
) -> None:
    git(repository, "rm", "-q", "-r", ".")
    git(repository, "commit", "-q", "-m", "empty")
    source = resolve(repository.as_uri()).source
    assert same_elsewhere(source, home, elsewhere, tmp_path, repository) == {}


def test_dirty_work_and_folders_without_git(tmp_path: Path, home: Home, elsewhere: Home, repository: Path) -> None:
    write(repository, {"new": "n", "main.py": "changed"})
    make_repository(repository / "inner", {"x": "1"})
    (repository / "data" / "a.csv").unlink()
    source = resolve_source(str(repository), None, home=home).source
    assert source.dirty
    write(tmp_path / "plain", {"a": "1"})
    plain = resolve_source(str(tmp_path / "plain"), None, home=home).source
    carry(plain, home, elsewhere, tmp_path / "unpacked")
    found = same_elsewhere(source, home, elsewhere, tmp_path, repository, tmp_path / "plain")
    assert found == {"new": b"n", "main.py": b"changed", "inner/x": b"1"}
    checkout(plain, tmp_path / "p", home=elsewhere)
    assert listing(tmp_path / "p") == {"a": b"1"}


def test_a_mirror_without_blobs(
    tmp_path: Path, home: Home, elsewhere: Home, repository: Path, resolve: Resolve
) -> None:
    commit(repository, {"b": "2"})
    with serve(tmp_path) as server:
        source = resolve(server.url("project/.git")).source
    assert set(same_elsewhere(source, home, elsewhere, tmp_path, repository)) == {"b", "main.py", "data/a.csv"}


def test_what_two_runs_differ_in(
    tmp_path: Path, home: Home, elsewhere: Home, repository: Path, resolve: Resolve
) -> None:
    sources = [resolve(repository.as_uri()).source]
    commit(repository, {"main.py": "print(2)\n"})
    sources.append(resolve(repository.as_uri()).source)
    for source in sources:
        carry(source, home, elsewhere, tmp_path / "unpacked")
    shutil.rmtree(repository)
    assert [change.path for change in code_changes(*sources, home=elsewhere).files] == ["main.py"]


# --- submodules ------------------------------------------------------------------------------------------------------


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """`outer` has the submodules `lib` and `z/again`, the same; that has `deep`."""
    folder = tmp_path / "family"
    make_repository(folder / "deep", {"deep.txt": "deep"})
    make_repository(folder / "lib", {"lib.txt": "lib"})
    git(folder / "lib", "submodule", "add", "-q", "../deep", "vendor/deep")
    commit(folder / "lib")
    make_repository(folder / "outer", {"main.py": "1", "sub/x": "1"})
    for path in ("lib", "z/again"):
        git(folder / "outer", "submodule", "add", "-q", "../lib", path)
    commit(folder / "outer")
    return folder


def test_submodules_in_submodules(family: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve) -> None:
    source = resolve((family / "outer").as_uri()).source
    assert len(source.submodules) == 4
    assert len(commits_of(source)) == 3
    assert commits_of(source)[-1] == (source.url, source.commit)
    found = same_elsewhere(source, home, elsewhere, tmp_path, family)
    assert {"main.py", "lib/lib.txt", "lib/vendor/deep/deep.txt", "z/again/vendor/deep/deep.txt"} <= set(found)


def test_dirty_work_in_submodules(family: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve) -> None:
    git(family / "outer", "submodule", "update", "-q", "--init", "--recursive")
    write(family / "outer", {"lib/lib.txt": "changed"})
    source = resolve(family / "outer").source
    assert [s.path for s in source.submodules] == ["lib/vendor/deep", "z/again", "z/again/vendor/deep"]
    assert same_elsewhere(source, home, elsewhere, tmp_path, family)["lib/lib.txt"] == b"changed"


def test_a_submodule_without_a_url_stays_empty(family: Path, tmp_path: Path, home: Home, elsewhere: Home) -> None:
    git(family / "outer", "config", "-f", ".gitmodules", "--remove-section", "submodule.z/again")
    commit(family / "outer")
    source = resolve_source((family / "outer").as_uri(), None, home=home).source
    assert [s.path for s in source.submodules] == ["lib", "lib/vendor/deep"]
    found = same_elsewhere(source, home, elsewhere, tmp_path, family)
    assert not [name for name in found if name.startswith("z/")]


def test_a_later_run_of_the_url_finds_its_submodules_itself(
    family: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve
) -> None:
    """The bundle says other URLs, of mirrors that then hold the commits; that is not handed on."""
    honest = resolve((family / "outer").as_uri()).source
    lying = replace(
        honest, submodules=tuple(replace(s, url=f"https://example.org/{s.path}") for s in honest.submodules)
    )
    place_objects(unpack_all(honest, home, tmp_path / "u"), lying, {}, home=elsewhere)
    checkout(lying, tmp_path / "c", home=elsewhere)
    assert resolve_source(honest.url, honest.commit, home=elsewhere).source.submodules == honest.submodules


def test_a_submodule_that_the_bundle_hides_comes_back(family: Path, tmp_path: Path, elsewhere: Home) -> None:
    """Its URL stands where only the machine that recorded the commit could know that it counts."""
    lib = git(family / "lib", "rev-parse", "HEAD")
    text = f'[submodule "x"]\n\tpath = x\n\turl = {(family / "lib").as_uri()}\n'.encode()
    inner = tree(("100644", ".gitmodules", object_id("blob", text)), ("160000", "x", lib))
    root = tree(("40000", "inner", object_id("tree", inner)))
    top = commit_of(object_id("tree", root))
    name = object_id("commit", top)
    content = printed([("blob", text), ("tree", inner), ("tree", root), ("commit", top)])
    unpack_objects(io.BytesIO(content), name, tmp_path / "u")
    url = (family / "outer").as_uri()
    source = Source(url, name, object_id("tree", root), 1_700_000_000)
    place_objects({name: tmp_path / "u"}, source, {}, home=elsewhere)
    mirror = mirror_path(elsewhere, url)
    assert known_facts(mirror, name) is not None
    assert known_facts(mirror, name, url) is None


# --- Git LFS ---------------------------------------------------------------------------------------------------------

DATA = b"\0big data\r\n" * 1000
OID = hashlib.sha256(DATA).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {len(DATA)}\n"


@pytest.fixture
def lfs(tmp_path: Path) -> Path:
    repository = make_repository(tmp_path / "lfs", {".gitattributes": "*.bin filter=lfs -text\n", "d/x.bin": POINTER})
    write(repository, {f".git/lfs/objects/{OID[:2]}/{OID[2:4]}/{OID}": DATA})
    return repository


def test_lfs_contents_come_along(lfs: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve) -> None:
    source = resolve(lfs.as_uri()).source
    assert same_elsewhere(source, home, elsewhere, tmp_path, lfs)["d/x.bin"] == DATA


def test_the_pointers_are_told_and_contents_that_are_nowhere_stay_out(
    lfs: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve
) -> None:
    shutil.rmtree(lfs / ".git" / "lfs")
    source = resolve(lfs.as_uri()).source
    carry(source, home, elsewhere, tmp_path / "u")
    pointers = check_source(source, {source.commit: tmp_path / "u" / source.commit})
    assert [(p.path, p.oid, p.size) for p in pointers] == [("d/x.bin", OID, len(DATA))]
    with pytest.raises(OrchError, match=r"d/x\.bin: Git LFS pointers"):
        checkout(source, tmp_path / "c", home=elsewhere)


def test_lfs_contents_that_were_missing_come_with_a_second_bundle(
    lfs: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve
) -> None:
    source = resolve(lfs.as_uri()).source
    unpacked = unpack_all(source, home, tmp_path / "u")
    place_objects(unpacked, source, {}, home=elsewhere)
    write(tmp_path, {"right": DATA, "wrong": DATA[:-1]})
    with pytest.raises(OrchError, match=rf"x\.bin' of commit {source.commit}"):
        place_objects(unpacked, source, {OID: tmp_path / "wrong"}, home=elsewhere)
    place_objects(unpacked, source, {OID: tmp_path / "right", "0" * 64: tmp_path / "none"}, home=elsewhere)
    checkout(source, tmp_path / "c", home=elsewhere)
    assert (tmp_path / "c" / "d" / "x.bin").read_bytes() == DATA


def test_a_failure_on_the_way_leaves_the_commit_unknown(
    lfs: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve
) -> None:
    source = resolve(lfs.as_uri()).source
    unpacked = unpack_all(source, home, tmp_path / "u")
    write(tmp_path, {"wrong": bytes(len(DATA))})
    with pytest.raises(OrchError, match=r"x\.bin"):
        place_objects(unpacked, source, {OID: tmp_path / "wrong"}, home=elsewhere)
    assert known_facts(mirror_path(elsewhere, source.url), source.commit) is None
    carry(source, home, elsewhere, tmp_path / "u")
    checkout(source, tmp_path / "c", home=elsewhere)


# --- what is there already -------------------------------------------------------------------------------------------


def test_a_second_time_changes_nothing(
    repository: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve
) -> None:
    source = resolve(repository.as_uri()).source
    carry(source, home, elsewhere, tmp_path / "u")
    before = files_of(elsewhere)
    carry(source, home, elsewhere, tmp_path / "u")
    assert files_of(elsewhere) == before


def test_what_a_mirror_knows_stays_as_it_is(family: Path, tmp_path: Path, home: Home, resolve: Resolve) -> None:
    source = resolve((family / "outer").as_uri()).source
    unpacked = unpack_all(source, home, tmp_path / "u")
    lying = replace(source, submodules=tuple(replace(s, url=s.url + ".git") for s in source.submodules))
    before = files_of(home)
    place_objects(unpacked, lying, {}, home=home)
    assert files_of(home) | before == files_of(home)
    assert resolve(source.url).source == source


def test_a_mirror_that_lost_objects_gets_them_back(
    repository: Path, tmp_path: Path, home: Home, resolve: Resolve
) -> None:
    source = resolve(repository.as_uri()).source
    unpacked = unpack_all(source, home, tmp_path / "u")
    for pack in (mirror_path(home, source.url) / "objects" / "pack").iterdir():
        pack.unlink()
    shutil.rmtree(repository)
    place_objects(unpacked, source, {}, home=home)
    checkout(source, tmp_path / "c", home=home)
    assert set(listing(tmp_path / "c")) == {"main.py", "data/a.csv"}


def test_a_mirror_of_the_other_kind_of_ids_is_told(
    repository: Path, tmp_path: Path, home: Home, resolve: Resolve
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    git(folder, "init", "-q", "--object-format=sha256")
    commit(folder, {"a": "1"})
    source = resolve(folder.as_uri()).source
    resolve(repository.as_uri())
    posing = replace(source, url=repository.as_uri())
    with pytest.raises(OrchError, match=source.commit):
        place_objects(unpack_all(source, home, tmp_path / "u"), posing, {}, home=home)
    assert resolve(repository.as_uri()).source.commit == git(repository, "rev-parse", "HEAD")


def test_the_url_can_still_be_fetched(repository: Path, tmp_path: Path, home: Home, elsewhere: Home) -> None:
    """The mirror has one commit without its history; a fetch must not take it for complete."""
    online = replace(elsewhere, offline=False)
    old = git(repository, "rev-parse", "HEAD")
    commit(repository, {"b": "2"})
    with serve(tmp_path) as server:
        url = server.url("project/.git")
        source = resolve_source(url, None, home=home).source
        carry(source, home, elsewhere, tmp_path / "u")
        assert resolve_source(url, None, home=online).source.commit == source.commit
        assert resolve_source(url, old, home=online).source.commit == old
        assert resolve_source(url, source.commit[:8], home=online).source.commit == source.commit
        newer = commit(repository, {"c": "3"})
        assert resolve_source(url, "main", home=online).source.commit == newer
    checkout(source, tmp_path / "c", home=elsewhere)


def test_a_foreign_commit_is_not_taken_for_one_of_the_url_by_a_short_id(
    repository: Path, tmp_path: Path, elsewhere: Home
) -> None:
    name, content = forged({"main.py": b"evil"})
    unpack_objects(io.BytesIO(content), name, tmp_path / "u")
    with serve(tmp_path) as server:
        url = server.url("project/.git")
        source = Source(url, name, git(tmp_path / "u", "rev-parse", f"{name}^{{tree}}"), 1_700_000_000)
        place_objects({name: tmp_path / "u"}, source, {}, home=elsewhere)
        assert has_commit(mirror_path(elsewhere, url), name)
        for home in (elsewhere, replace(elsewhere, offline=False)):
            with pytest.raises(OrchError, match=name[:8]):
                resolve_source(url, name[:8], home=home)
    with pytest.raises(OrchError, match="can't be read"):
        resolve_source(url, name[:8], home=replace(elsewhere, offline=False))


# --- what is not believed --------------------------------------------------------------------------------------------


def damaged(source: Source, place: str, /, **changes: object) -> Source:
    """A source with another description of the submodule at `place`."""
    return replace(
        source,
        submodules=tuple(replace(s, **changes) if s.path == place else s for s in source.submodules),  # type: ignore[arg-type]
    )


def without(source: Source, *paths: str) -> Source:
    return replace(source, submodules=tuple(s for s in source.submodules if s.path not in paths))


def with_one_more(source: Source, path: str) -> Source:
    return replace(source, submodules=(*source.submodules, replace(source.submodules[0], path=path)))


URLS = [
    "", "-u", "--upload-pack=touch x", "ext::sh -c x", "fd::0", "/etc", "outer", "../x", "ftp://h/x", "http://example.org/x",
    "https://user:secret@h/x", "https://h/x?y=1", "https://h/x#y", "HTTPS://h/x", "https://H/x", "https://h:0443/x",
    "https://h/", "https://h", "https:///x", "ssh://-oProxyCommand=x/y", "-oProxyCommand=x:y", "git@h:-x", "ssh://h/x\n[core]",
    "file:///a/../b", "file:/a", "file://other/a", "file:///a b", "file:///%2", "file:///a%00b", "https://h/\ud800", "https://[h/x",
]  # fmt: skip

LIES: dict[str, Callable[[Source], Source]] = {
    "another tree": lambda s: replace(s, tree="1" * 40),
    "another time": lambda s: replace(s, commit_time=s.commit_time + 1),
    "a time that is no number": lambda s: replace(s, commit_time=str(s.commit_time)),  # type: ignore[arg-type]
    "a time that is a fraction": lambda s: replace(s, commit_time=float(s.commit_time)),  # type: ignore[arg-type]
    "another commit": lambda s: replace(s, commit="1" * 40),
    "the commit of a submodule": lambda s: replace(s, commit=s.submodules[0].commit),
    "a commit that is an option": lambda s: replace(s, commit="--all"),
    "a commit that is no text": lambda s: replace(s, commit=None),  # type: ignore[arg-type]
    "a url that is no text": lambda s: replace(s, url=["x"]),  # type: ignore[arg-type]
    "a subdirectory that is not there": lambda s: replace(s, subdir="no"),
    "a subdirectory that is a file": lambda s: replace(s, subdir="main.py"),
    "a subdirectory above": lambda s: replace(s, subdir=".."),
    "an absolute subdirectory": lambda s: replace(s, subdir="/sub"),
    "a subdirectory written oddly": lambda s: replace(s, subdir="sub/."),
    "a subdirectory in a submodule": lambda s: replace(s, subdir="lib/vendor"),
    "all submodules left out": lambda s: without(s, *[m.path for m in s.submodules]),
    "one of two places left out": lambda s: without(s, "z/again", "z/again/vendor/deep"),
    "a nested submodule left out": lambda s: without(s, "z/again/vendor/deep"),
    "the owner of a submodule left out": lambda s: without(s, "lib"),
    "a submodule twice": lambda s: with_one_more(s, "lib"),
    "a submodule at a file": lambda s: with_one_more(s, "main.py"),
    "a submodule at a folder": lambda s: with_one_more(s, "sub"),
    "a submodule where nothing is": lambda s: with_one_more(s, "new"),
    "a submodule at the root": lambda s: with_one_more(s, ""),
    "a submodule above": lambda s: with_one_more(s, "../lib"),
    "a submodule at an absolute path": lambda s: with_one_more(s, "/lib"),
    "a submodule written oddly": lambda s: damaged(s, "lib", path="./lib"),
    "a submodule with a slash": lambda s: damaged(s, "z/again", path="z//again"),
    "a submodule at another commit": lambda s: damaged(s, "lib", commit=s.submodules[1].commit),
    "a submodule at a commit that is not there": lambda s: damaged(s, "lib", commit="1" * 40),
    "a submodule at a short commit": lambda s: damaged(s, "lib", commit=s.submodules[0].commit[:12]),
    "a submodule without a path": lambda s: damaged(s, "lib", path=None),
    "too many submodules": lambda s: replace(s, submodules=s.submodules * 600),
    **{f"the url {url!r}": lambda s, url=url: replace(s, url=url) for url in URLS},  # type: ignore[misc]
    **{f"a submodule of {url!r}": lambda s, url=url: damaged(s, "lib", url=url) for url in URLS},  # type: ignore[misc]
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, dict[str, Path], Home]:
    """A source with submodules that need not be where their URLs say, unpacked; and an empty home."""
    folder = tmp_path_factory.mktemp("honest")
    deep = forged({"deep": b"1"})
    modules = b'[submodule "d"]\n\tpath = vendor/deep\n\turl = ../deep\n'
    vendor = tree(("160000", "deep", deep[0]))
    lib_root = tree(
        ("100644", ".gitmodules", object_id("blob", modules)), ("40000", "vendor", object_id("tree", vendor))
    )
    lib_top = commit_of(object_id("tree", lib_root), 1_600_000_000)
    lib = object_id("commit", lib_top)
    ours = b"".join(f'[submodule "{p}"]\n\tpath = {p}\n\turl = ../lib\n'.encode() for p in ("lib", "z/again"))
    z, sub = tree(("160000", "again", lib)), tree(("100644", "x", object_id("blob", b"1")))
    root = tree(
        ("100644", ".gitmodules", object_id("blob", ours)),
        ("160000", "lib", lib),
        ("100644", "main.py", object_id("blob", b"1")),
        ("40000", "sub", object_id("tree", sub)),
        ("40000", "z", object_id("tree", z)),
    )
    top = commit_of(object_id("tree", root), 1_650_000_000)
    name = object_id("commit", top)
    lib_objects: Objects = [("blob", modules), ("tree", vendor), ("tree", lib_root), ("commit", lib_top)]
    objects: Objects = [("blob", ours), ("blob", b"1"), ("tree", z), ("tree", sub), ("tree", root), ("commit", top)]
    unpacked = {}
    for commit_id, content in (deep, (lib, printed(lib_objects)), (name, printed(objects))):
        unpacked[commit_id] = folder / commit_id
        unpack_objects(io.BytesIO(content), commit_id, folder / commit_id)
    base = "https://example.org/family"
    submodules = [
        Submodule(path, commit_id, f"{base}/{url}")
        for path, commit_id, url in (
            ("lib", lib, "lib"),
            ("lib/vendor/deep", deep[0], "deep"),
            ("z/again", lib, "lib"),
            ("z/again/vendor/deep", deep[0], "deep"),
        )
    ]
    source = Source(f"{base}/outer", name, object_id("tree", root), 1_650_000_000, "sub", tuple(submodules))
    return source, unpacked, open_home({"ORCH_HOME": str(folder / "home")})


def test_the_honest_one_is_taken(honest: tuple[Source, dict[str, Path], Home], elsewhere: Home, tmp_path: Path) -> None:
    source, unpacked, _ = honest
    assert check_source(source, unpacked) == ()
    place_objects(unpacked, source, {}, home=elsewhere)
    checkout(source, tmp_path / "c", home=elsewhere)
    assert (tmp_path / "c" / "z" / "again" / "vendor" / "deep" / "deep").read_bytes() == b"1"


@pytest.mark.parametrize("lie", LIES)
def test_what_the_objects_do_not_prove_is_refused(honest: tuple[Source, dict[str, Path], Home], lie: str) -> None:
    source, unpacked, home = honest
    lying = LIES[lie](source)
    with pytest.raises(OrchError) as refused:
        check_source(lying, unpacked)
    assert str(refused.value).startswith(f"commit {lying.commit} can't be taken: ")
    assert str(refused.value).isprintable()
    assert "secret" not in str(refused.value)
    with pytest.raises(OrchError):
        place_objects(unpacked, lying, {}, home=home)
    assert list(home.sources.iterdir()) == []


def test_objects_that_are_missing_or_that_nobody_needs(
    honest: tuple[Source, dict[str, Path], Home], tmp_path: Path
) -> None:
    source, unpacked, home = honest
    for commit_id in unpacked:
        with pytest.raises(OrchError, match="missing, or nobody needs them"):
            place_objects({c: p for c, p in unpacked.items() if c != commit_id}, source, {}, home=home)
    name, content = forged({"stowaway": b"1"})
    unpack_objects(io.BytesIO(content), name, tmp_path / "u")
    with pytest.raises(OrchError, match=f"{name} are missing, or nobody needs them"):
        place_objects({**unpacked, name: tmp_path / "u"}, source, {}, home=home)
    assert list(home.sources.iterdir()) == []


@pytest.mark.parametrize(
    "header",
    [
        "author Eve <e> 1 +0000\n",
        "author Eve <e> 1 +0000\ncommitter Eve\n",
        "author Eve <e> 1 +0000\ncommitter Eve <e> x +0000\n",
        f"author Eve <e> 1 +0000\ncommitter Eve <e> {'9' * 5000} +0000\n",
    ],
)
def test_a_commit_without_a_time(tmp_path: Path, elsewhere: Home, header: str) -> None:
    top = f"tree {object_id('tree', b'')}\n{header}\nx\n".encode()
    name = object_id("commit", top)
    unpack_objects(io.BytesIO(printed([("tree", b""), ("commit", top)])), name, tmp_path / "u")
    source = Source("https://example.org/x", name, object_id("tree", b""), 1)
    with pytest.raises(OrchError, match=f"the commit {name} is malformed"):
        place_objects({name: tmp_path / "u"}, source, {}, home=elsewhere)


def test_a_gitmodules_file_that_git_can_not_read(tmp_path: Path, elsewhere: Home) -> None:
    text = b"[submodule\n"
    root = tree(("100644", ".gitmodules", object_id("blob", text)), ("160000", "x", "1" * 40))
    top = commit_of(object_id("tree", root))
    name = object_id("commit", top)
    unpack_objects(io.BytesIO(printed([("blob", text), ("tree", root), ("commit", top)])), name, tmp_path / "u")
    with pytest.raises(OrchError, match=name):
        check_source(Source("https://h/x", name, object_id("tree", root), 1_700_000_000), {name: tmp_path / "u"})


def test_a_file_url_is_only_a_name(repository: Path, tmp_path: Path, elsewhere: Home) -> None:
    name, content = forged({"main.py": b"evil"})
    unpack_objects(io.BytesIO(content), name, tmp_path / "u")
    tree_id = git(tmp_path / "u", "rev-parse", f"{name}^{{tree}}")
    before = listing(repository)
    os.mkfifo(tmp_path / "pipe")
    for url in (repository.as_uri(), (tmp_path / "pipe").as_uri(), "file:///no/such/folder"):
        source = Source(url, name, tree_id, 1_700_000_000)
        place_objects({name: tmp_path / "u"}, source, {}, home=elsewhere)
    assert listing(repository) == before
    assert resolve_source(str(repository), None, home=elsewhere).source.commit == git(repository, "rev-parse", "HEAD")


def test_objects_are_the_same_from_the_home_they_were_brought_to(
    repository: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve
) -> None:
    source = resolve(repository.as_uri()).source
    carry(source, home, elsewhere, tmp_path / "u")
    assert objects_of(source.url, source.commit, elsewhere) == objects_of(source.url, source.commit, home)


# --- many at once, and killed ones -----------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from orchestrator.model import Source, Submodule
from orchestrator.paths import open_home
from orchestrator.source import place_objects
source = eval(sys.argv[2])
unpacked = {path.name: path for path in Path(sys.argv[3]).iterdir()}
place_objects(unpacked, source, {}, home=open_home({"ORCH_HOME": sys.argv[1]}))
"""


def start(home: Home, source: Source, unpacked: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, str(home.root), repr(source), str(unpacked)]
    return subprocess.Popen(command, start_new_session=True)


def test_a_kill_at_any_moment_leaves_no_half_commit(
    family: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve
) -> None:
    commit(family / "outer", {f"data/{i}": os.urandom(100_000) for i in range(50)})
    source = resolve((family / "outer").as_uri()).source
    unpack_all(source, home, tmp_path / "u")
    shutil.rmtree(family)
    for step in range(10):
        process = start(elsewhere, source, tmp_path / "u")
        time.sleep(0.12 + 0.04 * step)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if known_facts(mirror_path(elsewhere, source.url), source.commit) is not None:
            checkout(source, tmp_path / f"c{step}", home=elsewhere)
    carry(source, home, elsewhere, tmp_path / "u")
    checkout(source, tmp_path / "last", home=elsewhere)
    assert len(listing(tmp_path / "last")) == 50 + 2 + 1 + 2 * 3


def test_four_at_once(family: Path, tmp_path: Path, home: Home, elsewhere: Home, resolve: Resolve) -> None:
    source = resolve((family / "outer").as_uri()).source
    unpack_all(source, home, tmp_path / "u")
    running = [start(elsewhere, source, tmp_path / "u") for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    checkout(source, tmp_path / "c", home=elsewhere)
