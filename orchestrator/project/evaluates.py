"""Which words of a simple command are evaluated again: as bash text by a builtin, as code by another interpreter.

A value may stand in such a word only when it is plain. The tables name what is known; where a command can't be
known (`$PYTHON -c ...`), the cautious reading is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

PLACEHOLDER = "\0"
"""Stands in `Word.literal` for a parameter."""
EXPANSION = "\1"
"""Stands in `Word.literal` for text that only bash knows: `$x`, `$(...)`, braces."""

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^\]]*\])?\+?=", re.ASCII)

EVALUATED_VARIABLES = frozenset(
    "BASH_ENV ENV PS0 PS1 PS2 PS4 PROMPT_COMMAND RANDOM SRANDOM SECONDS OPTIND HISTCMD LINENO EPOCHSECONDS "
    "EPOCHREALTIME BASH_ARGV0 DIRSTACK GROUPS FUNCNAME SHELLOPTS BASHOPTS PERL5OPT RUBYOPT NODE_OPTIONS "
    "GIT_SSH_COMMAND MAKEFLAGS LD_PRELOAD".split()
)
"""Variables whose value bash or another program evaluates: as a prompt, as a number, as options, as a command."""

_BUILTINS = frozenset(
    "eval source . trap let alias unalias unset read mapfile readarray getopts wait complete compgen compopt bind "
    "enable fc hash history declare typeset local".split()
)
_ALWAYS = frozenset("eval trap let alias compgen complete bind fc".split())
_DECLARATIONS = frozenset("declare typeset local".split())
_EXPORTS = frozenset("readonly export".split())
_STORES = frozenset("set getopts for".split())
_READS = frozenset("read mapfile readarray select".split())
_PREFIXES = frozenset(
    "command builtin exec env nohup time timeout nice ionice sudo doas stdbuf setsid chrt taskset numactl xargs "
    "parallel".split()
)

_WHOLE = frozenset(
    "ssh su runuser rsync scp sftp watch tmux screen script flock make gmake sbatch salloc at batch crontab gdb vim vi "
    "ex ed emacs nvim dc expect tclsh wish osascript psql mysql sqlite3 duckdb sed gsed awk gawk mawk nawk jq yq "
    "busybox".split()
)
"""Programs of which any argument may be code, or become an argument of a shell elsewhere."""
_NO_COMMANDS_ON_STDIN = frozenset("sed gsed awk gawk mawk nawk jq yq rsync scp watch flock".split())


@dataclass(frozen=True, slots=True)
class _Interpreter:
    code: re.Pattern[str]
    """Options after which code follows."""
    flags: re.Pattern[str]
    """Options that take no value: the word after them may be the script."""
    code_ends_options: bool = False
    """What follows the code is its arguments."""


_SHELL = _Interpreter(
    re.compile(r"[-+]\w*c\w*"), re.compile(r"-[abefhiklmnpruvxBCEHPT]+|--(login|norc|noprofile|posix)"), True
)
_PYTHON = _Interpreter(re.compile(r"-\w*c"), re.compile(r"-[bBdEhiIOPqRsSuvx]+|-[WX].+"), True)
_OTHER = _Interpreter(
    re.compile(r"-\w*[ceEprRB]|--(eval|exec|execute|print|command|run)|-(batch|exec|eval)|eval"),
    re.compile(r"-[bBdiIOqsSuvw]+|--(vanilla|no-save|slave|quiet|no-echo)"),
)
_UNKNOWN = _Interpreter(_OTHER.code, _PYTHON.flags)
_INTERPRETERS = {
    **dict.fromkeys("bash rbash sh dash zsh ksh mksh oksh fish ash csh tcsh xonsh nu pwsh".split(), _SHELL),
    **dict.fromkeys("python pypy ipython".split(), _PYTHON),
    **dict.fromkeys(
        "perl ruby node nodejs deno bun php lua luajit julia octave matlab Rscript R ghci scala groovy".split(), _OTHER
    ),
}
"""By the name of the program without its version (`python3.11`)."""

_DEVICES = ("/dev/", "/proc/")
"""A script of such a name is what comes through a pipe."""

_TEST_UNARY = frozenset(f"-{letter}" for letter in "abcdefghknprstuwxzGLNOS")
_TEST_BINARY = frozenset("= == != < > -eq -ne -lt -le -gt -ge -nt -ot -ef".split())


@dataclass(slots=True)
class Word:
    """A word of a command: its text without quotes, and the range of the placeholders in it.

    `live` tells that it holds an expansion of bash's own. `nested` is the range's part that stands in a
    substitution (`$(...)`), so that the word is what came of it.
    """

    literal: str = ""
    first: int = 0
    last: int = 0
    nested: frozenset[int] = frozenset()
    live: bool = False

    @property
    def holds(self) -> bool:
        """Whether a placeholder is anywhere in it."""
        return self.last > self.first

    @property
    def known(self) -> bool:
        """Whether its text is all there."""
        return PLACEHOLDER not in self.literal and EXPANSION not in self.literal


@dataclass(slots=True)
class Judgement:
    """What a simple command does with its words.

    `again` gives for the index of a word who evaluates it. `inner` are the placeholders in substitutions whose
    output is run. `evaluates_state` says who evaluates what variables hold, `evaluates_stdin` who runs what it
    reads. `stores`: its words may come to stand in variables; `reads`: what it reads may. `codes` are the shell
    programs that it runs, each with its arguments and who runs it.
    """

    again: dict[int, str] = field(default_factory=dict)
    inner: set[int] = field(default_factory=set)
    evaluates_state: str = ""
    evaluates_stdin: str = ""
    feeds_stdin: str = ""
    stores: bool = False
    reads: bool = False
    codes: list[tuple[str, list[int], str]] = field(default_factory=list)


def assigned_name(literal: str) -> str | None:
    """The variable that a word of the form `NAME=...` assigns, or None."""
    match = _ASSIGNMENT.match(literal)
    return match.group(1) if match else None


def judge(words: Sequence[Word]) -> Judgement:
    """Judges a simple command, without its redirections."""
    result = Judgement()
    for index, word in enumerate(words):
        if assigned_name(word.literal) in EVALUATED_VARIABLES:
            _again(result, words, index, f"the variable {assigned_name(word.literal)}")
    at = 0
    while at < len(words) and assigned_name(words[at].literal):
        at += 1
    start = at = _look_through(result, words, at)
    while at < len(words):
        _command(result, words, at)
        if words[at].literal.strip(EXPANSION):
            break
        # An expansion alone may be empty, or a launcher: the command is what follows it.
        at = _look_through(result, words, at + 1)
    for index in range(start, len(words)):
        _program(result, words, index, first=index in (start, at))
    return result


def _name(word: Word) -> str:
    return word.literal.rpartition("/")[2] if word.known else ""


def _again(result: Judgement, words: Sequence[Word], index: int, who: str) -> None:
    if words[index].holds:
        result.again.setdefault(index, who)
    if words[index].live:
        result.evaluates_state = result.evaluates_state or who


def _look_through(result: Judgement, words: Sequence[Word], at: int) -> int:
    """The index of the command that stands behind `exec`, `env A=1`, `nohup` and their like."""
    while at < len(words) and _name(words[at]) in _PREFIXES:
        name = _name(words[at])
        if name in ("xargs", "parallel"):
            result.evaluates_stdin = name
        at += 1
        while at < len(words) and not _is_operand(words[at]):
            if not assigned_name(words[at].literal):
                _again(result, words, at, name)
            if name == "env" and words[at].literal.startswith(("-S", "-vS", "--split")):
                for index in range(at, len(words)):
                    _again(result, words, index, "env -S")
            at += 1
    return at


def _is_operand(word: Word) -> bool:
    """Whether a word is surely neither an option nor an assignment."""
    text = word.literal
    if not text or text[0] in "-+" or assigned_name(text):
        return False
    return text[0] not in (PLACEHOLDER, EXPANSION) or (text[0] == EXPANSION and "/" in text)


def _command(result: Judgement, words: Sequence[Word], at: int) -> None:
    """What the word in command position does: run another, or be a builtin that evaluates."""
    name = words[at].literal
    if not words[at].known:
        _unknown_command(result, words, at)
    elif name in _BUILTINS:
        _builtin(result, words, at)
    elif name in _EXPORTS:
        _export(result, words, at)
    elif name in ("test", "["):
        _test(result, words, at)
    elif name == "printf":
        _printf(result, words, at)
    if name in _STORES or name in _DECLARATIONS:
        result.stores = True
    result.reads |= name in _READS


def _unknown_command(result: Judgement, words: Sequence[Word], at: int) -> None:
    word = words[at]
    result.inner.update(word.nested)
    if word.live:
        result.evaluates_state = "an expansion in the place of the command"
    _options(result, words, at, _UNKNOWN, "the program")
    if EXPANSION in word.literal and "/" not in word.literal and word.literal.strip(EXPANSION):
        result.evaluates_stdin = "a command whose name bash puts together"


def _builtin(result: Judgement, words: Sequence[Word], at: int) -> None:
    name, rest = words[at].literal, range(at + 1, len(words))
    for index in rest:
        _again(result, words, index, name)
    if name in ("eval", "trap"):
        result.codes.append((" ".join(words[index].literal for index in rest), [], name))
    if name in ("source", ".") and any(words[index].literal.startswith(_DEVICES) for index in rest):
        result.evaluates_stdin = name
    elif name in ("source", ".") and any(not words[index].literal.strip(EXPANSION) for index in rest):
        result.feeds_stdin = name
    options = any(words[index].literal.startswith("-") for index in rest)
    if name in _ALWAYS or (name in _DECLARATIONS and options):
        result.evaluates_state = result.evaluates_state or name


def _export(result: Judgement, words: Sequence[Word], at: int) -> None:
    rest = range(at + 1, len(words))
    options = any(not assigned_name(words[index].literal) and not words[index].known for index in rest)
    options |= any(words[index].literal.startswith("-") for index in rest)
    for index in rest:
        if options or not assigned_name(words[index].literal):
            _again(result, words, index, words[at].literal)
    result.stores = True


def _test(result: Judgement, words: Sequence[Word], at: int) -> None:
    operands = [w.literal for w in words[at + 1 :]]
    if words[at].literal == "[" and operands and operands[-1] == "]":
        operands.pop()
    if operands[:1] == ["!"]:
        operands = operands[1:]
    unary = len(operands) == 2 and operands[0] in _TEST_UNARY
    binary = len(operands) == 3 and operands[1] in _TEST_BINARY
    if not unary and not binary:
        for index in range(at + 1, len(words)):
            _again(result, words, index, words[at].literal)


def _printf(result: Judgement, words: Sequence[Word], at: int) -> None:
    index = at + 1
    while index < len(words) and not _is_operand(words[index]) and words[index].literal:
        _again(result, words, index, "printf")
        if words[index].literal.startswith("-v"):
            result.stores = True
            if index + 1 < len(words):
                _again(result, words, index + 1, "printf -v")
                index += 1
        index += 1


# --- interpreters -----------------------------------------------------------------------------------------------


def _program(result: Judgement, words: Sequence[Word], at: int, *, first: bool) -> None:
    """An interpreter at any place of the command: behind `timeout 5`, `docker run image`, `find -exec`."""
    name = _name(words[at])
    if name in _WHOLE:
        for index in range(at + 1, len(words)):
            _again(result, words, index, name)
        reads_file = any(w.literal.startswith("-f") for w in words[at + 1 :])
        if name not in _NO_COMMANDS_ON_STDIN or reads_file:
            result.feeds_stdin = name
    following = words[at + 1].literal if at + 1 < len(words) else ""
    if EXPANSION in words[at].literal and _UNKNOWN.code.fullmatch(following):
        _code(result, words, at + 1, _UNKNOWN, f"the program {following}")
    interpreter = _INTERPRETERS.get(name.rstrip("0123456789."))
    if interpreter and not _options(result, words, at, interpreter, name):
        if first:
            result.evaluates_stdin = name
        else:
            result.feeds_stdin = name


def _options(result: Judgement, words: Sequence[Word], at: int, interpreter: _Interpreter, name: str) -> bool:
    """Judges the words between an interpreter and its script; tells whether there is a script or code."""
    value_next = False
    for index in range(at + 1, len(words)):
        word = words[index]
        text = word.literal
        if text == "--args":
            return True
        if _is_operand(word) and not value_next:
            return not text.startswith(_DEVICES)
        if word.known and interpreter.code.fullmatch(text):
            return _code(result, words, index, interpreter, f"{name} {text}")
        _again(result, words, index, name)
        if text.startswith(PLACEHOLDER) and not value_next:
            return True
        if text == "-":
            return False
        value_next = EXPANSION in text or (text.startswith(("-", "+")) and not _flag(interpreter, text))
    return False


def _flag(interpreter: _Interpreter, text: str) -> bool:
    """Whether an option surely takes no word after it; behind python's `-m` stands what is run."""
    module = interpreter in (_PYTHON, _UNKNOWN) and text == "-m"
    return module or text == "--" or "=" in text or bool(interpreter.flags.fullmatch(text))


def _code(result: Judgement, words: Sequence[Word], at: int, interpreter: _Interpreter, who: str) -> bool:
    """The words from a code option on: code, and its arguments."""
    if interpreter is _SHELL:
        at += 1
        while at < len(words) and words[at].literal.startswith(("-", "+")):
            _again(result, words, at, who)
            at += 1
        result.evaluates_state = result.evaluates_state or who
        if at < len(words):
            _again(result, words, at, who)
            result.codes.append((words[at].literal, list(range(at + 1, len(words))), who))
        return True
    end = min(at + 2, len(words)) if interpreter.code_ends_options else len(words)
    for index in range(at + 1, end):
        _again(result, words, index, who)
        if words[index].literal == "--args":
            break
    return True
