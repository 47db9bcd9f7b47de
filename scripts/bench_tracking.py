"""The measuring part of scripts/bench tracking: what logging costs by MLflow's client, with orch and with MLflow."""

from __future__ import annotations

import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

CHECKOUT = Path(__file__).parents[1]
ORCH = Path(sys.executable).with_name("orch")
PEERS = CHECKOUT / ".cache" / "bench" / "peers" / "bin"

# A server is asked by a process of its own: `python client.py URI JOB`, which prints seconds.
CLIENT = r"""
import http.client, json, sys, threading, time
from urllib.parse import urlsplit
uri, job = sys.argv[1:]
if job == "plain HTTP":
    address = urlsplit(uri)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    def post(call, body):
        connection.request("POST", "/api/2.0/mlflow/" + call, json.dumps(body), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    run = post("runs/create", {"experiment_id": "0", "start_time": 1})["run"]["info"]["run_id"]
    begin = time.perf_counter()
    for step in range(1000):
        point = {"key": "loss", "value": 1 / (step + 1), "step": step, "timestamp": step}
        post("runs/log-metric", {"run_id": run, **point})
    print(time.perf_counter() - begin)
    sys.exit()
import mlflow
from mlflow.entities import Metric
if uri != "none":
    mlflow.set_tracking_uri(uri)
    run = mlflow.start_run().info.run_id
    client = mlflow.MlflowClient()
    mlflow.log_metric("warm", 1)
def log(count):
    for step in range(count):
        client.log_metric(run, "loss", 1 / (step + 1), step=step)
begin = time.perf_counter()
if job == "log_metric":
    log(500)
elif job == "log_metric, 8 threads":
    threads = [threading.Thread(target=log, args=(100,)) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
elif job == "log_batch":
    for batch in range(50):
        client.log_batch(run, [Metric("loss", i, 1, batch * 1000 + i) for i in range(1000)])
else:  # a training script: 200 steps of some 10 ms, three metrics each
    for step in range(200):
        sum(i * i for i in range(120_000))
        if uri != "none":
            mlflow.log_metrics({"loss": 1 / (step + 1), "accuracy": step / 200, "rate": 0.1}, step=step)
print(time.perf_counter() - begin)
"""
COUNTS = {"plain HTTP": 1000, "log_metric": 500, "log_metric, 8 threads": 800, "log_batch": 50_000}
EVENTS = r"""
import json, os, time
begin = time.perf_counter()
with open(os.environ["ORCH_EVENTS"], "a") as file:
    for step in range(1_000_000):
        file.write('{"metric": "loss", "value": %.17g, "step": %d, "timestamp": %d}\n' % (1 / (step + 1), step, step))
print(time.perf_counter() - begin)
"""


def main() -> None:
    """Start both servers, ask them in turn, print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as scratch, ExitStack() as servers:
        place = Path(scratch)
        (place / "client.py").write_text(CLIENT)
        uris = {
            "orch server": servers.enter_context(orch_server(place)),
            "mlflow server": servers.enter_context(mlflow_server(place)),
            "no server, SQLite": f"sqlite:///{place / 'direct.db'}",
        }
        seconds = measure(uris, place, rounds)
        print_rates(seconds)
        print_training(seconds)
        print_many_points(place)


def measure(uris: dict[str, str], place: Path, rounds: int) -> dict[tuple[str, str], float]:
    """The median of seconds by job and by what keeps the record, all in turn."""
    pairs = [(job, name) for job in COUNTS for name in uris if (job, name) != ("plain HTTP", "no server, SQLite")]
    pairs += [("training", name) for name in ("none", *uris)]
    times: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    for _ in range(rounds):
        for job, name in pairs:
            command = [PEERS / "python", place / "client.py", uris.get(name, "none"), job]
            done = subprocess.run(command, cwd=place, env=quiet(place), stdout=subprocess.PIPE, text=True, check=True)
            times[job, name].append(float(done.stdout.split()[-1]))
    return {pair: statistics.median(found) for pair, found in times.items()}


def print_rates(seconds: dict[tuple[str, str], float]) -> None:
    """Calls, or points, a second."""
    print(f"{'per second':<24}{'orch server':>14}{'mlflow server':>16}{'ratio':>8}{'no server, SQLite':>20}")
    for job, count in COUNTS.items():
        ours, theirs = (count / seconds[job, name] for name in ("orch server", "mlflow server"))
        direct = seconds.get((job, "no server, SQLite"))
        told = f"{count / direct:20.0f}" if direct else ""
        print(f"{job:<24}{ours:14.0f}{theirs:16.0f}{ours / theirs:7.1f}x{told}")


def print_training(seconds: dict[tuple[str, str], float]) -> None:
    """What a script loses by logging, beside the same script that logs nothing."""
    plain = seconds["training", "none"]
    print(f"\na script of 200 steps that log three metrics each: {plain:.2f} s without logging")
    for (job, name), taken in seconds.items():
        if job == "training" and name != "none":
            print(f"  {name:<22}{taken:6.2f} s{taken / plain:8.2f}x")


def print_many_points(place: Path) -> None:
    """A run whose program writes 1,000,000 points to `$ORCH_EVENTS`, beside the same program alone."""
    project = place / "many"
    project.mkdir()
    (project / "MLproject").write_text("name: many\nentry_points:\n  main:\n    command: python many.py\n")
    (project / "many.py").write_text(EVENTS)
    environ = quiet(place)
    told = subprocess.run(
        [ORCH, "run", "-q", project], env=environ, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    begin = time.perf_counter()
    told = subprocess.run(
        [ORCH, "run", "-q", project], env=environ, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    whole = time.perf_counter() - begin
    prefix = next(p for p in (place / "orch-home" / "envs").iterdir() if not p.name.startswith("."))
    alone = subprocess.run(
        [prefix / "bin" / "python", project / "many.py"],
        env={**environ, "ORCH_EVENTS": str(place / "events.jsonl")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    print(
        f"\n1,000,000 points in $ORCH_EVENTS: the program {float(told):.2f} s, alone {float(alone):.2f} s; "
        f"orch run as a whole {whole:.1f} s"
    )


def quiet(place: Path) -> dict[str, str]:
    """The variables of a client and of a server."""
    home = place / "orch-home"
    home.mkdir(exist_ok=True)
    channel = (CHECKOUT / ".cache" / "channel").as_uri()
    (home / "config.toml").write_text(f'[mirrors]\n"https://conda.anaconda.org/conda-forge" = ["{channel}"]\n')
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "ORCH_"))}
    silence = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    return {**kept, **silence, "ORCH_HOME": str(home)}


@contextmanager
def orch_server(place: Path) -> Iterator[str]:
    """The URL of `orch server` over a ledger of its own."""
    command = [ORCH, "server", "--port", "0", "--no-token"]
    server = subprocess.Popen(command, env=quiet(place), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert server.stderr is not None
        url = next(found[0] for line in server.stderr if (found := re.search(r"http://[\w.:]+", line)))
        yield url
        print_memory("orch server", server.pid)
    finally:
        server.terminate()
        server.wait()


@contextmanager
def mlflow_server(place: Path) -> Iterator[str]:
    """The URL of `mlflow server` with its usual workers, on SQLite."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [PEERS / "mlflow", "server", "--port", str(port), "--backend-store-uri", f"sqlite:///{place}/mlflow.db"]
    environ = {**quiet(place), "PATH": f"{PEERS}:{os.environ['PATH']}"}
    log = (place / "mlflow-server.log").open("wb")
    server = subprocess.Popen(command, cwd=place, env=environ, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urlopen(f"{url}/health", timeout=2).close()
                break
            except (URLError, OSError):
                if server.poll() is not None or time.monotonic() > end:
                    sys.exit((place / "mlflow-server.log").read_text())
                time.sleep(0.2)
        yield url
        print_memory("\nmlflow server", server.pid)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def print_memory(name: str, pid: int) -> None:
    """What a server and its processes hold of their own."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    own = sum(process.memory_full_info().uss for process in processes)
    print(f"{name}: {own / 2**20:.0f} MiB of memory in {len(processes)} process{'es' * (len(processes) > 1)}")


main()
