"""Files of the work directory that the program named as artifacts, in lines of `$ORCH_EVENTS`."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from orchestrator import journal
from orchestrator.execute.events import NamedArtifact
from orchestrator.execute.outputs import WorkDirectory
from orchestrator.paths import stays_below


def copy_artifacts(work: WorkDirectory, named: Iterable[NamedArtifact]) -> list[str]:
    """Copy what was named to the run's artifacts, when the program has ended; what could not be, as sentences.

    A relative path begins where the program started. Nothing outside the run's own folders is taken, and what is
    among the artifacts already stays as it is.
    """
    problems = []
    for artifact in named:
        try:
            _copy(work, artifact)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
            which = f"line {artifact.line} of $ORCH_EVENTS: the artifact {artifact.path}"
            problems.append(f"{which} can't be copied: {_said(error)}")
    return problems


def _said(error: Exception) -> str:
    if isinstance(error, shutil.Error):  # of a folder: what could not be copied, and why
        path, _, why = error.args[0][0]
        return f"{path}: {why}"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)[:300]


def _copy(work: WorkDirectory, artifact: NamedArtifact) -> None:
    source = (work.project / artifact.path).resolve(strict=True)
    if not source.is_relative_to(work.root.resolve()):
        raise ValueError("it is not in the run's work directory")
    name = source.name if artifact.name is None else artifact.name
    if not stays_below(name):
        raise ValueError(f"{name!r} is no path below the artifacts")
    target = work.artifacts / name
    if source == target.resolve():
        return
    if work.artifacts.resolve() in (source, *source.parents) or source in target.resolve().parents:
        raise ValueError("it is among the artifacts, or holds them")
    if os.path.lexists(target) or not target.parent.resolve().is_relative_to(work.artifacts.resolve()):
        raise ValueError(f"artifacts/{name} is there already")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)
    else:
        _copy_file(source, target)


def _copy_file(source: str | Path, target: str | Path) -> None:
    if not Path(source).is_file():
        raise shutil.SpecialFileError("it is no regular file")
    with journal.open_plain(Path(source)) as file, Path(target).open("xb") as copy:
        shutil.copyfileobj(file, copy)
        os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
