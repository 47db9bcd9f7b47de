"""Calls of uv, and where it looks for packages: the index that the user has set for orch, for uv or for pip."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.environment.config import Settings, read_settings
from orchestrator.environment.offline import closed_network
from orchestrator.environment.passed_on import for_builds
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.space import said_full
from orchestrator.paths import Home

_PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf")

# What of uv's own variables says where packages are and how they are reached. The rest would change the result.
_UV_PLACES = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_KEYRING_PROVIDER",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
    "UV_INSECURE_HOST",
    "UV_OFFLINE",
    "UV_HTTP_",
    "UV_REQUEST_",
    "UV_CONCURRENT_",
    "UV_CREDENTIALS_",
)

_NO_INDEX = "UV_NO_INDEX"

_NO_NETWORK = (
    "--offline asks no network: run it once without, or name a folder that has the packages as [pypi] index in "
    "config.toml."
)


def run_uv(
    home: Home,
    arguments: Sequence[str],
    *,
    cwd: Path,
    cache: Path | None = None,
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run uv with its own cache (or `cache`) in `cwd`; `path` stands first on PATH. Its output is text.

    `environ` is `uv_environment(home)` where it is not given; descriptors `pass_fds` stay open in uv. Raises OSError
    when uv found no space.
    """
    from uv import find_uv_bin

    environ = dict(uv_environment(home) if environ is None else environ)
    # uv has an option for this, and no variable.
    no_index = ["--no-index"] if environ.pop(_NO_INDEX, None) else []
    if path is not None:
        environ["PATH"] = f"{path}{os.pathsep}{environ.get('PATH', os.defpath)}"
    done = subprocess.run(
        [find_uv_bin(), *arguments, *no_index, "--cache-dir", str(cache or home.uv)],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        pass_fds=pass_fds,
        check=False,
    )
    if done.returncode and (full := said_full(done.stderr, home.cache)) is not None:
        raise full
    return done


def uv_environment(home: Home, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables for uv: those of the caller's that it needs, and the index.

    The index is that of `[pypi] index` in the configuration, else what `UV_*` variables say, else what pip's
    variables and configuration files say, else uv's own. Offline, uv uses its cache and indexes that are folders.
    """
    kept = for_builds(environ) | {name: value for name, value in environ.items() if name.startswith(_UV_PLACES)}
    kept |= {"PYTHONNOUSERSITE": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "UV_LINK_MODE": "copy"}
    # One date for everything built here, so that the same source is the same wheel.
    kept["SOURCE_DATE_EPOCH"] = "315532800"
    if not _has_credentials(environ):
        # uv makes a lock file there, even to find that there are none.
        kept["UV_CREDENTIALS_DIR"] = str(home.cache / "uv-data")
    kept |= _places(read_settings(home), environ)
    return kept | {"UV_OFFLINE": "1"} | closed_network() if home.offline else kept


def _has_credentials(environ: Mapping[str, str]) -> bool:
    """Whether the user has named a folder for uv's credentials, or has any in uv's own (`uv auth login`)."""
    data = Path(environ.get("XDG_DATA_HOME") or Path(environ.get("HOME") or "/") / ".local/share")
    return bool(environ.get("UV_CREDENTIALS_DIR")) or (data / "uv/credentials/credentials.toml").exists()


def uv_message(stderr: str) -> str:
    """What uv says of a failure, without credentials."""
    lines = [line for line in without_credentials(stderr).strip().splitlines() if not line.startswith("warning:")]
    said = "\n".join(lines).removeprefix("error: ")
    return f"{said}\n{_NO_NETWORK}" if is_offline(said) else said


def is_offline(said: str) -> bool:
    """Whether uv failed for lack of what it was told not to ask for."""
    return "network was disabled" in said or "Network connectivity is disabled" in said


def _places(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    pip = _pip_settings(environ)
    places: dict[str, str] = {}
    if settings.pypi_index:
        places["UV_DEFAULT_INDEX"] = settings.pypi_index
        places["UV_INDEX"] = " ".join(settings.pypi_extra_indexes)
    elif not any(name in environ for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")):
        if "index-url" in pip:
            places["UV_DEFAULT_INDEX"] = pip["index-url"]
        places["UV_INDEX"] = " ".join([*settings.pypi_extra_indexes, *pip.get("extra-index-url", "").split()])
        if "extra-index-url" in pip and "UV_INDEX_STRATEGY" not in environ:
            # What pip does with indexes that were set for pip.
            places["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in pip and "UV_FIND_LINKS" not in environ:
        places["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if not settings.pypi_index and pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        places[_NO_INDEX] = "1"
    if "trusted-host" in pip and "UV_INSECURE_HOST" not in environ:
        places["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
    if "cert" in pip and "SSL_CERT_FILE" not in environ:
        places["SSL_CERT_FILE"] = pip["cert"]
    return {name: value for name, value in places.items() if value}


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings as pip reads them: site, user, `PIP_CONFIG_FILE`, then `PIP_*` variables.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    from configparser import ConfigParser, Error

    named = environ.get("PIP_CONFIG_FILE")
    found: dict[str, str] = {}
    if named != os.devnull:
        user = Path(environ.get("HOME") or "/")
        xdg = Path(environ.get("XDG_CONFIG_HOME") or user / ".config")
        files: list[str | Path] = [
            *_PIP_FILES,
            user / ".pip/pip.conf",
            xdg / "pip/pip.conf",
            *([named] if named else []),
        ]
        parser = ConfigParser(interpolation=None)
        try:
            parser.read(files, encoding="utf-8")
        except (Error, UnicodeDecodeError, OSError):
            # pip's own file, not ours: what is wrong with it pip will say.
            parser = ConfigParser(interpolation=None)
        for section in ("global", "install"):
            found |= dict(parser[section]) if parser.has_section(section) else {}
    variables = {k[4:].lower().replace("_", "-"): v for k, v in environ.items() if k.startswith("PIP_")}
    return found | variables
