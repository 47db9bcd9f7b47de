"""`orch bundle`: a run in one file, made, checked, taken in."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator import ledger
from orchestrator.bundle.layout import package_member
from orchestrator.cli import text
from orchestrator.cli.tell import tell, tell_notes
from orchestrator.environment.kept import kept_whole
from orchestrator.environment.lock import LockedPackage, locked_packages
from orchestrator.errors import OrchError, UsageError
from orchestrator.model import RunRecord
from orchestrator.paths import Home, open_home
from orchestrator.report import plural
from orchestrator.sweep import sweep
from orchestrator.variables import fixed_variables

if TYPE_CHECKING:
    from orchestrator.bundle.land import Imported

_WHOLE = 1_000_000
"""Characters of a text that are shown to who is asked: all of it must be seen."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `orch bundle create`, as typed."""

    run: str
    output: Path
    offline: bool
    platforms: tuple[str, ...]
    inputs: bool


def import_(file: Path, *, as_json: bool) -> None:
    """Take the run of a bundle in, and print its id."""
    done = take_in(file, open_home())
    run_id = done.record.run_id
    print(_json(run_id=run_id, new=done.new, lacking=list(done.bundle.lacking)) if as_json else run_id)


def _json(**values: Any) -> str:
    return json.dumps(values, indent=2)


def create(options: Options, *, as_json: bool) -> None:
    """Write a bundle."""
    from orchestrator.bundle.create import create_bundle

    if str(options.output) == "-":
        raise UsageError("-o wants the name of a file; a bundle is not written to standard output.")
    home = open_home(make=False)
    connection = ledger.connect(home)
    try:
        sweep(home, connection)
        run_id = ledger.resolve_run(connection, options.run)
        short = ledger.short_id(connection, run_id)
        inside = len(ledger.find_runs(connection, parent=run_id))
    finally:
        connection.close()
    done = create_bundle(
        run_id,
        options.output.absolute(),
        home=home,
        offline=options.offline,
        platforms=options.platforms,
        inputs=options.inputs,
        report=tell,
    )
    notes = list(done.notes)
    if inside:
        notes.append(f"{plural(inside, 'run')} that it started {'are' if inside > 1 else 'is'} not in the bundle")
    tell_notes(notes)
    if as_json:
        facts = {"members": done.members, "packages": done.packages, "size": done.size, "notes": notes}
        print(_json(path=str(options.output), run_id=run_id, **facts))
        return
    packages = f", {plural(done.packages, 'package')}" if done.packages else ""
    print(f"{options.output}: run {short}, {plural(done.members, 'member')}{packages}, {text.size(done.size)}")
    tell("", f"elsewhere: orch replay {options.output.name}")


def verify(file: Path, *, as_json: bool) -> None:
    """Check a bundle, and say whose run it is. Nothing is kept."""
    from orchestrator.bundle.read import unpack_bundle

    refuse_missing(file)
    with TemporaryDirectory(prefix="orch-") as folder:
        bundle = unpack_bundle(file.absolute(), Path(folder), keep=False, report=tell)
    count, held = len(bundle.members) + 1, file.stat().st_size
    if as_json:
        record = bundle.record
        facts = {"members": count, "size": held, "lacking": list(bundle.lacking)}
        print(_json(path=str(file), manifest=bundle.id, run_id=record.run_id, status=record.status, **facts))
        return
    print(f"{file}: whole and undamaged, {plural(count, 'member')}, {text.size(held)}")
    print(f"  manifest     sha256 {bundle.id}")
    ref = bundle.record.spec.environment
    packages = bundle.locks[ref.lock_id, ref.platform]
    brought = {p.sha256 for p in packages if package_member(p.sha256, p.file_name) in bundle.members}
    for line in origin_lines(bundle.record, packages, brought):
        print(line)
    _tell_lacking(bundle.lacking)


def take_in(file: Path, home: Home) -> Imported:
    """Import a bundle, and tell what is noteworthy."""
    from orchestrator.bundle.land import import_bundle

    refuse_missing(file)
    done = import_bundle(file.absolute(), home=home, report=tell)
    was = "" if done.new else " is here already; what it lacked was brought"
    tell("imported" if done.new else "bundle", f"run {done.record.run_id}{was}")
    _tell_lacking(done.bundle.lacking)
    return done


def is_bundle(name: str) -> bool:
    """Whether what was given in place of a run is a file that begins as a zip archive does."""
    try:
        if not Path(name).is_file():  # who opens a pipe waits for another to write into it
            return False
        with Path(name).open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False


def refuse_missing(file: Path) -> None:
    """Raise UsageError for what is no file."""
    if not file.is_file():
        raise UsageError(f"{file} is no file." if file.exists() else f"{file}: there is no such file.")


def ask(record: RunRecord, home: Home, *, yes: bool, what: str = "Its program") -> None:
    """Show what a run of somebody else would do here, and go on only with consent. Raises OrchError without."""
    packages = locked_packages(home, record.spec.environment.lock_id)
    if not (yes and tell.quiet):
        for line in origin_lines(record, packages, kept_whole(home, packages)):
            print(line, file=sys.stderr)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"run {record.run_id} was imported: it is used only when somebody agrees. Add --yes.")
    print(f"{what} will run on this machine with your rights. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        short = record.run_id[:16]
        raise OrchError(f"nothing of it was run. It is imported: orch show {short}, or orch rm {short}.")


def origin_lines(record: RunRecord, packages: Sequence[LockedPackage], brought: Container[str]) -> Iterator[str]:
    """Where a run comes from and what it does, for people who decide whether to trust it.

    `brought` are the sha256 of the packages that came with it.
    """
    spec = record.spec
    host = text.visible(str(record.host.get("hostname", "?")), _WHOLE)
    outcome = f"{record.status}, exit code {record.exit_code}" if record.exit_code else record.status
    replayed = f", a replay of {record.replay_of}" if record.replay_of else ""
    yield f"  run          {record.run_id} of {record.started_at[:10]} on {host}, {outcome}{replayed}"
    where = f"#{spec.source.subdir}" if spec.source.subdir else ""
    yield f"  origin       {text.visible((spec.source.origin or spec.source.url) + where, _WHOLE)}, as the bundle says"
    dirty = " (a work tree, not committed)" if spec.source.dirty else ""
    yield f"  commit       {spec.source.commit}{dirty}"
    yield f"  command      {text.visible(spec.command, _WHOLE)}"
    for name, value in spec.parameters.items():
        shown = "(not recorded)" if name in spec.secret_parameters else text.visible(value, _WHOLE)
        yield f"               {text.visible(name, _WHOLE)} = {shown}"
    for item in spec.inputs:
        yield f"  input        {text.visible(item.path, _WHOLE)}, {text.size(item.size)}"
    fixed = fixed_variables(spec.source.commit_time)
    for name, value in spec.variables.items():
        if fixed.get(name) != value:
            yield f"  variable     {name} = {text.visible(value, _WHOLE)}"
    yield f"  environment  {spec.environment.lock_id[:8]} for {spec.environment.platform}"
    for place, count in sorted(_places(packages, brought).items()):
        yield f"               {plural(count, 'package')} of {text.visible(place, _WHOLE)}"
    if spec.environment.link_scripts:
        yield f"               the link scripts of {', '.join(spec.environment.link_scripts)} are run"


def _places(packages: Sequence[LockedPackage], brought: Container[str]) -> Counter[str]:
    """How many packages come from where."""
    return Counter(
        "the bundle itself"
        if package.sha256 in brought
        else package.channel or "https://" + (urlsplit(package.url).hostname or "")
        for package in packages
    )


def _tell_lacking(paths: tuple[str, ...]) -> None:
    if paths:
        shown = ", ".join(text.visible(path) for path in paths)
        tell("note", f"it came without {shown}; a replay wants --input PATH={text.visible(paths[0])}")
