"""What MLflow 2 and 3 leave in the work directory of a run that was told of no server."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import store
from orchestrator.compare import OutputVerdict, Rules, compare_outputs, parse_tolerances
from orchestrator.model import RunRecord
from orchestrator.paths import Home

Stored = Callable[..., RunRecord]
One = Callable[..., OutputVerdict]

SCHEMA = """
CREATE TABLE experiments (experiment_id INTEGER, name TEXT, creation_time BIGINT);
CREATE TABLE runs
  (run_uuid TEXT, name TEXT, status TEXT, start_time BIGINT, lifecycle_stage TEXT, experiment_id INTEGER);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE metrics (key TEXT, value DOUBLE, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN);
CREATE TABLE logged_models (model_id TEXT, name TEXT, status INTEGER, model_type TEXT, creation_timestamp_ms BIGINT);
CREATE TABLE logged_model_params (model_id TEXT, param_key TEXT, param_value TEXT);
CREATE TABLE logged_model_tags (model_id TEXT, tag_key TEXT, tag_value TEXT);
CREATE TABLE trace_info (request_id TEXT);
"""


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., tuple[str, bytes]]:
    """A database as MLflow 3 makes it, of two runs and a model, with the first run's id."""
    made = iter(range(10**6))

    def make(rmse: float = 0.5, alpha: str = "1.0", own: str = "x", more: str = "") -> tuple[str, bytes]:
        number = next(made)
        path = tmp_path / f"mlflow-{number}.db"
        ids = [uuid.uuid4().hex for _ in range(2)]
        model = f"m-{uuid.uuid4().hex}"
        with closing(sqlite3.connect(path)) as c:
            c.executescript(SCHEMA)
            c.execute("INSERT INTO experiments VALUES (1, 'wine', ?)", (number,))
            for late, run in reversed(list(enumerate(ids))):
                row = (run, f"name-{number}", "FINISHED", 10 * number + late, "active")
                c.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, 1)", row)
                c.execute("INSERT INTO params VALUES ('alpha', ?, ?)", (alpha + "0" * late, run))
                for step in (1, 0):
                    c.execute("INSERT INTO metrics VALUES ('rmse', ?, ?, ?, ?, 0)", (rmse + step, number, run, step))
                c.execute("INSERT INTO metrics VALUES ('none', 0, ?, ?, 0, 1)", (number, run))
                c.execute("INSERT INTO tags VALUES ('mlflow.runName', ?, ?)", (f"name-{number}", run))
                c.execute("INSERT INTO tags VALUES ('kind', ?, ?)", (own, run))
            c.execute("INSERT INTO logged_models VALUES (?, 'model', 2, NULL, ?)", (model, number))
            c.execute("INSERT INTO logged_model_params VALUES (?, 'alpha', ?)", (model, alpha))
            c.executescript(more)
        return ids[0], path.read_bytes()

    return make


def test_a_database_in_which_the_same_was_logged_is_equivalent(
    one: One, database: Callable[..., tuple[str, bytes]]
) -> None:
    verdict = one("mlflow.db", database()[1], database()[1])
    assert (verdict.result, verdict.kind, verdict.rules) == ("equivalent", "mlflow", ("mlflow-store-1",))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"rmse": 0.75}, "/runs/0/metrics/rmse/0/1"),
        ({"alpha": "2.0"}, "/models/0/params/alpha"),
        ({"own": "y"}, "/runs/0/tags/kind"),
        ({"more": "INSERT INTO trace_info VALUES ('a')"}, "/rows/trace_info"),
        ({"more": "DELETE FROM logged_models"}, "/models/0"),
        ({"more": "UPDATE runs SET status = 'FAILED'"}, "/runs/0/status/0"),
        ({"more": "UPDATE metrics SET is_nan = 0"}, "/runs/0/metrics/none/0/1"),
    ],
)
def test_what_was_logged_in_a_database_counts(
    one: One, database: Callable[..., tuple[str, bytes]], changes: dict[str, str], place: str
) -> None:
    verdict = one("mlflow.db", database()[1], database(**changes)[1])
    assert (verdict.result, verdict.place) == ("different", place)


def test_a_metric_in_a_database_has_a_tolerance(one: One, database: Callable[..., tuple[str, bytes]]) -> None:
    verdict = one("mlflow.db", database()[1], database(rmse=0.5001)[1], "1e-2")
    assert (verdict.result, verdict.rules) == ("equivalent", ("mlflow-store-1", "tolerance rel=0.01"))


@pytest.mark.parametrize(
    "more",
    [
        "DROP TABLE metrics; CREATE VIEW metrics AS WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) "
        "SELECT 'a' AS key, n AS value, 1 AS timestamp, run_uuid, 1 AS step, 0 AS is_nan FROM x, runs",
        "DROP TABLE params",
    ],
)
def test_another_database_of_that_name_is_bytes(
    one: One, database: Callable[..., tuple[str, bytes]], more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.compare.mlflow_store._MOST_STEPS", 100_000)
    content = database()[1]
    for other in (database(more=more)[1], content[:5000], content[:16] + b"x" * 5000):
        assert one("mlflow.db", content, other).kind == "bytes"
        assert one("mlflow.db", other, content).result == "different"


def test_artifacts_of_a_run_are_found_by_the_id_that_the_database_tells(
    home: Home, stored: Stored, database: Callable[..., tuple[str, bytes]]
) -> None:
    (one, content), (other, later) = database(), database()
    recorded = stored({"mlflow.db": content, f"mlruns/1/{one}/artifacts/note.txt": "coef 1\n"})
    replayed = stored({"mlflow.db": later, f"mlruns/1/{other}/artifacts/note.txt": "coef 1\n"})
    assert {v.result for v in compare_outputs(recorded, replayed, home=home, rules=Rules())} == {"equivalent"}


# --- the file store of MLflow 2 ---------------------------------------------------------------------------------

EXPERIMENT = """\
artifact_location: file://{work}/checkout/mlruns/{experiment}
creation_time: {time}
experiment_id: '{experiment}'
last_update_time: {time}
lifecycle_stage: active
name: wine
"""
RUN = """\
artifact_uri: file://{work}/checkout/mlruns/{experiment}/{run}/artifacts
end_time: {time}9
experiment_id: '{experiment}'
lifecycle_stage: active
run_id: {run}
run_name: respected-foal-{time}
run_uuid: {run}
start_time: {time}
status: 3
"""


def file_store(work: str, time: int, rmse: float = 0.5) -> dict[str, str]:
    experiment, top = str(uuid.uuid4().int)[:18], "mlruns/"
    files = {f"{top}{experiment}/meta.yaml": EXPERIMENT.format(work=work, experiment=experiment, time=time)}
    for late in range(2):
        run = uuid.uuid4().hex
        place = f"{top}{experiment}/{run}"
        files |= {
            f"{place}/meta.yaml": RUN.format(work=work, experiment=experiment, run=run, time=time + late),
            f"{place}/metrics/rmse": f"{time} {rmse + late} 0\n{time + 1} {rmse} 1\n",
            f"{place}/params/alpha": str(late),
            f"{place}/tags/mlflow.runName": f"respected-foal-{time + late}",
            f"{place}/tags/kind": "x",
            f"{place}/artifacts/note.txt": f"run {run}\n",
        }
    return files


def test_a_file_store_in_which_the_same_was_logged_is_equivalent(home: Home, stored: Stored) -> None:
    runs = [uuid.uuid4().hex for _ in range(2)]
    recorded, replayed = (
        stored(file_store(f"/scratch/work/{run}", 1732340000 + later), run_id=run) for later, run in enumerate(runs)
    )
    verdicts = compare_outputs(recorded, replayed, home=home, rules=Rules())
    assert {v.result for v in verdicts} == {"equivalent"}
    assert {rule for v in verdicts for rule in v.rules} == {"mlflow-files-1", "mlflow-ids-1", "own-paths-1"}


def test_what_was_logged_in_a_file_store_counts(home: Home, stored: Stored) -> None:
    recorded, replayed = stored(file_store("/w", 1732340000)), stored(file_store("/w", 1732350000, rmse=0.75))
    verdicts = compare_outputs(recorded, replayed, home=home, rules=Rules())
    different = [v for v in verdicts if v.result != "equivalent"]
    assert [v.path.rpartition("/")[2] for v in different] == ["rmse", "rmse"]
    assert (different[0].result, different[0].place, different[0].recorded) == ("different", "line 1", "0.5")


# --- models ----------------------------------------------------------------------------------------------------------

MODEL_3 = """\
artifact_path: mlflow-artifacts:/8/models/{model}/artifacts
flavors:
  python_function:
    loader_module: mlflow.sklearn
    model_path: model.skops
mlflow_version: {version}
model_id: {model}
model_size_bytes: {size}
model_uuid: {model}
run_id: {run}
signature:
  inputs: '[{{"type": "double", "name": "a", "required": true}}]'
utc_time_created: '2026-11-23 04:51:{second}.023624'
"""


def model_file(second: int = 37, version: str = "3.17.2", run: str = "") -> tuple[str, str]:
    model = f"m-{uuid.uuid4().hex}"
    text = MODEL_3.format(model=model, version=version, size=6800 + second, run=run or uuid.uuid4().hex, second=second)
    return model, text


def test_a_logged_model_comes_out_again(home: Home, stored: Stored) -> None:
    (one, text), (other, later) = model_file(37), model_file(52)
    files = {f"mlruns/0/models/{one}/artifacts/{name}": text for name in ("MLmodel",)}
    files[f"mlruns/0/models/{one}/artifacts/conda.yaml"] = "name: mlflow-env\n"
    recorded = stored(files)
    replayed = stored({path.replace(one, other): content.replace(text, later) for path, content in files.items()})
    verdicts = compare_outputs(recorded, replayed, home=home, rules=Rules())
    assert [v.result for v in verdicts] == ["equivalent", "equivalent"]
    assert verdicts[0].rules == ("mlflow-ids-1", "mlmodel-volatile-1")
    assert verdicts[1].rules == ("mlflow-ids-1",)


def test_models_are_held_against_each_other_in_the_order_they_were_logged(home: Home, stored: Stored) -> None:
    recorded, replayed = (
        stored(
            {
                f"models/{model}/{name}": content
                for (model, text), data in zip((model_file(30), model_file(31)), ("first", "second"), strict=True)
                for name, content in (("MLmodel", text), ("weights", data))
            }
        )
        for _ in range(2)
    )
    verdicts = compare_outputs(recorded, replayed, home=home, rules=Rules())
    assert {v.result for v in verdicts} == {"equivalent"}


def test_what_is_not_volatile_in_a_model_counts(one: One) -> None:
    verdict = one("model/MLmodel", model_file()[1], model_file(version="3.18.0")[1])
    assert (verdict.result, verdict.recorded) == ("different", "mlflow_version: 3.17.2")


def test_fields_of_a_model_file_count_in_another_file(one: One) -> None:
    assert one("notes.txt", "utc_time_created: 1\n", "utc_time_created: 2\n").result == "different"


def test_a_model_that_is_the_same_needs_no_reading(home: Home, stored: Stored) -> None:
    _, text = model_file()
    recorded = stored({"m/MLmodel": text, "a": "1"})
    replayed = replace(stored({"a": "2"}), outputs=())
    replayed = replace(replayed, outputs=(recorded.outputs[0],))
    store.blob_path(home, recorded.outputs[0].sha256).unlink()
    verdicts = compare_outputs(recorded, replayed, home=home, rules=Rules())
    assert [v.result for v in verdicts] == ["identical", "missing"]


def test_a_tolerance_does_not_make_two_models_one(home: Home, stored: Stored) -> None:
    runs = []
    for chosen in (0, 1):
        models = [model_file(second) for second in (30, 31)]
        files = {f"models/{model}/MLmodel": text for model, text in models}
        runs.append(stored({**files, "best.txt": f"best {models[chosen][0]}\n"}))
    verdicts = compare_outputs(*runs, home=home, rules=parse_tolerances(["rel=9,abs=9"]))
    assert {v.path: v.result for v in verdicts}["best.txt"] == "different"
