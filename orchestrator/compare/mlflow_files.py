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
"""In `mlruns`: ids, invented names, users and times of runs and experiments, times of metrics, MLflow's own tags."""

_VALUE = f"{MARK}value›"
_MODEL = re.compile(r"^(run_id|model_id|model_uuid|model_size_bytes|utc_time_created): .*$", re.MULTILINE)
_META = re.compile(
    r"^(run_id|run_uuid|run_name|user_id|start_time|end_time|experiment_id|creation_time|last_update_time): .*$",
    re.MULTILINE,
)
_TIME = re.compile(r"^[0-9]+(?= )", re.MULTILINE)
_OF_RUN = re.compile(r"(?:.*/)?mlruns/[^/]+/[0-9a-f]{32}/(meta\.yaml|metrics/.+|tags/mlflow\.[^/]+)")
_META_PATH = re.compile(r"(?:.*/)?mlruns/[^/]+(/[0-9a-f]{32})?/meta\.yaml")

_IDS = re.compile(
    r"^(?:run_id|model_id|model_uuid|experiment_id): *['\"]?((?:m-)?[0-9a-f]{32}|[0-9]{10,})\b", re.MULTILINE
)
_MADE = re.compile(r"^(?:utc_time_created|start_time|creation_time): *['\"]?([0-9 :.-]+)", re.MULTILINE)


def without_volatile(path: str, text: str) -> tuple[str, frozenset[str]]:
    """The text of an output without what is known to be volatile in it, and the rules that found any."""
    if PurePosixPath(path).name == "MLmodel":
        changed, rule = _MODEL.sub(rf"\1: {_VALUE}", text), MLMODEL_VOLATILE
    elif found := _OF_RUN.fullmatch(path):
        changed, rule = _of_run(found[1], text), FILES_VOLATILE
    elif _META_PATH.fullmatch(path):
        changed, rule = _META.sub(rf"\1: {_VALUE}", text), FILES_VOLATILE
    else:
        return text, frozenset()
    return changed, frozenset({rule} if changed != text else ())


def _of_run(what: str, text: str) -> str:
    if what.startswith("tags/"):
        return _VALUE
    if what.startswith("metrics/"):
        return _TIME.sub(_VALUE, text)
    return _META.sub(rf"\1: {_VALUE}", text)


# --- its ids ----------------------------------------------------------------------------------------------------


def tells_ids(path: str) -> bool:
    """Whether the output at `path` is one that tells the ids of runs, models or experiments."""
    return PurePosixPath(path).name in ("MLmodel", mlflow_store.NAME) or _META_PATH.fullmatch(path) is not None


def ids_in(files: Mapping[str, bytes]) -> list[str]:
    """The ids that such files tell, by path, in the order in which MLflow gave them, which is that of another run."""
    stores = [content for path, content in sorted(files.items()) if mlflow_store.is_store(path, content)]
    texts = {
        path: content.decode("utf-8", "replace")
        for path, content in files.items()
        if not mlflow_store.is_store(path, content)
    }
    runs = [text for path, text in texts.items() if PurePosixPath(path).name != "MLmodel"]
    models = [text for path, text in texts.items() if PurePosixPath(path).name == "MLmodel"]
    ids = [name for content in stores for name in mlflow_store.ids_in(content)]
    return list(dict.fromkeys([*ids, *_told(runs), *_told(models)]))


def _told(texts: Iterable[str]) -> list[str]:
    def made(text: str) -> str:
        found = _MADE.search(text)
        return found[1] if found else ""

    return [name for text in sorted(texts, key=made) for name in _IDS.findall(text)]
