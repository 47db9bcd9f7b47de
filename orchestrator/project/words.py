"""Reads the words of bash text: quotes, expansions, substitutions, lists, subscripts, arithmetic."""

from __future__ import annotations

import re

from orchestrator.project.evaluates import EVALUATED_VARIABLES, EXPANSION, PLACEHOLDER, Word, assigned_name
from orchestrator.project.reader import META, Reader
from orchestrator.project.template import MARK

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z_]\w*|\d+|[@*#?$!-]", re.ASCII)
_PLAIN_SUBSCRIPT = re.compile(r"[0-9@*]*", re.ASCII)


def read_word(reader: Reader, *, begins: bool) -> Word:
    """Reads a word. `begins`: it may be an assignment, whose subscript and list bash reads as such."""
    word = Word(first=len(reader.found.places))
    inner: set[int] = set()
    start = reader.at
    literal: list[str] = []
    while reader.at < len(reader.text):
        char = reader.text[reader.at]
        if char in META and not reader.substitutes():
            break
        if reader.substitutes():
            reader.at += 2
            inner |= read_substitution(reader)
            literal.append(EXPANSION)
        elif char == "[" and begins and _NAME.fullmatch(reader.text[start : reader.at]):
            reader.at += 1
            _subscript(reader, "[")
            literal.append("[]")
        else:
            inner |= read_piece(reader, literal)
        if begins and reader.peek("(") and literal[-1:] == ["="] and assigned_name("".join(literal)):
            _array(reader)
            literal.append(EXPANSION)
    word.literal = "".join(literal)
    word.last = len(reader.found.places)
    word.nested = frozenset(inner)
    word.live = EXPANSION in word.literal
    return word


def read_piece(reader: Reader, literal: list[str]) -> set[int]:
    """One quoted or bare piece of a word; returns the placeholders in substitutions in it."""
    char = reader.text[reader.at]
    if char == "\\":
        literal.append(reader.backslash())
    elif char == "'":
        _single(reader, literal)
    elif char == '"':
        return _double(reader, literal)
    elif char in "$`":
        return _expansion(reader, literal, quoted=False)
    elif char == MARK:
        reader.mark("bare")
        literal.append(PLACEHOLDER)
    else:
        reader.at += 1
        braces = char == "{" and reader.text[reader.at : reader.at + 1] not in ("", *META)
        literal.append(EXPANSION if braces else char)
    return set()


def _single(reader: Reader, literal: list[str]) -> None:
    start = reader.at
    reader.at += 1
    while not reader.peek("'"):
        if reader.at >= len(reader.text):
            reader.fail("a ' is not closed", start)
        if reader.text[reader.at] == MARK:
            reader.mark("single")
            literal.append(PLACEHOLDER)
        else:
            literal.append(reader.text[reader.at])
            reader.at += 1
    reader.at += 1


def _ansi(reader: Reader, literal: list[str]) -> None:
    """`$'...'`, from its quote on."""
    start = reader.at
    reader.at += 1
    while not reader.peek("'"):
        if reader.at >= len(reader.text):
            reader.fail("a $' is not closed", start)
        if reader.text[reader.at] == MARK:
            reader.mark("ansi")
            literal.append(PLACEHOLDER)
        elif reader.text[reader.at] == "\\":
            reader.backslash()
            literal.append(EXPANSION)
        else:
            literal.append(reader.text[reader.at])
            reader.at += 1
    reader.at += 1


def _double(reader: Reader, literal: list[str]) -> set[int]:
    start = reader.at
    inner: set[int] = set()
    reader.at += 1
    while not reader.peek('"'):
        if reader.at >= len(reader.text):
            reader.fail('a " is not closed', start)
        char = reader.text[reader.at]
        if char == MARK:
            reader.mark("double")
            literal.append(PLACEHOLDER)
        elif char == "\\":
            quoted = reader.backslash_in_double()
            literal.append(quoted)
        elif char in "$`":
            inner |= _expansion(reader, literal, quoted=True)
        else:
            literal.append(char)
            reader.at += 1
    reader.at += 1
    return inner


def _expansion(reader: Reader, literal: list[str], *, quoted: bool) -> set[int]:
    """What a `$` or a backquote begins; returns the placeholders in substitutions in it."""
    start = reader.at
    if reader.peek("`"):
        literal.append(EXPANSION)
        return _backquote(reader, quoted=quoted)
    reader.at += 1
    following = reader.text[reader.at : reader.at + 1]
    if following == MARK:
        name = reader.template.names[reader.template.text.count(MARK, 0, reader.origin[reader.at])]
        reader.fail(f"write {{{name}}} for the parameter, or ${{{{{name}}}}} for the shell's variable", start)
    if reader.peek("\\\n"):
        reader.fail("a backslash at the end of a line stands behind a $")
    if not quoted and following == "'":
        _ansi(reader, literal)
        return set()
    if not quoted and following == '"':
        return _double(reader, literal)
    if following and following in "({[":
        literal.append(EXPANSION)
        return _bracketed(reader, start, quoted=quoted)
    match = _PARAMETER.match(reader.text, reader.at)
    if match is None:
        literal.append("$")
        return set()
    if match.group() == "_":
        reader.found.stores_everything = True
    literal.append(EXPANSION)
    reader.at = match.end() if not match.group().isdigit() else reader.at + 1
    return set()


def _bracketed(reader: Reader, start: int, *, quoted: bool) -> set[int]:
    """`$(...)`, `$((...))`, `$[...]` or `${...}`, from the bracket on."""
    first = len(reader.found.places)
    if reader.peek("(("):
        reader.at += 2
        read_arithmetic(reader, "$((")
    elif reader.peek("("):
        reader.at += 1
        return read_substitution(reader)
    elif reader.peek("["):
        reader.at += 1
        _subscript(reader, "$[", arithmetic=True)
    else:
        reader.at += 1
        _parameter(reader, start, quoted=quoted)
    return set(range(first, len(reader.found.places)))


def read_substitution(reader: Reader) -> set[int]:
    """The commands in `$(...)`, `<(...)`, up to and with the parenthesis."""
    start, first = reader.at, len(reader.found.places)
    outer, reader.pending = reader.pending, []
    reader.commands(reader, ")")
    if reader.pending or (outer and "\n" in reader.text[start : reader.at]):
        reader.fail("a here-document stands across a substitution", start)
    reader.pending = outer
    return set(range(first, len(reader.found.places)))


def _backquote(reader: Reader, *, quoted: bool) -> set[int]:
    """Commands in backquotes: bash takes some backslashes away, then reads them afresh."""
    start = reader.at
    reader.at += 1
    text: list[str] = []
    origin: list[int] = []
    while not reader.peek("`"):
        if reader.at >= len(reader.text):
            reader.fail("a ` is not closed", start)
        if reader.peek("\\"):
            following = reader.text[reader.at + 1 : reader.at + 2]
            if following == MARK:
                reader.backslash()
            if following and following in '$`\\"'[: 4 if quoted else 3]:
                reader.at += 1
        if reader.at < len(reader.text):
            text.append(reader.text[reader.at])
            origin.append(reader.origin[reader.at])
            reader.at += 1
    origin.append(reader.origin[reader.at])
    reader.at += 1
    first = len(reader.found.places)
    fresh = Reader(reader.template, "".join(text), origin, reader.found, reader.commands)
    fresh.again, fresh.stored = reader.again, reader.stored
    fresh.commands(fresh, "")
    return set(range(first, len(reader.found.places)))


def read_arithmetic(reader: Reader, opening: str) -> None:
    """Arithmetic behind `((` or `$((`, up to and with `))`."""
    start = reader.at
    before = reader.plainly("bash's arithmetic")
    depth = 0
    while depth or not reader.peek("))"):
        if reader.at >= len(reader.text):
            reader.fail(f"a {opening} is not closed", start - len(opening))
        if reader.peek(")") and not depth:
            reader.fail("two parentheses begin arithmetic; put a blank between them for a subshell", start - 2)
        depth += reader.peek("(") - reader.peek(")")
        read_plain_piece(reader, [])
    if re.search(r"[A-Za-z_$`]", reader.text[start : reader.at]):
        reader.flag_state("bash's arithmetic")
    reader.at += 2
    reader.again = before


def _subscript(reader: Reader, opening: str, *, arithmetic: bool = False) -> None:
    """What stands behind `[`, up to and with its `]`."""
    start = reader.at
    before = reader.plainly("bash's arithmetic" if arithmetic else "a subscript")
    depth = 0
    while depth or not reader.peek("]"):
        if reader.at >= len(reader.text):
            reader.fail(f"a {opening} is not closed", start - len(opening))
        depth += reader.peek("[") - reader.peek("]")
        read_plain_piece(reader, [])
    if not _PLAIN_SUBSCRIPT.fullmatch(reader.text[start : reader.at]):
        reader.flag_state("a subscript")
    reader.at += 1
    reader.again = before


def read_plain_piece(reader: Reader, literal: list[str]) -> None:
    """A piece of text where quotes and expansions mean what they do in a word, and blanks mean nothing."""
    if reader.peek(MARK):
        reader.mark("literal")
    else:
        read_piece(reader, literal)


def _array(reader: Reader) -> None:
    """The list of `name=(...)`."""
    start = reader.at
    reader.at += 1
    stored, reader.stored = reader.stored, True
    while not reader.peek(")"):
        if reader.at >= len(reader.text):
            reader.fail("a ( is not closed", start)
        char = reader.text[reader.at]
        if char == "\n" and reader.pending:
            reader.fail("a here-document stands across a list")
        if char in " \t\n":
            reader.at += 1
        elif char == "#":
            reader.comment()
        elif char == "[":
            reader.at += 1
            _subscript(reader, "[")
        elif char in ";&|(" or (char in "<>" and reader.text[reader.at + 1 : reader.at + 2] != "("):
            reader.fail(f"{char} can't stand in a list")
        else:
            read_word(reader, begins=False)
    reader.at += 1
    reader.stored = stored


def _parameter(reader: Reader, start: int, *, quoted: bool) -> None:
    """`${...}` behind its brace. A default value is a word; all else that can hold text is evaluated."""
    if reader.text[reader.at : reader.at + 1] in (" ", "\t", "\n", "|"):
        reader.fail("${ with commands in it is not understood", start)
    if reader.peek("!"):
        reader.flag_state("an indirect ${!...}")
    if re.compile(r"[!#][\w@*#?$!-]", re.ASCII).match(reader.text, reader.at):
        reader.at += 1
    name = _PARAMETER.match(reader.text, reader.at)
    reader.at = name.end() if name else reader.at
    if name and name.group() == "_":
        reader.found.stores_everything = True
    if name and reader.peek("["):
        reader.at += 1
        _subscript(reader, "[")
    operator = re.compile(r":?[-=?+]").match(reader.text, reader.at) if name else None
    if operator is not None:
        reader.at = operator.end()
        stored = reader.stored
        reader.stored = stored or "=" in operator.group()
        assigns_special = name is not None and name.group() in EVALUATED_VARIABLES and reader.stored
        _braced(reader, start, quoted=quoted, quotes=not quoted, who=name.group() if name and assigns_special else "")
        reader.stored = stored
        return
    if reader.peek(":") or reader.peek("@P"):
        reader.flag_state("an expansion ${name:offset} or ${name@P}")
    _braced(reader, start, quoted=quoted, quotes=True, who="" if reader.peek("}") else "an expansion ${...}")


def _braced(reader: Reader, start: int, *, quoted: bool, quotes: bool, who: str) -> None:
    """Text up to and with the } of `${...}`. `quotes`: a ' quotes in it. With `who`, plain values only."""
    before = reader.plainly(who) if who else reader.again
    while not reader.peek("}"):
        if reader.at >= len(reader.text):
            reader.fail("a ${ is not closed", start)
        if reader.peek(MARK):
            reader.mark("literal" if who else "double" if quoted else "bare")
        elif reader.peek("'") and not quotes:
            reader.at += 1
        elif reader.peek("\\\n"):
            reader.fail("a backslash at the end of a line stands in ${...}")
        elif reader.text[reader.at] in "$`" and quoted:
            _expansion(reader, [], quoted=True)
        elif reader.substitutes() and not quoted:
            reader.at += 2
            read_substitution(reader)
        else:
            read_piece(reader, [])
    reader.at += 1
    reader.again = before
