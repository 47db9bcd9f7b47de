"""Calls about experiments."""

from __future__ import annotations

from tracking.calls import Call, experiment, get, only, post, run, unlike

EXPERIMENTS: dict[str, list[Call]] = {
    "an experiment is made, read, renamed and tagged": [
        experiment("one"),
        get("experiments/get", experiment_id="{exp}"),
        get("experiments/get-by-name", experiment_name="one-{salt}"),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "k", "value": "v"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "k", "value": "w"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "empty", "value": ""}),
        post(
            "experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "mlflow.note.content", "value": "ü\n"}
        ),
        get("experiments/get", experiment_id="{exp}"),
        *only("3", post("experiments/delete-experiment-tag", {"experiment_id": "{exp}", "key": "empty"})),
        *only("3", post("experiments/delete-experiment-tag", {"experiment_id": "{exp}", "key": "absent"})),
        post("experiments/update", {"experiment_id": "{exp}", "new_name": "renamed-{salt}"}),
        post("experiments/update", {"experiment_id": "{exp}"}),
        *unlike("a former name still means it", get("experiments/get-by-name", experiment_name="one-{salt}")),
        *only("3", get("experiments/get-by-name", experiment_name="renamed-{salt}")),
    ],
    "an experiment is made with tags": [
        post(
            "experiments/create",
            {"name": "tagged-{salt}", "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]},
            keep={"exp": "experiment_id"},
        ),
        get("experiments/get", experiment_id="{exp}"),
    ],
    "an experiment that cannot be made": [
        experiment("taken"),
        experiment("taken", keep="never"),
        post("experiments/create", {}),
        post("experiments/create", {"name": ""}),
        post("experiments/create", {"name": 5}),
        post("experiments/create", {"name": None}),
        post("experiments/create", {"name": ["a"]}),
        post("experiments/create", {"name": "x" * 501}),
        post("experiments/create", {"name": "x-{salt}", "tags": "no list"}),
        post("experiments/create", b""),
    ],
    "an experiment is not there": [
        get("experiments/get", experiment_id="999999"),
        get("experiments/get", experiment_id=""),
        get("experiments/get"),
        get("experiments/get-by-name", experiment_name="nobody made this"),
        get("experiments/get-by-name"),
        post("experiments/update", {"experiment_id": "999999", "new_name": "x-{salt}"}),
        post("experiments/update", {"new_name": "x-{salt}"}),
        post("experiments/delete", {"experiment_id": "999999"}),
        post("experiments/delete", {}),
        post("experiments/restore", {"experiment_id": "999999"}),
        post("experiments/set-experiment-tag", {"experiment_id": "999999", "key": "k", "value": "v"}),
        post("experiments/set-experiment-tag", {"key": "k", "value": "v"}),
    ],
    "a tag or a name that an experiment cannot have": [
        experiment("first"),
        experiment("second", keep="second"),
        post("experiments/update", {"experiment_id": "{second}", "new_name": "first-{salt}"}),
        post("experiments/update", {"experiment_id": "{second}", "new_name": 7}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "value": "v"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "k"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "", "value": "v"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "k" * 251, "value": "v"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "a$b", "value": "v"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "../up", "value": "v"}),
        get("experiments/get", experiment_id="{exp}"),
        # MLflow 2 takes 5,000 characters, MLflow 3 takes 20,000.
        *only(
            "3", post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "l", "value": "v" * 20_000})
        ),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "l", "value": "v" * 20_001}),
        *only("3", get("experiments/get", experiment_id="{exp}")),
    ],
    "an experiment is deleted and restored": [
        experiment("gone"),
        run(),
        post("experiments/delete", {"experiment_id": "{exp}"}),
        get("experiments/get", experiment_id="{exp}"),
        get("experiments/get-by-name", experiment_name="gone-{salt}"),
        get("runs/get", run_id="{run}"),
        post("experiments/delete", {"experiment_id": "{exp}"}),
        experiment("gone", keep="never"),
        run(keep="never"),
        post("experiments/set-experiment-tag", {"experiment_id": "{exp}", "key": "k", "value": "v"}),
        post("runs/log-parameter", {"run_id": "{run}", "key": "k", "value": "v"}),
        post("runs/search", {"experiment_ids": ["{exp}"]}),
        post("runs/search", {"experiment_ids": ["{exp}"], "run_view_type": "DELETED_ONLY"}),
        post("experiments/restore", {"experiment_id": "{exp}"}),
        post("experiments/restore", {"experiment_id": "{exp}"}),
        get("experiments/get", experiment_id="{exp}"),
        get("runs/get", run_id="{run}"),
    ],
    "experiments are searched": [
        *(experiment(f"find-{letter}", keep=letter) for letter in "abcd"),
        post("experiments/set-experiment-tag", {"experiment_id": "{b}", "key": "kind", "value": "red"}),
        post("experiments/set-experiment-tag", {"experiment_id": "{c}", "key": "kind", "value": "Blue"}),
        post("experiments/delete", {"experiment_id": "{d}"}),
        *(
            post("experiments/search", {"max_results": 10, "filter": text, "order_by": ["name"]})
            for text in (
                "name LIKE 'find-%-{salt}'",
                "attribute.name ILIKE 'FIND-%-{salt}'",
                "name = 'find-b-{salt}'",
                "name != 'find-b-{salt}' AND name LIKE 'find-%-{salt}'",
                "tags.kind = 'red' AND name LIKE '%-{salt}'",
                "tag.kind != 'red' AND name LIKE '%-{salt}'",
                "tags.`kind` LIKE 'B%' AND name LIKE '%-{salt}'",
                "tags.kind ILIKE 'b%' AND name LIKE '%-{salt}'",
                "creation_time > 0 AND name LIKE 'find-%-{salt}'",
                "last_update_time < 0",
            )
        ),
        *(
            post("experiments/search", {"max_results": 10, "filter": "name LIKE 'find-%-{salt}'", **more})
            for more in (
                {"view_type": "ALL", "order_by": ["name DESC"]},
                {"view_type": "DELETED_ONLY"},
                {"view_type": "ACTIVE_ONLY", "order_by": ["name ASC"]},
                {"order_by": ["creation_time", "name"]},
                {},
            )
        ),
        get("experiments/search", max_results=10, filter="name LIKE 'find-%-{salt}'", order_by="name DESC"),
        post(
            "experiments/search",
            {"max_results": 2, "filter": "name LIKE 'find-%-{salt}'", "order_by": ["name"]},
            keep={"token": "next_page_token"},
        ),
        post(
            "experiments/search",
            {
                "max_results": 2,
                "filter": "name LIKE 'find-%-{salt}'",
                "order_by": ["name"],
                "page_token": "{token}",
            },
        ),
    ],
    "a search of experiments that cannot be done": [
        *(
            post("experiments/search", {"max_results": 10, "filter": text})
            for text in (
                "nonsense",
                "name",
                "name >",
                "name = x",
                "colour = 'x'",
                "tags.a > 'x'",
                "name = 'a' OR name = 'b'",
            )
        ),
        post("experiments/search", {"max_results": 0}),
        post("experiments/search", {"max_results": -1}),
        post("experiments/search", {"max_results": 100_001}),
        post("experiments/search", {"max_results": "ten"}),
        post("experiments/search", {"max_results": 10, "order_by": ["colour"]}),
        post("experiments/search", {"max_results": 10, "order_by": ["name sideways"]}),
        post("experiments/search", {"max_results": 10, "order_by": "name"}),
        post("experiments/search", {"max_results": 10, "page_token": "no token"}),
        post("experiments/search", {"max_results": 10, "filter": 5}),
    ],
}
