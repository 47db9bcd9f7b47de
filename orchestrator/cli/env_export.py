"""`orch env export`: an environment in the format of another tool, to stdout, a file or a folder."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.env import known_platform, tell
from orchestrator.environment.lock import read_lock
from orchestrator.environment_of import Found, environment_of
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import Home, open_home

CHANNEL = "channel"
"""The format that is a folder."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `orch env export`, as typed."""

    environment: str
    format: str
    output: Path | None
    platforms: tuple[str, ...]
    no_builds: bool
    from_history: bool
    offline: bool


def export(options: Options) -> None:
    """Write the environment. Without `--platform`, for every platform that it is locked for."""
    from orchestrator.environment import export as formats

    known = (*formats.FORMATS, CHANNEL)
    if options.format not in known:
        raise UsageError(f"--format {options.format} is unknown; there are {', '.join(known)}.")
    if options.format == CHANNEL:
        _refuse_for_channel(options)
    platforms = tuple(known_platform(name) for name in dict.fromkeys(options.platforms))
    home = open_home(offline=options.offline)
    lock_ids: dict[str, str] = {}
    for wanted in platforms or (None,):
        found = environment_of(options.environment, home=home, report=tell, platform=wanted)
        lock_ids |= found.locks if wanted is None else {wanted: found.lock_for(wanted)}
    for note in found.notes:
        tell("note", note)
    if options.format == CHANNEL:
        _write_channel(options, tuple(lock_ids.values()), home)
        return
    written = formats.export(
        options.format,
        [read_lock(home, lock_id) for lock_id in lock_ids.values()],
        name=_name(options.environment, found),
        no_builds=options.no_builds,
        from_history=options.from_history,
        home=home,
    )
    if options.output is None:
        sys.stdout.write(written)
    else:
        _write(options.output, written)


def _refuse_for_channel(options: Options) -> None:
    if options.output is None:
        raise UsageError("--format channel writes a folder: name it with -o DIR.")
    if options.no_builds or options.from_history:
        option = "--no-builds" if options.no_builds else "--from-history"
        raise UsageError(f"{option} is for --format environment; channel has no such variant.")


def _write_channel(options: Options, lock_ids: tuple[str, ...], home: Home) -> None:
    from orchestrator.cli.text import plural, size
    from orchestrator.environment.export.folder_channel import export_channel

    folder = options.output
    assert folder is not None  # noqa: S101 - `_refuse_for_channel` saw to it, for the type checker
    done = export_channel(folder, lock_ids, home=home, report=tell)
    wheels = [plural(done.wheels, "wheel")] if done.wheels else []
    parts = [plural(done.packages, "conda package"), *wheels, size(done.size)]
    print(f"{folder}: {', '.join(parts)}. Its config.toml, for the machine that will use it:\n", file=sys.stderr)
    print(done.config, end="", file=sys.stderr)


def _name(text: str, found: Found) -> str:
    """A name for the environment that tells nothing of this machine but the last name of a folder."""
    if found.run_id is not None:
        return f"run-{found.run_id[:16]}"
    if found.label.startswith("lock "):
        return found.label.replace(" ", "-")
    path = Path(text.partition("#")[0] if not Path(text).exists() else text).expanduser()
    if path.exists():
        path = path.resolve()
        last = path.parent.name if path.is_file() else path.name
    else:
        last = text.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-") or "environment"


def _write(output: Path, text: str) -> None:
    """The whole file or none of it."""
    aside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        try:
            aside.write_text(text, "utf-8")
            aside.replace(output)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise OrchError(f"{output} can't be written: {error.strerror}.") from error
