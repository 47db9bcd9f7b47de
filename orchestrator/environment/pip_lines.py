"""Follows the lines of a pip section through the files that they name, to what uv is given. Runs in the worker."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.environment.environment_file import package_name
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import Line, logical_lines, parse_line, split_extras, within
from orchestrator.errors import OrchError


@dataclass(slots=True)
class Requirements:
    """The lines of a pip section with all the files that they name, told apart. `origins` has the file of each line."""

    entries: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)


def gather(lines: Sequence[str], path: str, layout: Path, checkout: Path | None) -> Requirements:
    """Follow the lines of the file `path`; the files of the request stand in `layout`, projects in `checkout`."""
    found = Requirements()
    base = posixpath.dirname(path)
    seen: set[str] = set()

    def place(value: str, origin: str) -> str:
        name, extras = split_extras(value)
        inner = within(base, name.removeprefix("file://").removeprefix("file:"), origin)
        root = layout if (layout / inner).is_file() or checkout is None else checkout
        return f"{root / inner}{extras}"

    def follow(line: Line, origin: str, entries: list[str]) -> None:
        _refuse_what_uv_would_expand(line, origin)
        if line.kind in ("file", "constraints"):
            inner = within(posixpath.dirname(origin), line.value, origin)
            if inner in seen:
                return
            seen.add(inner)
            if not (layout / inner).is_file():
                raise OrchError(f"the file {inner}, which {origin} names, is not in the commit.")
            into = found.constraints if line.kind == "constraints" else entries
            for text_line in logical_lines((layout / inner).read_text("utf-8", "replace")):
                follow(parse_line(text_line), inner, into)
        elif line.kind == "option":
            _take_option(line, found)
        elif line.kind == "editable":
            entries.append(f"-e {place(line.value, origin)}")
        else:
            entries.append(place(line.value, origin) if line.kind == "local" else line.value)
            found.origins.setdefault(entries[-1], origin)

    for text in lines:
        follow(parse_line(text), path, found.entries)
    return found


def _refuse_what_uv_would_expand(line: Line, origin: str) -> None:
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", line.value):
        raise OrchError(f"{origin} has a pip line that is more than one: {line.value!r}. Write each for itself.")
    # Whatever the variable holds would go to an address that the project names.
    if "${" in line.value:
        raise OrchError(
            f"{origin} has a variable in the pip line {without_credentials(line.value)!r}, and orch puts none in what "
            "a project names: an index that needs credentials belongs into the configuration, as [pypi] index in "
            "config.toml."
        )


def _take_option(line: Line, found: Requirements) -> None:
    if line.option == "--index-url":
        found.options.append(f"--default-index={line.value}")
    elif line.option == "--extra-index-url":
        found.options.append(f"--index={line.value}")
    elif line.option == "--find-links" and re.match(r"[a-z+]+://|/", line.value):
        found.options.append(f"--find-links={line.value}")
    elif line.option == "--trusted-host":
        found.options.append(f"--allow-insecure-host={line.value}")
    elif line.option == "--pre":
        found.options.append("--prerelease=allow")
    elif line.option in ("--no-binary", "--only-binary"):
        found.options += [f"{line.option}={name}" for name in re.split(r"[,\s]+", line.value) if name]
    elif line.option == "--no-index":
        found.options.append(line.option)
    else:
        found.ignored.append(line.option)


def hashes_asked(lines: Sequence[str], path: str) -> dict[str, set[str]]:
    """The sha256 that lines with `--hash` allow, by package; uv does not hold its answer against them."""
    from packaging.utils import canonicalize_name

    found: dict[str, set[str]] = {}
    for line in lines:
        if "--hash" not in line:
            continue
        hashes = set(re.findall(r"--hash[=\s]+sha256:([0-9a-f]{64})", line))
        if not hashes:
            raise OrchError(f"{path} has a line with hashes and no sha256 among them, which orch compares: {line}.")
        found.setdefault(canonicalize_name(package_name(line)), set()).update(hashes)
    return found
