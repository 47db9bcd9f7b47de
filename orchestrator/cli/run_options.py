"""The options of `orch run` and `orch replay`, which have the most."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import Offline

Grace = Annotated[
    str, typer.Option("--grace", metavar="TIME", help="From a stop request to the kill: seconds, or as for --timeout.")
]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Stop the program after 90, 90s, 10m, 2h30m or 1d.")
]


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
    offline: Offline = False,
    store_inputs: Annotated[bool, typer.Option("--store-inputs", help="Keep the bytes of the inputs too.")] = False,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Keep the work directory.")] = False,
    stdin: Annotated[
        Path | None,
        typer.Option(
            "--stdin",
            metavar="FILE",
            help="The program's standard input. Without it: the keyboard where stdin and stdout are a terminal, "
            "else nothing (also in `| tee`, with --json, --no-tty or --detach).",
        ),
    ] = None,
    grace: Grace = "10",
    timeout: Timeout = None,
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
    """Run an entry point of a commit in its locked environment. What came of it is recorded."""
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
    offline: Offline = False,
    keep_work: Annotated[bool, typer.Option("--keep-work", help="Keep the work directory.")] = False,
    grace: Grace = "10",
    timeout: Timeout = None,
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
