"""The commands of `orch log` and their options."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.log import log_artifact, log_metric, log_param, log_tag

app = typer.Typer(
    help="Inside a run, from any language: log a metric, a parameter, a tag, a file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_NUMBERS = {"ignore_unknown_options": True}
"""A negative number looks like an option."""
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Value = Annotated[str, typer.Argument(metavar="VALUE", show_default=False)]


@app.command(context_settings=_NUMBERS)
def metric(
    name: Name,
    value: Value,
    step: Annotated[int, typer.Option("--step", metavar="N", help="The step that it belongs to.")] = 0,
) -> None:
    """A point of a metric: `orch log metric rmse 0.8 --step 3`."""
    log_metric(name, value, step)


@app.command(context_settings=_NUMBERS)
def param(name: Name, value: Value) -> None:
    """A parameter that the program chose itself."""
    log_param(name, value)


@app.command(context_settings=_NUMBERS)
def tag(name: Name, value: Value) -> None:
    """A word about the run."""
    log_tag(name, value)


@app.command()
def artifact(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or a folder.", show_default=False, exists=True)],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Its path among the artifacts; default its own name.")
    ] = None,
) -> None:
    """A copy of a file, or a folder, among the run's artifacts."""
    log_artifact(path, name)
