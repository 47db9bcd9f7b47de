"""The ledger's file: made, migrated, refused, rebuilt."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import made_disk
import pytest
from ledger_dumps import OWN, dump, schema
from made_records import LOCK, Locked, finished, made_home, running, write_journal

from orchestrator import ledger, report
from orchestrator.errors import OrchError
from orchestrator.ledger import connection as opening
from orchestrator.model import Usage
from orchestrator.paths import Home, open_home

SCHEMAS = Path(__file__).parent


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return made_home(tmp_path / "home")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with made_disk.small_disk(tmp_path / "small", "1m") as place:
        yield place


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def fill(home: Home, number: int = 3) -> dict[str, list[tuple[object, ...]]]:
    """A ledger and run directories that agree; what is in it."""
    with closing(ledger.connect(home)) as connection:
        for i in range(number):
            record = finished(experiment=f"e{i}", notes=("caf\udce9",), name=f"n{i}")
            write_journal(home, record)
            ledger.write_record(connection, record)
        return dump(connection)


# --- opening ------------------------------------------------------------------------------------------------------


def test_a_connection_is_set_up_for_several_processes(home: Home) -> None:
    for _ in range(2):
        with closing(ledger.connect(home)) as connection:
            assert pragma(connection, "journal_mode") == "wal"
            assert pragma(connection, "busy_timeout") == 30_000
            assert pragma(connection, "synchronous") == 2
            assert pragma(connection, "foreign_keys") == 1
            assert pragma(connection, "user_version") == opening.VERSION
            assert connection.isolation_level is None


def test_a_reader_cannot_write(home: Home) -> None:
    with closing(ledger.connect(home, readonly=True)) as connection:
        assert ledger.find_runs(connection) == []
        with pytest.raises(OrchError, match="read-only"):
            ledger.write_record(connection, running())
    fill(home, 2)
    with closing(ledger.connect(home, readonly=True)) as connection:
        assert len(ledger.find_runs(connection)) == 2


def test_an_empty_file_is_migrated_to_the_same_schema_as_a_new_one(home: Home, tmp_path: Path) -> None:
    other = made_home(tmp_path / "other")
    other.ledger.touch()
    with closing(ledger.connect(home)) as one, closing(ledger.connect(other)) as migrated:
        assert schema(one) == schema(migrated)
        assert pragma(migrated, "application_id") == opening.APPLICATION_ID


def test_a_migration_that_was_killed_is_done_again(home: Home) -> None:
    with closing(sqlite3.connect(home.ledger, isolation_level=None)) as half:
        half.execute("PRAGMA journal_mode = WAL")
        half.execute(f"PRAGMA application_id = {opening.APPLICATION_ID}")
    fill(home)


def made_schema(connection: sqlite3.Connection) -> str:
    return "\n".join(sql for name, sql in schema(connection) if sql and "sqlite" not in name) + "\n"


def test_the_schema_stays_as_it_was_released(home: Home) -> None:
    """A released migration is never edited: change the schema with a new one, and add its file here."""
    with closing(ledger.connect(home)) as connection:
        assert made_schema(connection) == (SCHEMAS / "schema-6.sql").read_text("utf-8")


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_an_older_ledger_is_brought_up_and_keeps_its_runs(home: Home, version: int) -> None:
    rows = fill(home)
    made_older(home, version)
    with closing(ledger.connect(home)) as newer:
        assert dump(newer) == rows
        assert newer.execute("PRAGMA foreign_key_check").fetchall() == []
        assert made_schema(newer) == (SCHEMAS / "schema-6.sql").read_text("utf-8")


def test_what_an_older_ledger_says_of_a_use_that_nobody_measured_becomes_unknown(home: Home) -> None:
    lost = finished(status="lost", exit_code=None, usage=Usage())
    with closing(ledger.connect(home)) as connection:
        ledger.write_record(connection, lost)
    made_older(home, 4)
    with closing(sqlite3.connect(home.ledger)) as older:
        assert older.execute("SELECT wall_seconds FROM runs").fetchall() == [(0.0,)]
    with closing(ledger.connect(home)) as newer:
        assert newer.execute("SELECT wall_seconds, peak_memory FROM runs").fetchall() == [(None, None)]
        assert ledger.load_run(newer, lost.run_id)["usage"]["wall_seconds"] is None


def made_older(home: Home, version: int) -> None:
    """Put a ledger of an older schema, with the same rows, in the place of the one that is there."""
    new = home.ledger.with_name("new.db")
    home.ledger.rename(new)
    with closing(sqlite3.connect(home.ledger)) as older:
        made = (SCHEMAS / f"schema-{version}.sql").read_text("utf-8").strip()
        older.executescript(made.replace("\nCREATE", ";\nCREATE"))
        older.execute("ATTACH ? AS new", (str(new),))
        older.execute("CREATE TABLE _sqlite_migrations AS SELECT * FROM new._sqlite_migrations")
        older.execute("DELETE FROM _sqlite_migrations WHERE CAST(substr(name, 1, 4) AS INTEGER) > ?", (version,))
        for (table,) in older.execute(OWN.replace("sqlite_schema", "main.sqlite_schema")).fetchall():
            columns = [row[1] for row in older.execute(f"PRAGMA main.table_info({table})")]
            values = [f"coalesce({column}, 0)" if column in Usage.__slots__ else column for column in columns]
            older.execute(f"INSERT INTO main.{table} SELECT {', '.join(values)} FROM new.{table}")
        older.execute(f"PRAGMA application_id = {opening.APPLICATION_ID}")
        older.execute(f"PRAGMA user_version = {version}")
        older.commit()
    new.unlink()


def test_a_newer_ledger_is_refused_and_not_touched(home: Home) -> None:
    fill(home)
    with closing(sqlite3.connect(home.ledger, isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 7")
    before = home.ledger.read_bytes()
    actions: list[Callable[[], object]] = [
        lambda: ledger.connect(home),
        lambda: ledger.connect(home, readonly=True),
        lambda: ledger.rebuild(home, report=report.silent),
    ]
    for action in actions:
        with pytest.raises(OrchError, match="schema version 7, this orch knows 6"):
            action()
    assert home.ledger.read_bytes() == before


def test_a_file_that_is_no_sqlite_is_refused_until_it_is_rebuilt(home: Home) -> None:
    rows = fill(home)
    home.ledger.write_text("this is a text file, and a long one\n" * 100)
    for readonly in (False, True):
        with pytest.raises(OrchError, match=r"is not an SQLite file; make it again with: orch ledger rebuild"):
            ledger.connect(home, readonly=readonly)
    assert ledger.rebuild(home, report=report.silent) == 3
    with closing(ledger.connect(home)) as connection:
        assert dump(connection) == rows
        assert pragma(connection, "journal_mode") == "wal"


def test_a_folder_in_its_place_is_named(home: Home) -> None:
    home.ledger.mkdir()
    for action in (lambda: ledger.connect(home), lambda: ledger.rebuild(home, report=report.silent)):
        with pytest.raises(OrchError, match="is a folder"):
            action()


def test_the_database_of_another_program_is_refused(home: Home) -> None:
    with closing(sqlite3.connect(home.ledger, isolation_level=None)) as other:
        other.execute("CREATE TABLE contacts (name)")
    before = home.ledger.read_bytes()
    for action in (lambda: ledger.connect(home), lambda: ledger.rebuild(home, report=report.silent)):
        with pytest.raises(OrchError, match="no ledger of orch"):
            action()
    assert home.ledger.read_bytes() == before


def test_a_ledger_locked_for_too_long_is_one_sentence(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home)
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.1)
    with closing(ledger.connect(home)) as one, closing(ledger.connect(home)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OrchError, match="was locked by another process"):
            ledger.write_record(one, running())
        assert len(ledger.find_runs(one)) == 3
        other.execute("ROLLBACK")
        ledger.write_record(one, running())


def test_a_full_disk_is_one_sentence_and_the_ledger_stays_sound(small_disk: Path) -> None:
    home = open_home({"ORCH_HOME": str(small_disk / "home")})
    with closing(ledger.connect(home)) as connection:
        written = []
        with pytest.raises(OrchError, match=r"no space left|disk I/O error"):
            for _ in range(10_000):
                record = running(notes=("x" * 5000,))
                ledger.write_record(connection, record)
                written.append(record.run_id)
        assert written
        assert not connection.in_transaction
        assert sorted(row.run_id for row in ledger.find_runs(connection)) == sorted(written)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_full_disk_while_rebuilding_keeps_the_old_ledger(small_disk: Path) -> None:
    home = open_home({"ORCH_HOME": str(small_disk / "home")})
    before = fill(home, 1)
    for _ in range(30):
        write_journal(home, running(notes=("x" * 14_000,)))
    (small_disk / "filler").write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 100_000))
    with pytest.raises(OrchError, match=r"no space left|disk I/O error"):
        ledger.rebuild(home, report=report.silent)
    (small_disk / "filler").unlink()
    with closing(ledger.connect(home)) as connection:
        assert dump(connection) == before


def test_a_read_only_folder_is_one_sentence_for_writers_and_readers_can_read(small_disk: Path) -> None:
    home = open_home({"ORCH_HOME": str(small_disk / "home")})
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OrchError, match="can't be opened; its folder must be there and writable"):
        ledger.connect(home)
    with pytest.raises(OrchError, match="can't be opened; its folder must be there and writable"):
        ledger.connect(home, readonly=True)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    fill(home, 2)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with closing(ledger.connect(home, readonly=True)) as connection:
        assert len(ledger.find_runs(connection)) == 2
    with pytest.raises(OrchError, match=r"can't be (written|opened)"), closing(ledger.connect(home)) as connection:
        ledger.write_record(connection, running())


# --- rebuilding ---------------------------------------------------------------------------------------------------


def test_a_rebuilt_ledger_has_the_same_rows(home: Home) -> None:
    fill(home)
    packages = [Locked("numpy", "1.26"), Locked("six", "1.16")]
    with closing(ledger.connect(home)) as connection:
        planned = ledger.create_experiment(home, connection, "planned", {"team": "blue"})
        ledger.change_experiment(home, connection, planned, {"name": "done", "tags": {"team": "red"}})
        ledger.change_experiment(home, connection, planned, {"deleted": True})
        ledger.write_environment(connection, LOCK, "linux-64", packages)
        rows = dump(connection)
    home.ledger.unlink()
    assert ledger.rebuild(home, report=report.silent, packages=lambda lock_id: packages) == 3
    with closing(ledger.connect(home)) as connection:
        assert dump(connection) == rows
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "integrity_check") == "ok"


def test_names_that_went_from_one_experiment_to_another_are_as_they_were_after_a_rebuild(home: Home) -> None:
    fill(home)
    with closing(ledger.connect(home)) as connection:
        one, other = (ledger.create_experiment(home, connection, name, {"made": name}) for name in ("A", "D"))
        for identity, name in ((one, "B"), (one, "C"), (other, "B"), (one, "E"), (other, "C")):
            ledger.change_experiment(home, connection, identity, {"name": name})
        rows = dump(connection)
        for _ in range(2):
            assert ledger.rebuild(home, report=report.silent) == 3
            assert dump(connection) == rows


def test_an_experiment_that_runs_made_keeps_its_new_name_after_a_rebuild(home: Home) -> None:
    with closing(ledger.connect(home)) as connection:
        for number, name in (("1", "old"), ("2", "new")):
            record = running(run_id=number * 32, experiment=name)
            write_journal(home, record)
            ledger.write_record(connection, record)
            if name == "old":
                identity = ledger.experiment_id("old")
                ledger.change_experiment(home, connection, identity, {"name": "new", "tags": {"team": "red"}})
        rows = dump(connection)
        assert ledger.rebuild(home, report=report.silent) == 2
        assert dump(connection) == rows


def test_what_was_said_of_an_experiment_whose_runs_are_gone_stops_no_rebuild(home: Home) -> None:
    record = running(run_id="1" * 32, experiment="gone")
    write_journal(home, record)
    with closing(ledger.connect(home)) as connection:
        ledger.write_record(connection, record)
        ledger.change_experiment(home, connection, ledger.experiment_id("gone"), {"tags": {"team": "red"}})
        shutil.rmtree(home.run(record.run_id))
        ledger.rebuild(home, report=report.silent)
        assert ledger.rebuild(home, report=report.silent) == 0


def test_runs_that_are_gone_are_gone_after_a_rebuild(home: Home) -> None:
    fill(home)
    with closing(ledger.connect(home)) as connection:
        first = ledger.resolve_run(connection, "n0")
        shutil.rmtree(home.run(first))
        ledger.rebuild(home, report=report.silent)
        assert len(ledger.find_runs(connection)) == 2
        ledger.rebuild(home, report=report.silent)
        with pytest.raises(OrchError, match="no run"):
            ledger.resolve_run(connection, first)


def test_what_cannot_be_read_is_reported_and_the_rest_is_rebuilt(home: Home) -> None:
    fill(home)
    damaged = write_journal(home, running(run_id="1" * 32))
    damaged.write_text('{"event":"created"}\n')
    torn = write_journal(home, running(run_id="2" * 32))
    torn.write_text(torn.read_text() + "garbage\n")
    said: list[str] = []

    def listen(phase: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
        if done is None:
            said.append(text)

    def packages(lock_id: str) -> list[Locked]:
        raise OrchError("the lock is gone.")

    assert ledger.rebuild(home, report=listen, packages=packages) == 4
    assert [sentence.split(":")[0] for sentence in said] == [
        f"the journal {damaged} is damaged",
        f"{torn}, line 3",
        "the lock is gone.",
    ]


@pytest.mark.parametrize("damage", ["header", "pages", "half", "empty"])
def test_a_damaged_ledger_is_rebuilt_without_what_is_left_of_its_log(home: Home, damage: str) -> None:
    rows = fill(home)
    with closing(ledger.connect(home)) as connection:
        ledger.write_record(connection, running(run_id="1" * 32))
        # As a power cut leaves it: the -wal with newer rows stays beside the file.
        for suffix in ("-wal", "-shm"):
            shutil.copy(f"{home.ledger}{suffix}", home.root / f"kept{suffix}")
    content = home.ledger.read_bytes()
    if damage == "header":
        home.ledger.write_bytes(os.urandom(100) + content[100:])
    elif damage == "pages":
        home.ledger.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    elif damage == "half":
        home.ledger.write_bytes(content[: len(content) // 2])
    else:
        home.ledger.write_bytes(b"")
    for suffix in ("-wal", "-shm"):
        shutil.move(home.root / f"kept{suffix}", f"{home.ledger}{suffix}")
    assert ledger.rebuild(home, report=report.silent) == 3
    with closing(ledger.connect(home)) as connection:
        assert dump(connection) == rows
        assert pragma(connection, "integrity_check") == "ok"


def test_a_rebuild_in_an_empty_home_makes_an_empty_ledger(home: Home) -> None:
    assert ledger.rebuild(home, report=report.silent) == 0
    with closing(ledger.connect(home)) as connection:
        assert ledger.find_runs(connection) == []


# --- where it lies ------------------------------------------------------------------------------------------------

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:1 master:2 - nfs4 server:/home rw
31 30 0:41 / /home/ada/local rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/my\040disk rw - fuse.sshfs ada@host: rw
33 22 0:43 / /scratch rw - lustre mgs:/scratch rw
34 33 0:44 / /scratch rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv", "ext4"),
        ("/homework", "ext4"),
        ("/home/ada/.local/share/orch/ledger.db", "nfs4"),
        ("/home/ada/local/orch", "xfs"),
        ("/mnt/my disk/orch", "fuse.sshfs"),
        ("/scratch/x", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_last_and_longest_mount(tmp_path: Path, path: str, kind: str) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS.lstrip())
    assert opening._file_system(Path(path), mountinfo) == kind
    assert opening._file_system(Path(path), tmp_path / "none") is None


def test_on_a_network_file_system_there_is_a_warning_and_no_wal(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ledger.network_file_system(home.ledger) is None
    rows = fill(home)
    here = opening._file_system(home.ledger)
    assert here is not None
    monkeypatch.setattr(opening, "NETWORK_FILE_SYSTEMS", frozenset({here}))
    assert f"is on a network file system ({here})" in str(ledger.network_file_system(home.ledger))
    with closing(ledger.connect(home)) as connection:
        assert pragma(connection, "journal_mode") == "delete"
        ledger.write_record(connection, running(run_id="1" * 32))
    ledger.rebuild(home, report=report.silent)
    with closing(ledger.connect(home)) as connection:
        assert pragma(connection, "journal_mode") == "delete"
        assert dump(connection) == rows


# --- start-up -----------------------------------------------------------------------------------------------------


def test_the_hot_path_loads_no_heavy_module(home: Home) -> None:
    fill(home)
    code = (
        "import sys; from orchestrator import ledger, store, journal; from orchestrator.paths import open_home\n"
        "connection = ledger.connect(open_home({'ORCH_HOME': sys.argv[1]})); ledger.find_runs(connection)\n"
        "print(*(sys.modules.keys() & {'sqlite_utils', 'click', 'typing_extensions', 'tempfile', 'shutil',"
        " 'concurrent.futures', 'subprocess', 'asyncio', 'logging'}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code, str(home.root)], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
