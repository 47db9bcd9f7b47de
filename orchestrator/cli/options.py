"""Options and arguments that several commands have."""

from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run: the beginning of its id, its name, or `latest`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Offline = Annotated[bool, typer.Option("--offline", help="Touch no network.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No word but results and errors.")]


def hush(quiet: bool) -> None:
    """With `quiet`, say nothing of what is being done, and no notes."""
    if quiet:
        from orchestrator.cli.tell import tell

        tell.quiet = True
