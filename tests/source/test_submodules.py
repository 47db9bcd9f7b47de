"""Repositories inside repositories."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from source.repositories import commit, fingerprint, git, listing, make_repository, serve, write

from orchestrator.errors import OrchError
from orchestrator.source import Resolved
from orchestrator.source.contents import join_url

Resolve = Callable[..., Resolved]
CheckOut = Callable[[Resolved], Path]


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A folder with three repositories: `outer` has the submodule `lib` (relative URL), which has `deep`."""
    folder = tmp_path / "family"
    make_repository(folder / "deep", {"deep.txt": "deep"})
    make_repository(folder / "lib", {"lib.txt": "lib"})
    git(folder / "lib", "submodule", "add", "-q", "../deep", "vendor/deep")
    commit(folder / "lib")
    make_repository(folder / "outer", {"main.py": "1"})
    git(folder / "outer", "submodule", "add", "-q", "../lib", "lib")
    commit(folder / "outer")
    git(folder / "outer", "submodule", "update", "-q", "--init", "--recursive")
    return folder


WHOLE = {"main.py", ".gitmodules", "lib/lib.txt", "lib/.gitmodules", "lib/vendor/deep/deep.txt"}


def ids(family: Path) -> list[str]:
    return [git(family / name, "rev-parse", "HEAD") for name in ("lib", "deep")]


def test_submodules_of_a_url_at_their_recorded_commits(family: Path, resolve: Resolve, check_out: CheckOut) -> None:
    lib, deep = ids(family)
    commit(family / "lib", {"lib.txt": "newer"})
    resolved = resolve((family / "outer").as_uri())
    assert [(s.path, s.commit, s.url) for s in resolved.source.submodules] == [
        ("lib", lib, (family / "lib").as_uri()),
        ("lib/vendor/deep", deep, (family / "deep").as_uri()),
    ]
    out = check_out(resolved)
    assert set(listing(out)) == WHOLE
    assert (out / "lib" / "lib.txt").read_text() == "lib"


def test_submodules_over_http_need_no_network_the_second_time(
    family: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    with serve(family) as server:
        for name in ("outer", "lib", "deep"):
            (family / f"{name}.git").symlink_to(family / name / ".git")
        git(family / "lib", "config", "-f", ".gitmodules", "submodule.vendor/deep.url", "../deep.git")
        lib = commit(family / "lib")
        git(family / "outer" / "lib", "fetch", "-q", str(family / "lib"))
        git(family / "outer" / "lib", "checkout", "-q", lib)
        git(family / "outer", "config", "-f", ".gitmodules", "submodule.lib.url", "../lib.git")
        commit(family / "outer")
        resolved = resolve(server.url("outer.git"))
        assert [s.url for s in resolved.source.submodules] == [server.url("lib.git"), server.url("deep.git")]
    assert resolve(server.url("outer.git"), resolved.source.commit).source.submodules == resolved.source.submodules
    assert set(listing(check_out(resolved))) == WHOLE


def test_a_clean_folder_with_submodules_is_its_head(family: Path, resolve: Resolve, check_out: CheckOut) -> None:
    outer = family / "outer"
    resolved = resolve(outer)
    assert not resolved.source.dirty
    assert resolved.source.commit == git(outer, "rev-parse", "HEAD")
    assert [s.path for s in resolved.source.submodules] == ["lib", "lib/vendor/deep"]
    assert set(listing(check_out(resolved))) == WHOLE


def test_submodules_of_a_folder_come_from_the_folder_first(family: Path, resolve: Resolve, check_out: CheckOut) -> None:
    shutil.rmtree(family / "lib")
    shutil.rmtree(family / "deep")
    assert set(listing(check_out(resolve(family / "outer")))) == WHOLE
    assert set(listing(check_out(resolve(family / "outer", "main")))) == WHOLE


def test_a_new_commit_in_a_submodule_stays_a_submodule(family: Path, resolve: Resolve, check_out: CheckOut) -> None:
    newer = commit(family / "outer" / "lib", {"lib.txt": "newer"})
    resolved = resolve(family / "outer")
    assert resolved.source.dirty
    assert resolved.source.submodules[0].commit == newer
    assert (check_out(resolved) / "lib" / "lib.txt").read_text() == "newer"


def test_changed_submodules_become_plain_content(family: Path, resolve: Resolve, check_out: CheckOut) -> None:
    outer = family / "outer"
    write(outer, {"lib/vendor/deep/new": "n", "lib/vendor/deep/deep.txt": "changed"})
    before = fingerprint(outer)
    resolved = resolve(outer)
    assert resolved.source.dirty
    assert resolved.source.submodules == ()
    out = listing(check_out(resolved))
    assert set(out) == {*WHOLE, "lib/vendor/deep/new"}
    assert out["lib/vendor/deep/deep.txt"] == b"changed"
    assert resolve(outer).source == resolved.source
    assert fingerprint(outer) == before
    git(outer / "lib" / "vendor" / "deep", "checkout", "-q", ".")
    (outer / "lib" / "vendor" / "deep" / "new").unlink()
    assert not resolve(outer).source.dirty


def test_a_clean_submodule_of_a_changed_one_stays_a_submodule(
    family: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    write(family / "outer", {"lib/lib.txt": "changed"})
    resolved = resolve(family / "outer")
    assert [(s.path, s.url) for s in resolved.source.submodules] == [("lib/vendor/deep", (family / "deep").as_uri())]
    assert set(listing(check_out(resolved))) == WHOLE


def test_nested_repositories_that_are_no_submodules_are_plain_content(
    repository: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    inner = make_repository(repository / "inner", {"x": "1", ".gitignore": "*.log\n"})
    write(inner, {"y": "2", "z.log": ""})
    out = check_out(resolve(repository))
    assert {name for name in listing(out) if name.startswith("inner")} == {"inner/x", "inner/y", "inner/.gitignore"}
    git(repository, "add", "inner", code=0)
    git(repository, "commit", "-q", "-m", "embedded")
    resolved = resolve(repository)
    assert {"inner/x", "inner/y"} <= set(listing(check_out(resolved)))


def test_a_nested_repository_in_a_folder_without_git(tmp_path: Path, resolve: Resolve, check_out: CheckOut) -> None:
    write(tmp_path / "plain", {"a": "1"})
    make_repository(tmp_path / "plain" / "inner", {"x": "1"})
    assert set(listing(check_out(resolve(tmp_path / "plain")))) == {"a", "inner/x"}


def test_a_submodule_that_can_not_be_had_is_named(family: Path, resolve: Resolve) -> None:
    shutil.rmtree(family / "deep")
    with pytest.raises(OrchError, match=r"submodule lib: submodule vendor/deep: .*deep"):
        resolve((family / "outer").as_uri())


def test_a_submodule_without_a_url_is_left_empty_and_named(family: Path, resolve: Resolve, check_out: CheckOut) -> None:
    (family / "outer" / ".gitmodules").unlink()
    commit(family / "outer")
    resolved = resolve((family / "outer").as_uri())
    assert "submodule lib has no URL" in resolved.notes[0]
    assert listing(check_out(resolved)) == {"main.py": b"1"}


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% CANARY", "--upload-pack=touch CANARY", "-u", "http://example.org/a"]
)
def test_a_submodule_with_an_evil_url_is_refused(family: Path, resolve: Resolve, url: str, tmp_path: Path) -> None:
    git(
        family / "outer",
        "config",
        "-f",
        ".gitmodules",
        "submodule.lib.url",
        url.replace("CANARY", str(tmp_path / "canary")),
    )
    commit(family / "outer")
    with pytest.raises(OrchError, match="submodule lib"):
        resolve((family / "outer").as_uri())
    assert not (tmp_path / "canary").exists()


def test_a_repository_from_elsewhere_must_not_take_from_this_machine(family: Path, resolve: Resolve) -> None:
    git(family / "outer", "config", "-f", ".gitmodules", "submodule.lib.url", (family / "lib").as_uri())
    commit(family / "outer")
    with serve(family) as server, pytest.raises(OrchError, match="names a folder of this machine"):
        resolve(server.url("outer/.git"))


@pytest.mark.parametrize(
    ("base", "relative", "url"),
    [
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b.git/", "./c", "https://h/a/b.git/c"),
        ("https://h/a/b", "../../x/c", "https://h/x/c"),
        ("git@h:a/b", "../c", "git@h:a/c"),
        ("git@h:b", "../c", "git@h:c"),
        ("file:///a/b", "../c/", "file:///a/c"),
    ],
)
def test_relative_urls(base: str, relative: str, url: str) -> None:
    assert join_url(base, relative) == url
