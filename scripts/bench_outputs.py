"""The measuring part of scripts/bench outputs: files hashed and stored, bundled and unbundled, beside dvc and zip.

Each tool gets a fresh copy of the files, on the disk already but in one row: what is measured is not the writing of
them. What a tool stores starts empty. All are whole commands but for what a run does with its outputs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench_environments import CHANNEL, CHECKOUT, CONDA_FORGE, ORCH, Case, measure, print_section

from orchestrator.files import remove_tree

DVC = CHECKOUT / ".cache" / "bench" / "peers" / "bin" / "dvc"
SETS = ((200, 10_000_000), (20_000, 100_000))
"""Number of files, bytes of each."""

COLLECT = """\
import sys
from pathlib import Path

from orchestrator import store
from orchestrator.execute.outputs import WorkDirectory, collect_outputs
from orchestrator.paths import open_home

home = open_home()
with store.adding(home):
    outputs, notes, unreadable = collect_outputs(WorkDirectory(Path(sys.argv[1]), ""), {}, home=home, keep=False)
assert len(outputs) == int(sys.argv[2]), (notes, unreadable)
"""
READ = """\
import sys
from pathlib import Path

buffer = bytearray(256 * 1024)
for path in Path(sys.argv[1]).rglob("*.bin"):
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
"""
HASH = """\
import hashlib, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

with ThreadPoolExecutor(os.cpu_count()) as threads:
    list(threads.map(sha256, Path(sys.argv[1]).rglob("*.bin")))
"""

MLPROJECT = """\
name: copied
conda_env: conda.yaml
entry_points:
  main:
    command: cp -r "$BENCH_FILES" files
"""


def main() -> None:
    """Set up, measure, print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    share = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    for number, size in SETS:
        count = max(1, round(number * share))
        with tempfile.TemporaryDirectory(prefix="orch-bench-", dir=CHECKOUT / ".cache" / "bench") as scratch:
            place = Path(scratch)
            environ = prepare(place, count, size)
            name = f"{count} files of {size / 1e6:g} MB"
            for title, cases in sections(place, count).items():
                print_section(f"{name}: {title}", measure(cases, environ, rounds))
            remove_tree(place / "home")  # what is read-only in it


def prepare(place: Path, count: int, size: int) -> dict[str, str]:
    """The files, a dvc repository and a recorded run that has them as its outputs; the variables of all commands."""
    files, home = place / "files", place / "home"
    noise = os.urandom(size)
    for number in range(count):
        file = files / f"{number % 100:02}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(number.to_bytes(8, "big") + noise[8:])
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{CHANNEL.as_uri()}"]\n')
    environ = {
        **os.environ,
        "ORCH_HOME": str(home),
        "BENCH_FILES": str(files),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(place / "dvc-site"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    project = place / "project"
    project.mkdir()
    (project / "MLproject").write_text(MLPROJECT)
    (project / "conda.yaml").write_text("channels: [conda-forge]\ndependencies: [python]\n")
    for command in (
        ("git", "init", "-q", place / "dvc"),
        (DVC, "--cd", place / "dvc", "init", "-q"),
        (ORCH, "run", "-q", "--env", "BENCH_FILES", project),
    ):
        subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
    return environ


def sections(place: Path, count: int) -> dict[str, list[Case]]:
    """What is compared with what; the first case of each section is orch."""
    files, bundle = place / "files", place / "run.zip"
    stored, dvc, other = place / "stored", place / "dvc", place / "other"
    python = (sys.executable, "-c")
    in_home = ("env", f"ORCH_HOME={stored}")

    def fresh(copy: Path | None, *removed: Path, sync: bool = True) -> Callable[[], None]:
        def before() -> None:
            for path in (*removed, *([copy] if copy else [])):
                remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if copy:
                shutil.copytree(files, copy)
            if sync:
                os.sync()

        return before

    def zipped(*options: str) -> tuple[str | Path, ...]:
        return (
            "sh",
            "-ec",
            'cd "$1" && shift && exec zip -qr "$@"',
            "sh",
            place,
            *options,
            place / "made.zip",
            "files",
        )

    made = fresh(None, place / "made.zip")
    work, taken = place / "work" / "checkout" / "files", (*in_home, *python, COLLECT, str(place / "work"), str(count))
    return {
        "hash and store": [
            Case("orch, what a run does with its outputs", fresh(work, stored), taken),
            Case("the same, files not on the disk yet", fresh(work, stored, sync=False), taken),
            Case(
                "dvc add",
                fresh(
                    dvc / "files", dvc / "files.dvc", dvc / ".dvc" / "cache", dvc / ".dvc" / "tmp", place / "dvc-site"
                ),
                (DVC, "--cd", dvc, "add", "-q", "files"),
            ),
            Case("read alone, one core", fresh(None), (*python, READ, str(files))),
            Case("read and sha256 alone, all cores", fresh(None), (*python, HASH, str(files))),
        ],
        "bundle": [
            Case("orch bundle create", fresh(None, bundle), (ORCH, "bundle", "create", "latest", "-o", bundle)),
            Case("zip -0", made, zipped("-0")),
            Case("zip", made, zipped()),
        ],
        "unbundle": [
            Case(
                "orch bundle import",
                fresh(None, other),
                ("env", f"ORCH_HOME={other}", ORCH, "bundle", "import", bundle),
            ),
            Case("unzip", fresh(None, place / "unzipped"), ("unzip", "-q", "-d", place / "unzipped", bundle)),
        ],
    }


if __name__ == "__main__":
    main()
