"""Which environment a person means: a run, a lock id, a project, or an environment file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator import ledger, project, source
from orchestrator.environment.folder import LocalFolder
from orchestrator.environment.host import current_subdir
from orchestrator.environment.lock import (
    Environment,
    EnvironmentRequest,
    Lock,
    lock_ids,
    read_lock,
    resolve_environment,
)
from orchestrator.environment.request import environment_request, kind_of_file
from orchestrator.errors import OrchError, UsageError
from orchestrator.model import RunSpec, Source
from orchestrator.paths import Home
from orchestrator.report import Report, silent
from orchestrator.variables import fixed_variables

_FILE_ENDS = (".yml", ".yaml", ".toml", ".txt")
_LOCK_PREFIX = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True)
class Found:
    """The locks of one environment.

    `label` names it for people. `locks` are lock ids by platform, the wanted platform first. `run_id` is the run's
    when a run was named. `variables` are those that the environment sets (of a run: those it was given, too), without
    secrets; `notes` are sentences. `link_scripts` are the packages whose post-link scripts the run let run;
    `import_path` are folders of this machine that `-e .` lines of a project here put on it.
    """

    label: str
    locks: Mapping[str, str]
    run_id: str | None
    variables: Mapping[str, str]
    notes: tuple[str, ...]
    link_scripts: tuple[str, ...] = ()
    import_path: tuple[Path, ...] = ()

    def lock_for(self, platform: str) -> str:
        """The lock id for a platform. Raises OrchError when there is none, with those that are there."""
        if platform not in self.locks:
            raise OrchError(f"{self.label} has no lock for {platform}, only for {', '.join(self.locks)}.")
        return self.locks[platform]

    def read(self, platform: str, home: Home) -> Lock:
        """The lock for a platform."""
        return read_lock(home, self.lock_for(platform), platform)


def environment_of(text: str, *, home: Home, report: Report = silent, platform: str | None = None) -> Found:
    """The environment that `text` means.

    Text with a slash, `.`, `..`, a URL, or a name that ends as an environment file's is a path or URL; other text is
    a run (the beginning of its id, its name, `latest`) or the beginning of a lock id, at least 4 digits; if there is
    neither, a file or folder of that name.

    Files and projects are locked for `platform` (default: the running one), as `orch run` would. Raises UsageError
    for text that can name nothing, and OrchError when there is nothing of that name, or more than one thing.
    """
    wanted = platform or current_subdir()
    if not text:
        raise UsageError("name an environment: a run, a lock id, a project or an environment file.")
    if _is_place(text):
        return _of_place(text, wanted, home=home, report=report)
    locks = _locks_by_prefix(text.lower(), home)
    run_id = _run(text, home, other_meanings=bool(locks))
    if run_id is not None and locks:
        raise OrchError(
            f"{text!r} is ambiguous: run {run_id} and lock {locks[0][:16]} begin with it or have it as a name; "
            "give more digits."
        )
    if len(locks) > 1:
        raise OrchError(f"several locks begin with {text!r}: {', '.join(lock[:16] for lock in locks[:5])}.")
    if run_id is not None:
        return _of_run(run_id, wanted, home)
    if locks:
        return _of_lock(locks[0], home)
    if Path(text).exists():
        return _of_place(text, wanted, home=home, report=report)
    raise OrchError(
        f"there is no run, no lock, no folder and no file {text!r}; orch list shows the runs, "
        "orch env list the locks, and a project is a folder or a git URL."
    )


def may_be_place(text: str) -> bool:
    """Whether `text` may name a project or a file, whose environment is locked when it was not yet."""
    return _is_place(text) or Path(text).exists()


def _is_place(text: str) -> bool:
    return "/" in text or text in (".", "..") or "://" in text or text.lower().endswith(_FILE_ENDS)


# --- what is known here -----------------------------------------------------------------------------------------


def _locks_by_prefix(prefix: str, home: Home) -> list[str]:
    if not _LOCK_PREFIX.fullmatch(prefix):
        return []
    return [lock_id for lock_id in lock_ids(home) if lock_id.startswith(prefix)]


def _run(text: str, home: Home, *, other_meanings: bool) -> str | None:
    connection = ledger.connect(home)
    try:
        if text != "latest" and not _begins_or_names_runs(text, home, connection):
            return None
        return ledger.resolve_run(connection, text)
    except OrchError as error:
        if other_meanings:
            raise OrchError(f"{text!r} is ambiguous: a lock begins with it too, and {error}") from error
        raise
    finally:
        connection.close()


def _begins_or_names_runs(text: str, home: Home, connection: sqlite3.Connection) -> bool:
    there = home.runs.iterdir() if home.runs.is_dir() else ()
    if re.fullmatch(r"[0-9a-f]{1,32}", text.lower()) and any(path.name.startswith(text.lower()) for path in there):
        return True
    return bool(ledger.find_runs(connection, limit=1, name=text))


def _of_run(run_id: str, wanted: str, home: Home) -> Found:
    record = ledger.read_run(home, run_id)
    if record is None:
        raise OrchError(f"run {run_id} has no directory any more.")
    ref = record.spec.environment
    locks = {ref.platform: ref.lock_id, **ref.others}
    variables = _recorded_variables(record.spec)
    notes = ("the project of the run, a `-e` line of it, is not on the import path here.",) if ref.paths else ()
    return Found(f"run {run_id}", _first(wanted, locks), run_id, variables, notes, ref.link_scripts)


def _recorded_variables(spec: RunSpec) -> dict[str, str]:
    """What the environment and the user set. What every run gets is for programs that must not vary, not for people."""
    fixed = fixed_variables(spec.source.commit_time)
    secret = spec.secret_variables
    return {n: v for n, v in spec.variables.items() if n not in secret and fixed.get(n) != v}


def _of_lock(lock_id: str, home: Home) -> Found:
    return Found(f"lock {lock_id[:16]}", {read_lock(home, lock_id).platform: lock_id}, None, {}, ())


def _first(wanted: str, locks: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(locks.items(), key=lambda item: item[0] != wanted))


# --- what must be locked ----------------------------------------------------------------------------------------


def _of_place(text: str, wanted: str, *, home: Home, report: Report) -> Found:
    path = Path(text).expanduser()
    if path.is_file() and path.suffix.lower() != ".zip":
        return _of_file(path, wanted, home=home, report=report)
    if not path.exists() and text.lower().endswith(_FILE_ENDS) and "://" not in text:
        raise OrchError(f"there is no environment file {text}.")
    resolved = source.resolve_source(str(path) if path.exists() else text, None, home=home, report=report)
    pinned = resolved.source
    with source.open_tree(pinned, home=home) as tree:
        found = project.read_project(tree, pinned.subdir)
        asked = environment_request(found.environment.kind, found.environment.path, tree, pinned)
        locked = _locked(asked, pinned, wanted, home=home, report=report)
    root = source.local_directory(pinned)
    return _found(_project_name(pinned), locked, wanted, (*resolved.notes, *found.notes), root)


def _of_file(path: Path, wanted: str, *, home: Home, report: Report) -> Found:
    real = path.resolve()
    # The path in the repository, as a run of the project has it: so both come to the same lock without another solve.
    root = next((folder for folder in real.parents if (folder / ".git").exists()), real.parent)
    kind, inner = kind_of_file(str(path), real.read_text("utf-8", "replace")), real.relative_to(root).as_posix()
    pinned = Source(url=real.parent.as_uri(), commit="", tree="", commit_time=0)
    asked = environment_request(kind, inner, LocalFolder(root), pinned)
    if not (asked.projects or asked.editable):
        locked = _locked(asked, pinned, wanted, home=home, report=report)
        return _found(str(path), locked, wanted, (), None)
    # A project is built from all of its files: the state of the folder is taken, as for a run.
    resolved = source.resolve_source(str(real.parent), None, home=home, report=report)
    pinned = resolved.source
    taken = source.local_directory(pinned) or root
    with source.open_tree(pinned, home=home) as tree:
        asked = environment_request(kind, real.relative_to(taken).as_posix(), tree, pinned)
    locked = _locked(asked, pinned, wanted, home=home, report=report)
    return _found(str(path), locked, wanted, resolved.notes, taken)


def _locked(asked: EnvironmentRequest, pinned: Source, wanted: str, *, home: Home, report: Report) -> Environment:
    with source.checkout_aside(pinned, home=home) as checkout:
        return resolve_environment(asked, home=home, platform=wanted, report=report, build_source=checkout)


def _found(label: str, locked: Environment, wanted: str, notes: tuple[str, ...], root: Path | None) -> Found:
    locks = _first(wanted, {locked.platform: locked.lock_id, **locked.others})
    folders = tuple(root / path for path in locked.paths) if root is not None else ()
    return Found(label, locks, None, dict(locked.variables), (*notes, *locked.notes), import_path=folders)


def _project_name(pinned: Source) -> str:
    return pinned.url + (f"#{pinned.subdir}" if pinned.subdir else "") + f" @ {pinned.commit[:7]}"
