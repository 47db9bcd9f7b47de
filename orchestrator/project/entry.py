"""Which command a run executes: an entry point of the MLproject, or a script of the project."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from itertools import islice

from orchestrator.errors import OrchError
from orchestrator.project.inside import inside
from orchestrator.project.parts import EntryPoint, Project, Tree
from orchestrator.project.template import escape

_SUFFIXES = (".py", ".sh", ".R")
_SHOWN = 3
_LOOKED_AT = 200
"""The most directories in which projects are looked for, to be named in a message."""


def choose_entry_point(project: Project, name: str, tree: Tree) -> EntryPoint:
    """The entry point called `name`, else the script of that name (`.py`, `.sh` or `.R`) as MLflow runs it.

    A `.sh` file runs in bash, whatever `$SHELL` is. Raises OrchError, with the entry points there are, when it
    is neither.
    """
    if name in project.entry_points:
        return project.entry_points[name]
    suffix = posixpath.splitext(name)[1]
    if suffix not in _SUFFIXES:
        raise OrchError(_unknown(project, name, tree))
    path = inside(project.subdir, name)
    if path is None or tree.read(path) is None:
        raise OrchError(f"there is no file {name!r} in the project, and {_unknown(project, name, tree)}")
    return EntryPoint(name, escape(_script_command(name, suffix)))


def _script_command(name: str, suffix: str) -> str:
    import shlex

    word = shlex.quote(name if not name.startswith("-") else f"./{name}")
    if suffix == ".py":
        return f"python {word}"
    if suffix == ".sh":
        return f"bash {word}"
    if not re.fullmatch(r"[\w./ +-]+", name):
        raise OrchError(f"the R script {name!r} can't be an entry point: its name must do without special characters.")
    return f"Rscript -e \"mlflow::mlflow_source('{name}')\" --args"


def _unknown(project: Project, name: str, tree: Tree) -> str:
    known = list(project.entry_points)
    if not known:
        return f"there is no entry point {name!r}: {_instead(project, tree)}."
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    scripts = "a .py, .sh or .R file of the project can be named too"
    return f"there is no entry point {name!r}; there are {', '.join(known)}; {scripts}.{hint}"


def _instead(project: Project, tree: Tree) -> str:
    """Why there are no entry points, and what can be run instead."""
    if misspelt := project.misspelt.get("entry_points"):
        return f"{project.file} has no entry_points, but the unknown key {misspelt!r}; rename it to 'entry_points'"
    import shlex

    why = f"{project.file} has no entry points" if project.file else "the project has no MLproject file"
    scripts = [entry for entry in tree.names(project.subdir) if entry.endswith(_SUFFIXES) and entry.isprintable()]
    below = list(islice(_projects_below(project.subdir, tree), _SHOWN))
    ways = []
    if scripts:
        named = (f"-e {shlex.quote(script)}" for script in scripts[:_SHOWN])
        ways.append(f"name a script of it ({', '.join(named)})")
    if below:
        # what stands after the # starts where the user's text ends, which may be the project or the commit's root
        named = (path if project.subdir else f"'#{path}'" if " " in path else f"#{path}" for path in below)
        ways.append(f"take a project below it ({', '.join(named)})")
    return f"{why}; {', or '.join(ways)}" if ways else f"{why}, and no .py, .sh or .R file to name with -e"


def _projects_below(subdir: str, tree: Tree) -> Iterator[str]:
    """The directories below a project that hold an MLproject, nearest first, relative to the commit's root."""
    waiting = [posixpath.join(subdir, entry[:-1]) for entry in tree.names(subdir) if _is_open(entry)]
    for directory in islice(waiting, _LOOKED_AT):
        entries = tree.names(directory)
        if any(entry.lower() == "mlproject" for entry in entries):
            yield directory
        waiting += [posixpath.join(directory, entry[:-1]) for entry in entries if _is_open(entry)]


def _is_open(entry: str) -> bool:
    return entry.endswith("/") and not entry.startswith(".") and entry.isprintable()
