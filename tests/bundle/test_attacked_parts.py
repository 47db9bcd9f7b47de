"""Bundles whose manifest, code or environment lies, in archives that are as orch writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle.attacked import ESCAPE, OTHER, Change, nested, raw, refuse, refused
from bundle.made_bundle import (
    Objects,
    Parts,
    archived,
    changed,
    faithful,
    json_bytes,
    members_of,
    object_id,
    objects_bytes,
    objects_of,
    parts_of,
    root_tree,
    shared_bundle,
    tree_entry,
    with_tree,
)

from orchestrator.bundle.layout import MANIFEST, SPEC, blob_member, lock_member, source_member
from orchestrator.bundle.manifest import manifest_json, read_manifest
from orchestrator.canonical import sha256_of
from orchestrator.errors import OrchError
from orchestrator.model import new_run_id
from orchestrator.paths import Home, open_home


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Parts:
    return parts_of(shared_bundle(tmp_path_factory, channel))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that every attack finds as the one before has left it."""
    return open_home({"ORCH_HOME": str(tmp_path_factory.mktemp("victim"))})


# --- the manifest -----------------------------------------------------------------------------------------------


def table_of(parts: Parts) -> Any:
    return json.loads(manifest_json(parts.run_id, members_of(parts.members)))


def manifest(change: Callable[[Any], Any]) -> Callable[[Parts], bytes]:
    """Another table in the manifest, in canonical JSON."""

    def changed_table(parts: Parts) -> bytes:
        table = table_of(parts)
        return json_bytes(change(table) or table)

    return changed_table


def in_members(change: Callable[[Any], object]) -> Callable[[Parts], bytes]:
    return manifest(lambda table: change(table["members"]) and None)


def manifest_bytes(change: Callable[[bytes], bytes]) -> Callable[[Parts], bytes]:
    return lambda parts: change(manifest_json(parts.run_id, members_of(parts.members)))


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(made, id=name)
        for name, made in {
            "version": manifest(lambda t: t | {"version": 2}),
            "version-text": manifest(lambda t: t | {"version": "1"}),
            "version-escape": manifest(lambda t: t | {"version": ESCAPE}),
            "version-long": manifest(lambda t: t | {"version": "x" * 100_000}),
            "version-deep": manifest_bytes(lambda b: b.replace(b'"version":1', b'"version":' + nested(900))),
            "version-truth": manifest(lambda t: t | {"version": True}),
            "run-id-number": manifest(lambda t: t | {"run_id": 5}),
            "run-id-escape": manifest(lambda t: t | {"run_id": ESCAPE}),
            "run-id-deep": manifest_bytes(lambda b: b.replace(b'"run_id":"', b'"run_id":[["')[:-1] + b"]]}"),
            "key-more": manifest(lambda t: t | {"more": 1}),
            "key-missing": manifest(lambda t: {"version": 1, "members": t["members"]}),
            "members-list": manifest(lambda t: t | {"members": [*t["members"]]}),
            "members-none": manifest(lambda t: t | {"members": {}}),
            "member-missing": in_members(lambda m: m.pop(SPEC)),
            "member-more": in_members(lambda m: m.update({blob_member(OTHER): [OTHER, 1]})),
            "member-up": in_members(lambda m: m.update({"../../x": [OTHER, 1]})),
            "member-root": in_members(lambda m: m.update({"/etc/passwd": [OTHER, 1]})),
            "member-escape": in_members(lambda m: m.update({ESCAPE: [OTHER, 1]})),
            "member-long": in_members(lambda m: m.update({"x" * 100_000: [OTHER, 1]})),
            "member-itself": in_members(lambda m: m.update({MANIFEST: [OTHER, 1]})),
            "sha256-other": in_members(lambda m: m.update({SPEC: [OTHER, m[SPEC][1]]})),
            "sha256-escape": in_members(lambda m: m.update({SPEC: [ESCAPE, m[SPEC][1]]})),
            "sha256-upper-case": in_members(lambda m: m.update({SPEC: [m[SPEC][0].upper(), m[SPEC][1]]})),
            "sha256-number": in_members(lambda m: m.update({SPEC: [5, m[SPEC][1]]})),
            "size-other": in_members(lambda m: m.update({SPEC: [m[SPEC][0], m[SPEC][1] + 1]})),
            "size-text": in_members(lambda m: m.update({SPEC: [m[SPEC][0], ESCAPE]})),
            "size-decimal": manifest_bytes(lambda b: b.replace(b",13]", b",13.0]")),
            "size-negative": in_members(lambda m: m.update({SPEC: [m[SPEC][0], -1]})),
            "row-short": in_members(lambda m: m.update({SPEC: [m[SPEC][0]]})),
            "row-long": in_members(lambda m: m.update({SPEC: [*m[SPEC], 1]})),
            "row-text": in_members(lambda m: m.update({SPEC: "ab"})),
            "key-twice": manifest_bytes(lambda b: b[:-1] + b',"version":1}'),
            "blank": manifest_bytes(lambda b: b + b" "),
            "deep": manifest_bytes(lambda b: nested(200_000)),
            "empty": manifest_bytes(lambda b: b""),
            "list": manifest_bytes(lambda b: b"[1]"),
            "no-utf-8": manifest_bytes(lambda b: b"\xff" + b),
        }.items()
    ],
)
def test_a_manifest_that_lies(made: Callable[[Parts], bytes], real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(archived({**real.members, MANIFEST: made(real)}, tmp_path / "b.zip"), victim, tmp_path)


def test_a_size_is_a_number() -> None:
    data = json_bytes({"version": 1, "run_id": new_run_id(), "members": {SPEC: [OTHER, True]}})
    with pytest.raises(OrchError, match="its manifest says True"):
        read_manifest(data, {SPEC: 1, MANIFEST: len(data)})


# --- the code ---------------------------------------------------------------------------------------------------


def source(change: Callable[[Objects], object]) -> Change:
    """Other objects of the commit, under the ids that they say they have."""

    def with_objects(parts: Parts) -> Parts:
        name = source_member(parts.spec["source"]["commit"])
        objects = objects_of(parts.members[name])
        change(objects)
        return parts.put({name: objects_bytes(objects)})

    return with_objects


def source_bytes(change: Callable[[bytes], bytes]) -> Change:
    return lambda parts: raw(source_member(parts.spec["source"]["commit"]), change)(parts)


def first(objects: Objects, kind: str) -> str:
    return next(name for name in sorted(objects) if objects[name][0] == kind)


def a_file(mode: str, name: str) -> Change:
    """A file more in the root folder; before or behind the others, as git sorts names."""
    blob = b"evil"

    def change(parts: Parts) -> Parts:
        entry, tree = tree_entry(mode, name, object_id("blob", blob)), root_tree(parts)
        return with_tree(parts, entry + tree if name < "MLproject" else tree + entry, ("blob", blob))

    return change


def a_folder(name: str, inside: bytes) -> Change:
    def change(parts: Parts) -> Parts:
        entry = tree_entry("40000", name, object_id("tree", inside))
        return with_tree(parts, root_tree(parts) + entry, ("tree", inside))

    return change


def swapped(parts: Parts) -> Parts:
    name = source_member(parts.spec["source"]["commit"])
    other = source_member(parts.spec["source"]["submodules"][0]["commit"])
    return parts.put({name: parts.members[other], other: parts.members[name]})


@refuse(
    {
        "empty": source_bytes(lambda data: b""),
        "truncated": source_bytes(lambda data: data[:-100]),
        "one-byte-less": source_bytes(lambda data: data[:-1]),
        "more": source_bytes(lambda data: data + b"x"),
        "no-objects": source_bytes(lambda data: b"PACK" + data),
        "long-line": source_bytes(lambda data: b"a" * 1_000_000),
        "size-lie": source_bytes(lambda data: re.sub(rb" blob \d+\n", b" blob 999999999999999\n", data, count=1)),
        "twice": source_bytes(lambda data: data[: data.index(b"\n", 60)] + data),
        "of-the-submodule": swapped,
        "blob-missing": source(lambda o: o.pop(first(o, "blob"))),
        "tree-missing": source(lambda o: o.pop(first(o, "tree"))),
        "commit-missing": source(lambda o: o.pop(first(o, "commit"))),
        "blob-other": source(lambda o: o.update({first(o, "blob"): ("blob", b"evil")})),
        "blob-as-tree": source(lambda o: o.update({first(o, "blob"): ("tree", o[first(o, "blob")][1])})),
        "tag": source(lambda o: o.update({object_id("tag", b"x"): ("tag", b"x")})),
        "blob-of-nobody": source(lambda o: o.update({object_id("blob", b"x"): ("blob", b"x")})),
        "another-commit": source(lambda o: o.update({object_id("commit", b"x"): ("commit", b"x")})),
        "id-path": source(lambda o: o.update({"../" * 13 + "x": ("blob", b"x")})),
        "git-folder": a_folder(".git", tree_entry("100644", "config", object_id("blob", b""))),
        "git-file": a_file("100644", ".git"),
        "git-upper-case": a_file("100644", ".GIT"),
        "git-ntfs": a_file("100644", "git~1"),
        "up": a_file("100644", ".."),
        "dot": a_file("100644", "."),
        "slash": a_file("100644", "x/../../y"),
        "gitmodules-is-a-link": a_file("120000", ".gitmodules"),
        "twice-in-a-folder": a_file("100644", "main.py"),
        "device": a_file("20000", "z"),
        "folder-is-a-file": a_file("40000", "z"),
        "folder-malformed": a_folder("z", b"100644 x"),
    }
)
def test_objects_that_are_not_those_of_the_commit(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)


# --- the environment --------------------------------------------------------------------------------------------


def lock(change: Callable[[Any], Any], *, same_id: bool = False) -> Change:
    """Another `packages.json`; the lock id is made anew unless `same_id`, and the files have its name."""

    def with_lock(parts: Parts) -> Parts:
        old = parts.spec["environment"]["lock_id"]
        table = json.loads(parts.members[lock_member(old, "packages.json")])
        table = change(table) or table
        new = old
        if not same_id:
            rows = [[p["manager"], p["file_name"], p["sha256"]] for p in table["packages"]]
            new = sha256_of(sorted(rows))
        yaml = parts.members[lock_member(old, "conda-lock.yml")]
        parts = parts.but(*(lock_member(old, name) for name in ("packages.json", "conda-lock.yml")))
        parts = parts.put(
            {lock_member(new, "packages.json"): json_bytes(table), lock_member(new, "conda-lock.yml"): yaml}
        )
        return parts.with_run(changed(parts.spec, "environment.lock_id", new))

    return with_lock


def row(**values: Any) -> Callable[[Any], None]:
    """Other values in the row of the conda package."""
    return lambda table: next(p for p in table["packages"] if p["manager"] == "conda").update(values)


def pip_row(**values: Any) -> Callable[[Any], None]:
    return lambda table: next(p for p in table["packages"] if p["manager"] == "pip").update(values)


def conda_lock(change: Callable[[bytes], bytes]) -> Change:
    return lambda parts: raw(lock_member(parts.spec["environment"]["lock_id"], "conda-lock.yml"), change)(parts)


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))
)


@refuse(
    {
        "package-left-out": lock(lambda t: t["packages"].pop() and None, same_id=True),
        "packages-none": lock(lambda t: t | {"packages": []}),
        "url-file": lock(row(url="file:///etc/passwd"), same_id=True),
        "url-file-of-that-name": lock(
            lambda t: row(url=f"file:///etc/{t['packages'][0]['file_name']}")(t), same_id=True
        ),
        "url-other": lock(row(url="https://example.org/x.conda"), same_id=True),
        "url-option": lock(row(url="--config-file=/etc/passwd"), same_id=True),
        "url-password": lock(
            lambda t: row(url=f"https://ada:secret@example.org/{t['packages'][0]['file_name']}")(t), same_id=True
        ),
        "pip-url-file": lock(pip_row(url="file:///etc/passwd"), same_id=True),
        "pip-url-git": lock(pip_row(url="git+https://example.org/x.git"), same_id=True),
        "sha256-other": lock(row(sha256=OTHER)),
        "sha256-none": lock(row(sha256=None), same_id=True),
        "sha256-path": lock(row(sha256="../../x")),
        "file-name-up": lock(row(file_name="../../x.conda")),
        "file-name-root": lock(row(file_name="/etc/x.conda")),
        "file-name-other": lock(row(file_name="x-1-0.tar.gz")),
        "name-other": lock(row(name="other"), same_id=True),
        "name-option": lock(row(name="--target=/"), same_id=True),
        "to-be-built": lock(pip_row(source_sha256=OTHER), same_id=True),
        "site-packages-up": lock(row(site_packages="../../../etc"), same_id=True),
        "channel-file": lock(row(channel="file:///etc"), same_id=True),
        "platform": lock(lambda t: t | {"platform": "win-96"}, same_id=True),
        "solved": lock(lambda t: t | {"solved": True}, same_id=True),
        "text-escape": lock(lambda t: t | {"channels": [ESCAPE]}, same_id=True),
        "key-more": lock(lambda t: t | {"more": 1}, same_id=True),
        "version": lock(lambda t: t | {"version": 99}, same_id=True),
        "text": lock(lambda t: "x" if t["packages"].clear() is None and False else t | {"packages": "x"}, same_id=True),
        "yaml-other-hash": conda_lock(lambda data: re.sub(rb"sha256: ....", b"sha256: abcd", data, count=1)),
        "yaml-other-url": conda_lock(lambda data: data.replace(b"https://", b"https://x", 1)),
        "yaml-empty": conda_lock(lambda data: b""),
        "yaml-bomb": conda_lock(lambda data: BOMB + data),
        "yaml-python": conda_lock(lambda data: data + b'x: !!python/object/apply:os.system ["touch pwned"]\n'),
        "yaml-deep": conda_lock(lambda data: data + b"x: " + nested(100_000)),
        "yaml-no-utf-8": conda_lock(lambda data: data + b"# \xff\n"),
        "yaml-nul": conda_lock(lambda data: data + b"\0"),
        "yaml-another-package": conda_lock(
            lambda data: data + data[data.index(b"- ", data.index(b"package:")) :].replace(b"mine", b"evil")
        ),
        "json-deep": lambda p: p.put({lock_member(p.spec["environment"]["lock_id"], "packages.json"): nested(200_000)}),
    }
)
def test_a_lock_that_lies(change: Change, real: Parts, victim: Home, tmp_path: Path) -> None:
    refused(faithful(change(real), tmp_path / "b.zip"), victim, tmp_path)
