"""Where each placeholder of a command stands in bash's eyes: in which quotes, and who would evaluate its value again.

A scanner of bash text, after the grammar of bash 5.2. It need not find every error of the text (bash will), but it
must never take a place where a value is evaluated for one where it is not. So it is cautious: what it does
not understand is refused, and who evaluates anything a variable or a pipe holds makes every value that may come
to it suspect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orchestrator.errors import OrchError
from orchestrator.project.evaluates import EXPANSION, PLACEHOLDER, Word, assigned_name, judge
from orchestrator.project.reader import BLANK, META, Document, Findings, Pending, Place, Reader
from orchestrator.project.template import MARK, Template
from orchestrator.project.words import read_arithmetic, read_plain_piece, read_substitution, read_word

_RESERVED = frozenset("if then elif else fi while until do done { } ! esac".split())
_ARITHMETIC_TEST = frozenset("-eq -ne -lt -le -gt -ge -v -R".split())


@dataclass(slots=True)
class _Command:
    """A simple command as it is being read."""

    words: list[Word] = field(default_factory=list)
    timed: bool = False

    @property
    def begins(self) -> bool:
        """Whether the next word is in the place of a command or an assignment."""
        return all(assigned_name(word.literal) for word in self.words)


@dataclass(slots=True)
class _List:
    """Commands as they are being read, and how many `case` commands stand open among them."""

    command: _Command = field(default_factory=_Command)
    cases: int = 0


def scan(template: Template) -> Findings:
    """Scans a command. Raises OrchError, with the place, for text that bash can't read or this can't judge."""
    found = Findings()
    try:
        commands(Reader(template, template.text, range(len(template.text) + 1), found, commands), "")
    except RecursionError as error:
        raise OrchError("the command is nested too deeply to be read; put it in a script.") from error
    stdin = found.evaluates_stdin or (found.feeds_stdin if found.has_streams else "")
    for spot in found.places:
        if not spot.again and stdin:
            spot.again = f"{stdin}, which runs what it reads,"
        if not spot.again and (spot.stored or found.stores_everything) and found.evaluates_state:
            spot.again = f"{found.evaluates_state}, which may evaluate a variable that holds it,"
    return found


def commands(reader: Reader, end: str) -> None:
    """Reads commands up to `end`: ")" of a subshell or substitution, "" for the end of the text."""
    start = reader.at
    reading = _List()
    while reader.at < len(reader.text):
        if reader.peek(")") and not reading.cases:
            _finish(reader, reading.command)
            if end != ")":
                reader.fail("a ) closes nothing")
            reader.at += 1
            return
        _token(reader, reading)
    if end:
        reader.fail("a ( is not closed", start - 1)
    _finish(reader, reading.command)
    if reader.pending:
        reader.fail(f"the here-document {reader.pending[0].delimiter!r} does not end")


def _token(reader: Reader, reading: _List) -> None:
    """Reads one token of a list of commands, and what belongs to it."""
    char = reader.text[reader.at]
    if char in BLANK or reader.peek("\\\n"):
        reader.skip_blanks()
    elif char == "#":
        reader.comment()
    elif char == ")":
        reader.at += 1
        reading.command = _Command()
    elif char == "(":
        reading.command = _parenthesis(reader, reading.command)
    elif char in "\n;" or (char in "&|" and not reader.peek("&>")):
        _operator(reader, char)
        _finish(reader, reading.command)
        reading.command = _Command()
    elif char in "<>&" and not reader.substitutes():
        _redirection(reader)
    else:
        reading.cases += _command_word(reader, reading.command)


def _operator(reader: Reader, char: str) -> None:
    reader.at += 1
    if char == "|" and not reader.peek("|"):
        reader.found.has_streams = True
    if char == "\n":
        _documents(reader)
    while char in "&|;" and reader.at < len(reader.text) and reader.text[reader.at] in "&|;":
        reader.at += 1


def _parenthesis(reader: Reader, command: _Command) -> _Command:
    """A ( where a word may begin: arithmetic, a subshell, or the () of a function."""
    if reader.peek("((") and (not command.words or command.words[0].literal == "for"):
        reader.at += 2
        read_arithmetic(reader, "((")
        return command
    if command.words and command.words[0].literal != "case":
        if not re.compile(r"\([ \t]*\)").match(reader.text, reader.at):
            reader.fail("a ( stands behind a word")
        reader.found.stores_everything = True
        for number in range(command.words[0].first, len(reader.found.places)):
            reader.found.places[number].again = "bash, in the name of a function,"
    reader.at += 1
    commands(reader, ")")
    return _Command()


def _command_word(reader: Reader, command: _Command) -> int:
    """Reads a word of a command, or a reserved word; returns the change in open `case` commands."""
    start = reader.at
    if command.begins and reader.peek("[[") and reader.text[reader.at + 2 : reader.at + 3] in (*META, "\\", ""):
        _condition(reader)
        return 0
    word = read_word(reader, begins=command.begins or _declares(command))
    raw = reader.text[start : reader.at]
    following = reader.text[reader.at : reader.at + 1]
    if following and following in "<>" and re.fullmatch(r"\d+|\{\w+\}", raw, re.ASCII):
        return 0
    if not command.words:
        if raw in ("time", "-p", "--") and (raw == "time" or command.timed):
            command.timed = True
            return 0
        if raw == "coproc":
            reader.fail("coproc with parameters is not understood", start)
        if raw == "function":
            reader.skip_blanks()
            read_word(reader, begins=False)
            reader.found.stores_everything = True
            return 0
        if raw in _RESERVED:
            return -1 if raw == "esac" else 0
    command.words.append(word)
    return 1 if raw == "case" and len(command.words) == 1 else 0


def _declares(command: _Command) -> bool:
    names = {word.literal for word in command.words}
    return bool(names & {"alias", "declare", "eval", "export", "let", "local", "readonly", "typeset"})


def _finish(reader: Reader, command: _Command) -> None:
    """Judges a command that is complete."""
    words = command.words
    verdict = judge(words)
    found = reader.found
    if verdict.evaluates_state:
        reader.flag_state(verdict.evaluates_state)
    found.evaluates_stdin = found.evaluates_stdin or verdict.evaluates_stdin
    found.feeds_stdin = found.feeds_stdin or verdict.feeds_stdin
    found.stores_everything |= verdict.reads
    for code, arguments, runner in verdict.codes:
        if who := _nested_code(code):
            verdict.again.update({index: who for index in arguments if words[index].holds})
            found.feeds_stdin = found.feeds_stdin or runner
    for index, word in enumerate(words):
        stored = verdict.stores or (assigned_name(word.literal) is not None)
        for number in range(word.first, word.last):
            spot = found.places[number]
            spot.again = spot.again or verdict.again.get(index, "")
            spot.stored |= stored
            if number in verdict.inner and not spot.again:
                spot.again = "bash, which runs what the substitution prints,"


def _redirection(reader: Reader) -> None:
    """An operator such as `>`, `2>&1`, `<<<`, `<<-`, and its word."""
    match = re.compile(r"&>>?|<<<|<<-?|<>|>>|>\||[<>]&?").match(reader.text, reader.at)
    if match is None:
        reader.fail("an operator is not understood")
    operator = match.group()
    reader.found.has_streams |= operator[0] == "<"
    reader.at = match.end()
    reader.skip_blanks()
    start = reader.at
    if reader.at >= len(reader.text) or (reader.text[reader.at] in META and not reader.substitutes()):
        reader.fail(f"a word is missing after {operator}")
    word = read_word(reader, begins=False)
    if not operator.startswith("<<") or operator == "<<<":
        return
    raw = reader.text[start : reader.at]
    if word.holds or word.live or "`" in raw or "$" in raw:
        reader.fail("the end of a here-document is a plain word", start)
    quoted = any(char in raw for char in "'\"\\")
    delimiter = re.sub(r"\\(.)|[\"']", r"\1", raw) if quoted else raw
    reader.pending.append(Pending(delimiter, quoted, operator == "<<-"))


def _documents(reader: Reader) -> None:
    """The bodies of the here-documents that were announced on the line that just ended."""
    for pending in reader.pending:
        _document(reader, pending)
    reader.pending = []


def _document(reader: Reader, pending: Pending) -> None:
    lines: list[tuple[str, int]] = []
    start = reader.at
    line = ""
    while True:
        if reader.at >= len(reader.text):
            reader.fail(f"the here-document {pending.delimiter!r} does not end", start)
        end = reader.text.find("\n", reader.at)
        end = len(reader.text) if end < 0 else end
        first = len(reader.found.places)
        part = reader.text[reader.at : end]
        for offset in range(reader.at, end):
            if reader.text[offset] == MARK:
                reader.found.places.append(
                    Place(reader.origin[offset], "literal", "bash, in a here-document,", reader.stored)
                )
        reader.at = min(end + 1, len(reader.text))
        line += part
        if not pending.quoted and (len(part) - len(part.rstrip("\\"))) % 2:
            line = line[:-1]
            if MARK in line:
                reader.fail("a line of a here-document with a parameter ends in a backslash", end)
            continue
        if MARK in line:
            lines.append((line, first))
        elif (line.lstrip("\t") if pending.strip_tabs else line) == pending.delimiter:
            break
        if not pending.quoted and re.search(r"\$[({\[]|`", line):
            reader.flag_state("an expansion in a here-document")
        line = ""
    reader.found.documents.append(Document(pending.delimiter, pending.strip_tabs, tuple(lines)))


def _condition(reader: Reader) -> None:
    """`[[ ... ]]`: some of its operators evaluate, so nothing but plain values."""
    start = reader.at
    reader.at += 2
    before = reader.plainly("[[ ]]")
    words: list[str] = []
    while True:
        if reader.at >= len(reader.text):
            reader.fail("a [[ is not closed", start)
        char = reader.text[reader.at]
        if char == "\n" and reader.pending:
            reader.fail("a here-document begins before a [[", start)
        if char in META and not reader.substitutes():
            reader.at += 1
            continue
        if reader.peek("]]") and (reader.text[reader.at + 2 : reader.at + 3] or " ") in META:
            break
        literal: list[str] = []
        if char == "#":
            reader.fail("a comment stands in [[ ]]")
        if reader.substitutes():
            reader.at += 2
            read_substitution(reader)
        while reader.at < len(reader.text) and reader.text[reader.at] not in META:
            read_plain_piece(reader, literal)
        words.append("".join(literal))
    if _ARITHMETIC_TEST.intersection(words):
        reader.flag_state("[[ ]]")
    reader.at += 2
    reader.again = before


def _nested_code(code: str) -> str:
    """Who in a literal shell program may evaluate its arguments again, "" for nobody."""
    if PLACEHOLDER in code or EXPANSION in code:
        return "the program of a nested shell"
    template = Template(code, code, (), tuple(range(len(code) + 1)))
    try:
        found = scan(template)
    except OrchError:
        return "the program of a nested shell"
    return found.evaluates_state or found.evaluates_stdin or found.feeds_stdin
