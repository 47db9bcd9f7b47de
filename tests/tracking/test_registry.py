"""The model registry answers as MLflow's own does, loses nothing, and lets no run change what is not its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from tracking.calls import API, ARTIFACTS, Call, delete, experiment, get, pairs, post, run
from tracking.calls_registry import OF_LOGGED_MODELS, REGISTERED, model, of_version, seen, uri, version
from tracking.conversation import Conversation
from tracking.serving import ORCH, Reply, Server, ask, environ_of, orch_serving
from tracking.test_like_mlflow import assert_same

from orchestrator.model import RunRecord, new_run_id
from orchestrator.paths import open_home
from orchestrator.tracking.followed import begin

Url = Callable[[str], str]


# --- as MLflow does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*REGISTERED, *OF_LOGGED_MODELS])
def test_answers_as_mlflow_3_does(name: str, orch_server: str, real_server: Url) -> None:
    assert_same({**REGISTERED, **OF_LOGGED_MODELS}[name], orch_server, real_server("3"), "3")


@pytest.mark.parametrize("name", REGISTERED)
def test_answers_as_mlflow_2_does(name: str, orch_server: str, real_server: Url) -> None:
    assert_same(REGISTERED[name], orch_server, real_server("2"), "2")


_MADE = [experiment(), run(), model()]
_LOGGED = post(
    "logged-models",
    {"experiment_id": "{exp}", "name": "logged", "source_run_id": "{run}"},
    keep={"model": "model.info.model_id"},
)


@pytest.mark.parametrize(
    "call",
    [
        get("registered-models/search", order_by=["name", "name"]),
        get("registered-models/search", max_results=0),
        get("registered-models/search", max_results=-1),
        get("model-versions/search", order_by=["name", "name DESC"]),
        of_version("transition-stage", stage="Archived", archive_existing_versions=True),
        version(source="models:/m-" + "0" * 32),
        version(source="file://elsewhere/etc"),
        version(source="http://["),
        version(source="https://ada:secret@localhost/model"),
        version(source="s3://bucket/" + "x" * 5000),
        version(source="%25" * 1500),
        model("n" * 257),
        model("long", description="d" * 100_001),
        post("registered-models/set-tag", {"name": "m-{salt}", "key": "k", "value": "v" * 100_001}),
        post("registered-models/no-such-call", {"name": "m-{salt}"}),
        Call("DELETE", "model-versions/create", body={"name": "m-{salt}"}),
    ],
    ids=lambda call: f"{call.method} {call.path} {str(call.query or call.body)[:60]}",
)
def test_refuses_what_mlflow_fails_at(call: Call, orch_server: str) -> None:
    """With a 500, which makes a client try again for minutes, or not before its database does."""
    conversation = Conversation(orch_server)
    *_, before = conversation.answers([*_MADE, version(), seen()])
    answer, after = conversation.answers([call, seen()])
    assert 400 <= answer.status < 500 and answer.content["error_code"], answer
    assert after == before


def test_a_source_that_names_its_run_needs_no_run_beside_it(orch_server: str) -> None:
    """MLflow 3 refuses it, MLflow 2 does not know the run then."""
    calls = [
        *_MADE,
        _LOGGED,
        post("model-versions/create", {"name": "m-{salt}", "source": "runs:/{run}/model"}),
        post("model-versions/create", {"name": "m-{salt}", "source": "models:/{model}"}),
        post("model-versions/create", {"name": "m-{salt}", "source": "mlflow-artifacts:/{exp}/{run}/artifacts/model"}),
    ]
    made = Conversation(orch_server).answers(calls)[4:]
    assert [answer.status for answer in made] == [200] * 3
    assert {answer.content["model_version"]["run_id"] for answer in made} == {"id 1"}


def test_prompts_are_refused_and_secrets_are_not_kept(orch_server: str) -> None:
    prompt = pairs(**{"mlflow.prompt.is_prompt": "true"})
    refused, tagged, _, _, shown = Conversation(orch_server).answers(
        [
            model("prompt-{salt}", tags=prompt),
            post("registered-models/set-tag", {"name": "any", **prompt[0]}),
            model(),
            post("registered-models/set-tag", {"name": "m-{salt}", "key": "api_token", "value": "abc"}),
            seen(),
        ]
    )
    assert [answer.content["error_code"] for answer in (refused, tagged)] == ["FEATURE_DISABLED"] * 2
    assert shown.content["registered_model"]["tags"] == [{"key": "api_token", "value": ""}]


# --- nothing is lost --------------------------------------------------------------------------------------------


def call(server: Server, method: str, what: str, body: Any = None) -> Reply:
    return ask(server, method, API + what, body)


def said(server: Server, method: str, what: str, body: Any = None) -> Any:
    reply = call(server, method, what, body)
    assert reply.status == 200, reply.said
    return reply.said


def named(server: Server, name: str) -> Any:
    return said(server, "GET", f"registered-models/get?name={name}")["registered_model"]


def numbers(server: Server, name: str) -> list[int]:
    found = said(server, "GET", f"model-versions/search?filter=name%3D'{name}'")
    return sorted(int(one["version"]) for one in found.get("model_versions", []))


def register(server: Server, name: str, source: str = "s3://bucket/model", **more: Any) -> int:
    made = said(server, "POST", "model-versions/create", {"name": name, "source": source, **more})
    return int(made["model_version"]["version"])


def test_who_register_at_once_get_different_numbers(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    home = tmp_path / "home"
    with orch_serving(folders[0], home=home) as one, orch_serving(folders[1], home=home) as two:
        with ThreadPoolExecutor(8) as clients:
            made = [
                *clients.map(
                    lambda n: call((one, two)[n % 2], "POST", "registered-models/create", {"name": "m"}).status,
                    range(8),
                )
            ]
            given = [*clients.map(lambda n: register((one, two)[n % 2], "m"), range(60))]
        assert sorted(made) == [200] + [400] * 7
        assert sorted(given) == [*range(1, 61)]
        assert numbers(one, "m") == numbers(two, "m") == [*range(1, 61)]


def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    done: list[int] = []

    def many(server: Server) -> None:
        try:
            while True:
                done.append(register(server, "m"))
        except (OSError, HTTPException, AssertionError):
            return  # it was killed

    for round_ in range(3):
        folder = tmp_path / str(round_)
        folder.mkdir()
        with orch_serving(folder, home=tmp_path / "home") as server:
            if round_ == 0:
                said(server, "POST", "registered-models/create", {"name": "m"})
            assert {*done} <= {*numbers(server, "m")}
            before = len(done)
            with ThreadPoolExecutor(4) as clients:
                for _ in range(4):
                    clients.submit(many, server)
                deadline = time.monotonic() + 20
                while len(done) < before + 15 and time.monotonic() < deadline:
                    time.sleep(0.001)
                os.kill(server.process.pid, signal.SIGKILL)
    with orch_serving(tmp_path / "0", home=tmp_path / "home") as server:
        assert {*done} <= {*numbers(server, "m")}
        assert len(done) == len({*done}) >= 45
        assert register(server, "m") == max(numbers(server, "m")[:-1]) + 1


def test_a_line_that_cannot_be_read_takes_along_only_what_it_told(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        for name in ("a", "b"):
            said(server, "POST", "registered-models/create", {"name": name})
        assert [register(server, name) for name in ("a", "a", "b")] == [1, 2, 1]
        said(server, "POST", "registered-models/alias", {"name": "a", "alias": "best", "version": "1"})
        journal = server.home / "registry.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        assert len(lines) == 6
        strange = ['{"event": "model"}\n', '{"event": "model", "model": {"tags": 5}, "gone": []}\n', "[]\n", "\xff{\n"]
        # The line that makes `b`, the first version of `a`, and what a killed writer left.
        journal.write_text("".join([lines[0], "{broken\n", "\n", *lines[3:], *strange, lines[2][:50]]))
        assert numbers(server, "a") == [2]
        assert named(server, "a")["aliases"] == [{"alias": "best", "version": "1"}]
        assert numbers(server, "b") == [1]
        assert call(server, "GET", "registered-models/alias?name=a&alias=best").status == 400
        assert register(server, "a") == 3
        assert register(server, "b") == 2
        assert numbers(server, "a") == [2, 3]


def test_a_journal_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        (server.home / "registry.jsonl").mkdir()
        for reply in (
            call(server, "GET", "registered-models/search"),
            call(server, "POST", "registered-models/create", {"name": "m"}),
        ):
            assert reply.status == 400
            assert "registry.jsonl" in reply.said["message"]


def test_a_version_whose_run_was_removed_says_so(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as server:
        said(server, "POST", "registered-models/create", {"name": "m"})
        gone, kept = (logged_model(server) for _ in range(2))
        for one in (gone, kept):
            register(server, "m", one.source)
            register(server, "m", f"mlflow-artifacts:/0/{one.run_id}/artifacts/x", run_id=one.run_id)
            register(server, "m", f"runs:/{one.run_id}/x", run_id=one.run_id)
            said(server, "POST", "runs/update", {"run_id": one.run_id, "status": "FINISHED"})
        subprocess.run([ORCH, "rm", gone.run_id], env=environ_of(tmp_path), check=True, capture_output=True)
        replies = [call(server, "GET", f"model-versions/get-download-uri?name=m&version={n}") for n in range(1, 7)]
        assert [reply.status for reply in replies] == [404] * 3 + [200] * 3
        for reply in replies[:3]:
            assert reply.said["error_code"] == "RESOURCE_DOES_NOT_EXIST"
            assert gone.run_id in reply.said["message"]
        assert numbers(server, "m") == [1, 2, 3, 4, 5, 6]


# --- in a run ---------------------------------------------------------------------------------------------------


class Logged:
    """A run and a model that it logged."""

    def __init__(self, run_id: str, model_id: str) -> None:
        self.run_id, self.source = run_id, f"models:/{model_id}"


def logged_model(server: Server, run_id: str | None = None, **run: Any) -> Logged:
    if run_id is None:
        run_id = said(server, "POST", "runs/create", {"experiment_id": "0", **run})["run"]["info"]["run_id"]
    told = {"experiment_id": "0", "name": "model", "source_run_id": run_id}
    info = said(server, "POST", "logged-models", told)["model"]["info"]
    place = f"{ARTIFACTS}/0/models/{info['model_id']}/artifacts/MLmodel"
    assert ask(server, "PUT", place, f"of {run_id}".encode()).status == 200
    return Logged(run_id, info["model_id"])


@contextmanager
def server_of(run_id: str, outside: Server) -> Iterator[Server]:
    """The server of a run, as its supervisor starts it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator.tracking.kept", str(listener.fileno())],
            env=environ_of(outside.folder),
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
        )
        port = listener.getsockname()[1]
    assert process.stdin is not None
    about = {"run_id": run_id, "token": "t", "may_move": False, "may_name": False}
    process.stdin.write(json.dumps(about).encode() + b"\n")
    process.stdin.flush()
    try:
        yield Server(port, "t", outside.folder, process)
    finally:
        with process.stdin:
            process.stdin.write(b"end\n")
        assert process.wait(20) == 0


def test_a_run_registers_its_own_models_and_changes_no_others(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as outside:
        other = logged_model(outside)
        run_id = said(outside, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
        for name in ("shared", "others"):
            said(outside, "POST", "registered-models/create", {"name": name})
            assert register(outside, name, other.source) == 1
        said(outside, "POST", "registered-models/alias", {"name": "shared", "alias": "best", "version": "1"})
        with server_of(run_id, outside) as inside:
            own = logged_model(inside, run_id)
            child = logged_model(inside, tags=[{"key": "mlflow.parentRunId", "value": run_id}])
            assert register(inside, "shared", own.source) == 2
            assert register(inside, "shared", child.source, tags=pairs(a="b")) == 3
            said(inside, "POST", "registered-models/create", {"name": "own"})
            assert register(inside, "own", f"runs:/{run_id}/model") == 1
            two, third = {"name": "shared", "version": "2"}, {"name": "shared", "version": "3"}
            said(inside, "POST", "registered-models/alias", {**two, "alias": "best"})
            said(inside, "POST", "model-versions/set-tag", {**third, "key": "k", "value": "v"})
            said(inside, "POST", "model-versions/transition-stage", {**two, "stage": "Staging"})
            said(inside, "PATCH", "registered-models/update", {"name": "shared", "description": "d"})
            said(inside, "POST", "registered-models/rename", {"name": "own", "new_name": "own one"})
            first = {"name": "shared", "version": "1"}
            before = (outside.home / "registry.jsonl").read_bytes()
            for method, what, body in (
                ("POST", "model-versions/create", {"name": "shared", "source": other.source}),
                ("POST", "model-versions/create", {"name": "shared", "source": other.source, "run_id": run_id}),
                ("POST", "model-versions/create", {"name": "shared", "source": f"runs:/{other.run_id}/model"}),
                ("POST", "model-versions/create", {"name": "shared", "source": "models:/shared/1"}),
                ("POST", "model-versions/create", {"name": "shared", "source": "s3://bucket/model"}),
                ("POST", "registered-models/alias", {**first, "alias": "best"}),
                ("POST", "model-versions/set-tag", {**first, "key": "k", "value": "v"}),
                ("DELETE", "model-versions/delete-tag", {**first, "key": "k"}),
                ("PATCH", "model-versions/update", {**first, "description": "d"}),
                ("POST", "model-versions/transition-stage", {**first, "stage": "Staging"}),
                ("DELETE", "model-versions/delete", first),
                ("POST", "registered-models/rename", {"name": "shared", "new_name": "x"}),
                ("DELETE", "registered-models/delete", {"name": "shared"}),
                ("POST", "registered-models/set-tag", {"name": "others", "key": "k", "value": "v"}),
                ("PATCH", "registered-models/update", {"name": "others", "description": "d"}),
            ):
                reply = call(inside, method, what, body)
                assert (reply.status, reply.said["error_code"]) == (403, "PERMISSION_DENIED"), (what, body, reply.said)
            assert (outside.home / "registry.jsonl").read_bytes() == before
            # What others have registered can be loaded.
            place = said(inside, "GET", "model-versions/get-download-uri?name=others&version=1")["artifact_uri"]
            file = ask(inside, "GET", f"{ARTIFACTS}/{place.removeprefix('mlflow-artifacts:/')}/MLmodel")
            assert file.body == f"of {other.run_id}".encode()
        assert numbers(outside, "shared") == [1, 2, 3]
        assert named(outside, "shared")["aliases"] == [{"alias": "best", "version": "2"}]


def test_a_step_registers_what_another_step_of_the_same_run_has_trained(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as outside:
        main = said(outside, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
        below = {"experiment_id": "0", "tags": pairs(**{"mlflow.parentRunId": main})}
        trains, registers = (said(outside, "POST", "runs/create", below)["run"]["info"]["run_id"] for _ in range(2))
        trained = logged_model(outside, trains)
        said(outside, "POST", "registered-models/create", {"name": "m"})
        with server_of(registers, outside) as inside:
            assert register(inside, "m", trained.source) == 1
            for run_id in (main, trains):
                said(inside, "POST", "runs/set-tag", {"run_id": run_id, "key": "registered", "value": "1"})
        assert numbers(outside, "m") == [1]


def test_a_replay_registers_nothing_and_gets_the_numbers_of_its_original(tmp_path: Path) -> None:
    with orch_serving(tmp_path) as outside:
        said(outside, "POST", "registered-models/create", {"name": "m"})
        before = logged_model(outside)
        register(outside, "m", before.source)
        original = said(outside, "POST", "runs/create", {"experiment_id": "0"})["run"]["info"]
        with server_of(original["run_id"], outside) as inside:
            assert register(inside, "m", logged_model(inside, original["run_id"]).source) == 2
        journal = (outside.home / "registry.jsonl").read_bytes()
        replay = replay_of(original["run_id"], outside)
        for number in (2, 3):  # the second server is one that takes the place of the first
            with server_of(replay, outside) as inside:
                assert numbers(inside, "m") == [*range(1, number)]
                own = logged_model(inside, replay)
                assert register(inside, "m", own.source) == number
                said(inside, "POST", "registered-models/alias", {"name": "m", "alias": "best", "version": str(number)})
                found = said(inside, "GET", "registered-models/alias?name=m&alias=best")["model_version"]
                assert (found["version"], found["run_id"]) == (str(number), replay)
        # A step that a replay starts sees what the replay has registered.
        step = replay_of(None, outside, parent=replay)
        with server_of(step, outside) as inside:
            assert numbers(inside, "m") == [1, 2, 3]
            assert register(inside, "m", logged_model(inside, step).source) == 4
        assert (outside.home / "registry.jsonl").read_bytes() == journal
        assert numbers(outside, "m") == [1, 2]


def replay_of(original: str | None, server: Server, parent: str | None = None) -> str:
    """A run that runs, in the place of one that orch itself started."""
    run_id, started = new_run_id(), "2099-01-01T00:00:00.000Z"
    record = RunRecord(run_id=run_id, pinned=None, status="running", started_at=started, replay_of=original)
    event: dict[str, Any] = {
        "event": "created",
        "spec": None,
        "started_at": started,
        "name": None,
        "experiment": "Default",
    }
    event |= {"tags": {}, "parent": parent, "host": {}, "replay_of": original}
    begin(open_home({"ORCH_HOME": str(server.home)}), record, event)
    return run_id


def test_removing_what_is_registered_leaves_the_files(orch_server: str) -> None:
    conversation = Conversation(orch_server)
    file = f"{ARTIFACTS}/{{exp}}/models/{{model}}/artifacts/MLmodel"
    *_, gone, kept = conversation.answers(
        [
            *_MADE,
            _LOGGED,
            Call("PUT", file, body=b"flavors: {}\n"),
            version(source="models:/{model}", model_id="{model}"),
            delete("registered-models/delete", {"name": "m-{salt}"}),
            uri(),
            Call("GET", file),
        ]
    )
    assert (gone.status, kept.content) == (404, "flavors: {}\n")
