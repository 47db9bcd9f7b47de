"""The commands of `orch env` and their options; read only when one of them is wanted (see `app`)."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Environments: look into, use, export.", no_args_is_help=True, rich_markup_mode=None)

Environment = Annotated[
    str,
    typer.Argument(
        metavar="ENVIRONMENT",
        help="A run, a lock id, a project (folder or git URL), an environment file or a conda-lock.yml.",
        show_default=False,
    ),
]
Platform = Annotated[
    str | None, typer.Option("--platform", metavar="NAME", help="Another platform than this one, as osx-arm64.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Touch no network.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def export(
    environment: Environment = ".",
    format: Annotated[  # noqa: A002 - the option's name
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="conda-lock, explicit, environment, pixi, requirements or sbom.",
        ),
    ] = "conda-lock",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: stdout.")] = None,
    platform: Annotated[
        list[str] | None, typer.Option("--platform", metavar="NAME", help="Only this one; repeatable.")
    ] = None,
    no_builds: Annotated[
        bool, typer.Option("--no-builds", help="environment: versions without build strings.")
    ] = False,
    from_history: Annotated[
        bool, typer.Option("--from-history", help="environment: only what was asked for, as it was asked.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Write an environment for another tool."""
    from orchestrator.cli import env_export

    env_export.export(
        env_export.Options(
            environment=environment,
            format=format,
            output=output,
            platforms=tuple(platform or ()),
            no_builds=no_builds,
            from_history=from_history,
            offline=offline,
        )
    )


@app.command("list")
def list_environments(as_json: Json = False) -> None:
    """The environments that are known here: size, last use, and the runs that need them."""
    from orchestrator.cli import env

    env.list_environments(as_json=as_json)


@app.command()
def show(
    environment: Environment = ".", platform: Platform = None, offline: Offline = False, as_json: Json = False
) -> None:
    """One environment: what it was made from and its packages."""
    from orchestrator.cli import env

    env.show(environment, platform, offline=offline, as_json=as_json)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="An environment, as for `orch env show`.")],
    other: Annotated[str, typer.Argument(metavar="[B]", help="The other one; left out, A on two platforms.")] = "",
    platform: Annotated[
        list[str] | None, typer.Option("--platform", metavar="NAME", help="Of A and of B; once for both.")
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """The packages that were added, removed or changed from A to B. Exit code 1 when there are any."""
    from orchestrator.cli import env

    raise typer.Exit(env.diff(one, other, tuple(platform or ()), offline=offline, as_json=as_json))


@app.command("exec", context_settings={"allow_interspersed_args": False})
def execute(
    environment: Environment,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD [ARG]...", help="The program and its arguments.")],
    offline: Offline = False,
) -> None:
    """Run a program in an environment. The exit code is the program's."""
    from orchestrator.cli import env_exec

    env_exec.execute(environment, command, offline=offline)


@app.command()
def shell(
    environment: Environment = ".",
    offline: Offline = False,
) -> None:
    """Open your shell (bash, zsh or fish, by $SHELL) in an environment."""
    from orchestrator.cli import env_exec

    env_exec.shell(environment, offline=offline)
