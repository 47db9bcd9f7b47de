"""Runs rendered commands in a real bash, and tells what the program got."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from orchestrator.project import Script

ARGV = "#!/bin/sh\nprintf '%s\\0' $# \"$@\"\n"
"""A program that prints the number of its arguments, and them, each with a NUL behind it."""


def run_script(script: Script, folder: Path, seconds: float = 20) -> str:
    """What the script printed. Its folder holds the `argv` program; whatever it left running is ended."""
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        ["bash", "-c", script.text],
        env={**environment, **script.variables},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        out = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        out = b""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    return out.decode("utf-8", "surrogateescape")


def arguments(printed: str) -> list[list[str]]:
    """The argument lists that `argv` printed, one per call."""
    words = printed.split("\0")[:-1]
    calls = []
    while words:
        count = int(words.pop(0))
        calls.append(words[:count])
        del words[:count]
    return calls


def install_argv(folder: Path) -> None:
    program = folder / "argv"
    program.write_text(ARGV)
    program.chmod(0o755)
