"""What may stand where the user pressed Tab: runs, entry points, parameters, revisions, and what else orch knows.

Each function gets the line, and gives candidates: (word, help), also such as do not begin with what is typed. It may
raise whatever it meets: `completion` makes nothing of it. Reading only: nothing is made in the home, waited for, or
fetched, and nothing of a project is executed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli.named_project import existing_home, find_place, open_project

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from orchestrator.paths import Home
    from orchestrator.project import EntryPoint, Parameter

    Candidates = Iterator[tuple[str, str]]

NEWEST = 50
"""How many runs are offered."""

_WAL_BYTE = 18
"""Where the header of an SQLite file says whether it is in WAL mode (fileformat2, "file format version numbers")."""

_LOCK_ID, _SHOWN_LOCK_ID = 64, 16

STATUSES = ("finished", "failed", "running", "stopped", "lost", "orphaned", "reproduced", "differs")


@dataclass(frozen=True, slots=True)
class Line:
    """The beginning of the word that is `typed`, and the command line before it.

    `values` are those of options and arguments by name, `words` what the parser has not taken.
    """

    typed: str
    values: Mapping[str, object]
    words: Sequence[str]

    def first(self, name: str) -> str:
        """The value of the first argument, called `name`; "" when there is none.

        An option without its value ends the parser: the arguments then are still among the plain words.
        """
        return self.text(name) or next(iter(self.words), "")

    def text(self, name: str) -> str:
        """The value of an option or argument, "" when it has none."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """The values of a repeatable option."""
        values = self.values.get(name)
        return [str(value) for value in values] if isinstance(values, (list, tuple)) else []


# --- the ledger -------------------------------------------------------------------------------------------------


def runs(_: Line) -> Candidates:
    """`latest`, and the ids and names of the newest runs."""
    from orchestrator import ledger
    from orchestrator.report import age, project_name

    with _ledger() as (_there, connection):
        found = ledger.find_runs(connection, limit=NEWEST)
        ids = [ledger.short_id(connection, row.run_id) for row in found]
    if found:
        yield "latest", "the newest run"
    told = [f"{row.status}, {age(row.started_at)}, {project_name(row.url, row.subdir)}" for row in found]
    for run_id, row, text in zip(ids, found, told, strict=True):
        yield run_id, f"{row.name}: {text}" if row.name else text
    for row, text in zip(found, told, strict=True):
        if row.name:
            yield row.name, text


def live_runs(_: Line) -> Candidates:
    """The ids of the runs whose supervisor or program lives, here or perhaps on another machine."""
    from orchestrator import ledger
    from orchestrator.execute.identity import state_of
    from orchestrator.execute.rundir import RunDirectory
    from orchestrator.execute.tree import processes_of
    from orchestrator.report import project_name

    with _ledger() as (home, connection):
        begun = {*ledger.live_runs(connection)}
        may = {*begun, *ledger.missing_runs(home, connection), *ledger.uncompared_runs(connection)}
        rows = {row.run_id: row for row in ledger.find_runs(connection, limit=NEWEST)}
        for run_id in sorted(may, reverse=True)[:NEWEST]:
            supervisor = RunDirectory(home.run(run_id)).supervised_by()
            gone = supervisor is None or state_of(supervisor) == "dead"
            if gone and not (run_id in begun and processes_of(run_id)):
                continue
            row = rows.get(run_id)
            status = "orphaned" if gone else row.status if row else "preparing"
            text = f"{status}, {project_name(row.url, row.subdir)}" if row else status
            yield ledger.short_id(connection, run_id), text


def logged_runs(line: Line) -> Candidates:
    """As `runs`; where the log is followed, those that live come first."""
    if line.values.get("follow"):
        yield from live_runs(line)
    yield from runs(line)


def outputs(line: Line) -> Candidates:
    """The paths of what a run has put out."""
    from orchestrator import ledger
    from orchestrator.cli.text import size
    from orchestrator.ledger.values import from_text

    with _ledger() as (_there, connection):
        run_id = ledger.resolve_run(connection, line.first("run"))
        query = "SELECT path, size FROM outputs WHERE run_id = ? ORDER BY position"
        for path, count in connection.execute(query, (run_id,)):
            yield str(from_text(path)), size(count)


def experiments(_: Line) -> Candidates:
    """The names of the experiments."""
    from orchestrator.ledger.values import from_text

    with _ledger() as (_there, connection):
        for (name,) in connection.execute("SELECT name FROM experiments ORDER BY name"):
            yield str(from_text(name)), ""


def locks(_: Line) -> Candidates:
    """The ids of the locks that are kept here."""
    home = existing_home()
    for folder in sorted(home.locks.iterdir()) if home else ():
        if len(folder.name) == _LOCK_ID:
            yield folder.name[:_SHOWN_LOCK_ID], "a lock"


def _ledger() -> AbstractContextManager[tuple[Home, sqlite3.Connection]]:
    """The home and its ledger, for reading: never made, migrated, or waited for."""
    import sqlite3

    from orchestrator.ledger.connection import check_version

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Home, sqlite3.Connection]]:
        home = existing_home()
        if home is None:
            raise FileNotFoundError
        # Where nobody is writing, reading a WAL ledger as usual would put files beside it.
        with home.ledger.open("rb") as file:
            in_wal_mode = file.read(_WAL_BYTE + 1)[_WAL_BYTE:] == b"\x02"
        quiet = in_wal_mode and not home.ledger.with_name(home.ledger.name + "-wal").exists()
        uri = f"{home.ledger.as_uri()}?mode=ro{'&immutable=1' if quiet else ''}"
        connection = sqlite3.connect(uri, uri=True, timeout=0.05, isolation_level=None)
        try:
            if check_version(connection, home.ledger):
                yield home, connection
            else:
                raise sqlite3.DatabaseError
        finally:
            connection.close()

    return opened()


# --- the project on the line ------------------------------------------------------------------------------------


def entry_points(line: Line) -> Candidates:
    """The entry points of the project, and its scripts."""
    with open_project(line.first("repository"), line.text("version")) as (project, files):
        for point in project.entry_points.values():
            yield point.name, " ".join(f"{parameter.name}={parameter.default or ''}" for parameter in point.parameters)
        for name in files.names(project.subdir):
            if name.endswith((".py", ".sh", ".R")):
                yield name, "a script"


def parameters(line: Line) -> Candidates:
    """`name=` for the parameters of the entry point; behind it what is known of its value."""
    with open_project(line.first("repository"), line.text("version")) as (project, _):
        point = project.entry_points.get(line.text("entry_point") or "main")
    if point is None:
        return
    name, equals, value = line.typed.partition("=")
    if equals:
        for parameter in point.parameters:
            if parameter.name == name:
                yield from ((f"{name}={word}", text) for word, text in _values(parameter, value))
    else:
        yield from _names(point, {given.partition("=")[0] for given in line.texts("parameter")})


def _names(point: EntryPoint, given: set[str]) -> Candidates:
    for parameter in point.parameters:
        if parameter.name not in given:
            default = "required" if parameter.default is None else f"default {parameter.default}"
            yield f"{parameter.name}=", f"{parameter.type}, {default}"


def _values(parameter: Parameter, typed: str) -> Candidates:
    if parameter.default:
        yield parameter.default, "the default"
    if parameter.type in ("bool", "boolean"):
        # A default of YAML comes as Python writes it.
        both = ("True", "False") if parameter.default in ("True", "False") else ("true", "false")
        yield from ((word, "") for word in both if word != parameter.default)
    if parameter.type in ("path", "uri"):
        yield from _below(typed, "")


def revisions(line: Line) -> Candidates:
    """The branches and tags of the repository, as far as they are known here."""
    from orchestrator.source.repository import branch_and_tag_names

    place = find_place(line.first("repository"))
    if place.git_dir is not None:
        for name in dict.fromkeys(branch_and_tag_names(place.git_dir)):
            if name != "HEAD":
                yield name, ""


# --- files, and words that are always the same ------------------------------------------------------------------


def files(line: Line) -> Candidates:
    """Files and folders; hidden ones when the dot is typed."""
    return _below(line.typed, "")


def bundles(line: Line) -> Candidates:
    """Files and folders; while nothing is typed, of the files only those that are called as bundles are."""
    return _below(line.typed, ".zip")


def _below(typed: str, ending: str) -> Candidates:
    from pathlib import Path

    above, slash, begun = typed.rpartition("/")
    for entry in sorted(Path(above + slash or ".").iterdir()):
        if not entry.name.startswith(begun) or (not begun and entry.name.startswith(".")):
            continue
        if entry.is_dir():
            yield f"{above}{slash}{entry.name}/", "a folder"
        elif begun or entry.name.endswith(ending):
            yield f"{above}{slash}{entry.name}", "a file"


def statuses(_: Line) -> Candidates:
    """The statuses of a run, and the verdicts on a replay."""
    yield from ((word, "") for word in STATUSES)


def platforms(_: Line) -> Candidates:
    """conda's platforms."""
    from orchestrator.environment.host import PLATFORMS

    yield from ((word, "") for word in PLATFORMS)


def formats(_: Line) -> Candidates:
    """The formats of `orch env export`."""
    from orchestrator.environment.export import CHANNEL, FORMATS

    yield from ((word, "") for word in (*FORMATS, CHANNEL))
