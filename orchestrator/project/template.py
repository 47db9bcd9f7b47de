"""The outer syntax of a command: `{name}` is a parameter, `{{` and `}}` are braces, as `str.format` has them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.errors import OrchError

MARK = "\0"
"""Stands for a placeholder in a `Template`'s text. bash text can't hold it."""


@dataclass(frozen=True, slots=True)
class Template:
    """A command taken apart: `text` is bash text with MARK for each placeholder, `names` are theirs, in order.

    `origins` gives for each character of `text` its offset in the command (one more for the end).
    """

    command: str
    text: str
    names: tuple[str, ...]
    origins: tuple[int, ...]

    def where(self, offset: int) -> str:
        """The place of a character of `text` in the command, for people."""
        return place(self.command, self.origins[offset])


def place(command: str, offset: int) -> str:
    """An offset in the command as people count: lines and columns from 1."""
    line = command.count("\n", 0, offset) + 1
    column = offset - (command.rfind("\n", 0, offset) + 1) + 1
    return f"column {column}" if "\n" not in command.strip() else f"line {line}, column {column}"


def parse_template(command: str, known: Collection[str], *, what: str = "the command") -> Template:
    """Takes a command apart. `known` are the names that `{name}` may have; `what` names the command in errors.

    Raises OrchError for an unknown name, for anything else of `str.format`'s language (`{}`, `{0}`, `{a.b}`,
    `{a[0]}`, `{a!r}`, `{a:>3}`), and for a single brace, each with its place.
    """
    if MARK in command:
        raise OrchError(f"{what} holds a NUL character at {place(command, command.index(MARK))}; bash can't take one.")
    text: list[str] = []
    names: list[str] = []
    origins: list[int] = []
    at = 0
    while at < len(command):
        origins.append(at)
        pair = command[at : at + 2]
        if pair in ("{{", "}}"):
            text.append(pair[0])
            at += 2
        elif command[at] == "{":
            name = _field(command, at, known, what)
            names.append(name)
            text.append(MARK)
            at += len(name) + 2
        elif command[at] == "}":
            raise OrchError(f"{what} has a single }} at {place(command, at)}; a brace of the shell is written }}}}.")
        else:
            text.append(command[at])
            at += 1
    origins.append(len(command))
    return Template(command, "".join(text), tuple(names), tuple(origins))


def escape(text: str) -> str:
    """Text as a template writes it: its braces doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def _field(command: str, at: int, known: Collection[str], what: str) -> str:
    end = command.find("}", at)
    name = command[at + 1 : end]
    where = place(command, at)
    if end < 0 or "\n" in name:
        raise OrchError(f"{what} has a single {{ at {where}; a brace of the shell is written {{{{.")
    if name in known:
        return name
    if not name or name.isdigit():
        raise OrchError(
            f"{what} has {{{name}}} at {where}; write the parameter's name in it, or double the braces of the shell."
        )
    if name.replace("-", "_").isidentifier():
        import difflib

        if command[at - 1 : at] == "$":
            hint = f"a shell variable is written ${{{{{name}}}}}"
        elif near := difflib.get_close_matches(name, known, 1):
            hint = f"did it mean {{{near[0]}}}?"
        else:
            hint = f"it has {', '.join(known) or 'none'}; a brace of the shell is written {{{{"
        raise OrchError(f"{what} uses a parameter {name!r} at {where}, which is not declared: {hint}.")
    raise OrchError(
        f"{what} has {{{name}}} at {where}; only {{name}} is understood, without attribute, index, conversion or "
        "format, and a brace of the shell is doubled."
    )
