"""What differs between two commits, wherever they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from source.repositories import commit, git, make_repository, serve

from orchestrator.errors import OrchError
from orchestrator.model import Source
from orchestrator.paths import Home
from orchestrator.source import CodeChange, FileChange, Resolved, SubmoduleChange, code_changes
from orchestrator.source.mirror import mirror_path

Resolve = Callable[..., Resolved]

LINES = "".join(f"line {n}\n" for n in range(20))


def both(repository: Path, resolve: Resolve) -> tuple[Source, Source]:
    """The first and the last commit of a repository."""
    first = git(repository, "rev-list", "--max-parents=0", "HEAD")
    return resolve(repository.as_uri(), first).source, resolve(repository.as_uri()).source


def test_files_that_came_went_changed_moved_or_are_executable_now(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    folder = make_repository(
        tmp_path / "p",
        {"a.py": LINES, "gone": "1\n2\n", "moved": LINES + "x\n", "run.sh": "#!/bin/sh\n", "b": b"\0" * 9},
    )
    (folder / "gone").unlink()
    (folder / "moved").rename(folder / "to")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("a.py")
    commit(folder, {"a.py": LINES.replace("line 3\n", "line three\nand more\n"), "b": b"\0" * 10, "new": "other\n"})
    one, other = both(folder, resolve)
    found = code_changes(one, other, home=home)
    assert found == CodeChange(
        (
            FileChange("a.py", 0o100644, 0o100644, 2, 1),
            FileChange("b", 0o100644, 0o100644, None, None),
            FileChange("gone", 0o100644, None, 0, 2),
            FileChange("link", None, 0o120000, 1, 0),
            FileChange("new", None, 0o100644, 1, 0),
            FileChange("run.sh", 0o100644, 0o100755, 0, 0),
            FileChange("to", 0o100644, 0o100644, 0, 0, old_path="moved"),
        )
    )


def test_equal_trees_need_no_git(home: Home) -> None:
    source = Source("https://example.org/x.git", "a" * 40, "b" * 40, 0)
    assert code_changes(source, replace(source, commit="c" * 40), home=home) == CodeChange()
    assert code_changes(source, source, home=home, patch=True) == CodeChange(patch="")


def test_names_of_any_bytes(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    names = [os.fsdecode(b"bad \xff.txt"), "tab\there", "new\nline", ":100644 x", "-", "é", "1\t2\t"]
    folder = make_repository(tmp_path / "p", dict.fromkeys(names, LINES))
    commit(folder, dict.fromkeys(names, LINES + "more\n"))
    found = code_changes(*both(folder, resolve), home=home)
    assert [(f.path, f.added, f.deleted) for f in found.files] == [(name, 1, 0) for name in sorted(names)]


def test_the_patch_makes_the_one_out_of_the_other(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    folder = make_repository(tmp_path / "p", {"a.py": LINES, "latin": b"caf\xe9\r\n", "gone": "1"})
    (folder / "gone").unlink()
    commit(folder, {"a.py": LINES + "\x1b[31mred\n", "latin": b"caf\xe9s\r\n"})
    one, other = both(folder, resolve)
    found = code_changes(one, other, home=home, patch=True)
    assert found.patch is not None
    git(folder, "checkout", "-q", one.commit)
    patch = os.fsencode(found.patch)
    subprocess.run(["git", "apply", "--index"], cwd=folder, input=patch, check=True)
    assert git(folder, "write-tree") == other.tree


def test_two_repositories_that_have_nothing_in_common(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    one = make_repository(tmp_path / "one", {"same": LINES, "a": "1\n"})
    other = make_repository(tmp_path / "a:b", {"same": LINES, "a": "2\n"})  # a colon separates alternates
    found = code_changes(resolve(one.as_uri()).source, resolve(other.as_uri()).source, home=home, patch=True)
    assert found.files == (FileChange("a", 0o100644, 0o100644, 1, 1),)
    assert "-1\n+2\n" in (found.patch or "")


def test_a_commit_and_a_work_tree_that_was_not_committed(repository: Path, home: Home, resolve: Resolve) -> None:
    one = resolve(repository.as_uri()).source
    (repository / "main.py").write_text("print(2)\n")
    (repository / "untracked").write_text("x\n")
    other = resolve(repository).source
    assert other.dirty
    found = code_changes(one, other, home=home)
    assert [(f.path, f.added, f.deleted) for f in found.files] == [("main.py", 1, 1), ("untracked", 1, 0)]
    assert code_changes(other, one, home=home).files[1].new_mode is None


def test_nothing_is_fetched_for_two_commits_that_ran(repository: Path, home: Home, resolve: Resolve) -> None:
    with serve(repository.parent) as server:
        url = server.url("project/.git")
        one = resolve(url).source
        commit(repository, {"main.py": "print(2)\n"})
        other = resolve(url).source
        before = len(server.requests)
        assert code_changes(one, other, home=home).files == (FileChange("main.py", 0o100644, 0o100644, 1, 1),)
        assert len(server.requests) == before


def test_what_the_mirror_lost_is_fetched_again_or_told(repository: Path, home: Home, resolve: Resolve) -> None:
    with serve(repository.parent) as server:
        url = server.url("project/.git")
        one = resolve(url).source
        commit(repository, {"main.py": "print(2)\n"})
        other = resolve(url).source
        shutil.rmtree(mirror_path(home, url))
        with pytest.raises(OrchError, match=r"--offline asks no network"):
            code_changes(one, other, home=replace(home, offline=True))
        assert len(code_changes(one, other, home=home).files) == 1
        # damaged: the facts say that all is there
        for pack in (mirror_path(home, url) / "objects" / "pack").iterdir():
            pack.unlink()
        assert len(code_changes(one, other, home=home).files) == 1
        shutil.rmtree(mirror_path(home, url))
    with pytest.raises(OrchError, match=r"can't be fetched"):
        code_changes(one, other, home=home)


def test_submodules_at_other_commits_nested_ones_too(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    deep = make_repository(tmp_path / "deep", {"deep.txt": "deep"})
    lib = make_repository(tmp_path / "lib", {"lib.txt": "lib"})
    outer = make_repository(tmp_path / "outer", {"main.py": "1"})
    for folder, name in ((lib, "deep"), (outer, "lib")):
        git(folder, "submodule", "add", "-q", f"../{name}", name)
        commit(folder)
    one = resolve(outer.as_uri()).source
    commit(deep, {"deep.txt": "deeper"})
    for folder, name in ((lib, "deep"), (outer, "lib")):
        git(folder / name, "pull", "-q")
        commit(folder)
    other = resolve(outer.as_uri()).source
    old, new = ({s.path: s.commit for s in source.submodules} for source in (one, other))
    assert sorted(old) == ["lib", "lib/deep"]
    assert code_changes(one, other, home=home) == CodeChange(
        submodules=tuple(SubmoduleChange(path, old[path], new[path]) for path in ("lib", "lib/deep"))
    )


def test_a_submodule_that_became_files(tmp_path: Path, home: Home, resolve: Resolve) -> None:
    make_repository(tmp_path / "lib", {"lib.txt": "lib\n"})
    outer = make_repository(tmp_path / "outer", {"main.py": "1"})
    git(outer, "submodule", "add", "-q", "../lib", "lib")
    commit(outer)
    one = resolve(outer.as_uri()).source
    git(outer, "rm", "-q", "lib")
    commit(outer, {"lib": "now a file\n"})
    found = code_changes(one, resolve(outer.as_uri()).source, home=home)
    assert found.submodules == (SubmoduleChange("lib", one.submodules[0].commit, None),)
    assert ("lib", None, 0o100644) in [(f.path, f.old_mode, f.new_mode) for f in found.files]


def test_attributes_and_programs_of_the_repository_hide_nothing_and_run_nothing(
    tmp_path: Path, home: Home, resolve: Resolve, isolated: Path
) -> None:
    canary = tmp_path / "canary"
    with (isolated / ".gitconfig").open("a") as config:
        config.write(f'[diff]\n\texternal = touch {canary}\n[diff "x"]\n\tcommand = touch {canary}\n')
        config.write(f"\ttextconv = touch {canary}\n[color]\n\tui = always\n")
    folder = make_repository(
        tmp_path / "p", {"a.py": "1\n", "b.py": "1\n", ".gitattributes": "a.py diff=x\nb.py -diff\n"}
    )
    commit(folder, {"a.py": "2\n", "b.py": "2\n"})
    found = code_changes(*both(folder, resolve), home=home, patch=True)
    assert [(f.path, f.added, f.deleted) for f in found.files] == [("a.py", 1, 1), ("b.py", 1, 1)]
    assert (found.patch or "").count("\n-1\n+2\n") == 2
    assert "\x1b" not in (found.patch or "")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["--output=canary", "main", "", "HEAD"])
def test_only_full_ids_reach_git(repository: Path, home: Home, resolve: Resolve, name: str) -> None:
    source = resolve(repository.as_uri()).source
    with pytest.raises(OrchError, match=r"not the full id"):
        code_changes(source, replace(source, commit=name, tree="d" * 40), home=home)


def test_ids_of_two_kinds_are_told(tmp_path: Path, home: Home, resolve: Resolve, repository: Path) -> None:
    folder = tmp_path / "longer"
    folder.mkdir()
    git(folder, "init", "-q", "--object-format=sha256")
    commit(folder, {"a": "1"})
    with pytest.raises(OrchError, match=r"sha1 and sha256"):
        code_changes(resolve(repository.as_uri()).source, resolve(folder.as_uri()).source, home=home)
