"""The answers of `orch server` are those of MLflow's own server, field by field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tracking.calls import (
    ARTIFACTS,
    START,
    Call,
    delete,
    experiment,
    fetch,
    get,
    listed,
    param,
    post,
    put,
    run,
    seen,
    tag,
)
from tracking.calls_artifacts import FILES
from tracking.calls_experiments import EXPERIMENTS
from tracking.calls_models import DATASETS, LOGGED_MODELS
from tracking.calls_refused import MADE, REFUSED, STATE
from tracking.calls_runs import RUNS
from tracking.calls_searches import SEARCHES
from tracking.conversation import Conversation, differences

Url = Callable[[str], str]

BOTH = {**EXPERIMENTS, **RUNS, **FILES, **DATASETS, **SEARCHES}
SEQUENCES = {**BOTH, **LOGGED_MODELS}

TRACES_AND_PARTS = [
    get("/version"),
    get("/api/3.0/mlflow/server-info"),
    post("traces", {"experiment_id": "0", "timestamp_ms": START, "request_metadata": [], "tags": []}),
    get("traces", experiment_ids="0", max_results=100),
    post("/api/3.0/mlflow/traces", {"trace": {"trace_info": {"trace_id": "tr-0"}}}),
    post("/api/3.0/mlflow/traces/search", {"locations": []}),
    get("/api/3.0/mlflow/traces/batchGet", trace_ids="tr-0"),
    post("/v1/traces", b"\x0a\x00"),
    *(post(f"/api/2.0/mlflow-artifacts/mpu/{part}/0/x", {"path": "x"}) for part in ("create", "complete", "abort")),
]


@pytest.mark.parametrize("name", SEQUENCES)
def test_answers_as_mlflow_3_does(name: str, orch_server: str, real_server: Url) -> None:
    assert_same(SEQUENCES[name], orch_server, real_server("3"), "3")


@pytest.mark.parametrize("name", BOTH)
def test_answers_as_mlflow_2_does(name: str, orch_server: str, real_server: Url) -> None:
    assert_same(BOTH[name], orch_server, real_server("2"), "2")


@pytest.mark.parametrize("name", ["metrics", "a logged model from its beginning to its end", "runs are found in pages"])
def test_a_server_answers_as_itself(name: str, real_server: Url) -> None:
    """Nothing of what is compared tells one conversation with a server from another."""
    assert_same(SEQUENCES[name], real_server("3"), real_server("3"), "3")


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_says_nothing_and_changes_nothing(name: str, orch_server: str) -> None:
    conversation = Conversation(orch_server)
    assert [answer.status for answer in conversation.answers(MADE)] == [200] * len(MADE)
    before = conversation.answers(STATE)
    answers = conversation.answers(REFUSED[name])
    wrong = [
        f"{call.method} {call.path} {str(call.query or call.body)[:300]}: {answer}"
        for call, answer in zip(REFUSED[name], answers, strict=True)
        if not (400 <= answer.status < 500 and answer.kind == "JSON" and answer.content["error_code"])
    ]
    assert not wrong, "\n".join(wrong)
    assert conversation.answers(STATE) == before


def test_names_that_mlflow_loses_or_refuses_are_kept_apart(orch_server: str) -> None:
    """MLflow's clients write `?` as it is; MLflow's server keeps both files as `q`, and refuses a `#`."""
    names = ("q?1.txt", "q?2.txt", "hash%231.txt", "hash%232.txt", "folder%20%23/x.txt")
    calls = [experiment(), run(), *(put(name, name.encode()) for name in names), listed(), listed("/folder #")]
    answers = Conversation(orch_server).answers([*calls, *(fetch(name) for name in names)])
    assert [file["path"] for file in answers[-7].content["files"]] == [
        "folder #",
        "hash#1.txt",
        "hash#2.txt",
        "q?1.txt",
        "q?2.txt",
    ]
    assert [file["path"] for file in answers[-6].content["files"]] == ["x.txt"]
    assert [answer.content for answer in answers[-5:]] == [*names]


def test_long_values_are_kept_whole(orch_server: str) -> None:
    calls = [experiment(), run(), param("p", "v" * 6001), tag("t", "v" * 8001), seen()]
    said = Conversation(orch_server).answers(calls)[-1].content["run"]["data"]
    assert said["params"] == [{"key": "p", "value": "v" * 6001}]
    assert {"key": "t", "value": "v" * 8001} in said["tags"]


def test_no_artifact_is_taken_away_alone(orch_server: str) -> None:
    file = f"{ARTIFACTS}/{{exp}}/{{run}}/artifacts/a.txt"
    *_, refused, kept = Conversation(orch_server).answers(
        [experiment(), run(), put("a.txt", b"alpha"), delete(file), fetch("a.txt")]
    )
    assert (refused.status, refused.content) == (400, {"error_code": "INVALID_PARAMETER_VALUE"})
    assert kept.content == "alpha"


def test_a_model_that_no_run_makes_has_a_run_of_its_own(orch_server: str) -> None:
    """MLflow keeps such models beside runs. Here files are outputs of a run, and lists of runs find them."""
    file = f"{ARTIFACTS}/{{exp}}/models/{{model}}/artifacts/MLmodel"
    _, made, _, run_of_it, listed_there, got = Conversation(orch_server).answers(
        [
            experiment(),
            post(
                "logged-models",
                {"experiment_id": "{exp}", "name": "alone"},
                keep={"model": "model.info.model_id", "run": "model.info.source_run_id"},
            ),
            Call("PUT", file, body=b"flavors: {}\n"),
            seen(),
            get("logged-models/{model}/artifacts/directories"),
            Call("GET", file),
        ]
    )
    info = run_of_it.content["run"]["info"]
    assert (info["run_name"], info["status"], info["experiment_id"]) == ("alone", "FINISHED", "experiment 1")
    assert made.content["model"]["info"]["source_run_id"] == info["run_id"]
    assert [file["path"] for file in listed_there.content["files"]] == ["MLmodel"]
    assert got.content == "flavors: {}\n"


@pytest.mark.parametrize("call", TRACES_AND_PARTS, ids=lambda call: f"{call.method} {call.path}")
def test_what_there_is_not_is_answered_so_that_a_client_goes_on(call: Call, orch_server: str) -> None:
    """Clients repeat a call for minutes after 408, 429 and most of 5xx."""
    (answer,) = Conversation(orch_server).answers([call])
    assert answer.status == 501 or 400 <= answer.status < 408 or answer.status == 200


def assert_same(calls: list[Call], ours: str, theirs: str, generation: str) -> None:
    answers = Conversation(ours).answers(calls)
    expected = Conversation(theirs).answers(calls)
    found = [
        f"{call.method} {call.path} {str(call.query or call.body)[:300]}\n    {line}"
        for call, answer, wanted in zip(calls, answers, expected, strict=True)
        if call.only in (None, generation) and not call.unlike
        # What MLflow says in HTML is for no client: the status counts.
        for line in differences(answer, wanted if wanted.kind != "a page" else replace(answer, status=wanted.status))
    ]
    assert not found, "\n".join(found)
