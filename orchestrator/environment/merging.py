"""Several environment files as one wish, by conda-lock's rules. Runs in the worker."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from packaging.utils import canonicalize_name

from orchestrator.environment.environment_file import NEWEST, Wish, package_name
from orchestrator.environment.requirements import parse_line
from orchestrator.errors import OrchError


@dataclass(frozen=True, slots=True)
class Part:
    """What one file, at `path`, asks for in one category."""

    path: str
    wish: Wish


def merged(parts: Sequence[Part]) -> Wish:
    """All parts together, with pip lines as the first file would write them.

    A package that a later file names again, with a version, is asked for as the later one says. The channels of one
    file must be the last of those of the other, or there would be no order among them. Raises OrchError when they
    are not.
    """
    conda: dict[str, list[str]] = {}
    pip: dict[str, list[str]] = {}
    for part in parts:
        for name, specs in _by_name(part.wish.conda, package_name).items():
            # A name alone adds nothing, and `python` and `pip` are put into every file that has pip lines.
            if name not in conda or specs != [name]:
                conda[name] = specs
        lines = [moved(line, part.path, parts[0].path) for line in part.wish.pip]
        pip |= _by_name(lines, _pip_name)
    python = conda.get("python", ["python"]) != ["python"]
    return Wish(
        conda=tuple(spec for specs in conda.values() for spec in specs),
        channels=_joined_channels(parts),
        pip=tuple(line for lines in pip.values() for line in lines),
        extra_indexes=tuple(dict.fromkeys(url for part in parts for url in part.wish.extra_indexes)),
        variables={name: value for part in parts for name, value in part.wish.variables.items()},
        notes=tuple(
            dict.fromkeys(note for part in parts for note in part.wish.notes if not (python and NEWEST in note))
        ),
        exported=any(part.wish.exported for part in parts),
    )


def only(parts: Sequence[Part], category: str) -> Wish:
    """What the files of one category ask for, in the words of `merged`."""
    rest = [Part(part.path, replace(part.wish, conda=(), pip=())) for part in parts]
    return merged([one if one.wish.category == category else other for one, other in zip(parts, rest, strict=True)])


def moved(line: str, origin: str, target: str) -> str:
    """A pip line of the file `origin` as the file `target` would write it: paths are relative to a file's folder."""
    here, there = posixpath.dirname(origin), posixpath.dirname(target)
    parsed = parse_line(line)
    if here == there or parsed.kind in ("requirement", "option"):
        return line
    option = {"editable": "-e ", "file": "-r ", "constraints": "-c "}.get(parsed.kind, "")
    path = posixpath.relpath(posixpath.join(here, parsed.value), there or ".")
    return f"{option}{path if '/' in path or option else f'./{path}'}"


def _by_name(texts: Sequence[str], name_of: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        found.setdefault(name_of(text), []).append(text)
    return found


def _pip_name(line: str) -> str:
    parsed = parse_line(line)
    named = canonicalize_name(package_name(line)) if parsed.kind == "requirement" else line
    return f"{parsed.kind}:{named}"


def _joined_channels(parts: Sequence[Part]) -> tuple[str, ...]:
    longest = max(parts, key=lambda part: len(part.wish.channels))
    for part in parts:
        if part.wish.channels != longest.wish.channels[len(longest.wish.channels) - len(part.wish.channels) :]:
            raise OrchError(
                f"the channels of {part.path} ({', '.join(part.wish.channels)}) and of {longest.path} "
                f"({', '.join(longest.wish.channels)}) have no common order: the shorter list must be the end of the "
                "longer one."
            )
    return longest.wish.channels
