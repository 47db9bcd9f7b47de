"""What a repository, a URL or a revision could make git execute. Each attack would make the canary file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from source.repositories import commit, git, write

from orchestrator.errors import OrchError, UsageError
from orchestrator.source import Resolved, ignored_files

Resolve = Callable[..., Resolved]
CheckOut = Callable[[Resolved], Path]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that must not be made; checked at the end."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def evil(repository: Path, canary: Path) -> Path:
    """A repository whose configuration, attributes and hooks name a program in every place that git knows."""
    program = repository.parent / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch '{canary}'\ncat\n")
    program.chmod(0o755)
    commit(repository, {".gitattributes": "* filter=evil diff=evil merge=evil\n", "x.txt": "1\n"})
    for hook in ("post-checkout", "post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman",
                 "pre-auto-gc", "post-commit", "pre-receive", "post-rewrite"):  # fmt: skip
        path = repository / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(program.read_bytes())
        path.chmod(0o755)
    for key in (
        "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass", "core.alternateRefsCommand",
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "diff.evil.command",
        "diff.external", "gpg.program", "credential.helper", "uploadpack.packObjectsHook", "remote.origin.uploadpack",
        "remote.origin.vcs", "merge.evil.driver", "sequence.editor", "core.gitProxy",
    ):  # fmt: skip
        git(repository, "config", key, str(program))
    git(repository, "config", "core.hooksPath", str(repository / ".git" / "hooks"))
    git(repository, "config", "filter.evil.required", "true")
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "core.worktree", str(repository.parent))
    git(repository, "config", "alias.ls-files", f"!{program}")
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "remote.origin.url", str(repository))
    git(repository, "config", "protocol.ext.allow", "always")
    canary.unlink(missing_ok=True)
    return repository


def test_the_attack_works_on_plain_git(evil: Path, canary: Path) -> None:
    write(evil, {"x.txt": "2\n"})
    subprocess.run(["git", "status"], cwd=evil, capture_output=True)
    assert canary.exists()
    canary.unlink()


def test_an_evil_repository_as_a_folder(evil: Path, canary: Path, resolve: Resolve, check_out: CheckOut) -> None:
    resolve(evil)
    write(evil, {"x.txt": "2\n", "new": "1"})
    resolved = resolve(evil)
    assert resolved.source.dirty
    assert (check_out(resolved) / "x.txt").read_bytes() == b"2\n"
    resolve(evil, "main")
    resolve(f"{evil}#data")
    ignored_files(str(evil))


def test_an_evil_repository_that_lacks_objects(evil: Path, canary: Path, resolve: Resolve) -> None:
    """A partial clone fetches what it lacks, with the upload-pack program that its configuration names."""
    git(evil, "config", "--unset", "remote.origin.vcs")
    program = evil.parent / "upload-pack.sh"
    program.write_text(f"#!/bin/sh\ntouch '{canary}'\n")
    program.chmod(0o755)
    git(evil, "config", "remote.origin.uploadpack", str(program))
    blob = git(evil, "rev-parse", "HEAD:x.txt")
    (evil / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    subprocess.run(["git", "cat-file", "-p", blob], cwd=evil, stdin=subprocess.DEVNULL, capture_output=True)
    assert canary.exists(), "plain git runs the program"
    canary.unlink()
    for text in (str(evil), evil.as_uri()):
        with pytest.raises(OrchError):
            resolve(text)
    head = (evil / ".git" / "refs" / "heads" / "main").read_text().strip()
    (evil / ".git" / "objects" / head[:2] / head[2:]).unlink()
    for text, revision in ((str(evil), "main"), (evil.as_uri(), None), (evil.as_uri(), head)):
        with pytest.raises(OrchError):
            resolve(text, revision)
    (evil / ".git" / "index").unlink()
    resolve(evil)


def test_an_evil_repository_behind_a_url(evil: Path, canary: Path, resolve: Resolve, check_out: CheckOut) -> None:
    check_out(resolve(evil.as_uri()))
    check_out(resolve(evil.as_uri(), git(evil, "rev-parse", "HEAD~1")[:10]))
    canary.unlink(missing_ok=True)


def test_an_evil_repository_inside_a_folder(evil: Path, canary: Path, resolve: Resolve, tmp_path: Path) -> None:
    write(evil, {"x.txt": "2\n"})
    write(tmp_path / "plain", {"a": "1"})
    evil.rename(tmp_path / "plain" / "inner")
    resolve(tmp_path / "plain")
    ignored_files(str(tmp_path / "plain"))


@pytest.mark.parametrize(
    "text",
    [
        "--upload-pack=touch {canary}",
        "-utouch {canary}",
        "ext::sh -c 'touch {canary}'",
        "ssh://-oProxyCommand=touch {canary}/x",
        "-oProxyCommand=touch {canary}:x",
        "file://{repo}#--upload-pack=touch {canary}",
        "fd::0",
    ],
)
def test_urls_that_are_options_or_programs(canary: Path, repository: Path, resolve: Resolve, text: str) -> None:
    with pytest.raises(OrchError):
        resolve(text.format(canary=canary, repo=repository))


@pytest.mark.parametrize(
    "revision", ["--upload-pack=touch {canary}", "-utouch {canary}", "--output={canary}", "$(touch {canary})"]
)
@pytest.mark.parametrize("url", [False, True])
def test_revisions_that_are_options(canary: Path, repository: Path, resolve: Resolve, revision: str, url: bool) -> None:
    with pytest.raises(UsageError):
        resolve(repository.as_uri() if url else repository, revision.format(canary=canary))


def test_a_shell_text_that_is_a_legal_branch_name_is_only_a_name(
    canary: Path, repository: Path, resolve: Resolve
) -> None:
    name = f"$(touch${{IFS}}{canary.name})"
    git(repository, "branch", name)
    assert resolve(repository.as_uri(), name).source.commit == resolve(repository, name).source.commit


def test_an_origin_of_the_mirror_is_never_the_users_word(repository: Path, home: object, resolve: Resolve) -> None:
    resolved = resolve(repository.as_uri())
    assert "[core]" not in resolved.source.url
