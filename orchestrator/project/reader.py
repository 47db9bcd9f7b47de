"""A place in bash text that is being read, and what was found up to there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from orchestrator.errors import OrchError
from orchestrator.project.template import MARK, Template

Quoting = Literal["bare", "double", "single", "ansi", "comment", "literal"]
"""How a reference to a variable is written at a place; `literal`: none can be, only a plain value's own text."""


@dataclass(slots=True)
class Place:
    """One placeholder. `offset` is that in the template's text; `again` says who evaluates its value, "" for nobody.

    `stored`: the value may come to stand in a variable of the shell.
    """

    offset: int
    quoting: Quoting
    again: str
    stored: bool


@dataclass(frozen=True, slots=True)
class Document:
    """The lines with placeholders of a here-document, and the line that would end it early."""

    delimiter: str
    strip_tabs: bool
    lines: tuple[tuple[str, int], ...]
    """Each with MARK for its placeholders, and the index of the first of them among all places."""


@dataclass(slots=True)
class Findings:
    """What a scan found.

    `evaluates_state` says who evaluates what variables hold, `evaluates_stdin` who runs what it reads, `feeds_stdin`
    who does so if it is given something to read; "" for nobody. `stores_everything`: any value may come to stand in a
    variable. `has_streams`: there is a pipe or a redirected input.
    """

    places: list[Place] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    evaluates_state: str = ""
    evaluates_stdin: str = ""
    feeds_stdin: str = ""
    stores_everything: bool = False
    has_streams: bool = False


BLANK = " \t"
META = " \t\n;&|()<>"
"""What ends a word that is not quoted."""


@dataclass(slots=True)
class Pending:
    """A here-document whose body is still to come."""

    delimiter: str
    quoted: bool
    strip_tabs: bool


@dataclass(slots=True)
class Reader:
    """Reads `text` from `at`. `origin` gives the offset in the template's text for each character of `text`.

    `commands` reads a list of commands, up to its second argument. `again` and `stored` are what places get that
    are found now; `pending` are the here-documents whose bodies begin on the next line.
    """

    template: Template
    text: str
    origin: Sequence[int]
    found: Findings
    commands: Callable[[Reader, str], None]
    at: int = 0
    again: str = ""
    stored: bool = False
    pending: list[Pending] = field(default_factory=list)

    def fail(self, problem: str, offset: int | None = None) -> NoReturn:
        where = self.template.where(self.origin[min(self.at if offset is None else offset, len(self.text))])
        raise OrchError(f"the command can't be read as bash text at {where}: {problem}.")

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def substitutes(self) -> bool:
        """Whether a process substitution begins here."""
        return self.peek("<(") or self.peek(">(")

    def mark(self, quoting: Quoting) -> None:
        """Takes the placeholder that stands here."""
        self.found.places.append(Place(self.origin[self.at], quoting, self.again, self.stored))
        self.at += 1

    def backslash(self) -> str:
        """Takes a backslash and what it quotes; returns that."""
        quoted = self.text[self.at + 1 : self.at + 2]
        if quoted == MARK:
            self.fail("a backslash stands before a parameter; leave it out, a value needs no quoting")
        if quoted == "\n" and self.at and self.text[self.at - 1] not in " \t\n":
            following = self.text[self.at + 2 : self.at + 3]
            if following and following not in " \t\n":
                self.fail("a backslash at the end of a line joins two words; put a blank before it")
        self.at += 2
        return "" if quoted == "\n" else quoted

    def backslash_in_double(self) -> str:
        quoted = self.text[self.at + 1 : self.at + 2]
        if quoted == MARK:
            self.backslash()
        self.at += 2
        if quoted == "\n":
            return ""
        return quoted if quoted in '$`"\\' else f"\\{quoted}"

    def flag_state(self, who: str) -> None:
        self.found.evaluates_state = self.found.evaluates_state or who

    def comment(self) -> None:
        while self.at < len(self.text) and self.text[self.at] != "\n":
            if self.text[self.at] == MARK:
                self.found.places.append(Place(self.origin[self.at], "comment", "", False))
            self.at += 1

    def skip_blanks(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] in BLANK:
                self.at += 1
            elif self.peek("\\\n"):
                self.backslash()
            else:
                return

    def plainly(self, who: str) -> str:
        """From here on only plain values may stand; returns what held before."""
        before = self.again
        self.again = self.again or who
        return before
