"""The manifest of a bundle: whose run it is, and the sha256 and size of every other member."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from orchestrator.bundle.layout import BUNDLE_VERSION, MANIFEST, RUN_ID, SHA256, Member, named_hash, shown
from orchestrator.canonical import canonical_json
from orchestrator.errors import OrchError


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says it has. `id` is the sha256 of the manifest itself: the identity of the bundle."""

    id: str
    run_id: str
    members: Mapping[str, Member]


def manifest_json(run_id: str, members: Iterable[Member]) -> bytes:
    """The canonical JSON of the manifest."""
    table = {member.path: [member.sha256, member.size] for member in members}
    return canonical_json({"version": BUNDLE_VERSION, "run_id": run_id, "members": table})


def read_manifest(data: bytes, sizes: Mapping[str, int]) -> Manifest:
    """The manifest of an archive with members of these sizes, from bytes of anybody.

    Raises OrchError when it is not as orch writes it, or lists other members than there are.
    """
    try:
        table = json.loads(data)
        if table["version"] != BUNDLE_VERSION:
            raise OrchError(
                f"the bundle has version {shown(table['version'])}; this orch knows version {BUNDLE_VERSION}."
            )
        members = {path: Member(path, digest, size) for path, (digest, size) in table["members"].items()}
        again = manifest_json(table["run_id"], members.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OrchError(f"the bundle's manifest is damaged: {shown(f'{type(error).__name__}: {error}')}.") from error
    if again != data:
        raise OrchError("the bundle's manifest is not the canonical JSON of a manifest.")
    if not isinstance(table["run_id"], str) or not RUN_ID.fullmatch(table["run_id"]):
        raise OrchError(f"the bundle's manifest is of the run {shown(table['run_id'])}, which can't be the id of one.")
    _check_members(members, sizes)
    return Manifest(sha256(data).hexdigest(), table["run_id"], members)


def _check_members(members: Mapping[str, Member], sizes: Mapping[str, int]) -> None:
    for path in sorted(members.keys() | sizes.keys() - {MANIFEST}):
        if path not in sizes:
            raise OrchError(f"the bundle lacks {shown(path)}, which its manifest lists.")
        if path not in members:
            raise OrchError(f"the bundle has {path}, which its manifest does not list.")
        digest, size = members[path].sha256, members[path].size
        if sizes[path] != size or type(size) is not int:
            raise OrchError(f"{path} of the bundle has {sizes[path]} bytes; its manifest says {shown(size)}.")
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise OrchError(f"the bundle's manifest says that {shown(digest)} is the sha256 of {path}.")
        if named_hash(path) not in (None, digest):
            raise OrchError(f"{path} of the bundle is not the file with that sha256, by its manifest.")
