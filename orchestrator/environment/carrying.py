"""The job `carried`: the `conda-lock.yml` of locks that a bundle carries. Runs in the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.environment.export import locks as formats
from orchestrator.paths import Home
from orchestrator.report import Report


def work(job: Mapping[str, Any], *, home: Home, report: Report) -> dict[str, Any]:
    """`{texts}`: one file by lock id, of the locks (one for each platform) that `job["locks"]` has by lock id."""
    texts = {}
    for lock_id, some in job["locks"].items():
        texts[lock_id] = formats.work({"format": "conda-lock", "locks": some}, home=home, report=report)["text"]
    return {"texts": texts}
