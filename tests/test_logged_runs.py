"""Runs that were only logged: they have no process here, and are ended, found and removed even so."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import ORCH, orch, orch_json
from made_records import finished, made_home, running, write_journal
from tracking.calls import API
from tracking.serving import Server, ask, orch_serving

from orchestrator import journal, store
from orchestrator.execute.identity import identify
from orchestrator.model import Output, ProcessIdentity, RunRecord
from orchestrator.paths import Home
from orchestrator.records import output_to_json


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A fresh home, set in the environment."""
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return made_home(tmp_path / "home")


@pytest.fixture
def supervisor() -> Iterator[ProcessIdentity]:
    """A process that lives, and is none of orch: nobody may end it."""
    with subprocess.Popen(["sleep", "600"]) as process:
        found = identify(process.pid)
        assert found is not None
        yield found
        assert process.poll() is None
        process.kill()


@pytest.fixture
def server(tmp_path: Path, home: Home) -> Iterator[Server]:
    with orch_serving(tmp_path, home=home.root) as server:
        yield server


def logged(home: Home, made: Callable[..., RunRecord] = running, **changes: Any) -> str:
    """A run that was only logged, running or `finished`; its id."""
    record = made(pinned=None, host={}, **{"outputs": (), **changes})
    write_journal(home, record)
    return record.run_id


def began(server: Server, **body: Any) -> str:
    reply = ask(server, "POST", API + "runs/create", {"experiment_id": "0", **body})
    return str(reply.said["run"]["info"]["run_id"])


def is_there(home: Home, run_id: str) -> bool:
    listed = {run["run_id"] for run in orch_json("list")}
    assert home.run(run_id).exists() == (run_id in listed)
    return run_id in listed


# --- stop -------------------------------------------------------------------------------------------------------------


def test_one_whose_writer_died_is_ended_at_once(server: Server, home: Home) -> None:
    run_id = began(server)
    server.process.kill()
    server.process.wait()
    done = orch("stop", run_id[:20])
    assert (
        done.stdout == f"run {run_id[:16]} is stopped, ended by orch stop; it was only logged: no process was ended\n"
    )
    assert done.stderr == ""
    run = orch_json("show", run_id)
    assert (run["status"], run["reason"]) == ("stopped", "ended by orch stop")
    assert run["ended_at"] > run["started_at"]
    assert orch("stop", run_id).stdout == f"run {run_id[:16]} had ended already: stopped, ended by orch stop\n"
    orch("rm", run_id)
    assert not is_there(home, run_id)


def test_the_end_that_its_client_tells_later_stands(server: Server) -> None:
    run_id = began(server)
    assert orch_json("stop", run_id) == [
        {"run_id": run_id, "ended": "run", "status": "stopped", "reason": "ended by orch stop"}
    ]
    shown = ask(server, "GET", f"{API}runs/get?run_id={run_id}").said["run"]["info"]
    assert shown["status"] == "KILLED"
    told = {"run_id": run_id, "status": "FINISHED", "end_time": shown["end_time"] + 5000}
    assert ask(server, "POST", API + "runs/update", told).status == 200
    run = orch_json("show", run_id)
    assert (run["status"], run["reason"]) == ("finished", None)


def test_what_was_begun_inside_ends_with_it(home: Home) -> None:
    run_id = logged(home)
    nested, ended = logged(home, parent=run_id), logged(home, finished, parent=run_id)
    deep = logged(home, parent=ended)
    other = logged(home)
    orch("stop", run_id)
    found = {run["run_id"]: run["status"] for run in orch_json("list")}
    assert found == {run_id: "stopped", nested: "stopped", deep: "stopped", ended: "finished", other: "running"}


def test_the_end_of_one_inside_a_run_that_lives_is_for_that_runs_program_to_tell(
    home: Home, supervisor: ProcessIdentity
) -> None:
    owner = running(supervisor=supervisor)
    write_journal(home, owner)
    nested = logged(home, finished, parent=owner.run_id)
    deep, other = logged(home, parent=nested), logged(home)
    said = orch("stop", other, deep, code=125).stderr
    assert said == (
        f"orch: nothing was stopped: run {deep} was logged inside run {owner.run_id}, whose program ends it; "
        f"orch stop {owner.run_id[:16]} ends both.\n"
    )
    assert f"orch stop {owner.run_id[:16]}" in orch("rm", deep, code=125).stderr
    said = orch("rm", nested, code=125).stderr
    assert deep in said
    assert f"orch stop {owner.run_id[:16]}" in said
    assert {run["status"] for run in orch_json("list") if run["run_id"] in (other, deep)} == {"running"}


def test_it_is_not_given_up_as_lost(home: Home) -> None:
    run_id = logged(home)
    said = orch("stop", "--lost", run_id, code=125).stderr
    assert said == f"orch: run {run_id} was only logged, and is not given up but ended: orch stop {run_id[:16]}\n"


def test_of_several_runs_of_a_name_the_one_that_lives_is_stopped(home: Home) -> None:
    ended = [logged(home, finished, name="nightly") for _ in range(2)]
    live = logged(home, name="nightly")
    ended.append(logged(home, finished, name="nightly"))
    assert "several runs are named 'nightly'" in orch("show", "nightly", code=125).stderr
    assert orch_json("stop", "nightly")[0]["run_id"] == live
    said = orch("stop", "nightly", code=125).stderr
    assert said.startswith("orch: nothing was stopped: several runs are named 'nightly'")
    for _ in range(2):
        logged(home, name="nightly")
    assert "several runs are named 'nightly'" in orch("stop", "nightly", code=125).stderr
    assert {run["status"] for run in orch_json("list") if run["run_id"] in ended} == {"finished"}


# --- attach, logs and list --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [running, finished])
@pytest.mark.parametrize("command", [["attach"], ["logs"], ["logs", "-f"]])
def test_it_has_nothing_to_show_of_what_it_printed(
    home: Home, made: Callable[..., RunRecord], command: list[str]
) -> None:
    run_id = logged(home, made)
    done = orch(*command, run_id, code=125)
    assert done.stdout == ""
    way = f"orch show {run_id[:16]} shows what it has."
    assert done.stderr == f"orch: run {run_id} was only logged, and has printed nothing here; {way}\n"


def test_one_that_runs_and_is_silent_for_long_is_told_from_one_that_is_not(
    home: Home, supervisor: ProcessIdentity
) -> None:
    silent, long, young = logged(home), logged(home), logged(home)
    over, real = logged(home, finished), running(supervisor=supervisor)
    write_journal(home, real)
    for run_id, minutes in ((silent, 20), (long, 60 * 72), (young, 9), (over, 20), (real.run_id, 20)):
        at = time.time() - minutes * 60
        os.utime(home.run(run_id) / "journal.jsonl", (at, at))
    lines = {line.split()[0]: " ".join(line.split()) for line in orch("list").stdout.splitlines()[1:]}
    told = {run_id: lines[run_id[:16]] for run_id in (silent, long, young, over, real.run_id)}
    assert " running, silent 20 min " in told[silent]
    assert " running, silent 3 days " in told[long]
    assert not [run_id for run_id in (young, over, real.run_id) if "silent" in told[run_id]]
    assert {run["status"] for run in orch_json("list")} == {"running", "finished"}
    narrow = subprocess.run(
        ["script", "-qec", f"{ORCH} list", "/dev/null"],
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert " running, silent 20 min " in narrow.stdout


# --- rm ---------------------------------------------------------------------------------------------------------------


def stored(home: Home, size: int, path: str = "data") -> Output:
    return Output(path, store.put_bytes(home, os.urandom(size)), size, 0o644)


def test_what_was_logged_inside_a_run_goes_with_it_and_its_steps_stay(home: Home) -> None:
    parent = finished(outputs=(stored(home, 4096),))
    write_journal(home, parent)
    step = finished(parent=parent.run_id, outputs=())
    write_journal(home, step)
    nested = [logged(home, finished, parent=parent.run_id, outputs=(stored(home, 2048),)) for _ in range(2)]
    nested.append(logged(home, finished, parent=nested[0], outputs=(stored(home, 4096),)))
    of_step, other = logged(home, finished, parent=step.run_id), logged(home, finished)
    assert is_there(home, nested[2])
    done = orch("rm", parent.run_id)
    assert done.stdout == f"removed run {parent.run_id} and 3 nested runs, 12 KiB freed\n"
    assert not [run_id for run_id in (parent.run_id, *nested) if is_there(home, run_id)]
    assert all(is_there(home, run_id) for run_id in (step.run_id, of_step, other))
    assert not [path for path in home.runs.iterdir() if path.name.startswith(".")]


def test_bytes_that_a_run_elsewhere_names_stay(home: Home) -> None:
    shared = stored(home, 4096)
    parent = logged(home, finished)
    logged(home, finished, parent=parent, outputs=(shared,))
    logged(home, finished, outputs=(shared,))
    assert orch("rm", parent).stdout == f"removed run {parent} and 1 nested run, 0 B freed\n"
    assert store.verify_blob(home, shared.sha256)


def test_a_run_and_what_is_inside_it_may_be_named_together(home: Home) -> None:
    parent = logged(home, finished)
    nested = [logged(home, finished, parent=parent) for _ in range(2)]
    removed = orch_json("rm", nested[0], parent, nested[1])
    assert removed == [
        {"run_id": nested[0], "freed": 0, "nested": []},
        {"run_id": parent, "freed": 0, "nested": [nested[1]]},
    ]


def test_one_that_says_running_goes_when_the_run_around_it_has_ended_or_is_gone(home: Home) -> None:
    gone = "01" * 16
    for parent in (logged(home, finished), gone):
        nested = logged(home, parent=parent)
        orch("rm", nested)
        assert not is_there(home, nested)


def test_one_that_says_running_is_ended_first_where_nothing_is_around_it_that_ended(home: Home) -> None:
    run_id = logged(home)
    nested = logged(home, parent=run_id)
    for one in (run_id, nested):
        said = orch("rm", one, code=125).stderr
        assert said == f"orch: run {one} is running; end it before you remove it: orch stop {one[:16]}\n"
    orch("stop", run_id)
    orch("rm", run_id)
    assert json.loads(orch("list", "--json").stdout) == []


def test_runs_that_say_they_are_inside_one_another_are_removed(home: Home) -> None:
    one, other = finished(pinned=None, host={}, outputs=()), finished(pinned=None, host={}, outputs=())
    logged(home, finished, run_id=one.run_id, parent=other.run_id)
    logged(home, finished, run_id=other.run_id, parent=one.run_id)
    assert "and 1 nested run," in orch("rm", one.run_id).stdout


def test_bytes_that_the_ledger_has_not_heard_of_yet_stay(home: Home) -> None:
    """The server that stored them again for a run was killed before it told the ledger."""
    shared, own = stored(home, 4096), stored(home, 2048, "own")
    ended, live = logged(home, finished, outputs=(shared,)), logged(home)
    assert is_there(home, live)
    for output in (shared, own):
        event = {"event": "output", "output": output_to_json(output)}
        journal.append(home.run(live) / "journal.jsonl", [event])
    assert orch("rm", ended).stdout == f"removed run {ended}, 0 B freed\n"
    assert store.verify_blob(home, shared.sha256)
    nested = logged(home, parent=ended)
    journal.append(home.run(nested) / "journal.jsonl", [{"event": "output", "output": output_to_json(shared)}])
    orch("stop", live)
    assert orch("rm", live).stdout == f"removed run {live}, 2.0 KiB freed\n"
    assert orch("rm", nested).stdout == f"removed run {nested}, 4.0 KiB freed\n"
