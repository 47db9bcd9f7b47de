"""Values reach the program byte for byte from every quoting state, and execute nothing."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from project.running import arguments, install_argv, run_script

from orchestrator.errors import OrchError
from orchestrator.project import Script, render, shown_command

NASTY = [
    "$(touch canary)",
    "`touch canary`",
    "'; touch canary; '",
    '"; touch canary; "',
    "\ntouch canary\n",
    "a[$(touch canary)]",
    "it's",
    'say "it"',
    "a b",
    "  a  b  ",
    "",
    "*",
    "~",
    "-n",
    "--",
    "\\",
    "\\n",
    "a\\",
    "100%",
    "%s%n",
    "$HOME",
    "${HOME}",
    "{x}",
    "{{",
    "}",
    "line\nbreak",
    "\n",
    "\t",
    "\r",
    "#",
    "!",
    "a;b|c&d>e<f(g)h",
    "ünï→😀",
    "\x01\x7f\x1b[31m",
    b"\xff\xfe not utf-8".decode("utf-8", "surrogateescape"),
]

STATES = {
    "{v}": "{}",
    "--x={v}": "--x={}",
    "{v}{v}": "{0}{0}",
    '"{v}"': "{}",
    '"a {v} b"': "a {} b",
    "'{v}'": "{}",
    "'a {v} b'": "a {} b",
    "$'{v}'": "{}",
    "$'a\\t{v}\\x41'": "a\t{}A",
    '$"<{v}>"': "<{}>",
    "a'b'\"{v}\"$'{v}'{v}c": "ab{0}{0}{0}c",
    "\"$'{v}'\"": "$'{}'",
    "\"'{v}'\"": "'{}'",
    "'\"{v}\"'": '"{}"',
    "${{unset:-{v}}}": "{}",
    '${{unset:-"{v}"}}': "{}",
    '"${{unset:-{v}}}"': "{}",
    "${{HOME:+<{v}>}}": "<{}>",
    "\"${{unset-'{v}'}}\"": "'{}'",
    '"$(printf %s. {v})"': "{}.",
    "\"$(printf %s. '{v}')\"": "{}.",
    '"$(printf %s. "{v}")"': "{}.",
    '"`printf %s. {v}`"': "{}.",
    '"`printf %s. "{v}"`"': "{}.",
    "\"`printf %s. '{v}'`\"": "{}.",
    '"$(printf %s. "$(printf %s. {v})")"': "{}..",
    "\"`printf %s. \\`printf %s, '{v}'\\``\"": None,
    '"$(case {v} in zzz) :;; *) printf %s. {v};; esac)"': "{}.",
    '"$(cat <<< {v}; echo .)"': "{}\n.",
    "{v}\\\n{{{v},{v}}}": None,
    "a\\ {v}": "a {}",
    "{{{v}}}": "{{{}}}",
    '"\\${v}"': "${}",
}
"""Words of a command, each with what its argument must be."""

values = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    st.binary().filter(lambda b: b"\0" not in b).map(lambda b: b.decode("utf-8", "surrogateescape")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    install_argv(folder)
    return folder


def ran(folder: Path, script: Script) -> list[list[str]]:
    printed = run_script(script, folder)
    assert not (folder / "canary").exists()
    return arguments(printed)


EXACT = {word: shape for word, shape in STATES.items() if shape is not None}


@pytest.mark.parametrize("value", NASTY)
def test_a_nasty_value_arrives_unchanged_from_every_quoting_state(folder: Path, value: str) -> None:
    script = render("argv " + " ".join(EXACT), {"v": value})
    assert ran(folder, script) == [[shape.format(value) for shape in EXACT.values()]]


@settings(max_examples=150, deadline=None)
@given(value=values, word=st.sampled_from(sorted(EXACT)))
@example(value="\x01\x7f", word="${{unset:-{v}}}")
def test_any_value_arrives_unchanged(folder: Path, value: str, word: str) -> None:
    script = render(f"argv {word}", {"v": value})
    assert ran(folder, script) == [[EXACT[word].format(value)]]


SURROUNDINGS = [
    ("argv {v}; argv '{v}'", 2),
    ("true && argv {v} || argv no", 1),
    ("if [ {v} = {v} ]; then argv {v}; else argv no; fi", 1),
    ('for x in {v}; do argv "$x"; done', 1),
    ('x={v}; argv "$x"', 1),
    ("x='{v}' y={v} && argv \"$x\"", 1),
    ('export V={v} && argv "$V"', 1),
    ("V={v} argv {v}", 1),
    ('words=({v} b); argv "${{words[0]}}"', 1),
    ('f() {{ argv "$1"; }}; f {v}', 1),
    ('set -- {v}; argv "$1"', 1),
    ("set -eu; (argv {v})", 1),
    ("{{ argv {v}; }} | cat", 1),
    ("env A={v} argv {v}", 1),
    ("time -p argv {v}", 1),
    ("sh -c 'argv \"$1\"' _ {v}", 1),
    ("for ((i = 0; i < 2; i++)); do argv {v}; done", 2),
    ("case {v} in ''|*) argv {v};; esac", 1),
    ("# it's {v}\nargv {v} # {v} \"\n", 1),
    ("cat <<'E' > /dev/null && argv {v}\nit's \"\nE\nargv '{v}'", 2),
    ("[[ -n a ]] && argv {v}", 1),
    ("argv \\\n  {v}", 1),
    ("argv {v} 2>&1 2>/dev/null 1>&1 | cat", 1),
    ("cd . && argv {v}", 1),
    ('argv "$(eval echo)"{v}', 1),
]


@pytest.mark.parametrize(("command", "calls"), SURROUNDINGS)
def test_a_value_arrives_unchanged_in_any_surrounding(folder: Path, command: str, calls: int) -> None:
    for value in NASTY[:16]:
        assert ran(folder, render(command, {"v": value})) == [[value]] * calls, value


def test_a_value_can_be_the_command_and_a_file_name(folder: Path) -> None:
    assert ran(folder, render("{c} b", {"c": "argv"})) == [["b"]]
    ran(folder, render("argv x > {f}", {"f": "$(touch canary) it's"}))
    assert (folder / "$(touch canary) it's").is_file()


AGAIN = [
    "echo $(({v}))",
    "(({v}))",
    "echo $[{v}]",
    "for ((i={v};i<3;i++)); do :; done",
    "[[ {v} -eq 1 ]]",
    "[[ -v {v} ]]",
    "[ -v {v} ]",
    "test {v} {v}",
    "a[{v}]=1",
    "a[1 | {v}]=1",
    "a=([{v}]=1)",
    "echo ${{a[{v}]}}",
    "echo ${{HOME:{v}}}",
    "echo ${{HOME#{v}}}",
    "let {v}",
    "eval {v}",
    "eval 'echo {v}'",
    "command eval {v}",
    "time eval {v}",
    "! eval {v}",
    "$nothing eval {v}",
    "trap {v} EXIT",
    "source {v}",
    ". {v}",
    "declare {v}",
    "declare -i x={v}",
    "declare -a x={v}",
    "read {v} < f",
    "printf -v {v} 1",
    "printf {v}",
    "unset {v}",
    "BASH_ENV={v} bash f",
    "export BASH_ENV={v}",
    "PS4={v}",
    "RANDOM={v}",
    "cat <<E\n{v}\nE\n",
    "cat <<'E'\n{v}\nE\n",
    "cat <<-E\n\t{v}\n\tE\n",
    'bash -c "echo {v}"',
    "bash -c 'echo {v}'",
    "bash -euo pipefail -c {v}",
    "bash -o pipefail -lc '{v}'",
    "bash +c {v}",
    "bash {v}",
    "sh -c 'eval \"$1\"' _ {v}",
    "timeout 5 bash -c '{v}'",
    "find . -exec sh -c {v} \\;",
    "sudo -u me sh -c {v}",
    "docker run image sh -c '{v}'",
    "echo {v} | bash",
    "bash <<< {v}",
    "bash < <(echo {v})",
    "bash <(echo {v})",
    "source <(echo {v})",
    ". /dev/stdin <<< {v}",
    "echo {v} | while read x; do $x; done",
    "echo {v} | xargs env",
    'x={v}; eval "$x"',
    "x={v}; $x",
    "x={v}; echo $((x))",
    'x={v}; bash -c "$x"',
    "x={v}; echo ${{x@P}}",
    "x={v}; echo ${{!x}}",
    'set -- {v}; "$@"',
    "for x in {v}; do eval $x; done",
    "f() {{ $1; }}; f {v}",
    "$(echo {v})",
    "`echo {v}` a",
    "python -c 'print({v})'",
    "python3.11 -Wignore -uc {v}",
    "python -W ignore -c {v}",
    "python {v}",
    "$PYTHON -c {v}",
    "perl -ne '{v}'",
    "Rscript -e '{v}'",
    "node --eval '{v}'",
    "awk '{v}' f",
    "sed -n {v} f",
    "ssh host run {v}",
    "make X={v}",
    "env -S {v}",
    "nohup {v}",
]


@pytest.mark.parametrize("command", AGAIN)
def test_where_it_would_be_evaluated_again_only_a_plain_value_passes(command: str) -> None:
    for value in ("1", "0.5", "model.txt", "a-b_c/d+e"):
        script = render(command, {"v": value})
        assert value in (script.text, *script.variables.values()) or value in script.text
    for value in ("$(touch canary)", "a b", "", "-x", "+x", "a;b", "a\n", "é", "ORCH_P_0"):
        with pytest.raises(OrchError, match=re.escape(f"parameter 'v' is {value!r}, which can't stand at ")) as caught:
            render(command, {"v": value})
        assert caught.value.exit_code == 125


FREE = [
    "python train.py {v}",
    "python -u train.py --x {v}",
    "python -m package.train {v}",
    "python -c 'import sys' {v}",
    "python -W ignore -u train.py {v}",
    "bash run.sh {v}",
    "bash -eu run.sh {v}",
    "$PYTHON train.py {v}",
    '"$HOME/bin/python" train.py {v}',
    "python $HOME/train.py {v}",
    "python src/{v}/train.py {v}",
    "Rscript -e \"mlflow::mlflow_source('f.R')\" --args --x {v}",
    "Rscript --vanilla f.R {v}",
    "conda run -n env python train.py {v}",
    "torchrun --nproc_per_node=2 train.py {v}",
    "CUDA_VISIBLE_DEVICES=0 python train.py {v}",
    "source env.sh && python train.py {v}",
    'eval "$(conda shell.bash hook)" && python train.py {v}',
    "python train.py {v} | tee log",
    "python train.py {v} > log 2>&1",
    "cd src && python train.py {v}; wait",
    "python evaluate.py eval test . source {v}",
    "trap 'rm -f x' EXIT; python train.py {v}",
    'args=(--x {v}); python train.py "${{args[@]}}"',
]


@pytest.mark.parametrize("command", FREE)
def test_usual_commands_take_any_value(command: str) -> None:
    script = render(command, {"v": "$(touch canary) it's"})
    assert script.variables == {"ORCH_P_0": "$(touch canary) it's"}


def test_a_refusal_names_parameter_value_place_and_who_evaluates() -> None:
    with pytest.raises(OrchError) as caught:
        render("cd a\npython -c 'print({alpha})'", {"alpha": "x y"})
    assert str(caught.value) == (
        "parameter 'alpha' is 'x y', which can't stand at line 2, column 18 of the command: python -c would evaluate "
        "it there. Only letters, digits and . _ / + - are let through (not + or - first)."
    )


UNREADABLE = [
    ("echo ${v}", "column 6.*write {v} for the parameter, or \\${{v}}"),
    ('echo "${v}"', "column 7.*write {v}"),
    ("echo \\{v}", "a backslash stands before a parameter"),
    ('echo "\\{v}"', "a backslash stands before a parameter"),
    ("echo `echo \\{v}`", "a backslash stands before a parameter"),
    ("echo '{v}", "a ' is not closed"),
    ('echo "{v}', 'a " is not closed'),
    ("echo `{v}", "a ` is not closed"),
    ("echo $({v}", "not closed"),
    ("echo ${{x:-{v}", "not closed"),
    ("echo {v})", "closes nothing"),
    ("cat <<E\n{v}\n", "does not end"),
    ("cat <<{v}\na\n", "the end of a here-document"),
    ("echo $((echo {v}); true)", "put a blank between"),
    ("[[ {v}", "not closed"),
    ("echo {v} >", "a word is missing"),
    ("coproc cat {v}", "coproc"),
    ("echo a(b) {v}", "behind a word"),
    ("echo " + "$(" * 5000 + "{v}", "nested too deeply"),
]


@pytest.mark.parametrize(("command", "problem"), UNREADABLE)
def test_text_that_can_not_be_read_is_refused_with_its_place(command: str, problem: str) -> None:
    with pytest.raises(OrchError, match=problem) as caught:
        render(command, {"v": "1"})
    assert re.search(r"column \d+|too deeply", str(caught.value))


def test_without_parameters_any_text_is_left_to_bash() -> None:
    assert render("echo 'a ((", {}) == Script("echo 'a ((", {})
    assert render("echo ${{HOME}} {{a,b}}", {"unused": "x"}) == Script("echo ${HOME} {a,b}", {})


def test_lines_stay_where_they_were() -> None:
    command = "argv {v} \\\n  '{v}'\n\n# {v}\nargv $LINENO \"{v}\""
    assert render(command, {"v": "a\nb"}).text.count("\n") == command.count("\n")


def test_only_values_that_are_used_travel_and_each_once() -> None:
    script = render("argv {b} '{b}' {c}", {"a": "1", "b": "2", "c": "3"})
    assert script == Script(
        'argv "${ORCH_P_1}" \'\'"${ORCH_P_1}"\'\' "${ORCH_P_2}"', {"ORCH_P_1": "2", "ORCH_P_2": "3"}
    )


def test_a_value_does_not_end_a_here_document() -> None:
    command = "cat <<-END\n\t{a}{b}\nargv no\n\tEND\n"
    with pytest.raises(OrchError, match="would end its here-document 'END'"):
        render(command, {"a": "E", "b": "ND"})
    assert render(command, {"a": "E", "b": "NDE"}).text == "cat <<-END\n\tENDE\nargv no\n\tEND\n"


def test_nul_and_too_long_values_are_refused(folder: Path) -> None:
    with pytest.raises(OrchError, match="parameter 'v' holds a NUL"):
        render("argv {v}", {"v": "a\0b"})
    longest = "x" * (128 * 1024 - len("ORCH_P_0=") - 1)
    assert len(ran(folder, render('argv "${{#x}}" > /dev/null; x={v}; argv "${{#x}}"', {"v": longest}))[0][0]) == 6
    with pytest.raises(OrchError, match=r"parameter 'v' is 131,0.. bytes long.*Put it in a file"):
        render("argv {v}", {"v": longest + "x"})
    with pytest.raises(OrchError, match="NUL"):
        render("argv \0", {})


def test_a_variable_of_another_value_is_no_plain_value() -> None:
    with pytest.raises(OrchError, match="ORCH_P_1"):
        render("echo $(({n})); argv {v}", {"n": "ORCH_P_1", "v": "a[$(touch canary)]"})


plain = st.from_regex(r"[A-Za-z0-9._/][A-Za-z0-9._/+-]{0,8}", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["{v}", "--x={w}", '"{v}"', "'{w}'", "a{v}b", "$(echo {w})", "{{{v},b}}"]), min_size=1
    ),
    v=plain,
    w=plain,
)
def test_plain_values_give_what_mlflow_gives(folder: Path, parts: list[str], v: str, w: str) -> None:
    command = "argv " + " ".join(parts)
    mlflow = Script(command.format(v=shlex.quote(v), w=shlex.quote(w)), {})
    assert ran(folder, render(command, {"v": v, "w": w})) == ran(folder, mlflow)


# --- for people -------------------------------------------------------------------------------------------------


def test_the_shown_command_has_its_values_on_one_line() -> None:
    shown = shown_command("cd a\npython t.py {a} \\\n  --b={b} \"{b}\" '{a}' # {a}\n", {"a": "0.5", "b": "it's\nso"})
    assert shown == "cd a; python t.py 0.5 --b=$'it\\'s\\nso' \"\"$'it\\'s\\nso'\"\" '0.5' # {a}"


def test_the_shown_command_of_an_unreadable_template_is_the_template() -> None:
    assert shown_command("echo '{a}\n", {"a": "1"}) == "echo '{a}"
    assert shown_command("echo {b}", {"a": "1"}) == "echo {b}"


def test_the_shown_command_is_short() -> None:
    shown = shown_command("t {a} '{b}' {c}", {"a": "x" * 131_000, "b": "\n" * 61, "c": "y" * 60})
    newlines = r"\n" * 59
    assert shown == "t '" + "x" * 59 + "…' " + "''$'" + newlines + "…''' " + "y" * 60
    for command in ("t " + "a b " * 1000, "t {a} " * 1000, "t {b} " + "a b " * 1000, "echo '{a}" + "x" * 1000):
        shown = shown_command(command, {"a": "1", "b": "2"})
        assert len(shown) == 300
        assert shown.endswith("…")


def test_blanks_do_not_hold_up_the_shown_command() -> None:
    blanks = " " * 50_000
    begun = time.monotonic()
    assert shown_command(f"a{blanks};{blanks}\nb{blanks}\\\n c{blanks}{{v}}", {"v": "1"}).startswith("a; b c ")
    assert time.monotonic() - begun < 5


@settings(max_examples=40, deadline=None)
@given(value=values, word=st.sampled_from(["{v}", "--x={v}", '"a {v}"', "'a {v}'", "$'{v}'"]))
def test_the_shown_command_is_good_bash(folder: Path, value: str, word: str) -> None:
    shown = shown_command(f"argv {word}", {"v": value})
    assert "\n" not in shown
    assume(len(value) <= 60 and len(shown) < 300)
    assert ran(folder, Script(shown, {})) == ran(folder, render(f"argv {word}", {"v": value}))
