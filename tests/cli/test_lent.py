"""The terminal that a program is lent: what must not be asked of it again, what is undone, which keys leave it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.keyboard import split_detach
from orchestrator.cli.lent import Lent, ShownAgain, ShownLog


def shown_again(data: bytes) -> bytes:
    return ShownAgain().feed(data)


def undone(*pieces: bytes) -> bytes:
    lent = Lent()
    for piece in pieces:
        lent.note(piece)
    return lent.undo()


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


@pytest.mark.parametrize(
    ("done", "back"),
    [
        (b"text\r\n\x1b[H\x1b[2J\x1b]0;title\x07\x1b[1;31m", b"\x1b[0m"),
        (b"\x1b[38;5;0m", b"\x1b[0m"),
        (b"\x1b[?1049h", b"\x1b[?1049l"),
        (b"\x1b[?1049h\x1b[?25l\x1b[?2004;1000h \x1b[?2004l", b"\x1b[?25h\x1b[?1000l\x1b[?1049l"),
        (b"\x1b[?01049h", b"\x1b[?1049l"),
        (b"\x1b[4h", b"\x1b[4l"),
        (b"\x1b[2;10r", b"\x1b7\x1b[r\x1b8"),
        (b"\x1b=", b"\x1b>"),
        (b"\x1b(0", b"\x1b(B"),
        (b"\x1b)0\x0e", b"\x0f"),
        (b"\x1b[4 q", b"\x1b[0 q"),
        (b"\x1b[>4;2m", b"\x1b[>4m"),
        (b"\x1b[>1u", b"\x1b[<1u"),
        (b"\x1b[>1u\x1b[>5u\x1b[>7u\x1b[<u", b"\x1b[<2u"),
        (b"\x1b[=5u", b"\x1b[=0u"),
        (b"\x1b]8;;http://x\x07here", b"\x1b]8;;\x1b\\"),
    ],
)
def test_what_was_changed_is_undone_and_nothing_else(done: bytes, back: bytes) -> None:
    assert undone(done) == back


def test_each_screen_has_its_own_keyboard_flags() -> None:
    assert undone(b"\x1b[>1u\x1b[?1049h\x1b[>1u\x1b[>1u") == b"\x1b[<2u\x1b[?1049l\x1b[<1u"
    assert undone(b"\x1b[?1049h\x1b[>1u\x1b[?1049l") == b""


@pytest.mark.parametrize(
    "done",
    [
        b"",
        b"text \x1b[31mred\x1b[0m \xe2\x82\xac\n",
        b"\x1b[1m\x1b[m",
        b"\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?25h\x1b[?1000l\x1b[?1049l",
        b"\x1b[2;10r\x1b[r\x1b=\x1b>\x1b(0\x1b(B\x0e\x0f\x1b[4 q\x1b[ q\x1b[>4;2m\x1b[>4;m\x1b[>1u\x1b[<u",
        b"\x1b]8;id=1;http://x\x1b\\here\x1b]8;;\x1b\\",
        b"\x1b[?1049h\x1b[?25l\x1b[31m\x1b=\x1bc",
        b"\x1b]0;\x0e\x07 a title's",
    ],
)
def test_what_the_program_undid_itself_is_not_undone(done: bytes) -> None:
    assert undone(done) == b""


def test_it_is_undone_once() -> None:
    lent = Lent()
    lent.note(b"\x1b[?1049h")
    assert lent.undo() == b"\x1b[?1049l"
    assert lent.undo() == b""


def test_a_string_that_was_not_ended_does_not_swallow_what_comes_next() -> None:
    assert undone(b"\x1b]0;tit") == b"\x1b\\"
    assert undone(b"\x1bP" + b"x" * 10_000) == b"\x1b\\"


@pytest.mark.parametrize(
    ("data", "is_so"),
    [
        (b"", True),
        (b"a\n", True),
        (b"a", False),
        (b"a\n\x1b[?1049h full \x1b[5;5H screen \x1b[?1049l\r\x1b[?1l", True),
        (b"a\x1b[?1049h full\n\x1b[?1049l", False),
        (b"a\n\x1b[5;5H", False),
        (b"a\n\x1b[0m", True),
    ],
)
def test_whether_the_cursor_is_at_the_beginning_of_a_line(data: bytes, is_so: bool) -> None:
    lent = Lent()
    lent.note(data)
    assert lent.at_line_start == is_so


CHANGES = [
    b"\x1b[?1049h",
    b"\x1b[?1049l",
    b"\x1b[>1u",
    b"\x1b[1;5r",
    b"\x1b(0",
    b"\x1b]8;;http://x\x1b\\",
    b"\x1b]0;t\x07",
    b"\x1b[31m",
    b"\x1b=",
    b"\x0e",
    b"a\n",
]
PIECES = [
    *CHANGES,
    *(b"\x1b", b"[", b"]", b"P", b"_", b"^", b"X", b"Z", b"?", b">", b"=", b"$", b" ", b";", b"6", b"1004", b"0", b"8"),
    *(b"n", b"c", b"q", b"u", b"p", b"t", b"S", b"h", b"l", b"m", b"y", b"x", b"w", b"i", b"\\", b"\x05", b"\x07"),
    *(b"\x18", b"\n", b"\x7f", b"\xc2", b"\x9b", b"\x9d", b"\x90", b"\xe2", b"\x82", b"\xff"),
    *(b"\x1b[6n", b"\x1b[c", b"\x1b[>q", b"\x1b[?u", b"\x1b[18t", b"\x1b]11;?\x07", b"\x1bP+q544e\x1b\\"),
    *(b"\x1b[?2004$p", b"\x1b_Gi=1,a=q;\x1b\\", b"\x1b]52;c;?\x1b\\", b"\x1b[21", b"\x1b]0;a", b"\x1b[?1;1004h"),
]
streams = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=40).map(b"".join)


def cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


@given(streams, st.lists(st.integers(0, 1000), max_size=8))
def test_how_it_comes_in_pieces_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    again = ShownAgain()
    pieces = list(cut(data, cuts))
    assert b"".join(again.feed(piece) for piece in pieces) == shown_again(data)
    assert undone(*pieces) == undone(data)


class Answering:
    """A terminal as lenient as one can be; `answers` are the sequences that some terminal answers, or obeys blindly.

    Control characters within a sequence are obeyed, and the sequence goes on; ESC begins a new one.
    """

    STRINGS = "]P_^X"
    INTRODUCERS: ClassVar = {"\x9b": "[", "\x9d": "]", "\x90": "P", "\x9f": "_", "\x9e": "^", "\x98": "X"}
    ASKED = re.compile(
        r"\[(?:[<=>?]?[\d:;]*[cnxi]|[<=>?]?[\d:;]*(?:\$p|\$w|&u|\*y|#\||'\||'z|,\||\$u|#R|#S|\"v|\+w)|>[\d;]*q"
        r"|\?[\d;]*[uSmgRi]|0*(?:11|13|14|15|16|18|19|20|21)(?:;[\d;]*)?t|> q"
        r"|\?(?:[\d;]*;)?0*(?:1004|2031|2048)[;\d]*h)"
        r"|[P_^X].*|\](?!(?:0|1|2|8;[^;]*);).*|Z|%.*"
    )

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.sequence: str | None = None

    def see(self, data: bytes) -> None:
        for char in data.decode("utf-8", "surrogateescape"):
            if char in self.INTRODUCERS or char == "\x1b":
                if self.sequence and self.sequence[0] in self.STRINGS:
                    self.end()
                self.sequence = self.INTRODUCERS.get(char, "")
            elif char in "\x05\x9a":
                self.answers.append(char)
            elif char in "\x18\x1a":
                self.sequence = None
            elif self.sequence is not None:
                self.go_on(char)

    def go_on(self, char: str) -> None:
        assert self.sequence is not None
        if self.sequence[:1] in self.STRINGS and self.sequence:
            self.sequence += char
            if char == "\x07":
                self.end()
        elif " " <= char < "\x7f":
            self.sequence += char
            if self.sequence[0] == "[":
                is_whole = self.sequence != "[" and char >= "@"
            else:
                is_whole = char >= "0" and self.sequence not in self.STRINGS
            if is_whole:
                self.end()

    def end(self) -> None:
        if self.sequence and self.ASKED.fullmatch(self.sequence):
            self.answers.append(self.sequence)
        self.sequence = None


def answers(data: bytes) -> list[str]:
    terminal = Answering()
    terminal.see(data)
    return terminal.answers


QUESTIONS = [
    *(b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1b[=c", b"\x1b[5n", b"\x1b[6n", b"\x1b[?6n", b"\x1b[?996n", b"\x1b[>0q"),
    *(b"\x1b[?u", b"\x1b[4$p", b"\x1b[?2026$p", b"\x1b[x", b"\x1b[1x", b"\x1b[?2;1;0S", b"\x1b[?4m", b"\x1b[1;1*y"),
    *(b"\x1b[%dt" % report for report in (11, 13, 14, 15, 16, 18, 19, 20, 21)),
    *(b"\x1b[14;2t", b"\x1b[021t", b"\x1b[1$w", b"\x1b[&u", b"\x1b[1;2;3;4#|", b"\x1bZ", b"\x05", b"\x1b[5i"),
    *(
        b"\x1b]11;?\x07",
        b"\x1b]4;1;?\x1b\\",
        b"\x1b]52;c;?\x07",
        b"\x1b]10;red\x07",
        b"\x1b]1337;x\x07",
        b"\x1b]0?;x\x07",
    ),
    *(b"\x1bP+q544e\x1b\\", b"\x1bP$qm\x1b\\", b"\x1b_Gi=31,a=q;AAAA\x1b\\", b"\x1b^x\x1b\\", b"\x1bXx\x1b\\"),
    *(b"\x1b[?1004h", b"\x1b[?2048h", b"\xc2\x9b6n", b"\xc2\x9d11;?\x07", b"\xc2\x9a"),
]


@pytest.mark.parametrize("asked", QUESTIONS)
def test_a_question_is_not_asked_again_however_it_comes(asked: bytes) -> None:
    assert answers(asked + b"\x1b"), "the terminal of these tests must know it"
    for place in range(len(asked) + 1):
        again = ShownAgain()
        shown = again.feed(b"before" + asked[:place]) + again.feed(asked[place:] + b"after")
        assert answers(shown + b"\x1b") == []
        assert shown.startswith(b"before")
        assert shown.endswith(b"after")
        inside = shown_again(asked[:place] + b"\x1b[6n" + asked[place:])
        assert answers(inside + b"\x1b") == []


@given(streams, st.lists(st.integers(0, 1000), max_size=8))
def test_nothing_that_is_shown_again_makes_the_terminal_answer(data: bytes, cuts: list[int]) -> None:
    again = ShownAgain()
    shown = b"".join(again.feed(piece) for piece in cut(data, cuts))
    assert answers(shown + b"\x1b") == []
    assert shown_again(shown) == shown


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\r\t\b\x07"), max_size=100))
def test_text_is_shown_again_as_it_is(text: str) -> None:
    assert shown_again(text.encode()) == text.encode()


@pytest.mark.parametrize(
    "kept",
    [
        b"\x1b[1;31mred\x1b[m\x1b[4:3m\x1b[38;2;1;2;3m",
        b"\x1b[u\x1b[s\x1b[2 q\x1b[H\x1b[2J\x1b[K\x1b[10;5H\x1b[3A\x1b[?25l\x1b[?1049h\x1b[1;5r",
        b"\x1b]0;a title: \xc3\xa9\x07\x1b]2;t\x1b\\\x1b]8;id=1;http://x/\xc2\xb0\x1b\\link\x1b]8;;\x07",
        b"\x1b[22;0t\x1b[23;0t\x1b7\x1b8\x1b=\x1b>\x1b(0\x1b)B\x1bM\x1b#8\x1bc\x0e\x0f",
        b"\x1b[>1u\x1b[<u\x1b[=1;2u\x1b[>4;2m\x1b[!p",
    ],
)
def test_what_shows_something_is_kept(kept: bytes) -> None:
    assert shown_again(kept) == kept


def test_a_string_without_an_end_is_left_out_and_not_kept_in_memory() -> None:
    again = ShownAgain()
    assert b"".join(again.feed(b"\x1b]0;" * (i == 0) + b"x" * 1000) for i in range(1000)) == b""
    assert len(again._rest) < 5000
    assert again.feed(b"\x07text") == b"text"


def test_numbers_without_measure_are_no_hindrance() -> None:
    for data in (b"\x1b[?" + b"9" * 9000 + b"h", b"\x1b[<" + b"9" * 9000 + b"u", b"\x1b[?" + b"1;" * 9000 + b"h"):
        undone(data)
        shown_again(data)


def test_the_reports_that_a_living_program_waits_for_are_asked_for_after_all_of_it() -> None:
    again = ShownAgain()
    assert again.feed(b"\x1b[?1;1004h\x1b[?2048h\x1b[?2048l\x1b[?1002h") == b"\x1b[?1h\x1b[?1002h"
    assert again.end() == b"\x1b[?1004h"
    assert again.end() == b""


def test_what_begins_before_and_ends_after_is_whole() -> None:
    again = ShownAgain()
    assert again.feed(b"a\x1b[3") == b"a"
    assert again.end() == b"\x1b[3"


def test_a_log_on_a_terminal_is_shown_and_undone() -> None:
    log = ShownLog()
    assert log.feed(b"\x1b[?1049h\x1b[6nfull") == b"\x1b[?1049hfull"
    assert log.end() == b"\x1b[?1049l"
