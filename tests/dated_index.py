"""A package index over HTTP that tells when its files were uploaded (PEP 691, PEP 700)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from made_index import answered


@contextmanager
def dated_index(folder: Path, day: Callable[[str], str]) -> Iterator[str]:
    """The URL of an index of the wheels in `folder`; `day` says by file name when each was uploaded."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").rpartition("/")[2]
            files = [
                {
                    "filename": path.name,
                    "url": path.as_uri(),
                    "hashes": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
                    "upload-time": f"{day(path.name)}T10:00:00.000000Z",
                }
                for path in folder.glob(f"{name.replace('-', '_')}-*.whl")
            ]
            meta = {"meta": {"api-version": "1.1"}, "name": name, "versions": []}
            body = json.dumps({**meta, "files": files}).encode()
            self.send_response(200 if files else 404)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with answered(Api) as url:
        yield f"{url}/simple"
