"""Commits as raw objects: out of a mirror, through any hands, into a fresh repository."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from source.carried import Objects, commit_of, forged, object_id, objects_of, printed, tree
from source.repositories import commit, git, make_repository, serve, write

from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home
from orchestrator.source import Resolved, belonging, objects, unpack_objects, write_objects
from orchestrator.source.mirror import is_partial, list_objects, mirror_path

Resolve = Callable[..., Resolved]

BLOB, OTHER = b"print(1)\n", b"1,2\n"


def unpack(content: bytes, name: str, into: Path) -> Path:
    unpack_objects(io.BytesIO(content), name, into)
    return into


def as_git_prints(git_dir: Path, name: str) -> bytes:
    ids = git(git_dir, "rev-list", "--objects", "--no-walk", "--no-object-names", name).split()
    lines = "".join(f"{i}\n" for i in sorted(ids)).encode()
    return subprocess.run(["git", "cat-file", "--batch"], input=lines, cwd=git_dir, capture_output=True).stdout


# --- honest ones -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_what_git_prints(repository: Path, resolve: Resolve, home: Home) -> None:
    commit(repository, {"d/e/f": "deep", "empty": "", "same": "deep"})
    source = resolve(repository).source
    content = objects_of(source.url, source.commit, home)
    assert content == as_git_prints(repository, source.commit)


def test_history_stays_behind(repository: Path, resolve: Resolve, home: Home, tmp_path: Path) -> None:
    commit(repository, {"secret": "password"})
    (repository / "secret").unlink()
    source = resolve(repository, commit(repository, {"b": "2"})).source
    content = objects_of(source.url, source.commit, home)
    assert b"password" not in content
    into = unpack(content, source.commit, tmp_path / "u")
    assert as_git_prints(into, source.commit) == content


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_the_same_bytes_from_two_homes_and_from_what_was_unpacked(
    tmp_path: Path, home: Home, object_format: str
) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    git(folder, "init", "-q", f"--object-format={object_format}")
    (folder / "link").symlink_to("d/x")
    name = commit(folder, {"d/x": "1", "d/y": "", "run.sh": "#!/bin/sh\n"})
    other = open_home({"ORCH_HOME": str(tmp_path / "other")})
    content = objects_of(folder.as_uri(), name, home)
    assert objects_of(folder.as_uri(), name, other) == content
    assert len(name) == {"sha1": 40, "sha256": 64}[object_format]
    assert as_git_prints(unpack(content, name, tmp_path / "u"), name) == content


def test_an_empty_commit(tmp_path: Path, home: Home) -> None:
    folder = make_repository(tmp_path / "r")
    git(folder, "rm", "-q", "-r", ".")
    git(folder, "commit", "-q", "-m", "empty")
    name = git(folder, "rev-parse", "HEAD")
    content = objects_of(folder.as_uri(), name, home)
    assert list_objects(unpack(content, name, tmp_path / "u"), name) == [
        name,
        "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    ]


def test_a_mirror_without_the_commit_fetches_it(repository: Path, home: Home) -> None:
    name = git(repository, "rev-parse", "HEAD")
    with serve(repository.parent) as server:
        url = server.url("project/.git")
        content = objects_of(url, name, home)
        assert is_partial(mirror_path(home, url))
    assert content == as_git_prints(repository, name)
    assert objects_of(url, name, replace(home, offline=True)) == content


def test_a_mirror_that_lost_a_file_fetches_it_again(repository: Path, home: Home) -> None:
    name = git(repository, "rev-parse", "HEAD")
    with serve(repository.parent) as server:
        url = server.url("project/.git")
        content = objects_of(url, name, home)
        mirror = mirror_path(home, url)
        packs = sorted((mirror / "objects" / "pack").glob("*.pack"), key=lambda pack: pack.stat().st_size)
        blob = git(repository, "rev-parse", f"{name}:main.py")
        for pack in packs:
            listed = git(mirror, "verify-pack", "-v", str(pack))
            if blob in listed and name not in listed:
                for part in mirror.glob(f"objects/pack/{pack.stem}.*"):
                    part.unlink()
        with pytest.raises(OrchError, match="--offline asks no network"):
            objects_of(url, name, replace(home, offline=True))
        assert objects_of(url, name, home) == content


def test_a_commit_that_is_nowhere(repository: Path, home: Home) -> None:
    with pytest.raises(OrchError, match="0000"):
        objects_of(repository.as_uri(), "0" * 40, home)
    with pytest.raises(OrchError, match="not the full id"):
        objects_of(repository.as_uri(), "--all", home)


@pytest.mark.parametrize("damage", ["bytes", "another object"])
def test_a_damaged_mirror_is_told_and_nothing_wrong_is_written(repository: Path, home: Home, damage: str) -> None:
    name = git(repository, "rev-parse", "HEAD")
    url = repository.as_uri()
    objects_of(url, name, home)
    mirror = mirror_path(home, url)
    for pack in (mirror / "objects" / "pack").glob("*.pack"):
        moved = pack.rename(mirror / pack.name)
        subprocess.run(["git", "unpack-objects", "-q"], input=moved.read_bytes(), cwd=mirror, check=True)
        moved.unlink()
        pack.with_suffix(".idx").unlink()
    blob, other = (git(repository, "rev-parse", f"{name}:{path}") for path in ("main.py", "data/a.csv"))
    place = mirror / "objects" / blob[:2] / blob[2:]
    place.chmod(0o644)
    wrong = (mirror / "objects" / other[:2] / other[2:]).read_bytes()
    place.write_bytes(wrong if damage == "another object" else b"x" + place.read_bytes())
    out = io.BytesIO()
    with pytest.raises(OrchError, match=f"commit {name} of .* can't be read: .*{blob}"):
        write_objects(url, name, out, home=home)


def test_odd_trees_of_old_tools_are_taken(tmp_path: Path) -> None:
    inner = tree(("100664", "old", object_id("blob", BLOB)))
    root = tree(("100600", b"\xff\xfe\n", object_id("blob", OTHER)), ("040000", "d", object_id("tree", inner)))
    top = commit_of(object_id("tree", root))
    content = printed([("blob", BLOB), ("blob", OTHER), ("tree", inner), ("tree", root), ("commit", top)])
    name = object_id("commit", top)
    assert as_git_prints(unpack(content, name, tmp_path / "u"), name) == content


def test_files_of_any_size_pass_unchanged(tmp_path: Path) -> None:
    files = {
        str(size): os.urandom(size) for size in (0, 1, 15, 16, 17, 2047, 2048, objects._CHUNK, 3 * objects._CHUNK + 1)
    }
    files["text"] = b"1,2,3\n" * 500_000
    name, content = forged(files)
    into = unpack(content, name, tmp_path / "u")
    assert as_git_prints(into, name) == content
    packs = list((into / "objects" / "pack").glob("*.pack"))
    assert sum(pack.stat().st_size for pack in packs) < len(content) - 2_000_000, "text shrinks"


def test_a_large_file_is_never_whole_in_memory(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    """In a process that may have less memory of its own (files that are mapped do not count), and so may its git."""
    folder = make_repository(tmp_path / "r")
    with (folder / "large").open("wb") as large:
        for _ in range(150):
            large.write(os.urandom(1 << 20))
    git(folder, "config", "core.compression", "0")
    name = commit(folder)
    resolve(folder.as_uri())
    program = """
import resource, sys
from pathlib import Path
from orchestrator.paths import open_home
from orchestrator.source import unpack_objects, write_objects
url, commit, folder = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_DATA, (100 << 20, 100 << 20))
place = Path(folder) / "objects"
with place.open("wb") as out:
    write_objects(url, commit, out, home=open_home())
with place.open("rb") as stream:
    unpack_objects(stream, commit, Path(folder) / "u")
"""
    environ = {**os.environ, "ORCH_HOME": str(home.root)}
    done = subprocess.run(
        [sys.executable, "-c", program, folder.as_uri(), name, str(tmp_path)],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- forged ones -----------------------------------------------------------------------------------------------------


class Parts:
    """The objects of a small commit, to be changed."""

    blob, other = ("blob", BLOB), ("blob", OTHER)
    folder = ("tree", tree(("100644", "a.csv", object_id(*other))))
    root = ("tree", tree(("40000", "data", object_id(*folder)), ("100644", "main.py", object_id(*blob))))
    top = ("commit", commit_of(object_id(*root)))
    name = object_id(*top)

    @classmethod
    def all(cls) -> Objects:
        return [cls.blob, cls.other, cls.folder, cls.root, cls.top]


HONEST = printed(Parts.all())


def with_root(root: bytes, *more: tuple[str, bytes]) -> tuple[str, bytes]:
    """A commit whose root tree is `root`."""
    top = commit_of(object_id("tree", root))
    return object_id("commit", top), printed([("tree", root), ("commit", top), *more])


def with_name(name: str | bytes, mode: str = "100644") -> tuple[str, bytes]:
    """A commit with one file."""
    return with_root(tree((mode, name, object_id("blob", BLOB))), ("blob", BLOB))


def with_commit(content: bytes) -> tuple[str, bytes]:
    """A commit of any bytes, with the objects of the honest one."""
    return object_id("commit", content), printed([*Parts.all()[:-1], ("commit", content)])


def nested(depth: int) -> tuple[str, bytes]:
    made: Objects = [("tree", b"")]
    for _ in range(depth):
        made.append(("tree", tree(("40000", "d", object_id(*made[-1])))))
    return with_root(made[-1][1], *made)


def bomb(levels: int, leaf: Objects, kind: str = "100644", size: int = 10) -> tuple[str, bytes]:
    """Folders that hold the folder below ten times."""
    made = list(leaf)
    for level in range(levels):
        mode = kind if level == 0 else "40000"
        made.append(("tree", tree(*((mode, f"{i:04}", object_id(*made[-1])) for i in range(size)))))
    return with_root(made[-1][1], *made)


def lines() -> list[bytes]:
    return [printed([part]) for part in sorted(Parts.all(), key=lambda part: object_id(*part))]


SWAPPED = b"".join([lines()[1], lines()[0], *lines()[2:]])
TWICE = b"".join([lines()[0], *lines()])
ID = object_id(*Parts.blob).encode()
CASES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "nothing": lambda: (Parts.name, b""),
    "another commit": lambda: ("1" * 40, HONEST),
    "the id of a tree": lambda: (object_id(*Parts.root), HONEST),
    "no id": lambda: ("main", HONEST),
    "an option": lambda: ("--all", HONEST),
    "a sha256 id": lambda: ("1" * 64, HONEST),
    "bytes that the id does not name": lambda: (Parts.name, HONEST.replace(BLOB, BLOB.replace(b"1", b"2"))),
    "a type that the id does not name": lambda: (Parts.name, HONEST.replace(ID + b" blob", ID + b" tree")),
    "a tag": lambda: (Parts.name, printed([*Parts.all(), ("tag", b"object " + ID + b"\ntype blob\ntag v\n\nx\n")])),
    "an unknown type": lambda: (Parts.name, HONEST.replace(ID + b" blob", ID + b" file")),
    "a type in capitals": lambda: (Parts.name, HONEST.replace(ID + b" blob", ID + b" BLOB")),
    "an id in capitals": lambda: (Parts.name, HONEST.replace(ID + b" blob", ID.upper() + b" blob")),
    "a second commit": lambda: (Parts.name, printed([*Parts.all(), ("commit", commit_of(object_id(*Parts.root), 1))])),
    "not sorted": lambda: (Parts.name, SWAPPED),
    "twice": lambda: (Parts.name, TWICE),
    "an object of the other kind of id": lambda: (Parts.name, HONEST + printed([("blob", b"x")], "sha256")),
    "an end within the header": lambda: (Parts.name, HONEST[:30]),
    "an end within an object": lambda: (Parts.name, HONEST[:-4]),
    "no line feed at the end": lambda: (Parts.name, HONEST[:-1]),
    "bytes after the end": lambda: (Parts.name, HONEST + b"\n"),
    "a header after the end": lambda: (Parts.name, HONEST + b"f" * 40 + b" blob 5\n"),
    "what git says of a missing object": lambda: (Parts.name, HONEST + b"f" * 40 + b" missing\n"),
    "an absurd size": lambda: (Parts.name, HONEST.replace(b" blob 9\n", b" blob 9" + b"9" * 14 + b"\n")),
    "a size of too many digits": lambda: (Parts.name, HONEST.replace(b" blob 9\n", b" blob " + b"9" * 5000 + b"\n")),
    "a negative size": lambda: (Parts.name, HONEST.replace(b" blob 9\n", b" blob -9\n")),
    "a size with a zero before": lambda: (Parts.name, HONEST.replace(b" blob 9\n", b" blob 09\n")),
    "a size with a blank": lambda: (Parts.name, HONEST.replace(b" blob 9\n", b" blob  9\n")),
    "a header with a carriage return": lambda: (Parts.name, HONEST.replace(b" blob 9\n", b" blob 9\r\n")),
    "a header without an end": lambda: (Parts.name, b"a" * 100_000),
    "an object nobody needs": lambda: (Parts.name, printed([*Parts.all(), ("blob", b"stowaway")])),
    "a tree nobody needs": lambda: (Parts.name, printed([*Parts.all(), ("tree", b"")])),
    "no commit": lambda: (Parts.name, printed(Parts.all()[:-1])),
    "no root": lambda: (Parts.name, printed([p for p in Parts.all() if p != Parts.root])),
    "no folder": lambda: (Parts.name, printed([p for p in Parts.all() if p != Parts.folder])),
    "no file": lambda: (Parts.name, printed([p for p in Parts.all() if p != Parts.blob])),
    "an empty commit object": lambda: with_commit(b""),
    "a commit without a tree": lambda: with_commit(b"author Eve <e> 1 +0000\ncommitter Eve <e> 1 +0000\n\nx"),
    "a commit with a short tree": lambda: with_commit(b"tree 1234\n\n"),
    "a commit of a file": lambda: with_commit(commit_of(object_id(*Parts.blob))),
    "a commit of a commit": lambda: with_commit(b"tree " + Parts.name.encode() + b"\n\n"),
    "a tree without an id at its end": lambda: with_root(Parts.root[1][:-1], *Parts.all()[:3]),
    "a tree that is text": lambda: with_root(b"100644 main.py"),
    "a mode that is no number": lambda: with_name("x", "abcdef"),
    "a mode of a device": lambda: with_name("x", "060644"),
    "a mode of a pipe": lambda: with_name("x", "010644"),
    "a mode of nothing": lambda: with_name("x", "000000"),
    "a long mode": lambda: with_name("x", "0" * 50 + "100644"),
    "a file that is said to be a folder": lambda: with_name("x", "40000"),
    "a folder that is said to be a file": lambda: with_root(
        tree(("100644", "x", object_id(*Parts.folder))), Parts.folder, Parts.other
    ),
    "a name with a slash": lambda: with_name("../x"),
    "an absolute name": lambda: with_name("/etc/x"),
    "the folder above": lambda: with_name(".."),
    "the folder itself": lambda: with_name("."),
    "no name": lambda: with_name(""),
    "a file .git": lambda: with_name(".git"),
    "a file .GIT": lambda: with_name(".GIT"),
    "a file git~1": lambda: with_name("git~1"),
    "a file with a blank that Windows drops": lambda: with_name(".git "),
    "a link .gitmodules": lambda: with_name(".gitmodules", "120000"),
    "a folder .git": lambda: with_root(
        tree(("40000", ".git", object_id(*Parts.folder))), Parts.folder, Parts.other
    ),
    "a name twice": lambda: with_root(
        tree(("100644", "x", object_id(*Parts.blob)), ("120000", "x", object_id(*Parts.blob))), Parts.blob
    ),
    "a link and a folder of one name": lambda: with_root(
        tree(("120000", "x", object_id(*Parts.blob)), ("40000", "x", object_id(*Parts.folder))), *Parts.all()[:3]
    ),
    "folders without end": lambda: nested(belonging.MAX_DEPTH),
    "the same folders again and again": lambda: bomb(9, [Parts.blob]),
    "the same empty folders again and again": lambda: bomb(20, [("tree", b"")], "40000"),
    "the same large file again and again": lambda: bomb(2, [("blob", bytes(2_000_000))], size=30),
    "a large .gitattributes": lambda: forged({".gitattributes": b"\n" * (belonging.MAX_READ_BYTES + 1)}),
    "a large .gitmodules": lambda: forged({".gitmodules": b"\n" * (belonging.MAX_READ_BYTES + 1)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_exactly_the_commit_is_refused(case: str, tmp_path: Path) -> None:
    name, content = CASES[case]()
    with pytest.raises(OrchError) as refused:
        unpack(content, name, tmp_path / "folder" / "u")
    assert str(refused.value).startswith(f"the objects of commit {name} can't be taken: ")
    assert str(refused.value).isprintable()
    assert not [path for path in tmp_path.iterdir() if path.name != "folder"]


def test_a_commit_of_more_than_orch_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_TREE_BYTES", 100)
    with pytest.raises(OrchError, match="more files and folders"):
        unpack(HONEST, Parts.name, tmp_path / "u")
    monkeypatch.undo()
    monkeypatch.setattr(objects, "MAX_OBJECTS", 4)
    with pytest.raises(OrchError, match="more files and folders"):
        unpack(HONEST, Parts.name, tmp_path / "v")


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "u", {"config": "mine"})
    with pytest.raises(OrchError, match="is not empty"):
        unpack(HONEST, Parts.name, tmp_path / "u")
    assert (tmp_path / "u" / "config").read_text() == "mine"
    assert len(list((tmp_path / "u").iterdir())) == 1


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    write(tmp_path, {"file": ""})
    with pytest.raises(OrchError, match=f"commit {Parts.name} can't be"):
        unpack(HONEST, Parts.name, tmp_path / "file" / "u")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, len(HONEST)),
    length=st.integers(0, 2),
    inserted=st.binary(max_size=2),
)
@example(place=len(HONEST), length=0, inserted=b"\n")
@example(place=len(HONEST) - 1, length=1, inserted=b"")
@example(place=0, length=1, inserted=b"")
def test_any_change_is_refused(tmp_path: Path, place: int, length: int, inserted: bytes) -> None:
    changed = HONEST[:place] + inserted + HONEST[place + length :]
    into = tmp_path / "u"
    shutil.rmtree(into, ignore_errors=True)
    if changed == HONEST:
        assert as_git_prints(unpack(changed, Parts.name, into), Parts.name) == HONEST
    else:
        with pytest.raises(OrchError):
            unpack(changed, Parts.name, into)


PARTS = st.sampled_from(Parts.all())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(PARTS, max_size=6))
def test_any_other_choice_of_objects_is_refused(tmp_path: Path, chosen: Objects) -> None:
    content = b"".join(printed([part]) for part in chosen)
    into = tmp_path / "u"
    shutil.rmtree(into, ignore_errors=True)
    if content == HONEST:
        unpack(content, Parts.name, into)
    else:
        with pytest.raises(OrchError):
            unpack(content, Parts.name, into)


# Trees as an attacker could write them: git must agree with us on what such a commit needs.
NAMES = st.sampled_from(["a", "b", "a.b", "a-", "A", ".gitignore", "é", "0" * 300])
MODES = st.sampled_from(["100644", "100755", "100600", "120000", "160000"])
FILES = st.dictionaries(NAMES, st.tuples(MODES, st.sampled_from([BLOB, OTHER, b""])), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(FILES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6))
def test_git_and_we_agree_on_what_a_commit_needs(tmp_path: Path, root: dict[str, object]) -> None:
    made: Objects = []

    def make(folder: dict[str, object]) -> str:
        entries = []
        for name, item in folder.items():
            if isinstance(item, dict):
                entries.append(("40000", name, make(item)))
            else:
                mode, content = item  # type: ignore[misc]
                entries.append((mode, name, object_id("blob", content)))
                made.extend([] if mode == "160000" else [("blob", content)])
        entries.sort(key=lambda entry: entry[1].encode() + b"/" * (entry[0] == "40000"))
        made.append(("tree", tree(*entries)))
        return object_id(*made[-1])

    top = commit_of(make(root))
    name = object_id("commit", top)
    content = printed([*made, ("commit", top)])
    into = tmp_path / "u"
    shutil.rmtree(into, ignore_errors=True)
    assert as_git_prints(unpack(content, name, into), name) == content
