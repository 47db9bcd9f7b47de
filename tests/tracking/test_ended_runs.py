"""What came of a run of `orch run` stands when it has ended: it is what a replay is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_records import finished, write_journal
from tracking.serving import Server, ask, orch_serving

from orchestrator.paths import open_home

API = "/api/2.0/mlflow/"
POINT = {"key": "late", "value": 1.5, "timestamp": 1, "step": 0}
RESULTS: list[tuple[str, dict[str, Any]]] = [
    ("runs/log-metric", POINT),
    ("runs/log-parameter", {"key": "alpha", "value": "other"}),
    ("runs/log-batch", {"metrics": [POINT]}),
    ("runs/log-batch", {"params": [{"key": "new", "value": "1"}]}),
    ("runs/log-inputs", {"datasets": [{"dataset": {"name": "d", "digest": "1", "source_type": "x", "source": "y"}}]}),
    ("runs/log-model", {"model_json": "{}"}),
    ("runs/outputs", {"models": [{"model_id": "m-1", "step": 0}]}),
]


def run_of(server: Server, run_id: str) -> Any:
    return ask(server, "GET", f"{API}runs/get?run_id={run_id}").said["run"]


@pytest.fixture
def run_id(tmp_path: Path) -> str:
    home = open_home({"ORCH_HOME": str(tmp_path / "home")})
    record = finished()
    write_journal(home, record)
    return record.run_id


def test_results_are_refused_and_nothing_of_them_is_taken(run_id: str, tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        before = run_of(server, run_id)
        for call, told in RESULTS:
            reply = ask(server, "POST", API + call, {"run_id": run_id, **told})
            assert (reply.status, reply.said["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), call
            assert "has ended: what came of it stands" in reply.said["message"]
        path = f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/late.txt"
        assert ask(server, "PUT", path, b"late").status == 400
        model = {"experiment_id": "0", "source_run_id": run_id, "name": "late"}
        assert ask(server, "POST", f"{API}logged-models", model).status == 400
        assert run_of(server, run_id) == before


def test_tags_may_be_set(run_id: str, tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        for call, told in (
            ("runs/set-tag", {"key": "found", "value": "later"}),
            ("runs/log-batch", {"tags": [{"key": "and", "value": "more"}]}),
        ):
            assert ask(server, "POST", API + call, {"run_id": run_id, **told}).status == 200
        tags = {tag["key"]: tag["value"] for tag in run_of(server, run_id)["data"]["tags"]}
        assert (tags["found"], tags["and"]) == ("later", "more")
