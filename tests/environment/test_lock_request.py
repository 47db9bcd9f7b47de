"""What of a commit has a say in its environment, found without reading YAML."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_trees import SOURCE, FileTree

from orchestrator.environment import EnvironmentRequest, environment_request
from orchestrator.environment.redact import without_credentials
from orchestrator.environment.requirements import is_local, logical_lines, parse_line, parse_lines
from orchestrator.errors import OrchError

PROJECT = '[project]\nname = "x"\n'


def request(files: dict[str, str], path: str = "environment.yml") -> EnvironmentRequest:
    return environment_request("conda", path, FileTree(files), SOURCE)


def section(*lines: str) -> str:
    return "dependencies:\n  - python\n  - pip:\n" + "".join(f"    - {line}\n" for line in lines) + "  - six\n"


def test_only_files_with_a_say_are_gathered() -> None:
    files = {"environment.yml": section("-r a.txt"), "a.txt": "-c b.txt\n", "b.txt": "", "c.txt": "", "src/x.py": ""}

    assert set(request(files).files) == {"environment.yml", "a.txt", "b.txt"}


def test_a_lock_beside_counts_with_the_files_it_was_made_from() -> None:
    lock = "version: 1\nmetadata:\n  sources:\n  - environment.yml\n  - dev.yml\n  - ../out.yml\npackage: []\n"
    files = {"e/environment.yml": "", "e/conda-lock.yml": lock, "e/dev.yml": "", "conda-lock.yml": "", "out.yml": ""}

    found = request(files, "e/environment.yml")
    assert set(found.files) == {"e/environment.yml", "e/conda-lock.yml", "e/dev.yml", "out.yml"}


@pytest.mark.parametrize(
    "line",
    [
        "-r a.txt",
        "-ra.txt",
        "--requirement a.txt",
        "--requirement=a.txt",
        "'-r a.txt'",
        '"-r a.txt" # x',
        "-r a.txt # x",
    ],
)
def test_requirement_files_are_found_however_they_are_named(line: str) -> None:
    assert "a.txt" in request({"environment.yml": section(line), "a.txt": "six\n"}).files


@pytest.mark.parametrize(
    "text",
    [
        "dependencies: [python, {pip: ['-r a.txt', six]}]\n",
        "dependencies:\n  - python\n  - {'pip': ['-r a.txt']}\n",
        "{channels: [x], dependencies: [{pip: ['-r a.txt']}]}\n",
    ],
)
def test_a_pip_section_in_a_flow_mapping_is_found(text: str) -> None:
    assert set(request({"environment.yml": text, "a.txt": ""}).files) == {"environment.yml", "a.txt"}


def test_a_pip_section_in_flow_form_is_found() -> None:
    text = "dependencies: \n- pip: ['-r a.txt', six]\n"

    assert "a.txt" in request({"environment.yml": text, "a.txt": ""}).files


def test_files_that_name_each_other_end() -> None:
    files = {"environment.yml": section("-r a.txt"), "a.txt": "-r b.txt\n", "b.txt": "-r a.txt\n"}

    assert set(request(files).files) == set(files)


@pytest.mark.parametrize("line", ["-r ../a.txt", "-r /etc/passwd", "-c x/../../a.txt", "-e ../other", "../other"])
def test_a_path_out_of_the_repository_is_refused(line: str) -> None:
    with pytest.raises(OrchError, match="outside of the repository"):
        request({"environment.yml": section(line), "a.txt": ""})


def test_requirements_by_url_are_refused() -> None:
    with pytest.raises(OrchError, match="a URL not"):
        request({"environment.yml": section("-r https://example.org/r.txt")})


def test_a_project_without_project_files_is_refused() -> None:
    with pytest.raises(OrchError, match=r"no pyproject\.toml"):
        request({"environment.yml": section("-e .")})


def test_an_environment_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(OrchError, match=r"environment\.yml is not in the commit"):
        request({})


def test_a_file_beside_a_local_one_that_is_not_there_is_in_no_commit() -> None:
    files = FileTree({"environment.yml": section("-r more.txt")})
    with pytest.raises(OrchError, match=r"more\.txt, which environment\.yml names, is not there"):
        environment_request("conda", "environment.yml", files, replace(SOURCE, commit=""))


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"pyproject.toml": PROJECT, "x/__init__.py": ""}, ""),
        ({"pyproject.toml": PROJECT, "src/x/__init__.py": ""}, "src"),
        ({"setup.py": "", "src/x.py": ""}, "src"),
        ({"pyproject.toml": '[tool.setuptools.packages.find]\nwhere = ["lib"]\n', "src/x.py": ""}, "lib"),
        ({"pyproject.toml": '[tool.setuptools.package-dir]\n"" = "code"\n'}, "code"),
        ({"pyproject.toml": '[[tool.poetry.packages]]\ninclude = "x"\nfrom = "py"\n'}, "py"),
        ({"pyproject.toml": '[tool.hatch.build.targets.wheel]\npackages = ["src/x"]\n'}, "src"),
        ({"pyproject.toml": "not toml [", "src/x.py": ""}, "src"),
    ],
)
def test_an_editable_project_puts_its_packages_folder_on_the_path(files: dict[str, str], path: str) -> None:
    found = request({"environment.yml": section("-e ."), **files})

    assert (found.paths, found.editable, found.projects) == ((path,), ("",), ())


def test_an_editable_project_in_a_folder_with_extras() -> None:
    files = {"e/environment.yml": section("-e ./sub[dev]"), "e/sub/pyproject.toml": PROJECT, "e/sub/src/x.py": ""}
    found = request(files, "e/environment.yml")

    assert (found.editable, found.paths) == (("e/sub",), ("e/sub/src",))
    assert "e/sub/pyproject.toml" in found.files


@pytest.mark.parametrize(
    ("text", "local"),
    [
        (".", True),
        ("./a", True),
        (".[dev]", True),
        ("wheels/a-1-py3-none-any.whl", True),
        ("file:///a", True),
        ("a/b", True),
        ("six", False),
        ("six[x]>=1; python_version > '3'", False),
        ("git+https://example.org/a/b@c", False),
        ("https://example.org/a.whl", False),
        ("a @ https://example.org/a.whl", False),
        ("six ; sys_platform == 'win32/x'", False),
    ],
)
def test_paths_are_told_from_packages(text: str, local: bool) -> None:
    assert is_local(text) is local


def test_lines_are_joined_and_comments_dropped_as_pip_does() -> None:
    text = "a \\\n  >=1 # why\n# all of it\nb#c\n\nc @ https://example.org/x#egg=c\n"

    assert list(logical_lines(text)) == ["a    >=1", "b#c", "c @ https://example.org/x#egg=c"]


def test_an_editable_git_requirement_is_a_requirement_by_its_name() -> None:
    line = parse_line("-e git+https://example.org/x@main#egg=x&subdirectory=y")

    assert (line.kind, line.value) == ("requirement", "x @ git+https://example.org/x@main#subdirectory=y")


@given(st.text())
def test_any_text_is_lines_or_nothing(text: str) -> None:
    for line in parse_lines(text):
        assert line.value or line.option


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",))))
def test_any_environment_file_is_gathered_or_refused(text: str) -> None:
    try:
        found = request({"environment.yml": text})
    except OrchError:
        return
    assert found.files["environment.yml"] == text.encode()


@given(
    user=st.text("abcABC019._~-%", min_size=1, max_size=20),
    password=st.text("abcABC019._~-%:", max_size=20),
    scheme=st.sampled_from(["https", "http", "git+https", "s3"]),
)
def test_no_credentials_are_left_in_a_url(user: str, password: str, scheme: str) -> None:
    url = f"{scheme}://{user}:{password}@example.org/a/b"

    assert without_credentials(f"see {url}.") == f"see {scheme}://example.org/a/b."


def test_tokens_go_and_the_user_of_ssh_stays() -> None:
    assert without_credentials("https://example.org/t/tk-12/main/x.conda") == "https://example.org/main/x.conda"
    assert without_credentials("git+ssh://git@example.org/a") == "git+ssh://git@example.org/a"
