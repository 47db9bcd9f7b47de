"""What rattler makes of the configuration, in a process of its own: rattler must not be in ours.

`python -m orchestrator.doctor.engine HOME` prints it as JSON. (The worker's `run_job` waits for its end however long
that takes; here a few seconds are all there is.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError
from orchestrator.paths import Home

_SECONDS = 2.5


def ask(home: Home) -> dict[str, Any]:
    """`version` (rattler's), `channels` (URLs of the default ones), `proxies`, `no_proxy` and `auth_file`.

    Raises OrchError when the configuration is wrong, or rattler does not work here.
    """
    root = str(Path(__file__).resolve().parents[2])
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "orchestrator.doctor.engine", str(home.root)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environ,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OrchError(
            f"the conda engine did not start within {_SECONDS} s; on a slow disk it is quicker the second time."
        ) from error
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise OrchError(f"the conda engine (py-rattler) does not work here: {last}. Install orch again.") from None
    if "error" in said:
        raise OrchError(said["error"])
    return said


# --- inside the process -----------------------------------------------------------------------------------------


def main(root: str) -> None:
    """Print what `ask` returns."""
    home = Home(Path(root), *(Path(root, name) for name in ("envs", "store", "work", "cache")))
    try:
        said = _described(home)
    except OrchError as error:
        said = {"error": str(error)}
    sys.stdout.write(json.dumps(said))
    sys.stdout.flush()
    os._exit(0)  # the interpreter's own exit may crash after calls of rattler


def _described(home: Home) -> dict[str, Any]:
    from importlib.metadata import version

    import rattler

    from orchestrator.environment.config import config_files, rattler_text, read_settings
    from orchestrator.environment.engine import channel_urls
    from orchestrator.environment.redact import without_credentials

    settings = read_settings(home)
    config = rattler.Config()
    for path, shared in config_files(home):
        try:
            config = config.merge(rattler.Config.from_toml(rattler_text(path), shared))
            config.validate()
        except Exception as error:
            lines = without_credentials(str(error)).strip().splitlines()
            raise OrchError(f"{path}: {': '.join([*lines[:1], *lines[1:][-1:]])}.") from error
    proxies = {"http": config.proxy_http, "https": config.proxy_https}
    return {
        "version": version("py-rattler"),
        "channels": channel_urls(settings.default_channels, settings),
        "proxies": {scheme: str(url) for scheme, url in proxies.items() if url},
        "no_proxy": list(config.proxy_non_proxy_hosts),
        "auth_file": str(config.authentication_override_file or ""),
        "tls_no_verify": bool(config.tls_no_verify),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
