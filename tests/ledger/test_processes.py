"""Several processes at once, and processes that are killed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_dumps import dump, schema
from made_records import Locked, finished, made_home, write_journal

from orchestrator import journal, ledger, report
from orchestrator.model import Usage
from orchestrator.paths import Home
from orchestrator.records import journal_events, record_to_json

WRITER = [sys.executable, str(Path(__file__).with_name("writer.py"))]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "home")


def start(home: Home, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen([*WRITER, str(home.root), str(number)], stdout=subprocess.PIPE, text=True)


def ended(writer: subprocess.Popen[str]) -> list[str]:
    """The runs that a writer acknowledged."""
    output, _ = writer.communicate()
    return output.split()


def test_sixteen_processes_write_fifty_runs_each_and_none_is_lost(home: Home) -> None:
    writers = [start(home, 50) for _ in range(16)]  # all of them find no ledger, and make it
    acknowledged = [run_id for writer in writers for run_id in ended(writer)]
    assert [writer.returncode for writer in writers] == [0] * 16
    assert len(acknowledged) == 800
    with closing(ledger.connect(home)) as connection:
        assert {row.run_id for row in ledger.find_runs(connection, status="finished")} == set(acknowledged)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        incremental = dump(connection)
    assert ledger.rebuild(home, report=report.silent) == 800
    with closing(ledger.connect(home)) as connection:
        assert dump(connection) == incremental


def test_killed_writers_leave_a_sound_ledger_with_all_that_they_acknowledged(home: Home) -> None:
    acknowledged: set[str] = set()
    chance = random.Random(7)
    for turn in range(20):
        writers = [start(home, 1000) for _ in range(2)]
        if turn % 2:  # so that something is acknowledged, however slow the machine is
            acknowledged.update(writer.stdout.readline().strip() for writer in writers)
        time.sleep(chance.uniform(0.05, 0.5))
        for writer in writers:
            writer.kill()
        for writer in writers:
            acknowledged.update(ended(writer))
    with closing(ledger.connect(home)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert acknowledged
        for run_id in acknowledged:
            record = ledger.read_run(home, run_id)
            assert record is not None
            assert ledger.load_run(connection, run_id) == record_to_json(record)
        for run_id in ledger.missing_runs(home, connection):
            ledger.index_run(home, connection, run_id)
        for row in ledger.find_runs(connection, status="running"):
            ledger.index_run(home, connection, row.run_id)
        incremental = dump(connection)
    ledger.rebuild(home, report=report.silent)
    with closing(ledger.connect(home)) as connection:
        assert dump(connection) == incremental
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_rebuild_under_writers_loses_nothing(home: Home) -> None:
    writers = [start(home, 40) for _ in range(3)]
    rebuilds = 0
    while any(writer.poll() is None for writer in writers):
        ledger.rebuild(home, report=report.silent)
        rebuilds += 1
    acknowledged = {run_id for writer in writers for run_id in ended(writer)}
    assert [writer.returncode for writer in writers] == [0] * 3
    assert rebuilds > 1
    with closing(ledger.connect(home)) as connection:
        assert {row.run_id for row in ledger.find_runs(connection, status="finished")} == acknowledged
        assert len(acknowledged) == 120
        incremental = dump(connection)
    ledger.rebuild(home, report=report.silent)
    with closing(ledger.connect(home)) as connection:
        assert dump(connection) == incremental


def test_what_happens_while_the_journals_are_read_is_in_the_rebuilt_ledger(home: Home) -> None:
    gone, late = finished(), finished()
    ended = finished()
    begun = replace(ended, status="running", exit_code=None, ended_at=None, outputs=(), metrics=(), usage=Usage())
    with closing(ledger.connect(home)) as connection:
        for record in (gone, begun):
            write_journal(home, record)
            ledger.write_record(connection, record)

        def meanwhile(_lock_id: str) -> list[Locked]:
            # rebuild asks for packages when it has read all journals
            journal.append(home.run(ended.run_id) / "journal.jsonl", journal_events(ended)[1:])
            write_journal(home, late)
            shutil.rmtree(home.run(gone.run_id))
            for record in (ended, late):
                ledger.write_record(connection, record)
            ledger.remove_run(connection, gone.run_id)
            journal.append(home.root / "experiments.jsonl", [{"event": "created", "name": "late"}])
            return [Locked("six", "1.16")]

        assert ledger.rebuild(home, report=report.silent, packages=meanwhile) == 2
        assert {row.run_id for row in ledger.find_runs(connection)} == {ended.run_id, late.run_id}
        for record in (ended, late):
            assert ledger.load_run(connection, record.run_id) == record_to_json(record)
        assert ledger.experiment_name(connection, ledger.experiment_id("late")) == "late"


def test_an_open_connection_sees_the_rebuilt_ledger(home: Home) -> None:
    record = finished()
    write_journal(home, record)
    with closing(ledger.connect(home)) as reader, closing(ledger.connect(home)) as writer:
        assert ledger.find_runs(reader) == []
        ledger.rebuild(home, report=report.silent)
        assert [row.run_id for row in ledger.find_runs(reader)] == [record.run_id]
        later = finished()
        ledger.write_record(writer, later)
        assert len(ledger.find_runs(reader)) == 2


@pytest.mark.parametrize("seed", range(5))
def test_a_rebuild_that_is_killed_leaves_the_old_ledger_or_the_new(home: Home, seed: int) -> None:
    for _ in range(30):
        write_journal(home, finished())
    with closing(ledger.connect(home)) as connection:
        ledger.write_record(connection, finished(run_id="1" * 32))
        fresh = schema(connection)
    code = (
        "import sys; from orchestrator import ledger, report; from orchestrator.paths import open_home\n"
        "home = open_home({'ORCH_HOME': sys.argv[1]}); print('ready', flush=True)\n"
        "while True: ledger.rebuild(home, report=report.silent)"
    )
    rebuilder = subprocess.Popen([sys.executable, "-c", code, str(home.root)], stdout=subprocess.PIPE, text=True)
    assert rebuilder.stdout is not None
    rebuilder.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.0, 0.4))
    rebuilder.kill()
    rebuilder.communicate()
    with closing(ledger.connect(home)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert len(ledger.find_runs(connection)) in (1, 30)
        assert schema(connection) == fresh
    assert sorted(path.name for path in home.root.iterdir() if "ledger" in path.name and ".new" in path.name) == []
