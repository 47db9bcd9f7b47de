"""A package index in a folder, and projects that build themselves without any build tool from a network."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# A build backend (PEP 517) that lives in the project itself and needs nothing.
BACKEND = """
import os, tomllib, zipfile
from pathlib import Path

def _project():
    return tomllib.loads(Path("pyproject.toml").read_text())["project"]

def _metadata(project):
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"]
    return "\\n".join(lines + [f"Requires-Dist: {r}" for r in project.get("dependencies", [])]) + "\\n"

def build_wheel(directory, config_settings=None, metadata_directory=None):
    project = _project()
    stem = f"{project['name']}-{project['version']}"
    name = f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory) / name, "w") as wheel:
        def put(path, text):
            wheel.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
        for path in sorted(Path("src").rglob("*.py")):
            put(path.relative_to("src").as_posix(), path.read_bytes())
        put(f"{stem}.dist-info/METADATA", _metadata(project))
        put(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        put(f"{stem}.dist-info/RECORD", "")
    return name

def build_sdist(directory, config_settings=None):
    raise NotImplementedError
"""


def project_files(name: str, version: str = "1.0", requires: Sequence[str] = ()) -> dict[str, str]:
    """The files of a project with one module, of the src layout."""
    return {
        "pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = {list(requires)!r}\n'
        ),
        "backend.py": BACKEND,
        f"src/{name}/__init__.py": f"VERSION = '{version}'\n",
    }


@dataclass
class Index:
    """An index (PEP 503) in a folder: `simple/` has the pages, `files/` the archives."""

    folder: Path

    @property
    def url(self) -> str:
        return (self.folder / "simple").as_uri()

    def wheel(self, name: str, version: str, requires: Sequence[str] = (), tag: str = "py3-none-any") -> str:
        """Add a wheel; its sha256 is returned."""
        metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
        stem = f"{name.replace('-', '_')}-{version}"
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for path, text in (
                (f"{name.replace('-', '_')}.py", f"VERSION = '{version}'\n"),
                (f"{stem}.dist-info/METADATA", "\n".join(["Metadata-Version: 2.1", *metadata, ""])),
                (f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"),
                (f"{stem}.dist-info/RECORD", ""),
            ):
                archive.writestr(zipfile.ZipInfo(path), text)
        return self._add(name, f"{stem}-{tag}.whl", data.getvalue())

    def source(self, name: str, version: str, requires: Sequence[str] = ()) -> str:
        """Add a source archive; its sha256 is returned."""
        data = io.BytesIO()
        files = project_files(name, version, requires)
        files["PKG-INFO"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            for path, text in files.items():
                info = tarfile.TarInfo(f"{name}-{version}/{path}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        return self._add(name, f"{name}-{version}.tar.gz", data.getvalue())

    def _add(self, name: str, file_name: str, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        for folder in (self.folder / "files", self.folder / "simple" / name):
            folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "files" / file_name).write_bytes(data)
        page = self.folder / "simple" / name / "index.html"
        links = page.read_text() if page.exists() else "<!DOCTYPE html>\n"
        page.write_text(f'{links}<a href="../../files/{file_name}#sha256={digest}">{file_name}</a><br>\n')
        return digest


@contextmanager
def served(folder: Path, *, credentials: str = "", asked: list[str] | None = None) -> Iterator[str]:
    """The URL of a server on loopback that has the files of `folder`.

    It gives them to who sends the `credentials` (`name:password`) only; to `asked` it adds the paths that it gave.
    """
    wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else None

    class Files(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if wanted and self.headers.get("Authorization") != wanted:
                self.send_error(401)
                return
            if asked is not None:
                asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None: ...

    with answered(functools.partial(Files, directory=str(folder))) as url:
        yield url


@contextmanager
def answered(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a server on loopback whose requests `handler` answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
