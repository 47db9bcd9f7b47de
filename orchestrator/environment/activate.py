"""The variables of an activated environment, as `conda activate` would set them, for a process started without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError

_LEFTOVERS = re.compile(
    r"CONDA_(?!OVERRIDE_).*|_CE_.*|_CONDA_.*|VIRTUAL_ENV(_PROMPT)?|PYTHONHOME|PYTHONPATH|__PYVENV_LAUNCHER__|PIXI_.*"
)
"""What an outer activation leaves. `CONDA_OVERRIDE_*` is the user's word about the machine and stays."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSET = "***unset***"
"""conda's mark for a variable that an environment wants to be absent."""

_SHELLS_OWN = {"_", "PWD", "OLDPWD", "SHLVL"}
_END = "end of variables"
_SCRIPT = f"""
exec 3>&1 1>&2
for script in "$@"; do . "$script"; done
while IFS= read -r name; do printf '%s=%s\\0' "$name" "${{!name}}"; done < <(compgen -e) >&3
printf '%s' '{_END}' >&3
"""
"""Sources each argument, then writes the exported variables, each ended by a NUL; what scripts print goes to stderr.
`compgen -e` and `${{!name}}` are there in bash 3.2, `env -0` is not everywhere."""


def activated(prefix: Path, base: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process in the activated environment `prefix`, made from those in `base`.

    PATH begins with the prefix's `bin`; variables of its packages (`etc/conda/env_vars.d`) and of the environment
    (`conda-meta/state`) are set; then its activation scripts are sourced in a bash, if it has any. What an outer
    conda or virtual environment left in `base` is dropped, its PATH entries too. Raises OrchError when an activation
    script ends the shell, or when variables of the environment can't be read.
    """
    variables = {name: value for name, value in base.items() if not _LEFTOVERS.fullmatch(name)}
    variables |= {
        "PATH": os.pathsep.join((str(prefix / "bin"), *_outer_path(prefix, base))),
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": str(prefix),
        "CONDA_SHLVL": "1",
    }
    for name, value in _own_variables(prefix).items():
        if value == _UNSET:
            variables.pop(name, None)
        else:
            variables[name] = value
    scripts = sorted((prefix / "etc/conda/activate.d").glob("*.sh"))
    return _sourced(scripts, prefix, variables) if scripts else variables


def _outer_path(prefix: Path, base: Mapping[str, str]) -> list[str]:
    """The PATH of `base` without the folders of outer environments."""
    outer = [value for name, value in base.items() if re.fullmatch(r"CONDA_PREFIX(_\d+)?|VIRTUAL_ENV", name)]
    dropped = {str(prefix / "bin")}
    for folder in filter(None, outer):
        dropped |= {os.path.normpath(f"{folder}/bin"), os.path.normpath(f"{folder}/condabin")}
    if base.get("CONDA_EXE"):
        root = Path(base["CONDA_EXE"]).parent.parent
        dropped |= {str(root / "bin"), str(root / "condabin")}
    path = base.get("PATH") or os.defpath
    return [entry for entry in path.split(os.pathsep) if entry and os.path.normpath(entry) not in dropped]


def _own_variables(prefix: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted((prefix / "etc/conda/env_vars.d").glob("*.json")):
        found |= _texts(_read(path), path)
    state = prefix / "conda-meta/state"
    if state.exists():
        found |= _texts(_read(state).get("env_vars", {}), state)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise OrchError(f"{path}, variables of the environment, can't be read: {error}.") from error
    return value if isinstance(value, dict) else {}


def _texts(value: object, path: Path) -> dict[str, str]:
    if not isinstance(value, dict):
        raise OrchError(f"{path}: the environment's variables must be names and values.")
    found = {name: str(text) for name, text in value.items()}
    for name, text in found.items():
        if not name or "=" in name or "\0" in name + text:
            raise OrchError(f"{path}: {name!r} can't be the name of a variable, or its value has a NUL.")
    return found


def _sourced(scripts: list[Path], prefix: Path, variables: dict[str, str]) -> dict[str, str]:
    from shutil import which

    bash = which("bash", path=variables["PATH"])
    if bash is None:
        raise OrchError(
            f"the environment has activation scripts ({scripts[0].name}), and no bash is there to run them."
        )
    done = subprocess.run(
        # -p: no functions and no BASH_ENV file of the caller.
        [bash, "--noprofile", "--norc", "-p", "-c", _SCRIPT, "bash", *map(str, scripts)],
        env=variables,
        cwd=prefix,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    *pairs, end = os.fsdecode(done.stdout).split("\0")
    if end != _END:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        names = ", ".join(script.name for script in scripts)
        raise OrchError(
            f"the environment can't be activated: one of its scripts ({names}) ended the shell with exit code "
            f"{done.returncode}: {last[0]}"
        )
    after = dict(pair.split("=", 1) for pair in pairs)
    kept = {n: v for n, v in variables.items() if n in _SHELLS_OWN or n in after or not _NAME.fullmatch(n)}
    return kept | {name: value for name, value in after.items() if name not in _SHELLS_OWN}
