"""A lock that the project brings is used as it is when it matches, and refused or replaced with a sentence when not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from conftest import CONDA_FORGE
from made_index import Index, served
from made_trees import SOURCE, FileTree

from orchestrator.environment import (
    Environment,
    environment_request,
    lock_path,
    locked_packages,
    resolve_environment,
)
from orchestrator.environment.host import current_subdir
from orchestrator.environment.lock import Kind
from orchestrator.environment.prefix import use_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SIX = "dependencies:\n- python\n- six=1.16\n"
PLATFORM = current_subdir()


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def other_home(tmp_path: Path, home: Home) -> Home:
    """The machine of somebody else, who has made the lock."""
    other = open_home({"ORCH_HOME": str(tmp_path / "other")})
    other.config.write_bytes(home.config.read_bytes())
    return other


def resolve(home: Home, files: dict[str, str], kind: Kind = "conda") -> Environment:
    name = {"conda": "environment.yml"}.get(kind, "conda-lock.yml")
    return resolve_environment(environment_request(kind, name, FileTree(files), SOURCE), home=home)


_made: dict[str, str] = {}


def made_lock(home: Home, text: str = SIX) -> str:
    """The lock of an environment file; `home`, and any other, makes the same one, so it is made once."""
    if text not in _made:
        _made[text] = lock_path(home, resolve(home, {"environment.yml": text}).lock_id).read_text()
    return _made[text]


def changed(lock: str, change: Callable[[dict[str, Any]], object]) -> str:
    table = yaml.safe_load(lock)
    change(table)
    return yaml.safe_dump(table, sort_keys=False)


def test_a_lock_that_matches_is_used_as_it_is(home: Home, other_home: Home) -> None:
    lock = made_lock(other_home) + "# as it is\n"
    environment = resolve(home, {"environment.yml": SIX, "conda-lock.yml": lock})

    assert not environment.solved
    assert environment.notes == ()
    assert lock_path(home, environment.lock_id).read_text() == lock
    assert environment.lock_id == resolve(other_home, {"environment.yml": SIX}).lock_id


def test_a_lock_for_several_platforms_gives_this_ones_packages(home: Home, other_home: Home) -> None:
    def another(table: dict[str, Any]) -> None:
        rows = [{**row, "platform": "win-64", "name": f"{row['name']}-w"} for row in table["package"]]
        table["package"] += rows
        table["metadata"]["platforms"].append("win-64")
        table["metadata"]["content_hash"]["win-64"] = "0" * 64

    lock = changed(made_lock(other_home), another)
    environment = resolve(home, {"environment.yml": SIX, "conda-lock.yml": lock})

    assert not environment.solved
    assert all(not package.name.endswith("-w") for package in locked_packages(home, environment.lock_id))


def test_another_projects_lock_does_not_say_where_packages_come_from(home: Home, other_home: Home) -> None:
    lock = made_lock(other_home)
    (mirror,) = re.findall(r'= \["(file:.*)"\]', home.config.read_text())[:1]
    other = lock.replace(CONDA_FORGE, "https://ada:s3cret@evil.example.org/x")
    evil = f'"https://evil.example.org/x" = ["{mirror}"]\n'
    home.config.write_text(home.config.read_text().replace("[mirrors]\n", f"[mirrors]\n{evil}"))
    environment = resolve(home, {"conda-lock.yml": lock}, "conda-lock")
    assert resolve(home, {"conda-lock.yml": other}, "conda-lock").lock_id == environment.lock_id
    assert {package.channel for package in locked_packages(home, environment.lock_id)} == {CONDA_FORGE}

    asked = environment_request("conda-lock", "conda-lock.yml", FileTree({"conda-lock.yml": other}), SOURCE)
    resolve_environment(asked, home=home, relock=True)
    (channel,) = {package.channel for package in locked_packages(home, environment.lock_id)}
    assert channel == "https://evil.example.org/x"
    assert not any("s3cret" in path.read_text() for path in home.locks.rglob("*") if path.is_file())


def test_variables_come_from_the_environment_file_also_with_a_lock(home: Home, other_home: Home) -> None:
    text = "variables: {A: b}\n" + SIX
    environment = resolve(home, {"environment.yml": text, "conda-lock.yml": made_lock(other_home, text)})

    assert environment.variables == {"A": "b"}
    assert not environment.solved


def test_a_lock_that_does_not_match_is_solved_anew_and_told(home: Home, other_home: Home) -> None:
    files = {"environment.yml": SIX.replace("1.16", "1.17"), "conda-lock.yml": made_lock(other_home)}
    environment = resolve(home, files)

    assert environment.solved
    assert environment.notes == ("conda-lock.yml does not match environment.yml: the environment was solved anew.",)
    assert {p.version for p in locked_packages(home, environment.lock_id) if p.name == "six"} == {"1.17.0"}


def test_a_lock_without_this_platform_beside_an_environment_file_is_solved_anew(home: Home, other_home: Home) -> None:
    lock = made_lock(other_home).replace(PLATFORM, "plan9-64")
    environment = resolve(home, {"environment.yml": SIX, "conda-lock.yml": lock})

    assert environment.solved
    assert f"conda-lock.yml has nothing for {PLATFORM}" in environment.notes[0]


def test_a_lock_alone_is_an_environment(home: Home, other_home: Home) -> None:
    environment = resolve(home, {"conda-lock.yml": made_lock(other_home)}, "conda-lock")

    assert not environment.solved
    assert "six" in {package.name for package in locked_packages(home, environment.lock_id)}


def test_a_lock_alone_without_this_platform_is_refused_with_those_it_has(home: Home, other_home: Home) -> None:
    lock = made_lock(other_home).replace(f"platform: {PLATFORM}", "platform: plan9-64")

    with pytest.raises(OrchError, match=f"conda-lock.yml has no packages for {PLATFORM}; it has plan9-64"):
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")


def test_a_package_without_sha256_is_refused(home: Home, other_home: Home) -> None:
    lock = re.sub(r"\n +sha256: [0-9a-f]{64}", "", made_lock(other_home), count=1)

    with pytest.raises(
        OrchError, match=r"conda-lock.yml, package \d+ \(python\): it has no sha256 for python .* is refused"
    ):
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")


def test_forms_of_the_wild_are_read(home: Home, other_home: Home) -> None:
    def wild(table: dict[str, Any]) -> None:
        table["metadata"]["channels"] = ["conda-forge"]
        for row in table["package"]:
            row["hash"] = f"sha256:{row['hash']['sha256']}"
            row["dependencies"] = {**row["dependencies"], "__unix": "", "six": ">=1,<2 || >2"}
            del row["build"]

    lock = changed(made_lock(other_home), wild)
    environment = resolve(home, {"conda-lock.yml": lock}, "conda-lock")

    assert environment.lock_id == resolve(other_home, {"environment.yml": SIX}).lock_id
    assert all(package.build for package in locked_packages(home, environment.lock_id))


@pytest.mark.parametrize("manager", ["conda", "pip"])
def test_a_lock_that_was_cut_off_is_refused_as_incomplete(home: Home, other_home: Home, manager: str) -> None:
    def cut(table: dict[str, Any]) -> None:
        rows = [row for row in table["package"] if row["name"] == "six"]
        table["package"] = [{**row, "manager": manager} for row in rows]

    lock = changed(made_lock(other_home), cut)
    sentence = "conda-lock.yml is incomplete: six needs python, which it does not have. Make the lock anew."
    with pytest.raises(OrchError, match=f"^{re.escape(sentence)}$"):
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")

    assert not list(home.locks.glob("*/conda-lock.yml"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("six", "it does not have six, which its environment file asks for"),
        ("python_abi", "numpy needs python_abi, which it does not have"),
    ],
)
def test_a_lock_from_which_a_package_was_taken_is_refused(
    home: Home, other_home: Home, name: str, sentence: str
) -> None:
    text = "dependencies: [python, six, numpy]\n"

    def take(table: dict[str, Any]) -> None:
        table["package"] = [row for row in table["package"] if row["name"] != name]

    files = {"environment.yml": text, "conda-lock.yml": changed(made_lock(other_home, text), take)}
    with pytest.raises(OrchError, match=f"^conda-lock.yml is incomplete: {sentence}. Make the lock anew.$"):
        resolve(home, files)


def test_other_categories_are_left_out_and_told(home: Home, other_home: Home) -> None:
    def develop(table: dict[str, Any]) -> None:
        next(row for row in table["package"] if row["name"] == "six")["category"] = "dev"

    environment = resolve(home, {"conda-lock.yml": changed(made_lock(other_home), develop)}, "conda-lock")

    assert "six" not in {package.name for package in locked_packages(home, environment.lock_id)}
    assert environment.notes == ("conda-lock.yml: what is only in the categories dev is not installed.",)


def test_a_source_archive_in_a_lock_is_built(home: Home, other_home: Home, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    digest = index.source("omega", "0.1")
    with served(index.folder) as url:
        row = {
            "name": "omega",
            "version": "0.1",
            "manager": "pip",
            "platform": PLATFORM,
            "dependencies": {},
            "url": f"{url}/files/omega-0.1.tar.gz",
            "hash": {"sha256": digest},
            "category": "main",
            "optional": False,
        }
        lock = changed(made_lock(other_home), lambda table: table["package"].append(row))
        environment = resolve(home, {"conda-lock.yml": lock}, "conda-lock")

    omega = next(package for package in locked_packages(home, environment.lock_id) if package.name == "omega")
    assert (omega.file_name, omega.source_sha256) == ("omega-0.1-py3-none-any.whl", digest)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("package: [\n", "is not valid YAML"),
        ("a: b\n", "is not a conda-lock file"),
        ("version: 7\npackage: []\n", "has version 7; orch reads version 1"),
        (
            f"version: 1\npackage: [{{platform: {PLATFORM}}}]\n",
            "conda-lock.yml, package 1: its manager is None, which is no text",
        ),
        ("version: 1\npackage: []\n", f"has no packages for {PLATFORM}; it has none"),
    ],
)
def test_what_is_no_lock_is_refused_with_a_sentence(home: Home, text: str, sentence: str) -> None:
    with pytest.raises(OrchError, match=re.escape(sentence)):
        resolve(home, {"conda-lock.yml": text}, "conda-lock")


# --- a file of a repository is believed in what its hashes cover, and in nothing else -----------------------------


def of(table: dict[str, Any], name: str) -> dict[str, Any]:
    row: dict[str, Any] = next(row for row in table["package"] if row["name"] == name)
    return row


def wheel_row(**changes: Any) -> dict[str, Any]:
    row = {
        "name": "omega",
        "version": "0.1",
        "manager": "pip",
        "platform": PLATFORM,
        "dependencies": {},
        "url": "https://example.org/files/omega-0.1-py3-none-any.whl",
        "hash": {"sha256": "1" * 64},
        "category": "main",
        "optional": False,
    }
    return row | changes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "notsix"}, "its name is 'notsix', its file six-1.16.0-"),
        ({"version": "1.17.0"}, "its version is '1.17.0', its file six-1.16.0-"),
        ({"build": "other_0"}, "its build is 'other_0', its file six-1.16.0-"),
        ({"name": "si x"}, "its name is 'si x'"),
        ({"name": 3}, "its name is 3, which is no text"),
        ({"name": None}, "its name is None, which is no text"),
        ({"url": ["x"]}, "its url is ['x'], which is no text"),
        ({"url": "https://[::1/noarch/six-1.16.0-0.conda"}, "its url is 'https://[::1/noarch/six-1.16.0-0.conda'"),
        ({"url": "https://example.org/noarch/six 1-1.16.0-0.conda"}, "its url is"),
        ({"url": "https://example.org/six"}, "its url https://example.org/six is not that of a conda package"),
        ({"url": "ftp://example.org/noarch/six-1.16.0-0.conda"}, "its url is 'ftp:"),
        ({"hash": {"sha256": "1" * 32}}, "has no sha256 for six"),
        ({"hash": 7}, "has no sha256 for six"),
        ({"version": ["1"]}, "its version is ['1']"),
        ({"category": ["main"]}, "its category is ['main'], which is no text"),
        ({"manager": "apt"}, "its manager is 'apt'; orch knows conda and pip"),
    ],
)
def test_a_conda_row_that_contradicts_its_file_or_is_malformed_is_refused_by_file_and_row(
    home: Home, other_home: Home, change: dict[str, Any], sentence: str
) -> None:
    lock = changed(made_lock(other_home), lambda table: of(table, "six").update(change))
    with pytest.raises(OrchError) as caught:
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")

    assert str(caught.value).startswith("conda-lock.yml")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(home.locks.glob("*/packages.json"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "psi"}, "its name is 'psi', its file omega-0.1-py3-none-any.whl"),
        ({"version": "0.2"}, "its version is '0.2', its file omega-0.1-py3-none-any.whl"),
        ({"version": "x y"}, "its version is 'x y'"),
        ({"url": "https://example.org/files/omega.whl"}, "its url https://example.org/files/omega.whl is not that of"),
        ({"name": "evil\n-r /etc/passwd"}, r"its name is 'evil\n-r /etc/passwd'"),
        ({"url": "https://example.org/omega-0.1.tar.gz\n-r /etc/passwd"}, "its url is 'https://example.org/omega"),
        ({"url": "file:///etc/omega-0.1.tar.gz"}, "its url is 'file:"),
        ({"url": "git+file:///srv/omega@" + "0" * 40}, "its url is 'git+file:"),
    ],
)
def test_a_pip_row_that_contradicts_its_file_or_is_malformed_is_refused_by_file_and_row(
    home: Home, other_home: Home, change: dict[str, Any], sentence: str
) -> None:
    lock = changed(made_lock(other_home), lambda table: table["package"].append(wheel_row(**change)))
    with pytest.raises(OrchError) as caught:
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")

    assert str(caught.value).startswith("conda-lock.yml")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_package_that_is_listed_twice_is_refused(home: Home, other_home: Home) -> None:
    lock = changed(made_lock(other_home), lambda table: table["package"].append(of(table, "six")))

    with pytest.raises(OrchError, match=r"^conda-lock.yml has six of conda twice"):
        resolve(home, {"conda-lock.yml": lock}, "conda-lock")


@pytest.mark.parametrize("metadata", [None, [], "x", {"content_hash": [], "sources": None}])
def test_metadata_of_any_form_is_read(home: Home, other_home: Home, metadata: object) -> None:
    lock = changed(made_lock(other_home), lambda table: table.update(metadata=metadata))
    environment = resolve(home, {"environment.yml": SIX, "conda-lock.yml": lock})

    assert environment.solved


def test_what_steers_an_installation_is_read_from_the_packages_themselves(home: Home, other_home: Home) -> None:
    def lie(table: dict[str, Any]) -> None:
        for row in table["package"]:
            row["dependencies"] = {}
            row["hash"]["md5"] = "0" * 32

    honest = resolve(other_home, {"environment.yml": SIX})
    hostile = resolve(home, {"conda-lock.yml": changed(made_lock(other_home), lie)}, "conda-lock")

    assert hostile.lock_id == honest.lock_id
    truth = {package.name: package for package in locked_packages(other_home, honest.lock_id)}
    assert truth["six"].noarch == "python"
    for package in locked_packages(home, hostile.lock_id):
        true = truth[package.name]
        assert package == replace(true, md5=None, size=None)


def test_a_solve_has_the_last_word_on_where_packages_come_from(home: Home, other_home: Home) -> None:
    def moved(table: dict[str, Any]) -> None:
        for row in table["package"]:
            row["url"] = row["url"].replace(CONDA_FORGE, "http://127.0.0.1:9/gone")

    lock = made_lock(other_home)
    asked = FileTree({"conda-lock.yml": changed(lock, moved)})
    first = resolve(home, {"conda-lock.yml": lock}, "conda-lock")
    resolve_environment(environment_request("conda-lock", "conda-lock.yml", asked, SOURCE), home=home, relock=True)
    assert urls(home, first) == {"http://127.0.0.1:9"}
    solved = resolve(home, {"environment.yml": SIX})

    assert solved.lock_id == first.lock_id
    assert urls(home, solved) == {CONDA_FORGE[: CONDA_FORGE.rindex("/")]}
    assert "127.0.0.1" not in lock_path(home, solved.lock_id).read_text()
    resolve(home, {"conda-lock.yml": changed(lock, moved) + "# again\n"}, "conda-lock")
    assert urls(home, solved) == {CONDA_FORGE[: CONDA_FORGE.rindex("/")]}


def urls(home: Home, environment: Environment) -> set[str]:
    packages = locked_packages(home, environment.lock_id)
    return {"/".join(package.url.split("/")[:3]) for package in packages}


def test_a_channel_that_lies_about_its_packages_does_not_shape_what_other_projects_get(
    home: Home, other_home: Home, channel: Path, tmp_path: Path
) -> None:
    lying = copytree(channel, tmp_path / "lying")
    for path in lying.glob("*/repodata.json"):
        table = json.loads(path.read_text())
        for row in table["packages.conda"].values():
            if row["name"] == "six":
                row.update(noarch="generic")
            if row["name"] == "python":
                row.update(python_site_packages_path="lib/elsewhere")
        path.write_text(json.dumps(table))
    hostile = resolve(home, {"environment.yml": f"channels: ['{lying.as_uri()}']\n{SIX}"})
    honest = resolve(other_home, {"environment.yml": SIX})

    assert hostile.lock_id == honest.lock_id
    with use_prefix(hostile.lock_id, home=home) as one, use_prefix(honest.lock_id, home=other_home) as other:
        assert files_of(one.path) == files_of(other.path)
    solved = resolve(home, {"environment.yml": SIX})
    assert locked_packages(home, solved.lock_id) == locked_packages(other_home, honest.lock_id)


def test_a_channel_that_gives_a_package_another_version_than_its_file_is_refused(
    home: Home, channel: Path, tmp_path: Path
) -> None:
    lying = copytree(channel, tmp_path / "lying")
    path = lying / "noarch/repodata.json"
    table = json.loads(path.read_text())
    for row in table["packages.conda"].values():
        if row["name"] == "six":
            row["version"] = "9.9"
    path.write_text(json.dumps(table))

    with pytest.raises(OrchError, match=r"the package six-1\.\S+ is said to be six-9\.9-\S+: it is refused"):
        resolve(home, {"environment.yml": f"channels: ['{lying.as_uri()}']\n{SIX.replace('six=1.16', 'six')}"})


def test_a_source_archive_of_another_name_is_refused(home: Home, other_home: Home, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    digest = index.source("omega", "0.1")
    with served(index.folder) as url:
        row = wheel_row(name="psi", url=f"{url}/files/omega-0.1.tar.gz", hash={"sha256": digest})
        lock = changed(made_lock(other_home), lambda table: table["package"].append(row))
        with pytest.raises(OrchError, match="psi"):
            resolve(home, {"conda-lock.yml": lock}, "conda-lock")


def files_of(prefix: Path) -> dict[str, object]:
    return {
        path.relative_to(prefix).as_posix(): path.read_bytes().replace(bytes(prefix), b"")
        if path.suffix == ".py"
        else 0
        for path in prefix.rglob("*")
        if path.is_file()
    }
