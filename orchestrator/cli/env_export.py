"""`orch env export`: an environment in the format of another tool, to stdout, a file or a folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.tell import tell, tell_notes
from orchestrator.environment.host import known_platform
from orchestrator.environment.lock import read_lock
from orchestrator.environment_of import Found, environment_of, may_be_place
from orchestrator.errors import OrchError, UsageError
from orchestrator.files import write_whole
from orchestrator.paths import Home, open_home
from orchestrator.report import plural


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

    known = (*formats.FORMATS, formats.CHANNEL)
    formats.refuse(options.format, no_builds=options.no_builds, from_history=options.from_history, known=known)
    folder = options.output if options.format == formats.CHANNEL else None
    if options.format == formats.CHANNEL and folder is None:
        raise UsageError("--format channel writes a folder: name it with -o DIR.")
    platforms = tuple(known_platform(name) for name in dict.fromkeys(options.platforms))
    home = open_home(offline=options.offline, make=may_be_place(options.environment))
    lock_ids: dict[str, str] = {}
    notes: list[str] = []
    for wanted in platforms or (None,):
        found = environment_of(options.environment, home=home, report=tell, platform=wanted)
        lock_ids |= found.locks if wanted is None else {wanted: found.lock_for(wanted)}
        notes += found.notes
    tell_notes(notes)
    if folder is not None:
        _write_channel(folder, lock_ids, home)
        return
    written = formats.export(
        options.format,
        [read_lock(home, lock_id, platform) for platform, lock_id in lock_ids.items()],
        name=_name(options.environment, found),
        no_builds=options.no_builds,
        from_history=options.from_history,
        home=home,
    )
    if options.output is None:
        sys.stdout.write(written)
    else:
        _write(options.output, written)


def _write_channel(folder: Path, lock_ids: Mapping[str, str], home: Home) -> None:
    from orchestrator.cli.text import size
    from orchestrator.environment.export.folder_channel import export_channel

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
    try:
        write_whole(output.resolve(), text.encode())
    except OSError as error:
        raise OrchError(f"{output} can't be written: {error.strerror}.") from error
