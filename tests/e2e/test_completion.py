"""Completion in real shells: the installed script, a terminal, and the Tab key."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_records import made_home
from tui.made_runs import add, ended

from e2e.conftest import CONDA_YAML, ORCH, mlproject
from orchestrator.paths import open_home

PROMPT = "ready> "
RC = {
    "bash": (".bashrc", f"PS1='{PROMPT}'\nbind 'set enable-bracketed-paste off'\nbind 'set bell-style none'\n"),
    "zsh": (".zshrc", f"PS1='{PROMPT}'\nunsetopt zle_bracketed_paste beep prompt_sp\nbindkey -e\n"),
    "fish": (".config/fish/config.fish", f"function fish_prompt; printf '{PROMPT}'; end\nset -g fish_greeting\n"),
}


@pytest.fixture
def home(tmp_path: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, with a ledger of one run; the current folder has the project `tried`."""
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "orch-home"))
    monkeypatch.setenv("PATH", f"{ORCH.parent}{os.pathsep}{os.environ['PATH']}")
    add(made_home(tmp_path / "orch-home"), ended(1, name="first try"))
    project = tmp_path / "here" / "tried"
    project.mkdir(parents=True)
    (project / "MLproject").write_text(mlproject("echo {alpha}", "alpha: {type: float, default: 0.5}\nmode: string"))
    (project / "conda.yaml").write_text(CONDA_YAML)
    (project / "a file.txt").touch()
    monkeypatch.chdir(tmp_path / "here")
    return isolated


@pytest.fixture(params=list(RC))
def tab(request: pytest.FixtureRequest, home: Path) -> Iterator[Callable[[str], list[str]]]:
    """A function that types a line and Tab into a shell where completion is installed; the words it has then."""
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    name, text = RC[shell]
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(text)
    # It finds out by itself which shell it was started from.
    done = subprocess.run([shell, "-c", "orch --install-completion; true"], capture_output=True, text=True, check=True)
    assert f"{shell} completion installed in {home}" in done.stdout
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(shell, [shell, "-i"])
    read_until(terminal, re.escape(PROMPT), "")
    yield lambda line: typed(terminal, line)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)


def typed(terminal: int, line: str) -> list[str]:
    # Ctrl-A and Ctrl-E: the words of the line become the arguments of a program that prints them.
    os.write(terminal, line.encode() + b"\t\x01printf '(%s)' \x05 'e''nd'\r")
    screen = read_until(terminal, r"orch\).*\(end\).*" + re.escape(PROMPT), "")
    [found] = re.findall(r"(\([^()]*orch\).*)\(end\)", screen)
    return re.findall(r"\((.*?)\)", found)


def read_until(terminal: int, pattern: str, seen: str) -> str:
    end = time.monotonic() + 20
    while not re.search(pattern, seen, re.DOTALL):
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
    return seen


def test_a_run_is_completed(tab: Callable[[str], list[str]]) -> None:
    assert tab("orch show 018") == ["orch", "show", "018f000000017000"]
    assert tab("orch get la") == ["orch", "get", "latest"]


def test_a_name_with_a_blank_is_one_word(tab: Callable[[str], list[str]]) -> None:
    assert tab("orch show fir") == ["orch", "show", "first try"]


def test_a_parameter_goes_on_behind_its_equals_sign(tab: Callable[[str], list[str]]) -> None:
    assert tab("orch run tried -P alp") == ["orch", "run", "tried", "-P", "alpha="]
    assert tab("orch run tried -P alpha=") == ["orch", "run", "tried", "-P", "alpha=0.5"]
    assert tab("orch run tried -P alpha=0") == ["orch", "run", "tried", "-P", "alpha=0.5"]


def test_commands_options_and_files_are_completed_too(tab: Callable[[str], list[str]]) -> None:
    assert tab("orch repl") == ["orch", "replay"]
    assert tab("orch env exp") == ["orch", "env", "export"]
    assert tab("orch run --experiment-n") == ["orch", "run", "--experiment-name"]
    assert [word.rstrip("/") for word in tab("orch run tri")] == ["orch", "run", "tried"]
    assert tab("orch bundle verify tried/a") == ["orch", "bundle", "verify", "tried/a file.txt"]


def test_where_a_run_an_entry_point_or_a_revision_is_meant_no_file_is_proposed(tab: Callable[[str], list[str]]) -> None:
    assert tab("orch show tri") == ["orch", "show", "tri"]
    assert tab("orch run tried -e tri") == ["orch", "run", "tried", "-e", "tri"]
    assert tab("orch run tried --version tri") == ["orch", "run", "tried", "--version", "tri"]
    assert [word.rstrip("/") for word in tab("orch replay tri")] == ["orch", "replay", "tried"]


@pytest.mark.parametrize("setting", ["set show-all-if-ambiguous off", "set show-all-if-ambiguous on"])
def test_bash_lists_runs_with_what_tells_them_apart_and_inserts_none_of_it(home: Path, setting: str) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    add(open_home(), ended(2, name="first"))
    (home / ".bashrc").write_text(f"{RC['bash'][1]}bind '{setting}'\nsource <(orch --show-completion)\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp("bash", ["bash", "-i"])
    read_until(terminal, re.escape(PROMPT), "")
    os.write(terminal, b"orch show \t\t")
    listed = read_until(terminal, r"first\\ try  \(.*" + re.escape(PROMPT), "")
    assert "018f000000027000  (first: finished, 60 min ago, wine)" in listed
    assert "latest  (the newest run)" in listed
    assert typed(terminal, "018f") == ["orch", "show", "018f0000000"]
    assert typed(terminal, "orch show fir") == ["orch", "show", "first"]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)


def test_the_program_may_be_named_by_its_path(tab: Callable[[str], list[str]]) -> None:
    assert tab(f"{ORCH} show 018") == [str(ORCH), "show", "018f000000017000"]


@pytest.mark.parametrize(
    ("shell", "start"),
    [
        ("bash", "source <(orch --show-completion); complete -p orch"),
        ("zsh", 'autoload -Uz compinit; compinit -u; eval "$(orch --show-completion)"; echo $_comps[orch]'),
        ("fish", "orch --show-completion | source; complete --do-complete 'orch show 018'"),
    ],
)
def test_the_script_can_be_sourced_where_nothing_may_be_installed(home: Path, shell: str, start: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-c", f"{start}; true"], capture_output=True, text=True, check=True)
    expected = {"bash": "-F _orch_completion orch", "zsh": "_orch_completion", "fish": "018f000000017000\tfirst try: "}
    assert expected[shell] in done.stdout
    assert done.stderr == ""
