"""`orch diff`: what differs between two runs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from orchestrator import ledger
from orchestrator.canonical import portable_path
from orchestrator.cli.env import changes_to_json, package_lines
from orchestrator.cli.tell import tell, tell_notes
from orchestrator.cli.text import number, size, visible
from orchestrator.cli.verdict import flag_changes
from orchestrator.errors import OrchError
from orchestrator.execute.host import FLAGS
from orchestrator.model import RunRecord, Source
from orchestrator.paths import Home, open_home
from orchestrator.report import plural
from orchestrator.run_diff import NOT_RECORDED, Change, RunDiff, diff_runs
from orchestrator.source import CodeChange, FileChange
from orchestrator.sweep import sweep

_LONGEST = 100
"""Characters of a value that are shown."""

_MOST_LINES = 20
"""Lines of a section that a terminal gets."""

_HASH = re.compile(r"[0-9a-f]{64}")


def diff(one: str, other: str, *, patch: bool, offline: bool, as_json: bool) -> int:
    """`orch diff`: 1 when there are differences, else 0."""
    home = open_home(offline=offline, make=False)
    before, after = _read(home, one, other)
    found = diff_runs(before, after, home=home, patch=patch, report=tell)
    if as_json:
        print(json.dumps(_to_json(before, after, found), indent=2))
        return 1 if found else 0
    tell_notes(found.notes)
    for index, (title, lines) in enumerate(_sections(before, after, found)):
        print(("\n" if index else "") + title)
        for line in lines if not sys.stdout.isatty() else _some(lines):
            print(f"  {line}")
    if found.code is not None and found.code.patch:
        _print_patch(found.code.patch)
    return 1 if found else 0


def _read(home: Home, *wanted: str) -> list[RunRecord]:
    connection = ledger.connect(home)
    try:
        sweep(home, connection)
        records = []
        for run_id in [ledger.resolve_run(connection, text) for text in wanted]:
            record = ledger.read_run(home, run_id)
            if record is None:
                raise OrchError(f"run {run_id} has no directory any more.")
            records.append(_with_its_program(home, record))
        return records
    finally:
        connection.close()


def _with_its_program(home: Home, record: RunRecord) -> RunRecord:
    """A nested run that was only logged is of the program of the run around it, on its machine."""
    around: RunRecord | None = record
    seen: set[str] = set()
    while around is not None and around.pinned is None and around.parent not in (None, *seen):
        seen.add(str(around.parent))
        around = ledger.read_run(home, str(around.parent), logged=False)
    return record if around is None else replace(record, pinned=around.pinned, host=around.host)


# --- for scripts --------------------------------------------------------------------------------------------------


def _to_json(one: RunRecord, other: RunRecord, found: RunDiff) -> dict[str, Any]:
    sections = {
        title: {
            change.name: {"from": change.before, "to": change.after} | ({"note": change.note} if change.note else {})
            for change in changes
        }
        for title, changes in found.sections.items()
    }
    return {
        "from": one.run_id,
        "to": other.run_id,
        **sections,
        "code": None if found.code is None else _code_to_json(found.code),
        "packages": None if found.packages is None else changes_to_json(found.packages),
        "not_recorded": {title: list(names) for title, names in found.not_recorded.items()},
        "notes": list(found.notes),
    }


def _code_to_json(code: CodeChange) -> dict[str, Any]:
    files = [
        {
            "path": portable_path(file.path),
            "old_path": file.old_path and portable_path(file.old_path),
            "old_mode": _mode(file.old_mode),
            "new_mode": _mode(file.new_mode),
            "added": file.added,
            "deleted": file.deleted,
        }
        for file in code.files
    ]
    submodules = {portable_path(s.path): {"from": s.before, "to": s.after} for s in code.submodules}
    patch = code.patch and code.patch.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {"files": files, "submodules": submodules, "patch": patch}


# --- for people ---------------------------------------------------------------------------------------------------


def _sections(one: RunRecord, other: RunRecord, found: RunDiff) -> Iterator[tuple[str, list[str]]]:
    """The title and the lines of each section that has any; last those that may be long, with files."""
    sections = {title: _lines(title, changes) for title, changes in found.sections.items()}
    sections["code"] = _code_lines(one.spec.source, other.spec.source, found)
    sections["environment"] += package_lines(found.packages) if found.packages else []
    for title, names in found.not_recorded.items():
        sections[title] += [f"? {visible(name)}  {NOT_RECORDED} in either run" for name in names]
    order = [
        "result", "parameters", "logged_parameters", "metrics", "command", "environment", "inputs", "variables",
        "host", "host_variables", "outputs", "code",
    ]  # fmt: skip
    for title in order:
        if sections[title]:
            yield title.replace("_", " "), sections[title]


def _some(lines: list[str]) -> list[str]:
    left_out = len(lines) - _MOST_LINES
    return lines if left_out <= 1 else [*lines[:_MOST_LINES], f"and {left_out} more; --json has all"]


def _lines(title: str, changes: tuple[Change, ...]) -> list[str]:
    ours = title in ("result", "source", "command", "environment")
    return [_change_line(c.name.replace("_", " ") if ours else visible(c.name, _LONGEST), c) for c in changes]


def _change_line(name: str, change: Change) -> str:
    if change.note is not None:
        return f"~ {name}  {_one(change.after)}, {change.note}"
    if change.name == FLAGS and isinstance(change.before, list) and isinstance(change.after, list):
        return f"~ {name}  {'; '.join(flag_changes(change.before, change.after))}"
    return _line(name, change.before, change.after)


def _line(name: str, before: Any, after: Any) -> str:
    if before is None:
        return f"+ {name}  {_one(after)}"
    if after is None:
        return f"- {name}  {_one(before)}"
    if _is_file(before) and _is_file(after):
        keys = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
        return f"~ {name}  {', '.join(_aspect(key, before.get(key), after.get(key)) for key in keys)}"
    return f"~ {name}  {_two(before, after)}"


def _is_file(value: Any) -> bool:
    return isinstance(value, Mapping) and "sha256" in value


def _aspect(key: str, before: Any, after: Any) -> str:
    """What differs of a file."""
    if key == "size":
        old, new = size(before), size(after)
        return f"{old} -> {new}" if old != new else f"{before} B -> {after} B"
    if key == "mode":
        return f"mode {before:o} -> {after:o}"
    return f"{key} {_two(before, after)}"


def _one(value: Any) -> str:
    if _is_file(value):
        return size(value["size"]) if value.get("link") is None else f"link to {visible(value['link'], _LONGEST)}"
    return visible(_text(value), _LONGEST)


def _two(before: Any, after: Any) -> str:
    """Two values, so that they can be told apart: of long ones what stands around the first difference."""
    old, new = _text(before), _text(after)
    if old == new:
        old, new = repr(before), repr(after)
    if max(len(old), len(new)) > _LONGEST:
        same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        if same > 20:
            old, new = ("…" + text[same - 20 :] for text in (old, new))
    return f"{visible(old, _LONGEST)} -> {visible(new, _LONGEST)}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    if value is None:
        return "none"
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value[:16] if _HASH.fullmatch(value) else value


# --- code ---------------------------------------------------------------------------------------------------------


def _code_lines(one: Source, other: Source, found: RunDiff) -> list[str]:
    lines = [
        _commit_line(one, other, found.code)
        if change.name == "commit"
        else _line(change.name, change.before, change.after)
        for change in found.sections["source"]
    ]
    if found.code is None:
        return lines
    if len(found.code.files) > 1:
        added, deleted = (sum(getattr(f, side) or 0 for f in found.code.files) for side in ("added", "deleted"))
        lines.append(f"~ {plural(len(found.code.files), 'file')}  +{added} -{deleted}")
    lines += [
        _line(f"submodule {visible(s.path, _LONGEST)}", s.before and s.before[:12], s.after and s.after[:12])
        for s in found.code.submodules
    ]
    return lines + [_file_line(file) for file in found.code.files]


def _commit_line(one: Source, other: Source, code: CodeChange | None) -> str:
    same = "" if code is None or code else ", the same files"
    return f"~ commit  {_commit(one)} -> {_commit(other)}{same}"


def _commit(source: Source) -> str:
    named = "work tree" if source.dirty else source.revision
    return source.commit[:12] + (f" ({visible(named)})" if named else "")


def _file_line(file: FileChange) -> str:
    path = visible(file.path, _LONGEST)
    lines = "binary" if file.added is None else f"+{file.added} -{file.deleted}"
    if file.old_mode is None or file.new_mode is None:
        return f"{'+' if file.old_mode is None else '-'} {path}  {lines}"
    if file.old_path is not None:
        path = f"{visible(file.old_path, _LONGEST)} -> {path}"
    mode = "" if file.old_mode == file.new_mode else f", mode {_mode(file.old_mode)} -> {_mode(file.new_mode)}"
    return f"~ {path}  {lines}{mode}"


def _mode(mode: int | None) -> str | None:
    return None if mode is None else f"{mode:06o}"


def _print_patch(patch: str) -> None:
    """The patch as its bytes, which `git apply` takes; a terminal gets what it can show, and nothing to obey."""
    print(flush=True)
    if sys.stdout.isatty():
        print("\n".join(_harmless(line) for line in patch.split("\n")), end="")
    else:
        sys.stdout.buffer.write(patch.encode("utf-8", "surrogateescape"))


def _harmless(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c == "\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in line)
