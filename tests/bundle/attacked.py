"""What attacks on bundles share: changes of what a bundle says, and what must be so when one was refused."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bundle.made_bundle import Parts, changed, sha256

from orchestrator.bundle.land import import_bundle
from orchestrator.bundle.read import unpack_bundle
from orchestrator.errors import OrchError
from orchestrator.paths import Home

Change = Callable[[Parts], Parts]
OTHER = "ab" * 32
GONE = "ab" * 20
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
LAST = "outputs.2.path"
"""The path of an output that is no link, and comes after others."""


def spec_with(place: str, value: Any) -> Change:
    return lambda parts: parts.with_run(spec=changed(parts.spec, place, value))


def record_with(place: str, value: Any) -> Change:
    return lambda parts: parts.with_run(record=changed(parts.record, place, value))


def refuse(changes: Mapping[str, Change]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("change", [*changes.values()], ids=[*changes])


def of_run(run_id: str) -> Change:
    return lambda parts: parts.but(run_id=run_id).with_run(record=parts.record | {"run_id": run_id})


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def raw(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda parts: parts.put({name: change(parts.members[name])})


# --- what an attack must leave as it is ---


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below a folder but databases: its mode, and its sha256 or target. Empty folders do not count."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not re.search(r"\.db(-wal|-shm)?$", name):
                mode = path.lstat().st_mode
                content = os.readlink(path) if stat.S_ISLNK(mode) else sha256(path.read_bytes())
                found[str(path.relative_to(folder))] = (mode, content)
    return found


@dataclass
class Watched:
    """What Python did while it was watched: the programs it started, the hosts it asked, the files it wrote."""

    programs: list[list[str]]
    hosts: list[object]
    written: list[str]


_watched: list[Watched] = []


def _listen(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook (PEP 578): it can't be taken away again, and does nothing while nobody watches."""
    if not _watched:
        return
    if event == "subprocess.Popen":
        _watched[-1].programs.append([os.fsdecode(part) for part in args[1]])
    elif event in ("os.system", "os.exec", "os.posix_spawn", "pickle.find_class"):
        _watched[-1].programs.append([event, repr(args)])
    elif event == "socket.connect":
        _watched[-1].hosts.append(args[1])
    elif event in ("os.rename", "os.link", "os.symlink"):
        _watched[-1].written.append(os.fsdecode(args[1]))
    elif event == "os.mkdir" or (event == "open" and isinstance(args[2], int) and args[2] & _WRITES):
        _watched[-1].written += [os.fsdecode(args[0])] if isinstance(args[0], (str, bytes, os.PathLike)) else []


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
sys.addaudithook(_listen)


@contextmanager
def watching() -> Iterator[Watched]:
    """Watch what this process does within the block."""
    _watched.append(Watched([], [], []))
    try:
        yield _watched[-1]
    finally:
        _watched.pop()


def refused(file: Path, home: Home, folder: Path) -> str:
    """The sentence with which a bundle is refused, when it is checked and when it is imported.

    Nothing may have come of it: `home` is as it was, nothing lies in `folder` but the bundle, no program was started
    but git, and nobody was asked over the network.
    """
    before, around = listing(home.root), sorted(path.name for path in folder.iterdir())
    stage = folder / "stage"
    stage.mkdir()
    with watching() as watched:
        with pytest.raises(OrchError) as checked:
            unpack_bundle(file, stage, keep=False)
        with pytest.raises(OrchError) as imported:
            import_bundle(file, home=home)
    shutil.rmtree(stage)
    said = str(checked.value)
    assert said == str(imported.value), (said, str(imported.value))
    assert said.endswith(".")
    assert said.isprintable(), said
    assert len(said) < 1000, f"{said[:1000]}..."
    after = listing(home.root)
    assert after == before, after.keys() ^ before.keys()
    assert sorted(path.name for path in folder.iterdir()) == around
    assert {program[0] for program in watched.programs} <= {"git"}, watched.programs
    assert watched.hosts == []
    allowed = (str(stage), str(home.root), os.devnull)
    assert [path for path in watched.written if path.startswith("/") and not path.startswith(allowed)] == []
    return said
