"""A bundle for other tools: the run as a Process Run Crate 0.5 on RO-Crate 1.1, in `ro-crate-metadata.json`.

It is a view: orch itself reads the manifest, the spec and the record. Nothing in it is named by its place on the
machine: code is named by its commit, inputs and outputs by their path in the project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from orchestrator.bundle import layout
from orchestrator.bundle.layout import Member, blob_member, lock_member, source_member
from orchestrator.canonical import number_to_json
from orchestrator.environment.carried_check import LOCK_FILES
from orchestrator.errors import UsageError
from orchestrator.model import Output, RunRecord, RunSpec, latest_metrics
from orchestrator.source.location import parse_remote

Entity = dict[str, Any]

_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_TERMS = {term: f"https://w3id.org/ro/terms/workflow-run#{term}" for term in ("sha256", "environment")}

# A table of its own, since that of `mimetypes` depends on the machine.
_FORMATS = {
    f".{ending}": form
    for form, endings in {
        "application/gzip": "gz",
        "application/json": "json",
        "application/pdf": "pdf",
        "application/xml": "xml",
        "application/yaml": "yaml yml",
        "application/zip": "conda whl zip",
        "image/gif": "gif",
        "image/jpeg": "jpeg jpg",
        "image/png": "png",
        "image/svg+xml": "svg",
        "image/tiff": "tif tiff",
        "text/css": "css",
        "text/csv": "csv",
        "text/html": "htm html",
        "text/markdown": "md",
        "text/plain": "log txt",
        "text/tab-separated-values": "tsv",
    }.items()
    for ending in endings.split()
}

_ABOUT = {
    layout.README: "What this is, for people.",
    layout.SPEC: "What decides the result of the run.",
    layout.RECORD: "What became of the run.",
    layout.METRICS: "Every point of the metrics that the program logged.",
    layout.STDOUT: "What the program wrote to its standard output.",
    layout.STDERR: "What the program wrote to its standard error.",
}


def crate(record: RunRecord, members: Sequence[Member]) -> bytes:
    """The bytes of `ro-crate-metadata.json`; they follow from the record and the members alone.

    `members` are all others of the bundle but the manifest, which holds this file's hash: it is listed without one.
    An input or output whose bytes are not among them is left out.
    """
    spec, files = record.spec, _files(record, members)
    software = _software(spec, files)
    given = _parameters(record)
    variables = _values("variable", spec.variables, spec.secret_variables)
    made = _values("metric", {name: number_to_json(number) for name, number in latest_metrics(record).items()})
    made += [
        _value("link", o.path, o.link, "A symbolic link: its target.") for o in record.outputs if o.link is not None
    ]
    action = _action(record, files, given, made, variables, software[0])
    graph = [
        _entity(layout.CRATE, "CreativeWork", conformsTo={"@id": _SPECIFICATION}, about={"@id": "./"}),
        _root(record, software[0], action, files),
        *_context_of(record),
        *(action, *software, *given, *variables, *made),
        *files.values(),
    ]
    unique: dict[str, Entity] = {}
    for entity in graph:
        unique.setdefault(entity["@id"], entity)
    table = {"@context": [f"{_SPECIFICATION}/context", _TERMS], "@graph": list(unique.values())}
    text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")  # a lone surrogate is no text; the record has it exactly


# --- the run ----------------------------------------------------------------------------------------------------


def _root(record: RunRecord, code: Entity, action: Entity, files: Mapping[str, Entity]) -> Entity:
    return _entity(
        "./",
        "Dataset",
        name=f"Run {record.run_id[:16]} of {code['name']}",
        description="A recorded run: its code, environment, inputs, logs and outputs. orch can do it again.",
        datePublished=_time(record.ended_at or record.started_at),
        conformsTo={"@id": _PROFILE},
        license={"@id": "#license"},
        author={"@id": "#agent"},
        publisher={"@id": "#organization"},
        mentions=_to([action]),
        hasPart=_to(files.values()),
    )


def _context_of(record: RunRecord) -> list[Entity]:
    """The profile, and what can be said of people and rights."""
    variables = record.host.get("variables")
    known = variables if isinstance(variables, Mapping) else {}
    person = str(known.get("LOGNAME") or known.get("USER") or "unknown")
    rights = "The rights are those of the authors of the code and the data; the code may state a licence."
    return [
        _entity(_PROFILE, "CreativeWork", name="Process Run Crate", version="0.5"),
        _entity("#license", "CreativeWork", name="No licence stated", description=rights),
        _entity("#agent", "Person", name=person, affiliation={"@id": "#organization"}),
        # RO-Crate recommends a URL here; about:blank is that of a page without content (RFC 6694).
        _entity("#organization", "Organization", name="not stated", url="about:blank"),
    ]


def _action(
    record: RunRecord,
    files: Mapping[str, Entity],
    given: Sequence[Entity],
    made: Sequence[Entity],
    variables: Sequence[Entity],
    code: Entity,
) -> Entity:
    spec = record.spec
    read = [*(blob_member(item.sha256) for item in spec.inputs), *_lock(spec)]
    written = [layout.STDOUT, layout.STDERR, *(blob_member(output.sha256) for output in _regular(record))]
    failed = record.status in ("failed", "stopped", "lost")
    status = "CompletedActionStatus" if record.status == "finished" else "FailedActionStatus" if failed else None
    exit_code = None if record.exit_code is None else f"exit code {record.exit_code}"
    return _entity(
        f"urn:uuid:{UUID(record.run_id)}",
        "CreateAction",
        name=record.name or spec.entry_point,
        description=_description(record),
        startTime=_time(record.started_at),
        endTime=_time(record.ended_at or record.started_at),
        agent={"@id": "#agent"},
        instrument=_to([code]),
        object=_to([*_chosen(files, read), *given]),
        result=_to([*_chosen(files, written), *made]),
        environment=_to(variables),
        actionStatus=status and f"http://schema.org/{status}",
        error=": ".join(filter(None, (record.status, record.reason, exit_code))) if failed else None,
    )


def _description(record: RunRecord) -> str:
    spec = record.spec
    place = f" in the folder {spec.source.subdir}" if spec.source.subdir else ""
    text = f"The command of the entry point {spec.entry_point}{place}: {spec.command}"
    if record.replay_of is None:
        return text
    result = str((record.verdict or {}).get("result"))
    came = {"reproduced": "; its result came out again", "differs": "; its result differs"}.get(result, "")
    return f"A replay of run {record.replay_of}{came}. {text}"


def _parameters(record: RunRecord) -> list[Entity]:
    asked, secrets = record.spec.parameters, record.spec.secret_parameters
    logged = {k: v for k, v in record.params.items() if k not in secrets and asked.get(k) != v}
    about = "A parameter that the program logged."
    return _values("parameter", asked, secrets) + [_value("logged", *item, about) for item in sorted(logged.items())]


def _values(kind: str, values: Mapping[str, object], secrets: Iterable[str] = ()) -> list[Entity]:
    """By name: a record that was read from canonical JSON has another order than one that was just made."""
    return [
        _value(kind, name, None, "A secret: its value is not recorded.")
        if name in secrets
        else _value(kind, name, values[name])
        for name in sorted(values)
    ]


def _value(kind: str, name: str, value: object, about: str | None = None) -> Entity:
    identifier = f"#{kind}-{quote(name, safe='', errors='surrogatepass')}"
    return _entity(identifier, "PropertyValue", name=name, value=value, description=about)


# --- the code ---------------------------------------------------------------------------------------------------


def _software(spec: RunSpec, files: Mapping[str, Entity]) -> list[Entity]:
    """The commit that was run, then those of its submodules."""
    source = spec.source
    parts = [_commit(item.commit, [item.url], files) for item in source.submodules if item.commit != source.commit]
    code = _commit(source.commit, [source.url, source.origin or ""], files)
    code |= _entity(
        code["@id"],
        "SoftwareSourceCode",
        description="A snapshot of a folder as it was, not a commit of its authors." if source.dirty else None,
        softwareRequirements=_to(_chosen(files, _lock(spec)[:1])),
        hasPart=_to(parts),
    )
    return [code, *parts]


def _commit(commit: str, urls: Sequence[str], files: Mapping[str, Entity]) -> Entity:
    """The code of a commit. Its identifier is the same wherever it came from: its SWHID (ISO/IEC 18670), as a URL.

    (The profile's checks ask for http.) A SWHID is for sha1; the commit of a sha256 repository has its gitoid.
    """
    swhid = f"https://archive.softwareheritage.org/swh:1:rev:{commit}"
    repository = next((url for url in urls if _is_public(url)), None)
    last = re.split(r"[/:]", (repository or urls[0]).rstrip("/"))[-1].removesuffix(".git")
    return _entity(
        swhid if len(commit) == 40 else f"gitoid:commit:sha256:{commit}",
        "SoftwareSourceCode",
        name=unquote(last) or "project",
        version=commit,
        codeRepository=repository,
        url=repository or source_member(commit),
        encoding=_to(_chosen(files, [source_member(commit)])),
    )


def _is_public(url: str) -> bool:
    """Whether a URL means something on other machines, and is what orch would take: no credentials."""
    try:
        remote = parse_remote(url)
    except UsageError:
        return False
    return not (remote.plain_http or remote.secret_url or url.startswith("file:"))


# --- files ------------------------------------------------------------------------------------------------------


def _files(record: RunRecord, members: Sequence[Member]) -> dict[str, Entity]:
    """The File of each member, by path."""
    spec = record.spec
    names: dict[str, dict[str, None]] = {}
    placed = [(item.sha256, item.path) for item in spec.inputs] + [(o.sha256, o.path) for o in _regular(record)]
    for sha256, path in placed:
        names.setdefault(blob_member(sha256), {})[path] = None
    folders = {blob_member(item.sha256) for item in spec.inputs if item.kind == "folder"}
    about = "The size and sha256 of every other file of this bundle."
    files = {layout.MANIFEST: _file(layout.MANIFEST, [layout.MANIFEST], about)}
    for member in sorted(members, key=lambda member: member.path):
        path = member.path
        if path in names:
            listing = "The listing of a folder: [path, sha256, size, executable] of each file."
            file = _file(path, list(names[path]), listing if path in folders else None)
        else:
            file = _file(path, *_told(path, spec))
        files[path] = file | {"contentSize": str(member.size), "sha256": member.sha256}
        if path in folders:
            files[path]["encodingFormat"] = _FORMATS[".json"]
    return files


def _told(path: str, spec: RunSpec) -> tuple[list[str], str | None]:
    """The name of a member that is no input and no output, and what it is."""
    room, _, rest = path.partition("/")
    key, name = rest.partition("/")[0], PurePosixPath(path).name
    if room == "source":
        return [f"commit {PurePosixPath(name).stem}"], "The git objects of a commit, without its history."
    if room == "locks":
        platforms = {lock_id: platform for platform, lock_id in sorted(spec.environment.others.items(), reverse=True)}
        platforms[spec.environment.lock_id] = spec.environment.platform
        return [f"{platforms.get(key, key)} {name}"], "The environment: what it is made of, by version and hash."
    if room == "packages":
        return [name], "A package of the environment."
    if room == "blobs":
        return [f"file {name[:16]}"], "A file of an input folder, or one that the code keeps in Git LFS."
    return [name], _ABOUT.get(path)


def _file(path: str, names: list[str], about: str | None) -> Entity:
    form = _FORMATS.get(PurePosixPath(names[0]).suffix.lower(), "application/octet-stream")
    return _entity(path, "File", name=names[0], alternateName=names[1:], description=about, encodingFormat=form)


def _regular(record: RunRecord) -> list[Output]:
    """The outputs that have bytes of their own."""
    return [output for output in record.outputs if output.link is None]


def _lock(spec: RunSpec) -> list[str]:
    return [lock_member(spec.environment.lock_id, name) for name in LOCK_FILES]


def _chosen(files: Mapping[str, Entity], paths: Iterable[str]) -> list[Entity]:
    return [files[path] for path in paths if path in files]


# --- JSON-LD ----------------------------------------------------------------------------------------------------


def _entity(identifier: str, kind: str, **properties: Any) -> Entity:
    """An entity with those properties that are known; RO-Crate wants a single value bare, not in a list."""
    entity: Entity = {"@id": identifier, "@type": kind}
    for key, value in properties.items():
        if value is not None and value != []:
            entity[key] = value[0] if isinstance(value, list) and len(value) == 1 else value
    return entity


def _to(entities: Iterable[Entity]) -> list[Entity]:
    return [{"@id": identifier} for identifier in dict.fromkeys(entity["@id"] for entity in entities)]


def _time(text: str) -> str:
    """RFC 3339 with a numeric offset, which is all that the profile's checks take."""
    return re.sub("Z$", "+00:00", text)
