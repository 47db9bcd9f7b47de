"""This orch as a command for the programs of runs, whose PATH has nothing of the user's."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from orchestrator.errors import OrchError
from orchestrator.paths import Home

_SCRIPT = """\
#!/bin/sh
# The run's own variables are for the Python of its environment.
unset PYTHONPATH PYTHONHOME PYTHONNOUSERSITE
exec {python} -P -c 'import sys; sys.argv[0] = "orch"; from orchestrator.cli import main; main()' "$@"
"""


def own_command(home: Home) -> Path:
    """A program that is this orch, alone in its folder. Raises OrchError when it can't be made."""
    path, text = home.root / "bin" / "orch", _SCRIPT.format(python=shlex.quote(sys.executable))
    try:
        if path.exists() and path.read_text() == text:
            return path
        path.parent.mkdir(mode=0o700, exist_ok=True)
        aside = path.with_name(f".orch-{os.getpid()}")
        aside.write_text(text)
        aside.chmod(0o755)
        aside.replace(path)
    except (OSError, ValueError) as error:
        raise OrchError(f"{path} can't be written: {error}.") from error
    return path
