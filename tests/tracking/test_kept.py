"""What `orch server` has acknowledged stays, whatever happens to other runs; and no bytes stay that nobody names."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

from tracking.calls import API, ARTIFACTS
from tracking.serving import ORCH, Server, ask, environ_of, orch_serving
from tracking.test_durable_server import new_run, orch, post

from orchestrator import store
from orchestrator.paths import open_home
from orchestrator.tracking.artifacts import REPLACED_SECONDS


def put(server: Server, run_id: str, data: bytes, name: str = "a.txt") -> None:
    assert ask(server, "PUT", f"{ARTIFACTS}/0/{run_id}/artifacts/{name}", data).status == 200


def got(server: Server, run_id: str, name: str = "a.txt") -> bytes:
    reply = ask(server, "GET", f"{ARTIFACTS}/0/{run_id}/artifacts/{name}")
    assert reply.status == 200, reply.body
    return reply.body


def is_stored(server: Server, data: bytes) -> bool:
    home = open_home({"ORCH_HOME": str(server.home)})
    return store.blob_path(home, hashlib.sha256(data).hexdigest()).exists()


def metrics_of(server: Server, run_id: str) -> dict[str, float]:
    data = ask(server, "GET", f"{API}runs/get?run_id={run_id}").said["run"]["data"]
    return {metric["key"]: metric["value"] for metric in data.get("metrics", ())}


def log_metric(server: Server, run_id: str, key: str = "m") -> int:
    point = {"run_id": run_id, "key": key, "value": 1, "timestamp": 1}
    return ask(server, "POST", f"{API}runs/log-metric", point).status


def test_the_ledger_knows_an_artifact_when_it_is_acknowledged(tmp_path: Path) -> None:
    """Whoever removes another run with the same bytes asks the ledger who names them."""
    with orch_serving(tmp_path) as server:
        run_id = new_run(server)
        put(server, run_id, b"alpha")
        os.kill(server.process.pid, signal.SIGSTOP)  # it does nothing more after the answer
        try:
            with closing(sqlite3.connect(f"file:{server.home / 'ledger.db'}?mode=ro", uri=True)) as connection:
                assert connection.execute("SELECT path FROM outputs WHERE run_id = ?", (run_id,)).fetchall()
        finally:
            os.kill(server.process.pid, signal.SIGCONT)


def test_an_artifact_stays_when_another_run_with_the_same_bytes_is_removed(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        gone, kept = new_run(server), new_run(server)
        put(server, gone, b"alpha")
        post(server, "runs/update", {"run_id": gone, "status": "FINISHED"})
        put(server, kept, b"alpha")
        orch(tmp_path, server.home, "rm", gone)
        assert got(server, kept) == b"alpha"


def test_one_damaged_journal_keeps_no_other_run_from_being_logged(tmp_path: Path) -> None:
    for damage in ('{"event":"ended"}\n', '{"event":"output","output":7}\n', '{"event":"logged","metrics":[{}]}\n'):
        with orch_serving(tmp_path) as server:
            damaged, sound = new_run(server), new_run(server)
            assert log_metric(server, damaged) == 200
            with (server.home / "runs" / damaged / "journal.jsonl").open("a") as journal:
                journal.write(damage)
            reply = ask(server, "GET", f"{API}runs/get?run_id={damaged}")
            assert (reply.status, "is damaged" in reply.said["message"]) == (400, True)
            assert log_metric(server, damaged) == 400
            assert log_metric(server, sound) == 200
            assert metrics_of(server, sound) == {"m": 1}
            post(server, "runs/update", {"run_id": sound, "status": "FINISHED"})
        with orch_serving(tmp_path) as server:  # one that has never read it while it was sound
            assert ask(server, "GET", f"{API}runs/get?run_id={damaged}").status == 400
            assert log_metric(server, sound, "later") == 200
            assert metrics_of(server, sound) == {"m": 1, "later": 1}


def test_a_rebuild_says_what_it_leaves_out(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        damaged, sound = new_run(server), new_run(server)
        assert log_metric(server, sound) == 200
    assert orch(tmp_path, server.home, "ledger", "rebuild") == f"{server.home / 'ledger.db'}: 2 runs\n"
    journal = server.home / "runs" / damaged / "journal.jsonl"
    journal.write_text('{"event":"created"}\n')
    done = subprocess.run(
        [ORCH, "ledger", "rebuild", "--json"],
        env=environ_of(tmp_path, server.home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["runs"]) == (1, 1)
    said = " ".join(done.stderr.split())
    assert said == f"ledger the journal {journal} is damaged: KeyError: 'spec'."


def test_bytes_that_a_later_file_replaced_go_unless_something_else_names_them(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        run_id, other = new_run(server), new_run(server)
        for n in range(5):
            put(server, run_id, b"state %d" % n)
            assert got(server, run_id) == b"state %d" % n
        put(server, run_id, b"state 1", "best.txt")
        put(server, other, b"state 2")
        put(server, other, b"alpha", "b.txt")
        put(server, other, b"beta", "b.txt")
        put(server, other, b"alpha", "b.txt")
        assert is_stored(server, b"state 3")  # somebody may be reading it
    assert [is_stored(server, b"state %d" % n) for n in range(5)] == [False, True, True, False, True]
    assert [is_stored(server, data) for data in (b"alpha", b"beta")] == [True, False]


def test_replaced_bytes_go_while_the_server_lives_and_never_hold_it_up(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        run_id, home = new_run(server), open_home({"ORCH_HOME": str(server.home)})
        with store.adding(home):
            for n in range(3):
                put(server, run_id, b"state %d" % n)
            time.sleep(REPLACED_SECONDS + 1)
            assert is_stored(server, b"state 0")
            assert got(server, run_id) == b"state 2"
        deadline = time.monotonic() + 5
        while is_stored(server, b"state 0") or is_stored(server, b"state 1"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert got(server, run_id) == b"state 2"
