"""A git repository of this machine, read as data: its files are looked at, its configuration never acts.

Nothing here writes to it, and no program that its configuration names (fsmonitor, hooks, filters) can run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.source.gitprogram import GitFailed, local_env, run_git
from orchestrator.source.location import without_credentials
from orchestrator.source.mirror import read_commit

_FACTS = (
    r"^(core\.(filemode|symlinks|ignorecase|precomposeunicode|autocrlf|eol)"
    r"|remote\.origin\.url|extensions\.objectformat)$"
)


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a repository keeps things. `git_dir` is that of the work tree, `common` the one that worktrees share."""

    work_tree: Path | None
    git_dir: Path
    common: Path

    @property
    def root(self) -> Path:
        """The folder that names the repository: its work tree, or the bare repository itself."""
        return self.work_tree or self.git_dir

    @property
    def objects(self) -> Path:
        """The folder of its objects."""
        return self.common / "objects"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the configuration tells. `settings` say how files of the work tree compare to blobs."""

    origin: str | None
    object_format: str
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The commit that is checked out."""

    commit: str
    tree: str
    time: int


def find_repository(path: Path) -> Repository | None:
    """The repository whose work tree `path` lies in, or that `path` is (bare); None when there is none.

    Raises OrchError for a `.git` file that leads nowhere.
    """
    if _is_git_dir(path):
        return Repository(None, path, path)
    for folder in (path, *path.parents):
        repository = repository_at(folder)
        if repository is not None:
            return repository
    return None


def repository_at(folder: Path) -> Repository | None:
    """The repository whose work tree begins at `folder`, or None."""
    dot_git = folder / ".git"
    try:
        if dot_git.is_dir():
            return replace(_opened(dot_git), work_tree=folder) if _is_git_dir(dot_git) else None
        if not dot_git.is_file():
            return None
        text = dot_git.read_bytes()
    except OSError as error:
        raise OrchError(f"{dot_git} can't be read: {error.strerror}.") from error
    if not text.startswith(b"gitdir: "):
        return None
    target = Path(os.path.normpath(folder / os.fsdecode(text[8:].rstrip(b"\r\n"))))
    if not _is_git_dir(target):
        raise OrchError(f"{dot_git} leads to {target}, which is no git directory; `git worktree repair` may mend it.")
    return replace(_opened(target), work_tree=folder)


def read_facts(repository: Repository) -> Facts:
    """What the repository's configuration, and the user's, say about its origin and its files."""
    env = local_env(repository.git_dir)
    # autocrlf is mostly set by the user; reading a configuration runs nothing
    del env["GIT_CONFIG_NOSYSTEM"], env["GIT_CONFIG_GLOBAL"]
    env |= {name: os.environ[name] for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM") if name in os.environ}
    try:
        out = run_git("config", "-z", "--get-regexp", _FACTS, env=env)
    except GitFailed as error:
        if error.stderr.strip():
            raise OrchError(f"the git repository {repository.root} can't be read: {error.line}.") from error
        out = b""
    found = {}
    for item in out.split(b"\0"):
        key, _, value = item.partition(b"\n")
        found[key.decode()] = os.fsdecode(value)
    settings = tuple((key, value) for key, value in found.items() if key.startswith("core."))
    origin = found.get("remote.origin.url")
    return Facts(
        without_credentials(origin) if origin else None, found.get("extensions.objectformat", "sha1"), settings
    )


def read_head(repository: Repository) -> Head | None:
    """The commit that is checked out, None before the first one."""
    try:
        out = run_git("cat-file", "--batch", env=local_env(repository.git_dir), data=b"HEAD\n")
    except GitFailed as error:
        raise OrchError(f"the git repository {repository.root} can't be read: {error.line}.") from error
    line, _, content = out.partition(b"\n")
    words = line.split(b" ")
    if len(words) != 3 or words[1] != b"commit":
        return None
    return Head(words[0].decode(), *read_commit(content))


def find_revision(repository: Repository, revision: str) -> str | None:
    """The commit that a branch, tag (also a remote's, as last seen) or id names in the repository."""
    for name in (revision, f"refs/remotes/origin/{revision}"):
        try:
            env = local_env(repository.git_dir)
            out = run_git("rev-parse", "--verify", "-q", "--end-of-options", name + "^{commit}", env=env)
        except GitFailed:
            continue
        return out.decode().strip()
    return None


def branch_and_tag_names(git_dir: Path) -> list[str]:
    """The short names of all branches and tags."""
    patterns = ("refs/heads", "refs/tags", "refs/remotes/origin")
    try:
        out = run_git("for-each-ref", "--format=%(refname:lstrip=2)", *patterns, env=local_env(git_dir))
    except GitFailed:
        return []
    return [name.removeprefix("origin/") for name in os.fsdecode(out).split("\n") if name]


def _is_git_dir(path: Path) -> bool:
    return (path / "HEAD").exists() and ((path / "objects").is_dir() or (path / "commondir").is_file())


def _opened(git_dir: Path) -> Repository:
    common = git_dir
    if (git_dir / "commondir").is_file():
        common = Path(os.path.normpath(git_dir / os.fsdecode((git_dir / "commondir").read_bytes().rstrip(b"\r\n"))))
    return Repository(None, git_dir, common)
