"""A real bundle, and its parts: taken out, changed at will, and packed again, faithfully or crudely."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CONDA_FORGE, FOREIGN
from filelock import FileLock
from made_index import project_files

from orchestrator.bundle.archive import write_archive
from orchestrator.bundle.layout import MANIFEST, RECORD, SPEC, Member, source_member
from orchestrator.bundle.manifest import manifest_json
from orchestrator.canonical import canonical_json
from orchestrator.records import spec_from_json, spec_id

ORCH = Path(sys.executable).with_name("orch")

PROGRAM = """\
import json, os, sys
from pathlib import Path
import mine

Path("deep/er").mkdir(parents=True)
Path("deep/er/nested.txt").write_text("nested " + sys.argv[1])
Path("twin-a.bin").write_bytes(bytes(range(256)) * 16)
Path("twin-b.bin").write_bytes(bytes(range(256)) * 16)
Path("last").symlink_to("deep/er/nested.txt")
Path(os.fsdecode(b"odd 100% \\xff name.txt")).write_text("odd")
with open(os.environ["ORCH_EVENTS"], "a") as events:
    for step in range(3):
        print(json.dumps({"metric": "loss", "value": 1.0 / (step + 1), "step": step}), file=events)
    print(json.dumps({"metric": "ratio", "value": "NaN"}), file=events)
    print(json.dumps({"param": "depth", "value": "7"}), file=events)
    print(json.dumps({"tag": "kind", "value": "test"}), file=events)
print("said", sys.argv[1], mine.VERSION)
print("also said", file=sys.stderr)
"""

FILES = {
    **project_files("mine"),
    "MLproject": (
        "name: tried\nconda_env: conda.yaml\nentry_points:\n  main:\n    parameters:\n      alpha: float\n"
        '    command: "python main.py {alpha}"\n'
    ),
    "conda.yaml": "channels: [conda-forge]\ndependencies: [python, {pip: [.]}]\n",
    "main.py": PROGRAM,
    "folder/readme.txt": "a file of the commit\n",
}


@dataclass(frozen=True)
class Parts:
    """The members of a bundle but its manifest, and whose run it is."""

    run_id: str
    members: Mapping[str, bytes]

    def json(self, name: str) -> Any:
        """A member that is JSON."""
        return json.loads(self.members[name])

    @property
    def spec(self) -> Any:
        return self.json(SPEC)

    @property
    def record(self) -> Any:
        return self.json(RECORD)

    def but(self, *without: str, **changes: Any) -> Parts:
        """The parts without some members, or with another run id."""
        return replace(self, members={k: v for k, v in self.members.items() if k not in without}, **changes)

    def put(self, members: Mapping[str, bytes]) -> Parts:
        """The parts with other bytes, or more members."""
        return replace(self, members={**self.members, **members})

    def with_run(self, spec: Any = None, record: Any = None) -> Parts:
        """The parts with another spec or record (JSON values), which agree: the spec id is that of the spec."""
        spec = self.spec if spec is None else spec
        record = dict(self.record if record is None else record)
        try:
            record["spec_id"] = spec_id(spec_from_json(spec))
        except Exception:  # the id of what is no spec
            record["spec_id"] = "0" * 64
        return self.put({SPEC: json_bytes(spec), RECORD: json_bytes(record)})


def changed(table: Any, place: str, value: Any) -> Any:
    """A copy of JSON with another value in one place (`a.0.b`), or without it (`...`)."""
    table = copy.deepcopy(table)
    *above, last = (int(part) if part.isdecimal() else part for part in place.split("."))
    inner = table
    for key in above:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return table


def json_bytes(value: Any) -> bytes:
    """Canonical where it can be, else as near to it as JSON comes."""
    try:
        return canonical_json(value)
    except (ValueError, RecursionError):
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return text.encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def members_of(members: Mapping[str, bytes]) -> list[Member]:
    return [Member(name, sha256(data), len(data)) for name, data in members.items()]


# --- the code of a bundle ---------------------------------------------------------------------------------------

Objects = dict[str, tuple[str, bytes]]
"""Git objects by id: kind and content."""


def objects_of(data: bytes) -> Objects:
    """The objects in a member with the source of a commit."""
    found, position = {}, 0
    while position < len(data):
        end = data.index(b"\n", position)
        name, kind, size = data[position:end].decode().split()
        found[name] = (kind, data[end + 1 : end + 1 + int(size)])
        position = end + 2 + int(size)
    return found


def objects_bytes(objects: Objects) -> bytes:
    """The inverse of `objects_of`."""
    return b"".join(
        f"{name} {kind} {len(data)}\n".encode() + data + b"\n" for name, (kind, data) in sorted(objects.items())
    )


def object_id(kind: str, data: bytes) -> str:
    """The id that git gives an object."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def tree_entry(mode: str, name: str, object_id: str) -> bytes:
    """An entry of a tree object."""
    return f"{mode} {name}\0".encode() + bytes.fromhex(object_id)


def with_tree(parts: Parts, tree: bytes, *more: tuple[str, bytes]) -> Parts:
    """The parts with another root folder in their commit, and more objects; all ids agree."""
    source = parts.spec["source"]
    objects = objects_of(parts.members[source_member(source["commit"])])
    _, commit = objects.pop(source["commit"])
    objects.pop(source["tree"])
    for kind, data in (("tree", tree), *more):
        objects[object_id(kind, data)] = kind, data
    commit = commit.replace(source["tree"].encode(), object_id("tree", tree).encode())
    objects[object_id("commit", commit)] = "commit", commit
    spec = changed(parts.spec, "source.tree", object_id("tree", tree))
    spec = changed(spec, "source.commit", object_id("commit", commit))
    members = {source_member(spec["source"]["commit"]): objects_bytes(objects)}
    return parts.but(source_member(source["commit"])).put(members).with_run(spec)


def root_tree(parts: Parts) -> bytes:
    """The root folder of the commit."""
    source = parts.spec["source"]
    return objects_of(parts.members[source_member(source["commit"])])[source["tree"]][1]


# --- a bundle as orch would write it ----------------------------------------------------------------------------


def faithful(parts: Parts, file: Path) -> Path:
    """Pack the parts as orch does, the manifest made anew: only what the run means can be wrong."""
    manifest = manifest_json(parts.run_id, members_of(parts.members))
    return archived({**parts.members, MANIFEST: manifest}, file)


def archived(members: Mapping[str, bytes], file: Path) -> Path:
    """Any members, in an archive of the form that orch writes."""
    with file.open("wb") as target:
        write_archive(
            target, [(member, lambda m=member: io.BytesIO(members[m.path])) for member in members_of(members)]
        )
    return file


def parts_of(file: Path) -> Parts:
    """What a bundle is made of."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return Parts(json.loads(members.pop(MANIFEST))["run_id"], members)


def all_members(file: Path) -> dict[str, bytes]:
    """The members of a bundle, the manifest too."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# --- a real run and its bundle ----------------------------------------------------------------------------------


def shared_bundle(factory: pytest.TempPathFactory, channel: Path) -> Path:
    """The bundle of `make_bundle`, made once for all workers of a session."""
    session = factory.getbasetemp()
    folder = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "real-bundle"
    with FileLock(f"{folder}.lock"):
        if not (folder / "real.zip").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make_bundle(folder, channel).rename(folder / "real.zip")
    return folder / "real.zip"


def make_bundle(folder: Path, channel: Path) -> Path:
    """Run a project that has a bit of everything, and put it into a bundle."""
    home = folder / "made-in"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel.as_uri()}"]\n')
    project = folder / "project"
    _write(project, FILES)
    (project / "tool.sh").write_text("#!/bin/sh\necho tool\n")
    (project / "tool.sh").chmod(0o755)
    (project / "link").symlink_to("folder/readme.txt")
    _write(folder / "library", {"library.txt": "a file of the submodule\n"})
    _write(folder / "data", {"a.csv": "1,2\n", "sub/b.csv": "3,4\n"})
    _write(folder, {"one.csv": "5,6\n"})
    for name in ("library", "project"):
        git = ["git", "-c", "protocol.file.allow=always", "-C", folder / name]
        _do(*git, "init", "-q", "-b", "main")
        if name == "project":
            _do(*git, "submodule", "--quiet", "add", (folder / "library").as_uri(), "library")
        _do(*git, "add", "-A")
        _do(*git, "commit", "-q", "-m", "first")
    inputs = ["--input", f"{folder / 'one.csv'}=inputs/one.csv", "--input", f"{folder / 'data'}=inputs/data"]
    _do(ORCH, "run", project, "-P", "alpha=5.1", *inputs, "-q", home=home)
    _do(ORCH, "bundle", "create", "latest", "-o", folder / "made.zip", home=home)
    return folder / "made.zip"


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def _do(*command: str | Path, home: Path | None = None) -> None:
    """Run a program as on a machine of its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    who = {f"GIT_{role}_{what}": text for role in ("AUTHOR", "COMMITTER") for what, text in _WHO.items()}
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    environ |= {**who, **quiet, **({"ORCH_HOME": str(home)} if home else {})}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


_WHO = {"NAME": "Ada", "EMAIL": "ada@example.org", "DATE": "2024-05-01T12:00:00+00:00"}
