"""Files in files: what is in a zip archive (`.npz` and `.skops` are such) or in a gzip file, within bounds.

What counts is what is in them: see the built-in rules here.
"""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass

ZIP_CONTENT = "zip-content-1"
"""What the members of a zip archive hold counts, not when they were written or how tightly they were packed."""
GZIP_CONTENT = "gzip-content-1"
"""What is in a gzip file counts, not the time and the name in its header or how tightly it was packed."""
SKOPS_ADDRESSES = "skops-addresses-1"
"""skops names objects, and the files of arrays, by their address in memory: counted in the order of the schema here."""

_MOST_MEMBERS = 10_000
_SCHEMA = "schema.json"
_ADDRESS = re.compile(rb'"__id__": ([0-9]+)')
_FILE = re.compile(rb'"file": "([0-9]+)(\.[a-z]+)"')


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive. `about` is what the archive tells of it besides its content and its time."""

    name: str
    content: bytes
    about: tuple[object, ...]


def read_zip(content: bytes, largest: int) -> list[Member]:
    """The members in their order. Raises ValueError when it can't be read or holds more than `largest` bytes."""
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_MEMBERS or sum(entry.file_size for entry in entries) > largest:
                raise ValueError("too large")
            if len({entry.filename for entry in entries}) != len(entries):
                raise ValueError("a member is there twice")
            members = []
            for entry in entries:
                with archive.open(entry) as file:
                    data = file.read(entry.file_size + 1)
                about = (entry.compress_type, entry.external_attr, entry.comment, archive.comment)
                members.append(Member(entry.filename, data, about))
            return members
    except Exception as error:  # of many kinds, in what others wrote
        raise ValueError(f"no zip archive that can be read: {error}") from error


def read_gzip(content: bytes, largest: int) -> bytes:
    """What is compressed in it. Raises ValueError when it can't be read or holds more than `largest` bytes."""
    import gzip

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            whole = file.read(largest + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"no gzip file that can be read: {error}") from error
    if len(whole) > largest:
        raise ValueError("too large")
    return whole


def without_addresses(members: list[Member]) -> list[Member]:
    """The members of a skops file with its addresses counted; others as they are."""
    schema = next((member.content for member in members if member.name == _SCHEMA), b"")
    if b'"_skops_version"' not in schema:
        return members
    numbers = {address: b"%d" % n for n, address in enumerate(dict.fromkeys(_ADDRESS.findall(schema)), 1)}
    schema = _ADDRESS.sub(lambda found: b'"__id__": ' + numbers[found[1]], schema)
    schema = _FILE.sub(lambda found: b'"file": "' + numbers.get(found[1], found[1]) + found[2] + b'"', schema)

    def renamed(member: Member) -> Member:
        stem, dot, suffix = member.name.partition(".")
        name = numbers.get(stem.encode(), stem.encode()).decode() + dot + suffix
        return Member(name, schema if member.name == _SCHEMA else member.content, member.about)

    return [renamed(member) for member in members]
