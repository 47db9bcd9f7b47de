"""Reading a commit's files, and checking it out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from source.repositories import commit, git, listing, write

from orchestrator.errors import OrchError
from orchestrator.model import Submodule
from orchestrator.paths import Home
from orchestrator.source import Resolved, checkout, open_tree

Resolve = Callable[..., Resolved]
CheckOut = Callable[[Resolved], Path]


def test_files_and_directories_are_read_without_a_checkout(repository: Path, home: Home, resolve: Resolve) -> None:
    commit(repository, {"d/e/f": "deep", "empty": "", "new\nline": "n", "big": "x" * 1_000_000})
    with open_tree(resolve(repository).source, home=home) as tree:
        assert tree.read("main.py") == b"print(1)\n"
        assert tree.read("d/e/f") == tree.read("./d//e/../e/f") == b"deep"
        assert tree.read("empty") == b""
        assert tree.read("new\nline") == b"n"
        assert tree.read("big") == b"x" * 1_000_000
        assert tree.names("") == tree.names(".") == ("big", "d/", "data/", "empty", "main.py", "new\nline")
        assert tree.names("d") == tree.names("d/") == ("e/",)
        for path in ("gone", "d", "", "main.py/x", "/etc/hostname", "../x", "d/../../x", "main.py/"):
            assert tree.read(path) is None or path == "main.py/", path
        assert tree.names("gone") == tree.names("main.py") == tree.names("..") == ()


def test_symbolic_links_are_followed_inside_and_never_out(repository: Path, home: Home, resolve: Resolve) -> None:
    links = {
        "to-file": "main.py", "to-dir": "data", "data/up": "../main.py", "chain": "to-file",
        "out": "../project/main.py", "absolute": "/etc/hostname", "loop": "loop", "dangling": "gone",
    }  # fmt: skip
    for name, target in links.items():
        (repository / name).symlink_to(target)
    commit(repository)
    with open_tree(resolve(repository).source, home=home) as tree:
        for name in ("to-file", "chain", "data/up", "to-dir/up"):
            assert tree.read(name) == b"print(1)\n", name
        assert tree.names("to-dir") == ("a.csv", "up")
        for name in ("out", "absolute", "loop", "dangling"):
            assert tree.read(name) is None, name


def test_a_tree_that_is_not_used_starts_no_process_and_closes_twice(
    repository: Path, home: Home, resolve: Resolve
) -> None:
    tree = open_tree(resolve(repository).source, home=home)
    tree.close()
    assert tree.read("main.py") == b"print(1)\n"
    tree.close()
    tree.close()


def test_a_damaged_mirror_is_an_error(repository: Path, home: Home, resolve: Resolve) -> None:
    source = replace(resolve(repository).source, tree="ab" * 20)
    with open_tree(source, home=home) as tree, pytest.raises(OrchError, match="lacks object"):
        tree.read("main.py")


def test_a_checkout_is_byte_for_byte_the_commit(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    files: dict[str, str | bytes] = {
        ".gitattributes": "*.txt text eol=crlf\n*.id ident\nhidden export-ignore\n*.u working-tree-encoding=UTF-16\n"
        "*.f filter=evil\n[attr]both eol=crlf text\n*.m both\nstamp export-subst\n",
        "a.txt": b"1\n2\n", "b.id": b"$Id$\n", "hidden": b"here\n", "c.u": "text\n".encode("utf-16"),
        "d.f": b"raw\n", "e.m": b"1\n", "stamp": b"$Format:%H$\n", "crlf": b"1\r\n",
    }  # fmt: skip
    commit(repository, files)
    (repository / "run.sh").write_text("x")
    (repository / "run.sh").chmod(0o755)
    (repository / "link").symlink_to("../outside")
    commit(repository)
    before = os.umask(0o077)
    try:
        out = check_out(resolve(repository))
    finally:
        os.umask(before)
    blobs = {name: git(repository, "rev-parse", f"HEAD:{name}") for name in files}
    for name, blob in blobs.items():
        assert git(out, "hash-object", "--no-filters", name) == blob, name
    assert os.readlink(out / "link") == "../outside"
    assert (out / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (out / "hidden").stat().st_mode & 0o777 == 0o644
    assert not list(out.rglob(".git"))


def test_a_checkout_needs_a_fresh_folder(repository: Path, home: Home, resolve: Resolve, tmp_path: Path) -> None:
    source = resolve(repository).source
    write(tmp_path / "used", {"x": "1"})
    with pytest.raises(OrchError, match="not empty"):
        checkout(source, tmp_path / "used", home=home)
    assert listing(tmp_path / "used") == {"x": b"1"}
    with pytest.raises(OrchError, match="can't be used"):
        checkout(source, tmp_path / "used" / "x", home=home)
    (tmp_path / "empty").mkdir()
    checkout(source, tmp_path / "empty", home=home)
    assert (tmp_path / "empty" / "main.py").exists()


@pytest.mark.parametrize("path", ["../up", "{tmp}/in/absolute", "link/x", "", ".", "a/../../up"])
def test_a_submodule_path_from_a_foreign_record_can_not_leave(
    repository: Path, home: Home, resolve: Resolve, tmp_path: Path, path: str
) -> None:
    (repository / "link").symlink_to("..")
    commit(repository)
    source = resolve(repository).source
    evil = replace(source, submodules=(Submodule(path.format(tmp=tmp_path), source.commit, source.url),))
    (tmp_path / "in").mkdir()
    with pytest.raises(OrchError):
        checkout(evil, tmp_path / "in" / "w", home=home)
    assert set(os.listdir(tmp_path / "in")) == {"w"}


def test_a_checkout_of_a_record_from_elsewhere_fetches(repository: Path, resolve: Resolve, tmp_path: Path) -> None:
    from orchestrator.paths import open_home

    source = resolve(repository.as_uri()).source
    elsewhere = open_home({"ORCH_HOME": str(tmp_path / "elsewhere")})
    checkout(source, tmp_path / "w", home=elsewhere)
    assert (tmp_path / "w" / "main.py").exists()
    with pytest.raises(OrchError, match="no commit"):
        checkout(replace(source, commit="ab" * 20), tmp_path / "v", home=elsewhere)


def test_a_checkout_of_a_small_commit_takes_a_moment(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    resolved = resolve(repository)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        check_out(resolved)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
