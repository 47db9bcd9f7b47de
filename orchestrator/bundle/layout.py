"""What is where in a bundle. A bundle is a zip archive with these members, and no others:

    README.txt                    what this is, for people
    bundle.json                   the manifest: canonical JSON, the sha256 and size of every other member
    ro-crate-metadata.json        the same run for other tools: a Process Run Crate 0.5 on RO-Crate 1.1
    run/spec.json                 the RunSpec, canonical JSON
    run/record.json               the RunRecord, canonical JSON
    run/metrics.jsonl             every point of its metrics, a line each (`points`)
    run/stdout.log, run/stderr.log
    source/<commit>.objects       the raw git objects of one commit (the run's, or a submodule's), without history
    locks/<lock id>/conda-lock.yml, locks/<lock id>/packages.json
    blobs/<sha256>                a file of an input, the listing of an input folder, an output, a Git LFS object
    packages/<sha256>/<file name> a conda package or a wheel

The members are sorted by name, stored without compression, with one fixed date and mode: the same run gives the same
bytes on every machine, and nothing grows when it is unpacked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.environment.carried_check import PACKAGE_NAME

BUNDLE_VERSION = 1
"""Version of the layout. An unknown one is refused."""

README = "README.txt"
MANIFEST = "bundle.json"
CRATE = "ro-crate-metadata.json"
SPEC = "run/spec.json"
RECORD = "run/record.json"
METRICS = "run/metrics.jsonl"
STDOUT = "run/stdout.log"
STDERR = "run/stderr.log"

MEMBER_NAME = re.compile(
    r"README\.txt|bundle\.json|ro-crate-metadata\.json|run/(spec\.json|record\.json|metrics\.jsonl|stdout\.log|stderr\.log)"
    r"|source/([0-9a-f]{40}|[0-9a-f]{64})\.objects"
    r"|locks/[0-9a-f]{64}/(conda-lock\.yml|packages\.json)"
    r"|blobs/[0-9a-f]{64}"
    rf"|packages/[0-9a-f]{{64}}/{PACKAGE_NAME.pattern}"
)
"""Every name that a member can have: none leaves its folder, and none needs care on any file system."""

RUN_ID = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")
"""The id of a run: a UUID version 7."""

SHA256 = re.compile(r"[0-9a-f]{64}")

MAX_JSON = 128 * 2**20
"""Bytes that a manifest, a spec, a record or a lock can have: read, they take twenty times as many."""

_LONGEST = 120


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a bundle. `size` is in bytes."""

    path: str
    sha256: str
    size: int


def named_hash(path: str) -> str | None:
    """The sha256 that the name of a member promises, if it does."""
    kind, _, rest = path.partition("/")
    return rest[:64] if kind in ("blobs", "packages") else None


def shown(value: object) -> str:
    """What stands in a bundle, as a part of a sentence: short, and without anything that a terminal obeys."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def source_member(commit: str) -> str:
    """The member with the objects of a commit."""
    return f"source/{commit}.objects"


def lock_member(lock_id: str, name: str) -> str:
    """The member with a file (`conda-lock.yml`, `packages.json`) of a lock."""
    return f"locks/{lock_id}/{name}"


def blob_member(sha256: str) -> str:
    """The member with a file of the store."""
    return f"blobs/{sha256}"


def package_member(sha256: str, file_name: str) -> str:
    """The member with a package."""
    return f"packages/{sha256}/{file_name}"
