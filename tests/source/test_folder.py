"""Local folders: a clean one is its HEAD, any other state is a commit of its own; the user's files are only read."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source.repositories import commit, fingerprint, git, listing, make_repository, write

from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.source import Resolved, ignored_files, kind_of, local_directory, open_tree, resolve_source, snapshot
from orchestrator.source.mirror import mirror_path

Resolve = Callable[..., Resolved]
CheckOut = Callable[[Resolved], Path]


def tracked(folder: Path) -> dict[str, bytes | str]:
    """The files of a work tree, but those of git itself."""
    return {name: content for name, content in listing(folder).items() if ".git" not in name.split("/")}


def test_a_clean_work_tree_is_its_head(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    git(repository, "remote", "add", "origin", "https://ada:pw@example.org/a.git")
    resolved = resolve(repository)
    assert resolved.source.commit == git(repository, "rev-parse", "HEAD")
    assert not resolved.source.dirty
    assert resolved.source.url == repository.as_uri()
    assert resolved.source.origin == "https://example.org/a.git"
    assert local_directory(resolved.source) == repository
    assert listing(check_out(resolved)) == tracked(repository)


def test_touched_but_equal_files_are_clean(repository: Path, resolve: Resolve) -> None:
    os.utime(repository / "main.py", (1, 1))
    assert not resolve(repository).source.dirty


def test_every_kind_of_change_is_in_the_snapshot(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    head = commit(
        repository, {"gone": "1", "becomes-folder": "1", "folder/x": "1", "mode.sh": "1", ".gitignore": "*.log\n"}
    )
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "exclude").write_text("private\n")
    (repository / "gone").unlink()
    (repository / "becomes-folder").unlink()
    write(
        repository, {"becomes-folder/inner": "2", "main.py": "print(2)\n", "new/file": "3", "x.log": "", "private": ""}
    )
    (repository / "folder" / "x").unlink()
    (repository / "folder").rmdir()
    (repository / "folder").symlink_to("new")
    (repository / "mode.sh").chmod(0o755)
    write(repository, {"staged": "s"})
    git(repository, "add", "staged")
    resolved = resolve(repository)
    assert resolved.source.dirty
    assert resolved.source.commit != head
    expected = {k: v for k, v in tracked(repository).items() if k not in ("x.log", "private")}
    out = check_out(resolved)
    assert listing(out) == expected
    assert (out / "mode.sh").stat().st_mode & 0o777 == 0o755
    assert (out / "main.py").stat().st_mode & 0o777 == 0o644
    assert resolved.source.commit_time == int(git(repository, "show", "-s", "--format=%ct", head))


def test_the_same_state_is_the_same_commit(repository: Path, resolve: Resolve, tmp_path: Path) -> None:
    clean = resolve(repository).source.commit
    write(repository, {"main.py": "print(2)\n", "new": "1"})
    first = resolve(repository).source.commit
    assert resolve(repository).source.commit == first
    os.utime(repository / "new", (1, 1))
    git(repository, "add", "new")
    assert resolve(repository).source.commit == first, "what is staged makes no difference"
    write(repository, {"new": "2"})
    assert resolve(repository).source.commit not in (first, clean)
    write(repository, {"new": "1"})
    assert resolve(repository).source.commit == first
    git(repository, "checkout", "-q", "-f", "main")
    assert resolve(repository).source.commit == clean


def test_another_home_makes_the_same_commit(repository: Path, resolve: Resolve, tmp_path: Path) -> None:
    from orchestrator.paths import open_home

    write(repository, {"main.py": "print(2)\n", "new": "1"})
    other = open_home({"ORCH_HOME": str(tmp_path / "other-home")})
    assert resolve_source(str(repository), None, home=other).source == resolve(repository).source


def test_a_file_that_is_ignored_later_leaves_the_snapshot(
    repository: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    write(repository, {"new": "1", "keep": "1"})
    assert "new" in listing(check_out(resolve(repository)))
    write(repository, {".git/info/exclude": "new\n"})
    assert "new" not in listing(check_out(resolve(repository)))


@pytest.mark.parametrize("dirty", [False, True])
def test_the_users_repository_is_not_written(repository: Path, resolve: Resolve, dirty: bool) -> None:
    if dirty:
        write(repository, {"main.py": "print(2)\n", "new": "1"})
        os.utime(repository / "data" / "a.csv", (1, 1))
    before = fingerprint(repository)
    times = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    resolve(repository)
    resolve(f"{repository}#data")
    resolve(repository, "main")
    ignored_files(str(repository))
    assert fingerprint(repository) == before
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == times


def test_a_read_only_repository_can_be_run(repository: Path, resolve: Resolve) -> None:
    write(repository, {"new": "1"})
    os.system(f"chmod -R a-w '{repository}'")
    try:
        assert resolve(repository).source.dirty
    finally:
        os.system(f"chmod -R u+w '{repository}'")


def test_a_revision_of_a_folder_leaves_its_work_tree_alone(
    repository: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-a", "v1", "-m", "1")
    commit(repository, {"main.py": "print(2)\n"})
    write(repository, {"main.py": "print(3)\n"})
    before = fingerprint(repository)
    for name in ("v1", first, first[:6], "main"):
        resolved = resolve(repository, name)
        assert not resolved.source.dirty
    assert resolve(repository, "v1").source.commit == first
    assert (check_out(resolve(repository, "v1")) / "main.py").read_text() == "print(1)\n"
    assert fingerprint(repository) == before
    with pytest.raises(OrchError, match="Did you mean v1"):
        resolve(repository, "v2")


def test_a_branch_of_the_remote_is_found_in_a_clone(repository: Path, resolve: Resolve, tmp_path: Path) -> None:
    git(repository, "branch", "topic")
    git(tmp_path, "clone", "-q", str(repository), "clone")
    assert resolve(tmp_path / "clone", "topic").source.commit == git(repository, "rev-parse", "topic")


def test_a_recorded_snapshot_is_found_again_by_its_id(repository: Path, resolve: Resolve, tmp_path: Path) -> None:
    write(repository, {"new": "1"})
    snapshot_id = resolve(repository).source.commit
    git(repository, "clean", "-q", "-fd")
    assert resolve(repository, snapshot_id).source.commit == snapshot_id
    folder = tmp_path / "plain"
    write(folder, {"a": "1"})
    plain = resolve(folder).source.commit
    assert resolve(folder, plain).source.commit == plain
    with pytest.raises(OrchError, match="no git repository"):
        resolve(folder, "main")


def test_a_path_inside_a_repository_is_its_subdirectory(repository: Path, resolve: Resolve) -> None:
    commit(repository, {"a/b/c/x": "1"})
    resolved = resolve(repository / "a" / "b")
    assert (resolved.source.subdir, resolved.source.url) == ("a/b", repository.as_uri())
    assert resolve(f"{repository / 'a'}#b/c").source.subdir == "a/b/c"
    write(repository, {"fresh/y": "1"})
    assert resolve(repository / "fresh").source.subdir == "fresh"


def test_an_ignored_folder_of_a_repository_is_a_folder_of_its_own(
    repository: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    commit(repository, {".gitignore": "scratch/\n"})
    write(repository, {"scratch/a": "1"})
    resolved = resolve(repository / "scratch")
    assert resolved.source.subdir == ""
    assert "not part of the repository" in resolved.notes[0]
    assert listing(check_out(resolved)) == {"a": b"1"}


def test_a_symbolic_link_to_a_repository_is_that_repository(repository: Path, resolve: Resolve, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repository)
    assert resolve(tmp_path / "link").source.url == repository.as_uri()


def test_a_bare_repository_and_one_without_commits(
    repository: Path, resolve: Resolve, tmp_path: Path, check_out: CheckOut
) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    assert resolve(tmp_path / "bare.git").source.commit == git(repository, "rev-parse", "HEAD")
    empty = tmp_path / "empty"
    write(empty, {"a": "1"})
    git(empty, "init", "-q")
    resolved = resolve(empty)
    assert resolved.source.dirty
    assert resolved.source.commit_time == snapshot.NO_HEAD_TIME
    assert listing(check_out(resolved)) == {"a": b"1"}


def test_a_linked_worktree(repository: Path, resolve: Resolve, tmp_path: Path, check_out: CheckOut) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"), "-b", "side")
    side = commit(tmp_path / "tree", {"side": "1"})
    resolved = resolve(tmp_path / "tree")
    assert (resolved.source.commit, resolved.source.dirty) == (side, False)
    write(tmp_path / "tree", {"more": "1"})
    assert set(listing(check_out(resolve(tmp_path / "tree")))) == {"main.py", "data/a.csv", "side", "more"}


def test_a_shallow_clone(repository: Path, resolve: Resolve, tmp_path: Path, check_out: CheckOut) -> None:
    commit(repository, {"b": "2"})
    git(tmp_path, "clone", "-q", "--depth=1", repository.as_uri(), "clone")
    resolved = resolve(tmp_path / "clone")
    assert resolved.source.commit == git(repository, "rev-parse", "HEAD")
    assert "b" in listing(check_out(resolved))


def test_an_index_that_is_split_or_of_another_version(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    git(repository, "update-index", "--index-version", "4")
    assert not resolve(repository).source.dirty
    git(repository, "update-index", "--split-index")
    assert not resolve(repository).source.dirty
    write(repository, {"new": "1"})
    assert "new" in listing(check_out(resolve(repository)))


def test_the_middle_of_a_merge(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, {"main.py": "side\n"})
    git(repository, "checkout", "-q", "main")
    commit(repository, {"main.py": "main\n"})
    git(repository, "merge", "-q", "side", code=1)
    out = check_out(resolve(repository))
    assert (out / "main.py").read_bytes() == (repository / "main.py").read_bytes()
    assert b"<<<<<<<" in (out / "main.py").read_bytes()


def test_a_folder_without_git(tmp_path: Path, resolve: Resolve, check_out: CheckOut) -> None:
    folder = tmp_path / "plain"
    write(folder, {"a": "1", "b/c": "2", "x.log": "", ".gitignore": "*.log\n", "__pycache__/a.pyc": "", ".hg/x": ""})
    (folder / "link").symlink_to("a")
    resolved = resolve(folder)
    assert resolved.source.dirty
    assert resolved.source.origin is None
    assert listing(check_out(resolved)) == {"a": b"1", "b/c": b"2", ".gitignore": b"*.log\n", "link": "a"}
    assert resolve(folder).source == resolved.source
    assert resolve(folder.as_uri()).source == resolved.source
    assert resolve(f"{folder}#b").source.subdir == "b"
    (folder / "a").unlink()
    assert "a" not in listing(check_out(resolve(folder)))


def test_an_empty_folder(tmp_path: Path, resolve: Resolve, check_out: CheckOut) -> None:
    (tmp_path / "nothing").mkdir()
    assert listing(check_out(resolve(tmp_path / "nothing"))) == {}


def test_large_untracked_files_are_left_out_and_named(
    repository: Path, resolve: Resolve, check_out: CheckOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LARGE_BYTES", 1000)
    commit(repository, {"tracked": "x" * 2000})
    assert resolve(repository).large_files == ()
    write(repository, {"tracked": "y" * 2000, "big/data": "z" * 1001, "small": "z" * 1000})
    for _ in range(2):
        resolved = resolve(repository)
        assert [(item.path, item.place) for item in resolved.large_files] == [("big/data", repository / "big" / "data")]
        assert resolved.notes == (
            "big/data is larger than 100 MB and not committed: it becomes an input of the run, beside the code.",
        )
        assert set(listing(check_out(resolved))) == {"main.py", "data/a.csv", "tracked", "small"}
    write(repository, {"small": "z" * 1001})
    assert {item.path for item in resolve(repository).large_files} == {"big/data", "small"}


def test_a_large_file_beside_the_project_is_said_to_need_input(
    repository: Path, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LARGE_BYTES", 1000)
    write(repository, {"a/p/x": "1", "a/p/y": "z" * 1001, "a/pq/z": "z" * 1001})
    (repository / "link").symlink_to("a/p")
    mine = "a/p/y is larger than 100 MB and not committed: it becomes an input of the run, beside the code."
    other = (
        "a/pq/z is larger than 100 MB and not committed: it is left out, being outside the project "
        "(--input FILE gives it to the run)."
    )
    for text in (f"{repository}#a/p", repository / "a" / "p", f"{repository}#link"):
        assert set(resolve(text).notes) == {mine, other}


def test_what_kind_of_source_it_is(repository: Path, tmp_path: Path, resolve: Resolve) -> None:
    assert kind_of(resolve(repository).source) == "commit"
    assert kind_of(resolve(repository.as_uri()).source) == "commit"
    write(repository, {"new": "1"})
    changed = resolve(repository).source
    assert (kind_of(changed), changed.revision) == ("work tree", None)
    write(tmp_path / "plain", {"a": "1"})
    plain = resolve(tmp_path / "plain").source
    assert (kind_of(plain), plain.revision) == ("folder", None)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as zipped:
        zipped.writestr("a", "1")
    packed = resolve(tmp_path / "p.zip").source
    assert (kind_of(packed), packed.revision) == ("zip", None)
    renamed = repository.rename(tmp_path / "named.zip")
    assert kind_of(resolve(renamed).source) == "work tree"
    assert kind_of(resolve(renamed, "main").source) == "commit"


def test_names_that_are_no_utf8_or_hold_anything_else(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    names = [b"caf\xe9", b"new\nline", b' "quoted" ', b"-dash", b"tab\t", b"\xff\xfe", b"*", b":(glob)x"]
    for name in names:
        Path(os.fsdecode(os.fsencode(repository) + b"/" + name)).write_bytes(name)
    resolved = resolve(repository)
    found = listing(check_out(resolved))
    assert {os.fsencode(name) for name in found} >= set(names)


def test_a_path_with_blanks_colons_and_quotes(tmp_path: Path, resolve: Resolve, check_out: CheckOut) -> None:
    folder = make_repository(tmp_path / 'a b:c"d%41#é\\')
    write(folder, {"new": "1"})
    resolved = resolve(folder)
    assert "new" in listing(check_out(resolved))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "1")
    assert resolve(folder).source.commit == git(folder, "rev-parse", "HEAD")
    assert resolve(resolve(folder).source.url).source.commit == git(folder, "rev-parse", "HEAD")
    assert local_directory(resolved.source) == folder


def test_line_ends_converted_by_the_users_git_are_no_change(
    repository: Path, resolve: Resolve, check_out: CheckOut
) -> None:
    commit(repository, {"t.txt": "a\nb\n", "crlf.bat": "a\nb\n", ".gitattributes": "*.bat text eol=crlf\n"})
    git(repository, "config", "core.autocrlf", "true")
    for name in ("t.txt", "crlf.bat", "main.py"):
        (repository / name).unlink()
    git(repository, "checkout", "-q", ".")
    assert (repository / "t.txt").read_bytes() == b"a\r\nb\r\n"
    for _ in range(2):
        resolved = resolve(repository)
        assert not resolved.source.dirty
        for name in ("t.txt", "crlf.bat"):
            os.utime(repository / name, (1, 1))
    assert (check_out(resolved) / "crlf.bat").read_bytes() == b"a\nb\n", "bytes are those of the blob"


def test_a_work_tree_that_can_not_keep_modes_is_clean(repository: Path, resolve: Resolve) -> None:
    git(repository, "config", "core.fileMode", "false")
    (repository / "main.py").chmod(0o755)
    assert not resolve(repository).source.dirty


def test_changing_attributes_changes_what_is_recorded(repository: Path, resolve: Resolve, check_out: CheckOut) -> None:
    write(repository, {"new.txt": "a\r\n"})
    assert (check_out(resolve(repository)) / "new.txt").read_bytes() == b"a\r\n"
    write(repository, {".gitattributes": "*.txt text\n"})
    kept = resolve(repository).source.commit
    assert kept == resolve(repository).source.commit
    assert (check_out(resolve(repository)) / "new.txt").read_bytes() == b"a\n"


def test_the_users_own_ignore_file_does_not_count(repository: Path, isolated: Path, resolve: Resolve) -> None:
    write(isolated, {".config/git/ignore": "new\n", ".config/git/attributes": "* -text\n"})
    write(repository, {"new": "1"})
    assert resolve(repository).source.dirty


def test_a_file_that_can_not_be_read_is_named(repository: Path, resolve: Resolve) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    write(repository, {"secret": "1"})
    (repository / "secret").chmod(0)
    with pytest.raises(OrchError, match="secret"):
        resolve(repository)


def test_a_worktree_file_that_leads_nowhere_is_explained(tmp_path: Path, resolve: Resolve) -> None:
    write(tmp_path / "lost", {".git": "gitdir: /no/where\n", "a": "1"})
    with pytest.raises(OrchError, match="worktree repair"):
        resolve(tmp_path / "lost")


def test_ignored_files_are_listed_from_the_top(repository: Path, tmp_path: Path) -> None:
    commit(repository, {".gitignore": "data2/\n*.bin\n__pycache__/\n"})
    write(repository, {"data2/a": "", "data2/b": "", "x/y.bin": "", "__pycache__/a.pyc": ""})
    assert ignored_files(str(repository)) == ("data2/", "x/")
    write(repository, {f"{i}.bin": "" for i in range(30)})
    assert len(ignored_files(str(repository))) == 20
    write(tmp_path / "plain", {".gitignore": "*.bin", "a.bin": ""})
    assert ignored_files(str(tmp_path / "plain")) == ("a.bin",)
    assert ignored_files("https://example.org/a") == ()
    assert ignored_files("no/such/folder") == ()


def test_a_warm_clean_folder_costs_a_moment(repository: Path, resolve: Resolve) -> None:
    resolve(repository)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        resolve(repository)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "d/a", "d/b", "d"]),
        st.sampled_from(["", "x", "y", "\r\n", None, "stage", "commit", "link"]),
    ),
    max_size=8,
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=ACTIONS)
def test_a_snapshot_is_what_is_there(
    steps: list[tuple[str, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from orchestrator.paths import open_home

    base = tmp_path_factory.mktemp("any")
    folder, home = make_repository(base / "r", {"a": "1", "d/a": "1"}), open_home({"ORCH_HOME": str(base / "home")})
    for name, what in steps:
        apply(folder, name, what)
        source = resolve_source(str(folder), None, home=home).source
        with open_tree(source, home=home) as tree:
            expected = {k: v for k, v in tracked(folder).items() if isinstance(v, bytes)}
            assert {k: tree.read(k) for k in expected} == expected
        # Not `git status`: what is only staged, and not in the work tree, makes no difference to a run.
        different = git(folder, "diff", "HEAD", "--name-only") + git(folder, "ls-files", "-o", "--exclude-standard")
        assert source.dirty == bool(different), different


def apply(folder: Path, name: str, what: str | None) -> None:
    """Change a work tree as a user would; what can't be done is left."""
    path = folder / name
    if what == "stage":
        git(folder, "add", "-A")
    elif what == "commit":
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    elif what is None or what == "link":
        if path.is_file() or path.is_symlink():
            path.unlink()
        if what == "link" and not path.exists() and path.parent.is_dir():
            path.symlink_to("nowhere")
    elif not path.is_dir() and not path.is_symlink() and (path.parent.is_dir() or not path.parent.exists()):
        write(folder, {name: what})


def test_the_mirror_of_a_folder_is_in_the_home(repository: Path, home: Home, resolve: Resolve) -> None:
    assert mirror_path(home, resolve(repository).source.url).is_dir()
