"""What autologging, nested runs and the model registry leave in the file stores of MLflow 2 and 3."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping

import pytest

from orchestrator.compare import OutputVerdict, Rules, compare_outputs
from orchestrator.model import RunRecord, new_run_id
from orchestrator.paths import Home

Stored = Callable[..., RunRecord]
Verdicts = Callable[..., tuple[OutputVerdict, ...]]

DATASET = "6f5e2270f1dc7d89cd9e9485fa179236"

RUN = """\
artifact_uri: file:///scratch/work/{own}/checkout/mlruns/0/{run}/artifacts
end_time: {time}
experiment_id: '0'
run_id: {run}
run_name: vaunted-gnat-{time}
start_time: {time}
"""
INPUT = f"""\
destination_id: {DATASET}
destination_type: RUN
source_id: {DATASET}
source_type: DATASET
"""
OUTPUT = """\
destination_id: {model}
destination_type: MODEL_OUTPUT
source_id: {model}
"""
MODEL = """\
artifact_location: file:///scratch/work/{own}/checkout/mlruns/0/models/{model}/artifacts
creation_timestamp: {time}
last_updated_timestamp: {time}
model_id: {model}
source_run_id: {run}
"""
REGISTERED = """\
creation_timestamp: {time}
last_updated_timestamp: {time}
name: diabetes
"""
VERSION = """\
creation_timestamp: {time}
description: {about}
last_updated_timestamp: {time}
model_id: {model}
run_id: {run}
source: models:/{model}
storage_location: file:///scratch/work/{own}/checkout/mlruns/0/models/{model}/artifacts
"""


def a_search(own: str, time: int, rmse: float = 0.5, about: str = "'null'") -> Iterator[tuple[str, str]]:
    """A file store as a grid search of MLflow 3 leaves it: parent and children began in the same millisecond."""
    parent = uuid.uuid4().hex
    for run, alpha in ((parent, None), *((uuid.uuid4().hex, alpha) for alpha in (0.1, 0.01, 0.001))):
        top, model = f"mlruns/0/{run}", f"m-{uuid.uuid4().hex}"
        for place in (top, f"mlruns/0/models/{model}"):
            yield f"{place}/metrics/rmse", f"{time} {rmse + (alpha or 0)} 0 {run}\n"
            yield f"{place}/tags/kind", "search"
            if alpha is not None:
                yield f"{place}/params/alpha", str(alpha)
        yield f"{top}/meta.yaml", RUN.format(own=own, run=run, time=time)
        yield f"{top}/inputs/{hashlib.md5((DATASET + run).encode()).hexdigest()}/meta.yaml", INPUT
        yield f"{top}/outputs/{model}/meta.yaml", OUTPUT.format(model=model)
        yield f"{top}/tags/mlflow.runName", f"vaunted-gnat-{time}"
        if run != parent:
            yield f"{top}/tags/mlflow.parentRunId", parent
        yield f"mlruns/0/models/{model}/meta.yaml", MODEL.format(own=own, run=run, model=model, time=time)
        yield f"mlruns/0/models/{model}/tags/mlflow.source.name", f"/scratch/work/{own}/checkout/train.py"
    yield "mlruns/models/diabetes/meta.yaml", REGISTERED.format(time=time)
    version = VERSION.format(own=own, run=run, model=model, time=time, about=about)
    yield "mlruns/models/diabetes/version-1/meta.yaml", version


@pytest.fixture
def verdicts(home: Home, stored: Stored) -> Verdicts:
    """A function that compares two such stores; the second one was made with what is given."""

    def compare(**changes: object) -> tuple[OutputVerdict, ...]:
        one, other = new_run_id(), new_run_id()
        recorded = stored(_sorted(dict(a_search(one, 1795449377000))), run_id=one)
        replayed = stored(_sorted(dict(a_search(other, 1795449381000, **changes))), run_id=other)  # type: ignore[arg-type]
        return compare_outputs(recorded, replayed, home=home, rules=Rules())

    return compare


def _sorted(files: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(files.items()))


@pytest.mark.parametrize("turn", range(5))
def test_runs_that_began_in_the_same_moment_are_told_apart_by_what_was_logged(verdicts: Verdicts, turn: int) -> None:
    found = verdicts()
    assert {(item.path, item.result) for item in found if item.result not in ("identical", "equivalent")} == set()
    assert {rule for item in found for rule in item.rules} == {"mlflow-files-1", "mlflow-ids-1", "own-paths-1"}


def test_a_metric_of_a_model_counts(verdicts: Verdicts) -> None:
    different = [item for item in verdicts(rmse=0.75) if item.result not in ("identical", "equivalent")]
    assert {item.result for item in different} == {"different"}
    assert {item.path.rpartition("/")[2] for item in different} == {"rmse"}
    assert len(different) == 8
    assert different[0].place == "line 1"


def test_what_a_registered_version_says_counts(verdicts: Verdicts) -> None:
    (different,) = [item for item in verdicts(about="better") if item.result not in ("identical", "equivalent")]
    assert (different.path, different.place) == ("mlruns/models/diabetes/version-1/meta.yaml", "line 2")
    assert different.recorded == "description: 'null'"
