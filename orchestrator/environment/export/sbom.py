"""A lock as a software bill of materials: CycloneDX 1.6, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from orchestrator.environment.export.plain import needed
from orchestrator.environment.lock import Lock, LockedPackage


def sbom(locks: Sequence[Lock], *, name: str, notes: Sequence[str]) -> str:
    """The packages of all platforms, each file once, with package URLs, hashes, licences and who needs whom.

    The serial number follows from the lock ids, and there is no time in it: the same locks give the same text.
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    root = Component(name=name, type=ComponentType.APPLICATION, bom_ref="environment")
    properties = [Property(name=f"orch:lock:{lock.platform}", value=lock.lock_id) for lock in locks]
    properties += [Property(name="orch:note", value=note) for note in notes]
    components = {package.sha256: _component(package) for lock in locks for package in lock.packages}
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, "orch:" + ",".join(sorted(lock.lock_id for lock in locks))),
        # The library wants a time here; it is taken out below.
        metadata=BomMetaData(component=root, timestamp=datetime.fromtimestamp(0, UTC), properties=properties),
        components=components.values(),
    )
    bom.register_dependency(root, components.values())
    for lock in locks:
        _relate(bom, lock, components)
    table = json.loads(JsonV1Dot6(bom).output_as_string())
    del table["metadata"]["timestamp"]
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def _relate(bom: Any, lock: Lock, components: Mapping[str, Any]) -> None:
    by_name = {package.name: package for package in lock.packages if package.manager == "conda"}
    for package in by_name.values():
        found = [components[by_name[name].sha256] for name in sorted(needed(package) & by_name.keys() - {package.name})]
        bom.register_dependency(components[package.sha256], found)


def _component(package: LockedPackage) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)]
    references = []
    if package.url.startswith(("https:", "http:")):
        content = package.source_sha256 or package.sha256
        of_url = [HashType(alg=HashAlgorithm.SHA_256, content=content)]
        kind = (
            ExternalReferenceType.SOURCE_DISTRIBUTION if package.source_sha256 else ExternalReferenceType.DISTRIBUTION
        )
        references = [ExternalReference(type=kind, url=XsUri(package.url), hashes=of_url)]
    elif package.url.startswith("git+"):
        references = [ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(package.url))]
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{package.file_name}#{package.sha256[:16]}",
        purl=_purl(package),
        hashes=hashes,
        licenses=[LicenseFactory().make_from_string(package.license)] if package.license else (),
        external_references=references,
    )


def _purl(package: LockedPackage) -> Any:
    """The package URL (ECMA-427), with the qualifiers that its type defines."""
    from packageurl import PackageURL

    if package.manager == "pip":
        qualifiers = {"vcs_url": package.url} if package.url.startswith("git+") else {}
        if package.url.startswith("pkg:"):
            qualifiers = {"file_name": package.file_name}
        return PackageURL(type="pypi", name=package.name, version=package.version, qualifiers=qualifiers)
    known = {
        "build": package.build,
        "channel": package.channel and package.channel.rstrip("/").rpartition("/")[2],
        "subdir": package.subdir,
        "type": "tar.bz2" if package.file_name.endswith(".tar.bz2") else "conda",
    }
    qualifiers = {key: value for key, value in known.items() if value}
    return PackageURL(type="conda", name=package.name, version=package.version, qualifiers=qualifiers)
