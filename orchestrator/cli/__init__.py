"""The command line: parse, call one function, print. Everything heavy is imported inside the commands."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from orchestrator.errors import OrchError


def main() -> NoReturn:
    """Run `orch`, and end with its exit code: 2 for wrong usage, 125 for orch's own failures."""
    from orchestrator.cli.app import app

    try:
        app()
    except OrchError as error:
        if os.environ.get("ORCH_LOG") == "debug":
            raise
        print(f"orch: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not complain about it while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, MemoryError) as error:
        if os.environ.get("ORCH_LOG") == "debug":
            raise
        print(f"orch: {error}", file=sys.stderr)
        sys.exit(OrchError.exit_code)
    sys.exit(0)
