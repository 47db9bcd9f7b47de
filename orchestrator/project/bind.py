"""A value for each parameter of an entry point: the caller's, or the project's default."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.errors import OrchError, UsageError
from orchestrator.project.inside import inside
from orchestrator.project.parts import Bound, EntryPoint, Parameter
from orchestrator.project.template import parse_template

_EXTRA_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def parse_parameter_options(pairs: Sequence[str]) -> dict[str, str]:
    """The `-P NAME=VALUE` options as a mapping, in the order given; split at the first `=`.

    Raises UsageError for one without `=`, without a name, for a name given twice, and for what is not UTF-8.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        _check_text(name, value)
        if not equals or not name:
            raise UsageError(f"-P {pair} is no parameter; write -P NAME=VALUE.")
        if name in given:
            raise UsageError(f"-P {name} is given twice ({given[name]!r} and {value!r}); give it once.")
        given[name] = value
    return given


def bind(entry: EntryPoint, given: Mapping[str, str], *, cwd: Path) -> Bound:
    """The entry point with a value for each parameter; relative `path` values are relative to `cwd`.

    A given value of a `float`, `int`, `uri` or `path` parameter is checked; of defaults only that a `uri` has a
    scheme, and that a `path` is remote or stays in the project: there it is a file of the checkout, and no entry
    of `paths`. Names that are not declared are appended to the command as ` --name value`, as MLflow does.

    Beside declared parameters that is noted: it may be a slip.

    Raises UsageError for a value or name that can't be (all missing parameters in one message), and OrchError
    for a command template or a default that can't be.
    """
    declared = {parameter.name: parameter for parameter in entry.parameters}
    parse_template(entry.command, declared, what=f"the command of entry point {entry.name!r}")
    for name, value in given.items():
        _check_text(name, value)
    _check_missing(entry, given)
    values: dict[str, str] = {}
    paths: dict[str, Path] = {}
    downloads: dict[str, str] = {}
    for name, parameter in declared.items():
        if name in given:
            values[name] = given[name]
            _check_given(parameter, given[name])
        elif parameter.default is not None:
            values[name] = parameter.default
            _check_default(entry, parameter, parameter.default)
        if parameter.type == "path":
            local = _local_path(name, values[name], cwd)
            if local is None:
                downloads[name] = values[name]
            elif name in given:
                paths[name] = _existing(name, given[name], local)
    extra = [name for name in given if name not in declared]
    for name in extra:
        _check_extra_name(entry, name)
        values[name] = given[name]
    command = entry.command.rstrip() if extra else entry.command
    notes = _notes_on(extra, declared)
    return Bound(command + "".join(f" --{name} {{{name}}}" for name in extra), values, paths, downloads, notes)


def _notes_on(extra: Sequence[str], declared: Mapping[str, Parameter]) -> tuple[str, ...]:
    if not extra or not declared:
        return ()
    import difflib

    notes = []
    for name in extra:
        near = difflib.get_close_matches(name, declared, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        notes.append(f"parameter {name!r} is not declared; it is passed on as --{name}.{hint}")
    return tuple(notes)


def _check_missing(entry: EntryPoint, given: Mapping[str, str]) -> None:
    missing = [p for p in entry.parameters if p.default is None and p.name not in given]
    if not missing:
        return
    listed = ", ".join(f"{p.name} ({p.type})" for p in missing)
    import difflib

    names = {p.name for p in entry.parameters}
    unknown = [name for name in given if name not in names]
    near = [(name, match[0]) for name in unknown if (match := difflib.get_close_matches(name, names, 1))]
    hint = "".join(f"; -P {name} is not declared, did you mean {match}?" for name, match in near)
    example = " ".join(f"-P {p.name}=VALUE" for p in missing)
    plural = "parameters that have" if len(missing) > 1 else "a parameter that has"
    raise UsageError(f"entry point {entry.name!r} needs {plural} no value: {listed}; give {example}{hint or '.'}")


def _check_text(name: str, value: str) -> None:
    """Raises UsageError for what holds bytes that are not UTF-8: no record could hold it."""
    if not _is_text(name):
        raise UsageError(f"the parameter name {name!r} is not UTF-8 text; names are recorded as such.")
    if not _is_text(value):
        raise UsageError(
            f"the value of parameter {name!r} is not UTF-8 text; values are recorded as such, so put other bytes "
            "into a file."
        )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_given(parameter: Parameter, value: str) -> None:
    if parameter.type == "float" and not _is_number(value, float):
        raise UsageError(f"parameter {parameter.name!r} is a float, and {value!r} is none; give a number.")
    if parameter.type == "int" and not _is_number(value, int):
        raise UsageError(f"parameter {parameter.name!r} is an int, and {value!r} is none; give a whole number.")
    if parameter.type == "uri" and not _SCHEME.match(value):
        raise UsageError(f"parameter {parameter.name!r} is a uri, and {value!r} has no scheme (as in https://...).")


def _check_default(entry: EntryPoint, parameter: Parameter, value: str) -> None:
    what = f"the default {value!r} of parameter {parameter.name!r} of entry point {entry.name!r}"
    if parameter.type == "uri" and not _SCHEME.match(value):
        raise OrchError(f"{what} has no scheme, and it is a uri; give one with -P {parameter.name}=URI.")
    if parameter.type == "path" and (_is_file_url(value) or (not _is_remote(value) and inside("", value) is None)):
        raise OrchError(
            f"{what} is not a path inside the project; a file of your own you give with -P {parameter.name}=PATH."
        )


def _check_extra_name(entry: EntryPoint, name: str) -> None:
    if not _EXTRA_NAME.fullmatch(name):
        raise UsageError(
            f"-P {name!r} is no parameter of entry point {entry.name!r}, and can't become an option of its command: "
            "such a name has letters, digits, _, . and - only."
        )


def _is_number(text: str, kind: type[float] | type[int]) -> bool:
    if "_" in text or text != text.strip() or not text.isascii():
        return False
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _is_file_url(value: str) -> bool:
    return value[:5].lower() == "file:"


def _is_remote(value: str) -> bool:
    return bool(_SCHEME.match(value)) and not _is_file_url(value)


def _local_path(name: str, value: str, cwd: Path) -> Path | None:
    """The absolute path that a `path` value means on this machine, or None for a remote URI."""
    if _is_file_url(value):
        from urllib.parse import unquote_to_bytes, urlsplit

        parts = urlsplit(value)
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"parameter {name!r} is a path, and {value!r} is a file of another machine.")
        text = unquote_to_bytes(parts.path.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    elif _is_remote(value) and not (cwd / value).exists():
        return None
    else:
        text = value
    import os

    return Path(os.path.abspath(cwd / text))  # noqa: PTH100  - `Path.absolute` keeps "..", `resolve` follows links


def _existing(name: str, value: str, local: Path) -> Path:
    if "\0" in value or not value or not local.exists():
        raise UsageError(f"parameter {name!r} is a path, and there is no file or folder {value!r} ({local}).")
    if not _is_text(local.name):
        raise UsageError(
            f"parameter {name!r} is a path, and the file name {local.name!r} is not UTF-8 text; rename it."
        )
    return local
