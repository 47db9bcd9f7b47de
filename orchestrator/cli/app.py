"""The commands and their options. (Annotations are no strings here: typer would evaluate each one at every start.)"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli.options import Json, Offline, Quiet, Run, hush
from orchestrator.cli.run_options import replay, run

app = typer.Typer(
    name="orch",
    help="Repeatable runs: a git commit, a locked conda environment, and a ledger of what came of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
ledger_commands = typer.Typer(help="The SQLite index over all runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(ledger_commands, name="ledger")
# A shell that asks for completion has the line in a variable.
_line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
_words = _line.split() if "_ORCH_COMPLETE" in os.environ else sys.argv
# Typer looks at the options of every command it knows, at every start: those of `env` are many, and rarely wanted.
if _words[1:2] == ["env"]:
    from orchestrator.cli.env_app import app as env_commands
else:
    env_commands = typer.Typer(help="Environments: lock, look into, use, export.")
app.add_typer(env_commands, name="env")
if _words[1:2] == ["bundle"]:
    from orchestrator.cli.bundle_app import app as bundle_commands
else:
    bundle_commands = typer.Typer(help="A run in one file: create, verify, import.")
app.add_typer(bundle_commands, name="bundle")
if _words[1:2] == ["log"]:
    from orchestrator.cli.log_app import app as log_commands
else:
    log_commands = typer.Typer(help="Inside a run, from any language: log a metric, a parameter, a tag, a file.")
app.add_typer(log_commands, name="log")


def _print_version(wanted: bool) -> None:
    if wanted and "_ORCH_COMPLETE" not in os.environ:
        typer.echo(f"orch {__version__}")
        raise typer.Exit


@app.callback()
def orch(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print orch's version.")
    ] = False,
) -> None:
    """Repeatable runs: a git commit, a locked conda environment, and a ledger of what came of them."""


app.command(
    epilog="Exit code: the program's own, 128+N when signal N ended it, 125 when orch itself failed, 2 for wrong "
    "usage. On a terminal Ctrl-P Ctrl-Q leaves the run, which goes on."
)(run)
app.command(
    epilog="Exit code: 0 reproduced, 1 something differs, 125 not replayed or left, 2 wrong usage. "
    "On a terminal Ctrl-P Ctrl-Q leaves it, and it goes on."
)(replay)


@app.command(
    "list",
    epilog="varies: other runs of the same spec have other outputs; orch show says which. "
    "A commit with a * was made of files that were not committed.",
)
def list_runs(
    experiment_name: Annotated[
        str | None, typer.Option("--experiment-name", metavar="NAME", help="Only those of this experiment.")
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="finished, failed, running, stopped, lost, orphaned; of a replay also reproduced, differs.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """The runs, newest first."""
    from orchestrator.cli import runs

    runs.list_runs(experiment_name, status, limit, as_json=as_json)


@app.command()
def show(run: Run = "latest", as_json: Json = False) -> None:
    """One run: what decided it, what came of it, and the runs that it started."""
    from orchestrator.cli import show as command

    command.show(run, as_json=as_json)


@app.command()
def ps(as_json: Json = False) -> None:
    """What lives now. Runs that are prepared, run or are compared; and for a day those that never began."""
    from orchestrator.cli import live

    live.ps(as_json=as_json)


@app.command(epilog="Exit code: that of the run, or of a replay's verdict; 0 when you leave it.")
def attach(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run; by default the newest that lives here.", show_default=False),
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="Of what was printed before, only N lines.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """See a run from its beginning, and on as it goes.

    Ctrl-P Ctrl-Q leaves it; so does Ctrl-C where the program has no terminal, or has ended.
    """
    from orchestrator.cli import live

    hush(quiet)
    raise typer.Exit(live.attach(run, tail=tail, quiet=quiet))


@app.command()
def stop(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to stop.")],
    grace: Annotated[
        str | None, typer.Option("--grace", metavar="TIME", help="To the kill: 30, 90s, 2m; default as `orch run` had.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Kill at once.")] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="Record as lost what ran on another machine that is gone for good.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """End runs with their process trees: gently, then firmly. It returns when they have ended."""
    from orchestrator.cli import live
    from orchestrator.cli.durations import parse_duration

    hush(quiet)
    seconds = None if grace is None else parse_duration(grace, "--grace", zero=True)
    live.stop(runs, grace=seconds, now=now, lost=lost, as_json=as_json)


@app.command()
def logs(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="A run; default the newest, with -f the newest that lives.", show_default=False
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", metavar="N", min=0, help="Only the last N lines.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Without colours and overwritten lines.")] = False,
    quiet: Quiet = False,
) -> None:
    """What a run printed: its output to stdout, its errors to stderr."""
    from orchestrator.cli import logs as command

    hush(quiet)
    command.logs(run, follow=follow, tail=tail, plain=plain)


@app.command()
def get(
    run: Run,
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[PATTERN]...", help="Outputs to bring, as `*.csv`; default all.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to put them.")] = Path(),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Bring outputs of a run back from the store."""
    from orchestrator.cli import outputs

    outputs.get(run, patterns or [], output, quiet=quiet, as_json=as_json)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A run, as for `orch show`.", show_default=False)],
    other: Annotated[str, typer.Argument(metavar="B", help="The other one.", show_default=False)],
    patch: Annotated[bool, typer.Option("--patch", help="What differs in the code also as a patch.")] = False,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """What differs between two runs: parameters, results, environment, code. Exit code 1 when anything does."""
    from orchestrator.cli import diff as command

    hush(quiet)
    raise typer.Exit(command.diff(one, other, patch=patch, offline=offline, as_json=as_json))


@app.command(epilog="Exit code: 0; 128+N when signal N ended it; 125 without a terminal, or without Textual.")
def top() -> None:
    """A full-screen dashboard: live runs, history, logs. It needs the extra `tui`."""
    from orchestrator.cli import top as command

    raise typer.Exit(command.top())


@app.command()
def rm(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to remove.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Remove runs: records, logs, and the outputs that no other run has."""
    from orchestrator.cli import runs as commands

    hush(quiet)
    commands.remove(runs, as_json=as_json)


@app.command(epilog="Exit code: 0 without a fault, 1 with one.")
def doctor(
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Look at this machine: what is not as it should be, and what to do. Programs, folders, disks, network, ..."""
    from orchestrator.cli import doctor as command

    raise typer.Exit(command.doctor(as_json=as_json, offline=offline))


@app.command()
def server(
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Where to listen: a name or an address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any that is free.")] = 5000,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let every user and program of this machine in; without --host only.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Serve the MLflow tracking API from this ledger, for `import mlflow` outside of runs. It prints its URL."""
    from orchestrator.cli import server as command

    hush(quiet)
    command.run_server(host, port, with_token=not no_token)


@ledger_commands.command()
def rebuild(as_json: Json = False) -> None:
    """Make the ledger again from the run directories."""
    from orchestrator.cli import runs

    runs.rebuild(as_json=as_json)


if "_ORCH_COMPLETE" in os.environ or _words[1:2] in (["--install-completion"], ["--show-completion"]):
    from orchestrator.cli import completion

    completion.use_own_scripts()
    completion.teach(app)
