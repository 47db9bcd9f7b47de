"""What clients tell of models, datasets and metrics is kept whole, once, and without secrets."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from pytest import MonkeyPatch
from tracking.calls import API, START
from tracking.serving import Reply, Server, ask, orch_serving

from orchestrator import ledger
from orchestrator.paths import open_home
from orchestrator.tracking import runs
from orchestrator.tracking.asked import ApiError, Asked
from orchestrator.tracking.tracker import Tracker, flush

SECRETS = ("SECRETX", "SECRETY", "SECRETZ")
TOKEN = "ghp_SECRETZ0123456789abcdef0123456789"
URL = "https://user:SECRETX@data.example/x.csv?version=3&token=SECRETY&part=1"
PUBLIC = "https://data.example/x.csv?version=3&part=1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("logged")
    with orch_serving(folder, "--no-token") as server:
        yield server
        said = (folder / "stderr").read_text(errors="replace")
    assert "Traceback" not in said, said


def post(server: Server, call: str, **body: Any) -> Reply:
    return ask(server, "POST", API + call, body)


def said(reply: Reply) -> Any:
    assert reply.status == 200, reply.body[:500]
    return reply.said


def new_run(server: Server, **more: Any) -> str:
    body = {"experiment_id": "0", "start_time": START, **more}
    return str(said(post(server, "runs/create", **body))["run"]["info"]["run_id"])


def run(server: Server, run_id: str) -> Any:
    return said(ask(server, "GET", f"{API}runs/get?run_id={run_id}"))["run"]


def new_model(server: Server, run_id: str, **more: Any) -> str:
    body = {"experiment_id": "0", "source_run_id": run_id, "name": "m", **more}
    return str(said(post(server, "logged-models", **body))["model"]["info"]["model_id"])


def model(server: Server, model_id: str) -> Any:
    return said(ask(server, "GET", f"{API}logged-models/{model_id}"))["model"]


def history(server: Server, run_id: str, key: str) -> list[Any]:
    events = (server.home / "runs" / run_id / "journal.jsonl").read_text().splitlines()
    points = [point for event in map(json.loads, events) for point in event.get("metrics", ())]
    return [(point["step"], point["value"]) for point in points if point["name"] == key]


# --- no secret is recorded --------------------------------------------------------------------------------------


def test_no_secret_that_a_client_tells_is_recorded(server: Server) -> None:
    pair = [{"key": "k", "value": TOKEN}, {"key": "api_key", "value": "SECRETY"}]
    run_id = new_run(server, run_name=TOKEN, user_id=TOKEN)
    said(post(server, "runs/update", run_id=run_id, run_name=TOKEN))
    dataset = {
        "name": TOKEN,
        "digest": "d",
        "source_type": "http",
        "source": json.dumps({"url": URL}),
        "schema": json.dumps({"of": URL}),
        "profile": f"read from {URL}, with {TOKEN}",
    }
    said(post(server, "runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset, "tags": pair}]))
    model_id = new_model(server, run_id, name=TOKEN, model_type=TOKEN, params=pair, tags=pair)
    place = f"logged-models/{model_id}"
    said(ask(server, "PATCH", f"{API}{place}/tags", {"tags": [{"key": "t", "value": TOKEN}]}))
    said(post(server, f"{place}/params", params=[{"key": "p", "value": TOKEN}]))
    measured = {"key": "r", "value": 1, "timestamp": 1, "model_id": model_id, "dataset_name": TOKEN}
    said(post(server, "runs/log-metric", run_id=run_id, dataset_digest="d", **measured))
    told = {"run_id": run_id, "artifact_path": "model", "utc_time_created": "x", "flavors": {}}
    said(post(server, "runs/log-model", run_id=run_id, model_json=json.dumps({**told, "metadata": {"of": URL}})))
    said(post(server, "runs/log-model", run_id=run_id, model_json=json.dumps({**told, "metadata": {"of": TOKEN}})))
    found = run(server, run_id)
    (seen,) = found["inputs"]["dataset_inputs"]
    assert json.loads(seen["dataset"]["source"]) == {"url": PUBLIC}
    assert json.loads(seen["dataset"]["schema"]) == {"of": PUBLIC}
    assert {"key": "k", "value": ""} in seen["tags"]
    assert {"key": "p", "value": ""} in model(server, model_id)["data"]["params"]
    (kept,) = json.loads({tag["key"]: tag["value"] for tag in found["data"]["tags"]}["mlflow.log-model.history"])
    assert kept == {**told, "metadata": {"of": PUBLIC}}
    files = [path.read_bytes() for path in server.home.rglob("*") if path.is_file()]
    answers = json.dumps([found, model(server, model_id)])
    for secret in SECRETS:
        assert secret not in answers
        assert not [True for file in files if secret.encode() in file]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("https://ada:SECRETX@h.example:8080/a/b@v1", "https://h.example:8080/a/b@v1"),
        ("https://SECRETX@h.example/a", "https://h.example/a"),
        ("HTTPS://ada:SECR/ETX@h.example/a", "HTTPS://h.example/a"),
        ("https://h.example:8080/a@v1?x=1", "https://h.example:8080/a@v1?x=1"),
        ("https://[::1]:80/a@v1", "https://[::1]:80/a@v1"),
        ("s3://bucket/key@v1?versionId=7", "s3://bucket/key@v1?versionId=7"),
        ("abfss://files@account.example/a", "abfss://files@account.example/a"),
        ("ssh://git@h.example/a", "ssh://git@h.example/a"),
        ("ssh://git:SECRETX@h.example/a", "ssh://h.example/a"),
        ("https://h.example/a?X-Amz-Credential=SECRETX&X-Amz-Signature=SECRETY", "https://h.example/a"),
        ("https://h.example/a?sig=SECRETX&sv=2&api_key=SECRETY#part", "https://h.example/a?sv=2#part"),
        ("https://h.example/a#access_token=SECRETX&state=1", "https://h.example/a#state=1"),
        ("jdbc:postgresql://h.example/db?user=ada&password=SECRETX", "jdbc:postgresql://h.example/db?user=ada"),
        ("https://ada:SEC?RETX@h.example/a", ""),
        ("{'of': 'https://ada:SECRETX@h.example/a', 'n': 1}", "{'of': 'https://h.example/a', 'n': 1}"),
        ("no URL: ada@h.example ?token", "no URL: ada@h.example ?token"),
    ],
)
def test_the_source_of_a_dataset_has_the_public_parts_of_urls(told: str, kept: str, server: Server) -> None:
    run_id = new_run(server)
    dataset = {"name": "n", "digest": "d", "source_type": "http", "source": told}
    said(post(server, "runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset}]))
    (seen,) = run(server, run_id)["inputs"]["dataset_inputs"]
    assert seen["dataset"]["source"] == kept


def test_a_long_profile_takes_time_by_its_length_only(server: Server) -> None:
    run_id = new_run(server)
    for text in ("a" * 2**20, "://" * 350_000, "://a:" * 200_000, "https://h/?" + "a=b&" * 250_000, "?#" * 500_000):
        dataset = {"name": text[:9], "digest": "d", "source_type": "x", "source": "x", "profile": text}
        begin = time.monotonic()
        said(post(server, "runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset}]))
        assert time.monotonic() - begin < 5


# --- metrics of models ------------------------------------------------------------------------------------------


def test_a_metric_of_a_model_that_another_run_made_is_the_models(server: Server) -> None:
    """As an evaluation logs it."""
    made, evaluation = new_run(server), new_run(server)
    model_id = new_model(server, made)
    point = {"key": "auc", "value": 0.5, "timestamp": START, "step": 1, "model_id": model_id}
    said(post(server, "runs/log-batch", run_id=evaluation, metrics=[point]))
    (measured,) = model(server, model_id)["data"]["metrics"]
    assert (measured["key"], measured["value"], measured["step"]) == ("auc", 0.5, 1)
    assert history(server, evaluation, "auc") == [(1, 0.5)]
    assert history(server, made, "auc") == []


@pytest.mark.parametrize("call", ["runs/log-metric", "runs/log-batch"])
def test_a_metric_of_a_model_that_there_is_not_is_refused_and_nothing_is_taken(call: str, server: Server) -> None:
    run_id = new_run(server)
    point = {"key": "auc", "value": 0.5, "timestamp": START, "model_id": "m-" + "0" * 32}
    body = point if call == "runs/log-metric" else {"metrics": [point], "params": [{"key": "p", "value": "1"}]}
    reply = post(server, call, run_id=run_id, **body)
    assert (reply.status, reply.said["error_code"]) == (400, "BAD_REQUEST")
    assert not {"metrics", "params"} & run(server, run_id)["data"].keys()


def test_a_program_measures_no_model_of_a_run_that_is_not_its_own(server: Server, monkeypatch: MonkeyPatch) -> None:
    """`PERMISSION_DENIED` as for runs; and nothing is taken of the rest of the batch."""
    monkeypatch.setenv("ORCH_HOME", str(server.home))
    own, other = new_run(server), new_run(server)
    point = {"key": "auc", "value": 0.5, "timestamp": START, "model_id": new_model(server, other)}
    batch = {"run_id": own, "metrics": [point], "params": [{"key": "p", "value": "1"}]}
    home = open_home()
    with closing(ledger.connect(home)) as connection:
        in_run = Tracker(home, connection, own=own)
        with pytest.raises(ApiError) as refused:
            runs.log_batch(in_run, Asked(batch))
        own_model = new_model(server, own)
        runs.log_metric(in_run, Asked({"run_id": own, **point, "model_id": own_model}))
        flush(in_run)
    assert refused.value.status == 403
    assert "params" not in run(server, own)["data"]
    assert history(server, own, "auc") == [(0, 0.5)]
    assert "metrics" not in model(server, point["model_id"])["data"]
    assert len(model(server, own_model)["data"]["metrics"]) == 1


def test_points_that_come_again_for_a_model_are_the_runs_once(server: Server) -> None:
    """MLflow 3's log_model sends the metrics of its run again, with an infinity as it got it in an answer."""
    run_id = new_run(server)
    points: list[dict[str, Any]] = [
        {"key": "a", "value": 0.5, "timestamp": START, "step": 1},
        {"key": "a", "value": 0.25, "timestamp": START, "step": 2},
        {"key": "inf", "value": "-Infinity", "timestamp": START, "step": 0},
        {"key": "nan", "value": "NaN", "timestamp": START, "step": 0},
    ]
    said(post(server, "runs/log-batch", run_id=run_id, metrics=points))
    model_id = new_model(server, run_id)
    seen = run(server, run_id)["data"]["metrics"]
    for _ in range(2):  # also when the first were just taken
        said(post(server, "runs/log-batch", run_id=run_id, metrics=[{**p, "model_id": model_id} for p in seen]))
    said(post(server, "runs/log-metric", run_id=run_id, model_id=model_id, **points[0]))  # not the last one of it
    new = {"key": "a", "value": 0.25, "timestamp": START + 1, "step": 2, "model_id": model_id}
    said(post(server, "runs/log-batch", run_id=run_id, metrics=[new, {**new, "step": 0}]))
    assert history(server, run_id, "a") == [(1, 0.5), (2, 0.25), (2, 0.25), (0, 0.25)]
    assert history(server, run_id, "inf") == [(0, "-Infinity")]
    assert history(server, run_id, "nan") == [(0, "NaN")]
    measured = {m["key"]: (m["value"], m["step"]) for m in model(server, model_id)["data"]["metrics"]}
    assert measured == {"a": (0.25, 2), "inf": (-math.nextafter(math.inf, 0), 0), "nan": ("NaN", 0)}


def test_points_without_a_model_are_taken_as_they_come(server: Server) -> None:
    run_id = new_run(server)
    for _ in range(2):
        said(post(server, "runs/log-metric", run_id=run_id, key="a", value=1, timestamp=START))
    assert history(server, run_id, "a") == [(0, 1), (0, 1)]


# --- what is refused --------------------------------------------------------------------------------------------


def test_a_batch_with_another_parent_is_refused_whole(server: Server) -> None:
    run_id = new_run(server)
    tags = [{"key": "mlflow.parentRunId", "value": "0" * 32}, {"key": "t", "value": "1"}]
    reply = post(server, "runs/log-batch", run_id=run_id, params=[{"key": "p", "value": "1"}], tags=tags)
    assert reply.status == 400
    data = run(server, run_id)["data"]
    assert "params" not in data
    assert "t" not in {tag["key"] for tag in data["tags"]}


@pytest.mark.parametrize("dataset", ["x", 5, ["x"]])
def test_a_dataset_that_is_no_object_is_refused(dataset: Any, server: Server) -> None:
    reply = post(server, "runs/log-inputs", run_id=new_run(server), datasets=[{"dataset": dataset}])
    assert (reply.status, reply.said["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "datasets[0].dataset" in reply.said["message"]


@pytest.mark.parametrize("call", ["runs/search", "experiments/search", "logged-models/search"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tags.x = '" + "a" * 100_000 + "'", "a filter has at most 100000 characters"),
        ("tags.x LIKE '" + "%a" * 251 + "'", "a pattern has at most 500 characters"),
    ],
)
def test_a_filter_without_measure_is_refused(call: str, text: str, told: str, server: Server) -> None:
    reply = post(server, call, filter=text, experiment_ids=["0"])
    assert reply.status == 400
    assert told in reply.said["message"]
    assert len(reply.body) < 1000


# --- many of them -----------------------------------------------------------------------------------------------


def test_models_of_many_runs_are_found_without_reading_their_journals(server: Server) -> None:
    """More runs than the server holds in memory; a journal that is gone tells whether one is read."""
    name = f"many-{time.monotonic_ns()}"
    experiment = said(post(server, "experiments/create", name=name))["experiment_id"]
    made = {}
    for number in range(300):
        run_id = new_run(server, experiment_id=experiment)
        point = {"key": "auc", "value": number, "timestamp": START}
        tags = [{"key": "n", "value": str(number)}]
        model_id = new_model(server, run_id, experiment_id=experiment, tags=tags)
        said(post(server, "runs/log-metric", run_id=run_id, model_id=model_id, **point))
        made[run_id] = model_id
    found = said(post(server, "logged-models/search", experiment_ids=[experiment], filter="metrics.auc < 2"))["models"]
    assert [item["info"]["model_id"] for item in found] == [*made.values()][1::-1]
    assert [item["info"]["source_run_id"] for item in found] == [*made][1::-1]
    assert {item["info"]["experiment_id"] for item in found} == {experiment}
    assert found[0]["info"]["tags"] == [{"key": "n", "value": "1"}]
    first = server.home / "runs" / next(iter(made)) / "journal.jsonl"
    first.rename(first.with_suffix(".away"))
    again = said(post(server, "logged-models/search", experiment_ids=[experiment], filter="metrics.auc < 2"))["models"]
    assert again == found
    first.with_suffix(".away").rename(first)
