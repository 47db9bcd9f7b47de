"""Request -> RunSpec: the only place that asks the world (git, channels, indexes, the user's files)."""

from __future__ import annotations

import difflib
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

from orchestrator import environment, project, source
from orchestrator.artifact_input import artifact
from orchestrator.as_of import moment, rfc3339
from orchestrator.errors import OrchError, UsageError
from orchestrator.inputs import describe_input, store_input
from orchestrator.model import EnvironmentRef, Input, RunRecord, RunSpec, Source
from orchestrator.nested import source_inside
from orchestrator.paths import Home, stays_below
from orchestrator.records import spec_id
from orchestrator.report import Report
from orchestrator.variables import fixed_variables, is_secret

NOT_COMMITTED = {"work tree": "work tree, not committed", "folder": "a folder without git", "zip": "a zip file"}
"""What a snapshot commit is of, for people."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a person asked for: everything that decides the spec, still with its questions open."""

    repository: str
    revision: str | None = None
    entry_point: str = "main"
    parameters: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    """`PATH` or `PATH=DEST`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    relock: bool = False
    platforms: tuple[str, ...] = ()
    """Other platforms to lock for."""
    as_of: str | None = None
    """A day (`2021-06-30`), a time (RFC 3339), or `commit`."""
    cuda: str | None = None
    link_scripts: tuple[str, ...] = ()
    """Packages whose post-link scripts are to run."""
    allow_unhashed: bool = False
    """Take a lock that lacks hashes, and what the channels and indexes say now for them."""
    stdin: Path | None = None
    storage: Path | None = None
    """Where remote `path` parameters are downloaded to; None for orch's own cache."""
    around: RunRecord | None = None
    """The run in whose program this one is asked for: a folder of its checkout is the commit that it has."""
    directory: Path = field(default_factory=Path.cwd)
    """What relative paths of the caller are relative to."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """A spec, and what came to light on the way that is not part of it."""

    spec: RunSpec
    params: Mapping[str, str]
    """The parameters as given, for the record; a secret's value is empty."""
    secret_parameters: Mapping[str, str]
    secret_variables: Mapping[str, str]
    notes: tuple[str, ...]


def resolve(request: RunRequest, *, home: Home, report: Report) -> Resolution:
    """Pin everything: the commit, the parameters, the inputs, the environment.

    Cheap mistakes are found first, the environment is solved last. Raises UsageError and OrchError.
    """
    _check_environment_options(request)
    resolved = _resolve_source(request, home, report)
    pinned = resolved.source
    report("source", _shown_source(pinned))
    with source.open_tree(pinned, home=home) as tree, source.checkout_aside(pinned, home=home) as checkout:
        found = project.read_project(tree, pinned.subdir)
        unclear = _unclear_rules(tree, pinned.subdir) if found.has_rules else ()
        entry = project.choose_entry_point(found, request.entry_point, tree)
        bound = project.bind(entry, request.parameters, cwd=request.directory)
        project.render(bound.command, bound.parameters)  # a value that its place does not take is refused now
        inputs, paths, stdin = _inputs(request, resolved, found, bound, tree, home=home)
        paths |= _default_paths(entry, request, pinned, tree)
        asked = replace(
            environment.environment_request(found.environment.kind, found.environment.path, tree, pinned),
            as_of=_as_of(request.as_of, pinned),
            cuda=request.cuda,
            allow_unhashed=request.allow_unhashed,
        )
        lock = partial(
            environment.resolve_environment,
            asked,
            home=home,
            relock=request.relock,
            report=report,
            build_source=checkout,
        )
        locked = lock()
        link_scripts = _link_scripts(request.link_scripts, locked.lock_id, home)
        wanted = [name for name in request.platforms if name not in (locked.platform, *locked.others)]
        others = {**locked.others, **{name: lock(platform=name).lock_id for name in dict.fromkeys(wanted)}}
    parameters, secret_parameters = _hide({**bound.parameters, **paths})
    variables, secret_variables = _hide(
        {**fixed_variables(pinned.commit_time), **locked.variables, **request.variables}
    )
    spec = RunSpec(
        source=pinned,
        entry_point=entry.name,
        command=bound.command,
        parameters=parameters,
        environment=EnvironmentRef(
            locked.lock_id,
            locked.platform,
            locked.paths,
            as_of=asked.as_of,
            others=dict(sorted(others.items())),
            link_scripts=link_scripts,
        ),
        paths=tuple(sorted(paths)),
        inputs=tuple(inputs),
        variables=dict(sorted(variables.items())),
        stdin=stdin,
        secret_parameters=tuple(sorted(secret_parameters)),
        secret_variables=tuple(sorted(secret_variables)),
    )
    _check_recordable(spec)
    notes = (*resolved.notes, *found.notes, *unclear, *bound.notes, *locked.notes)
    for note in notes:
        report("note", note)
    return Resolution(spec, _hide(bound.parameters)[0], secret_parameters, secret_variables, notes)


def _resolve_source(request: RunRequest, home: Home, report: Report) -> source.Resolved:
    if request.around is not None:
        inside = source_inside(request.around, request.repository, request.revision, home)
        if inside is not None:
            return inside
    return source.resolve_source(request.repository, request.revision, home=home, report=report)


def _unclear_rules(tree: source.Tree, subdir: str) -> tuple[str, ...]:
    """Said now, when it can still be mended: a replay of this commit would have to do without."""
    from orchestrator.compare import project_rules  # as late as can be: few projects have any

    try:
        project_rules(tree, subdir)
    except OrchError as error:
        return (f"what the project declares for its outputs and metrics would have no say in a replay: {error}",)
    return ()


def _check_environment_options(request: RunRequest) -> None:
    for name in request.platforms:
        environment.known_platform(name)
    environment.cuda_version(request.cuda)


def _link_scripts(wanted: tuple[str, ...], lock_id: str, home: Home) -> tuple[str, ...]:
    """The names of `--link-scripts`, sorted, each once. Raises UsageError for one that the lock does not have."""
    if not wanted:
        return ()
    packages = environment.locked_packages(home, lock_id)
    names = sorted(package.name for package in packages if package.manager == "conda")
    for name in wanted:
        if name.lower() not in names:
            near = difflib.get_close_matches(name.lower(), names, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"orch env show {lock_id[:16]} lists them."
            raise UsageError(f"--link-scripts {name}: the environment has no conda package of that name; {hint}")
    return tuple(sorted({name.lower() for name in wanted}))


def _as_of(text: str | None, pinned: Source) -> str | None:
    """The time, RFC 3339 in UTC, that `--as-of` names; `commit` is that of the commit."""
    if text == "commit":
        if source.kind_of(pinned) in ("folder", "zip"):
            raise UsageError("--as-of commit: what is run has no commit, so it has no day; name one, as 2021-06-30.")
        return rfc3339(datetime.fromtimestamp(pinned.commit_time, UTC))
    try:
        return None if text is None else moment(text)
    except UsageError as error:
        raise UsageError(f"{error} `--as-of commit` is the day of the commit.") from error


def _hide(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The values as they may be recorded, and those that may not."""
    secrets = {name: value for name, value in values.items() if is_secret(name, value)}
    return {name: "" if name in secrets else value for name, value in values.items()}, secrets


def _check_recordable(spec: RunSpec) -> None:
    """Refuse, before anything runs, what no record could hold."""
    try:
        spec_id(spec)
    except ValueError as error:
        raise UsageError(f"a parameter, variable or path of this run can't be recorded: {error}.") from error


def _inputs(
    request: RunRequest,
    resolved: source.Resolved,
    found: project.Project,
    bound: project.Bound,
    tree: source.Tree,
    *,
    home: Home,
) -> tuple[list[Input], dict[str, str], str | None]:
    """All inputs; for each `path` parameter that is one its place in the project's directory; that of stdin."""
    wanted: dict[str, Path] = {}
    for option in request.inputs:
        origin, destination = split_input(option, request.directory)
        _add(wanted, destination, origin)
    for declared in found.inputs:
        _add_declared(wanted, declared, resolved.source, tree)
    for large in resolved.large_files:
        place = _below(large.path, resolved.source.subdir)
        if place is not None:
            _add(wanted, place, large.place)
    paths: dict[str, str] = {}
    artifacts = {name: copy for name, uri in bound.downloads.items() if (copy := artifact(uri, home=home))}
    downloads = {name: uri for name, uri in bound.downloads.items() if name not in artifacts}
    downloaded = {name: _download(name, uri, request.storage, home) for name, uri in downloads.items()}
    local = {**bound.paths, **artifacts, **downloaded}
    for name, origin in local.items():
        destination = f"inputs/{origin.name}"
        if wanted.get(destination, origin) != origin:
            destination = f"inputs/{name}/{origin.name}"
        _add(wanted, destination, origin)
        paths[name] = destination
    stdin = None
    if request.stdin is not None:
        stdin = f"inputs/{request.stdin.name}"
        _add(wanted, stdin, request.stdin)
    described = [describe_input(PurePosixPath(d).name, o, d, home=home) for d, o in sorted(wanted.items())]
    for item in described:
        if item.path in {paths[name] for name in artifacts}:
            store_input(item, home=home)  # the store has its files already
    return described, paths, stdin


def _default_paths(entry: project.EntryPoint, request: RunRequest, pinned: Source, tree: source.Tree) -> dict[str, str]:
    """The defaults of `path` parameters: files of the commit, which the program gets as absolute paths too."""
    defaults = {
        parameter.name: parameter.default
        for parameter in entry.parameters
        if parameter.type == "path" and parameter.default and parameter.name not in request.parameters
    }
    for name, default in defaults.items():
        if not _is_in(tree, "/".join(filter(None, [pinned.subdir, default]))):
            raise OrchError(
                f"the default of parameter {name}, {default}, is not in the commit: give a file of yours with "
                f"-P {name}=FILE."
            )
    return defaults


def split_input(option: str, directory: Path) -> tuple[Path, str]:
    """`PATH[=DEST]`; a path that holds `=` itself is taken whole when it exists."""
    path, given, destination = option, False, ""
    if "=" in option and not (directory / Path(option).expanduser()).exists():
        path, _, destination = option.rpartition("=")
        given = True
    origin = Path(os.path.normpath(directory / Path(path).expanduser()))
    if not path or not origin.exists():
        raise UsageError(f"--input {option}: there is no file or folder {path or 'before the ='}.")
    if not given:
        return origin, f"inputs/{origin.name}"
    if not stays_below(destination):
        raise UsageError(f"--input {option}: DEST must be a path below the project's directory.")
    return origin, str(PurePosixPath(destination))


def _add(wanted: dict[str, Path], destination: str, origin: Path) -> None:
    if wanted.get(destination, origin) != origin:
        raise UsageError(
            f"two inputs would stand at {destination} ({wanted[destination]} and {origin}): "
            "give one another place with --input PATH=DEST."
        )
    nested = [d for d in wanted if d.startswith(f"{destination}/") or destination.startswith(f"{d}/")]
    if nested:
        raise UsageError(f"an input at {destination} and one at {nested[0]} can't both be: choose other places.")
    wanted[destination] = origin


def _add_declared(wanted: dict[str, Path], declared: project.DeclaredInput, pinned: Source, tree: source.Tree) -> None:
    """An input that the project names: in the commit, given by the user, or in the user's local checkout."""
    own_place = _below(declared.path, pinned.subdir)
    destination = declared.dest or own_place or f"inputs/{PurePosixPath(declared.path).name}"
    if destination in wanted or (destination == own_place and _is_in(tree, declared.path)):
        return
    local = source.local_directory(pinned)
    if local is not None:
        root = local.resolve()
        origin = (root / declared.path).resolve()
        if origin.exists() and origin.is_relative_to(root):
            wanted[destination] = root / declared.path
            return
    raise OrchError(
        f"the project needs the input {declared.path}, which is not in the commit: "
        f"give yours with --input FILE={destination}."
    )


def _is_in(tree: source.Tree, path: str) -> bool:
    parent, name = os.path.split(posixpath.normpath(path))
    entries = tree.names(parent)
    return name in entries or f"{name}/" in entries


def _below(path: str, subdir: str) -> str | None:
    if not subdir:
        return path
    return path[len(subdir) + 1 :] if path.startswith(f"{subdir}/") else None


def _download(name: str, uri: str, storage: Path | None, home: Home) -> Path:
    """Fetch the remote value of a `path` parameter, as MLflow does, into a folder named after the URI."""
    import hashlib
    import shutil
    import tempfile
    import urllib.error
    import urllib.parse
    import urllib.request

    parts = urllib.parse.urlsplit(uri)
    public = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if home.offline:
        raise OrchError(
            f"parameter {name}: {public} would have to be downloaded, and --offline asks no network: "
            f"give a file with -P {name}=FILE."
        )
    if parts.scheme not in ("http", "https"):
        raise OrchError(
            f"parameter {name}: orch downloads http and https, not {parts.scheme}: "
            "download it yourself and give the file."
        )
    folder = (storage or home.cache / "downloads") / hashlib.sha256(uri.encode()).hexdigest()[:16]
    target = folder / (os.path.basename(urllib.parse.unquote(parts.path)) or "download")  # noqa: PTH119 - text, no path yet
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(uri, timeout=60) as answer,  # noqa: S310 - the scheme was checked
            tempfile.NamedTemporaryFile(dir=folder, delete=False) as part,
        ):
            shutil.copyfileobj(answer, part)
        Path(part.name).replace(target)
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise OrchError(f"parameter {name}: {public} can't be downloaded: {reason}.") from error
    return target


def _shown_source(pinned: Source) -> str:
    name = pinned.url.rstrip("/").rpartition("/")[2].removesuffix(".git") or pinned.url
    name += f"#{pinned.subdir}" if pinned.subdir else ""
    kind = source.kind_of(pinned)
    called = (pinned.revision or "") if kind == "commit" else NOT_COMMITTED[kind]
    return f"{name} @ {pinned.commit[:7]}" + (f" ({called})" if called and not pinned.commit.startswith(called) else "")
