"""The lines of a requirements file, and of a `pip:` section, as pip reads them.

https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator.environment.redact import without_credentials
from orchestrator.errors import OrchError

_COMMENT = re.compile(r"(^|\s)#.*$")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")
_SHORT = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
    "--pypi-url": "--index-url",
}
_OPTION = re.compile(r"(?P<name>--[A-Za-z][A-Za-z-]*|-[A-Za-z])(?:\s*=\s*|\s*)(?P<value>.*)$")
_KINDS: dict[str, LineKind] = {"--requirement": "file", "--constraint": "constraints"}

NAME = r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?"
VERSION = r"[A-Za-z0-9.!+_-]+"
BAD_IN_URL = r"[\s\x00-\x1f\x7f\\]"
_SHA256 = r"[0-9a-f]{64}"

LineKind = Literal["requirement", "local", "editable", "file", "constraints", "option"]


@dataclass(frozen=True, slots=True)
class Line:
    """One logical line. `value` is the requirement, the path, or an option's value; `option` is its long name.

    `local` is a directory or an archive named by path, `editable` a directory, `file` and `constraints` name another
    file of lines. A path may end in extras: `.[dev]`.
    """

    kind: LineKind
    value: str
    option: str = ""


def parse_lines(text: str) -> Iterator[Line]:
    """The lines of a requirements file: comments gone, continued lines joined."""
    return (parse_line(line) for line in logical_lines(text))


def logical_lines(text: str) -> Iterator[str]:
    """Lines as pip joins them at a trailing backslash, without comments and without empty ones."""
    held = ""
    for raw in text.splitlines():
        line = raw
        if held and raw.lstrip().startswith("#"):
            continue
        if line.endswith("\\") and not _is_comment(line):
            held += line[:-1] + " "
            continue
        joined = _COMMENT.sub("", held + line).strip()
        held = ""
        if joined:
            yield joined
    if last := _COMMENT.sub("", held).strip():
        yield last


def parse_line(line: str) -> Line:
    """One logical line."""
    if not line.startswith("-"):
        return Line("local" if is_local(line) else "requirement", line)
    option, value = _option(line)
    if option == "--editable":
        # An editable checkout of another repository has no place to live here: it is installed like any other.
        return Line("editable", value) if is_local(value) else Line("requirement", _named(value))
    return Line(_KINDS.get(option, "option"), value, option)


def is_local(text: str) -> bool:
    """Whether a requirement names a path: `.`, `./sub[extra]`, `wheels/x.whl`, `file:...`."""
    path = split_extras(text)[0]
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        return path.startswith("file:")
    if " @ " in text or ";" in path:
        return False
    return path.startswith((".", "/")) or path.endswith(_ARCHIVES) or "/" in path


def split_extras(text: str) -> tuple[str, str]:
    """A path and the extras behind it: `.[dev]` is `.` and `[dev]`."""
    match = re.match(r"([^\[\]]*)(\[[^\]]*\])?", text.strip())
    assert match is not None  # noqa: S101 - the pattern matches every text
    return match[1].strip(), match[2] or ""


def named_paths(lines: Iterable[Line]) -> Iterator[tuple[LineKind, str]]:
    """The paths that lines name, without extras, in order."""
    for line in lines:
        if line.kind in ("file", "constraints"):
            yield line.kind, line.value
        elif line.kind in ("local", "editable"):
            path = split_extras(line.value)[0]
            yield line.kind, path.removeprefix("file://").removeprefix("file:")


def within(base: str, name: str, origin: str) -> str:
    """The path in the commit that `origin` names as `name`, relative to the folder `base`; "" is the root.

    Raises OrchError for a URL, and for a path outside of the repository.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        raise OrchError(f"{origin} takes requirements from {name}: a file in the repository can be locked, a URL not.")
    path = posixpath.normpath(posixpath.join(base, name))
    if path.startswith(("../", "/")) or path == "..":
        raise OrchError(f"{origin} names {name}, which is outside of the repository.")
    return "" if path == "." else path


def pinned_line(name: str, url: str, sha256: str | None = None) -> str:
    """The line of a requirements file for the package `name` at `url`, with its hash.

    Raises OrchError for a text that would be more than one line, or another option, for who reads the file.
    """
    if not re.fullmatch(NAME, name) or (sha256 is not None and not re.fullmatch(_SHA256, sha256)):
        raise OrchError(f"there is a pip package whose name or sha256 is none: {name!r}.")
    if re.search(BAD_IN_URL, url):
        raise OrchError(f"there is a URL with blanks in it, of {name}: {without_credentials(repr(url))}.")
    # uv would put a variable's value in place of ${NAME}.
    hashed = f" --hash=sha256:{sha256}" if sha256 is not None else ""
    return f"{name} @ {url.replace('$', '%24')}{hashed}"


def _option(line: str) -> tuple[str, str]:
    match = _OPTION.match(line)
    if match is None:
        return line, ""
    return _SHORT.get(match["name"], match["name"]), match["value"].strip().strip("\"'")


def _named(url: str) -> str:
    base, _, fragment = url.partition("#")
    parts = dict(item.partition("=")[::2] for item in fragment.split("&"))
    name = parts.pop("egg", "")
    rest = "&".join(f"{key}={value}" for key, value in parts.items() if key)
    return (f"{name} @ " if name else "") + base + (f"#{rest}" if rest else "")


def _is_comment(line: str) -> bool:
    return _COMMENT.search(line) is not None
