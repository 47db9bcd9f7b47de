"""What `orch server` acknowledged is kept, once: whoever else writes at the same time, and whenever it is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from tracking.calls import API, ARTIFACTS
from tracking.serving import ORCH, Server, ask, environ_of, orch_serving

CLIENTS, CALLS = 8, 500


def post(server: Server, call: str, body: Any) -> Any:
    reply = ask(server, "POST", API + call, body)
    assert reply.status == 200, reply.said
    return reply.said


def new_run(server: Server) -> str:
    return str(post(server, "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"])


def log(server: Server, run_ids: list[str], who: str, calls: int) -> list[tuple[str, str]]:
    """Log with each call, by turns, a metric, a parameter, a tag or a batch; what was acknowledged, by run."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}

    def tell(call: str, body: Any) -> None:
        connection.request("POST", API + call, json.dumps(body), headers)
        with connection.getresponse() as response:
            said = response.read()
            assert response.status == 200, said

    done: list[tuple[str, str]] = []
    try:
        for n in range(calls):
            run_id = run_ids[n // 4 % len(run_ids)]
            key, kind = f"{who}.{n}", n % 4
            pair = {"key": key, "value": str(n)}
            point = {"key": "shared", "value": n, "timestamp": n, "step": int(who, 36) * 1000 + n}
            if kind == 0:
                tell("runs/log-metric", {"run_id": run_id, **point})
            elif kind == 1:
                tell("runs/log-parameter", {"run_id": run_id, **pair})
            elif kind == 2:
                tell("runs/set-tag", {"run_id": run_id, **pair})
            else:
                other = {"key": key, "value": n, "timestamp": n, "step": 0}
                tell("runs/log-batch", {"run_id": run_id, "metrics": [point, other], "params": [pair]})
            done.append((run_id, key))
    except (HTTPException, OSError):
        pass  # it was killed
    finally:
        connection.close()
    return done


def wanted(done: list[tuple[str, str]]) -> dict[str, Counter[tuple[str, ...]]]:
    """What each run must have of the calls that were acknowledged."""
    facts: dict[str, Counter[tuple[str, ...]]] = {}
    for run_id, key in done:
        who, n = key.split(".")
        step = str(int(who, 36) * 1000 + int(n))
        found = facts.setdefault(run_id, Counter())
        shared = ("metric", "shared", step, str(float(n)))
        found += {
            0: Counter([shared]),
            1: Counter([("param", key, n)]),
            2: Counter([("tag", key, n)]),
            3: Counter([shared, ("metric", key, "0", str(float(n))), ("param", key, n)]),
        }[int(n) % 4]
    return facts


def in_ledger(home: Path) -> dict[str, Counter[tuple[str, ...]]]:
    """What the ledger has of each run, every row of it."""
    ledger = sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True)
    facts: dict[str, Counter[tuple[str, ...]]] = {
        run_id: Counter() for (run_id,) in ledger.execute("SELECT run_id FROM runs")
    }
    for run_id, key, step, value in ledger.execute("SELECT run_id, key, step, value FROM metrics"):
        facts[run_id][("metric", key, str(step), str(value))] += 1
    for kind in ("param", "tag"):
        for run_id, key, value in ledger.execute(f"SELECT run_id, key, value FROM {kind}s"):
            facts[run_id][(kind, key, value)] += 1
    ledger.close()
    return facts


def dump(home: Path) -> dict[str, list[Any]]:
    """The rows of the tables that journals decide."""
    ledger = sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True)
    tables = ("runs", "params", "tags", "metrics", "latest_metrics", "outputs", "experiments", "experiment_tags")
    rows = {table: ledger.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    ledger.close()
    return {table: sorted(found, key=repr) for table, found in rows.items()}


def assert_kept(home: Path, done: list[tuple[str, str]]) -> None:
    """All that was acknowledged is in the ledger, and nothing twice."""
    found = in_ledger(home)
    for run_id, facts in wanted(done).items():
        missing = facts - found[run_id]
        assert not missing, f"{len(missing)} of {len(facts)} are missing, as {list(missing)[:3]}"
    doubled = [fact for facts in found.values() for fact, count in facts.items() if count > 1]
    assert not doubled, f"{len(doubled)} are there twice, as {doubled[:3]}"


def assert_rebuilt_is_same(folder: Path, home: Path) -> None:
    before = dump(home)
    orch(folder, home, "ledger", "rebuild")
    after = dump(home)
    for table, rows in before.items():
        assert after[table] == rows, f"{table}: {len(rows)} rows, and {len(after[table])} when made again"


def orch(folder: Path, home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [ORCH, *arguments], env=environ_of(folder, home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_threads(actions: list[Callable[[], list[tuple[str, str]]]]) -> list[tuple[str, str]]:
    with ThreadPoolExecutor(len(actions)) as threads:
        return [one for done in [threads.submit(action) for action in actions] for one in done.result()]


def test_many_clients_at_once_lose_nothing(tmp_path: Path) -> None:
    """Threads, each with a run of its own and one that all share."""
    with orch_serving(tmp_path) as server:
        shared = new_run(server)
        done = in_threads(
            [lambda who=who: log(server, [shared, new_run(server)], str(who), CALLS) for who in range(CLIENTS)]
        )
        assert len(done) == CLIENTS * CALLS
        reply = ask(server, "GET", f"{API}runs/get?run_id={shared}")
        assert len(reply.said["run"]["data"]["params"]) == sum(k[0] == "param" for k in wanted(done)[shared])
    assert_kept(server.home, done)
    assert_rebuilt_is_same(tmp_path, server.home)


def test_many_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        shared = new_run(server)
        program = (
            "import json, sys; from pathlib import Path; from tracking import test_durable_server as t; "
            "from tracking.serving import Server; "
            "port, token, run_id, who, calls = sys.argv[1:]; "
            "print(json.dumps(t.log(Server(int(port), token, Path(), None), [run_id], who, int(calls))))"
        )
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(server.port), str(server.token), shared, str(who), "100"],
                env=environ,
                stdout=subprocess.PIPE,
            )
            for who in range(4)
        ]
        done = [(run_id, key) for p in processes for run_id, key in json.loads(p.communicate(timeout=60)[0])]
        assert len(done) == 400
    assert_kept(server.home, done)


def test_what_a_killed_server_acknowledged_is_kept(tmp_path: Path) -> None:
    """Each round another server is killed at some moment, on the same home; the next one has it all."""
    chance, home = random.Random(7), tmp_path / "home"
    done: list[tuple[str, str]] = []
    ended: set[str] = set()
    for round_ in range(5):
        with orch_serving(tmp_path, home=home) as server:
            assert_kept(home, done)
            runs = [new_run(server) for _ in range(3)]
            # One of them has ended, and is logged to all the same.
            post(server, "runs/update", {"run_id": runs[2], "status": "FINISHED", "end_time": 5000})
            ended.add(runs[2])
            threading.Timer(chance.uniform(0.1, 0.7), os.kill, (server.process.pid, signal.SIGKILL)).start()
            done += in_threads([partial(log, server, runs, f"{round_}{n}", 10**6) for n in range(3)])
            server.process.wait(10)
    with orch_serving(tmp_path, home=home) as server:
        assert_kept(home, done)
        for run_id in ended:
            info = ask(server, "GET", f"{API}runs/get?run_id={run_id}").said["run"]["info"]
            assert (info["status"], info["end_time"]) == ("FINISHED", 5000)
    assert len(done) > 200
    assert_rebuilt_is_same(tmp_path, home)


def test_an_acknowledged_experiment_end_or_file_outlives_a_kill(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        experiment = post(server, "experiments/create", {"name": "e", "tags": [{"key": "a", "value": "1"}]})
        post(server, "experiments/delete-experiment-tag", {**experiment, "key": "a"})
        post(server, "experiments/set-experiment-tag", {**experiment, "key": "b", "value": "2"})
        post(server, "experiments/update", {**experiment, "new_name": "renamed"})
        run_id = post(server, "runs/create", experiment)["run"]["info"]["run_id"]
        post(server, "runs/update", {"run_id": run_id, "status": "FAILED", "end_time": 1000, "run_name": "late name"})
        assert ask(server, "PUT", f"{ARTIFACTS}/0/{run_id}/artifacts/a.txt", b"alpha").status == 200
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
    with orch_serving(tmp_path) as server:
        (known,) = ask(server, "GET", f"{API}experiments/get-by-name?experiment_name=renamed").said.values()
        assert known["tags"] == [{"key": "b", "value": "2"}]
        run = ask(server, "GET", f"{API}runs/get?run_id={run_id}").said["run"]
        assert (run["info"]["status"], run["info"]["run_name"]) == ("FAILED", "late name")
        assert ask(server, "GET", f"{ARTIFACTS}/0/{run_id}/artifacts/a.txt").body == b"alpha"
    assert_rebuilt_is_same(tmp_path, server.home)


def test_two_servers_and_who_looks_on_lose_and_double_nothing(tmp_path: Path) -> None:
    home, over = tmp_path / "home", threading.Event()
    looks: list[str] = []

    def look() -> None:
        while not over.is_set():
            looks.extend(orch(tmp_path, home, command) for command in ("list", "ps"))

    with ExitStack() as servers:
        both = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            both.append(servers.enter_context(orch_serving(tmp_path / name, home=home)))
        shared = new_run(both[0])
        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            done = in_threads([lambda who=who: log(both[who % 2], [shared], str(who), 250) for who in range(4)])
        finally:
            over.set()
            watcher.join()
        assert len(done) == 1000
        # Each has what was told to the other.
        for server in both:
            data = ask(server, "GET", f"{API}runs/get?run_id={shared}").said["run"]["data"]
            assert len(data["params"]) == 500
        assert_kept(home, done)
    assert looks
    assert_rebuilt_is_same(tmp_path, home)


def test_two_servers_let_a_parameter_have_one_value(tmp_path: Path) -> None:
    """Who comes second is refused, whichever server he asked."""
    home = tmp_path / "home"
    with ExitStack() as servers:
        both = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            both.append(servers.enter_context(orch_serving(tmp_path / name, home=home)))
        run_id = new_run(both[0])

        def claim(server: Server, value: str, n: int) -> bool:
            told = {"run_id": run_id, "key": f"p{n}", "value": value}
            return ask(server, "POST", f"{API}runs/log-parameter", told).status == 200

        with ThreadPoolExecutor(2) as threads:
            for n in range(40):
                taken = list(threads.map(claim, both, ("one", "other"), (n, n)))
                assert sorted(taken) == [False, True]


def test_a_run_that_is_removed_meanwhile_is_gone_and_the_others_are_kept(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        gone, kept = new_run(server), new_run(server)
        post(server, "runs/update", {"run_id": gone, "status": "FINISHED"})
        assert ask(server, "GET", f"{API}runs/get?run_id={gone}").status == 200
        orch(tmp_path, server.home, "rm", gone)
        refused = ask(server, "POST", f"{API}runs/log-metric", {"run_id": gone, "key": "m", "value": 1, "timestamp": 1})
        assert refused.status == 404
        done = log(server, [kept], "1", 20)
        assert len(done) == 20
    assert_kept(server.home, done)


@pytest.mark.parametrize("with_metrics", [False, True])
def test_a_ledger_that_is_made_again_meanwhile_has_it_all(with_metrics: bool, tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        run_id = new_run(server)
        done = log(server, [run_id], "1", 40 if with_metrics else 3)
        time.sleep(0.4)
        orch(tmp_path, server.home, "ledger", "rebuild")
        done += log(server, [run_id], "2", 40)
    assert_kept(server.home, done)
    assert_rebuilt_is_same(tmp_path, server.home)


def test_the_latest_point_is_the_same_one_when_the_ledger_is_made_again(tmp_path: Path) -> None:
    """Of equal step and time the one that came last."""
    logged = {"up": [1, 2], "down": [2, 1], "not a number": ["NaN", 1], "no more": [-1, "NaN"], "only": ["NaN"]}
    with orch_serving(tmp_path) as server:
        run_id = new_run(server)
        for key, values in logged.items():
            for value in values:
                point = {"run_id": run_id, "key": key, "value": value, "timestamp": 1, "step": 1}
                post(server, "runs/log-metric", point)
                ask(server, "GET", f"{API}runs/get?run_id={run_id}")  # each comes to the ledger alone
        known = ask(server, "GET", f"{API}runs/get?run_id={run_id}").said["run"]["data"]["metrics"]
    latest = {"up": 2, "down": 1, "not a number": 1, "no more": "NaN", "only": "NaN"}
    assert {metric["key"]: metric["value"] for metric in known} == latest
    assert_rebuilt_is_same(tmp_path, server.home)


def test_a_server_that_is_ended_has_brought_all_into_the_ledger(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with orch_serving(tmp_path) as server:
            done = log(server, [new_run(server)], "1", 30)
            server.process.send_signal(number)
            assert server.process.wait(10) in (0, 130)
            assert_kept(server.home, done)
