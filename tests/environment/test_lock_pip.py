"""The pip part of an environment: locked around conda's packages, hashed, and built once where there is no wheel."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_index import Index, project_files, served
from made_trees import SOURCE, FileTree
from uv import find_uv_bin

from orchestrator.environment import Environment, LockedPackage, environment_request, lock_path, locked_packages
from orchestrator.environment import resolve_environment as resolve_request
from orchestrator.environment.lock import kept_wheel
from orchestrator.environment.pypi import run_uv
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def index(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index of the test's own, the only one that is asked."""
    index = Index(tmp_path / "index")
    index.wheel("alpha", "1.0")
    index.wheel("alpha", "2.0", ["beta>=1"])
    index.wheel("beta", "1.5", ["six"])
    for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    use_index(home, index.url)
    return index


def use_index(home: Home, url: str) -> None:
    text = home.config.read_text().partition("[pypi]")[0]
    home.config.write_text(f'{text}[pypi]\nindex = "{url}"\n')


def resolve(
    home: Home, files: dict[str, str], name: str = "environment.yml", checkout: Callable[[], Path] | None = None
) -> Environment:
    kind = {"environment.yml": "conda", "python_env.yaml": "python_env"}.get(name, "requirements")
    return resolve_request(
        environment_request(kind, name, FileTree(files), SOURCE),  # type: ignore[arg-type]
        home=home,
        build_source=checkout,
    )


def pip_section(*lines: str, conda: str = "python") -> dict[str, str]:
    section = "".join(f"  - {line}\n" for line in lines)
    return {"environment.yml": f"dependencies:\n- {conda}\n- pip:\n{section}"}


def pip_packages(home: Home, environment: Environment) -> dict[str, LockedPackage]:
    return {p.name: p for p in locked_packages(home, environment.lock_id) if p.manager == "pip"}


def test_pip_lines_are_locked_with_what_they_need_and_without_what_conda_provides(home: Home, index: Index) -> None:
    environment = resolve(home, pip_section("alpha", conda="six=1.16"))
    found = pip_packages(home, environment)

    assert {name: package.version for name, package in found.items()} == {"alpha": "2.0", "beta": "1.5"}
    names = {package.name for package in locked_packages(home, environment.lock_id) if package.manager == "conda"}
    assert {"python", "pip", "six"} <= names
    assert any("names no Python" in note for note in environment.notes)


def test_a_wheel_of_an_index_on_the_network_is_locked_by_its_url(home: Home, index: Index) -> None:
    with served(index.folder) as url:
        use_index(home, f"{url.replace('//', '//ada:s3cret@')}/simple")
        found = pip_packages(home, resolve(home, pip_section("alpha==1.0")))["alpha"]

    assert found.url == f"{url}/files/alpha-1.0-py3-none-any.whl"
    assert found.file_name == "alpha-1.0-py3-none-any.whl"


def test_credentials_of_an_index_do_not_reach_the_lock(home: Home, index: Index) -> None:
    with served(index.folder) as url:
        use_index(home, f"{url.replace('//', '//ada:s3cret@')}/simple")
        resolve(home, pip_section("alpha"))

    assert not any("s3cret" in path.read_text() for path in home.locks.rglob("*") if path.is_file())


def test_a_wheel_of_an_index_in_a_folder_is_kept_and_its_path_is_not_locked(home: Home, index: Index) -> None:
    environment = resolve(home, pip_section("alpha==1.0"))
    alpha = pip_packages(home, environment)["alpha"]

    assert kept_wheel(home, alpha.sha256, alpha.file_name).is_file()
    assert alpha.url == "pkg:pypi/alpha@1.0?file_name=alpha-1.0-py3-none-any.whl"
    assert "file:" not in lock_path(home, environment.lock_id).read_text()


def test_conda_decides_the_version_that_pip_packages_get_along_with(home: Home, index: Index) -> None:
    index.wheel("gamma", "2.0", ["six>=1.17"])
    index.wheel("gamma", "1.0", ["six"])
    found = pip_packages(home, resolve(home, pip_section("gamma", conda="six=1.16")))

    assert found["gamma"].version == "1.0"


def test_a_contradiction_to_conda_is_explained(home: Home, index: Index) -> None:
    with pytest.raises(OrchError) as caught:
        resolve(home, pip_section("six<1.17", conda="six=1.17"))

    said = str(caught.value).splitlines()
    assert said[0] == "the pip packages of environment.yml can't be locked."
    assert said[-1] == "conda provides six 1.17.0."
    assert "file:" not in str(caught.value)


def test_a_package_that_no_index_has_is_told(home: Home, index: Index) -> None:
    with pytest.raises(OrchError, match="nosuchthing"):
        resolve(home, pip_section("nosuchthing"))


def test_pips_setting_that_no_index_is_asked_holds(home: Home, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    home.config.write_text(home.config.read_text().partition("[pypi]")[0])
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    assert "alpha" in pip_packages(home, resolve(home, pip_section("alpha==1.0")))

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(OrchError, match="alpha"):
        resolve(home, pip_section("alpha==2.0"))


@pytest.mark.parametrize(
    ("files", "where"),
    [
        ({"requirements.txt": "six\nal pha ==1\n"}, "requirements.txt"),
        ({"requirements.txt": "six\n-r deps/more.txt\n", "deps/more.txt": "al pha ==1\n"}, "deps/more.txt"),
        ({"requirements.txt": "six\n-c deps/pins.txt\n", "deps/pins.txt": "al pha ==1\n"}, "deps/pins.txt"),
    ],
)
def test_a_line_that_is_wrong_is_told_with_its_own_file(
    home: Home, index: Index, files: dict[str, str], where: str
) -> None:
    with pytest.raises(OrchError) as caught:
        resolve(home, files, "requirements.txt")

    said = str(caught.value).splitlines()
    assert said[:2] == [
        "the pip packages of requirements.txt can't be locked.",
        f"Couldn't parse requirement in `{where}`",
    ]
    assert "al pha ==1" in said[3]


def test_a_folder_of_another_machine_is_told_from_a_package(home: Home, index: Index) -> None:
    with pytest.raises(OrchError, match=r"takes alpha from file:///croot/alpha/work, .* write alpha==VERSION"):
        resolve(home, pip_section("alpha @ file:///croot/alpha/work"))


def test_requirement_files_are_followed_from_where_they_stand(home: Home, index: Index) -> None:
    files = pip_section("-r deps/all.txt", "-c deps/pins.txt", conda="six") | {
        "deps/all.txt": "# all\n-r more/beta.txt\nalpha \\\n  >=1\n",
        "deps/more/beta.txt": "beta  # needed\n",
        "deps/pins.txt": "alpha<2\n",
    }
    found = pip_packages(home, resolve(home, files))

    assert {name: package.version for name, package in found.items()} == {"alpha": "1.0", "beta": "1.5"}


def test_a_change_of_a_requirements_file_is_another_question(home: Home, index: Index) -> None:
    files = pip_section("-r deps.txt", conda="six") | {"deps.txt": "alpha==1.0\n"}
    first = resolve(home, files)
    second = resolve(home, files | {"deps.txt": "alpha==2.0\n"})

    assert second.solved
    assert first.lock_id != second.lock_id


def test_an_extra_index_of_the_file_is_asked(home: Home, index: Index, tmp_path: Path) -> None:
    other = Index(tmp_path / "other")
    other.wheel("delta", "3.0")
    found = pip_packages(home, resolve(home, pip_section(f"--extra-index-url {other.url}", "delta", "alpha==1.0")))

    assert set(found) == {"alpha", "delta"}


def test_an_index_of_the_file_stands_in_the_place_of_the_users(home: Home, index: Index, tmp_path: Path) -> None:
    other = Index(tmp_path / "other")
    other.wheel("alpha", "9.0")
    found = pip_packages(home, resolve(home, pip_section(f"-i {other.url}", "alpha")))

    assert found["alpha"].version == "9.0"


def test_pips_own_configuration_is_honoured(home: Home, index: Index, isolated: Path) -> None:
    home.config.write_text(home.config.read_text().partition("[pypi]")[0])
    (isolated / ".config/pip").mkdir(parents=True)
    (isolated / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {index.url}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PIP_CONFIG_FILE")
        found = pip_packages(home, resolve(home, pip_section("alpha==1.0")))

    assert set(found) == {"alpha"}


def test_pip_index_url_is_honoured(home: Home, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    home.config.write_text(home.config.read_text().partition("[pypi]")[0])
    monkeypatch.setenv("PIP_INDEX_URL", index.url)

    assert set(pip_packages(home, resolve(home, pip_section("alpha==1.0")))) == {"alpha"}


def test_uv_leaves_nothing_in_the_users_home(home: Home, index: Index, isolated: Path) -> None:
    with served(index.folder) as url:
        use_index(home, f"{url}/simple")
        with pytest.raises(OrchError, match="nosuchthing"):
            resolve(home, pip_section("nosuchthing"))

    assert not (isolated / ".local").exists()


@pytest.mark.parametrize(
    ("place", "within"),
    [
        ("HOME", ".local/share/uv/credentials"),
        ("XDG_DATA_HOME", "uv/credentials"),
        ("UV_CREDENTIALS_DIR", ""),
    ],
)
def test_credentials_that_the_user_gave_to_uv_are_still_read(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, within: str
) -> None:
    users = tmp_path / "users"
    monkeypatch.setenv(place, str(users))
    login = ["auth", "login", "https://pypi.example.org", "--username", "ada", "--password", "s3cret"]
    subprocess.run([find_uv_bin(), *login], check=True, capture_output=True)

    assert (users / within / "credentials.toml").exists()
    assert run_uv(home, ["auth", "dir"], cwd=tmp_path).stdout.strip() == str(users / within)


def test_an_option_without_meaning_here_is_told(home: Home, index: Index) -> None:
    environment = resolve(home, pip_section("--no-cache-dir", "alpha==1.0"))

    assert "environment.yml: the pip option --no-cache-dir has no meaning here." in environment.notes


def test_python_env_and_requirements_are_a_conda_python_with_pip_packages(home: Home, index: Index) -> None:
    files = {
        "python_env.yaml": "build_dependencies: [beta]\ndependencies:\n- -r requirements.txt\n",
        "requirements.txt": "alpha==1.0\n",
    }
    index.wheel("six", "1.99")

    assert set(pip_packages(home, resolve(home, files, "python_env.yaml"))) == {"alpha", "beta", "six"}
    assert set(pip_packages(home, resolve(home, files, "requirements.txt"))) == {"alpha"}


# --- what must be built -----------------------------------------------------------------------------------------


def test_a_source_archive_is_built_once_and_its_wheel_is_kept(home: Home, index: Index) -> None:
    digest = index.source("omega", "0.1", ["beta"])
    with served(index.folder) as url:
        use_index(home, f"{url}/simple")
        environment = resolve(home, pip_section("omega", conda="six"))
    omega = pip_packages(home, environment)["omega"]

    assert omega.file_name == "omega-0.1-py3-none-any.whl"
    assert kept_wheel(home, omega.sha256, omega.file_name).is_file()
    assert (omega.url, omega.source_sha256) == (f"{url}/files/omega-0.1.tar.gz", digest)
    # Others build it themselves: for them the lock has the hash of the archive.
    assert digest in lock_path(home, environment.lock_id).read_text()
    assert "beta" in pip_packages(home, environment)


def test_a_git_requirement_is_pinned_to_its_commit(home: Home, index: Index, tmp_path: Path) -> None:
    repository = FileTree(project_files("psi", "4.0")).check_out(tmp_path / "psi")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", "v4"]):
        subprocess.run(["git", *command], cwd=repository, check=True)
    environment = resolve(home, pip_section(f"psi @ git+{repository.as_uri()}@v4"))
    psi = pip_packages(home, environment)["psi"]

    assert psi.version == "4.0"
    assert kept_wheel(home, psi.sha256, psi.file_name).is_file()
    assert "file:" not in lock_path(home, environment.lock_id).read_text()


def test_the_project_itself_is_built_from_the_checkout(home: Home, index: Index, tmp_path: Path) -> None:
    files = pip_section(".", conda="six") | project_files("chi", "0.5", ["beta"])
    environment = resolve(home, files, checkout=lambda: FileTree(files).check_out(tmp_path / "checkout"))
    found = pip_packages(home, environment)

    assert set(found) == {"chi", "beta"}
    assert kept_wheel(home, found["chi"].sha256, found["chi"].file_name).is_file()
    assert environment.paths == ()


def test_an_editable_project_is_a_path_and_its_dependencies_are_locked(home: Home, index: Index) -> None:
    files = pip_section("-e .", conda="six") | project_files("chi", "0.5", ["beta"])
    environment = resolve(home, files)

    assert environment.paths == ("src",)
    assert set(pip_packages(home, environment)) == {"beta"}


@pytest.mark.parametrize(("line", "solved"), [(".", True), ("-e .", False)])
def test_another_commit_is_another_question_only_for_a_project_that_is_built(
    home: Home, index: Index, tmp_path: Path, line: str, solved: bool
) -> None:
    tree = FileTree(pip_section(line) | project_files("chi"))
    request = environment_request("conda", "environment.yml", tree, SOURCE)
    resolve_request(request, home=home, build_source=lambda: tree.check_out(tmp_path / "one"))
    later = replace(request, tree="8" * 40)

    again = resolve_request(later, home=home, build_source=lambda: tree.check_out(tmp_path / "two"))
    assert again.solved is solved


def test_a_project_that_tells_its_dependencies_only_when_it_is_built_is_locked(
    home: Home, index: Index, tmp_path: Path
) -> None:
    files = pip_section(".") | project_files("mine", requires=["alpha==1.0"])
    project = files["pyproject.toml"]
    files["pyproject.toml"] = project.replace("[project]", '[project]\ndynamic = ["dependencies"]').replace(
        "\ndependencies =", "\n[tool.mine]\ndependencies ="
    )
    files["backend.py"] = files["backend.py"].replace('["project"]', '["project"] | _tables()["tool"]["mine"]')
    files["backend.py"] += '\ndef _tables():\n    return tomllib.loads(Path("pyproject.toml").read_text())\n'
    environment = resolve(home, files, checkout=lambda: FileTree(files).check_out(tmp_path / "checkout"))
    assert pip_packages(home, environment).keys() == {"mine", "alpha"}


def test_the_checkout_is_not_asked_for_when_nothing_is_built(home: Home, index: Index) -> None:
    def checkout() -> Path:
        raise AssertionError("asked for a checkout")

    assert resolve(home, pip_section("alpha==1.0"), checkout=checkout).solved


def test_a_project_that_can_not_be_built_is_told_with_the_end_of_its_log(
    home: Home, index: Index, tmp_path: Path
) -> None:
    files = pip_section(".") | project_files("chi") | {"backend.py": "raise SystemExit('no compiler on board')\n"}
    with pytest.raises(OrchError, match="no compiler on board"):
        resolve(home, files, checkout=lambda: FileTree(files).check_out(tmp_path / "checkout"))


def test_a_wheel_in_the_commit_is_taken(home: Home, index: Index, tmp_path: Path) -> None:
    other = Index(tmp_path / "other")
    other.wheel("rho", "1.0")
    name = "rho-1.0-py3-none-any.whl"
    files: dict[str, str | bytes] = dict(pip_section(f"./wheels/{name}"))
    files[f"wheels/{name}"] = (other.folder / "files" / name).read_bytes()
    request = environment_request("conda", "environment.yml", FileTree(files), SOURCE)
    rho = pip_packages(home, resolve_request(request, home=home))["rho"]

    assert kept_wheel(home, rho.sha256, name).is_file()


# --- what a project names gets nothing of the user's --------------------------------------------------------------


def test_a_build_sees_only_variables_that_builds_need(
    home: Home, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("RATTLER_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    seen = tmp_path / "seen"
    files = pip_section(".") | project_files("chi")
    files["backend.py"] += f"import json\nPath({str(seen)!r}).write_text(json.dumps(dict(os.environ)))\n"
    resolve(home, files, checkout=lambda: FileTree(files).check_out(tmp_path / "checkout"))
    environ = json.loads(seen.read_text())

    assert not {"AWS_SECRET_ACCESS_KEY", "RATTLER_AUTH_FILE", "ORCH_HOME", "PYTHONPATH"} & set(environ)
    assert environ["https_proxy"] == "http://127.0.0.1:9"
    assert environ["PATH"].endswith(os.environ["PATH"])


@pytest.mark.parametrize(
    "files",
    [
        pip_section("alpha @ https://example.org/${MY_SECRET_KEY}/alpha-1.0.tar.gz"),
        pip_section('"--index-url https://${MY_SECRET_KEY}@example.org/simple"', "alpha"),
        pip_section("./${MY_SECRET_KEY}.whl"),
        pip_section("-r more.txt") | {"more.txt": "--find-links https://example.org/${MY_SECRET_KEY}\nalpha\n"},
        {"environment.yml": "pip-repositories: ['https://${MY_SECRET_KEY}@x.org']\ndependencies: [{pip: [alpha]}]\n"},
    ],
)
def test_variables_in_pip_lines_are_refused(
    home: Home, index: Index, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    monkeypatch.setenv("MY_SECRET_KEY", "s3cret")
    if "./" in files["environment.yml"]:
        files = files | {"${MY_SECRET_KEY}.whl": ""}
    with pytest.raises(
        OrchError, match=r"has a variable in the pip line .* \[pypi\] index in config\.toml\.$"
    ) as caught:
        resolve(home, files)

    assert "s3cret" not in str(caught.value)


def test_a_pip_line_with_a_line_in_it_is_refused(home: Home, index: Index) -> None:
    with pytest.raises(OrchError, match=r"^environment\.yml has a pip line that is more than one: 'alpha.n-r private'"):
        resolve(home, pip_section('"alpha\\n-r private"'))
