"""Calls to the model registry: registered models, their versions, aliases, stages and tags, and searches."""

from __future__ import annotations

from typing import Any

from tracking.calls import Call, delete, experiment, get, only, pairs, patch, post, run, unlike

_NAME = "m-{salt}"


def model(name: str = _NAME, **more: Any) -> Call:
    # What is kept makes it wait: no two are as old as each other.
    return post("registered-models/create", {"name": name, **more}, keep={"_": "registered_model.name"})


def seen(name: str = _NAME) -> Call:
    return get("registered-models/get", name=name)


def version(name: str = _NAME, source: str = "runs:/{run}/model", **more: Any) -> Call:
    """A version; of a run's folder that nobody has to have filled."""
    told = {"run_id": "{run}"} if source.startswith("runs:/{run}") else {}
    return post(
        "model-versions/create", {"name": name, "source": source, **told, **more}, keep={"_": "model_version.version"}
    )


def seen_version(number: str = "1", name: str = _NAME) -> Call:
    return get("model-versions/get", name=name, version=number)


def uri(number: str = "1", name: str = _NAME) -> Call:
    return get("model-versions/get-download-uri", name=name, version=number)


def of_model(what: str, method: Any = post, **body: Any) -> Call:
    call: Call = method(f"registered-models/{what}", {"name": _NAME, **body})
    return call


def of_version(what: str, method: Any = post, number: str = "1", **body: Any) -> Call:
    call: Call = method(f"model-versions/{what}", {"name": _NAME, "version": number, **body})
    return call


def aliased(alias: str) -> Call:
    return get("registered-models/alias", name=_NAME, alias=alias)


def _models(text: str | None = None, **more: Any) -> Call:
    return get("registered-models/search", **({} if text is None else {"filter": text}), **more)


def _versions(text: str | None = None, **more: Any) -> Call:
    return get("model-versions/search", **({} if text is None else {"filter": text}), **more)


_MADE = [experiment(), run(), model(), version()]
_HERE = "name LIKE '%-{salt}'"

REGISTERED: dict[str, list[Call]] = {
    "a registered model": [
        model(),
        seen(),
        model(),
        model("other {salt}", description="d", tags=pairs(a="b", c="")),
        seen("other {salt}"),
        of_model("update", patch, description="new"),
        seen(),
        of_model("update", patch),
        seen(),
        of_model("set-tag", key="k", value="v"),
        of_model("set-tag", key="k", value="w"),
        of_model("set-tag", key="empty", value=""),
        of_model("set-tag", key="long", value="v" * 5000),
        seen(),
        of_model("delete-tag", delete, key="k"),
        of_model("delete-tag", delete, key="k"),
        seen(),
        of_model("rename", new_name="other {salt}"),
        of_model("rename", new_name="new {salt}"),
        seen(),
        seen("new {salt}"),
        model(),
        delete("registered-models/delete", {"name": "new {salt}"}),
        delete("registered-models/delete", {"name": "new {salt}"}),
        seen("new {salt}"),
        seen(),
    ],
    "names": [
        *(model(name) for name in ("a b.c-d_e {salt}", "ü#?%& {salt}", "{salt} 'quoted'", "")),
        # MLflow 2 takes these, and finds no model by them.
        *only("3", *(model(name) for name in ("a/b {salt}", "a:b {salt}", ".", "..{salt}", "   "))),
        *only(
            "3", seen("a/b"), post("registered-models/rename", {"name": "{salt} 'quoted'", "new_name": "a/b {salt}"})
        ),
        get("registered-models/get"),
        seen("ü#?%& {salt}"),
        seen("absent {salt}"),
        post("registered-models/create", {}),
        post("registered-models/create", {"name": 5}),
        post("registered-models/create", {"name": "t {salt}", "tags": {"a": "b"}}),
        model("bad tag {salt}", tags=pairs(**{"a$b": "x"})),
        post("registered-models/rename", {"name": "absent {salt}", "new_name": "x {salt}"}),
        post("registered-models/rename", {"name": "a b.c-d_e {salt}"}),
        post("registered-models/set-tag", {"name": "absent {salt}", "key": "a", "value": "b"}),
        post("registered-models/set-tag", {"name": "a b.c-d_e {salt}", "key": "a$", "value": "b"}),
        post("registered-models/set-tag", {"name": "a b.c-d_e {salt}", "value": "b"}),
        delete("registered-models/delete-tag", {"name": "absent {salt}", "key": "a"}),
        patch("registered-models/update", {"name": "absent {salt}", "description": "d"}),
        post("registered-models/get-latest-versions", {"name": "absent {salt}"}),
    ],
    "versions": [
        *_MADE,
        seen(),
        version(description="second", tags=pairs(a="b"), run_link="http://localhost/x"),
        version(source="runs:/{run}/other/model"),
        seen_version("2"),
        seen(),
        of_version("update", patch, "2", description="changed"),
        of_version("update", patch, "2"),
        seen_version("2"),
        of_version("set-tag", number="2", key="k", value="v"),
        of_version("set-tag", number="2", key="a", value="c"),
        seen_version("2"),
        of_version("delete-tag", delete, "2", key="a"),
        of_version("delete-tag", delete, "2", key="a"),
        seen_version("2"),
        uri("2"),
        of_version("delete", delete, "3"),
        of_version("delete", delete, "3"),
        seen_version("3"),
        uri("3"),
        seen(),
        version(),
        seen(),
        of_model("rename", new_name="renamed {salt}"),
        seen("renamed {salt}"),
        seen_version("1", "renamed {salt}"),
        seen_version("1"),
        version("renamed {salt}"),
        delete("registered-models/delete", {"name": "renamed {salt}"}),
        seen_version("1", "renamed {salt}"),
        model("renamed {salt}"),
        version("renamed {salt}"),
    ],
    "versions that there are not": [
        *_MADE,
        version("absent {salt}"),
        post("model-versions/create", {"name": _NAME}),
        post("model-versions/create", {"source": "runs:/{run}/model", "run_id": "{run}"}),
        *(
            call
            for number in ("2", "0", "-1", "x", "1.5", "")
            for call in (
                seen_version(number),
                of_version("set-tag", number=number, key="k", value="v"),
                of_version("update", patch, number, description="d"),
                of_version("delete", delete, number),
                of_version("transition-stage", number=number, stage="Staging"),
                of_model("alias", alias="a", version=number),
            )
        ),
        of_version("set-tag", number="1", key="a$", value="v"),
        of_version("delete-tag", delete, "2", key="a"),
        post("model-versions/set-tag", {"name": _NAME, "version": 1, "key": "k", "value": "v"}),
        seen(),
    ],
    "aliases": [
        *_MADE,
        version(),
        of_model("alias", alias="champion", version="1"),
        aliased("champion"),
        seen(),
        seen_version(),
        of_model("alias", alias="champion", version="2"),
        of_model("alias", alias="second-best_2", version="2"),
        aliased("champion"),
        seen_version(),
        seen_version("2"),
        seen(),
        of_model("get-latest-versions"),
        of_version("set-tag", number="2", key="k", value="v"),
        of_model("alias", delete, alias="second-best_2"),
        of_model("alias", delete, alias="second-best_2"),
        seen(),
        aliased("second-best_2"),
        aliased("absent"),
        *only("3", get("registered-models/alias", name="absent {salt}", alias="a")),
        *(of_model("alias", alias=alias, version="1") for alias in ("a b", "a.b", "latest", "Latest", "v1", "V2", "")),
        of_model("alias", alias="a" * 256, version="1"),
        of_model("alias", alias="v1x", version="1"),
        post("registered-models/alias", {"name": "absent {salt}", "alias": "a", "version": "1"}),
        *only("3", aliased("latest")),
        of_version("delete", delete, "2"),
        # MLflow 2 forgets to take the aliases away.
        *only("3", aliased("champion"), seen()),
        of_model("alias", alias="champion", version="2"),
        *only("3", of_model("rename", new_name="renamed {salt}")),
        get("registered-models/alias", name="renamed {salt}", alias="v1x"),
    ],
    "stages": [
        *_MADE,
        version(),
        version(),
        of_version("transition-stage", stage="Staging", archive_existing_versions=False),
        seen(),
        of_version("transition-stage", number="2", stage="production"),
        seen(),
        of_version("transition-stage", number="3", stage="Production", archive_existing_versions=True),
        seen_version("2"),
        of_model("get-latest-versions"),
        of_model("get-latest-versions", stages=["Production", "staging"]),
        get("registered-models/get-latest-versions", name=_NAME),
        of_model("get-latest-versions", stages=["Elsewhere"]),
        of_version("transition-stage", stage="Elsewhere"),
        of_version("transition-stage"),
        *unlike(
            "MLflow answers 500 to an archiving transition to a stage where nothing makes way",
            of_version("transition-stage", stage="Archived", archive_existing_versions=True),
        ),
        of_version("transition-stage", stage="None"),
        of_version("transition-stage", stage="Staging", archive_existing_versions="x"),
        seen(),
    ],
    "sources": [
        *_MADE,
        *(
            version(source=source)
            for source in (
                "/etc/passwd",
                "etc/passwd",
                "./etc",
                "../../etc",
                "file:///etc/passwd",
                "file://./etc",
                "file:/etc",
                "s3://bucket/../up",
                "s3://bucket/a/%2e%2e/up",
                "s3://bucket/a/%252e%252e/up",
                "s3://bucket/./a",
                "s3://bucket/a%00b",
                "http:///#/../../../etc/",
                "http:///?/../../../etc/",
                "mlflow-artifacts:/../../x",
                "mlflow-artifacts://localhost/../../x",
                "dbfs:relative",
            )
        ),
        version(source="runs:/{run}/a/../b"),
        version(source="s3://bucket/model"),
        uri("2"),
        version(source="s3://bucket/model", run_id="{run}"),
        version(source="mlflow-artifacts:/{exp}/{run}/artifacts/model", run_id="{run}"),
        uri("4"),
        *only("3", version(source="mlflow-artifacts:/{exp}/{run}/artifacts/model", run_id="0" * 32)),
        *only("3", version(source="runs:/{run}/model", run_id="0" * 32)),
    ],
    "searches of registered models": [
        experiment(),
        run(),
        model("b-{salt}", tags=pairs(team="red")),
        model("a-{salt}", tags=pairs(team="Blue", size="1")),
        model("C-{salt}"),
        version("a-{salt}"),
        of_model("set-tag"),
        _models(_HERE),
        *(
            _models(f"{_HERE} AND {text}")
            for text in (
                "name = 'a-{salt}'",
                "name != 'a-{salt}'",
                "attribute.name = 'a-{salt}'",
                "name LIKE 'c-%'",
                "name ILIKE 'c-%'",
                "tag.team = 'red'",
                "tags.team != 'red'",
                "tags.`team` LIKE 'B%'",
                "tags.team ILIKE 'b%' AND tags.size = '1'",
                "tags.absent = '1'",
                "tag.`mlflow.prompt.is_prompt` != 'true'",
                "tag.`mlflow.prompt.is_prompt` = 'false'",
                "tag.`mlflow.prompt.is_prompt` = 'true'",
                "tag.`mlflow.prompt.is_prompt` != 'false' AND tag.team = 'red'",
                "tags.team = 'red' AND tag.`mlflow.prompt.is_prompt` != 'true'",
            )
        ),
        *only("3", _models("name IN ('a-{salt}', 'b-{salt}')"), _models(f"{_HERE} AND name NOT IN ('a-{{salt}}')")),
        *(
            _models(_HERE, order_by=order)
            for order in (
                ["name DESC"],
                ["name ASC"],
                ["timestamp"],
                ["last_updated_timestamp DESC", "name"],
                ["creation_timestamp"],
                ["tags.team"],
                ["name UP"],
            )
        ),
        *unlike(
            "MLflow answers 500 to a field that is named twice",
            *(_models(_HERE, order_by=order) for order in (["name", "name"], ["timestamp", "last_updated_timestamp"])),
        ),
        *(
            _models(text)
            for text in (
                "name > 'a'",
                "name = a",
                "name = 'a' OR name = 'b'",
                "colour = 'red'",
                "run_id = 'x'",
                "last_updated_timestamp > 5",
                "tags.team > 'a'",
                "params.a = 'b'",
                "name =",
            )
        ),
        _models(_HERE, max_results=2),
        get(
            "registered-models/search",
            {"token": "next_page_token"},
            filter=f"{_HERE} AND name != 'x'",
            max_results=1,
        ),
        _models(f"{_HERE} AND name != 'x'", max_results=1, page_token="{token}"),
        _models(_HERE, max_results=1001),
        _models(_HERE, max_results="x"),
        _models(_HERE, page_token="no token"),
    ],
    "searches of versions": [
        experiment(),
        run(),
        run(keep="second"),
        model("b-{salt}"),
        model("a-{salt}"),
        version("b-{salt}", tags=pairs(team="red")),
        version("a-{salt}", tags=pairs(team="Blue", size="1")),
        version("a-{salt}", "runs:/{second}/model", run_id="{second}"),
        version("b-{salt}", "s3://bucket/{salt}/x"),
        version("b-{salt}"),
        post("registered-models/alias", {"name": "b-{salt}", "alias": "best", "version": "1"}),
        delete("model-versions/delete", {"name": "b-{salt}", "version": "3"}),
        patch("model-versions/update", {"name": "b-{salt}", "version": "1", "description": "later"}),
        _versions(_HERE),
        *(
            _versions(f"{_HERE} AND {text}")
            for text in (
                "name = 'a-{salt}'",
                "name != 'a-{salt}'",
                "run_id = '{run}'",
                "run_id IN ('{run}', '{second}')",
                "run_id = 'absent'",
                "source_path = 's3://bucket/{salt}/x'",
                "source_path LIKE 's3:%'",
                "version_number = 1",
                "version_number > 1",
                "version_number <= 1 AND tags.team = 'red'",
                "tag.team = 'red'",
                "tags.team ILIKE 'b%' AND tags.size = '1'",
                "tag.`mlflow.prompt.is_prompt` != 'true'",
                "tag.`mlflow.prompt.is_prompt` = 'true'",
            )
        ),
        *only("3", _versions("name IN ('a-{salt}')"), _versions(f"{_HERE} AND run_id NOT IN ('{{run}}')")),
        *(
            _versions(_HERE, order_by=order)
            for order in (
                ["name DESC"],
                ["version_number"],
                ["version_number DESC", "name DESC"],
                ["creation_timestamp DESC"],
                ["last_updated_timestamp"],
                ["timestamp"],
                ["run_id"],
            )
        ),
        *unlike("MLflow answers 500 to a field that is named twice", _versions(_HERE, order_by=["name", "name DESC"])),
        *only("3", _versions("version_number = 'x'")),
        *(
            _versions(text)
            for text in (
                "name > 'a'",
                "version_number LIKE '1'",
                "current_stage = 'None'",
                "tags.team > 'a'",
                "source_path IN ('a')",
                "name = 'a' OR name = 'b'",
            )
        ),
        get("model-versions/search", {"token": "next_page_token"}, filter=_HERE, max_results=2),
        _versions(_HERE, max_results=2, page_token="{token}"),
        _versions(_HERE, max_results=0),
        _versions(_HERE, max_results=-1),
        _versions(_HERE, max_results=200_001),
        _versions(_HERE, page_token="no token"),
    ],
}
"""Answered alike by both generations."""

_LOGGED = post(
    "logged-models",
    {"experiment_id": "{exp}", "name": "logged", "source_run_id": "{run}"},
    keep={"model": "model.info.model_id"},
)

OF_LOGGED_MODELS: dict[str, list[Call]] = {
    "versions of logged models": [
        experiment(),
        run(),
        run(keep="second"),
        _LOGGED,
        model(),
        version(source="models:/{model}", model_id="{model}"),
        seen_version(),
        uri(),
        get("logged-models/{model}"),
        version(source="models:/{model}", model_id="{model}", run_id="{run}", tags=pairs(a="b")),
        get("logged-models/{model}"),
        model("copies {salt}"),
        version("copies {salt}", "models:/m-{salt}/2"),
        version("copies {salt}", "models:/m-{salt}/2", run_id="{second}"),
        version("copies {salt}", "models:/m-{salt}/7"),
        version("copies {salt}", "models:/absent {salt}/1"),
        of_model("alias", alias="best", version="1"),
        version("copies {salt}", "models:/m-{salt}@best"),
        version("copies {salt}", "models:/m-{salt}@absent"),
        version("copies {salt}", "models:/m-{salt}/1/x"),
        uri("1", "copies {salt}"),
        _versions("name LIKE '%{salt}' AND run_id = '{run}'"),
        version(source="models:/{model}", model_id="m-" + "0" * 32),
        version(source="runs:/{run}/model", run_id="{run}", model_id="{model}"),
        version(source="mlflow-artifacts:/{exp}/models/{model}/artifacts", model_id="{model}"),
        version(source="mlflow-artifacts:/{exp}/models/{model}/artifacts", model_id="m-" + "0" * 32),
        version(source="s3://bucket/x", model_id="{model}"),
        *unlike(
            "what the source names is known without being said once more",
            version(source="models:/{model}"),
            post("model-versions/create", {"name": _NAME, "source": "runs:/{run}/model"}),
        ),
        *unlike(
            "MLflow 3 answers 500 here",
            version(source="models:/m-" + "0" * 32, model_id="m-" + "0" * 32),
        ),
    ],
}
"""As MLflow 3 answers; MLflow 2 has no logged models."""
