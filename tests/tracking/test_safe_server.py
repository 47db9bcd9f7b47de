"""`orch server` answers nobody who may not ask, gives no file but the artifacts of runs, and breaks at no request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tracking.calls import API, ARTIFACTS, START
from tracking.serving import ORCH, Reply, Server, ask, environ_of, exchange, orch_serving, read_reply

SEARCH = f"{API}experiments/search"
SECRET = "only the owner of this machine may read this"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("safe")
    (folder / "secret.txt").write_text(SECRET)
    with orch_serving(folder) as server:
        yield server
        said = (folder / "stderr").read_text(errors="replace")
    assert "Traceback" not in said, said


@pytest.fixture
def run_id(server: Server) -> str:
    return str(post(server, "runs/create", {"experiment_id": "0", "start_time": START}).said["run"]["info"]["run_id"])


def post(server: Server, call: str, body: Any, **more: Any) -> Reply:
    return ask(server, "POST", API + call, body, **more)


def search(server: Server, **headers: str | None) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(server, "POST", SEARCH, {"max_results": 5}, named)


def assert_refused(reply: Reply, *statuses: int) -> None:
    assert reply.status in (statuses or range(400, 500)), (reply.status, reply.body[:300])
    assert SECRET.encode() not in reply.body
    assert b"root:" not in reply.body
    assert b"Traceback" not in reply.body
    assert b'File "' not in reply.body


# --- who may ask ------------------------------------------------------------------------------------------------


def test_answers_who_knows_the_token(server: Server) -> None:
    token = str(server.token)
    assert len(token) >= 32
    for told in (f"Bearer {token}", f"bearer {token}", "Basic " + b64encode(f"orch:{token}".encode()).decode()):
        assert search(server, Authorization=told).status == 200


@pytest.mark.parametrize(
    "told",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer {token}x",
        "Bearer {shorter}",
        "Bearer {upper}",
        "Bearer x {token}",
        "Token {token}",
        "{token}",
        "Basic {token}",
        "Basic ****",
        "Basic " + b64encode(b"\xff\xfe").decode(),
        "Basic " + b64encode(b"no colon").decode(),
        "Basic " + b64encode(b"orch:wrong").decode(),
        "Bearer \xe9\xff",
        "Bearer " + "x" * 30_000,
    ],
)
def test_refuses_who_does_not_know_the_token(told: str | None, server: Server) -> None:
    token = str(server.token)
    if told is not None:
        told = told.format(token=token, shorter=token[:-1], upper=token.swapcase())
    reply = search(server, Authorization=told)
    assert_refused(reply, 401)
    assert token.encode() not in reply.body
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{API}runs/get?run_id={'0' * 32}"),
        ("GET", f"{ARTIFACTS}?path=0"),
        ("GET", f"{ARTIFACTS}/0/x/artifacts/a"),
        ("PUT", f"{ARTIFACTS}/0/x/artifacts/a"),
        ("DELETE", f"{ARTIFACTS}/0/x/artifacts/a"),
        ("PATCH", f"{API}logged-models/m-0"),
        ("GET", "/version"),
        ("GET", "/api/3.0/mlflow/server-info"),
        ("POST", "/v1/traces"),
        ("POST", f"{API}registered-models/create"),
        ("POST", "/"),
        ("DELETE", "/"),
        ("GET", "//"),
        ("GET", "/anything"),
        ("POST", "//health"),
    ],
)
def test_answers_nothing_at_any_address_without_the_token(method: str, path: str, server: Server) -> None:
    assert_refused(ask(server, method, path, b"{}", {"Authorization": None}), 401)


def test_reads_no_body_of_who_does_not_know_the_token(server: Server) -> None:
    reply = ask(server, "POST", SEARCH, None, {"Authorization": None, "Content-Length": str(10**15)})
    assert_refused(reply, 401)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "127.0.0.1:{port}.evil.example",
        "localhost.evil.example:{port}",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:{port}:{port}",
        "127.0.0.1:\xb2",
        "127.0.0.2:{port}",
        "localhost.",
        "[127.0.0.1]:{port}",
        "::1",
        "[::1",
        "[::1]x:{port}",
        "[::1]:{port}]",
        "192.168.0.1:{port}",
        "0.0.0.0:{port}",
        "[::]:{port}",
        "user@127.0.0.1:{port}",
        "127.0.0.1:{port}/health",
        "127.0.0.1:{port}?",
        "",
        None,
    ],
)
def test_refuses_the_name_of_another_site(host: str | None, server: Server) -> None:
    """A page whose name was made to lead here (DNS rebinding) sends its own name."""
    told = None if host is None else host.format(port=server.port)
    assert_refused(search(server, Host=told), 400, 403)


@pytest.mark.parametrize("port", [":{port}", ":8080", ":1", ""])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_answers_by_each_name_of_this_machine(host: str, port: str, server: Server) -> None:
    """With any port: who looks through a tunnel, as of ssh -L, asks for the one at its other end."""
    name = host + port.format(port=server.port)
    assert search(server, Host=name).status == 200
    assert search(server, Host=name, Origin=f"http://{name.lower()}").status == 200
    for origin in (f"http://{host.lower()}:8081", "http://evil.example", f"https://{name.lower()}"):
        assert_refused(search(server, Host=name, Origin=origin), 403)


def test_says_in_a_browser_what_it_is_and_nothing_else(server: Server) -> None:
    """MLflow's clients print the address of a page of each run."""
    browser = {"Authorization": None, "Accept": "text/html,*/*", "Sec-Fetch-Site": "same-site", "Content-Type": None}
    for path in ("/", "/?page=1"):
        reply = ask(server, "GET", path, None, browser)
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/plain")
        text = reply.body.decode()
        assert max(len(line) for line in text.splitlines()) <= 80
        for command in ("orch list", "orch show", "orch top"):
            assert command in text
        for secret in (str(server.token), str(server.home), str(server.port)):
            assert secret not in text
    assert ask(server, "HEAD", "/", None, browser).status == 200
    assert_refused(ask(server, "GET", "/", None, {**browser, "Host": "evil.example"}), 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:{port}.evil.example"},
        {"Origin": "file://"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_refuses_pages_of_other_sites_that_know_the_token(headers: dict[str, str], server: Server) -> None:
    told = {name: value.format(port=server.port) for name, value in headers.items()}
    reply = ask(server, "POST", SEARCH, {"max_results": 5}, told)
    assert_refused(reply, 403)
    assert "access-control-allow-origin" not in reply.headers


def test_answers_its_own_pages(server: Server) -> None:
    for site in ("same-origin", "none"):
        own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": site}
        assert ask(server, "POST", SEARCH, {"max_results": 5}, own).status == 200


def test_lets_no_page_ask_beforehand(server: Server) -> None:
    asks = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    reply = ask(server, "OPTIONS", SEARCH, None, asks)
    assert_refused(reply)
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonx", None]
)
def test_takes_no_body_that_a_form_could_send(kind: str | None, server: Server) -> None:
    assert_refused(ask(server, "POST", SEARCH, {"max_results": 5}, {"Content-Type": kind}), 400)
    assert ask(server, "POST", SEARCH, {}, {"Content-Type": "Application/JSON; charset=utf-8"}).status == 200


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--host", "::"], ["--host", "example.org"]])
def test_no_other_machine_is_served_without_a_token(options: list[str], tmp_path: Path) -> None:
    command = [ORCH, "server", "--port", "0", "--no-token", *options]
    done = subprocess.run(command, env=environ_of(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--no-token" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_machine_is_served_with_a_token_only(tmp_path: Path) -> None:
    with orch_serving(tmp_path, "--host", "0.0.0.0") as server:
        assert server.token
        assert search(server).status == 200
        assert_refused(search(server, Authorization=None), 401)
        assert_refused(search(server, Host=f"evil.example:{server.port}"), 403)
        assert_refused(search(server, Host=f"192.0.2.1:{server.port}"), 403)
        for port in (f":{server.port}", ":8080", ""):
            assert search(server, Host=f"{socket.gethostname()}{port}").status == 200
            assert search(server, Host=f"localhost{port}").status == 200


def test_what_it_keeps_is_for_its_owner_alone(server: Server, run_id: str) -> None:
    assert ask(server, "PUT", f"{ARTIFACTS}/0/{run_id}/artifacts/own.txt", b"x").status == 200
    assert server.home.stat().st_mode & 0o077 == 0


# --- files ------------------------------------------------------------------------------------------------------

OUTSIDE = [
    "../secret.txt",
    "../../../../../../../../etc/passwd",
    "%2e%2e/secret.txt",
    "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%252e%252e/%252e%252e/%252e%252e/etc/passwd",
    "%25252e%25252e%25252fetc%25252fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "%c0%ae%c0%ae/etc/passwd",
    "..%5c..%5csecret.txt",
    "a%5c..%5c..%5cb",
    "C:/Windows/win.ini",
    "C:%5cWindows%5cwin.ini",
    "c%3a/x",
    "%00",
    "a%00.txt",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "a/./b/../../../x",
    ".",
    "..",
    "a/..",
    "....//....//etc/passwd",
    "file:///etc/passwd",
    "file%3a%2f%2f%2fetc%2fpasswd",
    "http://127.0.0.1:1/x",
    "~/.ssh/id_rsa",
    "$HOME/x",
    "a%3f/../../../etc/passwd",
    "a%23/../../../etc/passwd",
    ";/../../etc/passwd",
    "x" * 256,
    "/".join(["deep"] * 2000),
]
STORED = {"%252e%252e/", "%25252e", "..%c0%af", "%c0%ae", "/etc/", "//etc/", "%2fetc", "....", "file", "http", "~", "$"}
"""Beginnings of those that are names like any other once they are taken as they stand: they may be kept, inside."""


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_file_leaves_or_comes_that_is_no_artifact(path: str, server: Server, run_id: str) -> None:
    root = f"{ARTIFACTS}/0/{run_id}/artifacts/"
    before = _files_outside(server)
    assert_refused(ask(server, "GET", root + path))
    assert_refused(ask(server, "DELETE", root + path))
    assert_refused(ask(server, "GET", f"{ARTIFACTS}/{path}"))
    assert_refused(ask(server, "PUT", f"{ARTIFACTS}/{path}", b"planted"))
    put = ask(server, "PUT", root + path, b"planted")
    if path.startswith(tuple(STORED)):
        assert put.status in (200, 400)
    else:
        assert_refused(put, 400, 404)
    for call in (f"{ARTIFACTS}?path={path}", f"{ARTIFACTS}?path=0/{run_id}/artifacts/{path}"):
        assert SECRET.encode() not in ask(server, "GET", call).body
    reply = ask(server, "GET", f"{API}artifacts/list?run_id={run_id}&path={path}")
    assert reply.status < 500
    assert b"root:" not in reply.body
    assert _files_outside(server) == before


def _files_outside(server: Server) -> set[str]:
    """What lies around the home, and in it beside its own rooms."""
    own = {path for path in server.home.iterdir() if path.name not in ("runs", "store")}
    around = {path for path in server.folder.iterdir() if path != server.home}
    return {str(path) for path in own | around if not path.name.endswith(("-wal", "-shm"))}


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_id_is_a_path(path: str, server: Server) -> None:
    for call in (
        f"{API}runs/get?run_id={path}",
        f"{API}artifacts/list?run_id={path}",
        f"{API}metrics/get-history?metric_key=m&run_id={path}",
        f"{API}logged-models/{path}",
        f"{API}experiments/get?experiment_id={path}",
        f"{ARTIFACTS}/0/{path}/artifacts/ledger.db",
        f"{ARTIFACTS}/0/models/{path}/artifacts/MLmodel",
    ):
        assert_refused(ask(server, "GET", call))
    for call in ("runs/log-batch", "runs/update", "runs/delete", "runs/log-inputs"):
        assert_refused(post(server, call, {"run_id": path, "status": "FINISHED"}))


def test_a_link_in_the_stores_place_is_not_followed_to_other_bytes(server: Server, run_id: str) -> None:
    file = f"{ARTIFACTS}/0/{run_id}/artifacts/linked.txt"
    assert ask(server, "PUT", file, b"to be replaced").status == 200
    (blob,) = (p for p in (server.home / "store").glob("??/*") if p.read_bytes() == b"to be replaced")
    for replaced in (lambda: blob.symlink_to(server.folder / "secret.txt"), lambda: os.mkfifo(blob), blob.mkdir):
        _take_away(blob)
        replaced()
        assert_refused(ask(server, "GET", file, timeout=10))
    _take_away(blob)
    assert_refused(ask(server, "GET", file), 404)


def _take_away(path: Path) -> None:
    path.parent.chmod(0o700)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def test_a_browser_takes_no_artifact_for_a_page(server: Server, run_id: str) -> None:
    file = f"{ARTIFACTS}/0/{run_id}/artifacts/page.html"
    assert ask(server, "PUT", file, b"<script>1</script>", {"Content-Type": "text/html"}).status == 200
    reply = ask(server, "GET", file)
    assert reply.body == b"<script>1</script>"
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-disposition"].startswith("attachment")


# --- what a client says of other places -------------------------------------------------------------------------


def test_no_uri_that_a_client_sends_is_ever_opened(server: Server, run_id: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        port = trap.getsockname()[1]
        secret = server.folder / "secret.txt"
        for uri in (
            f"http://127.0.0.1:{port}/x",
            f"s3://127.0.0.1:{port}/x",
            f"file://{secret}",
            f"file:///{secret}",
            f"file://./{secret}",
            str(secret),
            "http:///#/../../../../../../etc/passwd",
            "dbfs:/RUN/artifacts/a%3f/../../..",
            "//proc/self/root/etc/passwd",
            "mlflow-artifacts:/../../etc/passwd",
            f"sqlite:///{server.home}/ledger.db",
            "../../../etc",
        ):
            replies = _tell_everywhere(server, run_id, uri)
            assert all(reply.status < 500 for reply in replies)
            assert SECRET.encode() not in b"".join(reply.body for reply in replies)
        with pytest.raises(TimeoutError):
            trap.accept()


def _tell_everywhere(server: Server, run_id: str, uri: str) -> list[Reply]:
    name = f"of {uri}"
    made = post(server, "experiments/create", {"name": name, "artifact_location": uri})
    assert made.status == 200
    identity = made.said["experiment_id"]
    known = ask(server, "GET", f"{API}experiments/get?experiment_id={identity}")
    assert known.said["experiment"]["artifact_location"] == f"mlflow-artifacts:/{identity}"
    dataset = {"name": "d", "digest": "1", "source_type": "http", "source": json.dumps({"uri": uri})}
    run = post(server, "runs/create", {"experiment_id": identity, "artifact_uri": uri})
    assert run.said["run"]["info"]["artifact_uri"].startswith(f"mlflow-artifacts:/{identity}/")
    told = {"artifact_path": uri, "flavors": {}, "utc_time_created": "", "run_id": run_id}
    tags = [{"key": key, "value": uri} for key in ("mlflow.source.name", "mlflow.source.git.repoURL", "mlflow.user")]
    quoted = quote(uri, safe="")
    return [
        known,
        run,
        post(server, "runs/log-inputs", {"run_id": run_id, "datasets": [{"dataset": dataset}]}),
        post(server, "runs/log-model", {"run_id": run_id, "model_json": json.dumps(told)}),
        post(server, "runs/log-batch", {"run_id": run_id, "tags": tags}),
        post(server, "model-versions/create", {"name": "m", "source": uri, "run_id": run_id}),
        post(server, "registered-models/create", {"name": uri}),
        post(
            server, "logged-models", {"experiment_id": "0", "name": "m", "artifact_uri": uri, "source_run_id": run_id}
        ),
        ask(server, "GET", f"{API}artifacts/list?run_id={run_id}&path={quoted}"),
        ask(server, "GET", f"{ARTIFACTS}?path={quoted}"),
        ask(server, "GET", f"{API}runs/get?run_id={run_id}"),
        ask(server, "GET", f"/get-artifact?run_uuid={run_id}&path={quoted}"),
        ask(server, "GET", f"/model-versions/get-artifact?name=m&version=1&path={quoted}"),
    ]


# --- requests that are none -------------------------------------------------------------------------------------

BODIES: dict[str, bytes] = {
    "deep lists": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep below a field": b'{"tags":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "an integer of many digits": b'{"max_results": ' + b"9" * 100_000 + b"}",
    "an integer of 300 digits": b'{"max_results": ' + b"9" * 300 + b"}",
    "a number beyond all doubles": b'{"max_results": 1e999}',
    "NaN as a token": b'{"max_results": NaN}',
    "Infinity as a token": b'{"max_results": -Infinity}',
    "no Unicode": b'{"filter": "\xff\xfe"}',
    "a lone surrogate": b'{"filter": "\\ud800"}',
    "UTF-16": '{"filter": "x"'.encode("utf-16"),
    "cut off": b'{"filter": "x',
    "two values": b"{}{}",
    "a number": b"5",
    "null": b"null",
    "NUL": b"\0\0\0",
    "an enormous filter": json.dumps({"filter": "name = 'x' AND " * 100_000 + "name = 'x'"}).encode(),
    "an enormous pattern": json.dumps({"filter": f"name LIKE '{'%a' * 100_000}'"}).encode(),
    "an open quote of many backslashes": json.dumps({"filter": "name = '" + "\\'" * 100_000 + "x"}).encode(),
    "many orders": json.dumps({"order_by": ["name"] * 10_000}).encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_question_is_refused_at_once(name: str, server: Server) -> None:
    for call in ("experiments/search", "runs/search"):
        begin = time.monotonic()
        assert_refused(post(server, call, BODIES[name]), 400)
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("field", "token"),
    [
        ("timestamp", "NaN"),
        ("timestamp", "1e400"),
        ("timestamp", "9" * 400),
        ("step", "Infinity"),
        ("step", "9" * 4000),
        ("step", "-9223372036854775809"),
        ("value", "9" * 400),
        ("value", '"0x10"'),
        ("value", '"' + "9" * 100_000 + "x" + '"'),
        ("value", "{}"),
        ("key", '"' + "k" * 1_000_000 + '"'),
        ("key", '"a\\u0000b"'),
        ("key", '"\\ud800"'),
    ],
)
def test_a_number_or_name_that_no_metric_has_is_refused(field: str, token: str, server: Server, run_id: str) -> None:
    fields = {"run_id": f'"{run_id}"', "key": '"m"', "value": "1", "timestamp": "1", "step": "1", field: token}
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
    assert_refused(post(server, "runs/log-metric", body.encode()), 400)
    assert "metrics" not in ask(server, "GET", f"{API}runs/get?run_id={run_id}").said["run"]["data"]


@pytest.mark.parametrize("call", ["runs/create", "runs/update"])
@pytest.mark.parametrize("moment", [2**62, -(2**62), 10**17, -(10**17)])
def test_a_time_beyond_all_years_is_refused(call: str, moment: int, server: Server, run_id: str) -> None:
    told = {"experiment_id": "0", "run_id": run_id, "status": "FINISHED", "start_time": moment, "end_time": moment}
    assert_refused(post(server, call, told), 400)


def test_not_a_number_as_a_token_is_the_value_that_it_is(server: Server, run_id: str) -> None:
    """What Python's json writes of a NaN."""
    body = f'{{"run_id": "{run_id}", "key": "m", "value": NaN, "timestamp": 1, "step": 1}}'
    assert post(server, "runs/log-metric", body.encode()).status == 200
    reply = ask(server, "GET", f"{API}runs/get?run_id={run_id}")
    assert b"NaN" in reply.body
    assert json.loads(reply.body, parse_constant=pytest.fail)["run"]["data"]["metrics"][0]["value"] == "NaN"


def test_a_body_that_is_too_large_is_refused_before_it_came(server: Server) -> None:
    head = {"Content-Length": str(10**12)}
    assert_refused(ask(server, "POST", SEARCH, None, head), 400)


def test_a_body_without_end_is_refused(server: Server) -> None:
    head = (
        f"POST {SEARCH} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        for _ in range(66):
            connection.sendall(chunk)
        assert_refused(read_reply(connection), 400)


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n bad: folded\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused_and_others_are_answered(request_line: bytes, server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request_line)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while piece := connection.recv(65536):
            said += piece
    assert not said or said.split()[1].startswith(b"4"), said
    assert search(server).status == 200


def test_a_slow_client_holds_nobody_up(server: Server, run_id: str) -> None:
    head = f"POST {SEARCH} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n"
    upload = head.replace(f"POST {SEARCH}", f"PUT {ARTIFACTS}/0/{run_id}/artifacts/slow.bin")
    beginnings = [b"P", head.encode(), f"{head}Content-Length: 100\r\n\r\n{{".encode()]
    beginnings.append(f"{upload}Content-Length: 100\r\n\r\nhalf".encode())
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(100)]
    try:
        for index, connection in enumerate(slow):
            connection.sendall(beginnings[index % len(beginnings)])
        begin = time.monotonic()
        assert all(search(server).status == 200 for _ in range(20))
        assert time.monotonic() - begin < 5
    finally:
        for connection in slow:
            connection.close()
    # What came in part is no artifact, and leaves nothing behind.
    assert b"slow.bin" not in ask(server, "GET", f"{ARTIFACTS}?path=0/{run_id}/artifacts").body
    deadline = time.monotonic() + 10
    while any((server.home / "store" / "incoming").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any((server.home / "store" / "incoming").iterdir())


def test_a_head_without_end_is_cut_off(server: Server) -> None:
    beginnings = {
        b"GET /version HTTP/1.1\r\n": b"X-Long: " + b"x" * 65_000 + b"\r\n",
        b"GET /version HTTP/1.1\r\nX-Long: ": b"x" * 65_000,
        b"GET /": b"x" * 65_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n": b"X-Long: " + b"x" * 65_000 + b"\r\n",
    }
    for beginning, piece in beginnings.items():
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
            pytest.raises((BrokenPipeError, ConnectionResetError)),
        ):
            connection.sendall(beginning)
            for _ in range(1000):
                connection.sendall(piece)
    assert search(server).status == 200


def test_requests_behind_each_other_on_a_connection_are_each_looked_at(server: Server) -> None:
    """A second one is not let in by the token of the first."""
    first = (
        f"GET /version HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    ).encode()
    second = f"GET /version HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(first + second)
        said = b""
        while piece := connection.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 401" in said


def test_a_disk_that_takes_nothing_is_told_without_a_5xx(tmp_path: Path) -> None:
    """Clients repeat for minutes what a 5xx answers, and a program would stand still."""
    with orch_serving(tmp_path) as server:
        run_id = post(server, "runs/create", {"experiment_id": "0"}).said["run"]["info"]["run_id"]
        runs, store = server.home / "runs", server.home / "store"
        store.mkdir(exist_ok=True)
        journal = next((runs / run_id).glob("*.jsonl"))
        journal.rename(journal.with_suffix(".away"))
        journal.mkdir()
        replies = [
            post(server, "runs/log-batch", {"run_id": run_id, "params": [{"key": "p", "value": "v"}]}),
            post(server, "runs/log-metric", {"run_id": run_id, "key": "m", "value": 1, "timestamp": 1}),
            ask(server, "PUT", f"{ARTIFACTS}/0/{run_id}/artifacts/a.txt", b"x"),
        ]
        for reply in replies:
            assert_refused(reply)
        journal.rmdir()
        journal.with_suffix(".away").rename(journal)
        assert post(server, "runs/log-metric", {"run_id": run_id, "key": "m", "value": 1, "timestamp": 1}).status == 200


def test_who_hangs_up_early_breaks_nothing(server: Server, run_id: str) -> None:
    batch = {"run_id": run_id, "metrics": [{"key": "m", "value": n, "timestamp": n} for n in range(500)]}
    body = json.dumps(batch).encode()
    head = (
        f"POST {API}runs/log-batch HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()

    def hang_up(size: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall((head + body)[:size])

    threads = [threading.Thread(target=hang_up, args=(size,)) for size in range(10, len(head) + len(body), 1500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exchange(server, (head + body).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)).status == 200
