"""Whether two files that are not the same bytes are equivalent, and where they differ first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

from orchestrator.compare import archives, arrays, images, mlflow_store
from orchestrator.compare.differences import Difference, Pair, judge, printable, shown
from orchestrator.compare.mlflow_files import without_volatile
from orchestrator.compare.own import OwnNames, without_own
from orchestrator.compare.rules import Declared
from orchestrator.compare.texts import text_pairs

LARGEST = 100_000_000
"""A file of more bytes (unpacked: numbers in all) is not looked into: its hash decides."""

_DEEPEST = 4  # archives in archives
_AROUND = 16


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of the two runs, and declared for the file."""

    recorded: OwnNames
    replayed: OwnNames
    declared: Declared


@dataclass(frozen=True, slots=True)
class Found:
    """What came of two contents. `rules` are those without which they would not be (so) equal."""

    kind: str
    equal: bool
    rules: frozenset[str] = frozenset()
    place: str | None = None
    recorded: str | None = None
    replayed: str | None = None
    largest_absolute: float | None = None
    largest_relative: float | None = None
    note: str | None = None
    """What there is to say where no place of a value can be told."""


def compare_contents(name: str, recorded: bytes, replayed: bytes, about: Context, depth: int = 0) -> Found:
    """Compare two contents of a file `name` by what they are: its name is a hint, the content decides."""
    if recorded == replayed:
        return Found("bytes", True)
    if depth < _DEEPEST:
        if recorded[:4] == replayed[:4] == b"PK\x03\x04":
            return _zips(name, recorded, replayed, about, depth)
        if recorded[:3] == replayed[:3] == b"\x1f\x8b\x08":
            return _gzips(name, recorded, replayed, about, depth)
    if recorded.startswith(arrays.MAGIC) and replayed.startswith(arrays.MAGIC):
        return _arrays(recorded, replayed, about.declared)
    kind = images.image_kind(recorded)
    if kind is not None and kind == images.image_kind(replayed):
        return _images(kind, recorded, replayed, about.declared)
    if mlflow_store.is_store(name, recorded) and mlflow_store.is_store(name, replayed):
        return _mlflow_stores(recorded, replayed, about)
    texts = _text(recorded), _text(replayed)
    if texts[0] is not None and texts[1] is not None:
        return _texts(name, texts[0], texts[1], about)
    return _bytes(recorded, replayed)


# --- text -------------------------------------------------------------------------------------------------------


def _text(content: bytes) -> str | None:
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _texts(name: str, one: str, other: str, about: Context) -> Found:
    one, used = _plain(name, one, about.recorded)
    other, also = _plain(name, other, about.replayed)
    passed: set[str] = set()
    kind, pairs = text_pairs(name, one, other, about.declared.ignore, passed)
    if one == other:
        return Found(kind, True, used | also)
    difference = judge(pairs, about.declared.tolerance)
    found = _found(kind, difference, about.declared, ignored=bool(passed), quoted=kind.startswith("json"))
    if not found.equal and found.place is None:
        lines = zip_longest(one.split("\n"), other.split("\n"))
        line = next(number for number, (x, y) in enumerate(lines, 1) if x != y)
        found = replace(found, place=f"line {line}", note="the same values, written in another way")
    return replace(found, rules=found.rules | used | also)


def _plain(name: str, text: str, names: OwnNames) -> tuple[str, frozenset[str]]:
    text, used = without_own(text, names.in_text)
    text, also = without_volatile(name, text)
    return text, used | also


def _found(kind: str, difference: Difference, declared: Declared, *, ignored: bool, quoted: bool) -> Found:
    """What a difference of values means with what is declared: without it, not even the writing may differ."""
    rules = set()
    if difference.pair is not None and difference.holds and declared.tolerance_rule:
        rules.add(declared.tolerance_rule)
    if ignored and declared.ignore_rule:
        rules.add(declared.ignore_rule)
    if not rules and difference.holds and declared.by_value:
        rules.add(declared.by_value)
    found = Found(
        kind,
        difference.holds and declared.by_value is not None,
        frozenset(rules),
        largest_absolute=difference.largest_absolute,
        largest_relative=difference.largest_relative,
    )
    if difference.pair is None:
        return found
    values = shown(difference.pair.recorded, difference.pair.replayed, quoted=quoted)
    return replace(found, place=difference.pair.where(), recorded=values[0], replayed=values[1])


# --- arrays and images ------------------------------------------------------------------------------------------


def _arrays(recorded: bytes, replayed: bytes, declared: Declared) -> Found:
    try:
        pairs = arrays.array_pairs(arrays.read_array(recorded), arrays.read_array(replayed))
    except ValueError:
        return _bytes(recorded, replayed)
    return _by_value("npy", pairs, declared, "the same values, written in another way")


def _images(kind: str, recorded: bytes, replayed: bytes, declared: Declared) -> Found:
    if not images.can_read_images():
        return Found(kind, False, note="Pillow is not installed, so the pixels were not compared")
    try:
        pairs = images.image_pairs(kind, recorded, replayed, LARGEST)
    except ValueError:
        return _bytes(recorded, replayed)
    return _by_value(kind, pairs, declared, "the same pixels, with something else beside them")


def _by_value(kind: str, pairs: Iterator[Pair], declared: Declared, same: str) -> Found:
    found = _found(kind, judge(pairs, declared.tolerance), declared, ignored=False, quoted=False)
    return found if found.equal or found.place else replace(found, note=same)


# --- what holds more --------------------------------------------------------------------------------------------


def _zips(name: str, recorded: bytes, replayed: bytes, about: Context, depth: int) -> Found:
    try:
        one, other = archives.read_zip(recorded, LARGEST), archives.read_zip(replayed, LARGEST)
    except ValueError:
        return _bytes(recorded, replayed)
    kind = "npz" if name.lower().endswith(".npz") else "zip"
    rules = {archives.ZIP_CONTENT}
    plain = archives.without_addresses(one), archives.without_addresses(other)
    if plain != (one, other):
        rules.add(archives.SKOPS_ADDRESSES)
    one, other = plain
    names = [[member.name for member in members] for members in plain]
    if names[0] != names[1]:
        a, b = next(((x, y) for x, y in zip(*names, strict=False) if x != y), (f"{len(one)}", f"{len(other)}"))
        values = shown(a, b, quoted=False)
        return Found(kind, False, place="the list of its members", recorded=values[0], replayed=values[1])
    unequal: Found | None = None
    largest: list[Found] = []
    for a, b in zip(one, other, strict=True):
        found = compare_contents(a.name, a.content, b.content, about, depth + 1)
        if found.equal and a.about != b.about:
            found = Found(kind, False, note="the same content, packed or marked in another way")
        largest.append(found)
        rules |= found.rules
        if unequal is None and not found.equal:
            unequal = replace(found, place=": ".join(filter(None, (printable(a.name), found.place))))
    first = unequal or Found(kind, True)
    absolute = max((f.largest_absolute for f in largest if f.largest_absolute is not None), default=None)
    relative = max((f.largest_relative for f in largest if f.largest_relative is not None), default=None)
    return replace(first, kind=kind, rules=frozenset(rules), largest_absolute=absolute, largest_relative=relative)


def _gzips(name: str, recorded: bytes, replayed: bytes, about: Context, depth: int) -> Found:
    try:
        one, other = archives.read_gzip(recorded, LARGEST), archives.read_gzip(replayed, LARGEST)
    except ValueError:
        return _bytes(recorded, replayed)
    found = compare_contents(name.removesuffix(".gz"), one, other, about, depth + 1)
    return replace(found, kind=f"{found.kind}.gz", rules=found.rules | {archives.GZIP_CONTENT})


def _mlflow_stores(recorded: bytes, replayed: bytes, about: Context) -> Found:
    try:
        one, other = mlflow_store.logged_in(recorded), mlflow_store.logged_in(replayed)
    except ValueError:
        return _bytes(recorded, replayed)
    found = _texts("mlflow.json", one, other, about)
    return replace(found, kind="mlflow", rules=found.rules | {mlflow_store.MLFLOW_STORE})


# --- bytes ------------------------------------------------------------------------------------------------------


def _bytes(recorded: bytes, replayed: bytes) -> Found:
    at = _first_differing(recorded, replayed)
    values = [content[at : at + _AROUND].hex(" ") or None for content in (recorded, replayed)]
    return Found("bytes", False, place=f"byte {at}", recorded=values[0], replayed=values[1])


def _first_differing(one: bytes, other: bytes) -> int:
    """The offset of the first byte that is not the same; by halves, since comparing slices is what is quick."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
