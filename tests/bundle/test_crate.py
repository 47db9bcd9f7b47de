"""The RO-Crate view of a bundle: what it says, and that another tool takes it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import LOCK, RUNS, finished, made_spec

from orchestrator.bundle.crate import crate
from orchestrator.bundle.layout import (
    CRATE,
    MANIFEST,
    RECORD,
    SPEC,
    STDERR,
    STDOUT,
    Member,
    blob_member,
    lock_member,
    package_member,
    source_member,
)
from orchestrator.canonical import canonical_json
from orchestrator.model import EnvironmentRef, Input, Metric, Output, RunRecord, Source, Submodule
from orchestrator.records import spec_from_json, spec_to_json

COMMIT = "c" * 40
ODD = ['two\nlines "quoted" \\ <b>&amp;.csv', "naïve/データ 🦊.json", "#{x}?%41%FF.txt", "@id", "nul\0tab\t\x1b", ""]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def everything() -> RunRecord:
    """A run with all that a run can have."""
    source = Source(
        "https://example.org/wine.git",
        COMMIT,
        "d" * 40,
        1_700_000_000,
        subdir="models",
        submodules=(
            Submodule("lib", "1" * 40, "ssh://git@example.org/lib.git"),
            Submodule("again", "1" * 40, "ssh://git@example.org/lib.git"),
            Submodule("near", "2" * 40, "file:///srv/near"),
        ),
        dirty=True,
    )
    spec = made_spec(
        source=source,
        parameters={"note": "", "alpha": "5.1", "api_key": ""},
        environment=EnvironmentRef(LOCK, "linux-64", others={"osx-arm64": "8c" * 32}),
        inputs=(
            Input("data", "inputs/data.csv", sha256(b"1,2"), 3, origin="/srv/data.csv"),
            Input("more", "inputs/more", sha256(b"[]"), 2, "folder"),
        ),
        variables={"TZ": "UTC", "TOKEN": ""},
        secret_parameters=("api_key",),
        secret_variables=("TOKEN",),
    )
    return finished(
        pinned=spec,
        name="a try",
        outputs=(
            Output("plot.png", sha256(b"png"), 3),
            Output("b/empty", sha256(b""), 0),
            Output("b/void.txt", sha256(b""), 0),
            Output("last", "a" * 64, 9, 0o777, link="plot.png"),
            Output("gone.bin", sha256(b"nowhere"), 7),
        ),
        params={"alpha": "5.1", "api_key": "", "note": "", "depth": "7"},
        metrics=(
            Metric("rmse", 1.0, 0),
            Metric("rmse", 0.5, 1),
            Metric("loss", math.nan),
            Metric("gain", -math.inf),
            Metric("tiny", 5e-324),
        ),
        host={"variables": {"HOME": "/home/ada", "USER": "ada"}},
    )


def bare() -> RunRecord:
    """A run with as little as a run can have."""
    spec = made_spec(parameters={}, inputs=(), variables={}, source=Source("file:///srv/wine", COMMIT, "d" * 40, 0))
    return finished(pinned=spec, params={}, metrics=(), outputs=(), host={}, tags={})


def odd() -> RunRecord:
    """A run all of whose texts are odd."""
    texts = {text: text for text in ODD}
    spec = made_spec(
        source=Source("git@example.org:odd name.git", COMMIT, "d" * 40, 0, subdir=ODD[0]),
        command=ODD[0],
        entry_point=ODD[1],
        parameters=texts,
        variables=texts,
        inputs=tuple(Input(text, text, sha256(b"1,2"), 3) for text in ODD[:2]),
    )
    return finished(
        pinned=spec,
        name=ODD[2],
        params=dict.fromkeys(ODD, "logged"),
        outputs=tuple(Output(text, sha256(b"png"), 3) for text in ODD)
        + tuple(Output(text, "a" * 64, 3, link=text) for text in ODD),
        metrics=tuple(Metric(text, 1.0) for text in [*ODD, "\udcff"]),
        host={"variables": {"LOGNAME": ODD[0]}},
    )


KINDS: dict[str, Callable[[], RunRecord]] = {
    "everything": everything,
    "bare": bare,
    "odd": odd,
    "failed": lambda: replace(everything(), status="failed", exit_code=3),
    "lost": lambda: replace(bare(), status="lost", reason="its supervisor was killed", ended_at=None),
    "replay": lambda: replace(bare(), replay_of="0" * 32, verdict={"result": "differs"}),
}


def contents(record: RunRecord) -> dict[str, bytes]:
    """The other files of a bundle of `record`."""
    source = record.spec.source
    files = {
        **dict.fromkeys((SPEC, RECORD), b"{}"),
        **dict.fromkeys((STDOUT, STDERR), b""),
        **{source_member(commit): b"objects" for commit in (source.commit, *(s.commit for s in source.submodules))},
        lock_member(record.spec.environment.lock_id, "conda-lock.yml"): b"version: 1",
        lock_member(record.spec.environment.lock_id, "packages.json"): b"[]",
    }
    for lock_id in record.spec.environment.others.values():
        files[lock_member(lock_id, "conda-lock.yml")] = b"version: 1"
        files[package_member(sha256(b"zip"), "n-1!2.0+x-py311_0.conda")] = b"zip"
    blobs = (b"1,2", b"[]", b"png", b"", b"a file of a folder")
    return files | {blob_member(sha256(blob)): blob for blob in blobs}


def members_of(files: Mapping[str, bytes]) -> list[Member]:
    return [Member(path, sha256(content), len(content)) for path, content in files.items()]


def written(folder: Path, record: RunRecord) -> Path:
    """The bundle of `record` as a folder."""
    files = contents(record)
    for path, content in {**files, MANIFEST: b"{}", CRATE: crate(record, members_of(files))}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def graph(record: RunRecord) -> dict[str, dict[str, Any]]:
    """The entities of the crate of `record`, by identifier."""
    table = json.loads(crate(record, members_of(contents(record))))
    return {entity["@id"]: entity for entity in table["@graph"]}


def action_of(entities: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return next(entity for entity in entities.values() if entity["@type"] == "CreateAction")


def named(entities: Mapping[str, dict[str, Any]], references: Any) -> list[str]:
    """The names of what is referred to."""
    listed = references if isinstance(references, list) else [references]
    return [entities[item["@id"]]["name"] for item in listed]


# --- another tool takes it --------------------------------------------------------------------------------------


def test_the_validator_has_nothing_to_say_about_any_kind_of_run(
    tmp_path: Path, issues_of: Callable[..., list[list[list[str]]]]
) -> None:
    crates = [written(tmp_path / kind, made()) for kind, made in KINDS.items()]

    assert dict(zip(KINDS, issues_of(*crates), strict=True)) == {kind: [] for kind in KINDS}


def without_file(folder: Path) -> None:
    (folder / STDOUT).unlink()


def changed(kind: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """What applies `change` to each entity of that type."""

    def damage(folder: Path) -> None:
        table = json.loads((folder / CRATE).read_bytes())
        for entity in table["@graph"]:
            if entity["@type"] == kind:
                change(entity)
        (folder / CRATE).write_text(json.dumps(table))

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "file": without_file,
    "instrument": changed("CreateAction", lambda action: action.pop("instrument")),
    "list": changed("Person", lambda person: person.update(affiliation=[person["affiliation"]])),
    "time": changed("CreateAction", lambda action: action.update(endTime="yesterday")),
}


def test_the_validator_refuses_damaged_crates(tmp_path: Path, issues_of: Callable[..., list[list[list[str]]]]) -> None:
    crates = [written(tmp_path / name, bare()) for name in DAMAGES]
    for folder, damage in zip(crates, DAMAGES.values(), strict=True):
        damage(folder)

    found = dict(zip(DAMAGES, issues_of(*crates), strict=True))

    assert [name for name, issues in found.items() if not issues] == []


def test_of_a_sha256_repository_the_validator_only_wants_the_identifier_to_be_http(
    tmp_path: Path, issues_of: Callable[..., list[list[list[str]]]]
) -> None:
    record = bare()
    source = replace(record.spec.source, commit="c" * 64)
    record = replace(record, pinned=replace(record.spec, source=source))

    [issues] = issues_of(written(tmp_path, record))

    assert [message for _, message in issues] == ["The SoftwareApplication id SHOULD be an absolute URI"]
    assert f"gitoid:commit:sha256:{'c' * 64}" in graph(record)


# --- what it says -----------------------------------------------------------------------------------------------


def test_the_action_tells_what_went_in_and_what_came_out() -> None:
    entities = graph(everything())
    action = action_of(entities)

    assert named(entities, action["object"]) == [
        "inputs/data.csv",
        "inputs/more",
        "linux-64 conda-lock.yml",
        "linux-64 packages.json",
        "alpha",
        "api_key",
        "note",
        "depth",
    ]
    results = ["stdout.log", "stderr.log", "plot.png", "b/empty", "gain", "loss", "rmse", "tiny", "last"]
    assert named(entities, action["result"]) == results
    assert named(entities, action["environment"]) == ["TOKEN", "TZ"]
    assert named(entities, action["agent"]) == ["ada"]
    assert action["name"] == "a try"
    assert action["startTime"] == "2026-11-23T07:00:00.000+00:00"
    assert action["endTime"] == "2026-11-23T07:00:03.200+00:00"
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert "error" not in action


def test_the_action_has_the_run_id_as_uuid() -> None:
    record = replace(bare(), run_id="01975c0e2f4a7b318c6d5e4f3a2b1c0d")

    assert action_of(graph(record))["@id"] == "urn:uuid:01975c0e-2f4a-7b31-8c6d-5e4f3a2b1c0d"


def test_every_file_has_its_hash_but_the_manifest_and_the_crate_itself() -> None:
    record = everything()
    entities = graph(record)

    files = {path: entity for path, entity in entities.items() if entity["@type"] == "File"}

    assert files.keys() == {MANIFEST, *contents(record)}
    assert {path: (f["sha256"], f["contentSize"]) for path, f in files.items() if path != MANIFEST} == {
        member.path: (member.sha256, str(member.size)) for member in members_of(contents(record))
    }
    assert "sha256" not in files[MANIFEST]
    assert {part["@id"] for part in entities["./"]["hasPart"]} == files.keys()


def test_outputs_with_the_same_bytes_are_one_file_with_all_their_names() -> None:
    file = graph(everything())[blob_member(sha256(b""))]

    assert (file["name"], file["alternateName"]) == ("b/empty", "b/void.txt")


def test_a_format_is_told_only_where_the_name_tells_it_for_sure() -> None:
    entities = graph(everything())

    forms = {entity["name"]: entity["encodingFormat"] for entity in entities.values() if entity["@type"] == "File"}

    assert forms["plot.png"] == "image/png"
    assert forms["b/empty"] == "application/octet-stream"
    assert forms["inputs/more"] == "application/json"  # the listing of a folder
    assert forms["n-1!2.0+x-py311_0.conda"] == "application/zip"


def test_metrics_are_their_last_values_and_numbers_that_are_none_are_texts() -> None:
    entities = graph(everything())

    values = {entity["name"]: entity["value"] for key, entity in entities.items() if key.startswith("#metric-")}

    assert values == {"rmse": 0.5, "loss": "NaN", "gain": "-Infinity", "tiny": 5e-324}


def test_a_secret_has_a_name_and_no_value() -> None:
    entities = graph(everything())

    for identifier in ("#parameter-api_key", "#variable-TOKEN"):
        assert "value" not in entities[identifier]
        assert "secret" in entities[identifier]["description"]
    assert entities["#parameter-note"]["value"] == ""
    assert "#logged-api_key" not in entities


def test_a_parameter_that_the_program_logged_otherwise_stands_beside_the_one_given() -> None:
    entities = graph(replace(everything(), params={"alpha": "6"}))

    assert entities["#parameter-alpha"]["value"] == "5.1"
    assert entities["#logged-alpha"]["value"] == "6"


def test_the_code_is_its_commit_with_its_submodules_and_its_lock() -> None:
    entities = graph(everything())
    code = entities[action_of(entities)["instrument"]["@id"]]

    assert code["@id"] == f"https://archive.softwareheritage.org/swh:1:rev:{COMMIT}"
    assert (code["name"], code["version"]) == ("wine", COMMIT)
    assert code["codeRepository"] == code["url"] == "https://example.org/wine.git"
    assert "snapshot" in code["description"]
    assert code["encoding"] == {"@id": source_member(COMMIT)}
    assert code["softwareRequirements"] == {"@id": lock_member(LOCK, "conda-lock.yml")}
    assert named(entities, code["hasPart"]) == ["lib", "near"]


def test_no_path_of_the_machine_and_no_credentials_are_in_it() -> None:
    record = everything()
    source = replace(record.spec.source, url="file:///srv/a%20b/wine", origin="https://me:pw@example.org/wine.git")
    text = crate(replace(record, pinned=replace(record.spec, source=source)), []).decode()

    assert not [word for word in ("/srv", "/home", "a%20b", "pw@", "me:") if word in text]


@pytest.mark.parametrize(
    ("url", "origin", "name", "told"),
    [
        ("file:///srv/my%20wine", None, "my wine", source_member(COMMIT)),
        ("file:///srv/wine", "git@example.org:ada/cellar.git", "cellar", "git@example.org:ada/cellar.git"),
        ("file:///srv/wine", "/srv/git/wine.git", "wine", source_member(COMMIT)),
        ("file:///", None, "project", source_member(COMMIT)),
        ("ssh://git@example.org/wine", None, "wine", "ssh://git@example.org/wine"),
    ],
)
def test_the_code_of_a_local_folder_is_found_where_others_can_find_it(
    url: str, origin: str | None, name: str, told: str
) -> None:
    record = bare()
    source = replace(record.spec.source, url=url, origin=origin)
    entities = graph(replace(record, pinned=replace(record.spec, source=source)))
    code = entities[action_of(entities)["instrument"]["@id"]]

    assert (code["name"], code["url"]) == (name, told)


@pytest.mark.parametrize(
    ("status", "reason", "exit_code", "error"),
    [
        ("failed", None, 3, "failed: exit code 3"),
        ("stopped", "SIGTERM", 143, "stopped: SIGTERM: exit code 143"),
        ("lost", "its supervisor was killed", None, "lost: its supervisor was killed"),
    ],
)
def test_a_run_without_success_tells_why(status: Any, reason: str | None, exit_code: int | None, error: str) -> None:
    action = action_of(graph(replace(bare(), status=status, reason=reason, exit_code=exit_code)))

    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert action["error"] == error


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (None, f"A replay of run {'0' * 32}. "),
        ({"result": "reproduced"}, f"A replay of run {'0' * 32}; its result came out again. "),
        ({"result": "differs"}, f"A replay of run {'0' * 32}; its result differs. "),
    ],
)
def test_a_replay_tells_of_what_and_what_came_of_it(verdict: dict[str, Any] | None, told: str) -> None:
    action = action_of(graph(replace(bare(), replay_of="0" * 32, verdict=verdict)))

    assert action["description"].startswith(told)


# --- always -----------------------------------------------------------------------------------------------------


def test_the_same_record_and_members_give_the_same_bytes_in_any_order() -> None:
    record = everything()
    members = members_of(contents(record))

    assert crate(record, members) == crate(record, members[::-1])


def test_a_record_that_was_read_back_gives_the_same_bytes() -> None:
    record = replace(everything(), metrics=(Metric("b", 1.0), Metric("a", 2.0)), params={"z": "1", "y": "2"})
    spec = spec_from_json(json.loads(canonical_json(spec_to_json(record.spec))))
    read = replace(record, pinned=spec, metrics=record.metrics[::-1], params={"y": "2", "z": "1"})
    members = members_of(contents(record))

    assert list(read.spec.parameters) != list(record.spec.parameters)
    assert crate(record, members) == crate(read, members)


def references(value: Any) -> Iterator[str]:
    """Every `{"@id": ...}` below an entity."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            assert item.keys() == {"@id"}
            yield item["@id"]


@settings(deadline=None)
@given(RUNS, st.booleans())
def test_any_run_gives_flat_json_ld_whose_references_all_resolve(record: RunRecord, with_blobs: bool) -> None:
    files = contents(record)
    blobs = {o.sha256 for o in record.outputs} | {i.sha256 for i in record.spec.inputs} if with_blobs else set()
    members = members_of(files) + [Member(blob_member(sha256), sha256, 1) for sha256 in sorted(blobs)]
    members = list({member.path: member for member in members}.values())

    entities = json.loads(crate(record, members).decode())["@graph"]

    identifiers = [entity["@id"] for entity in entities]
    assert len(identifiers) == len(set(identifiers))
    outside = {"https://w3id.org/ro/crate/1.1"}
    for entity in entities:
        for key, value in entity.items():
            assert value is not None
            assert not (isinstance(value, list) and len(value) < 2)
            assert set(references(value)) <= {*identifiers, *outside}, key
    parts = next(entity for entity in entities if entity["@id"] == "./")["hasPart"]
    assert {part["@id"] for part in parts} == {MANIFEST, *(member.path for member in members)}
