"""Runs a command of orch for the dashboard."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.tui.logtail import printable


async def orch(*arguments: str) -> tuple[str, ...]:
    """What a command of orch prints. It has no terminal: whatever would ask fails instead."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "orchestrator", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()  # who waits for it would miss the loop
    return tuple(printable(line) for line in output.decode("utf-8", "replace").splitlines())
