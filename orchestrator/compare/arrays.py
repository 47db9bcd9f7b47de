"""The values of `.npy` files, read without numpy: a verdict must not depend on what is installed.

Numbers, truth values and durations. Text, objects, records, and dates (for which a tolerance means nothing) are left to
a comparison of bytes.
"""

from __future__ import annotations

import ast
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from orchestrator.compare.differences import Pair

MAGIC = b"\x93NUMPY"

_CODES = {
    "b1": "?",
    **{f"i{size}": code for size, code in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))},
    **{f"u{size}": code for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))},
    **{f"f{size}": code for size, code in ((2, "e"), (4, "f"), (8, "d"))},
} | {"c8": "f", "c16": "d", "m8": "q"}
_TYPE = re.compile(r"([<>|=])([biufcm][0-9]+)(\[[0-9]*[A-Za-z]+\])?")
_LONGEST_HEADER = 10_000


@dataclass(frozen=True, slots=True)
class Array:
    """What a file holds: `data` is its numbers, one after the other in memory's order."""

    dtype: str
    shape: tuple[int, ...]
    fortran_order: bool
    format: str
    data: memoryview


def read_array(content: bytes) -> Array:
    """The array in a `.npy` file. Raises ValueError when it is none, or not one of numbers."""
    try:
        major = content[len(MAGIC)]
        wide = major > 1
        (length,) = struct.unpack_from("<I" if wide else "<H", content, 8)
        start = (12 if wide else 10) + length
        if not content.startswith(MAGIC) or length > _LONGEST_HEADER:
            raise ValueError("no header of a .npy file")
        header = ast.literal_eval(content[start - length : start].decode("utf-8" if major > 2 else "latin-1").strip())
        dtype, order, shape = str(header["descr"]), bool(header["fortran_order"]), tuple(map(int, header["shape"]))
    except (IndexError, KeyError, TypeError, SyntaxError, struct.error, RecursionError, MemoryError) as error:
        raise ValueError(f"no .npy file: {error}") from error
    found = _TYPE.fullmatch(dtype)
    code = _CODES.get(found[2]) if found else None
    data = memoryview(content)[start:]
    if not found or code is None or any(size < 0 for size in shape):
        raise ValueError(f"an array of {dtype}")
    form = (">" if found[1] == ">" else "<") + code
    numbers = math.prod(shape) * (2 if found[2].startswith("c") else 1)
    if len(data) != numbers * struct.calcsize(form):
        raise ValueError("its length is not that of its shape")
    return Array(dtype, shape, order, form, data)


def array_pairs(one: Array, other: Array) -> Iterator[Pair]:
    """The values that are not the same, by their index; a complex number is two numbers."""
    for what, a, b in (
        ("type", one.dtype, other.dtype),
        ("shape", str(one.shape), str(other.shape)),
        ("order in memory", *("Fortran" if array.fortran_order else "C" for array in (one, other))),
    ):
        if a != b:
            yield Pair(f"the {what}", a, b)
            return
    parts = 2 if one.dtype[1:2] == "c" else 1
    values = zip(struct.iter_unpack(one.format, one.data), struct.iter_unpack(other.format, other.data), strict=True)
    for position, (x, y) in enumerate(values):
        if x != y:
            yield Pair(partial(_index, position, parts, one), x[0], y[0])


def _index(number: int, parts: int, array: Array) -> str:
    position, part = divmod(number, parts)
    indices = []
    for size in array.shape if array.fortran_order else reversed(array.shape):
        position, index = divmod(position, size)
        indices.append(str(index))
    return f"[{', '.join(indices if array.fortran_order else reversed(indices))}]{' imaginary' if part else ''}"
