"""`orch bundle`: a run in one file, made, checked, taken in."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from orchestrator import ledger
from orchestrator.cli import text
from orchestrator.cli.tell import tell, tell_notes
from orchestrator.environment.lock import LockedPackage, locked_packages
from orchestrator.environment.offline import NO_ADDRESS
from orchestrator.errors import OrchError, UsageError
from orchestrator.model import RunRecord
from orchestrator.paths import Home, open_home
from orchestrator.report import plural
from orchestrator.variables import fixed_variables

_WHOLE = 100_000
"""Characters of a command that are shown: who is asked must see all of it."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `orch bundle create`, as typed."""

    run: str
    output: Path
    offline: bool
    platforms: tuple[str, ...]
    inputs: bool


def import_(file: Path) -> None:
    """Take the run of a bundle in, and print its id."""
    print(take_in(file, open_home()))


def create(options: Options) -> None:
    """Write a bundle."""
    from orchestrator.bundle.create import create_bundle

    home = open_home()
    connection = ledger.connect(home)
    try:
        run_id = ledger.resolve_run(connection, options.run)
        short = ledger.short_id(connection, run_id)
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
    tell_notes(done.notes)
    packages = f", {plural(done.packages, 'package')}" if done.packages else ""
    print(f"{options.output}: run {short}, {plural(done.members, 'member')}{packages}, {text.size(done.size)}")
    print(f"Elsewhere: orch replay {options.output.name}", file=sys.stderr)


def verify(file: Path) -> None:
    """Check a bundle, and say whose run it is. Nothing is kept."""
    from orchestrator.bundle.read import unpack_bundle

    refuse_missing(file)
    with TemporaryDirectory(prefix="orch-") as folder:
        bundle = unpack_bundle(file.absolute(), Path(folder), keep=False, report=tell)
    print(f"{file}: whole and undamaged, {plural(len(bundle.members) + 1, 'member')}, {text.size(bundle.size)}")
    ref = bundle.record.spec.environment
    for line in origin_lines(bundle.record, bundle.locks[ref.lock_id, ref.platform]):
        print(line)
    tell_lacking(bundle.lacking)


def take_in(file: Path, home: Home) -> str:
    """Import a bundle; the id of its run."""
    from orchestrator.bundle.land import import_bundle

    refuse_missing(file)
    done = import_bundle(file.absolute(), home=home, report=tell)
    was = "imported" if done.new else "is here already"
    print(f"run {done.record.run_id} {was}", file=sys.stderr)
    tell_lacking(done.bundle.lacking)
    return done.record.run_id


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
    """Raise UsageError when there is no such file."""
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file.")


def ask(record: RunRecord, home: Home, *, yes: bool) -> None:
    """Show what a run of somebody else would do here, and go on only with consent. Raises OrchError without."""
    for line in origin_lines(record, locked_packages(home, record.spec.environment.lock_id)):
        print(line, file=sys.stderr)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("a run that was imported is replayed only when somebody agrees: look at it, and add --yes.")
    print("Its program will run on this machine with your rights. Run it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise OrchError("not replayed; nothing of it was run.")


def origin_lines(record: RunRecord, packages: Sequence[LockedPackage]) -> Iterator[str]:
    """Where a run comes from and what it does, for people who decide whether to trust it."""
    spec = record.spec
    host = text.visible(str(record.host.get("hostname", "?")), 60)
    outcome = f"{record.status}, exit code {record.exit_code}" if record.exit_code else record.status
    yield f"  run          {record.run_id} of {record.started_at[:10]} on {host}, {outcome}"
    yield f"  origin       {text.visible(spec.source.origin or spec.source.url, 200)}, as the bundle says"
    dirty = ", with changes that were not committed" if spec.source.dirty else ""
    yield f"  commit       {spec.source.commit}{dirty}"
    yield f"  command      {text.visible(spec.command, _WHOLE)}"
    for name, value in spec.parameters.items():
        yield f"               {text.visible(name, 60)} = {text.visible(value, 200)}"
    fixed = fixed_variables(spec.source.commit_time)
    for name, value in spec.variables.items():
        if fixed.get(name) != value:
            yield f"  variable     {name} = {text.visible(value, 200)}"
    yield f"  environment  {spec.environment.lock_id[:8]} for {spec.environment.platform}, {_come_from(packages)}"
    if spec.environment.link_scripts:
        yield f"  link scripts of {', '.join(spec.environment.link_scripts)} run when it is installed"


def _come_from(packages: Sequence[LockedPackage]) -> str:
    """How many packages there are, and where they come from."""
    places = {package.channel or "https://" + (urlsplit(package.url).hostname or "") for package in packages}
    shown = sorted("the bundle" if place == NO_ADDRESS else place for place in places)
    return f"{plural(len(packages), 'package')} of {text.visible(', '.join(shown), 300)}"


def tell_lacking(paths: tuple[str, ...]) -> None:
    """Say which inputs a bundle came without."""
    if paths:
        shown = ", ".join(text.visible(path) for path in paths)
        print(f"orch: it came without {shown}: a replay wants --input PATH={paths[0]}", file=sys.stderr)
