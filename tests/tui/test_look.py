"""What the dashboard reads, without a screen."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_records import made_home, made_spec
from tui.made_runs import add, ended, fill, id_at, live

from orchestrator import journal, ledger
from orchestrator.execute.identity import identify
from orchestrator.execute.rundir import RunDirectory, create_run_directory
from orchestrator.fields import fields_to_json
from orchestrator.ledger.browse import matching_runs, page_rows
from orchestrator.live import LiveRun, live_runs
from orchestrator.model import Metric, ProcessIdentity, Source
from orchestrator.paths import Home
from orchestrator.tui.look import Desk, Eye, ask, close, keep_looking, look
from orchestrator.tui.snapshot import Log, Question, Snapshot

DEAD = ProcessIdentity("elsewhen", "boot", 1, 1.0)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "home")


@pytest.fixture
def eye(home: Home) -> Iterator[Eye]:
    eye = Eye(home)
    yield eye
    eye.close()


def again(eye: Eye, question: Question | None = None) -> Snapshot:
    """The next look, as if a second had passed."""
    eye.live_at = 0.0
    return look(eye, question or Question())


def me() -> ProcessIdentity:
    identity = identify(os.getpid())
    assert identity is not None
    return identity


# --- history ----------------------------------------------------------------------------------------------------


def test_an_empty_home_has_nothing_to_show(eye: Eye) -> None:
    assert look(eye, Question()) == Snapshot(Question())


def test_the_history_is_newest_first_and_only_the_window_has_rows(home: Home, eye: Eye) -> None:
    fill(home, 500)
    seen = look(eye, Question(first=100, count=20))
    assert seen.total == len(seen.history) == 500
    assert list(seen.history) == [id_at(n) for n in range(499, -1, -1)]
    assert list(seen.rows) == list(seen.history[100:120])
    row = seen.rows[id_at(399)]
    assert (row.name, row.status, dict(row.params)) == ("try-399", "finished", {"seed": "399", "alpha": "5.1"})
    assert [name for name, _ in row.metrics] == ["mae", "r2", "rmse"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {1, 2, 3}),
        ("WINE", {1, 3}),
        ("alpha=0.5", {2}),
        ("failed", {3}),
        ("wine failed", {3}),
        ("wine alpha=0.5", set()),
        ("tried %", {1}),
        ("50%_", {1}),
        ("prose", {2}),
        ("reproduced", {1}),
        (id_at(2), {2}),
    ],
)
def test_the_filter_wants_each_word_somewhere(home: Home, eye: Eye, text: str, found: set[int]) -> None:
    other = replace(made_spec(), source=Source("https://example.org/beer.git", "e" * 40, "d" * 40, 1, "prose"))
    add(home, ended(1, name="Tried 50%_off", replay_of=id_at(2), verdict={"result": "reproduced", "outputs": []}))
    add(home, ended(2, pinned=other, params={"alpha": "0.5"}))
    add(home, ended(3, status="failed", exit_code=1))
    assert look(eye, Question(filter=text)).history == tuple(id_at(n) for n in sorted(found, reverse=True))


def test_odd_texts_and_numbers_come_as_they_are(home: Home, eye: Eye) -> None:
    name = "\udcff\x1b[31m"
    add(home, ended(1, name=name, params={name: name}, metrics=(Metric("m", math.nan), Metric("i", math.inf))))
    seen = look(eye, Question())
    row = seen.rows[id_at(1)]
    assert (row.name, row.params) == (name, ((name, name),))
    assert row.metrics[0] == ("i", math.inf)
    assert math.isnan(row.metrics[1][1])


def test_news_are_seen_and_nothing_is_read_twice_without_any(home: Home, eye: Eye) -> None:
    add(home, ended(1))
    first = look(eye, Question())
    assert again(eye).history is first.history
    add(home, ended(2))
    assert again(eye).history == (id_at(2), id_at(1))


def test_a_rebuilt_ledger_is_read(home: Home, eye: Eye) -> None:
    add(home, ended(1))
    look(eye, Question())
    ledger.rebuild(home, report=lambda *_, **__: None)
    add(home, ended(2))
    assert again(eye).history == (id_at(2), id_at(1))


def test_a_ledger_that_cannot_be_read_is_told_of_and_what_was_seen_stays(home: Home, eye: Eye) -> None:
    add(home, ended(1))
    look(eye, Question())
    for path in home.root.glob("ledger.db*"):
        path.unlink()
    home.ledger.write_bytes(b"no ledger, by far" * 1000)
    seen = again(eye)
    assert seen.error is not None
    assert "is not an SQLite file" in seen.error
    assert seen.history == (id_at(1),)
    home.ledger.unlink()
    assert again(eye).error is None


def test_of_ten_thousand_runs_only_what_is_asked_for_is_read(home: Home, eye: Eye) -> None:
    fill(home, 10_000)
    look(eye, Question())
    again(eye)  # which sweeps
    assert eye.connection is not None
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    eye.connection.set_progress_handler(step, 1000)  # instructions of SQLite: no matter how fast the machine is
    taken = {}
    for name, question in {
        "page": Question(first=5000),
        "filter": Question(filter="alpha=5 seed=77"),
        "nothing new": Question(filter="alpha=5 seed=77"),
    }.items():
        steps = 0
        seen = look(eye, question) if name == "page" else again(eye, question)
        taken[name] = steps
    assert len(seen.history) == 111
    assert taken["page"] < 100
    assert taken["filter"] < 5000
    assert taken["nothing new"] < 100


# --- live runs --------------------------------------------------------------------------------------------------


def test_a_live_run_is_not_in_the_history_and_has_its_last_metric(home: Home, eye: Eye) -> None:
    record = add(home, live(2, me(), name="busy"))
    add(home, ended(1))
    seen = look(eye, Question())
    assert seen.history == (id_at(1),)
    (run,) = seen.live
    assert (run.run_id, run.status, run.name, run.text) == (id_at(2), "running", "busy", "")
    assert (run.source, run.entry_point, run.command) == ("wine", "main", "python train.py 5.1 0.1")
    assert seen.metrics == {}
    path = RunDirectory(home.run(record.run_id)).journal
    for step in range(100):
        journal.append(path, [{"event": "logged", "metrics": [{"name": "loss", "value": step, "step": step}]}])
    with path.open("ab") as file:
        file.write(b'{"event": "logged", "metrics": [{"name": "half')
    metric = again(eye).metrics[id_at(2)]
    assert (metric.name, metric.points) == ("loss", tuple(map(float, range(40, 100))))


def test_the_processes_below_the_supervisor_are_measured(home: Home, eye: Eye) -> None:
    with subprocess.Popen([sys.executable, "-c", "b = bytearray(30_000_000)\nwhile True: pass"]) as child:
        add(home, live(1, me()))
        run = look(eye, Question()).live[0]
        assert run.cpu_percent is None
        _wait(lambda: (again(eye).live[0].memory or 0) > 30_000_000)
        time.sleep(0.5)
        run = again(eye).live[0]
        child.kill()
    assert child.pid in run.processes
    assert run.cpu_percent is not None
    assert 1 < run.cpu_percent < 150
    assert run.memory is not None
    assert run.memory > 30_000_000


def test_a_run_whose_supervisor_was_killed_becomes_lost(home: Home, eye: Eye) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        supervisor = identify(process.pid)
        process.kill()
    add(home, live(1, supervisor))
    assert [run.text for run in look(eye, Question()).live] == ["its supervisor was killed"]
    seen = again(eye)
    assert seen.live == ()
    assert seen.rows[id_at(1)].status == "lost"


def test_a_run_of_another_machine_is_shown_with_host_and_heartbeat(home: Home, eye: Eye) -> None:
    add(home, live(1, DEAD))
    for _ in range(2):
        (run,) = again(eye).live
        assert run.host == "anna"
        assert run.heard is not None
        assert (run.processes, run.cpu_percent, run.memory) == ((), None, None)


def test_a_run_that_is_prepared_and_one_that_never_began(home: Home, eye: Eye) -> None:
    directory = create_run_directory(home, id_at(1), {"source": "wine"})
    directory.supervisor.write_text(json.dumps(fields_to_json(me())))
    journal.append(directory.progress, [{"phase": "environment", "text": "solving"}])
    (run,) = look(eye, Question()).live
    assert (run.status, run.source, run.text) == ("preparing", "wine", "environment: solving")
    journal.append(directory.progress, [{"error": "no such channel.\nsecond line"}, {"end": 125}])
    (run,) = again(eye).live
    assert (run.status, run.text) == ("never began", "no such channel.\nsecond line")


def test_all_that_lives_is_the_same_for_one_look_and_for_many(home: Home, eye: Eye) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        killed = identify(process.pid)
        process.kill()
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "ORCH_RUN_ID": id_at(3)}) as left:
        add(home, live(1, DEAD, name="away"))
        add(home, live(2, me(), name="here"))
        add(home, replace(live(3, killed), status="orphaned"))
        add(home, ended(4, replay_of=id_at(1), supervisor=me()))
        add(home, ended(5, replay_of=id_at(1), supervisor=killed))
        for number in (6, 7):
            directory = create_run_directory(home, id_at(number), {"source": "wine", "entry_point": "train"})
            directory.supervisor.write_text(json.dumps(fields_to_json(me())))
        journal.append(directory.progress, [{"error": "no such channel.", "end": 125}])
        connection = ledger.connect(home)
        seen = look(eye, Question())
        once = live_runs(home, connection)
        connection.close()
        left.kill()
    expected = [(6, "preparing"), (4, "comparing"), (3, "orphaned"), (2, "running"), (1, "running"), (7, "never began")]
    assert [(run.run_id, run.status) for run in once] == [(id_at(number), status) for number, status in expected]
    assert _without_use(seen.live) == _without_use(once)
    assert once[2].processes == (left.pid,)
    assert seen.alive == 5
    assert seen.history == (id_at(5),)


def _without_use(runs: Iterable[LiveRun]) -> list[LiveRun]:
    return [replace(run, processes=(), cpu_percent=None, memory=None) for run in runs]


def test_a_run_with_a_damaged_journal_is_shown_as_the_ledger_has_it(home: Home, eye: Eye) -> None:
    add(home, live(1, me()))
    RunDirectory(home.run(id_at(1))).journal.write_text('{"event": "created", "spec": {"version": 1}}\n')
    (run,) = look(eye, Question()).live
    assert (run.status, run.source, run.command) == ("running", "wine", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {1, 2, 3}),
        ("WINE", {1, 2, 3}),
        ("alpha=5.1 wine", {1, 2}),
        ("busy", {2}),
        ("busy running", {2}),
        ("preparing", {3}),
        ("solving train", {3}),
        ("anna", {1}),
        ("busy preparing", set()),
        (id_at(1), {1}),
    ],
)
def test_the_filter_is_for_live_runs_too(home: Home, eye: Eye, text: str, found: set[int]) -> None:
    add(home, live(1, DEAD))
    add(home, live(2, me(), name="\udcffBusy"))
    directory = create_run_directory(home, id_at(3), {"source": "wine", "entry_point": "train"})
    directory.supervisor.write_text(json.dumps(fields_to_json(me())))
    journal.append(directory.progress, [{"phase": "environment", "text": "solving"}])
    seen = look(eye, Question(filter=text))
    assert {run.run_id for run in seen.live} == {id_at(number) for number in found}
    assert seen.alive == 3


# --- logs -------------------------------------------------------------------------------------------------------


def test_the_log_is_what_a_terminal_would_show(home: Home, eye: Eye) -> None:
    add(home, ended(1))
    log = RunDirectory(home.run(id_at(1))).stdout
    log.write_bytes(
        b"first\n" + b"\x1b[31mred\x1b[0m\tone\r\n" + b" 10%\r 99%\r100%\nbell\x07 \xff\n\x1b]0;title\x07end"
    )
    seen = look(eye, Question(log_of=id_at(1), log_lines=4))
    assert seen.log.output == ("red     one", "100%", "bell \ufffd", "end")


def test_of_a_long_log_only_the_end_is_read(home: Home, eye: Eye) -> None:
    add(home, ended(1))
    with RunDirectory(home.run(id_at(1))).stdout.open("wb") as file:
        file.truncate(1 << 40)  # more than any memory holds
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"line\n" * 10_000)
    assert look(eye, Question(log_of=id_at(1), log_lines=3)).log.output == ("line",) * 3


def test_output_and_errors_that_were_kept_apart_are_both_read_and_again_when_they_grow(home: Home, eye: Eye) -> None:
    add(home, ended(1))
    directory = RunDirectory(home.run(id_at(1)))
    directory.stdout.write_text("out\n")
    directory.stderr.write_text("")
    assert look(eye, Question(log_of=id_at(1))).log == Log(("out",))
    directory.stderr.write_text("err\n")
    assert look(eye, Question(log_of=id_at(1))).log == Log(("out",), ("err",))
    directory.stdout.write_text("out\nmore\n")
    assert look(eye, Question(log_of=id_at(1))).log == Log(("out", "more"), ("err",))


def test_a_run_without_logs_has_none(home: Home, eye: Eye) -> None:
    assert look(eye, Question(log_of=id_at(1))).log == Log()


# --- asking -----------------------------------------------------------------------------------------------------


def test_the_newest_question_is_answered_at_once_and_then_every_second(
    home: Home,
) -> None:
    add(home, ended(1))
    desk, told = Desk(), []
    thread = threading.Thread(target=keep_looking, args=(home, desk, told.append))
    thread.start()
    try:
        _wait(lambda: len(told) >= 2)
        ask(desk, Question(filter="nothing"))
        _wait(lambda: told[-1].question == Question(filter="nothing"))
        assert told[-1].history == ()
    finally:
        close(desk)
        thread.join(5)
    assert not thread.is_alive()


def _wait(over: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not over():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_queries_stand_alone(home: Home) -> None:
    fill(home, 30)
    connection = ledger.connect(home)
    ids = matching_runs(connection, "seed=2")
    assert {row.name for row in page_rows(connection, ids).values()} == {f"try-{n}" for n in (2, *range(20, 30))}
    assert page_rows(connection, ["0" * 32]) == {}
    connection.close()
