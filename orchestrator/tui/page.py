"""A text that is read by the screen: wrapped, scrolled. Data and steps; no screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.cells import cell_len, chop_cells

from orchestrator.cli.text import broken
from orchestrator.tui.view import Line, cut

_NAMED = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")

_KEYS = "q back  Up/Down, PageUp/PageDown, Home/End move"


@dataclass(frozen=True, slots=True)
class Page:
    """`top` is the first wrapped line shown; `at_end` keeps the last one in view. No lines yet: they are being read.

    `other` is what Tab would show, where there is something else.
    """

    title: str
    lines: tuple[str, ...] | None = None
    top: int = 0
    at_end: bool = False
    other: str = ""


def paged(page: Page, width: int, height: int) -> tuple[Page, list[Line]]:
    """The page with `top` where it can be, and the lines of the screen: a title, the text, the keys."""
    wrapped = list(_wrapped(page.lines or (), max(1, width)))
    room = max(1, height - 2)
    last_top = max(0, len(wrapped) - room)
    top = last_top if page.at_end else min(page.top, last_top)
    page = replace(page, top=top, at_end=page.at_end or (top == last_top and last_top > 0))
    where = "reading" if page.lines is None else f"{min(top + room, len(wrapped))}/{len(wrapped)} lines"
    body: list[Line] = [((line, ""),) for line in wrapped[top : top + room]]
    body += [()] * (room - len(body))
    title: Line = ((page.title, "bold"), ("  " + where, ""))
    keys = f"Tab {page.other}  {_KEYS}" if page.other else _KEYS
    return page, [cut(title, width), *body, cut(((keys, "dim"),), width)]


def scrolled(page: Page, key: str, height: int) -> Page:
    """The page after a key; `paged` keeps it in bounds."""
    room = max(1, height - 2)
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": 1 - room, "pagedown": room - 1, "space": room - 1}
    if key in ("end", "G"):
        return replace(page, at_end=True)
    if key in ("home", "g"):
        return replace(page, top=0, at_end=False)
    step = steps.get(key, 0)
    return replace(page, top=max(0, page.top + step), at_end=page.at_end and step >= 0)


def _wrapped(lines: tuple[str, ...], width: int) -> Iterator[str]:
    for line in lines:
        for part in [line] if cell_len(line) <= width else broken(line, width, _indent(line, width)):
            yield from chop_cells(part, width) if cell_len(part) > width else [part]


def _indent(line: str, width: int) -> int:
    """Where a line goes on that is broken: below its value, where it has a name and a value."""
    named = _NAMED.match(line)
    return named.end() if named is not None and named.end() <= width // 2 else len(line) - len(line.lstrip())
