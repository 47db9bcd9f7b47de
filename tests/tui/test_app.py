"""The dashboard with keys, on a screen in memory: a real home, real `orch` commands."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from made_records import made_home, made_spec
from textual.pilot import Pilot
from textual.widgets import Input
from tui.made_runs import add, ended, fill, id_at, live

from orchestrator.execute.rundir import RunDirectory
from orchestrator.model import Output, ProcessIdentity
from orchestrator.paths import Home
from orchestrator.tui.app import Dashboard, Leave
from orchestrator.tui.canvas import Canvas
from orchestrator.tui.state import State

ELSEWHERE = ProcessIdentity("elsewhen", "boot", 1, 1.0)
ORCH = Path(sys.executable).with_name("orch")
SIZES = [(80, 24), (200, 50)]

Script = Callable[["Screen"], Awaitable[None]]


class Screen:
    """What a user sees and types."""

    def __init__(self, app: Dashboard, pilot: Pilot[Leave]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def lines(self) -> list[str]:
        """The lines on the screen, as they are drawn."""
        canvas = self.app.screen.query_one(Canvas)
        return [canvas.render_line(y).text.rstrip() for y in range(canvas.size.height)]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def see(self, *texts: str, without: str | None = None) -> None:
        """Wait until all these are on the screen."""
        end = time.monotonic() + 8
        while not all(text in "\n".join(self.lines) for text in texts) or (
            without and without in "\n".join(self.lines)
        ):
            assert time.monotonic() < end, "\n".join(self.lines)
            await self.pilot.pause(0.02)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return made_home(tmp_path / "home")


def play(home: Home, script: Script, size: tuple[int, int] = (80, 24), state: State | None = None) -> Leave | None:
    """Show the dashboard to a script; what it left with."""

    async def show() -> Leave | None:
        app = Dashboard(home, state or State())
        async with app.run_test(size=size) as pilot:
            await script(Screen(app, pilot))
            if app.return_value is None:
                await pilot.press("q")
        return app.return_value

    return asyncio.run(show())


@pytest.mark.parametrize("size", SIZES)
def test_ten_thousand_runs_are_there_and_one_moves_through_them(home: Home, size: tuple[int, int]) -> None:
    fill(home, 10_000)

    async def script(screen: Screen) -> None:
        await screen.see("10000 runs", "1/10000", id_at(9999)[:16], "Enter show")
        await screen.press(*["pagedown"] * 20)
        row = 20 * (size[1] - 9 - (6 if size[1] == 50 else 0)) + 1
        await screen.see(f"{row}/10000", f"try-{10_000 - row}")
        await screen.press("end")
        await screen.see("10000/10000", "try-1")
        assert len(screen.lines) == size[1]

    play(home, script, size)


def test_the_filter_works_while_one_types_and_escape_ends_it(home: Home) -> None:
    fill(home, 1000)

    async def script(screen: Screen) -> None:
        await screen.see("HISTORY 1/1000")
        await screen.press("slash", *"seed=99")
        await screen.see("11 with: seed=99", "try-999", "try-99 ", without="try-899")
        await screen.press("down", "enter")
        await screen.see("HISTORY 2/11", "q quit")
        assert not screen.app.query_one(Input).display
        await screen.press("escape")
        await screen.see("/1000", "try-995")
        assert screen.app.state.selected == id_at(998)
        await screen.press("slash", *"q")
        await screen.see("no such runs")
        await screen.press("escape")
        await screen.see("HISTORY 1/1000")

    leave = play(home, script)
    assert leave is not None
    assert (leave.code, leave.replay) == (0, None)


def test_the_live_runs_stand_above_and_only_their_lines_change(home: Home) -> None:
    add(home, live(2, ELSEWHERE, name="busy"))
    add(home, ended(1))
    log = RunDirectory(home.run(id_at(2))).stdout
    log.write_text("first line\n")

    async def script(screen: Screen) -> None:
        await screen.see("1 live, 2 runs", "busy", "on anna", "LOG OF " + id_at(2)[:16], "first line")
        with log.open("a") as file:
            file.write("second line\n")
        await screen.see("second line")
        await screen.press("tab")
        await screen.see("HISTORY 1/1", "LOG OF " + id_at(1)[:16])

    play(home, script)


def test_names_are_text_and_no_markup_nor_orders_to_the_terminal(home: Home) -> None:
    add(home, ended(1, name="[red]x[/red]"))
    add(home, ended(2, name="\x1b[2Jgone"))
    log = RunDirectory(home.run(id_at(2))).stdout
    log.write_bytes(b"[bold]log[/bold] \x1b[2J\x1b]0;title\x07 [/]\n")

    async def script(screen: Screen) -> None:
        await screen.see("[red]x[/red]", r"\u001b[2Jgone", "[bold]log[/bold]")
        await screen.press("f")
        await screen.see("log of", "[bold]log[/bold]")
        await screen.press("q", "enter")
        await screen.see("status       finished")

    play(home, script, (200, 50))


def test_enter_shows_the_run_and_q_comes_back(home: Home) -> None:
    add(home, ended(1, name="tried"))

    async def script(screen: Screen) -> None:
        await screen.see("tried")
        await screen.press("enter")
        await screen.see("run          " + id_at(1), " lines", "q back")
        await screen.press("end")
        await screen.see("outputs", "model.pkl")
        await screen.press("q")
        await screen.see("orch top")

    play(home, script)


def test_d_compares_two_marked_runs_from_the_older_to_the_newer(home: Home) -> None:
    add(home, ended(1))
    add(home, ended(2, params={"depth": "7"}))

    async def script(screen: Screen) -> None:
        await screen.see("HISTORY 1/2")
        await screen.press("d")
        await screen.see("mark them with Space")
        await screen.press("space", "space")
        await screen.see("marked:", f"*{' '}{id_at(1)[:16]}")
        await screen.press("d")
        await screen.see(f"from {id_at(1)[:16]} to {id_at(2)[:16]}", "+ depth  7")

    play(home, script)


def test_f_follows_a_log_as_it_grows(home: Home) -> None:
    add(home, ended(1))
    log = RunDirectory(home.run(id_at(1))).stdout
    log.write_text("".join(f"line {n}\n" for n in range(100)))

    async def script(screen: Screen) -> None:
        await screen.see("line 99")
        await screen.press("f")
        await screen.see("100/100 lines", "line 78", "line 99")
        with log.open("a") as file:
            file.write("line 100\n")
        await screen.see("101/101 lines", "line 100")
        await screen.press("home")
        await screen.see("line 0", without="line 100")
        await screen.press("escape")
        await screen.see("orch top")

    play(home, script)


def test_output_and_errors_that_were_kept_apart_are_both_followed(home: Home) -> None:
    add(home, ended(1, status="failed", exit_code=1))
    directory = RunDirectory(home.run(id_at(1)))
    directory.stdout.write_text("epoch 1\n")
    directory.stderr.write_text("a traceback\n")

    async def script(screen: Screen) -> None:
        await screen.see("epoch 1", "── stderr", "a traceback")
        await screen.press("f")
        await screen.see("log of", "epoch 1", "Tab stderr", without="traceback")
        await screen.press("tab")
        await screen.see("stderr of", "a traceback", "Tab output", without="epoch")
        with directory.stderr.open("a") as file:
            file.write("Error: no\n")
        await screen.see("Error: no")
        await screen.press("tab")
        await screen.see("log of", "epoch 1", without="Error")

    play(home, script)


def test_the_filter_is_for_live_runs_too(home: Home) -> None:
    add(home, live(3, ELSEWHERE, name="busy"))
    add(home, live(2, ELSEWHERE, name="lazy"))
    add(home, ended(1, name="busy"))

    async def script(screen: Screen) -> None:
        await screen.see("2 live", "busy", "lazy")
        await screen.press("tab", "slash", *"busy")
        await screen.see("2 live", "2 with: busy", id_at(3)[:16], "HISTORY 1/1", without="lazy")
        await screen.press("escape")
        await screen.see("lazy")

    play(home, script)


def test_question_mark_tells_all_keys(home: Home) -> None:
    add(home, ended(1))

    async def script(screen: Screen) -> None:
        await screen.see("HISTORY 1/1", "? keys")
        await screen.press("question_mark")
        await screen.see("Space        mark it, for d", "Home and End", "Escape       all runs again")
        await screen.press("q")
        await screen.see("HISTORY 1/1")

    play(home, script)


@pytest.mark.parametrize("before", [(), ("slash",), ("enter",), ("f",)])
def test_ctrl_q_that_meant_a_replay_that_is_over_does_nothing(home: Home, before: tuple[str, ...]) -> None:
    add(home, ended(1))

    async def script(screen: Screen) -> None:
        await screen.see("HISTORY 1/1")
        await screen.press(*before, "ctrl+p", "ctrl+q")
        await screen.pilot.pause(0.1)
        assert screen.app.return_value is None
        assert screen.app.is_running
        await screen.press("escape")
        await screen.see("HISTORY 1/1")

    play(home, script)


def test_a_run_is_told_as_orch_list_tells_it(home: Home) -> None:
    spec = made_spec()
    for number, sha256 in ((1, "a"), (2, "b")):
        add(home, ended(number, pinned=spec, outputs=(Output("o", sha256 * 64, 1, 0o644),)))
    verdict = {"result": "differs", "outputs": []}
    add(home, ended(3, status="failed", exit_code=1, replay_of=id_at(1), verdict=verdict))
    add(home, ended(4, replay_of=id_at(1), pinned=spec))
    listed = subprocess.run([ORCH, "list"], capture_output=True, text=True, check=True).stdout
    told = ("finished, varies", "failed (1), differs", "finished, not compared, varies")
    assert all(text in listed for text in told), listed

    async def script(screen: Screen) -> None:
        await screen.see(*told)

    play(home, script, (200, 50))


def test_s_asks_and_only_y_stops(home: Home) -> None:
    add(home, live(2, ELSEWHERE))
    add(home, ended(1))

    async def script(screen: Screen) -> None:
        await screen.see("1 live")
        await screen.press("s")
        await screen.see(f"stop run {id_at(2)[:16]}? y/n")
        await screen.press("q")  # an answer, and no end
        await screen.see("q quit", without="y/n")
        await screen.press("s", "y")
        await screen.see("stopped there")
        await screen.press("down", "s")
        await screen.see("this one has ended")

    play(home, script)


def test_r_leaves_for_a_replay_and_the_state_goes_with_it(home: Home) -> None:
    fill(home, 100)

    async def script(screen: Screen) -> None:
        await screen.see("HISTORY 1/100")
        await screen.press("pagedown", "space", "r")
        await screen.see("now? y/n")
        await screen.press("n", "r", "y")

    leave = play(home, script)
    assert leave is not None
    assert leave.replay == leave.state.selected != None  # noqa: E711
    state = leave.state

    async def back(screen: Screen) -> None:
        await screen.see("marked:", f"HISTORY {state.cursor + 1}/100")

    play(home, back, state=state)


def test_r_does_not_leave_for_a_run_that_lives(home: Home) -> None:
    add(home, live(2, ELSEWHERE))

    async def script(screen: Screen) -> None:
        await screen.see("1 live")
        await screen.press("r")
        await screen.see("r replays a run that has ended; this one is running")

    leave = play(home, script)
    assert leave is not None
    assert leave.replay is None


def test_a_screen_that_becomes_small_and_large_again(home: Home) -> None:
    add(home, live(500, ELSEWHERE))
    fill(home, 100)

    async def script(screen: Screen) -> None:
        await screen.see("HISTORY 100")
        for size in [(20, 5), (1, 1), (200, 50), (80, 24)]:
            await screen.pilot.resize_terminal(*size)
            await screen.pilot.pause(0.05)
            assert len(screen.lines) == size[1]
        await screen.see("HISTORY 100", "q quit")

    play(home, script)


def test_an_error_of_the_ledger_is_shown_and_passes(home: Home) -> None:
    add(home, ended(1))

    async def script(screen: Screen) -> None:
        await screen.see("HISTORY 1/1")
        for path in home.root.glob("ledger.db*"):
            path.unlink()
        home.ledger.write_bytes(b"no ledger, by far" * 1000)
        await screen.see("is not an SQLite file", id_at(1)[:16])
        home.ledger.unlink()
        await screen.see(id_at(1)[:16], without="SQLite")

    play(home, script, (200, 50))
