"""Searches of runs: filters, orders and pages, over a few runs that differ in all."""

from __future__ import annotations

from typing import Any

from tracking.calls import START, Call, experiment, only, pairs, post, run

_RUNS: dict[str, dict[str, Any]] = {
    "a": {
        "at": 1,
        "status": "FINISHED",
        "params": {"alpha": "5.1", "kind": "Linear", "quoted.key-1": "x"},
        "metrics": {"rmse": 0.5, "r2": 0.9},
        "tags": {"team": "red", "with space": "1"},
    },
    "b": {
        "at": 2,
        "status": "FAILED",
        "params": {"alpha": "10", "kind": "linear"},
        "metrics": {"rmse": 1.5, "r2": "NaN"},
        "tags": {"team": "Blue"},
    },
    "c": {
        "at": 3,
        "status": "RUNNING",
        "params": {"alpha": "5.1", "kind": "tree%_"},
        "metrics": {"rmse": -2, "r2": "Infinity"},
        "tags": {"team": "it's"},
    },
    "d": {"at": 3, "status": "KILLED", "params": {"kind": ""}, "metrics": {"r2": "-Infinity"}, "tags": {}},
    "e": {"at": 4, "status": "FINISHED", "params": {}, "metrics": {"rmse": 0.5}, "tags": {"team": "red"}},
}


def _made(name: str) -> list[Call]:
    what = _RUNS[name]
    metrics = [{"key": k, "value": v, "timestamp": START, "step": 0} for k, v in what["metrics"].items()]
    batch = {"metrics": metrics, "params": pairs(**what["params"]), "tags": pairs(**what["tags"])}
    return [
        run(keep=name, start_time=START + 1000 * what["at"], run_name=f"run {name}", user_id=f"user-{name}"),
        post("runs/log-batch", {"run_id": f"{{{name}}}", **batch}),
        post(
            "runs/update",
            {"run_id": f"{{{name}}}", "status": what["status"]}
            | ({} if what["status"] == "RUNNING" else {"end_time": START + 1000 * what["at"] + 500}),
        ),
    ]


def _found(text: str | None = None, **more: Any) -> Call:
    return post("runs/search", {"experiment_ids": ["{exp}"], **({} if text is None else {"filter": text}), **more})


_MADE = [experiment(), *(call for name in _RUNS for call in _made(name))]

_FILTERS = (
    "",
    "metrics.rmse < 1",
    "metrics.rmse <= 0.5 and params.alpha = '5.1'",
    "metric.rmse = 0.5",
    "metrics.rmse != 0.5",
    "metrics.rmse > -3 AND metrics.rmse < 1e0",
    "metrics.r2 > 0",
    "metrics.r2 < 0",
    "metrics.r2 >= 0.9",
    "metrics.absent > 0",
    "params.alpha = '5.1'",
    'params.alpha = "5.1"',
    "params.alpha != '5.1'",
    "parameter.kind LIKE 'lin%'",
    "parameters.kind ILIKE 'lin%'",
    "params.kind LIKE '%'",
    "params.kind LIKE '_inear'",
    "params.kind LIKE 'tree%_'",
    "params.kind = ''",
    "params.`quoted.key-1` = 'x'",
    "params.\"quoted.key-1\" = 'x'",
    "params.quoted.key-1 = 'x'",
    "tags.team = 'red'",
    "tag.team != 'red'",
    "tags.team ILIKE '%E%'",
    'tags.team = "it\'s"',
    "tags.`with space` = '1'",
    "tags.mlflow.runName = 'run a'",
    "tags.`mlflow.runName` LIKE 'run %'",
    "status = 'FINISHED'",
    "attributes.status != 'FINISHED'",
    "attribute.status LIKE 'F%'",
    "attr.status ILIKE 'f%'",
    "run.status = 'RUNNING'",
    "status = 'finished'",
    "run_id = '{a}'",
    "run_id IN ('{a}', '{c}')",
    "attributes.run_id NOT IN ('{a}', '{c}')",
    "run_id LIKE '%'",
    "run_name = 'run b'",
    "attributes.run_name ILIKE 'RUN _'",
    "attributes.`Run name` = 'run b'",
    "user_id = 'user-a'",
    "artifact_uri LIKE '%artifacts'",
    f"start_time > {START + 2000}",
    f"attributes.start_time = {START + 3000}",
    f"attributes.created >= {START + 3000}",
    f"end_time <= {START + 2500}",
    f"end_time != {START + 2500}",
    "   status='FINISHED'   and   metrics.rmse=0.5   ",
    "status = 'FINISHED' AND params.alpha = '5.1' AND tags.team = 'red' AND metrics.rmse > 0",
)

_ONLY_3 = (
    # A metric that is not a number differs from any, to MLflow 3.
    "metrics.r2 != 0",
    "metrics.r2 != 0.9",
    "metrics.r2 = 0",
    "metrics.r2 >= 0",
    "params.alpha IS NULL",
    "params.alpha IS NOT NULL",
    "tags.team IS NULL",
    "tags.team IS NOT NULL AND metrics.rmse < 1",
    "tags.absent is null",
)

_WRONG = (
    "nonsense",
    "metrics.rmse",
    "metrics.rmse >",
    "metrics.rmse > 'x'",
    "metrics.rmse LIKE '1'",
    "metrics.rmse IN (1, 2)",
    "metrics.rmse > x",
    "params.alpha > '5'",
    "params.alpha = 5.1",
    "params.alpha = word",
    "params.alpha IN ('5.1')",
    "tags.team > 'x'",
    "colour = 'red'",
    "colours.red = 'x'",
    "attributes.colour = 'red'",
    "status > 'FINISHED'",
    "start_time = 'x'",
    "start_time LIKE '1'",
    "run_id IN ()",
    "run_id IN ('{a}'",
    "run_id IN '{a}'",
    "status IN (1)",
    "status = 'FINISHED' OR status = 'FAILED'",
    "(status = 'FINISHED')",
    "NOT status = 'FINISHED'",
    "params.alpha = 'open",
    "params.`alpha = 'x'",
    "status = 'FINISHED'; DROP TABLE runs",
    "status = 'FINISHED' -- comment",
    "datasets.colour = 'x'",
    "'FINISHED' = status",
)

_ORDERS = (
    ["metrics.rmse"],
    ["metrics.rmse ASC"],
    ["metrics.rmse DESC"],
    ["metrics.r2 ASC"],
    ["metrics.r2 DESC"],
    ["params.alpha"],
    ["params.alpha DESC"],
    ["params.kind asc", "metrics.rmse desc"],
    ["tags.team", "start_time ASC"],
    ["status DESC", "start_time"],
    ["attributes.start_time ASC"],
    ["start_time DESC"],
    ["end_time"],
    ["end_time DESC"],
    ["run_name DESC"],
    ["created"],
    ["params.`quoted.key-1`"],
    ["metrics.absent", "params.absent", "start_time ASC"],
)

_WRONG_ORDERS = (
    ["colour"],
    ["metrics.rmse sideways"],
    ["metrics"],
    [""],
    ["start_time; DROP TABLE runs"],
    ["metrics.rmse > 0"],
    "start_time",
    [5],
)

SEARCHES: dict[str, list[Call]] = {
    # Two of the runs began at the same time; their ids, which differ, would decide. So each search says an order.
    "runs are filtered": [
        *_MADE,
        *(_found(text, order_by=["run_name"]) for text in _FILTERS),
        *only("3", *(_found(text, order_by=["run_name"]) for text in _ONLY_3)),
    ],
    "a filter that says nothing": [*_MADE, *(_found(text) for text in _WRONG)],
    "runs are ordered": [
        *_MADE,
        *(_found(order_by=[*order, *([] if "name" in order[0] else ["run_name"])]) for order in _ORDERS),
        *(_found(order_by=order) for order in _WRONG_ORDERS),
    ],
    "runs are found in pages": [
        *_MADE,
        post(
            "runs/search",
            {"experiment_ids": ["{exp}"], "max_results": 2, "order_by": ["run_name"]},
            keep={"token": "next_page_token"},
        ),
        post(
            "runs/search",
            {"experiment_ids": ["{exp}"], "max_results": 2, "order_by": ["run_name"], "page_token": "{token}"},
            keep={"token": "next_page_token"},
        ),
        _found(max_results=2, order_by=["run_name"], page_token="{token}"),
        # A full last page has a token to an empty one in MLflow 2.
        *only(
            "3",
            _found(max_results=5, order_by=["run_name"]),
            _found("metrics.rmse = 0.5", max_results=2, order_by=["run_name"]),
        ),
        _found("status != 'KILLED'"),
        _found(max_results=0),
        _found(max_results=-1),
        _found(max_results=50_001),
        _found(max_results="ten"),
        _found(page_token="no token"),
        _found(run_view_type="ALL", order_by=["run_name"]),
        _found(colour="red", order_by=["run_name"]),
    ],
    "runs of several experiments": [
        experiment("one"),
        experiment("two", keep="two"),
        run(run_name="in one"),
        run(keep="second", experiment="{two}", run_name="in two"),
        post("runs/search", {"experiment_ids": ["{exp}", "{two}"], "order_by": ["run_name"]}),
        post("runs/search", {"experiment_ids": ["{two}"]}),
        post("runs/search", {"experiment_ids": []}),
        post("runs/search", {}),
        post("runs/search", {"experiment_ids": ["999999"]}),
        *only(
            "3",
            post("runs/search", {"experiment_ids": ["no-number"]}),
            post("runs/search", {"experiment_ids": "{exp}"}),
        ),
    ],
}
