"""What the start of the program may load. A module here is time that every command takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = {
    "asyncio", "conda_lock", "concurrent", "ctypes", "email", "filelock", "git", "gitdb", "http", "importlib_metadata",
    "logging", "multiprocessing", "packaging", "psutil", "pydantic", "rattler", "rich", "sqlite_utils", "ssl",
    "urllib.request", "uv", "xml", "yaml", "zipfile",
}  # fmt: skip
MOST_MODULES = {"help": 150, "viewer": 270}


def loaded_by(*arguments: str, code: str = "") -> set[str]:
    """The modules in memory at the end of `orch ARGUMENTS`."""
    script = f"""
import os, sys
sys.argv = ["orch", *{arguments!r}]
from orchestrator import cli
{code}
def end(code):
    sys.stderr.write("MODULES " + " ".join(sys.modules) + "\\n")
    sys.stderr.flush()
    os.kill(os.getpid(), 9)
os._exit = end
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return set(next(line for line in done.stderr.splitlines() if line.startswith("MODULES ")).split()[1:])


def heavy(modules: set[str]) -> set[str]:
    return {name for name in HEAVY if name in modules or any(m.startswith(f"{name}.") for m in modules)}


def test_help_loads_the_command_line_and_little_else() -> None:
    modules = loaded_by("--help")
    assert heavy(modules) == set()
    assert {m for m in modules if m.startswith("orchestrator")} == {
        "orchestrator",
        "orchestrator.cli",
        "orchestrator.cli.app",
        "orchestrator.cli.options",
        "orchestrator.cli.run_options",
        "orchestrator.errors",
    }
    assert len(modules) <= MOST_MODULES["help"]


def test_a_warm_run_loads_nothing_that_solves_installs_or_draws(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    # The viewer's process: what it holds at its end, it or its fork had loaded before the fork.
    modules = loaded_by("run", str(tmp_path / "gone"), "--quiet")
    assert heavy(modules) == set()
    assert len(modules) <= MOST_MODULES["viewer"]
