"""What uv resolves requirements to: the packages of a pylock.toml (PEP 751), and their files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from orchestrator.environment.pypi import run_uv, uv_message
from orchestrator.errors import OrchError
from orchestrator.paths import Home

COMPILE = ("pip", "compile", "--quiet", "--no-header", "--format", "pylock.toml", "--generate-hashes")
"""The command of uv that writes one, with the hashes of all files; the output file must be `pylock.NAME.toml`."""


def compiled(
    lines: Sequence[str], options: Sequence[str], folder: Path, *, home: Home, environ: Mapping[str, str] | None = None
) -> list[dict[str, Any]] | str:
    """The packages that requirement lines come to, of wheels alone; or what uv says of why there are none.

    uv's files are written to `folder`; for `environ` see `run_uv`. Raises OSError.
    """
    wanted, locked = folder / "wanted.txt", folder / "pylock.toml"
    wanted.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    locked.unlink(missing_ok=True)  # uv would keep to what stands in it
    files = ("--output-file", str(locked.absolute()), str(wanted.absolute()))
    # A folder of wheels that a variable names may be named from here.
    done = run_uv(home, [*COMPILE, "--no-config", "--no-build", *options, *files], cwd=Path.cwd(), environ=environ)
    return uv_message(done.stderr) if done.returncode else read_pylock(locked)


def read_pylock(path: Path) -> list[dict[str, Any]]:
    """The packages of a file that uv wrote."""
    packages: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8")).get("packages", [])
    return packages


def file_name(file: Mapping[str, Any]) -> str:
    """The name of a wheel, source or archive of a package: where the file does not tell it, that of its address."""
    name: str = file.get("name") or unquote(urlsplit(file.get("url") or file["path"]).path).rpartition("/")[2]
    return name


def with_hashes(package: Mapping[str, Any], hashes: set[str] | None, path: str) -> Mapping[str, Any]:
    """The package with only those of its files that have one of the asked hashes; None asks for none."""
    if hashes is None:
        return package
    wheels = [wheel for wheel in package.get("wheels", ()) if wheel.get("hashes", {}).get("sha256") in hashes]
    rest = {key: package[key] for key in ("sdist", "archive") if key in package}
    kept = {key: file for key, file in rest.items() if file.get("hashes", {}).get("sha256") in hashes}
    if not wheels and not kept:
        raise OrchError(
            f"{path} allows {package['name']} only with other hashes than the index has for {package.get('version')}: "
            f"sha256 {', '.join(sorted(hashes))}."
        )
    return {**{key: value for key, value in package.items() if key not in (*rest, "wheels")}, "wheels": wheels, **kept}
