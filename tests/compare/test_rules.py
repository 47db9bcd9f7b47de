from __future__ import annotations

import pytest
from made_trees import FileTree

from orchestrator.compare import (
    MetricRule,
    OutputRule,
    Rules,
    Tolerance,
    joined,
    parse_tolerance,
    parse_tolerances,
    project_rules,
    unmatched,
)
from orchestrator.compare.rules import declared_for, declared_for_metric
from orchestrator.errors import OrchError, UsageError

# --- -t ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("1e-6", Tolerance(1e-6)),
        ("0", Tolerance()),
        ("rel=1e-6,abs=1e-9", Tolerance(1e-6, 1e-9)),
        ("abs=0.5", Tolerance(0.0, 0.5)),
        (" abs = 0.5 , rel=1 ", Tolerance(1.0, 0.5)),
        ("1e-6,abs=2", Tolerance(1e-6, 2.0)),
        ("metrics.json:1e-6", OutputRule("metrics.json", Tolerance(1e-6))),
        ("plots/**/*.csv:abs=1", OutputRule("plots/**/*.csv", Tolerance(0.0, 1.0))),
        ("a:b.csv:1", OutputRule("a:b.csv", Tolerance(1.0))),
        ("metrics:rmse:1e-6", MetricRule("rmse", Tolerance(1e-6))),
        ("metrics:loss/*:abs=1", MetricRule("loss/*", Tolerance(0.0, 1.0))),
        ("metrics:a:b:1", MetricRule("a:b", Tolerance(1.0))),
        ("metrics:1e-6", MetricRule("**", Tolerance(1e-6))),
        ("logs/**:ignore", OutputRule("logs/**", None, ("*",))),
        ("m.json:ignore=started", OutputRule("m.json", None, ("started",))),
        ("m.json:ignore=a:b, host", OutputRule("m.json", None, ("a:b", "host"))),
        ("m.json:ignore=*", OutputRule("m.json", None, ("*",))),
        ("metrics:fit_seconds:ignore", MetricRule("fit_seconds")),
        ("metrics:ignore", MetricRule("**")),
        ("ignore:1", OutputRule("ignore", Tolerance(1.0))),
    ],
)
def test_a_tolerance_of_the_command_line(text: str, meaning: Tolerance | OutputRule | MetricRule) -> None:
    assert parse_tolerance(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "nan",
        "inf",
        "-1",
        "rel=",
        "rel=1,rel=2",
        "1,2",
        "tol=1",
        "a.csv:",
        "a.csv:x",
        ":1",
        "/a:1",
        "../a:1",
        "1e999",
        "ignore",
        ":ignore",
        "/a:ignore",
        "ignore=a",
        "a.json:ignore=",
        "a.json:ignore=a,",
        "a.json:ignore=*,a",
        "metrics:rmse:ignore=a",
    ],
)
def test_what_is_no_tolerance_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="-t"):
        parse_tolerance(text)


def test_one_for_everything_is_for_metrics_and_outputs_without_their_own() -> None:
    rules = parse_tolerances(["1e-3", "m.json:1e-6", "metrics:mae:1"])
    assert declared_for("m.json", rules).tolerance == Tolerance(1e-6)
    assert declared_for("a/b.csv", rules).tolerance == Tolerance(1e-3)
    assert declared_for_metric("mae", rules).tolerance == Tolerance(1.0)
    assert declared_for_metric("m.json", rules).tolerance == Tolerance(1e-3)
    assert declared_for_metric("m.json", parse_tolerances(["m.json:1"])).by_value is None
    assert declared_for("mae", parse_tolerances(["metrics:mae:1"])).by_value is None
    assert parse_tolerances([]) == Rules()
    with pytest.raises(UsageError, match="given already"):
        parse_tolerances(["1e-3", "1e-6"])


def test_the_command_line_comes_before_the_project_and_what_is_ignored_adds_up() -> None:
    project = Rules((OutputRule("*.json", Tolerance(1e-2), ("at",)), OutputRule("m.*", None, ("host",))))
    rules = joined(parse_tolerances(["m.json:1e-6"]), project)
    declared = declared_for("m.json", rules)
    assert (declared.tolerance, declared.ignore) == (Tolerance(1e-6), {"at", "host"})
    assert declared.ignore_rule == "*.json: ignore at; m.*: ignore host"
    assert declared_for("n.json", rules).tolerance == Tolerance(1e-2)
    assert declared_for("n.txt", rules).by_value is None
    assert joined(Rules(everything=Tolerance()), Rules(everything=Tolerance(1.0))).everything == Tolerance()


def test_of_several_rules_for_a_metric_the_first_holds() -> None:
    project = Rules(
        metrics=(MetricRule("seconds"), MetricRule("*", Tolerance(1e-2)), MetricRule("rmse", Tolerance(1.0)))
    )
    rules = joined(parse_tolerances(["metrics:mae:1e-6", "1"]), project)
    assert declared_for_metric("mae", rules).tolerance_rule == "mae: tolerance rel=1e-06"
    assert declared_for_metric("rmse", rules).tolerance == Tolerance(1e-2)
    assert declared_for_metric("val/rmse", rules).tolerance_rule == "tolerance rel=1.0"
    seconds = declared_for_metric("seconds", rules)
    assert (seconds.ignores_all, seconds.ignore_rule) == (True, "seconds: ignore")
    assert not declared_for_metric("seconds", joined(parse_tolerances(["metrics:1e-6"]), project)).ignores_all


def test_one_for_everything_is_for_what_the_project_has_no_rule_for() -> None:
    project = Rules((OutputRule("m.json", Tolerance(1e-6)),))
    rules = joined(parse_tolerances(["n.json:0", "1e-2"]), project)
    assert declared_for("m.json", rules).tolerance == Tolerance(1e-6)
    assert declared_for("n.json", rules).tolerance == Tolerance()
    assert declared_for("o.json", rules).tolerance == Tolerance(1e-2)
    assert declared_for("m.json", joined(parse_tolerances(["**:1e-2"]), project)).tolerance == Tolerance(1e-2)
    assert declared_for("m.json", joined(parse_tolerances(["**:1", "1e-2"]), project)).tolerance == Tolerance(1.0)


def test_the_patterns_that_nothing_matches_are_known() -> None:
    rules = parse_tolerances(["1e-3", "*.csv:1", "*.cvs:ignore", "metrics:rmse:1", "metrics:rsme:ignore", "*.cvs:1"])
    assert unmatched(rules, ["a.csv"], ["rmse"]) == ("*.cvs", "metrics:rsme")
    assert unmatched(parse_tolerances(["metrics:1", "1"]), ["a.csv"], []) == ("metrics",)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("m.json", "m.json", True),
        ("m.json", "a/m.json", False),
        ("*.json", "m.json", True),
        ("*.json", "a/m.json", False),
        ("**/*.json", "m.json", True),
        ("**/*.json", "a/b/m.json", True),
        ("logs/**", "logs/a/b", True),
        ("logs/**", "logs2/a", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("**", "a/b\nc", True),
        ("?.csv", "1.csv", True),
        ("?.csv", "/.csv", False),
        ("[a].csv", "[a].csv", True),
        ("[a].csv", "a.csv", False),
        ("a.csv", "abcsv", False),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    rules = Rules((OutputRule(pattern, Tolerance(1.0)),))
    assert (declared_for(path, rules).by_value is not None) == matches


# --- the project ------------------------------------------------------------------------------------------------

MLPROJECT = """\
name: wine
outputs:
  metrics.json: {tolerance: 1e-6, ignore: [started, host]}
  "plots/*.csv": {tolerance: {relative: 0.01, absolute: 1e-9}}
  "logs/**": {ignore: "*"}
  a.txt: {tolerance: "rel=1e-3,abs=1"}
metrics:
  rmse: 1e-6
  "loss/*": {relative: 0.01, absolute: 1e-9}
  r2: abs=0.5
  fit_seconds: ignore
entry_points:
  main: {command: "python train.py"}
"""

PYPROJECT = """\
[project]
name = "wine"
[tool.orch.outputs]
"metrics.json" = { tolerance = 1e-6, ignore = ["started", "host"] }
"plots/*.csv" = { tolerance = { relative = 0.01, absolute = 1e-9 } }
"logs/**" = { ignore = "*" }
"a.txt" = { tolerance = "rel=1e-3,abs=1" }
[tool.orch.metrics]
rmse = 1e-6
"loss/*" = { relative = 0.01, absolute = 1e-9 }
r2 = "abs=0.5"
fit_seconds = "ignore"
"""

DECLARED = Rules(
    (
        OutputRule("metrics.json", Tolerance(1e-6), ("started", "host")),
        OutputRule("plots/*.csv", Tolerance(0.01, 1e-9)),
        OutputRule("logs/**", None, ("*",)),
        OutputRule("a.txt", Tolerance(1e-3, 1.0)),
    ),
    (
        MetricRule("rmse", Tolerance(1e-6)),
        MetricRule("loss/*", Tolerance(0.01, 1e-9)),
        MetricRule("r2", Tolerance(0.0, 0.5)),
        MetricRule("fit_seconds"),
    ),
)


def test_a_project_declares_its_outputs_and_metrics_in_mlproject_or_pyproject() -> None:
    assert project_rules(FileTree({"MLproject": MLPROJECT}), "") == DECLARED
    assert project_rules(FileTree({"sub/mlproject": MLPROJECT, "MLproject": "x: 1"}), "sub") == DECLARED
    assert project_rules(FileTree({"pyproject.toml": PYPROJECT}), "") == DECLARED
    both = project_rules(FileTree({"pyproject.toml": PYPROJECT, "MLproject": "outputs: {b: {tolerance: 1}}"}), "")
    assert both.outputs == (OutputRule("b", Tolerance(1.0)), *DECLARED.outputs)
    assert both.metrics == DECLARED.metrics
    assert project_rules(FileTree({"{0}/MLproject": "metrics: {a: 1}"}), "{0}").metrics == (
        MetricRule("a", Tolerance(1.0)),
    )


def test_a_list_is_the_other_way_to_write_it() -> None:
    listed = "outputs:\n- {path: m.json, tolerance: 1e-6}\n- path: '*.csv'\n  ignore: time\n"
    rules = (OutputRule("m.json", Tolerance(1e-6)), OutputRule("*.csv", None, ("time",)))
    assert project_rules(FileTree({"MLproject": listed}), "").outputs == rules
    toml = (
        '[[tool.orch.outputs]]\npath = "m.json"\ntolerance = 1e-6\n[[tool.orch.outputs]]\npath="*.csv"\nignore="time"\n'
    )
    assert project_rules(FileTree({"pyproject.toml": toml}), "").outputs == rules


def test_outputs_have_the_short_forms_of_metrics() -> None:
    short = "{a/*: 1e-3, b: 0.5, c: 'abs=1', d: {relative: 0.1, absolute: 2}, 'logs/**': ignore}"
    rules = (
        OutputRule("a/*", Tolerance(1e-3)),
        OutputRule("b", Tolerance(0.5)),
        OutputRule("c", Tolerance(0.0, 1.0)),
        OutputRule("d", Tolerance(0.1, 2.0)),
        OutputRule("logs/**", None, ("*",)),
    )
    assert project_rules(FileTree({"MLproject": f"outputs: {short}"}), "").outputs == rules
    toml = '[tool.orch.outputs]\n"a/*" = 1e-3\n"logs/**" = "ignore"\n'
    assert project_rules(FileTree({"pyproject.toml": toml}), "").outputs == (rules[0], rules[-1])


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"MLproject": "name: x"},
        {"MLproject": "outputs:"},
        {"pyproject.toml": "[tool.orch]\n"},
        {"pyproject.toml": "tool=1 # orch"},
        {"MLproject": "metrics:"},
        {"pyproject.toml": "[tool.pytorch"},
    ],
)
def test_a_project_that_declares_nothing(files: dict[str, str]) -> None:
    assert project_rules(FileTree(files), "") == Rules()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outputs: 1", "MLproject: outputs is a mapping"),
        (
            "outputs: {m.json: ignored}",
            "'m.json': 'ignored' is not a number; write a number, or relative and absolute, ignore, or a mapping of",
        ),
        ("outputs: {m.json: -1}", "'m.json': -1 is not a number from 0 up"),
        ("outputs: {m.json: [1]}", "'m.json': [1] is not a number"),
        ("outputs: {m.json: true}", "'m.json': True is not a number"),
        ("outputs: {m.json: }", "'m.json' is a tolerance, ignore, or a mapping of both, not None"),
        ("outputs: {m.json: {}}", "'m.json': it is empty"),
        ("outputs: {m.json: {tolerence: 1}}", "'tolerence' is not known"),
        ("outputs: {m.json: {tolerance: x}}", "'m.json', tolerance: 'x' is not a number"),
        ("outputs: {m.json: {tolerance: -1}}", "from 0 up"),
        ("outputs: {m.json: {tolerance: .inf}}", "from 0 up"),
        ("outputs: {m.json: {tolerance: true}}", "True is not a number"),
        ("outputs: {m.json: {tolerance: {relativ: 1}}}", "'relativ' is neither"),
        ("outputs: {m.json: {tolerance: [1]}}", "is not a number"),
        ("outputs: {m.json: {ignore: 1}}", "'m.json', ignore is a list of names"),
        ("outputs: {m.json: {ignore: [1]}}", "is a list of names"),
        ("outputs: {m.json: {ignore: ['*', a]}}", "stands alone"),
        ("outputs: {/etc/x: {tolerance: 1}}", "no pattern of paths"),
        ("outputs: {../x: {tolerance: 1}}", "no pattern of paths"),
        ("outputs: {1: {tolerance: 1}}", "no pattern of paths"),
        ("outputs: [{tolerance: 1}]", "entry 1: it needs a path"),
        ("outputs: [m.json]", "entry 1: it needs a path"),
        ("outputs: {", "MLproject: not valid YAML"),
        ("metrics: 1", "MLproject: metrics is a mapping of names"),
        ("metrics: [rmse]", "MLproject: metrics is a mapping of names"),
        ("metrics: {1: 1}", "1 is no name of a metric"),
        (
            "metrics: {rmse: x}",
            "metrics, 'rmse': 'x' is not a number; write a number, or relative and absolute, or ignore",
        ),
        ("metrics: {rmse: {tolerance: 1}}", "'rmse': 'tolerance' is neither relative nor absolute"),
        ("metrics: {rmse: }", "None is not a number"),
    ],
)
def test_what_is_not_understood_is_named_with_file_and_key(text: str, said: str) -> None:
    with pytest.raises(OrchError) as failed:
        project_rules(FileTree({"MLproject": text}), "")
    assert said in str(failed.value)
    assert str(failed.value).startswith("MLproject: ")


def test_a_pyproject_that_is_no_toml_is_named() -> None:
    with pytest.raises(OrchError, match=r"sub/pyproject\.toml is not valid TOML"):
        project_rules(FileTree({"sub/pyproject.toml": "[tool.orch"}), "sub")
    with pytest.raises(OrchError, match=r"pyproject\.toml: \[tool\.orch\.outputs\], 'a', tolerance: -1"):
        project_rules(FileTree({"pyproject.toml": "[tool.orch.outputs]\na={tolerance=-1}"}), "")
    with pytest.raises(OrchError, match=r"pyproject\.toml: \[tool\.orch\.metrics\], 'a': -1"):
        project_rules(FileTree({"pyproject.toml": "[tool.orch.metrics]\na=-1"}), "")
