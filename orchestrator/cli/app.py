"""The commands and their options. (Annotations are no strings here: typer would evaluate each one at every start.)"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import __version__

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

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run: the beginning of its id, its name, or `latest`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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


@app.command(
    epilog="Exit code: the program's own, 128+N when signal N ended it; 125 when orch itself failed, 2 for wrong usage."
)
def run(
    repository: Annotated[
        str,
        typer.Argument(
            metavar="REPO",
            help="A git URL, a local path or a .zip, each with an optional #subdirectory.",
            show_default=False,
        ),
    ],
    version: Annotated[
        str | None, typer.Option("--version", "-v", metavar="REV", help="Branch, tag or commit, full or short.")
    ] = None,
    entry_point: Annotated[
        str, typer.Option("--entry-point", "-e", metavar="NAME", help="An entry point, or a .py, .sh or .R file.")
    ] = "main",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--param", "--param-list", "-P", metavar="NAME=VALUE", help="A parameter; repeatable."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="PATH[=DEST]", help="Data that is not in git; placed at inputs/NAME, or at DEST."
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME[=VALUE]", help="A variable for the program, or your own passed on."),
    ] = None,
    experiment_name: Annotated[
        str | None,
        typer.Option("--experiment-name", metavar="NAME", help="The experiment; default $MLFLOW_EXPERIMENT_NAME."),
    ] = None,
    experiment_id: Annotated[
        str | None, typer.Option("--experiment-id", metavar="ID", help="The same, by its id.")
    ] = None,
    run_name: Annotated[str | None, typer.Option("--run-name", metavar="NAME", help="A name for the run.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Copy the outputs to DIR at the end.")
    ] = None,
    cached: Annotated[
        bool, typer.Option("--cached", help="Answer with the finished run of the same spec, if there is one.")
    ] = False,
    relock: Annotated[bool, typer.Option("--relock", help="Solve the environment again.")] = False,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="NAME", help="Lock for this one too, for a replay there; repeatable."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="DAY", help="Only packages that existed then: 2021-06-30, or `commit` for its date."
        ),
    ] = None,
    cuda: Annotated[
        str | None, typer.Option("--cuda", metavar="VERSION", help="Solve for a machine with this CUDA.")
    ] = None,
    link_scripts: Annotated[
        list[str] | None,
        typer.Option("--link-scripts", metavar="NAME", help="Run the post-link script of this package; repeatable."),
    ] = None,
    allow_unhashed: Annotated[
        bool, typer.Option("--allow-unhashed", help="Take a lock without hashes, and pin what its channels have now.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Touch no network.")] = False,
    store_inputs: Annotated[bool, typer.Option("--store-inputs", help="Keep the bytes of the inputs too.")] = False,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Keep the work directory.")] = False,
    stdin: Annotated[
        Path | None,
        typer.Option(
            "--stdin", metavar="FILE", help="The program's standard input; by default nothing, or the terminal."
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="From a stop request to the kill.")
    ] = 10.0,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Stop the program after 30, 90s, 10m, 2h or 1d.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the run's id and return at once; orch attach shows the run.")
    ] = False,
    tty: Annotated[bool, typer.Option("--tty/--no-tty", help="Give the program a terminal when there is one.")] = True,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No word from orch but errors; with --json not the program's either.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record as JSON on stdout; the program's output goes to stderr.")
    ] = False,
    storage_dir: Annotated[
        Path | None, typer.Option("--storage-dir", metavar="DIR", help="Where remote `path` parameters are kept.")
    ] = None,
    env_manager: Annotated[str | None, typer.Option("--env-manager", hidden=True)] = None,
    backend: Annotated[str | None, typer.Option("--backend", "-b", hidden=True)] = None,
    backend_config: Annotated[str | None, typer.Option("--backend-config", "-c", hidden=True)] = None,
    docker_args: Annotated[list[str] | None, typer.Option("--docker-args", "-A", hidden=True)] = None,
    build_image: Annotated[bool, typer.Option("--build-image", hidden=True)] = False,
    run_id: Annotated[str | None, typer.Option("--run-id", hidden=True)] = None,
) -> None:
    """Run an entry point of a commit in its locked environment, and record it."""
    from orchestrator.cli import run as command

    command.refuse_foreign(backend, backend_config, docker_args, build_image, run_id, env_manager)
    raise typer.Exit(
        command.run(
            command.Asked(
                repository=repository,
                revision=version,
                entry_point=entry_point,
                parameters=tuple(parameter or ()),
                inputs=tuple(data or ()),
                variables=tuple(env or ()),
                experiment_name=experiment_name,
                experiment_id=experiment_id,
                run_name=run_name,
                output=output,
                cached=cached,
                relock=relock,
                platforms=tuple(platform or ()),
                as_of=as_of,
                cuda=cuda,
                link_scripts=tuple(link_scripts or ()),
                allow_unhashed=allow_unhashed,
                offline=offline,
                store_inputs=store_inputs,
                keep_work=keep_work,
                stdin=stdin,
                grace=grace,
                timeout=timeout,
                detach=detach,
                tty=tty,
                quiet=quiet,
                as_json=as_json,
                storage=storage_dir,
            )
        )
    )


@app.command(epilog="Exit code: 0 reproduced, 1 something differs, 125 it could not be replayed, 2 wrong usage.")
def replay(
    run: Annotated[
        str, typer.Argument(metavar="RUN|BUNDLE", help="A run, as for `orch show`, or a file of `orch bundle create`.")
    ] = "latest",
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            "-t",
            metavar="[PATTERN:]TOL|PATTERN:ignore",
            help="How far numbers may be off: 1e-6, rel=1e-6,abs=1e-9; of some outputs '*.csv:1e-6', of some metrics "
            "'metrics:rmse:1e-6'. What to pass over: 'logs/**:ignore', 'm.json:ignore=started'. Repeatable.",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Run nothing: hold the replay RUN, as it was recorded, against its original."),
    ] = False,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, help="As long as something differs, up to N times.")
    ] = 1,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--param", "-P", metavar="NAME=VALUE", help="A parameter whose value was not recorded."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME[=VALUE]", help="A variable whose value was not recorded."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="PATH=DEST", help="Where the input at DEST is now; its bytes must be the same."
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Touch no network.")] = False,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Keep the work directory.")] = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="From a stop request to the kill.")
    ] = 10.0,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Stop the program after 30, 90s, 10m, 2h or 1d.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Run what a bundle brought without being asked.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No word but errors.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record, with its verdict, as JSON on stdout.")
    ] = False,
) -> None:
    """Run a recorded run again, and compare what came of it."""
    from orchestrator.cli import replay as command

    raise typer.Exit(
        command.replay_run(
            command.Asked(
                run=run,
                compare=compare,
                tolerances=tuple(tolerance or ()),
                repeat=repeat,
                parameters=tuple(parameter or ()),
                variables=tuple(env or ()),
                inputs=tuple(data or ()),
                offline=offline,
                keep_work=keep_work,
                grace=grace,
                timeout=timeout,
                yes=yes,
                quiet=quiet,
                as_json=as_json,
            )
        )
    )


@app.command("list", epilog="varies: other runs of the same spec have other outputs; orch show says which.")
def list_runs(
    experiment_name: Annotated[
        str | None, typer.Option("--experiment-name", metavar="NAME", help="Only those of this experiment.")
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="finished, failed, running, ...")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """The runs, newest first."""
    from orchestrator.cli import runs

    runs.list_runs(experiment_name, status, limit, as_json=as_json)


@app.command()
def show(run: Run = "latest", as_json: Json = False) -> None:
    """One run: what decided it, and what came of it."""
    from orchestrator.cli import runs

    runs.show(run, as_json=as_json)


@app.command()
def ps(as_json: Json = False) -> None:
    """What lives now: runs that are prepared, run or are compared; and those that never began, for a day."""
    from orchestrator.cli import live

    live.ps(as_json=as_json)


@app.command(epilog="Exit code: that of the run, as `orch run` has it; 0 when you leave it.")
def attach(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run; by default the newest that lives here.", show_default=False),
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="Of what was printed before, only N lines.")
    ] = None,
) -> None:
    """See a run from its beginning, and on as it goes. Ctrl-P Ctrl-Q leaves it; without a terminal Ctrl-C does."""
    from orchestrator.cli import live

    raise typer.Exit(live.attach(run, tail=tail))


@app.command()
def stop(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to stop.")],
    grace: Annotated[
        float | None, typer.Option("--grace", metavar="SECONDS", min=0, help="To the kill; by default as `orch run`.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Kill at once.")] = False,
) -> None:
    """End runs, each with its whole process tree: gently, then firmly. It returns when they have ended."""
    from orchestrator.cli import live

    live.stop(runs, grace=grace, now=now)


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
) -> None:
    """What a run printed: its output to stdout, its errors to stderr."""
    from orchestrator.cli import logs as command

    command.logs(run, follow=follow, tail=tail, plain=plain)


@app.command()
def get(
    run: Run,
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[PATTERN]...", help="Outputs to bring, as `*.csv`; default all.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to put them.")] = Path(),
) -> None:
    """Bring outputs of a run back from the store."""
    from orchestrator.cli import runs

    runs.get(run, patterns or [], output)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A run, as for `orch show`.", show_default=False)],
    other: Annotated[str, typer.Argument(metavar="B", help="The other one.", show_default=False)],
    patch: Annotated[bool, typer.Option("--patch", help="What differs in the code also as a patch.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Touch no network.")] = False,
    as_json: Json = False,
) -> None:
    """What differs from run A to run B: code, environment, parameters, results. Exit code 1 when anything does."""
    from orchestrator.cli import diff as command

    raise typer.Exit(command.diff(one, other, patch=patch, offline=offline, as_json=as_json))


@app.command(epilog="Exit code: 0; 128+N when signal N ended it; 125 without a terminal, or without Textual.")
def top() -> None:
    """A full-screen dashboard: live runs, history, logs. It needs the extra `tui`."""
    from orchestrator.cli import top as command

    raise typer.Exit(command.top())


@app.command()
def rm(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs to remove.")],
) -> None:
    """Remove runs: their records, logs, and the outputs that no other run has."""
    from orchestrator.cli import runs as commands

    commands.remove(runs)


@app.command(epilog="Exit code: 0 without a fault, 1 with one.")
def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Touch no network.")] = False,
    as_json: Json = False,
) -> None:
    """Look at this machine: programs, folders, disks, network, configuration; and say what to do about each."""
    from orchestrator.cli import doctor as command

    raise typer.Exit(command.doctor(as_json=as_json, offline=offline))


@ledger_commands.command()
def rebuild() -> None:
    """Make the ledger again from the run directories."""
    from orchestrator.cli import runs

    runs.rebuild()


if "_ORCH_COMPLETE" in os.environ or _words[1:2] in (["--install-completion"], ["--show-completion"]):
    from orchestrator.cli import completion

    completion.use_own_scripts()
    completion.teach(app)
