"""The lines of the dashboard, and the steps one can take on it, without a screen."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import ANY_TEXT
from rich.cells import cell_len
from tui.made_runs import id_at, time_text

from orchestrator.ledger.browse import PageRow
from orchestrator.live import LiveRun
from orchestrator.tui import state as states
from orchestrator.tui.page import Page, paged, scrolled
from orchestrator.tui.snapshot import Log, Question, Series, Snapshot
from orchestrator.tui.state import State
from orchestrator.tui.view import clock, dashboard, sparkline

NOW = 1_800_000_000.0


def row(number: int, **changes: object) -> PageRow:
    made = PageRow(
        run_id=id_at(number),
        status="finished",
        exit_code=0,
        name=None,
        started_at="2027-01-15T07:58:00Z",
        wall_seconds=3.2,
        url="https://example.org/wine.git",
        commit="c" * 40,
        subdir="",
        dirty=False,
        hostname="anna",
        verdict=None,
        entry_point="main",
        metrics=(("rmse", 0.774452),),
        params=(("alpha", "5.1"),),
    )
    return replace(made, **changes)


def lives_now(number: int, **changes: object) -> LiveRun:
    made = LiveRun(id_at(number), "running", NOW - 125, "wine", "c" * 40, "main", "python train.py", None)
    return replace(made, **changes)


def snapshot(lives: int = 0, count: int = 0, **changes: object) -> Snapshot:
    """`lives` live runs, newer than `count` ended ones, of which all have rows."""
    live = tuple(lives_now(count + n) for n in reversed(range(lives)))
    rows = {id_at(n): row(n) for n in reversed(range(count))}
    made = Snapshot(Question(), live, lives, total=lives + count, history=tuple(rows), rows=rows)
    return replace(made, **changes)


def at(seen: Snapshot, width: int = 80, height: int = 24) -> State:
    return states.seen(State(width=width, height=height), seen)


def texts(state: State) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in dashboard(state, NOW)]


# --- what is shown ----------------------------------------------------------------------------------------------


def test_the_screen_at_80_by_24() -> None:
    live = lives_now(9, cpu_percent=98.4, memory=412 * 2**20)
    waits = lives_now(8, status="preparing", source="beer", since=NOW - 3725, text="environment: solving")
    away = lives_now(7, name="tried", entry_point="train", since=NOW - 86399, host="login-2", heard=NOW - 41)
    rows = {
        id_at(3): row(3, verdict="reproduced", dirty=True, varies=True),
        id_at(2): row(2, status="failed", exit_code=137, wall_seconds=11230.0, name="tried"),
        id_at(1): row(1, status="lost", subdir="a/b", params=(("alpha", "0.5"), ("seed", "1"))),
    }
    seen = Snapshot(
        Question(log_of=id_at(9)),
        (live, waits, away),
        3,
        {id_at(9): Series("rmse", (3.0, 2.0, 1.0))},
        total=6,
        history=tuple(rows),
        rows=rows,
        log=Log(("epoch 1", "epoch 2")),
    )
    lines = texts(at(seen))
    assert lines == [
        "orch top  3 live, 6 runs",
        "  LIVE                  TIME   CPU   MEMORY  NAME   SOURCE  METRIC",
        "  018f000000097000      2:05   98%  412 MiB         wine    █▅▁ 1 rmse",
        "  018f000000087000   1:02:05     -        -         beer    preparing, environm…",
        "  018f000000077000  23:59:59     -        -  tried  wine    on login-2, seen 41…",
        "  HISTORY 3         NAME   STATUS              SOURCE    METRICS      PARAMETERS",
        "  018f000000037000         reproduced, varies  wine      rmse=0.7745  alpha=5.1",
        "  018f000000027000  tried  failed (137)        wine      rmse=0.7745  alpha=5.1",
        "  018f000000017000         lost                wine#a/b  rmse=0.7745  alpha=0.5…",
        "  LOG OF 018f000000097000",
        "  epoch 1",
        "  epoch 2",
        *[""] * 11,
        "Enter show  f follow  s stop  r replay  d diff  / filter  ? keys  q quit",
    ]


@pytest.mark.parametrize("width", [80, 119, 120, 160, 200])
def test_the_value_of_a_metric_is_in_view_however_many_points_it_has(width: int) -> None:
    seen = snapshot(1, 0, metrics={id_at(0): Series("loss", tuple(map(float, range(60))))})
    assert texts(at(seen, width))[2].endswith("█ 59 loss")


def test_where_not_all_live_runs_have_room_their_count_is_told() -> None:
    assert texts(states.move(at(snapshot(12, 3)), 7))[1].startswith("  LIVE 8/12 ")
    assert texts(states.move(at(snapshot(12, 3)), 13))[1].startswith("  LIVE 12 ")
    assert texts(at(snapshot(6, 3)))[1].startswith("  LIVE  ")


@pytest.mark.parametrize(
    ("output", "errors", "shown"),
    [
        (9, 0, ["out 5", "out 6", "out 7", "out 8"]),
        (0, 9, ["── stderr", "err 6", "err 7", "err 8"]),
        (9, 9, ["out 8", "── stderr", "err 7", "err 8"]),
        (1, 1, ["out 0", "── stderr", "err 0", ""]),
        (9, 1, ["out 7", "out 8", "── stderr", "err 0"]),
        (0, 0, ["", "", "", ""]),
    ],
)
def test_the_end_of_the_output_stands_above_that_of_the_errors(output: int, errors: int, shown: list[str]) -> None:
    log = Log(tuple(f"out {n}" for n in range(output)), tuple(f"err {n}" for n in range(errors)))
    lines = texts(at(snapshot(0, 50, question=Question(log_of=id_at(49)), log=log)))
    assert [line.strip(" ─") for line in lines[-5:-1]] == [line.strip(" ─") for line in shown]
    assert all(line.startswith("  ──") for line in lines if "stderr" in line)


def test_a_wide_screen_has_more_of_everything() -> None:
    lines = texts(at(snapshot(1, 100), 200, 50))
    assert len(lines) == 50
    assert lines[3].split() == ["HISTORY", "100", "STATUS", "AGE", "TOOK", "SOURCE", "METRICS", "PARAMETERS"]
    assert lines[4].split()[-2:] == ["rmse=0.7745", "alpha=5.1"]
    assert sum("wine@ccccccc" in line for line in lines) == 35 - 1 + 1
    live = lives_now(1, name="tried", entry_point="train", host="login-2", heard=NOW - 41)
    seen = Snapshot(Question(), (live,), 1, {id_at(1): Series("rmse", (3.0, 1.0))})
    line = texts(at(seen, 200, 50))[2]
    assert "tried  wine@ccccccc  train" in line
    assert line.endswith("on login-2, seen 41 s ago  █▁ 1 rmse")


@pytest.mark.parametrize("filter_", ["", "none such"])
def test_an_empty_history_says_why(filter_: str) -> None:
    text = "\n".join(texts(at(Snapshot(Question(filter=filter_)))))
    assert ("no such runs" in text) == bool(filter_)
    assert ("no runs yet" in text) == (not filter_)


@given(ANY_TEXT, st.floats(), st.integers(1, 210), st.integers(1, 60))
def test_no_text_of_a_run_breaks_a_line(text: str, number: float, width: int, height: int) -> None:
    live = lives_now(9, name=text, source=text, entry_point=text, text=text, host=text, cpu_percent=number, memory=1)
    rows = {id_at(1): row(1, name=text, url=text, status="failed", metrics=((text, number),), params=((text, text),))}
    series = {id_at(9): Series(text, (number, 1.0))}
    seen = Snapshot(Question(), (live,), 1, series, total=2, history=tuple(rows), rows=rows, error=text)
    lines = dashboard(replace(at(seen, width, height), filter=text), NOW)
    assert len(lines) <= height
    for line in lines:
        shown = "".join(part for part, _ in line)
        assert shown.isprintable()
        assert cell_len(shown) <= width


@given(st.lists(st.floats(), max_size=20), st.integers(1, 30))
def test_a_sparkline_is_as_long_as_its_points(points: list[float], width: int) -> None:
    line = sparkline(Series("m", tuple(points)), width)
    assert len(line) in (0, min(len(points), width))
    assert not set(line) - set(" ▁▂▃▄▅▆▇█")


def test_a_sparkline_goes_from_the_least_to_the_greatest() -> None:
    assert sparkline(Series("m", (0.0, 7.0, math.nan, 3.5)), 8) == "▁█ ▅"
    assert sparkline(Series("m", (2.0, 2.0)), 8) == "▄▄"


def test_times_as_a_clock_counts_them() -> None:
    assert [clock(s) for s in (-1, 7, 125, 11230, 97200)] == ["0:00", "0:07", "2:05", "3:07:10", "1d 03h"]


# --- steps ------------------------------------------------------------------------------------------------------


def test_the_cursor_goes_through_the_live_runs_into_the_history_and_stops_at_the_ends() -> None:
    state = at(snapshot(2, 3))
    walked = [state.selected]
    for _ in range(6):
        state = states.move(state, state.cursor + 1)
        walked.append(state.selected)
    assert walked == [id_at(n) for n in (4, 3, 2, 1, 0, 0, 0)]
    assert states.move(state, -5).selected == id_at(4)
    assert states.other_part(state).selected == id_at(4)
    assert states.other_part(states.other_part(state)).selected == id_at(2)


@given(st.integers(0, 30), st.integers(0, 300), st.lists(st.sampled_from(["up", "down", "pgup", "pgdn", "end", "tab"])))
def test_the_cursor_is_always_in_view_and_its_rows_are_asked_for(lives: int, count: int, steps: list[str]) -> None:
    state = at(snapshot(lives, count))
    for step in steps:
        state = {
            "up": lambda s: states.move(s, s.cursor - 1),
            "down": lambda s: states.move(s, s.cursor + 1),
            "pgup": lambda s: states.page(s, -1),
            "pgdn": lambda s: states.page(s, 1),
            "end": lambda s: states.move(s, 10**9),
            "tab": states.other_part,
        }[step](state)
        parts = states.layout(state)
        if state.cursor < lives:
            assert state.live_top <= state.cursor < state.live_top + parts.live
        elif count:
            assert state.top <= state.cursor - lives < state.top + parts.history
        question = states.question_of(state)
        assert question.first <= state.top
        assert state.top + parts.history <= question.first + question.count
        assert len(dashboard(state, NOW)) == 24


def test_the_cursor_stays_with_its_run_when_others_come_and_when_it_ends() -> None:
    state = states.move(at(snapshot(0, 50)), 30)
    assert state.selected == id_at(19)
    state = states.seen(state, snapshot(0, 60))
    assert (state.cursor, state.selected) == (40, id_at(19))
    state = states.move(states.seen(state, snapshot(3, 60)), 0)
    assert state.selected == id_at(62)
    state = states.seen(state, snapshot(0, 63))
    assert (state.cursor, state.selected) == (0, id_at(62))


def test_when_its_run_is_gone_the_cursor_is_near() -> None:
    state = states.move(at(snapshot(0, 50)), 30)
    rest = tuple(run_id for run_id in state.snapshot.history if run_id != state.selected)
    state = states.seen(state, replace(state.snapshot, history=rest))
    assert (state.cursor, state.selected) == (30, id_at(18))
    assert states.seen(state, Snapshot(Question())).selected is None


def test_a_filter_goes_to_the_newest_and_no_filter_stays() -> None:
    state = states.filtered(states.move(at(snapshot(0, 50)), 30), "x")
    assert states.question_of(state).filter == "x"
    few = tuple(id_at(n) for n in (40, 20, 10))
    state = states.move(states.seen(state, replace(snapshot(0, 50), history=few)), 1)
    assert state.selected == id_at(20)
    state = states.seen(states.filtered(state, ""), snapshot(0, 50))
    assert state.selected == id_at(20)


def test_a_filter_in_the_history_stays_there_whatever_lives() -> None:
    state = states.filtered(states.move(at(snapshot(3, 50)), 30), "x")
    seen = replace(snapshot(1, 50), question=Question(filter="x"))
    state = states.seen(state, seen)
    assert (state.cursor, state.selected) == (1, id_at(49))


def test_two_runs_are_marked_and_a_third_takes_the_place_of_the_first() -> None:
    state = at(snapshot(0, 5))
    for _ in range(3):
        state = states.move(states.mark(state), state.cursor + 1)
    assert state.marked == (id_at(3), id_at(2))
    assert [line[0] for line in texts(state)[2:6]] == [" ", "*", "*", " "]
    assert states.mark(states.move(state, 1)).marked == (id_at(2),)


# --- pages ------------------------------------------------------------------------------------------------------


def test_a_page_wraps_and_scrolls() -> None:
    page, lines = paged(Page("show", tuple(f"line {n} " + "x" * 15 for n in range(20))), 20, 12)
    assert len(lines) == 12
    assert [line[0][0] for line in lines[1:4]] == ["line 0", "x" * 15, "line 1"]
    page, lines = paged(scrolled(page, "pagedown", 12), 20, 12)
    assert page.top == 9
    page, lines = paged(scrolled(page, "end", 12), 20, 12)
    assert lines[10][0][0] == "x" * 15
    page, lines = paged(scrolled(page, "up", 12), 20, 12)
    assert lines[10][0][0] == "line 19"
    assert paged(scrolled(page, "home", 12), 20, 12)[0].top == 0


def test_a_page_is_broken_between_words_below_the_value_and_a_path_stands_alone() -> None:
    path = "/" + "p" * 50
    lines = ("run          abc", "command      python train.py 0.5 0.1 --verbose", f"lock         {path}")
    _, shown = paged(Page("show", lines), 40, 12)
    assert ["".join(text for text, _ in line) for line in shown[1:7]] == [
        "run          abc",
        "command      python train.py 0.5 0.1",
        " " * 13 + "--verbose",
        "lock",
        path[:40],
        path[40:],
    ]


def test_few_runs_leave_their_lines_to_the_log() -> None:
    log = Log(tuple(f"line {n}" for n in range(100)))
    lines = texts(at(snapshot(0, 6, question=Question(log_of=id_at(5), log_lines=100), log=log), 200, 50))
    assert lines[8].startswith("  LOG OF ")
    assert lines[9:49] == [f"  line {n}" for n in range(60, 100)]
    assert states.question_of(at(snapshot(0, 6), 200, 50)).log_lines == 40
    assert states.question_of(at(snapshot(0, 600), 200, 50)).log_lines == 10


def test_the_log_has_its_lines_and_the_history_its_own_where_there_are_many_runs() -> None:
    parts = states.layout(at(snapshot(0, 600)))
    assert (parts.history, parts.log) == (16, 4)


def test_parameters_that_differ_come_first_and_the_end_of_a_path_is_kept() -> None:
    rows = {
        id_at(n): row(n, subdir="examples/hello", url="/srv/a-long-name", params=(("a", "1"), ("seed", str(n))))
        for n in (2, 1)
    }
    rows[id_at(0)] = row(0)
    seen = Snapshot(Question(), total=3, history=tuple(rows), rows=rows)
    lines = texts(at(seen))
    assert all(text in lines[2] for text in ("…/hello", "rmse=0.7745", "seed=2 a=1"))
    assert all(text in lines[4] for text in ("wine", "rmse=0.7745", "alpha=5.1"))


def test_a_page_that_follows_stays_at_the_end_until_one_goes_up() -> None:
    page, lines = paged(Page("log", ("1",), at_end=True), 80, 5)
    page, lines = paged(replace(page, lines=tuple("123456")), 80, 5)
    assert [line[0][0] for line in lines[1:4]] == ["4", "5", "6"]
    page, lines = paged(scrolled(page, "up", 5), 80, 5)
    page, lines = paged(replace(page, lines=tuple("12345678")), 80, 5)
    assert [line[0][0] for line in lines[1:4]] == ["3", "4", "5"]


def test_a_start_time_that_is_none_harms_nobody() -> None:
    rows = {id_at(1): row(1, started_at="once"), id_at(2): row(2, started_at=time_text())}
    assert "?" in texts(at(Snapshot(Question(), total=2, history=tuple(rows), rows=rows)))[2]
