"""The HTTP side: who may ask, and which function answers what. The calls are those of MLflow's REST API."""

from __future__ import annotations

import contextlib
import errno
import hmac
import json
import os
import re
import sys
import traceback
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from orchestrator import store
from orchestrator.errors import DiskFullError, OrchError
from orchestrator.tracking import artifacts, experiments, models, runs
from orchestrator.tracking.asked import ApiError, Asked, asked_of_body, invalid
from orchestrator.tracking.registered import REGISTRY_CALLS
from orchestrator.tracking.tracker import Tracker

_API, _FILES = "/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/artifacts"
_LARGEST_BODY = 64 * 2**20
"""Bytes of a JSON body. A batch of MLflow's has at most 1 MiB; what it says of a model may have more."""
_JSON = ("application/json", "text/json")
_HOST = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]+)(:[0-9]{1,5})?")
_ABOUT = """\
This is orch server: the MLflow tracking API of a ledger of runs, for programs.
It has no pages. On the machine where it runs, these look into the ledger:

  orch list        the runs, newest first
  orch show RUN    one run: what decided it, and what came of it
  orch top         a dashboard of what lives, the history and the logs
"""
"""For who follows the link to a page of a run that MLflow's client prints. It tells nothing of the ledger."""
_CHOSEN = "x-orch-experiment"
"""The id of the experiment that the program has set, as its MLflow knows it (plugin/orch_mlflow.py); empty for none."""

Handler = Callable[[Tracker, Asked], dict[str, Any]]

_CALLS: dict[tuple[str, str], Handler] = {
    ("POST", "experiments/create"): experiments.create,
    ("GET", "experiments/get"): experiments.get,
    ("GET", "experiments/get-by-name"): experiments.get_by_name,
    ("POST", "experiments/search"): experiments.search,
    ("GET", "experiments/search"): experiments.search,
    ("POST", "experiments/update"): experiments.update,
    ("POST", "experiments/delete"): experiments.delete,
    ("POST", "experiments/restore"): experiments.restore,
    ("POST", "experiments/set-experiment-tag"): experiments.set_tag,
    ("POST", "experiments/delete-experiment-tag"): experiments.delete_tag,
    ("POST", "runs/create"): runs.create,
    ("GET", "runs/get"): runs.get,
    ("POST", "runs/update"): runs.update,
    ("POST", "runs/delete"): runs.delete,
    ("POST", "runs/restore"): runs.restore,
    ("POST", "runs/search"): runs.search,
    ("POST", "runs/log-metric"): runs.log_metric,
    ("POST", "runs/log-parameter"): runs.log_parameter,
    ("POST", "runs/set-tag"): runs.set_tag,
    ("POST", "runs/delete-tag"): runs.delete_tag,
    ("POST", "runs/log-batch"): runs.log_batch,
    ("POST", "runs/log-inputs"): models.log_inputs,
    ("POST", "runs/outputs"): models.log_outputs,
    ("POST", "runs/log-model"): models.log_model,
    ("GET", "metrics/get-history"): runs.metric_history,
    ("GET", "artifacts/list"): artifacts.list_of_run,
    ("POST", "logged-models"): models.create,
    ("POST", "logged-models/search"): models.search,
    **REGISTRY_CALLS,
}
_OF_A_MODEL: dict[tuple[str, str], Handler] = {
    ("GET", ""): models.get,
    ("PATCH", ""): models.finalize,
    ("DELETE", ""): models.delete,
    ("PATCH", "tags"): models.set_tags,
    ("DELETE", "tags"): models.delete_tag,
    ("POST", "params"): models.log_params,
    ("GET", "artifacts/directories"): artifacts.list_of_model,
}
_LATER = ("traces", "webhooks", "prompts")
_MULTIPART = "/api/2.0/mlflow-artifacts/mpu/"


def make_app(tracker: Tracker, *, token: str | None, hosts: frozenset[str], version: str) -> Starlette:
    """The application.

    `token` must come with each request. `hosts` are the names by which it may be called: on the port that they have, or
    by those without one on any.
    """

    async def answer(request: Request) -> Response:
        try:
            if request.scope["path"] == "/health":
                return Response("OK", media_type="text/plain")
            _check_host(request, hosts)
            if request.scope["path"] == "/" and request.method in ("GET", "HEAD"):
                return Response(_ABOUT, media_type="text/plain")
            _check_caller(request, token)
            return await _answer(tracker, request, version)
        except ApiError as error:
            return _refusal(error)
        except OrchError as error:
            code = "TEMPORARILY_UNAVAILABLE" if _is_full(error) else "INVALID_PARAMETER_VALUE"
            return _refusal(ApiError(code, str(error)))
        except OSError as error:  # a client would try again for minutes after a 5xx
            if _is_full(error):
                return _refusal(ApiError("TEMPORARILY_UNAVAILABLE", "No space is left on the disk of orch's home."))
            traceback.print_exc(file=sys.stderr)
            return _refusal(ApiError("BAD_REQUEST", f"orch can't do it now: {error.strerror or 'an input failed'}."))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return _refusal(
                ApiError("INTERNAL_ERROR", f"an error inside orch ({type(error).__name__}): its server says which.")
            )

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(routes=[Route("/{path:path}", answer, methods=methods)])


def _is_full(error: Exception) -> bool:
    """Whether it is for want of space, which may be there again in a moment: a client then waits, as a program does
    whose output has no room.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    no_space = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return no_space or isinstance(error, DiskFullError)


def _refusal(error: ApiError) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if error.code == "UNAUTHENTICATED" else None
    return _json({"error_code": error.code, "message": str(error)}, error.status, headers)


# --- who may ask ------------------------------------------------------------------------------------------------


def _check_host(request: Request, hosts: frozenset[str]) -> None:
    """Raise ApiError for a page whose name was made to lead here (DNS rebinding): it sends its own name."""
    host = _host_of(request)
    called = _HOST.fullmatch(host)
    if called is None or hosts.isdisjoint((host, called[1])):
        raise ApiError("PERMISSION_DENIED", f"This server is not called {host!r}.")


def _check_caller(request: Request, token: str | None) -> None:
    """Raise ApiError for a page of another site in the user's browser, and for who does not know the token."""
    origin = request.headers.get("origin")
    own = (None, f"http://{_host_of(request)}")
    if origin not in own or request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise ApiError("PERMISSION_DENIED", "Pages of other sites may ask nothing here.")
    if token is not None and not hmac.compare_digest(_token_of(request).encode(), token.encode()):
        raise ApiError(
            "UNAUTHENTICATED", "The token is missing or wrong: set MLFLOW_TRACKING_TOKEN to that of the server."
        )


def _host_of(request: Request) -> str:
    return request.headers.get("host", "").lower()


def _token_of(request: Request) -> str:
    """The token, as a bearer's, or as the password of any user."""
    kind, _, said = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return said.strip()
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            return b64decode(said, validate=True).decode().partition(":")[2]
    return ""


# --- what is asked ----------------------------------------------------------------------------------------------


async def _answer(tracker: Tracker, request: Request, version: str) -> Response:
    path, method = request.scope["path"], request.method
    if path.startswith(_API):
        return await _answer_call(tracker, request, path.removeprefix(_API))
    if path == _FILES and method == "GET":
        return _json(artifacts.list_proxied(tracker, _query(request)))
    if path.startswith(f"{_FILES}/"):
        return await _answer_file(tracker, request)
    if path == "/version":
        return Response(version, media_type="text/plain")
    if path == "/api/3.0/mlflow/server-info":
        return _json({"store_type": "SqlStore", "workspaces_enabled": False, "multipart_uploads_enabled": False})
    if path.startswith(("/api/3.0/mlflow/traces", "/v1/traces")):
        raise ApiError("FEATURE_DISABLED", "orch keeps no traces; the run and all else that it logs is kept.")
    if path.startswith(_MULTIPART):
        raise ApiError("FEATURE_DISABLED", "orch takes files whole, not in parts.")
    raise ApiError("ENDPOINT_NOT_FOUND", f"There is no {method} {path} here.")


async def _answer_call(tracker: Tracker, request: Request, call: str) -> Response:
    method = request.method
    if handler := _CALLS.get((method, call)):
        asked = await _asked(request)
        if (chosen := request.headers.get(_CHOSEN)) is not None:  # our plugin knows; of others it is guessed
            tracker.chosen = chosen or None
        return _json(handler(tracker, asked))
    if call.startswith("logged-models/"):
        model_id, _, rest = call.removeprefix("logged-models/").partition("/")
        kind, key = ("tags", rest.removeprefix("tags/")) if method == "DELETE" and rest else (rest, "")
        if handler := _OF_A_MODEL.get((method, kind)):
            told = (await _asked(request)).values
            return _json(handler(tracker, Asked({**told, "model_id": model_id, **({"key": key} if key else {})})))
    if call.startswith(_LATER):
        raise ApiError("FEATURE_DISABLED", f"orch keeps no traces, prompts or webhooks: {call} is not answered.")
    raise ApiError("ENDPOINT_NOT_FOUND", f"There is no {method} {call} here.")


async def _asked(request: Request) -> Asked:
    if request.method == "GET":
        return _query(request)
    if int(request.headers.get("content-length", 0)) > _LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise _too_large()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind not in _JSON:  # what a form on a page can send is never taken for JSON
        raise ApiError("BAD_REQUEST", f"Content-Type must be application/json, not {kind!r}.")
    return asked_of_body(bytes(body))


def _too_large() -> ApiError:
    return invalid(f"The request has more than {_LARGEST_BODY} bytes.")


def _query(request: Request) -> Asked:
    """The fields of a query; those that come again are lists."""
    found: dict[str, Any] = {}
    query: bytes = request.scope.get("query_string") or b""
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        found[name] = value if name not in found else [*_listed(found[name]), value]
    for name in ("order_by", "experiment_ids", "stages"):
        if name in found:
            found[name] = _listed(found[name])
    return Asked(found)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _json(values: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """In ASCII: a name may be no Unicode."""
    return Response(json.dumps(values, separators=(",", ":")), status, headers, "application/json")


# --- files ------------------------------------------------------------------------------------------------------


async def _answer_file(tracker: Tracker, request: Request) -> Response:
    path = _file_path(request)
    if request.method == "PUT":
        return _json(await _receive(tracker, request, path))
    if request.method != "GET":
        raise ApiError("INVALID_PARAMETER_VALUE", "An artifact is an output of its run, and is not removed alone.")
    output = artifacts.find(tracker, path)
    if not await run_in_threadpool(store.verify_blob, tracker.home, output.sha256):
        raise ApiError("RESOURCE_DOES_NOT_EXIST", f"The bytes of '{path}' are damaged or gone.")
    # As bytes and nothing else: what a browser may take for a page must not be one.
    headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
    return FileResponse(
        store.blob_path(tracker.home, output.sha256), media_type="application/octet-stream", headers=headers
    )


def _file_path(request: Request) -> str:
    """The address of a file. MLflow's clients leave a `?` in a name as it is, so that it comes as a query."""
    raw: bytes = request.scope.get("raw_path") or b""
    path = unquote(raw.decode("ascii", "replace").removeprefix(f"{_FILES}/"), errors="surrogateescape")
    query: bytes = request.scope.get("query_string") or b""
    return f"{path}?{unquote(query.decode('ascii', 'replace'), errors='surrogateescape')}" if query else path


async def _receive(tracker: Tracker, request: Request, path: str) -> dict[str, Any]:
    """Take a file as it comes, and keep it when it is whole."""
    artifacts.check_place(tracker, path)
    with store.staging(tracker.home) as folder:
        file = folder / "received"
        with file.open("wb") as target:
            async for chunk in _chunks(request):
                target.write(chunk)
            target.flush()
            os.fchmod(target.fileno(), 0o600)
        return artifacts.put(tracker, path, file)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    expected = request.headers.get("content-length")
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        yield chunk
    if expected is not None and size != int(expected):
        raise ApiError("BAD_REQUEST", "The file did not come whole.")
