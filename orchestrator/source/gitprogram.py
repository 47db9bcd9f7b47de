"""The git program, called so that nothing it reads can make it run another program.

Two environments: `local_env` for work on objects and files (no configuration but the repository's own, no
protocol at all, so that a missing object is an error and never a connection), and `network_env` for talking to
a remote, where the user's own git and ssh configuration must work.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.errors import OrchError

Pairs = Iterable[tuple[str, str]]

_REFUSED: tuple[tuple[str, str], ...] = (
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("protocol.ext.allow", "never"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
)
_KEPT = ("GIT_ASKPASS", "GIT_EXEC_PATH", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
_KEPT_PREFIXES = ("GIT_SSH", "GIT_SSL_", "GIT_PROXY_", "GIT_HTTP_", "GIT_TRACE", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_")
_BOILERPLATE = (
    "Please make sure you have the correct access rights",
    "and the repository exists",
    "fatal: Could not read from remote repository",
    "fatal: the remote end hung up",
    "hint:",
)


class GitFailed(Exception):  # noqa: N818  (an outcome that callers turn into their own sentence)
    """git ended with an error. `line` is the one line of its message that says why."""

    def __init__(self, stderr: str) -> None:
        super().__init__(stderr)
        self.stderr = stderr

    @property
    def line(self) -> str:
        """The last line that tells the cause, without git's `fatal:`."""
        lines = [line.strip() for line in self.stderr.replace("\r", "\n").splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith(_BOILERPLATE)] or lines or ["git gave no reason"]
        errors = [line for line in told if line.startswith(("fatal:", "error:", "ERROR:"))]
        return (errors or told)[-1].removeprefix("fatal: ").removeprefix("error: ").rstrip(".")


def local_env(
    git_dir: Path,
    *,
    work_tree: Path | None = None,
    index: Path | None = None,
    objects: Path | None = None,
    alternates: Iterable[Path] = (),
    config: Pairs = (),
) -> dict[str, str]:
    """The environment for work without network on `git_dir`; user and system configuration do not count.

    New objects go to `objects`; `alternates` are object directories that are read too.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {
        "GIT_DIR": str(git_dir),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    if work_tree is not None:
        env["GIT_WORK_TREE"] = str(work_tree)
    if index is not None:
        env["GIT_INDEX_FILE"] = str(index)
    if objects is not None:
        env["GIT_OBJECT_DIRECTORY"] = str(objects)
    quoted = [_quoted(path) for path in alternates]
    if quoted:
        env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.pathsep.join(quoted)
    # git looks for these two in the user's configuration folder unless they are named
    places = {"core.attributesFile": os.devnull, "core.excludesFile": os.devnull} | dict(config)
    return _with_config(env, 0, (*_REFUSED, *places.items()))


def network_env(git_dir: Path | None, *, http: bool, config: Pairs = ()) -> dict[str, str]:
    """The environment for talking to a remote: the user's configuration counts, hooks and helpers of ours are off.

    `http` allows plain http, which only a loopback address may use.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    env |= {
        "GIT_ALLOW_PROTOCOL": "https:ssh:file:http" if http else "https:ssh:file",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CONFIG_PARAMETERS": "",
        "GIT_NAMESPACE": "",
        "LC_ALL": "C",
    }
    if git_dir is not None:
        env["GIT_DIR"] = str(git_dir)
        env["GIT_OBJECT_DIRECTORY"] = str(git_dir / "objects")
    try:
        count = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
    except ValueError:
        count = 0
    slow = (("http.lowSpeedLimit", "100"), ("http.lowSpeedTime", "60"))
    return _with_config(env, count, (*slow, *_REFUSED, *config))


def run_git(
    *args: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    data: bytes = b"",
    umask: int = -1,
    timeout: float | None = None,
) -> bytes:
    """The standard output of `git ARGS`, with `data` on its standard input.

    Raises GitFailed when git fails or takes longer than `timeout` seconds, OrchError when there is no git.
    """
    try:
        done = subprocess.run(
            ["git", *args],
            input=data,
            capture_output=True,
            env=env,
            cwd=cwd or os.sep,
            umask=umask,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise OrchError("the program git is not installed, or not on PATH; orch needs it.") from error
    except subprocess.TimeoutExpired as error:
        raise GitFailed(f"no answer within {timeout:.0f} seconds") from error
    if done.returncode != 0:
        raise GitFailed(done.stderr.decode("utf-8", "replace"))
    return done.stdout


def _with_config(env: dict[str, str], start: int, pairs: Pairs) -> dict[str, str]:
    count = start
    for key, value in pairs:
        env[f"GIT_CONFIG_KEY_{count}"] = key
        env[f"GIT_CONFIG_VALUE_{count}"] = value
        count += 1
    env["GIT_CONFIG_COUNT"] = str(count)
    return env


def _quoted(path: Path) -> str:
    """A path for GIT_ALTERNATE_OBJECT_DIRECTORIES: quoted, so that a colon in it separates nothing."""
    text = str(path)
    if os.pathsep not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
