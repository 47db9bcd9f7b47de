"""Programs that log params, metrics, tags, artifacts and datasets, search, and change runs and experiments."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from client_script import THREE, check, refused
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType


def params_metrics_and_tags() -> None:
    with mlflow.start_run(run_name="all of it", description="told") as run:
        mlflow.log_param("alpha", 5.1)
        mlflow.log_param("alpha", 5.1)
        mlflow.log_params({"kind": "lin", "long": "v" * 7000, "unicode": "ünï 語", "none": None, "list": [1, 2]})
        mlflow.log_metric("m", 0.25)
        mlflow.log_metric("m", 0.5, step=1)
        mlflow.log_metric("m", -0.5, step=-3)
        mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "minus": -math.inf, "int": 3}, step=7)
        mlflow.set_tag("t", "1")
        mlflow.set_tags({"u": "ü", "number": 5, "gone": "x"})
        mlflow.delete_tag("gone")
        refused("INVALID_PARAMETER_VALUE", lambda: mlflow.log_param("alpha", 6))
        refused("INVALID_PARAMETER_VALUE", lambda: mlflow.log_param("a$b", 6))
    known = mlflow.get_run(run.info.run_id)
    check(known.info.status, "FINISHED")
    check(known.info.run_name, "all of it")
    assert known.info.end_time >= known.info.start_time
    params = known.data.params
    check((params["alpha"], params["kind"], params["unicode"]), ("5.1", "lin", "ünï 語"))
    check((params["none"], params["list"]), ("None", "[1, 2]"))
    check(params["long"][:6000], "v" * 6000)
    metrics = known.data.metrics
    check((metrics["m"], metrics["int"]), (0.5, 3.0))
    assert math.isnan(metrics["nan"])
    assert metrics["inf"] > 1e308
    assert metrics["minus"] < -1e308
    tags = known.data.tags
    check((tags["t"], tags["u"], tags["number"], tags.get("gone")), ("1", "ü", "5", None))
    check((tags["mlflow.note.content"], tags["mlflow.source.type"]), ("told", "LOCAL"))
    history = MlflowClient().get_metric_history(run.info.run_id, "m")
    check(sorted((point.step, point.value) for point in history), [(-3, -0.5), (0, 0.25), (1, 0.5)])


def batches() -> None:
    with mlflow.start_run() as run:
        run_id = run.info.run_id
        MlflowClient().log_batch(
            run_id,
            metrics=[Metric("m", n / 2, 1000 + n, n) for n in range(1000)],
            params=[Param(f"p{n}", str(n)) for n in range(90)],
            tags=[RunTag(f"t{n}", str(n)) for n in range(10)],
        )
        # More than a request may hold: the client makes several.
        mlflow.log_params({f"q{n}": n for n in range(250)})
        mlflow.log_metrics({f"m{n}": n for n in range(1100)})
        mlflow.set_tags({f"s{n}": n for n in range(150)})
    known = mlflow.get_run(run_id)
    check(len(known.data.params), 340)
    check(len(known.data.metrics), 1101)
    check(len([key for key in known.data.tags if not key.startswith("mlflow.")]), 160)
    check([p.value for p in MlflowClient().get_metric_history(run_id, "m")], [n / 2 for n in range(1000)])


def asynchronous_logging() -> None:
    with mlflow.start_run() as run:
        for n in range(60):
            mlflow.log_metric("m", n * 0.5, step=n, synchronous=False)
        mlflow.log_params({"a": 1, "b": 2}, synchronous=False)
        mlflow.set_tag("t", "1", synchronous=False)
        mlflow.flush_async_logging()
        known = mlflow.get_run(run.info.run_id)
        check((known.data.params, known.data.tags["t"], known.data.metrics["m"]), ({"a": "1", "b": "2"}, "1", 29.5))
    check(len(MlflowClient().get_metric_history(run.info.run_id, "m")), 60)


def many_threads() -> None:
    client = MlflowClient()
    with mlflow.start_run() as run:
        run_id = run.info.run_id

        def log(thread: int) -> None:
            for n in range(10):
                client.log_metric(run_id, "shared", thread + n / 100, step=n)
                client.log_metric(run_id, f"own {thread}", n, step=n)
            client.log_param(run_id, f"p{thread}", thread)
            client.log_text(run_id, str(thread), f"text/{thread}.txt")

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(log, range(4)))
    known = mlflow.get_run(run_id)
    check(len(known.data.params), 4)
    check(len(client.get_metric_history(run_id, "shared")), 40)
    check([len(client.get_metric_history(run_id, f"own {n}")) for n in range(4)], [10] * 4)
    check(sorted(file.path for file in client.list_artifacts(run_id, "text")), [f"text/{n}.txt" for n in range(4)])


def artifacts() -> None:
    folder = Path(mkdtemp())
    names = ["a.txt", "a b.txt", "a+b.txt", "100%.txt", "ünï.txt", "empty.txt", "deep/er/c.bin"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"" if name == "empty.txt" else name.encode() * 3)
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(folder / "a.txt"))
        mlflow.log_artifact(str(folder / "a b.txt"), "into a folder")
        mlflow.log_artifacts(str(folder), "all")
        mlflow.log_text("<p>ü</p>", "page.html")
        mlflow.log_dict({"k": [1, 2]}, "dict.json")
        mlflow.log_dict({"k": [1, 2]}, "dict.yml")
        mlflow.log_table({"q": ["a"], "n": [1]}, "table.json")
        mlflow.log_table({"q": ["b"], "n": [2]}, "table.json")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "image.png")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="dog", step=3)
        try:
            from matplotlib.figure import Figure
        except ImportError:
            pass
        else:
            mlflow.log_figure(Figure(), "figure.png")
    run_id = run.info.run_id
    client = MlflowClient()
    top = {file.path: (file.is_dir, file.file_size) for file in client.list_artifacts(run_id)}
    check(top["a.txt"], (False, 15))
    check(top["all"][0], True)
    check(sorted(f.path for f in client.list_artifacts(run_id, "all/deep")), ["all/deep/er"])
    check(client.list_artifacts(run_id, "absent"), [])
    copy = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="all"))
    check({name: (copy / name).read_bytes() for name in names}, {name: (folder / name).read_bytes() for name in names})
    one = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/into a folder/a b.txt")
    check(Path(one).read_text(), "a b.txt" * 3)
    check(mlflow.artifacts.load_text(f"runs:/{run_id}/page.html"), "<p>ü</p>")
    check(mlflow.artifacts.load_dict(f"runs:/{run_id}/dict.json"), {"k": [1, 2]})
    check(mlflow.artifacts.load_image(f"runs:/{run_id}/image.png").size, (4, 4))
    check(mlflow.load_table("table.json", run_ids=[run_id])["n"].tolist(), [1, 2])
    check(len(client.list_artifacts(run_id, "images")), 2)
    try:
        mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="absent.txt")
    except Exception as error:  # each version and each kind of path has its own
        assert "absent.txt" in str(error), error
    else:
        raise AssertionError("an artifact that is not there was downloaded")


def datasets() -> None:
    frame = pd.DataFrame({"a": [float(n % 7) for n in range(40)], "b": [float(n % 5) for n in range(40)]})
    dataset = mlflow.data.from_pandas(frame, source="https://example.org/data.csv", name="wine", targets="b")
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training", tags={"k": "v"})
        mlflow.log_input(mlflow.data.from_numpy(np.arange(6), name="numbers"))
    inputs = {item.dataset.name: item for item in mlflow.get_run(run.info.run_id).inputs.dataset_inputs}
    check(sorted(inputs), ["numbers", "wine"])
    wine = inputs["wine"]
    check(wine.dataset.digest, dataset.digest)
    check({tag.key: tag.value for tag in wine.tags}, {"mlflow.data.context": "training", "k": "v"})
    check(json.loads(wine.dataset.profile)["num_rows"], 40)
    check(mlflow.data.get_source(wine).url, "https://example.org/data.csv")
    found = mlflow.search_runs(filter_string="datasets.name = 'wine' AND dataset.context = 'training'")
    check(found["run_id"].tolist(), [run.info.run_id])


def a_run_is_resumed() -> None:
    with mlflow.start_run(run_name="twice") as run:
        mlflow.log_metric("m", 1)
    run_id = run.info.run_id
    with mlflow.start_run(run_id=run_id):
        check(mlflow.get_run(run_id).info.status, "RUNNING")
        mlflow.log_metric("m", 2, step=1)
    os.environ["MLFLOW_RUN_ID"] = run_id
    try:
        with mlflow.start_run() as again:
            check(again.info.run_id, run_id)
            mlflow.log_metric("m", 3, step=2)
    finally:
        os.environ.pop("MLFLOW_RUN_ID", None)
    known = mlflow.get_run(run_id)
    check((known.info.status, known.info.run_name, known.data.metrics["m"]), ("FINISHED", "twice", 3.0))
    try:
        with mlflow.start_run() as failed:
            raise ValueError("a program that fails")
    except ValueError:
        check(mlflow.get_run(failed.info.run_id).info.status, "FAILED")


def nested_runs() -> None:
    experiment = mlflow.set_experiment(f"nested {uuid.uuid4().hex}").experiment_id
    with mlflow.start_run(run_name="parent") as parent:
        for n in range(2):
            with mlflow.start_run(run_name=f"child {n}", nested=True) as child:
                mlflow.log_metric("n", n)
        other = mlflow.start_run(run_name="by id", parent_run_id=parent.info.run_id, nested=True)
        mlflow.end_run()
    found = mlflow.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'", output_format="list")
    check(sorted(run.info.run_name for run in found), ["by id", "child 0", "child 1"])
    check(MlflowClient().get_parent_run(child.info.run_id).info.run_id, parent.info.run_id)
    check(MlflowClient().get_parent_run(other.info.run_id).info.run_id, parent.info.run_id)
    check(MlflowClient().get_parent_run(parent.info.run_id), None)


def searches() -> None:
    experiment = mlflow.set_experiment(f"searches {uuid.uuid4().hex}").experiment_id
    for n in range(5):
        with mlflow.start_run(run_name=f"run {n}", tags={"parity": "even" if n % 2 == 0 else "odd"}):
            mlflow.log_metric("n", math.nan if n == 4 else n)
            mlflow.log_param("p.q", f"value {n}")
            if n:
                mlflow.log_param("later", n)

    def names(text: str, order: list[str] | None = None, **more: Any) -> list[str]:
        found = mlflow.search_runs([experiment], text, order_by=order or ["run_name"], output_format="list", **more)
        return [run.info.run_name[-1] for run in found]

    check(names(""), ["0", "1", "2", "3", "4"])
    check(names("metrics.n >= 1 AND metrics.n < 3"), ["1", "2"])
    check(names("params.`p.q` = 'value 3'"), ["3"])
    check(names("params.\"p.q\" LIKE 'value%' and tags.parity != 'odd'"), ["0", "2", "4"])
    check(names("tags.parity ILIKE 'O%'"), ["1", "3"])
    check(names("attributes.status = 'FINISHED' AND run_name LIKE '%_'"), ["0", "1", "2", "3", "4"])
    odd = [run.info.run_id for run in mlflow.search_runs([experiment], "tags.parity = 'odd'", output_format="list")]
    check(names(f"run_id IN ('{odd[0]}', '{odd[1]}')"), ["1", "3"])
    check(names("", ["metrics.n DESC"]), ["3", "2", "1", "0", "4"])
    check(names("", ["tags.parity", "attributes.start_time ASC"]), ["0", "2", "4", "1", "3"])
    check(names("", max_results=2), ["0", "1"])
    refused("INVALID_PARAMETER_VALUE", lambda: names("metrics.n > 'x'"))
    refused("INVALID_PARAMETER_VALUE", lambda: names("status = 'FINISHED' OR status = 'FAILED'"))
    if THREE:
        check(names("params.later IS NULL"), ["0"])
        check(names("params.later IS NOT NULL AND tags.parity = 'even'"), ["2", "4"])
    table = mlflow.search_runs([experiment], order_by=["run_name"])
    check(table["params.p.q"].tolist(), [f"value {n}" for n in range(5)])
    check(table["metrics.n"].tolist()[:4], [0.0, 1.0, 2.0, 3.0])
    pages = []
    token = None
    while True:
        page = MlflowClient().search_runs([experiment], max_results=2, order_by=["run_name"], page_token=token)
        pages.append([run.info.run_name[-1] for run in page])
        token = page.token
        if not token:
            break
    check(pages, [["0", "1"], ["2", "3"], ["4"]])


def experiments() -> None:
    client = MlflowClient()
    name = f"experiments {uuid.uuid4().hex}"
    experiment = client.create_experiment(name, tags={"a": "1"})
    client.set_experiment_tag(experiment, "b", "2")
    known = client.get_experiment_by_name(name)
    check((known.experiment_id, known.tags, known.lifecycle_stage), (experiment, {"a": "1", "b": "2"}, "active"))
    refused("RESOURCE_ALREADY_EXISTS", lambda: client.create_experiment(name))
    check(client.get_experiment_by_name(f"{name} absent"), None)
    client.rename_experiment(experiment, f"{name} renamed")
    check(client.get_experiment(experiment).name, f"{name} renamed")
    found = client.search_experiments(filter_string=f"name LIKE '{name}%' AND tags.a = '1'")
    check([known.experiment_id for known in found], [experiment])
    client.delete_experiment(experiment)
    check(client.get_experiment(experiment).lifecycle_stage, "deleted")
    found = client.search_experiments(ViewType.DELETED_ONLY, filter_string=f"name LIKE '{name}%'")
    check([known.experiment_id for known in found], [experiment])
    client.restore_experiment(experiment)
    check(client.get_experiment(experiment).lifecycle_stage, "active")
    check(mlflow.set_experiment(f"{name} renamed").experiment_id, experiment)
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_experiment("999999"))


def runs_of_a_client() -> None:
    client = MlflowClient()
    experiment = client.create_experiment(f"runs {uuid.uuid4().hex}")
    run_id = client.create_run(experiment, start_time=1000, tags={"k": "v"}, run_name="mine").info.run_id
    client.log_metric(run_id, "m", 1.5, timestamp=2000, step=4)
    (point,) = client.get_metric_history(run_id, "m")
    check((point.value, point.timestamp, point.step), (1.5, 2000, 4))
    client.update_run(run_id, status="FAILED", name="renamed")
    check((client.get_run(run_id).info.status, client.get_run(run_id).info.run_name), ("FAILED", "renamed"))
    client.set_terminated(run_id, "KILLED", end_time=3000)
    info = client.get_run(run_id).info
    check((info.status, info.start_time, info.end_time), ("KILLED", 1000, 3000))
    client.delete_run(run_id)
    check(client.get_run(run_id).info.lifecycle_stage, "deleted")
    check(client.search_runs([experiment]), [])
    check([run.info.run_id for run in client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)], [run_id])
    refused("INVALID_PARAMETER_VALUE", lambda: client.log_metric(run_id, "m", 2))
    client.restore_run(run_id)
    client.log_metric(run_id, "m", 2.5, step=5)
    check(client.get_run(run_id).data.metrics, {"m": 2.5})
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_run("0" * 32))


def a_traced_function() -> None:
    """A server without traces must not stop a program, nor make it wait."""

    @mlflow.trace
    def double(number: int) -> int:
        return 2 * number

    begin = time.monotonic()
    with mlflow.start_run() as run:
        mlflow.log_metric("doubled", double(4))
    mlflow.flush_trace_async_logging()
    assert time.monotonic() - begin < 20
    check(mlflow.get_run(run.info.run_id).data.metrics, {"doubled": 8.0})
