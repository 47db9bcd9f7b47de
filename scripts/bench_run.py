"""The measuring part of scripts/bench: whole commands in turn, in one session; medians, and what each adds."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
ORCH = Path(sys.executable).with_name("orch")
PEERS = CHECKOUT / ".cache" / "bench" / "peers" / "bin"

# The least that a record needs: the commit, whether the tree is clean, the script's sha256, two durable writes.
FLOOR = """\
import hashlib, sqlite3, subprocess, sys
commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True).stdout
dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True).stdout
digest = hashlib.sha256(open("step.py", "rb").read()).hexdigest()
with sqlite3.connect(sys.argv[2], isolation_level=None) as db:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS runs (sha TEXT, tree TEXT, dirty TEXT, code INT)")
    row = db.execute("INSERT INTO runs VALUES (?, ?, ?, NULL)", (digest, commit, dirty)).lastrowid
    code = subprocess.run([sys.argv[1], "step.py"], stdout=open(sys.argv[2] + ".log", "wb")).returncode
    db.execute("UPDATE runs SET code = ? WHERE rowid = ?", (code, row))
"""

FILES = {
    "MLproject": "name: step\nconda_env: conda.yaml\nentry_points:\n  main:\n    command: python step.py\n",
    "conda.yaml": "channels: [conda-forge]\ndependencies: [python]\n",
    "step.py": 'open("out.txt", "w").write("twelve bytes")\n',
    "dvc.yaml": "stages:\n  main:\n    cmd: python step.py\n    deps: [step.py]\n    outs: [out.txt]\n",
}


def main() -> None:
    """Set up, measure, print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as scratch:
        place = Path(scratch)
        environ, python = prepare(place)
        commands = {
            "plain command": [python, "step.py"],
            "git + SQLite + sha256 floor": [sys.executable, "-c", FLOOR, python, str(place / "floor.db")],
            "orch run": [ORCH, "run", ".", "-q"],
            "orch replay": [ORCH, "replay", "-q"],
            "dvc repro -f": [PEERS / "dvc", "repro", "-f", "-q"],
            "mlflow run --env-manager local": [PEERS / "mlflow", "run", ".", "--env-manager", "local"],
            "orch --help": [ORCH, "--help"],
            "mlflow --help": [PEERS / "mlflow", "--help"],
            "dvc --help": [PEERS / "dvc", "--help"],
        }
        times = measure(commands, place, environ, rounds)
        print_table(times)
        print_phases(place, environ, rounds)
        print_supervisor_memory(place, environ)


def prepare(place: Path) -> tuple[dict[str, str], str]:
    """A copy of the project for each tool, an ORCH_HOME with a warm environment; the variables and its Python."""
    home = place / "orch-home"
    home.mkdir()
    channel = (CHECKOUT / ".cache" / "channel").as_uri()
    (home / "config.toml").write_text(f'[mirrors]\n"https://conda.anaconda.org/conda-forge" = ["{channel}"]\n')
    quiet = {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_CONFIG_GLOBAL": os.devnull}
    quiet |= {f"GIT_{who}_{what}": "bench@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environ = {**os.environ, **quiet, "ORCH_HOME": str(home), "PATH": f"{PEERS}:{os.environ['PATH']}"}
    environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place / 'mlflow.db'}"
    for tool in ("plain", "git", "orch", "dvc", "mlflow"):
        folder = place / tool
        folder.mkdir()
        for name, text in FILES.items():
            (folder / name).write_text(text)
        (folder / ".gitignore").write_text("out.txt\n*.log\n")
        for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
            subprocess.run(["git", *arguments], cwd=folder, env=environ, check=True)
    subprocess.run([PEERS / "dvc", "init", "-q"], cwd=place / "dvc", env=environ, check=True)
    subprocess.run([ORCH, "run", ".", "-q"], cwd=place / "orch", env=environ, check=True)
    prefix = next(p for p in (home / "envs").iterdir() if not p.name.startswith("."))
    return environ, str(prefix / "bin" / "python")


def measure(commands: dict[str, list], place: Path, environ: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each command, all in turn, so that a slow minute slows them all; the first round is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            tool = name.split()[0]
            folder = place / (tool if (place / tool).is_dir() else "plain")
            begin = time.perf_counter()
            subprocess.run(
                command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
            )
            if turn:
                times[name].append(time.perf_counter() - begin)
    return times


def print_table(times: dict[str, list[float]]) -> None:
    """Median, range, and what comes on top of the plain command, also as a share of what orch adds."""
    plain = statistics.median(times["plain command"])
    added_by_orch = statistics.median(times["orch run"]) - plain
    print(f"{'command':<34}{'median':>9}{'min':>8}{'max':>8}{'added':>9}{'of orch':>9}   (ms)")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        added = "" if "help" in name else f"{(median - plain) * 1000:9.0f}{(median - plain) / added_by_orch:8.1f}x"
        print(f"{name:<34}{median * 1000:9.0f}{min(seconds) * 1000:8.0f}{max(seconds) * 1000:8.0f}{added}")


def print_phases(place: Path, environ: dict[str, str], rounds: int) -> None:
    """Where the time of `orch run` goes, from the times in its progress file."""
    home = Path(environ["ORCH_HOME"])
    spans: dict[str, list[float]] = {}
    for _ in range(rounds):
        begin = time.time()
        subprocess.run([ORCH, "run", ".", "-q"], cwd=place / "orch", env=environ, check=True)
        end = time.time()
        run = max((home / "runs").iterdir())
        lines = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
        at = {key: line["at"] for line in lines for key in [line.get("phase") or next(iter(line))]}
        marks = [
            ("start of Python, options, fork", begin, at["begun"]),
            ("source: which commit", at["begun"], at["source"]),
            ("project, parameters, lock", at["source"], at["environment"]),
            ("prefix, checkout, record", at["environment"], at["program"]),
            ("the program itself", at["program"], at["over"]),
            ("outputs, record, ledger", at["over"], at["end"]),
            ("last look, exit", at["end"], end),
        ]
        for name, start, stop in marks:
            spans.setdefault(name, []).append(stop - start)
    print("\nwhere the time of orch run goes (median, ms)")
    for name, seconds in spans.items():
        print(f"  {name:<34}{statistics.median(seconds) * 1000:7.0f}")


def print_supervisor_memory(place: Path, environ: dict[str, str]) -> None:
    """What a supervisor holds while its program runs: resident, and its own share of that."""
    import psutil

    project = place / "sleep"
    shutil.copytree(place / "orch", project)
    (project / "step.py").write_text("import time\ntime.sleep(3)\n")
    viewer = subprocess.Popen([ORCH, "run", ".", "-q"], cwd=project, env=environ)
    time.sleep(2)
    newest = max((Path(environ["ORCH_HOME"]) / "runs").iterdir())
    memory = psutil.Process(json.loads((newest / "supervisor.json").read_text())["pid"]).memory_full_info()
    viewer.wait()
    print(f"\na waiting supervisor: {memory.rss / 2**20:.0f} MiB resident, {memory.uss / 2**20:.0f} MiB of its own")


main()
