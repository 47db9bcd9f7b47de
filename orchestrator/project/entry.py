"""Which command a run executes: an entry point of the MLproject, or a script of the project."""

from __future__ import annotations

import posixpath
import re

from orchestrator.errors import OrchError
from orchestrator.project.inside import inside
from orchestrator.project.parts import EntryPoint, Project, Tree
from orchestrator.project.template import escape


def choose_entry_point(project: Project, name: str, tree: Tree) -> EntryPoint:
    """The entry point called `name`, else the script of that name (`.py`, `.sh` or `.R`) as MLflow runs it.

    A `.sh` file runs in bash, whatever `$SHELL` is. Raises OrchError, with the entry points there are, when it
    is neither.
    """
    if name in project.entry_points:
        return project.entry_points[name]
    suffix = posixpath.splitext(name)[1]
    if suffix not in (".py", ".sh", ".R"):
        raise OrchError(_unknown(project, name))
    path = inside(project.subdir, name)
    if path is None or tree.read(path) is None:
        raise OrchError(f"there is no file {name!r} in the project, and {_unknown(project, name)}")
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


def _unknown(project: Project, name: str) -> str:
    known = list(project.entry_points)
    scripts = "a .py, .sh or .R file of the project can be named too"
    if not known:
        where = f"{project.file} has no entry points" if project.file else "the project has no MLproject file"
        return f"there is no entry point {name!r}: {where}; {scripts} (-e train.py)."
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"there is no entry point {name!r}; there are {', '.join(known)}; {scripts}.{hint}"
