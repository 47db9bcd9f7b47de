"""Where the last lines of a log begin."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.cli.logs import start_of_tail


@pytest.mark.parametrize("content", [b"", b"a", b"a\n", b"a\nb", b"a\nb\n", b"\n\n\n", b"x" * 70_000 + b"\ny\n"])
@pytest.mark.parametrize("lines", [0, 1, 2, 3, 10])
def test_the_tail_begins_at_a_line(tmp_path: Path, content: bytes, lines: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        start = start_of_tail(file, lines)
    expected = b"".join(content.splitlines(keepends=True)[-lines:]) if lines else b""
    assert content[start:] == expected


def test_the_tail_of_many_lines(tmp_path: Path) -> None:
    chance = random.Random(5)
    content = b"".join(b"x" * chance.randrange(300) + b"\n" for _ in range(3000))
    path = tmp_path / "log"
    path.write_bytes(content)
    with path.open("rb", buffering=0) as file:
        for lines in (1, 100, 1500, 2999, 3000, 3001):
            assert content[start_of_tail(file, lines) :] == b"".join(content.splitlines(keepends=True)[-lines:])
