"""`orch log`: what a program of any language has to say of its run, as lines in the file that `$ORCH_EVENTS` names."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError, UsageError


def log_metric(name: str, value: str, step: int) -> None:
    """`orch log metric`."""
    from orchestrator.canonical import number_to_json

    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"the value of a metric is a number, as 0.8 or 1e-3 or nan, not {value!r}.") from None
    _tell({"metric": name, "value": number_to_json(number), "step": step, "timestamp": time.time_ns() // 1_000_000})


def log_param(name: str, value: str) -> None:
    """`orch log param`."""
    _tell({"param": name, "value": value})


def log_tag(name: str, value: str) -> None:
    """`orch log tag`."""
    _tell({"tag": name, "value": value})


def log_artifact(path: Path, name: str | None) -> None:
    """`orch log artifact`: a copy of a file, or of a folder, among the run's artifacts.

    As with MLflow, a file takes the place of one that is there, and a folder is added to one that is there.
    """
    from orchestrator.paths import stays_below

    folder = os.environ.get("ORCH_ARTIFACTS")
    if not folder:
        raise _outside("ORCH_ARTIFACTS")
    name = path.resolve().name if name is None else name
    if not stays_below(name):
        raise UsageError(f"--as takes a path below the run's artifacts, not {name!r}.")
    try:
        source, target = path.resolve(strict=True), Path(folder)
        if target.resolve().is_relative_to(source):
            raise UsageError(f"{path} holds the run's artifacts: name what is to be one.")
        for part in Path(name).parts[:-1]:
            target /= part
            _make_folder(target)
        _copy(source, target / Path(name).name)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise OrchError(f"{path} can't be copied to the run's artifacts: {_said(error)}.") from error


def _copy(source: Path, target: Path) -> None:
    """Put a file in place of what is there, or a folder beside it. Links are copied as such: nothing is written
    through one.
    """
    if source.is_dir() and not source.is_symlink():
        _make_folder(target)
        for entry in sorted(source.iterdir()):
            _copy(entry, target / entry.name)
        return
    aside = target.with_name(f".orch-{os.getpid()}")
    try:
        if source.is_symlink():
            aside.symlink_to(source.readlink())
        elif source.is_file():
            shutil.copy2(source, aside)
        else:
            raise shutil.SpecialFileError(f"{source} is no regular file")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a link, and nothing is written through one")
    folder.mkdir(parents=True, exist_ok=True)


def _tell(event: dict[str, Any]) -> None:
    """Add a line in one write, so that those of processes that log at once do not mix."""
    path = os.environ.get("ORCH_EVENTS")
    if not path:
        raise _outside("ORCH_EVENTS")
    try:
        line = json.dumps(event).encode() + b"\n"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(file, line)
        finally:
            os.close(file)
    except OSError as error:
        raise OrchError(f"the events file {path} can't be written: {error.strerror}.") from error


def _outside(variable: str) -> UsageError:
    return UsageError(f"orch log is for the program of a run, and ${variable} is not set: it runs in none.")


def _said(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)[:300]
