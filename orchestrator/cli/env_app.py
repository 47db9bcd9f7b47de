"""The commands of `orch env` and their options; read only when one of them is wanted (see `app`)."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import Json, Offline, Quiet, hush

app = typer.Typer(help="Environments: lock, look into, use, export.", no_args_is_help=True, rich_markup_mode=None)

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
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Use that of an imported run without being asked.")]


@app.command()
def lock(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="A project folder, or environment files to be merged: environment.yml, pyproject.toml, "
            "python_env.yaml, requirements.txt. Default: the project here.",
            show_default=False,
        ),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="NAME",
            help="Lock for this one; repeatable. Default: those the files name, else linux-64, osx-64, osx-arm64, "
            "win-64 and this one.",
        ),
    ] = None,
    virtual_package: Annotated[
        list[str] | None,
        typer.Option(
            "--virtual-package",
            metavar="[PLATFORM:]NAME=VERSION",
            help="What those machines have, as linux-64:__glibc=2.17; repeatable.",
        ),
    ] = None,
    cuda: Annotated[
        str | None, typer.Option("--cuda", metavar="VERSION", help="Solve for machines with this CUDA.")
    ] = None,
    update: Annotated[
        list[str] | None,
        typer.Option("--update", metavar="NAME", help="Move this package, and only what must move; repeatable."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 when the lock does not match its sources.")
    ] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DAY", help="Only packages that existed then: 2021-06-30.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: conda-lock.yml beside the first source."),
    ] = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Lock an environment for every platform, in a conda-lock.yml to be committed."""
    from orchestrator.cli import env_lock

    hush(quiet)
    raise typer.Exit(
        env_lock.lock(
            env_lock.Options(
                sources=tuple(sources or ()),
                platforms=tuple(platform or ()),
                virtual_packages=tuple(virtual_package or ()),
                cuda=cuda,
                update=tuple(update or ()),
                check=check,
                as_of=as_of,
                output=output,
                offline=offline,
                as_json=as_json,
            )
        )
    )


@app.command()
def search(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A package, as `python` or `numpy>=2,<3`.")],
    channel: Annotated[
        list[str] | None,
        typer.Option(
            "--channel", "-c", metavar="NAME", help="Where to look; repeatable. Default: the configured ones."
        ),
    ] = None,
    platform: Platform = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The versions and builds of a package that the channels have."""
    from orchestrator.cli import env_search

    hush(quiet)
    env_search.search(spec, tuple(channel or ()), platform, offline=offline, as_json=as_json)


@app.command()
def prune(
    days: Annotated[
        int | None,
        typer.Option("--days", metavar="N", min=0, help="Also what kept runs need, when unused for N days."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; print what would go.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Remove environments, packages, ... that no kept run needs and nobody used for a day."""
    from orchestrator.cli import env_prune

    hush(quiet)
    env_prune.prune(days, dry_run=dry_run, as_json=as_json)


@app.command()
def export(
    environment: Environment = ".",
    format: Annotated[  # noqa: A002 - the option's name
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="conda-lock, explicit, environment, pixi, requirements, sbom, or channel (a folder).",
        ),
    ] = "conda-lock",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Default: stdout; channel needs a folder.")
    ] = None,
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
    quiet: Quiet = False,
) -> None:
    """Write an environment for another tool."""
    from orchestrator.cli import env_export

    hush(quiet)
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
    environment: Environment = ".",
    platform: Platform = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """One environment: what it was made from and its packages."""
    from orchestrator.cli import env

    hush(quiet)
    env.show(environment, platform, offline=offline, as_json=as_json)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="An environment, as for `orch env show`.")],
    other: Annotated[str, typer.Argument(metavar="[B]", help="The other one; left out, A on two platforms.")] = "",
    platform: Annotated[
        list[str] | None, typer.Option("--platform", metavar="NAME", help="Of A and of B; once for both.")
    ] = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The packages that were added, removed or changed from A to B. Exit code 1 when there are any."""
    from orchestrator.cli import env

    hush(quiet)
    raise typer.Exit(env.diff(one, other, tuple(platform or ()), offline=offline, as_json=as_json))


@app.command("exec", context_settings={"allow_interspersed_args": False})
def execute(
    environment: Environment,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD [ARG]...", help="The program and its arguments.")],
    offline: Offline = False,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Run a program in an environment. The exit code is the program's."""
    from orchestrator.cli import env_exec

    hush(quiet)
    env_exec.execute(environment, command, offline=offline, yes=yes)


@app.command()
def shell(
    environment: Environment = ".",
    offline: Offline = False,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Open your shell (bash, zsh or fish, by $SHELL) in an environment."""
    from orchestrator.cli import env_exec

    hush(quiet)
    env_exec.shell(environment, offline=offline, yes=yes)
