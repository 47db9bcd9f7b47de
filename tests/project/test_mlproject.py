"""MLproject files as MLflow reads them, and the environment that a project names."""

from __future__ import annotations

import textwrap

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from project.made_tree import MadeTree

from orchestrator.errors import OrchError
from orchestrator.project import DeclaredInput, EntryPoint, EnvironmentFile, Parameter, read_project


def made(mlproject: str | None = None, subdir: str = "", **files: str) -> MadeTree:
    """A tree with an MLproject in `subdir`; `conda_yaml` names the file `conda.yaml`."""
    tree = {name.replace("__", "/").replace("_y", ".y").replace("_txt", ".txt"): text for name, text in files.items()}
    if mlproject is not None:
        tree[f"{subdir}/MLproject".lstrip("/")] = textwrap.dedent(mlproject)
    return MadeTree(tree)


def test_a_project_of_mlflow_is_read() -> None:
    tree = made(
        """
        name: tutorial
        conda_env: conda.yaml
        something_else: {a: 1}
        entry_points:
          main:
            parameters:
              alpha: {type: float, default: 0.5}
              l1_ratio: float
              data: {type: path}
              where: {default: here}
            command: "python train.py {alpha} {l1_ratio}"
          validate:
            command: >
              python
              validate.py
        """,
        conda_yaml="",
    )
    project = read_project(tree, "")
    assert project.name == "tutorial"
    assert project.file == "MLproject"
    assert project.environment == EnvironmentFile("conda", "conda.yaml")
    assert list(project.entry_points) == ["main", "validate"]
    assert project.entry_points["main"] == EntryPoint(
        "main",
        "python train.py {alpha} {l1_ratio}",
        (
            Parameter("alpha", "float", "0.5"),
            Parameter("l1_ratio", "float", None),
            Parameter("data", "path", None),
            Parameter("where", "string", "here"),
        ),
    )
    assert project.entry_points["validate"].command == "python validate.py\n"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("010", "8"),
        ("yes", "True"),
        ("off", "False"),
        ("1e-3", "1e-3"),
        ("1.0e-5", "1e-05"),
        ("0.10", "0.1"),
        ("'0.10'", "0.10"),
        ('""', ""),
        ("1_000", "1000"),
        ("2024-05-01", "2024-05-01"),
        ("12:30:00", "45000"),
        (".inf", "inf"),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_a_default_becomes_text_as_in_mlflow(written: str, text: str | None) -> None:
    tree = made(f"entry_points: {{main: {{command: c, parameters: {{p: {{type: float, default: {written}}}}}}}}}")
    assert read_project(tree, "").entry_points["main"].parameters == (Parameter("p", "float", text),)


@given(st.one_of(st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec="utf-8"))))
def test_any_default_is_what_python_makes_of_it(value: object) -> None:
    document = {"entry_points": {"main": {"command": "c", "parameters": {"p": {"default": value}}}}}
    text = yaml.safe_dump(document)
    loaded = yaml.safe_load(text)["entry_points"]["main"]["parameters"]["p"]["default"]
    (parameter,) = read_project(MadeTree({"MLproject": text}), "").entry_points["main"].parameters
    assert parameter.default == str(loaded)


@pytest.mark.parametrize("name", ["MLproject", "mlproject", "MLPROJECT", "MLProject"])
def test_the_file_is_found_whatever_its_case(name: str) -> None:
    project = read_project(MadeTree({f"sub/{name}": "name: n", "MLproject": "name: other"}), "sub")
    assert (project.name, project.file, project.subdir) == ("n", f"sub/{name}", "sub")


@pytest.mark.parametrize("text", ["", "# nothing", "name: n\nentry_points:\n", "---\n"])
def test_an_empty_file_is_a_project_without_entry_points(text: str) -> None:
    assert read_project(MadeTree({"MLproject": text}), "").entry_points == {}


def test_without_a_file_there_are_no_entry_points() -> None:
    project = read_project(made(environment_yml="", conda_yaml=""), "")
    assert (project.name, project.file, project.entry_points) == (None, None, {})
    assert project.environment == EnvironmentFile("conda", "environment.yml")
    assert project.notes == ()


@pytest.mark.parametrize("kind", ["string", "float", "int", "path", "uri", "bool", "boolean", ""])
def test_a_known_type_is_not_worth_a_note(kind: str) -> None:
    text = f"entry_points: {{main: {{command: c, parameters: {{p: {{type: {kind}}}}}}}}}"
    assert read_project(made(text, conda_yaml=""), "").notes == ()


def test_an_unknown_type_is_noted_with_its_line() -> None:
    text = "entry_points:\n  main:\n    command: c\n    parameters:\n      a: flaot\n      b:\n        type: whatever\n"
    assert read_project(made(text, conda_yaml=""), "").notes == (
        "MLproject line 5: parameter 'a' has the unknown type 'flaot', and is taken as text. Did you mean 'float'?",
        "MLproject line 7: parameter 'b' has the unknown type 'whatever', and is taken as text.",
    )


def test_a_misspelt_key_is_noted() -> None:
    project = read_project(made("name: n\nentrypoints: {}\nconda-env: x\nnames: y\nauthor: z", conda_yaml=""), "")
    assert project.misspelt == {"entry_points": "entrypoints", "conda_env": "conda-env"}
    assert project.notes == (
        "MLproject line 2: the key 'entrypoints' is unknown, and is ignored. Did you mean 'entry_points'?",
        "MLproject line 3: the key 'conda-env' is unknown, and is ignored. Did you mean 'conda_env'?",
    )


# --- the environment --------------------------------------------------------------------------------------------

EVERY = ["python_env.yaml", "conda.yaml", "environment.yml", "environment.yaml", "conda-lock.yml", "requirements.txt"]
KINDS = ["python_env", "conda", "conda", "conda", "conda-lock", "requirements"]


def test_beside_an_mlproject_the_files_of_mlflow_come_first() -> None:
    for first, (name, kind) in enumerate(zip(EVERY, KINDS, strict=True)):
        tree = MadeTree({"a/MLproject": "name: n", **{f"a/{other}": "" for other in EVERY[first:]}})
        assert read_project(tree, "a").environment == EnvironmentFile(kind, f"a/{name}")


def test_without_an_mlproject_the_files_of_conda_come_first() -> None:
    order = [
        "environment.yml",
        "environment.yaml",
        "conda.yaml",
        "conda-lock.yml",
        "python_env.yaml",
        "requirements.txt",
    ]
    for first, name in enumerate(order):
        tree = MadeTree({f"a/{other}": "" for other in order[first:]})
        assert read_project(tree, "a").environment.path == f"a/{name}"


@pytest.mark.parametrize("mlproject", [None, "name: n", "conda_env: ''", "python_env:"])
def test_a_project_without_an_environment_says_so(mlproject: str | None) -> None:
    project = read_project(made(mlproject, other_yaml=""), "")
    assert project.environment == EnvironmentFile("none", "")
    assert project.notes == ("the project names no environment: it gets one with the newest Python and nothing else.",)


def test_a_named_environment_wins_and_may_lie_elsewhere_in_the_repository() -> None:
    tree = MadeTree({"a/MLproject": "conda_env: ../envs/gpu.yaml", "a/python_env.yaml": "", "envs/gpu.yaml": ""})
    assert read_project(tree, "a").environment == EnvironmentFile("conda", "envs/gpu.yaml")
    tree = MadeTree({"MLproject": "python_env: ./e/p.yaml", "e/p.yaml": ""})
    assert read_project(tree, "").environment == EnvironmentFile("python_env", "e/p.yaml")
    tree = MadeTree({"MLproject": "conda_env: conda-lock.yml", "conda-lock.yml": ""})
    assert read_project(tree, "").environment == EnvironmentFile("conda-lock", "conda-lock.yml")


# --- inputs -----------------------------------------------------------------------------------------------------


def test_inputs_are_paths_of_the_repository() -> None:
    tree = made("inputs:\n- data/a.csv\n- {path: ../shared/b.csv, dest: in/./b.csv}\n", subdir="a")
    assert read_project(tree, "a").inputs == (
        DeclaredInput("a/data/a.csv"),
        DeclaredInput("shared/b.csv", "in/b.csv"),
    )


# --- what is wrong ----------------------------------------------------------------------------------------------

WRONG = [
    ("name: n\nentry_points:\n  main: [a, b: c: d]", "MLproject line 3, column 17: not valid YAML: "),
    ("name: 'n\n", "not valid YAML: found unexpected end of stream"),
    ("name: n\n\tb: c", "MLproject line 2, column 1: not valid YAML: found a tab character"),
    ("!!python/object:os.system x", "not valid YAML: could not determine a constructor"),
    ("a: 2024-13-45", "not valid YAML: month must be in 1..12"),
    ("- a", "MLproject line 1: an MLproject is a mapping (name:, entry_points:), not a list."),
    ("just text", "an MLproject is a mapping (name:, entry_points:), not 'just text'."),
    ("name: n\nentry_points: [main]", "MLproject line 2: entry_points is a mapping of names to commands, not a list."),
    ("entry_points:\n  main: python t.py", "MLproject line 2: entry point 'main' is a mapping with a command"),
    (
        "entry_points:\n  a: {command: c}\n  main:\n    parameters: {}",
        "MLproject line 3: entry point 'main' has no command",
    ),
    ("entry_points:\n  main:\n    command: [a]", "MLproject line 3: entry point 'main' has a list for a command"),
    ("entry_points:\n  main:\n    command: 5", "MLproject line 3: entry point 'main' has 5 for a command"),
    ("entry_points:\n  main:\n    command:", "MLproject line 3: entry point 'main' has nothing for a command"),
    (
        "entry_points:\n  main:\n    command: c\n    parameters: [a]",
        "MLproject line 4: parameters of entry point 'main'",
    ),
    (
        "entry_points:\n  main:\n    command: c\n    parameters:\n      a: float\n      b: 3\n",
        "MLproject line 6: parameter 'b' is a type, or a mapping with type and default, not 3.",
    ),
    (
        "entry_points:\n  main:\n    command: c\n    parameters:\n      b:\n        type: int\n        default: [1]\n",
        "MLproject line 7: the default of parameter 'b' is one value, not a list.",
    ),
    ("conda_env: conda.yaml", "MLproject line 1: conda_env is 'conda.yaml', and there is no such file in the commit."),
    ("name: n\npython_env: ../../e.yaml", "MLproject line 2: python_env is '../../e.yaml', which is not a path inside"),
    ("python_env: /etc/passwd", "is not a path inside the repository"),
    ("conda_env: {name: x}", "conda_env is the path of an environment file, not a mapping."),
    ("conda_env: a\npython_env: b", "a project has one environment, and this one has python_env and conda_env."),
    ("name: n\ndocker_env:\n  image: i", "MLproject line 2: docker_env is not supported yet; name a conda environment"),
    ("inputs: data", "MLproject line 1: inputs is a list of paths, not 'data'."),
    ("inputs:\n- a\n- /etc/passwd", "MLproject line 3: the input '/etc/passwd' is not inside the repository"),
    ("inputs:\n- ../a", "MLproject line 2: the input '../a' is not inside the repository"),
    ("inputs:\n- ~/a", "the input '~/a' is not inside the repository"),
    ("inputs:\n- .", "the input '.' is not inside the repository"),
    ("inputs:\n- {dest: a}", "MLproject line 2: an input is a path, or a mapping with path and dest, not a mapping."),
    ("inputs:\n- {path: a, dest: ../b}", "dest of the input 'a' is '../b', which is not a path in the project."),
]


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_a_wrong_file_is_one_sentence_with_file_and_line(text: str, problem: str) -> None:
    with pytest.raises(OrchError) as caught:
        read_project(MadeTree({"MLproject": text}), "")
    message = str(caught.value)
    assert problem in message
    assert message.startswith("MLproject")
    assert "\n" not in message
    assert caught.value.exit_code == 125


def test_bytes_that_are_no_text_are_one_sentence_too() -> None:
    class Bytes(MadeTree):
        def read(self, path: str) -> bytes | None:
            return b"name: \xff"

    with pytest.raises(OrchError, match="MLproject: not valid YAML"):
        read_project(Bytes({"MLproject": ""}), "")


@given(st.text("ab:-[]{}#&*!|>'\"%@` \n\t0,?", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_project(MadeTree({"MLproject": text}), "")
    except OrchError as error:
        assert str(error).startswith("MLproject")
