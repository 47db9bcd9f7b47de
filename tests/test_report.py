"""Progress that is passed on."""

from __future__ import annotations

import time

from orchestrator.report import seldom


def test_many_counts_become_few_and_lines_and_ends_get_through() -> None:
    told: list[tuple[str, int | None]] = []

    def report(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        told.append((text, done))

    say = seldom(report)
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + 0.25:
        count += 1
        say("work", "things", done=count, total=10**9)
    say("work", "a sentence")
    say("work", "things", done=10**9, total=10**9)
    counts = [done for text, done in told if text == "things"]
    assert counts[0] == 1
    assert len(counts) <= (time.monotonic() - begun) * 10 + 2 < count
    assert told[-2:] == [("a sentence", None), ("things", 10**9)]


def test_a_count_is_not_told_twice() -> None:
    told: list[int | None] = []

    def report(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        told.append(done)

    say = seldom(report)
    say("work", "things", done=1, total=9)
    time.sleep(0.12)
    say("work", "things", done=1, total=9)
    assert told == [1]
