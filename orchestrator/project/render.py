"""A command with its values: never as text of the shell, but as variables that the text refers to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import OrchError
from orchestrator.project.parts import Script
from orchestrator.project.template import MARK, Template, parse_template

if TYPE_CHECKING:
    from orchestrator.project.reader import Document, Findings, Place

LONGEST = 128 * 1024
"""The most bytes that Linux takes in one argument or variable (MAX_ARG_STRLEN), with its final NUL."""

_SHOWN_VALUE = 60
_SHOWN_LINE = 300

_PLAIN = re.compile(r"(?!ORCH_P_)[A-Za-z0-9._/][A-Za-z0-9._/+-]*", re.ASCII)


def render(command: str, parameters: Mapping[str, str]) -> Script:
    """The bash text of a command, and the variables `ORCH_P_<n>` that hold the values it refers to.

    Each `{name}` becomes a reference, written for the quotes it stands in, so that the value is one word (or part
    of one) and bash never reads it as text. Lines stay where they were. Where bash or another interpreter would
    evaluate the value again, only a plain one (letters, digits, `._/+-`, not first `+` or `-`) is let through.

    Raises OrchError, with the place, for a template that can't be read, a value that can't stand in its place,
    one with a NUL, and one longer than the system takes.
    """
    template = parse_template(command, parameters)
    if not template.names:
        return Script(_bounded(template.text), {})
    from orchestrator.project.shell import scan

    found = scan(template)
    pairs = _in_order(template, found)
    variables: dict[str, str] = {}
    out: list[str] = []
    at = 0
    for spot, name in pairs:
        if spot.quoting != "comment":
            _check(template, spot, name, parameters)
        out.append(template.text[at : spot.offset])
        out.append(_written(spot, name, parameters, variables))
        at = spot.offset + 1
    out.append(template.text[at:])
    for document in found.documents:
        _check_document(template, found, document, parameters)
    return Script(_bounded("".join(out)), variables)


def shown_command(command: str, parameters: Mapping[str, str]) -> str:
    """The command for people: values filled in and quoted for the shell, on one line. It is never run.

    A value is cut to 60 characters, the line to 300. A template that can't be read is shown as it is.
    """
    try:
        template = parse_template(command, parameters)
        if not template.names:
            return _cut(_one_line(template.text), _SHOWN_LINE)
        from orchestrator.project.shell import scan

        pairs = _in_order(template, scan(template))
    except OrchError:
        return _cut(_one_line(command), _SHOWN_LINE)
    out: list[str] = []
    at = 0
    for spot, name in pairs:
        out.append(_one_line_part(template.text[at : spot.offset]))
        out.append(_shown(spot, name, _cut(parameters[name], _SHOWN_VALUE)))
        at = spot.offset + 1
    out.append(_one_line_part(template.text[at:]))
    return _cut("".join(out).strip(" ;"), _SHOWN_LINE)


def _in_order(template: Template, found: Findings) -> list[tuple[Place, str]]:
    """The places with their names, in the order of the text."""
    return list(zip(sorted(found.places, key=lambda spot: spot.offset), template.names, strict=True))


def _name_of(template: Template, spot: Place) -> str:
    return template.names[template.text.count(MARK, 0, spot.offset)]


def _variable(name: str, parameters: Mapping[str, str]) -> str:
    return f"ORCH_P_{list(parameters).index(name)}"


def _check(template: Template, spot: Place, name: str, parameters: Mapping[str, str]) -> None:
    value = parameters[name]
    if "\0" in value:
        raise OrchError(f"the value of parameter {name!r} holds a NUL character, which no program's argument can.")
    size = len(os.fsencode(f"{_variable(name, parameters)}={value}")) + 1
    if size > LONGEST:
        raise OrchError(
            f"the value of parameter {name!r} is {size:,} bytes long; the system takes {LONGEST:,} in one argument. "
            "Put it in a file, and give its path."
        )
    if spot.again and not _PLAIN.fullmatch(value):
        raise OrchError(
            f"parameter {name!r} is {value!r}, which can't stand at {template.where(spot.offset)} of the command: "
            f"{spot.again} would evaluate it there. Only letters, digits and . _ / + - are let through "
            "(not + or - first)."
        )


def _check_document(template: Template, found: Findings, document: Document, parameters: Mapping[str, str]) -> None:
    for line, first in document.lines:
        filled = line
        for number in range(first, first + line.count(MARK)):
            filled = filled.replace(MARK, parameters[_name_of(template, found.places[number])], 1)
        if (filled.lstrip("\t") if document.strip_tabs else filled) == document.delimiter:
            where = template.where(found.places[first].offset)
            raise OrchError(f"the value at {where} of the command would end its here-document {document.delimiter!r}.")


def _written(spot: Place, name: str, parameters: Mapping[str, str], variables: dict[str, str]) -> str:
    if spot.quoting == "comment":
        return f"{{{name}}}"
    if spot.quoting == "literal":
        return parameters[name]
    variable = _variable(name, parameters)
    variables[variable] = parameters[name]
    reference = f"${{{variable}}}"
    if spot.quoting == "bare":
        return f'"{reference}"'
    if spot.quoting == "single":
        return f"'\"{reference}\"'"
    if spot.quoting == "ansi":
        return f"'\"{reference}\"$'"
    return reference


def _bounded(text: str) -> str:
    if len(os.fsencode(text)) >= LONGEST:
        raise OrchError(f"the command is longer than the {LONGEST:,} bytes that the system takes; put it in a script.")
    return text


# --- for people -------------------------------------------------------------------------------------------------


def _shown(spot: Place, name: str, value: str) -> str:
    if spot.quoting == "comment":
        return f"{{{name}}}"
    if _PLAIN.fullmatch(value):
        return value
    import shlex

    word = shlex.quote(value) if value.isprintable() else _ansi(value)
    if spot.quoting == "bare":
        return word
    quote = {"double": ('"', '"'), "single": ("'", "'"), "ansi": ("'", "$'")}.get(spot.quoting, ("", ""))
    return f"{quote[0]}{word}{quote[1]}"


def _ansi(value: str) -> str:
    """A value with characters that don't print, as `$'...'`."""
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "'": "\\'", "\\": "\\\\"}
    out = []
    for char in value:
        if char in named:
            out.append(named[char])
        elif char.isprintable():
            out.append(char)
        else:
            out.append("".join(f"\\x{byte:02x}" for byte in os.fsencode(char)))
    return f"$'{''.join(out)}'"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _one_line(text: str) -> str:
    return _one_line_part(text).strip(" ;")


def _one_line_part(text: str) -> str:
    """Template text on one line: joined lines stay joined, ended ones are shown with a `;`."""
    # a match begins at the first of its blanks: tried at each of them, a long run takes minutes
    text = re.sub(r"(?<![ \t])[ \t]*\\\n[ \t]*", " ", text)
    text = re.sub(r"(?:^|(?<=\s))(then|do|else|\{|\(|\||&&|\|\|)[ \t]*\n\s*", r"\1 ", text)
    return re.sub(r"(?<![ \t])[ \t]*(?:;[ \t]*)?\n\s*", "; ", text)
