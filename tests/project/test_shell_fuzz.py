"""Any text of a command is judged or refused, and what is let through executes no value.

The commands are made at random of what bash evaluates; those that are let through are run, in a folder of their
own, with values that would make a file there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project.running import install_argv, run_script

from orchestrator.errors import OrchError
from orchestrator.project import render

EVIL = [
    "$(touch canary)",
    "`touch canary`",
    "'; touch canary; '",
    '"; touch canary; "',
    "\ntouch canary\n",
    "touch canary",
    "; touch canary",
    ") ; touch canary; (",
    "}; touch canary; {",
    "a[$(touch canary)]",
    "[$(touch canary)]=1",
    "x=$(touch canary)",
    "($(touch canary))",
    "${x:=$(touch canary)}",
    "-va[$(touch canary)]",
    "-c\ntouch canary",
    "-Stouch canary",
    "import os; os.system('touch canary')",
]

TOKENS = [
    *"{v} {v} {v} {v} echo argv eval bash sh -c <<< | || && ; & < > >f <f ( ) (( )) $(( $( <( ` \" ' $' $\"".split(),
    *'\\ # [[ ]] [ ] a[ x= y= x+= a=( $x "$x" ${{x ${{ }} {{ }} :- := : - = + ! -v -i -a -n -eq == 1 x a'.split(),
    *"case in esac for do done if then fi while read function declare export local unset let test printf".split(),
    *'trap set -- $1 "$@" $_ time exec command builtin env xargs PS4= BASH_ENV= RANDOM= source . ~ * @('.split(),
    *"coproc wait f".split(),
    *(" ", " ", "\n", "\\\n", "<<E\n", "\nE\n", "<<-'E'\n"),
]

COMMANDS = [
    "echo {v}",
    'echo "{v}"',
    "echo '{v}' $'{v}'",
    "argv {v} > f",
    "x={v}",
    "x+={v}",
    'eval "$x"',
    "$x",
    '"$@"',
    "echo $((x))",
    "echo ${{x@P}}",
    "echo ${{!x}}",
    "echo ${{y:={v}}}",
    'echo "${{y:-{v}}}"',
    "echo ${{x#{v}}}",
    "bash -c {v}",
    'bash -c "$x"',
    "bash -c 'argv \"$1\"' _ {v}",
    "bash -c '$1' _ {v}",
    "bash <<< {v}",
    "bash -s {v} < f",
    "echo {v} | bash",
    ". /dev/stdin <<< {v}",
    "source <(echo {v})",
    "xargs env <<< {v}",
    "env -S {v}",
    "env {v}",
    "exec 3<<<{v}; bash <&3",
    "[[ {v} -eq 1 ]]",
    "[[ -v $x ]]",
    "[ -v {v} ]",
    "[ {v} = {v} ]",
    "test {v} {v}",
    "(( {v} ))",
    "(( x ))",
    "let {v}",
    "a[{v}]=1",
    "a=({v} b)",
    "a=([{v}]=1)",
    '"${{a[@]}}"',
    "declare -i x",
    "declare -a x",
    "declare x={v}",
    "export x={v}",
    "printf -v {v} 1",
    "printf {v}",
    "read x <<< {v}",
    "while read x; do $x; done <<< {v}",
    "mapfile a <<< {v}",
    "set -- {v}",
    "for i in {v}; do $i; done",
    "for ((i={v};i<1;i++)); do :; done",
    "cat <<E\n{v}\nE\n",
    "bash <<E\n{v}\nE\n",
    "case {v} in a) :;; {v}) echo {v};; esac",
    "PS4={v}; set -x; :",
    "BASH_ENV={v} bash -c :",
    "trap {v} EXIT",
    "g() {{ $1; }}; g {v}",
    "$(echo {v}) a",
    "echo `bash -c {v}`",
    "python3 -S {v}",
    "timeout 1 bash -c {v}",
    "find . -maxdepth 0 -exec bash -c {v} \\;",
    "{v}",
]
WRAPPERS = [
    "{}",
    "( {} )",
    "{{{{ {}; }}}}",
    "echo $({})",
    "echo `{}`",
    'echo "$({})"',
    'bash -c "{}"',
    "bash -c '{}'",
    'eval "{}"',
    "if true; then {}; fi",
    "for i in 1; do {}; done",
    "f() {{{{ {}; }}}}; f",
    "x=$({}); $x",
    "$({})",
    "cat <({})",
    "case a in a) {};; esac",
    "{} | cat",
    "true | {}",
]


def wrapped(parts: tuple[str, str]) -> str:
    wrapper, inner = parts
    return wrapper.replace("{}", inner).replace("{{{{", "{{").replace("}}}}", "}}")


lists = st.lists(
    st.tuples(st.sampled_from(COMMANDS), st.sampled_from(["; ", "\n", " | ", " && ", " & ", " "])),
    min_size=1,
    max_size=3,
).map(lambda pairs: "".join(command + separator for command, separator in pairs))
programs = st.tuples(st.sampled_from(WRAPPERS), lists).map(wrapped)
texts = st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(["", " "])), min_size=1, max_size=14).map(
    lambda pairs: "".join(token + blank for token, blank in pairs)
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A program with a token put in somewhere, and perhaps a character left out."""
    program = draw(programs)
    at = draw(st.integers(0, len(program)))
    gone = draw(st.integers(0, 1))
    return program[:at] + draw(st.sampled_from(TOKENS)) + program[at + gone :]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def check(root: Path, command: str, value: str) -> None:
    """Renders, and when that lets the command through, runs it and looks for the canary."""
    try:
        script = render(command, {"v": value})
    except OrchError as error:
        assert "\n" not in str(error)
        return
    if not script.variables:
        return
    folder = root / "run"
    folder.mkdir()
    try:
        install_argv(folder)
        run_script(script, folder, seconds=2)
        assert not (folder / "canary").exists(), script.text
    finally:
        shutil.rmtree(folder)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(command=texts, value=st.sampled_from(EVIL))
def test_tokens_in_any_order_execute_no_value(root: Path, command: str, value: str) -> None:
    check(root, command, value)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(command=st.one_of(programs, damaged()), value=st.sampled_from(EVIL))
def test_programs_that_evaluate_execute_no_value(root: Path, command: str, value: str) -> None:
    check(root, command, value)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_alone_executes_no_value(root: Path, command: str) -> None:
    for value in EVIL:
        check(root, command, value)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("\"'`$(){}[]<>|&;#\\ \n\tE=-:!@*~+vx1{}"), max_size=30))
def test_any_text_is_judged_or_refused(text: str) -> None:
    try:
        render(text + "{v}" + text, {"v": "1"})
    except OrchError as error:
        assert "the command" in str(error)
