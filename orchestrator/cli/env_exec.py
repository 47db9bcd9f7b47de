"""`orch env exec` and `orch env shell`: this process becomes the program, in an activated environment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from orchestrator.cli.tell import tell, tell_notes
from orchestrator.environment.activate import activated
from orchestrator.environment.host import current_subdir
from orchestrator.environment.prefix import Prefix, use_prefix
from orchestrator.environment_of import Found, environment_of
from orchestrator.errors import OrchError, UsageError
from orchestrator.ledger import read_run
from orchestrator.paths import Home, open_home

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The exit codes of a shell for a program that is not there or can't be run."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RC_SHOULD_NOT_SET = {"_", "PWD", "OLDPWD", "SHLVL"}


def execute(environment: str, command: Sequence[str], *, offline: bool, yes: bool) -> None:
    """`orch env exec`. Returns only by an exception."""
    if command[0].startswith("-") and command[0] != "--":
        raise UsageError(f"{command[0]} comes too late: options of orch go before ENVIRONMENT, the program after `--`.")
    command = command[1:] if command[0] == "--" else command  # click leaves it, options of CMD being CMD's
    if not command:
        raise UsageError("name a program to run: orch env exec ENVIRONMENT -- CMD [ARG]...")
    with _ready(environment, open_home(offline=offline), yes=yes) as (_, variables):
        _become(command, variables)


def shell(environment: str, *, offline: bool, yes: bool) -> None:
    """`orch env shell`. Returns only by an exception."""
    with _ready(environment, open_home(offline=offline), yes=yes) as (prefix, variables):
        program = os.environ.get("SHELL") or "/bin/sh"
        prepare = _SHELLS.get(Path(program).name)
        changed = {
            name: value
            for name, value in variables.items()
            if _NAME.fullmatch(name)
            and name not in _RC_SHOULD_NOT_SET
            and (name == "PATH" or os.environ.get(name) != value)
        }
        gone = sorted(name for name in os.environ.keys() - variables.keys() if _NAME.fullmatch(name))
        if prepare is None or shutil.which(program) is None:
            _become([program], variables)
        else:
            arguments, more = prepare(f"(orch {prefix.lock_id[:8]}) ", changed, gone)
            _become([program, *arguments], {**variables, **more})


@contextmanager
def _ready(environment: str, home: Home, *, yes: bool) -> Iterator[tuple[Prefix, dict[str, str]]]:
    """The prefix in use, and the variables of a process in it. Who uses that of an imported run is asked."""
    found = environment_of(environment, home=home, report=tell)
    record = None if found.run_id is None else read_run(home, found.run_id, logged=False)
    if record is not None and record.bundle is not None:
        from orchestrator.cli import bundle

        bundle.ask(record, home, yes=yes, what="Programs of its environment")
    lock_id = found.lock_for(current_subdir())
    tell_notes(found.notes)
    ready = use_prefix(lock_id, home=home, report=tell, link_scripts=found.link_scripts)
    with _naming_the_run(found), ready as prefix:
        tell_notes(prefix.notes)
        variables = {**activated(prefix.path, os.environ), **found.variables}
        if found.import_path:
            given = variables.get("PYTHONPATH")
            variables["PYTHONPATH"] = os.pathsep.join([*map(str, found.import_path), *([given] if given else [])])
        yield prefix, variables


@contextmanager
def _naming_the_run(found: Found) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except OrchError as error:
        if found.run_id is None:
            raise
        raise OrchError(f"the environment of run {found.run_id} can't be used: {error}") from error


def _become(command: Sequence[str], variables: Mapping[str, str]) -> None:
    """Replace this process. The descriptor that keeps the prefix in use stays open in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these, and what is ignored stays so in the program: `exec ... | head` would not end.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), dict(variables))  # noqa: S606 - no shell is wanted
    except FileNotFoundError:
        there = shutil.which(command[0], path=variables.get("PATH"))
        reason = "its interpreter is not there" if there else "it is neither in the environment nor on PATH"
        print(f"orch: {command[0]} can't be run: {reason}.", file=sys.stderr)
        raise typer.Exit(NOT_FOUND) from None
    except OSError as error:
        print(f"orch: {command[0]} can't be run: {error.strerror}.", file=sys.stderr)
        raise typer.Exit(NOT_EXECUTABLE) from None


# --- shells -------------------------------------------------------------------------------------------------------
#
# Each takes the beginning of the prompt, the variables to set after the user's own files were read (they may have put
# other folders before the environment's), and the names to drop; each gives arguments and more variables.


def _bash(prompt: str, variables: Mapping[str, str], gone: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="orch-shell-"))
    lines = [
        f"command rm -rf -- {shlex.quote(str(folder))}",  # bash has read the whole file
        "[ -f ~/.bashrc ] && . ~/.bashrc",
        *_posix(variables, gone),
        f'PS1={shlex.quote(prompt)}"$PS1"',
        "hash -r",
    ]
    (folder / "bashrc").write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
    return ["--rcfile", str(folder / "bashrc"), "-i"], {}


def _zsh(prompt: str, variables: Mapping[str, str], gone: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="orch-shell-"))
    own = os.environ.get("ZDOTDIR")
    before = f"ZDOTDIR={shlex.quote(own)}" if own else "unset ZDOTDIR"
    env = [
        before,
        "[[ -f ${ZDOTDIR:-$HOME}/.zshenv ]] && . ${ZDOTDIR:-$HOME}/.zshenv",
        "_orch_zdotdir=${ZDOTDIR-}",  # their .zshenv may have set it
        f"ZDOTDIR={shlex.quote(str(folder))}",
    ]
    rc = [
        "if [[ -n $_orch_zdotdir ]]; then ZDOTDIR=$_orch_zdotdir; else unset ZDOTDIR; fi",
        "unset _orch_zdotdir",
        f"command rm -rf -- {shlex.quote(str(folder))}",
        "[[ -f ${ZDOTDIR:-$HOME}/.zshrc ]] && . ${ZDOTDIR:-$HOME}/.zshrc",
        *_posix(variables, gone),
        f'PROMPT={shlex.quote(prompt)}"$PROMPT"',
        "rehash",
    ]
    for name, lines in ((".zshenv", env), (".zshrc", rc)):
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
    return ["-i"], {"ZDOTDIR": str(folder)}


def _posix(variables: Mapping[str, str], gone: Sequence[str]) -> list[str]:
    dropped = [f"unset {' '.join(gone)}"] if gone else []
    return dropped + [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _fish(prompt: str, variables: Mapping[str, str], gone: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    lines = [f"set -e {name}" for name in gone]
    for name, value in variables.items():
        values = value.split(os.pathsep) if name == "PATH" else [value]
        lines.append(f"set -gx {name} {' '.join(map(_fish_quoted, values))}")
    lines += [
        "functions -q fish_prompt; and functions -c fish_prompt _orch_prompt",
        f"function fish_prompt; echo -n {_fish_quoted(prompt)}; functions -q _orch_prompt; and _orch_prompt; end",
    ]
    return ["--init-command", "\n".join(lines), "-i"], {}


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_Prepare = Callable[[str, Mapping[str, str], Sequence[str]], tuple[list[str], dict[str, str]]]
_SHELLS: Mapping[str, _Prepare] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
