"""What MLflow writes of itself into files that programs leave: `MLmodel`, and the folder `mlruns` of its file store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from orchestrator.compare import mlflow_store
from orchestrator.compare.own import MARK

MLMODEL_VOLATILE = "mlmodel-volatile-1"
"""Fields of an `MLmodel` file that tell when, by which run and in how many bytes a model was written."""
FILES_VOLATILE = "mlflow-files-1"
"""In `mlruns`: ids, invented names, users and times of runs, models and experiments; metrics' times; MLflow's tags."""

_VALUE = f"{MARK}value›"
_MODEL = re.compile(r"^(run_id|model_id|model_uuid|model_size_bytes|utc_time_created): .*$", re.MULTILINE)
_META = re.compile(
    r"^(run_id|run_uuid|run_name|user_id|start_time|end_time|experiment_id|creation_time|last_update_time"
    r"|creation_timestamp|last_updated_timestamp): .*$",
    re.MULTILINE,
)
_TIME = re.compile(r"^[0-9]+(?= )", re.MULTILINE)

_TOP = r"(?:.*/)?mlruns/[^/]+/"
_RUN = rf"{_TOP}[0-9a-f]{{32}}"
_OWNER = rf"(?P<owner>{_RUN}|{_TOP}models/m-[0-9a-f]{{32}})"
_LOGGED = re.compile(rf"{_OWNER}/(?P<what>(?P<kind>params|metrics|tags)/.+)")
_META_PATH = re.compile(rf"(?:{_OWNER}|{_TOP[:-1]}|(?:.*/)?mlruns/models/[^/]+(?:/version-[0-9]+)?)/meta\.yaml")
_INPUT = re.compile(rf"(?P<owner>{_RUN})/inputs/(?P<id>[0-9a-f]{{32}})/meta\.yaml")

_IDS = re.compile(
    r"^(?:run_id|source_run_id|model_id|model_uuid|experiment_id): *['\"]?((?:m-)?[0-9a-f]{32}|[0-9]{10,})\b",
    re.MULTILINE,
)
_MADE = re.compile(
    r"^(?:utc_time_created|start_time|creation_time|creation_timestamp): *['\"]?([0-9 :.-]+)", re.MULTILINE
)


def without_volatile(path: str, text: str) -> tuple[str, frozenset[str]]:
    """The text of an output without what is known to be volatile in it, and the rules that found any."""
    if PurePosixPath(path).name == "MLmodel":
        changed, rule = _MODEL.sub(rf"\1: {_VALUE}", text), MLMODEL_VOLATILE
    elif found := _LOGGED.fullmatch(path):
        changed, rule = _logged(found["what"], text), FILES_VOLATILE
    elif _META_PATH.fullmatch(path):
        changed, rule = _META.sub(rf"\1: {_VALUE}", text), FILES_VOLATILE
    else:
        return text, frozenset()
    return changed, frozenset({rule} if changed != text else ())


def _logged(what: str, text: str) -> str:
    if what.startswith("tags/mlflow."):
        return _VALUE
    return _TIME.sub(_VALUE, text) if what.startswith("metrics/") else text


# --- its ids ----------------------------------------------------------------------------------------------------


def tells_ids(path: str) -> bool:
    """Whether the output at `path` is one that tells the ids of runs, models or experiments, or their order."""
    if PurePosixPath(path).name in ("MLmodel", mlflow_store.NAME):
        return True
    return any(pattern.fullmatch(path) for pattern in (_META_PATH, _LOGGED, _INPUT))


def ids_in(files: Mapping[str, bytes]) -> list[str]:
    """The ids that such files tell, by path, in the order in which MLflow gave them, which is that of another run.

    A grid search's runs all begin in the same millisecond: then what was logged for each tells them apart.
    """
    stores = {path: content for path, content in sorted(files.items()) if mlflow_store.is_store(path, content)}
    texts = {path: content.decode("utf-8", "replace") for path, content in files.items() if path not in stores}
    logged = _all_logged(texts)
    rank: dict[str, int] = {}

    def add(names: Iterable[str]) -> None:
        for name in names:
            rank.setdefault(name, len(rank))

    def order(path: str) -> tuple[str, list[int], list[tuple[str, str]]]:
        made = _MADE.search(texts[path])
        known = [rank[name] for name in _IDS.findall(texts[path]) if name in rank]
        return made[1] if made else "", known, logged.get(path.removesuffix("/meta.yaml"), [])

    for content in stores.values():
        add(mlflow_store.ids_in(content))
    metas = [path for path in texts if _META_PATH.fullmatch(path)]
    of_models = {path for path in metas if "/models/" in path[path.rindex("mlruns/") :]}
    of_runs = [path for path in metas if path not in of_models]
    for paths in (of_runs, [path for path in texts if PurePosixPath(path).name == "MLmodel"], of_models):
        for path in sorted(sorted(paths), key=order):
            add(_IDS.findall(texts[path]))
    add(_inputs(texts, rank))
    return list(rank)


def _all_logged(texts: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """By the folder of a run or model: the names of what was logged for it, with what is the same in another run."""
    logged: dict[str, list[tuple[str, str]]] = {}
    for path, text in sorted(texts.items()):
        if found := _LOGGED.fullmatch(path):
            plain = without_volatile(path, text)[0]
            if found["kind"] == "metrics":  # time, value, step, and in MLflow 3 the run's id
                plain = "\n".join(" ".join(line.split()[1:3]) for line in text.splitlines())
            logged.setdefault(found["owner"], []).append((found["what"], plain))
    return logged


def _inputs(texts: Mapping[str, str], rank: Mapping[str, int]) -> list[str]:
    """The ids under which runs name their data sets: hashes that the run's id goes into."""
    found = [(match, text) for path, text in texts.items() if (match := _INPUT.fullmatch(path))]
    by_run = [(rank.get(PurePosixPath(match["owner"]).name, -1), text, match["id"]) for match, text in found]
    return [name for _, _, name in sorted(by_run)]
