"""`orch logs --plain`, and lengths of time as people type them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.durations import parse_duration
from orchestrator.cli.keyboard import split_detach
from orchestrator.cli.lent import Modes, without_questions
from orchestrator.cli.logs import start_of_tail
from orchestrator.cli.plain import PlainText
from orchestrator.errors import UsageError


def plain(data: bytes, kept: int = 200) -> bytes:
    text = PlainText(kept)
    return text.feed(data) + text.end()


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (b"a\nb", b"a\nb"),
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 \x1b(Bend", b"red link end"),
        (b"10%\r20%\r100%\n", b"100%\n"),
        (b"long text\rshort", b"shorttext"),
        (b"long text\rshort\x1b[K", b"short"),
        (b"abc\b\bX", b"aXc"),
        (b"one\ntwo\x1b[1A\r\x1b[2KONE\n", b"ONE\ntwo"),
        (b"one\ntwo\nthree\x1b[2A\r\x1b[Jgone", b"gone"),
        (b"a\x1b[3Cb\x1b[1GX\x1b[1D\x1b[1DY", b"Y   b"),
        ("äöü\r\n€".encode(), "äöü\n€".encode()),
        (b"\xff\xfe\x07x\x00", b"\xff\xfex"),
        (b"a\tb\n", b"a\tb\n"),
        (b"\x1bP1$r\x1b\\x\x1b7\x1b8y\x1bc", b"xy"),
        (b"end\x1b[", b"end"),
    ],
)
def test_what_is_left(written: bytes, left: bytes) -> None:
    assert plain(written) == left


PIECES = [
    b"\x1b",
    b"[",
    b"]0;",
    b"\x1b[2K",
    b"\x1b[1A",
    b"\r",
    b"\n",
    b"\x07",
    b"\x1b\\",
    b"\x1bP",
    b"text",
    "\u20ac".encode(),
    b"\xff",
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=5)).map(b"".join), st.integers(1, 40))
def test_how_it_comes_in_pieces_makes_no_difference(data: bytes, size: int) -> None:
    text = PlainText(200)
    pieces = b"".join(text.feed(data[i : i + size]) for i in range(0, len(data), size)) + text.end()
    assert pieces == plain(data)


@given(st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",), exclude_characters="\x7f"), max_size=100))
def test_text_is_left_as_it_is(text: str) -> None:
    assert plain(text.encode()) == text.encode()


def test_lines_far_above_are_given_out_while_more_comes() -> None:
    text = PlainText(2)
    assert text.feed(b"1\n2\n3\n4\n") == b"1\n2\n"
    assert text.feed(b"\x1b[9A*") == b""
    assert text.end() == b"*\n4\n"


def test_a_sequence_without_end_does_not_hold_everything_back() -> None:
    assert plain(b"\x1b]0;" + b"x" * 10_000 + b"\nend\n").endswith(b"\nend\n")


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


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("90s", 90), ("1.5m", 90), ("10 min", 600), ("2h", 7200), ("1d", 86400)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "s", "1e9", "nan", "inf", "٣", "9" * 30, "10m "])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout takes a length of time"):
        parse_duration(text, "--timeout")


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"abc", (b"abc", b"", False)),
        (b"a\x10", (b"a", b"\x10", False)),
        (b"\x10\x11", (b"", b"", True)),
        (b"a\x10\x10\x11b", (b"a\x10", b"", True)),
        (b"\x11\x10a", (b"\x11\x10a", b"", False)),
        (b"\x10\x10", (b"\x10", b"\x10", False)),
    ],
)
def test_the_detach_keys(data: bytes, parts: tuple[bytes, bytes, bool]) -> None:
    assert split_detach(data) == parts


def test_modes_are_undone_only_when_they_are_set() -> None:
    modes = Modes()
    modes.note(b"\x1b[?1049h\x1b[?25l\x1b[?2004;1000h text \x1b[?2004l")
    assert modes.undo() == b"\x1b[?25h\x1b[?1000l\x1b[?1049l\x1b[0m"
    modes.note(b"\x1b[?1000l\x1b[?25h\x1b[?1049l")
    assert modes.undo() == b""


def test_questions_to_the_terminal_are_left_out_and_nothing_else() -> None:
    asked = b"\x1b[6n\x1b[c\x1b[>c\x1b[?6n\x1b]11;?\x07\x1b]4;1;?\x1b\\\x1b[?u\x1b[18t\x1bP+q544e\x1b\\"
    kept = b"\x1b[1;31mred\x1b[u\x1b[2 q\x1b]0;title\x07\x1b[22;0t\x1b[H\x1b[2J"
    assert without_questions(asked + kept + asked) == kept
