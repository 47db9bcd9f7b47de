"""Repositories behind a URL: names, commits, the mirror, and days without network."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from source.repositories import GitServer, commit, git, listing, make_repository, serve

from orchestrator.errors import OrchError
from orchestrator.paths import Home
from orchestrator.source import Resolved, checkout, resolve_source
from orchestrator.source.mirror import mirror_path

Resolve = Callable[..., Resolved]


@pytest.fixture
def server(repository: Path) -> Iterator[GitServer]:
    with serve(repository.parent) as running:
        yield running


def test_a_branch_a_tag_and_commits_of_any_length(repository: Path, resolve: Resolve) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "light")
    git(repository, "tag", "-a", "v1", "-m", "one")
    git(repository, "branch", "feature/x")
    second = commit(repository, {"main.py": "print(2)\n"})
    url = repository.as_uri()
    assert resolve(url).source.commit == second
    assert resolve(url, "main").source.commit == second
    for name in ("light", "v1", "feature/x", "heads/feature/x", "refs/tags/v1", first, first[:7], first.upper()):
        resolved = resolve(url, name)
        assert resolved.source.commit == first, name
        assert resolved.source.tree == git(repository, "rev-parse", f"{first}^{{tree}}")
        assert resolved.source.url == url
        assert resolved.notes == ()
    assert resolve(url, "v1").source.revision == "v1"
    assert resolve(url, "v1").source.commit_time == int(git(repository, "show", "-s", "--format=%ct", first))


def test_a_branch_is_looked_up_anew_each_time(repository: Path, resolve: Resolve) -> None:
    url = repository.as_uri()
    before = resolve(url).source.commit
    after = commit(repository, {"b": "2"})
    assert resolve(url).source.commit == after != before
    git(repository, "checkout", "-q", "-b", "other")
    other = commit(repository, {"c": "3"})
    assert resolve(url).source.commit == other, "the default branch is what HEAD says"


def test_a_tag_wins_over_a_branch_of_the_same_name_and_says_so(repository: Path, resolve: Resolve) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "same")
    commit(repository, {"b": "2"})
    git(repository, "branch", "same")
    resolved = resolve(repository.as_uri(), "same")
    assert resolved.source.commit == first
    assert "tag is taken" in resolved.notes[0]


def test_a_commit_that_no_branch_holds_is_fetched_by_its_id(
    server: GitServer, repository: Path, resolve: Resolve
) -> None:
    url = server.url("project/.git")
    resolve(url)
    git(repository, "checkout", "-q", "--detach")
    lonely = commit(repository, {"lonely": "1"})
    git(repository, "update-ref", "refs/pull/1/head", lonely)
    git(repository, "checkout", "-q", "main")
    assert resolve(url, lonely).source.commit == lonely
    assert resolve(url, "refs/pull/1/head").source.commit == lonely


def test_the_mirror_has_no_blobs_but_those_of_the_commits_that_were_asked_for(
    server: GitServer, repository: Path, home: Home, resolve: Resolve
) -> None:
    old = git(repository, "rev-parse", "HEAD:main.py")
    commit(repository, {"main.py": "print(2)\n"})
    url = server.url("project/.git")
    resolved = resolve(url)
    mirror = mirror_path(home, url)
    missing = git(mirror, "rev-list", "--objects", "--all", "--missing=print").splitlines()
    assert f"?{old}" in missing
    assert len([line for line in missing if line.startswith("?")]) == 1
    server.stop()
    checkout(resolved.source, home.work / "w", home=home)
    assert (home.work / "w" / "main.py").read_text() == "print(2)\n"


def test_a_known_commit_needs_no_network(server: GitServer, repository: Path, resolve: Resolve) -> None:
    url = server.url("project/.git")
    first = resolve(url)
    before = len(server.requests)
    again = resolve(url, first.source.commit)
    assert again.source.commit == first.source.commit
    assert again.notes == ()
    assert len(server.requests) == before


def test_without_network_the_mirror_serves_and_says_from_when(
    server: GitServer, repository: Path, resolve: Resolve
) -> None:
    git(repository, "tag", "v1")
    url = server.url("project/.git")
    commit_id = resolve(url).source.commit
    resolve(url, "v1")
    server.stop()
    for name in (None, "v1", "main", commit_id[:8]):
        resolved = resolve(url, name)
        assert resolved.source.commit == commit_id, name
        if name != commit_id[:8]:
            assert "can't be reached" in resolved.notes[0]
            assert "UTC" in resolved.notes[0]
    with pytest.raises(OrchError, match=r"can't be read: .*127\.0\.0\.1") as caught:
        resolve(url, "v2")
    assert caught.value.exit_code == 125


def test_offline_asks_nobody(server: GitServer, resolve: Resolve) -> None:
    url = server.url("project/.git")
    with pytest.raises(OrchError, match="--offline asks no network"):
        resolve(url, offline=True)
    assert server.requests == []
    known = resolve(url).source.commit
    before = len(server.requests)
    assert resolve(url, offline=True).source.commit == known
    assert resolve(url, "main", offline=True).source.commit == known
    with pytest.raises(OrchError, match="--offline asks no network"):
        resolve(url, "ab" * 20, offline=True)
    assert len(server.requests) == before


def test_an_unknown_revision_is_answered_with_what_looks_like_it(repository: Path, resolve: Resolve) -> None:
    git(repository, "tag", "release-1.0")
    with pytest.raises(OrchError, match=r"'relaese-1.0'. Did you mean release-1\.0\?"):
        resolve(repository.as_uri(), "relaese-1.0")
    with pytest.raises(OrchError, match="'abcdef12'"):
        resolve(repository.as_uri(), "abcdef12")
    with pytest.raises(OrchError, match="no commit " + "ab" * 20):
        resolve(repository.as_uri(), "ab" * 20)


def test_no_such_repository_is_one_sentence_with_gits_reason(
    server: GitServer, tmp_path: Path, resolve: Resolve
) -> None:
    for url in (server.url("nothing.git"), (tmp_path / "nothing").as_uri()):
        with pytest.raises(OrchError, match="nothing") as caught:
            resolve(url)
        assert "\n" not in str(caught.value)
        assert "fatal" not in str(caught.value)


def test_an_empty_repository_says_it_has_no_default_branch(tmp_path: Path, resolve: Resolve) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    with pytest.raises(OrchError, match="no default branch"):
        resolve((tmp_path / "empty").as_uri())


def test_credentials_reach_the_server_and_nothing_else(
    repository: Path, home: Home, resolve: Resolve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))
    with serve(repository.parent, "ada:s3cret-token") as server:
        resolved = resolve(server.url("project/.git", "ada:s3cret-token"))
        assert resolved.source.url == server.url("project/.git")
        with pytest.raises(OrchError) as caught:
            resolve(server.url("gone.git", "ada:s3cret-token"))
        with pytest.raises(OrchError, match="can't be read"):
            resolve(server.url("project/.git", "ada:s3cret-wrong"), "other")
        checkout(resolved.source, home.work / "w", home=home)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(resolved)
    for path, content in listing(home.root).items():
        assert b"s3cret" not in (content if isinstance(content, bytes) else content.encode()), path


def test_a_subdirectory_with_dots_links_and_none(repository: Path, resolve: Resolve) -> None:
    (repository / "v1.2").mkdir()
    (repository / "v1.2" / "x").touch()
    (repository / "latest").symlink_to("v1.2")
    (repository / "out").symlink_to("..")
    commit(repository)
    url = repository.as_uri()
    assert resolve(f"{url}#v1.2").source.subdir == "v1.2"
    assert resolve(f"{url}#latest").source.subdir == "v1.2"
    for name in ("gone", "main.py", "out", "v1.2/x"):
        with pytest.raises(OrchError, match=f"no directory '{name}'"):
            resolve(f"{url}#{name}")


def test_history_is_whole_after_the_same_place_was_run_as_a_folder(repository: Path, resolve: Resolve) -> None:
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, {"b": "2"})
    third = commit(repository, {"b": "3"})
    assert resolve(repository).source.commit == third
    assert resolve(repository.as_uri()).source.commit == third
    assert resolve(repository.as_uri(), first[:9]).source.commit == first
    git(repository, "config", "uploadpack.allowFilter", "false")
    commit(repository, {"b": "4"})
    assert resolve(repository.as_uri()).source.commit == git(repository, "rev-parse", "main")


def test_a_repository_with_sha256_ids(tmp_path: Path, resolve: Resolve, check_out: Callable[..., Path]) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    git(folder, "init", "-q", "--object-format=sha256")
    head = commit(folder, {"a/b": "1"})
    assert len(head) == 64
    for text in (folder, folder.as_uri()):
        resolved = resolve(text)
        assert resolved.source.commit == head
        assert listing(check_out(resolved)) == {"a/b": b"1"}


def test_a_lock_left_by_a_killed_git_does_not_stop_the_next_fetch(
    repository: Path, home: Home, resolve: Resolve
) -> None:
    url = repository.as_uri()
    resolve(url)
    mirror = mirror_path(home, url)
    later = commit(repository, {"b": "2"})
    (mirror / "refs" / "heads" / "main.lock").touch()
    assert resolve(url).source.commit == later


def test_a_damaged_mirror_is_mended_from_where_it_came(repository: Path, home: Home, resolve: Resolve) -> None:
    resolved = resolve(repository.as_uri())
    mirror = mirror_path(home, resolved.source.url)
    for pack in (mirror / "objects" / "pack").iterdir():
        pack.unlink()
    for ref in (mirror / "refs").rglob("*"):
        if ref.is_file():
            ref.unlink()
    (mirror / "packed-refs").unlink(missing_ok=True)
    checkout(resolved.source, home.work / "w", home=home)
    assert (home.work / "w" / "main.py").exists()


def test_the_users_url_rewriting_counts(repository: Path, resolve: Resolve) -> None:
    config = Path(os.environ["GIT_CONFIG_GLOBAL"])
    config.write_text(config.read_text() + f'[url "{repository.as_uri()}"]\n\tinsteadOf = https://example.org/mine\n')
    resolved = resolve("https://example.org/mine")
    assert resolved.source.url == "https://example.org/mine"
    assert resolved.source.commit == git(repository, "rev-parse", "HEAD")


def test_variables_of_an_outer_git_do_not_lead_astray(
    repository: Path, tmp_path: Path, resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repository(tmp_path / "other", {"x": "y"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_NAMESPACE", "ns")
    head = subprocess.run(
        ["git", f"--git-dir={repository}/.git", "rev-parse", "HEAD"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert resolve(repository).source.commit == head
    assert resolve(repository.as_uri()).source.commit == head


def test_progress_is_reported(server: GitServer, home: Home) -> None:
    said: list[tuple[str, str, int | None]] = []

    def report(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        said.append((phase, text, done))

    url = server.url("project/.git")
    resolve_source(url, None, home=home, report=report)
    assert ("source", f"fetching {url}", None) in said
    assert any(done for _, _, done in said)


def test_offline_a_file_url_that_the_user_has_moved_to_a_host_asks_nobody(
    server: GitServer, repository: Path, resolve: Resolve
) -> None:
    assert resolve(repository.as_uri(), offline=True).source.commit == git(repository, "rev-parse", "HEAD")
    git(repository, "config", "--global", f"url.{server.url('project/.git')}.insteadOf", "file:///elsewhere")
    with pytest.raises(OrchError, match="file:///elsewhere"):
        resolve("file:///elsewhere", offline=True)
    assert server.requests == []
