"""The pixels of images, where Pillow is installed."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

from orchestrator.compare.differences import Pair

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
}
_CODES = {"L": "B", "LA": "B", "RGB": "B", "RGBA": "B", "CMYK": "B", "YCbCr": "B", "HSV": "B", "LAB": "B"} | {
    "I": "i",
    "F": "f",
    "I;16": "H",
}
_PLAIN = {"1": "L", "P": "RGBA", "PA": "RGBA"}
"""Modes whose numbers are no colours, and what they are turned into."""
_BITS = 258
"""The tag of a TIFF for how many bits each number of a pixel has."""


def image_kind(content: bytes) -> str | None:
    """What format an image has, None for what is no image."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)


def can_read_images() -> bool:
    """Whether Pillow is installed."""
    from importlib.util import find_spec

    return find_spec("PIL") is not None


def image_pairs(kind: str, recorded: bytes, replayed: bytes, largest: int) -> Iterator[Pair]:
    """The numbers of the pixels that are not the same, by frame, column, row and channel.

    Raises ValueError when one can't be read, or holds more than `largest` numbers in all.
    """
    one, other = _frames(kind, recorded, largest), _frames(kind, replayed, largest)
    return _all_frames(one, other)


def _frames(kind: str, content: bytes, largest: int) -> list[Any]:
    pillow, sequence = import_module("PIL.Image"), import_module("PIL.ImageSequence")
    if kind == "png" and _is_deep(content):
        raise ValueError("Pillow keeps only 8 bits")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = pillow.open(io.BytesIO(content), formats=[kind])
            frames = []
            numbers = 0
            for frame in sequence.Iterator(image):
                numbers += math.prod(frame.size) * 4
                if numbers > largest:
                    raise ValueError("too large")
                if _CODES.get(frame.mode) == "B" and max(getattr(frame, "tag_v2", {}).get(_BITS) or (8,)) > 8:
                    raise ValueError("Pillow keeps only 8 bits")
                frames.append(frame.convert(_PLAIN.get(frame.mode, frame.mode)).copy())
    except Exception as error:  # of every kind, in what others wrote
        raise ValueError(f"no image that can be read: {error}") from error
    if any(frame.mode not in _CODES for frame in frames):
        raise ValueError("numbers of an unknown kind")
    return frames


def _is_deep(png: bytes) -> bool:
    """Whether its header tells of colours, or of an alpha channel, of 16 bits."""
    depth, colour_type = png[24:25], png[25:26]
    return depth == b"\x10" and colour_type != b"\0"


def _all_frames(one: list[Any], other: list[Any]) -> Iterator[Pair]:
    if len(one) != len(other):
        yield Pair("the number of frames", len(one), len(other))
    for number, (a, b) in enumerate(zip(one, other, strict=False), 1):
        place = f"frame {number}, " if len(one) > 1 else ""
        if (a.size, a.mode) != (b.size, b.mode):
            yield Pair(f"{place}size and mode", *(f"{i.width}x{i.height} {i.mode}" for i in (a, b)))
            continue
        yield from _pixels(place, a, b)


def _pixels(place: str, a: Any, b: Any) -> Iterator[Pair]:
    code, bands = _CODES[a.mode], a.getbands()
    one, other = (struct.iter_unpack(f"={code}", image.tobytes()) for image in (a, b))
    for position, (x, y) in enumerate(zip(one, other, strict=True)):
        if x != y:
            yield Pair(partial(_pixel, place, position, a.width, bands), x[0], y[0])


def _pixel(place: str, position: int, width: int, bands: tuple[str, ...]) -> str:
    pixel, band = divmod(position, len(bands))
    row, column = divmod(pixel, width)
    return f"{place}column {column}, row {row}, {bands[band]}"
