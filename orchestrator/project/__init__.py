"""The project: its MLproject file, its entry points and parameters, and the command that a run executes."""

from __future__ import annotations

from orchestrator.project.bind import bind, parse_parameter_options
from orchestrator.project.entry import choose_entry_point
from orchestrator.project.mlproject import read_project
from orchestrator.project.parts import (
    Bound,
    DeclaredInput,
    EntryPoint,
    EnvironmentFile,
    EnvironmentKind,
    Parameter,
    Project,
    Script,
    Tree,
)
from orchestrator.project.render import render, shown_command

__all__ = [
    "Bound",
    "DeclaredInput",
    "EntryPoint",
    "EnvironmentFile",
    "EnvironmentKind",
    "Parameter",
    "Project",
    "Script",
    "Tree",
    "bind",
    "choose_entry_point",
    "parse_parameter_options",
    "read_project",
    "render",
    "shown_command",
]
