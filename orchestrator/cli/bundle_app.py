"""The commands of `orch bundle` and their options."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import Json, Quiet, Run, hush

app = typer.Typer(help="A run in one file: create, verify, import.", no_args_is_help=True, rich_markup_mode=None)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A bundle.", show_default=False)]


@app.command()
def create(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.", show_default=False)
    ],
    run: Run = "latest",
    offline: Annotated[
        bool, typer.Option("--offline", help="With every package, for a machine without network.")
    ] = False,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="NAME", help="With --offline: for this one, not the run's; repeatable."),
    ] = None,
    inputs: Annotated[
        bool, typer.Option("--inputs/--no-inputs", help="The bytes of the inputs too, or their hashes only.")
    ] = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put a run into one file: code, lock, inputs, outputs, logs, and what it recorded."""
    from orchestrator.cli import bundle

    hush(quiet)
    bundle.create(bundle.Options(run, output, offline, tuple(platform or ()), inputs), as_json=as_json)


@app.command()
def verify(file: File, quiet: Quiet = False, as_json: Json = False) -> None:
    """Check every byte of a bundle, and say whose run it is. Nothing is kept, nothing is executed."""
    from orchestrator.cli import bundle

    hush(quiet)
    bundle.verify(file, as_json=as_json)


@app.command("import")
def import_(file: File, quiet: Quiet = False, as_json: Json = False) -> None:
    """Take the run of a bundle into this home, after every check. Nothing is executed."""
    from orchestrator.cli import bundle

    hush(quiet)
    bundle.import_(file, as_json=as_json)
