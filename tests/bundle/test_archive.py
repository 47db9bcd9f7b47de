"""The archive of a bundle: the same members make the same bytes, and no other bytes are taken for them."""

from __future__ import annotations

import bz2
import io
import os
import random
import resource
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from bundle.attacked import refused
from bundle.made_bundle import ORCH, all_members, members_of, sha256, shared_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.bundle.archive import copy, names_of, reading, write_archive
from orchestrator.bundle.layout import CRATE, MANIFEST, RECORD, SPEC, STDERR, STDOUT, Member, blob_member
from orchestrator.bundle.read import unpack_bundle
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = (
    st.sampled_from([CRATE, MANIFEST, RECORD, SPEC, STDOUT, STDERR])
    | st.builds("blobs/{}".format, HASHES)
    | st.builds("source/{}.objects".format, HASHES | HASHES.map(lambda text: text[:40]))
    | st.builds("locks/{}/{}".format, HASHES, st.sampled_from(["conda-lock.yml", "packages.json"]))
    | st.builds("packages/{}/{}".format, HASHES, st.sampled_from(["n-1.conda", "n-1.0-py3.whl", "n+=!-2.tar.bz2"]))
)
SETS = st.dictionaries(NAMES, st.binary(max_size=40), max_size=6)


# --- members in, members out ------------------------------------------------------------------------------------


def packed(members: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    write_archive(target, [(m, lambda name=m.path: io.BytesIO(members[name])) for m in members_of(members)])
    return target.getvalue()


def read(file: Path) -> dict[str, bytes]:
    """The members as the reader gives them."""
    found = {}
    with reading(file) as archive:
        for name, size in names_of(archive).items():
            with archive.open(name) as source:
                sink = io.BytesIO()
                assert copy(source, sink) == (sha256(sink.getvalue()), size)
                found[name] = sink.getvalue()
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for an archive, of examples one after the other."""
    return tmp_path_factory.mktemp("archive") / "b.zip"


@settings(deadline=None)
@given(members=SETS, order=st.randoms(use_true_random=False))
def test_any_members_come_out_as_they_went_in(members: dict[str, bytes], order: random.Random, file: Path) -> None:
    data = packed(members)
    names = [*members]
    order.shuffle(names)
    assert packed({name: members[name] for name in names}) == data
    file.write_bytes(data)
    assert read(file) == members
    assert all_members(file) == members


@settings(deadline=None, max_examples=200)
@given(members=SETS.filter(bool), data=st.data())
def test_any_changed_byte_is_refused(members: dict[str, bytes], data: st.DataObject, file: Path) -> None:
    content = bytearray(packed(members))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(OrchError):
        read(file)


def test_every_changed_bit_of_an_archive_is_refused(file: Path) -> None:
    content = bytearray(packed({STDOUT: b"said", blob_member("ab" * 32): b"x"}))
    for place in range(len(content)):
        for bit in range(8):
            content[place] ^= 1 << bit
            file.write_bytes(content)
            with pytest.raises(OrchError):
                read(file)
            content[place] ^= 1 << bit


def test_bytes_that_are_not_those_of_their_member_are_not_written() -> None:
    member = Member(STDOUT, sha256(b"said"), 4)
    with pytest.raises(OrchError, match="changed while it was put into the bundle"):
        write_archive(io.BytesIO(), [(member, lambda: io.BytesIO(b"sung"))])


ZEROS = {
    (1 << 30) + 1: "6d9bfe50425f2dfe4e2ac07efee1f0bc9d567348ad4aed62704ffe6f5884e9a8",
    (1 << 32) + 1: "fbb82f7b353676bb562eb82157fcf0ea42c36492ca13ee56dbf82c08b6802c5c",
}
"""The sha256 of so many zero bytes: one more than have a header of 32 bits, one more than a directory of 32 bits."""


BLOCK = bytes(1 << 20)


class Zeros:
    """What gives so many zero bytes."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return BLOCK if size == len(BLOCK) else BLOCK[:size]

    def __enter__(self) -> Zeros:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Sparse(io.FileIO):
    """A file in which blocks of zeros take no room."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if data == BLOCK:
            self.seek(len(data), io.SEEK_CUR)
            return len(data)
        return super().write(data)


def test_members_and_archives_beyond_4_gib_come_out_as_they_went_in(tmp_path: Path) -> None:
    members = [(Member(blob_member(digest), digest, size), partial(Zeros, size)) for size, digest in ZEROS.items()]
    said = Member(STDOUT, sha256(b"said"), 4)
    place = tmp_path / "b.zip"
    with Sparse(place, "wb") as target:
        write_archive(target, [*members, (said, lambda: io.BytesIO(b"said"))])
    assert place.stat().st_size > 5 << 30
    with reading(place) as archive:
        assert names_of(archive) == {**{member.path: member.size for member, _ in members}, STDOUT: 4}
        assert archive.read(STDOUT) == b"said"
        for member, _ in members:
            with archive.open(member.path) as source:
                assert source.read(100) == bytes(100)


# --- archives that orch would not write -------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A member as it stands in a zip file; `local` and `central` replace fields of its two headers."""

    name: bytes
    data: bytes
    local: Mapping[str, object] = field(default_factory=dict)
    central: Mapping[str, object] = field(default_factory=dict)
    before: bytes = b""

    def fields(self, changes: Mapping[str, object]) -> dict[str, object]:
        size = len(self.data)
        plain = {"version": 20, "flags": 0, "method": 0, "time": 0, "date": 33, "crc": zlib.crc32(self.data)}
        more = {"name": self.name, "packed": size, "size": size, "extra": b"", "comment": b"", "mode": 0o100644 << 16}
        return {**plain, **more, "offset": None, "disk": 0, **changes}


def both(entry: Entry, **changes: object) -> Entry:
    return replace(entry, local={**entry.local, **changes}, central={**entry.central, **changes})


def zipped(
    entries: Sequence[Entry], *, end: Mapping[str, object] | None = None, before_directory: bytes = b""
) -> bytes:
    """The bytes of a zip file, made by hand."""
    out, directory = bytearray(), bytearray()
    for entry in entries:
        out += entry.before
        offset = len(out)
        f = entry.fields(entry.local)
        out += struct.pack("<4s5H3L", b"PK\3\4", *(f[k] for k in ("version", "flags", "method", "time", "date")),
                           *(f[k] for k in ("crc", "packed", "size")))  # fmt: skip
        out += struct.pack("<HH", len(f["name"]), len(f["extra"])) + f["name"] + f["extra"] + entry.data
        c = entry.fields(entry.central)
        directory += struct.pack("<4s4B", b"PK\1\2", c["version"], 3, c["version"], 0)
        directory += struct.pack("<4H3L", *(c[k] for k in ("flags", "method", "time", "date", "crc", "packed", "size")))
        directory += struct.pack("<5HLL", len(c["name"]), len(c["extra"]), len(c["comment"]), c["disk"], 0, c["mode"],
                                 offset if c["offset"] is None else c["offset"])  # fmt: skip
        directory += c["name"] + c["extra"] + c["comment"]
    out += before_directory
    said = {"count": len(entries), "size": len(directory), "start": len(out), "comment": b"", "disk": 0, **(end or {})}
    out += directory
    out += struct.pack("<4s4H2LH", b"PK\5\6", said["disk"], 0, said["count"], said["count"], said["size"],
                       said["start"], len(said["comment"])) + said["comment"]  # fmt: skip
    return bytes(out)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Path:
    return shared_bundle(tmp_path_factory, channel)


@pytest.fixture(scope="session")
def entries(real: Path) -> list[Entry]:
    return [Entry(name.encode(), data) for name, data in sorted(all_members(real).items())]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that every attack finds as the one before has left it."""
    return open_home({"ORCH_HOME": str(tmp_path_factory.mktemp("victim"))})


def test_the_archives_of_these_tests_are_as_orch_writes_them(real: Path, entries: list[Entry]) -> None:
    assert zipped(entries) == real.read_bytes()


Made = Callable[[list[Entry]], bytes]


def index(entries: Sequence[Entry], name: str) -> int:
    return next(number for number, entry in enumerate(entries) if entry.name == name.encode())


def with_log(**changes: object) -> Made:
    """Other fields in both headers of the log."""
    return changed_log(lambda entry: both(entry, **changes))


def changed_log(change: Callable[[Entry], Entry]) -> Made:
    def made(entries: list[Entry]) -> bytes:
        number = index(entries, STDOUT)
        return zipped([*entries[:number], change(entries[number]), *entries[number + 1 :]])

    return made


def in_one(header: str, **changes: object) -> Made:
    return changed_log(lambda entry: replace(entry, **{header: changes}))


def more(name: bytes, data: bytes = b"evil", **changes: object) -> Made:
    """A member more, in its place by name."""
    return lambda entries: zipped(sorted([*entries, both(Entry(name, data), **changes)], key=lambda e: e.name))


def compressed(method: int, pack: Callable[[bytes], bytes]) -> Made:
    def change(entry: Entry) -> Entry:
        data = pack(entry.data)
        return replace(both(entry, method=method, packed=len(data), size=len(entry.data), crc=zlib.crc32(entry.data)),
                       data=data)  # fmt: skip

    return changed_log(change)


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


def bomb(entries: list[Entry]) -> bytes:
    """A log of 256 MiB in 256 KiB."""
    size, packer = 1 << 28, zlib.compressobj(9, wbits=-15)
    data = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])
    return changed_log(lambda e: replace(both(e, method=8, packed=len(data), size=size, crc=0), data=data))(entries)


def overlapping(entries: list[Entry]) -> bytes:
    """One member whose bytes are the headers and bytes of all others (a quoted bomb)."""
    number = index(entries, STDOUT)
    rest = zipped(entries[number + 1 :])
    log = entries[number]
    size = len(rest)
    return zipped([*entries[:number], both(log, size=size, packed=size), *entries[number + 1 :]])


def end_bytes(change: Callable[[bytes], bytes]) -> Made:
    """The whole file changed."""
    return lambda entries: change(zipped(entries))


WIDE = struct.pack("<HHQQ", 1, 16, 1 << 40, 1 << 40)

ATTACKS: dict[str, Made] = {
    "up": more(b"../x"),
    "up-inside": more(b"blobs/../../x"),
    "root": more(b"/etc/passwd"),
    "windows-root": more(b"C:/x"),
    "backslash": more(b"blobs\\..\\..\\x"),
    "nul": more(b"run/stdout.log\0.txt"),
    "nul-alone": more(b"\0"),
    "empty-name": more(b""),
    "300-bytes": more(b"blobs/" + b"a" * 300),
    "65535-bytes": more(b"a" * 65535),
    "no-ascii": more("blobs/ä".encode()),
    "no-ascii-flagged": more("blobs/ä".encode(), flags=0x800),
    "no-utf-8": more(b"blobs/\xff"),
    "escape": more(b"\x1b]0;owned\x07"),
    "newline": more(b"run/spec.json\n"),
    "upper-case": more(b"RUN/spec.json"),
    "upper-case-hash": more(b"blobs/" + b"AB" * 32),
    "blank-at-the-end": more(b"run/spec.json "),
    "dot-at-the-end": more(b"run/spec.json."),
    "not-listed": more(b"blobs/" + b"ab" * 32),
    "not-in-the-layout": more(b"run/evil.py"),
    "git-folder": more(b".git/config"),
    "package-up": more(b"packages/" + b"ab" * 32 + b"/../x.conda"),
    "package-hidden": more(b"packages/" + b"ab" * 32 + b"/.x.conda"),
    "folder": more(b"blobs/", b"", mode=0o40755 << 16),
    "folder-dos": more(b"blobs/", b"", mode=0x10),
    "link": with_log(mode=0o120777 << 16),
    "link-up": more(b"blobs/" + b"ab" * 32, b"../../../etc/passwd", mode=0o120777 << 16),
    "device": with_log(mode=0o60644 << 16),
    "fifo": with_log(mode=0o10644 << 16),
    "setuid": with_log(mode=0o104755 << 16),
    "no-mode": with_log(mode=0),
    "twice": lambda entries: zipped(sorted([*entries, entries[0]], key=lambda e: e.name)),
    "twice-other": more(b"run/stdout.log"),
    "twice-the-record": more(b"run/record.json", b"{}"),
    "missing": lambda entries: zipped(entries[1:]),
    "not-sorted": lambda entries: zipped([entries[1], entries[0], *entries[2:]]),
    "renamed": in_one("central", name=b"run/stdout.lag"),
    "renamed-inside": in_one("local", name=b"run/stdout.lag"),
    "renamed-inside-up": in_one("local", name=b"../../../log.x"),
    "deflated": compressed(8, deflated),
    "bzip2": compressed(12, bz2.compress),
    "lzma": with_log(method=14),
    "deflate64": with_log(method=9),
    "unknown-method": with_log(method=99),
    "bomb": bomb,
    "overlapping": overlapping,
    "same-place": lambda entries: zipped([entries[0], replace(entries[1], central={"offset": 0}), *entries[2:]]),
    "place-beyond": in_one("central", offset=0x7FFFFFFF),
    "place-in-another": in_one("central", offset=40),
    "encrypted": with_log(flags=1),
    "encrypted-inside": in_one("local", flags=1),
    "size-later": with_log(flags=8),
    "utf-8-flag": with_log(flags=0x800),
    "patched": with_log(flags=0x20),
    "masked": with_log(flags=0x2000),
    "wrong-crc": with_log(crc=5),
    "wrong-crc-inside": in_one("local", crc=5),
    "wrong-crc-outside": in_one("central", crc=5),
    "smaller": with_log(size=3, packed=3),
    "smaller-outside": in_one("central", size=3, packed=3),
    "larger": with_log(size=1 << 20, packed=1 << 20),
    "larger-outside": in_one("central", size=1 << 30, packed=1 << 30),
    "larger-than-packed": with_log(size=1 << 30),
    "wide-size": with_log(size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=WIDE),
    "wide-size-outside": in_one("central", size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=WIDE),
    "wide-size-lacks": with_log(size=0xFFFFFFFF, packed=0xFFFFFFFF),
    "wide-size-short": with_log(size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=b"\1\0\4\0abcd"),
    "wide-not-needed": with_log(extra=struct.pack("<HHQQ", 1, 16, 13, 13)),
    "extra": with_log(extra=b"ux\0\0"),
    "extra-name": with_log(extra=struct.pack("<HHBL", 0x7075, 9, 1, 0) + b"../x"),
    "extra-malformed": with_log(extra=b"\1\0\xff\xff"),
    "comment": in_one("central", comment=b"evil"),
    "date": with_log(date=34),
    "time": with_log(time=1),
    "version": with_log(version=63),
    "disk": in_one("central", disk=1),
    "data-before": lambda entries: zipped([replace(entries[0], before=b"evil"), *entries[1:]]),
    "data-between": changed_log(lambda entry: replace(entry, before=b"evil")),
    "data-behind-the-last": lambda entries: zipped(entries, before_directory=b"evil"),
    "member-without-directory": lambda entries: zipped(entries, before_directory=zipped([Entry(b"x", b"evil")])[:35]),
    "script-before": end_bytes(lambda data: b"#!/bin/sh\ntouch pwned\nexit\n" + data),
    "data-behind": end_bytes(lambda data: data + b"evil"),
    "archive-behind": end_bytes(lambda data: data + data),
    "archive-comment": lambda entries: zipped(entries, end={"comment": b"evil"}),
    "archive-disk": lambda entries: zipped(entries, end={"disk": 1}),
    "count-less": lambda entries: zipped(entries, end={"count": len(entries) - 1}),
    "count-more": lambda entries: zipped(entries, end={"count": len(entries) + 1}),
    "count-none": lambda entries: zipped(entries, end={"count": 0}),
    "directory-earlier": lambda entries: zipped(entries, end={"start": 0}),
    "directory-later": lambda entries: zipped(entries, end={"start": 0x7FFFFFFF}),
    "directory-larger": lambda entries: zipped(entries, end={"size": 0x7FFFFFFF}),
    "directory-smaller": lambda entries: zipped(entries, end={"size": 46}),
    "directory-none": lambda entries: zipped(entries, end={"size": 0}),
    "directory-wide": lambda entries: zipped(entries, end={"size": 0xFFFFFFFF, "start": 0xFFFFFFFF, "count": 0xFFFF}),
    "directory-wide-lies": end_bytes(
        lambda data: (
            data[:-22]
            + struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 1 << 60, 1 << 60)
            + struct.pack("<4sLQL", b"PK\6\7", 0, len(data) - 22, 1)
            + data[-22:]
        )
    ),
    "no-members": lambda entries: zipped([]),
    "manifest-only": lambda entries: zipped([entries[index(entries, MANIFEST)]]),
    "empty": lambda entries: b"",
    "beginning-only": lambda entries: b"PK",
    "text": lambda entries: b"a text file named .zip\n" * 100,
    "tar": lambda entries: tarred(entries),
    "tar-gz": lambda entries: zlib.compress(tarred(entries)),
    "zip-in-zip": lambda entries: zipped([Entry(b"bundle.json", zipped(entries))]),
    "ordinary-zip": lambda entries: ordinary(entries, zipfile.ZIP_STORED),
    "ordinary-zip-deflated": lambda entries: ordinary(entries, zipfile.ZIP_DEFLATED),
    "half": end_bytes(lambda data: data[: len(data) // 2]),
    "without-its-end": end_bytes(lambda data: data[:-22]),
    "without-its-last-byte": end_bytes(lambda data: data[:-1]),
    "without-its-first-byte": end_bytes(lambda data: data[1:]),
    "zeros-at-the-end": end_bytes(lambda data: data + bytes(4096)),
    "zeros-in-the-middle": end_bytes(lambda data: data[:9000] + bytes(512) + data[9512:]),
    "zeros-only": end_bytes(lambda data: bytes(len(data))),
    "lines-converted": end_bytes(lambda data: data.replace(b"\n", b"\r\n")),
}


def tarred(entries: Iterable[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name.decode())
            info.size = len(entry.data)
            archive.addfile(info, io.BytesIO(entry.data))
    return out.getvalue()


def ordinary(entries: Iterable[Entry], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for entry in entries:
            archive.writestr(entry.name.decode(), entry.data)
    return out.getvalue()


@pytest.mark.parametrize("made", [*ATTACKS.values()], ids=[*ATTACKS])
def test_an_archive_that_orch_would_not_write(made: Made, entries: list[Entry], victim: Home, tmp_path: Path) -> None:
    place = tmp_path / "b.zip"
    place.write_bytes(made(entries))
    refused(place, victim, tmp_path)


def test_a_damaged_bundle_is_refused_wherever_it_is_damaged(real: Path, tmp_path: Path) -> None:
    content, place = bytearray(real.read_bytes()), tmp_path / "b.zip"
    chosen = random.Random(5)
    for number in range(120):
        at, bit = chosen.randrange(len(content)), 1 << chosen.randrange(8)
        content[at] ^= bit
        place.write_bytes(content)
        with pytest.raises(OrchError):
            unpack_bundle(place, tmp_path / f"stage-{number}", keep=False)
        content[at] ^= bit


def test_a_bundle_that_was_cut_off_is_refused_wherever_it_was(real: Path, tmp_path: Path) -> None:
    content, place = real.read_bytes(), tmp_path / "b.zip"
    for number, size in enumerate(range(0, len(content), len(content) // 100)):
        place.write_bytes(content[:size])
        with pytest.raises(OrchError):
            unpack_bundle(place, tmp_path / f"stage-{number}", keep=False)


def test_a_directory_said_to_be_huge_is_not_read(victim: Home, tmp_path: Path) -> None:
    """The file has the size that it says: a sparse one, or one that shrank to nothing on its way here."""
    size = 0xF0000000
    place = tmp_path / "b.zip"
    with place.open("wb") as made:
        made.seek(size)
        made.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size - 1, 1, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(place, victim, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "KiB"


@pytest.mark.parametrize("kind", ["folder", "fifo", "nothing", "device", "loop", "unreadable"])
def test_what_is_no_file_at_all(kind: str, victim: Home, tmp_path: Path) -> None:
    place = tmp_path / "b.zip"
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "loop":
        place.symlink_to(place)
    elif kind == "unreadable":
        if os.geteuid() == 0:
            pytest.skip("root reads everything")
        place.touch(mode=0)
    assert str(place) in refused(place, victim, tmp_path)


@pytest.mark.parametrize("verb", ["verify", "import"])
@pytest.mark.parametrize("name", ["up", "bomb", "twice", "empty", "wrong-crc"])
def test_the_command_says_one_sentence(verb: str, name: str, entries: list[Entry], orch_home: Path) -> None:
    place = orch_home.parent / "b.zip"
    place.write_bytes(ATTACKS[name](entries))
    done = subprocess.run([ORCH, "bundle", verb, place], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    said = [line for line in done.stderr.splitlines() if line.startswith("orch: ")]
    assert len(said) == 1
    assert "Traceback" not in done.stderr
