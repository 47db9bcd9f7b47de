"""The zip archive of a bundle: written so that the same members give the same bytes, and read only if it is so written.

Nothing is compressed: what compresses differs from one machine to the next, and what is not compressed can't grow
when it is read. A reader takes no archive but those that the writer could have made: no byte of the file is without a
place in it, no member is there twice, overlaps another, or has another name in its own header than in the directory.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from orchestrator.bundle.layout import MEMBER_NAME, Member
from orchestrator.errors import OrchError

_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_UNIX = 3
_DOS_DATE = 0b0000000_0001_00001
_CHUNK = 1 << 20
_LARGE = 1 << 30
"""Bytes from which a member has a 64-bit header."""

MAX_MEMBERS = 500_000
"""Their names and hashes are held in memory."""

_LONGEST_ENTRY = 512
"""Bytes of a member in the directory: more than a name of a package, its hash, and the rest can have."""

_END = struct.Struct("<4s4H2LH")
_WIDE_END = struct.Struct("<4sQ2H2L4Q4sLQL")
"""The ends of a directory, and before it those of one of 64 bits: its record, and the place of that."""


def write_archive(target: BinaryIO, members: Iterable[tuple[Member, Callable[[], IO[bytes]]]]) -> None:
    """Write the members, each with what opens its bytes, in the order of their names.

    Raises OrchError when bytes are not those that the member is said to have, or there are more members than anybody
    would take, OSError when `target` can't be written.
    """
    members = [*members]
    if len(members) > MAX_MEMBERS:
        raise OrchError(f"there are {len(members)} files to carry, and a bundle holds {MAX_MEMBERS} at most.")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for member, opened in sorted(members, key=lambda item: item[0].path):
            info = _entry(member.path, member.size)
            with opened() as source, archive.open(info, "w", force_zip64=member.size > _LARGE) as sink:
                found = copy(source, sink)
            if found != (member.sha256, member.size):
                raise OrchError(f"{member.path} changed while it was put into the bundle; its sha256 is {found[0]}.")


@contextmanager
def reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """A bundle's archive, after a look at all of its structure; what is in its members is not read.

    Raises OrchError when it can't be read, also inside the block, or is not as `write_archive` makes it.
    """
    try:
        with _opened(path) as file:
            _check_end(file, path)
            with zipfile.ZipFile(file) as archive:
                _check_structure(archive, file, path)
                yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise OrchError(f"{path} is no bundle, or a damaged one: {error}.") from error
    except OSError as error:
        raise OrchError(f"{error.filename or path} can't be used: {error.strerror or error}.") from error


def names_of(archive: zipfile.ZipFile) -> dict[str, int]:
    """The members and their sizes in bytes."""
    return {info.filename: info.file_size for info in archive.infolist()}


def copy(source: IO[bytes], sink: IO[bytes] | None) -> tuple[str, int]:
    """Read `source` to its end, into `sink` if there is one; the sha256 and the number of the bytes."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        if sink is not None:
            sink.write(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system, info.external_attr = _UNIX, _MODE
    info.file_size = info.compress_size = size
    return info


def _opened(path: Path) -> BinaryIO:
    # Who opens a pipe waits for another to write into it.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OrchError(f"{path} is no bundle: it is no regular file.")
    return file


def _check_end(file: BinaryIO, path: Path) -> None:
    """Before anybody reads the directory as a whole, however large it is said to be."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _WIDE_END.size))
    end = file.read()
    if len(end) < _END.size or not end.startswith(b"PK\5\6", -_END.size):
        raise OrchError(f"{path} is no bundle, or a damaged one: it does not end as a zip archive of orch does.")
    *_, count, directory, start, _comment = _END.unpack(end[-_END.size :])
    if count == 0xFFFF or 0xFFFFFFFF in (directory, start):
        if len(end) < _END.size + _WIDE_END.size:
            raise OrchError(f"{path} is no bundle, or a damaged one: it is cut off.")
        count, directory, start = _WIDE_END.unpack(end[: -_END.size])[7:10]
    if count > MAX_MEMBERS or directory > count * _LONGEST_ENTRY or start + directory > size:
        raise OrchError(f"{path} is no bundle, or a damaged one: no bundle has a directory of such a size.")


def _check_structure(archive: zipfile.ZipFile, file: BinaryIO, path: Path) -> None:
    place, before = 0, ""
    for info in archive.infolist():
        name = info.orig_filename
        if not MEMBER_NAME.fullmatch(name):
            raise OrchError(f"{path} is no bundle: it has the member {name[:200]!r}, which no bundle has.")
        if name <= before:
            raise OrchError(f"{path} is damaged: its member {name} is there twice, or not in its place.")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise OrchError(f"{path} is not as orch writes a bundle: {name} is compressed. Another tool packed it.")
        made = _entry(name, info.file_size)
        made.CRC = info.CRC
        header = made.FileHeader(zip64=info.file_size > _LARGE)
        file.seek(info.header_offset)
        if info.header_offset != place or file.read(len(header)) != header:
            raise OrchError(f"{path} is not as orch writes a bundle, or is damaged: so is the header of {name}.")
        place += len(header) + info.file_size
        before = name
    file.seek(place)
    if archive.start_dir != place or file.read() != _directory(archive.infolist(), place):
        raise OrchError(f"{path} is not as orch writes a bundle, or is damaged: so is its directory.")


def _directory(members: Iterable[zipfile.ZipInfo], start: int) -> bytes:
    """The directory of the archive, as the writer makes it (APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16)."""
    directory, count = bytearray(), 0
    for info in members:
        wide = [info.file_size] * 2 if info.file_size > zipfile.ZIP64_LIMIT else []
        wide += [info.header_offset] if info.header_offset > zipfile.ZIP64_LIMIT else []
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        version = 45 if wide or info.file_size > _LARGE else 20
        size = 0xFFFFFFFF if info.file_size > zipfile.ZIP64_LIMIT else info.file_size
        place = 0xFFFFFFFF if info.header_offset > zipfile.ZIP64_LIMIT else info.header_offset
        name = info.orig_filename.encode("ascii")
        directory += struct.pack("<4s4B4H", b"PK\1\2", version, _UNIX, version, 0, 0, 0, 0, _DOS_DATE)
        directory += struct.pack("<3L5H2L", info.CRC, size, size, len(name), len(extra), 0, 0, 0, _MODE, place)
        directory += name + extra
        count += 1
    size, end = len(directory), bytearray()
    if count >= zipfile.ZIP_FILECOUNT_LIMIT or start > zipfile.ZIP64_LIMIT or size > zipfile.ZIP64_LIMIT:
        wide_end = (b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        end += _WIDE_END.pack(*wide_end, b"PK\6\7", 0, start + size, 1)
    count, size, start = min(count, 0xFFFF), min(size, 0xFFFFFFFF), min(start, 0xFFFFFFFF)
    end += _END.pack(b"PK\5\6", 0, 0, count, count, size, start, 0)
    return bytes(directory + end)
