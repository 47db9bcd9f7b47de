"""What a project says of itself, as data. No actions here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

EnvironmentKind = Literal["conda", "python_env", "requirements", "conda-lock", "none"]


class Tree(Protocol):
    """The files of a commit. Paths are POSIX, relative to the commit's root."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, or None where no file is."""

    def names(self, directory: str) -> tuple[str, ...]:
        """The entries of a directory ("" is the root); those of directories end with "/"."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter. `default` is None for one that must be given.

    Four types act: `path`, `uri`, `float` and `int`; any other is kept as the project wrote it.
    """

    name: str
    type: str = "string"
    default: str | None = None


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A command of the project: a template of bash text, `{name}` for a parameter, `{{` and `}}` for braces."""

    name: str
    command: str
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class EnvironmentFile:
    """The file that says what the environment holds. `path` is relative to the commit's root, "" for kind `none`."""

    kind: EnvironmentKind
    path: str


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """Data that the project names (`inputs:`). `path` is relative to the commit's root.

    `dest` is where it is wanted, relative to the project's directory; None leaves that to the run.
    """

    path: str
    dest: str | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A project as its files tell it. `file` is the path of the MLproject, None where there is none.

    `misspelt` maps a key that the MLproject lacks to the unknown one in it that is probably meant. `has_rules`: it may
    declare how its outputs and metrics are compared (`compare.project_rules`). `notes` are sentences for the person
    who runs it.
    """

    name: str | None
    file: str | None
    entry_points: Mapping[str, EntryPoint]
    environment: EnvironmentFile
    inputs: tuple[DeclaredInput, ...] = ()
    subdir: str = ""
    misspelt: Mapping[str, str] = field(default_factory=dict)
    has_rules: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """An entry point with a value for each parameter.

    `command` is still a template: undeclared parameters are appended as ` --name {name}`. `parameters` holds the
    values as given, declared ones first. `paths` names the `path` parameters whose value the caller gave as a
    file or folder of this machine (absolute here), `downloads` those whose value is a remote URI. `notes` are
    sentences for that person.
    """

    command: str
    parameters: Mapping[str, str]
    paths: Mapping[str, Path] = field(default_factory=dict)
    downloads: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """Text for `bash -c TEXT`, and the variables that must stand in its environment."""

    text: str
    variables: Mapping[str, str]
