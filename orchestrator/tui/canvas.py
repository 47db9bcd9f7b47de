"""A widget that shows lines, and draws again only those that have changed: over a slow line that is what counts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from orchestrator.tui.view import Line


class Canvas(Widget):
    """Lines of text and style, the first one on top. Text is shown as it is: there is no markup in it."""

    DEFAULT_CSS = "Canvas { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines from now on."""
        old, self.lines = self.lines, list(lines)
        for y in range(max(len(old), len(self.lines))):
            before, after = (lines[y] if y < len(lines) else () for lines in (old, self.lines))
            if before != after:  # what is blank in both is not written
                self.refresh(Region(0, y, max(_length(before), _length(after)), 1))

    def render_line(self, y: int) -> Strip:
        """One line, as Textual wants it."""
        line = self.lines[y] if y < len(self.lines) else ()
        strip = Strip([Segment(text, Style.parse(style)) for text, style in line])
        return strip.adjust_cell_length(self.size.width, Style.null())


def _length(line: Line) -> int:
    return sum(cell_len(text) for text, _ in line)
