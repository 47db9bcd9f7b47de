"""Which entry point runs, and with which values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from project.made_tree import MadeTree
from project.running import arguments, install_argv, run_script

from orchestrator.errors import OrchError, UsageError
from orchestrator.project import (
    Bound,
    EntryPoint,
    Parameter,
    bind,
    choose_entry_point,
    parse_parameter_options,
    read_project,
    render,
)


def entry(command: str, *parameters: Parameter) -> EntryPoint:
    return EntryPoint("main", command, parameters)


# --- -P ---------------------------------------------------------------------------------------------------------


def test_options_are_split_at_the_first_equals_sign() -> None:
    assert parse_parameter_options(["b=1", "a=x=y", "c="]) == {"b": "1", "a": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        (["alpha"], "-P alpha is no parameter; write -P NAME=VALUE."),
        (["=1"], "-P =1 is no parameter"),
        (["a=1", "a=2"], "-P a is given twice ('1' and '2')"),
        (["a=\udcff"], "the value of parameter 'a' is not UTF-8 text; values are recorded as such, so put other bytes"),
        (["\udcff=1"], "the parameter name '\\udcff' is not UTF-8 text; names are recorded as such."),
        (["\udcff"], "is not UTF-8 text"),
    ],
)
def test_a_wrong_option_is_wrong_usage(pairs: list[str], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_parameter_options(pairs)
    assert problem in str(caught.value)


# --- values -----------------------------------------------------------------------------------------------------


def test_values_come_in_the_projects_order_then_the_undeclared_in_the_callers() -> None:
    point = entry("run {a} {b}\n", Parameter("a", "float", "1"), Parameter("b"))
    bound = bind(point, {"z": "26", "b": "2", "y.y-y": "25"}, cwd=Path("/"))
    assert bound.command == "run {a} {b} --z {z} --y.y-y {y.y-y}"
    assert bound.parameters == {"a": "1", "b": "2", "z": "26", "y.y-y": "25"}
    assert list(bound.parameters) == ["a", "b", "z", "y.y-y"]
    assert bind(point, {"b": "2"}, cwd=Path("/")).command == "run {a} {b}\n"


def test_undeclared_values_reach_the_program(tmp_path: Path) -> None:
    install_argv(tmp_path)
    bound = bind(entry("argv {a}\n", Parameter("a")), {"a": "it's", "b.c": "$(touch canary)"}, cwd=tmp_path)
    printed = run_script(render(bound.command, bound.parameters), tmp_path)
    assert arguments(printed) == [["it's", "--b.c", "$(touch canary)"]]


@pytest.mark.parametrize("name", ["a b", "1a", "-a", "a;b", "a$b", "a=", "é", "{a}", ""])
def test_an_undeclared_name_that_is_no_option_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="can't become an option"):
        bind(entry("run"), {name: "1"}, cwd=Path("/"))


def test_an_undeclared_name_beside_declared_ones_is_noted() -> None:
    point = entry("run {label} {size}", Parameter("label", default="a"), Parameter("size", default="1"))
    assert bind(point, {"label": "b"}, cwd=Path("/")).notes == ()
    assert bind(point, {"lable": "b", "zz": "1"}, cwd=Path("/")).notes == (
        "parameter 'lable' is not declared; it is passed on as --lable. Did you mean 'label'?",
        "parameter 'zz' is not declared; it is passed on as --zz.",
    )
    assert bind(entry("run"), {"lable": "b"}, cwd=Path("/")).notes == ()


@pytest.mark.parametrize("given", [{"a": "\udcff"}, {"b": "x\ud800"}, {"\udcff": "1"}])
def test_what_is_not_utf8_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        bind(entry("run {a}", Parameter("a", default="1")), given, cwd=Path("/"))


def test_an_undeclared_value_does_not_fill_a_placeholder() -> None:
    with pytest.raises(OrchError, match="the command of entry point 'main' uses a parameter 'b' at column 5"):
        bind(entry("run {b}"), {"b": "1"}, cwd=Path("/"))


def test_all_missing_parameters_are_named_at_once() -> None:
    point = entry("run", Parameter("a", "path"), Parameter("b", "float", "1"), Parameter("learning_rate", "float"))
    with pytest.raises(UsageError) as caught:
        bind(point, {"learning-rate": "1"}, cwd=Path("/"))
    assert str(caught.value) == (
        "entry point 'main' needs parameters that have no value: a (path), learning_rate (float); "
        "give -P a=VALUE -P learning_rate=VALUE; -P learning-rate is not declared, did you mean learning_rate?"
    )


def test_one_missing_parameter_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"a parameter that has no value: data \(path\); give -P data=VALUE\.$"):
        bind(entry("run", Parameter("data", "path")), {}, cwd=Path("/"))


@pytest.mark.parametrize("value", ["1", "-1.5", "1e-3", ".5", "nan", "inf", "+2"])
def test_numbers_are_floats(value: str) -> None:
    assert bind(entry("run", Parameter("a", "float")), {"a": value}, cwd=Path("/")).parameters == {"a": value}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("float", v) for v in ("abc", "", "1,5", "1_0", " 1", "0x10", "1 2", "$(id)", "١")]
    + [("int", v) for v in ("1.0", "1e3", "", "x", "1_0", "5 ", "0b1")],
)
def test_a_given_value_that_is_no_number_is_refused(kind: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        bind(entry("run", Parameter("a", kind)), {"a": value}, cwd=Path("/"))
    assert "parameter 'a' is a" in str(caught.value)
    assert repr(value) in str(caught.value)
    assert kind in str(caught.value)
    assert caught.value.exit_code == 2


def test_defaults_and_other_types_are_not_checked() -> None:
    point = entry("run", Parameter("a", "float", "auto"), Parameter("b", "bool"), Parameter("c", "whatever"))
    assert bind(point, {"b": "perhaps", "c": ""}, cwd=Path("/")).parameters == {"a": "auto", "b": "perhaps", "c": ""}


def test_a_uri_has_a_scheme() -> None:
    point = entry("run {u}", Parameter("u", "uri"))
    assert bind(point, {"u": "s3://bucket/x"}, cwd=Path("/")).parameters == {"u": "s3://bucket/x"}
    with pytest.raises(UsageError, match="parameter 'u' is a uri, and 'a/b' has no scheme"):
        bind(point, {"u": "a/b"}, cwd=Path("/"))
    with pytest.raises(OrchError, match="default 'a/b' of parameter 'u' of entry point 'main' has no scheme"):
        bind(entry("run", Parameter("u", "uri", "a/b")), {}, cwd=Path("/"))


# --- paths ------------------------------------------------------------------------------------------------------


def test_local_paths_are_the_callers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    odd = tmp_path / "data" / "it's 100% ü:x"
    odd.write_text("")
    point = entry("run {p}", Parameter("p", "path"))
    for value in ("data/it's 100% ü:x", "./data/../data/it's 100% ü:x", str(odd)):
        bound = bind(point, {"p": value}, cwd=tmp_path)
        assert (bound.parameters, bound.paths, bound.downloads) == ({"p": value}, {"p": odd}, {})
    for value in (odd.as_uri(), odd.as_uri().replace("file://", "file://localhost")):
        assert bind(point, {"p": value}, cwd=tmp_path).paths == {"p": odd}
    assert bind(point, {"p": "data"}, cwd=tmp_path).paths == {"p": tmp_path / "data"}


@pytest.mark.parametrize("value", ["nothing.csv", "/nothing", "file:///nothing", "", "a\0b"])
def test_a_given_path_exists(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match="parameter 'p' is a path, and there is no file or folder"):
        bind(entry("run {p}", Parameter("p", "path")), {"p": value}, cwd=tmp_path)


def test_a_file_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")).touch()
    with pytest.raises(UsageError, match=r"parameter 'p' is a path, and the file name .* is not UTF-8 text; rename it"):
        bind(entry("run {p}", Parameter("p", "path")), {"p": "file:%ff.csv"}, cwd=tmp_path)


def test_a_file_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a file of another machine"):
        bind(entry("run {p}", Parameter("p", "path")), {"p": "file://host/a"}, cwd=tmp_path)


@pytest.mark.parametrize("value", ["https://example.org/a.csv", "s3://b/c", "runs:/0123/model"])
def test_a_remote_path_is_a_download(tmp_path: Path, value: str) -> None:
    bound = bind(entry("run {p}", Parameter("p", "path")), {"p": value}, cwd=tmp_path)
    assert (bound.paths, bound.downloads) == ({}, {"p": value})
    bound = bind(entry("run {p}", Parameter("p", "path", value)), {}, cwd=tmp_path)
    assert bound.downloads == {"p": value}


def test_a_default_path_is_a_file_of_the_project(tmp_path: Path) -> None:
    bound = bind(entry("run {p}", Parameter("p", "path", "data/a.csv")), {}, cwd=tmp_path)
    assert bound == Bound("run {p}", {"p": "data/a.csv"})


@pytest.mark.parametrize("default", ["/etc/passwd", "../a", "a/../../b", "~/.ssh/id_rsa", "file:///etc/passwd", ""])
def test_a_default_path_does_not_reach_the_callers_files(tmp_path: Path, default: str) -> None:
    with pytest.raises(OrchError, match="is not a path inside the project; a file of your own you give with -P p=PATH"):
        bind(entry("run {p}", Parameter("p", "path", default)), {}, cwd=tmp_path)


# --- entry points -----------------------------------------------------------------------------------------------

TREE = MadeTree(
    {
        "a/MLproject": "entry_points: {main: {command: c}, validate: {command: d}, listed.py: {command: e}}",
        "a/train.py": "",
        "a/src/my run.sh": "",
        "a/-x.py": "",
        "a/{x}.py": "",
        "a/plot.R": "",
        "a/it's.R": "",
        "b/outside.py": "",
    }
)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("validate", "d"),
        ("listed.py", "e"),
        ("train.py", "python train.py"),
        ("src/my run.sh", "bash 'src/my run.sh'"),
        ("-x.py", "python ./-x.py"),
        ("{x}.py", "python '{{x}}.py'"),
        ("plot.R", "Rscript -e \"mlflow::mlflow_source('plot.R')\" --args"),
    ],
)
def test_an_entry_point_is_a_listed_one_or_a_script(name: str, command: str) -> None:
    chosen = choose_entry_point(read_project(TREE, "a"), name, TREE)
    assert (chosen.name, chosen.command) == (name, command)


def test_a_script_takes_any_value() -> None:
    for name in ("train.py", "src/my run.sh", "plot.R"):
        bound = bind(choose_entry_point(read_project(TREE, "a"), name, TREE), {"x": "it's"}, cwd=Path("/"))
        assert render(bound.command, bound.parameters).text.endswith(' --x "${ORCH_P_0}"')


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("valdate", "no entry point 'valdate'; there are main, validate, listed.py; .* Did you mean 'validate'?"),
        ("absent.py", "there is no file 'absent.py' in the project, and there is no entry point 'absent.py'"),
        ("../b/outside.R", "there is no file"),
        ("/etc/x.sh", "there is no file"),
        ("train.txt", "no entry point 'train.txt'"),
        ("it's.R", "the R script \"it's.R\" can't be an entry point"),
    ],
)
def test_an_unknown_entry_point_is_refused_with_those_there_are(name: str, problem: str) -> None:
    with pytest.raises(OrchError, match=problem):
        choose_entry_point(read_project(TREE, "a"), name, TREE)


def test_without_an_mlproject_the_scripts_there_are_are_named() -> None:
    files = ["a/train.py", "a/b.txt", "a/prep.sh", "a/src/x.py", "a/my plot.R", "a/\udcff.py"]
    assert refusal(MadeTree(dict.fromkeys(files, "")), "a") == (
        "there is no entry point 'main': the project has no MLproject file; "
        "name a script of it (-e 'my plot.R', -e prep.sh, -e train.py)."
    )
    many = MadeTree({f"{letter}.py": "" for letter in "abcd"})
    assert refusal(many).endswith("name a script of it (-e a.py, -e b.py, -e c.py).")


def test_without_an_mlproject_the_projects_below_are_named() -> None:
    files = {
        "b/deep/er/MLproject": "",
        "b/b/mlproject": "",
        "a c/MLproject": "",
        ".x/MLproject": "",
        "b/z/MLproject": "",
    }
    assert refusal(MadeTree(files)).endswith("MLproject file; take a project below it ('#a c', #b/b, #b/z).")
    assert refusal(MadeTree({**files, "setup.py": ""})).endswith(
        "MLproject file; name a script of it (-e setup.py), or take a project below it ('#a c', #b/b, #b/z)."
    )
    assert refusal(MadeTree(files), "b").endswith("take a project below it (b/b, b/z, b/deep/er).")
    assert refusal(MadeTree({"README.md": "", "src/a.py": ""})) == (
        "there is no entry point 'main': the project has no MLproject file, and no .py, .sh or .R file to name with -e."
    )


def test_an_mlproject_without_entry_points_is_told_which_key_may_be_meant() -> None:
    assert refusal(MadeTree({"MLproject": "entrypoints: {main: {command: c}}"})) == (
        "there is no entry point 'main': MLproject has no entry_points, but the unknown key 'entrypoints'; "
        "rename it to 'entry_points'."
    )
    assert "MLproject has no entry points; name a script of it (-e a.py)." in refusal(
        MadeTree({"MLproject": "name: n", "a.py": ""})
    )


def refusal(tree: MadeTree, subdir: str = "") -> str:
    """What is said when the project in `subdir` has no `main`."""
    with pytest.raises(OrchError) as caught:
        choose_entry_point(read_project(tree, subdir), "main", tree)
    return str(caught.value)
