"""What is left of a log when a terminal has shown all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plain import PlainText


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
        (b"a\xc2\x9b6n\xc2\x85b", b"a6nb"),
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


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=100))
def test_text_is_left_as_it_is(text: str) -> None:
    assert plain(text.encode()) == text.encode()


def test_lines_far_above_are_given_out_while_more_comes() -> None:
    text = PlainText(2)
    assert text.feed(b"1\n2\n3\n4\n") == b"1\n2\n"
    assert text.feed(b"\x1b[9A*") == b""
    assert text.end() == b"*\n4\n"


def test_a_sequence_without_end_does_not_hold_everything_back() -> None:
    assert plain(b"\x1b]0;" + b"x" * 10_000 + b"\nend\n").endswith(b"\nend\n")


@pytest.mark.parametrize(
    "written",
    [
        b"\x1b[10000Gx\n" * 20_000,
        b"\x1b[9999C" * 20_000 + b"x\n",
        b"\x1b[9999Cx" * 20_000,
        b"x" * 20_000 + b"\x1b[9999Cx\x1b[2Kx" * 20_000,
        b"x" * 200_000 + b"\n" * 190 + b"\x1b[190A\x1b[199999C" + b"x\x1b[B" * 190,
        b"x" * 200_000 + b"\x1b[2K\x1b[A" * 200 + b"x\n" * 200,
    ],
)
def test_blanks_are_not_made_without_measure(written: bytes) -> None:
    assert len(plain(written)) < 17 * len(written) + (1 << 20)


def test_a_cursor_that_is_moved_far_to_the_right_stays_where_a_terminal_ends() -> None:
    assert plain(b"\x1b[9999Gx") == b" " * 1000 + b"x"
    assert plain(b"y" * 5000 + b"\x1b[9999Cx") == b"y" * 5000 + b"x"
    assert plain(b"y" * 5000 + b"\x1b[2Kx") == b" " * 1000 + b"x"


def test_what_stands_in_columns_is_kept_in_a_long_log() -> None:
    line = b"\x1b[60G[  OK  ]\n"
    assert plain(line * 50_000) == (b" " * 59 + b"[  OK  ]\n") * 50_000
