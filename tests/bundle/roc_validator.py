"""Asks roc-validator about crates, without network. Run by the Python of an environment of its own:

    python roc_validator.py CONTEXT CRATE...

CONTEXT is the JSON-LD context of RO-Crate 1.1, which the validator would fetch. Prints a JSON list: for each CRATE (a
folder) what it finds wrong at the required and the recommended level: `[[check, message], ...]`.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from requests.adapters import BaseAdapter, HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator import models, services
from urllib3.response import HTTPResponse

CONTEXT = "https://w3id.org/ro/crate/1.1/context"


class Answer(BaseAdapter):
    """Answers every request with one document."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    def send(self, request: Any, **_: Any) -> Any:
        raw = HTTPResponse(
            body=io.BytesIO(self.body),
            status=200,
            preload_content=False,
            headers={"Content-Type": "application/ld+json"},
            request_method="GET",
            request_url=request.url,
        )
        return HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        pass


def main(context: Path, crates: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "contexts"
        session = CachedSession(str(cache), backend="sqlite", expire_after=-1, allowable_methods=("GET",))
        session.mount("https://", Answer(context.read_bytes()))
        session.get(CONTEXT, headers={"Accept": "application/ld+json, application/json"})
        session.close()
        print(json.dumps([issues(crate, cache) for crate in crates]))


def issues(crate: Path, cache: Path) -> list[list[str]]:
    settings = services.ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier="process-run-crate",
        requirement_severity=models.Severity.RECOMMENDED,
        offline=True,
        cache_path=str(cache),
    )
    found = services.validate(settings).get_issues()
    return [[issue.check.identifier, str(issue.message)] for issue in found]


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
