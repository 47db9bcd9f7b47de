"""An environment file becomes a lock: solved once, found again, and taken by conda-lock's own tools."""

from __future__ import annotations

import json
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from channel_server import ChannelServer
from conftest import CONDA_FORGE, DEFAULTS
from made_trees import SOURCE, FileTree

from orchestrator.environment import (
    Environment,
    LockedPackage,
    environment_request,
    lock_path,
    locked_packages,
    resolve_environment,
)
from orchestrator.environment.lock import Kind
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SIX = "dependencies:\n- python\n- six\n"


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


def resolve(home: Home, text: str, *, kind: Kind = "conda", relock: bool = False, **files: str) -> Environment:
    name = {"conda": "environment.yml", "conda-lock": "conda-lock.yml"}.get(kind, kind)
    tree = FileTree({name: text} | {path.replace("__", "."): data for path, data in files.items()})
    return resolve_environment(environment_request(kind, name, tree, SOURCE), home=home, relock=relock)


def packages(home: Home, environment: Environment) -> dict[str, LockedPackage]:
    return {package.name: package for package in locked_packages(home, environment.lock_id)}


def test_an_environment_is_solved_once_and_then_found_again(home: Home) -> None:
    first = resolve(home, SIX)
    again = resolve(home, SIX)

    assert first.solved
    assert again == replace(first, solved=False)
    assert first.packages == len(packages(home, first)) >= 2


def test_a_lock_names_the_channel_and_not_the_folder_that_mirrors_it(home: Home) -> None:
    found = packages(home, resolve(home, SIX))

    assert all(package.url.startswith(f"{CONDA_FORGE}/") for package in found.values())
    assert {package.channel for package in found.values()} == {CONDA_FORGE}
    assert all(len(package.sha256) == 64 and package.md5 and package.size for package in found.values())
    assert found["six"].subdir == "noarch"


def test_conda_lock_reads_and_renders_the_lock(home: Home) -> None:
    environment = resolve(home, "variables: {A: b}\n" + SIX)

    script = (
        "import sys; from pathlib import Path\n"
        "from conda_lock.lockfile import parse_conda_lock_file\n"
        "from conda_lock.conda_lock import render_lockfile_for_platform as render\n"
        "lock = parse_conda_lock_file(Path(sys.argv[1]))\n"
        "options = dict(include_dev_dependencies=False, extras=set(), kind='explicit', platform=sys.argv[2])\n"
        "print('\\n'.join(render(lockfile=lock, **options)))\n"
    )
    path = lock_path(home, environment.lock_id)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), environment.platform], capture_output=True, text=True, check=True
    )

    found = packages(home, environment)
    assert f"{found['six'].url}#{found['six'].md5}" in done.stdout.splitlines()
    assert environment.variables == {"A": "b"}


def test_relock_solves_again(home: Home) -> None:
    first = resolve(home, SIX)

    assert resolve(home, SIX, relock=True) == first


def test_another_byte_in_the_file_is_another_question_and_the_same_packages_are_the_same_lock(home: Home) -> None:
    first = resolve(home, SIX)
    other = resolve(home, SIX + "# a remark\n")

    assert other.solved
    assert other.lock_id == first.lock_id


def test_a_lock_that_was_removed_is_made_anew(home: Home) -> None:
    first = resolve(home, SIX)
    lock_path(home, first.lock_id).unlink()
    lock_path(home, first.lock_id).with_name("packages.json").unlink()
    lock_path(home, first.lock_id).parent.rmdir()

    assert resolve(home, SIX) == first


def test_versions_are_pinned_as_conda_reads_them(home: Home) -> None:
    text = "channels: [conda-forge, nodefaults]\ndependencies: ['python', 'conda-forge::numpy=1.26', 'six 1.16.*']\n"
    found = packages(home, resolve(home, text))

    assert found["numpy"].version.startswith("1.26.")
    assert found["six"].version == "1.16.0"


def test_a_line_for_another_platform_is_left_out(home: Home) -> None:
    here, there = ("linux", "osx") if sys.platform == "linux" else ("osx", "linux")
    found = packages(home, resolve(home, f"dependencies:\n- python\n- six  # [{here}]\n- nope  # [{there}]\n"))

    assert "six" in found


def test_defaults_are_condas_channels(home: Home) -> None:
    found = packages(home, resolve(home, "channels: [defaults]\ndependencies: [python]\n"))

    assert found["python"].channel == DEFAULTS[0]


def test_a_channel_may_be_a_folder(home: Home, channel: Path) -> None:
    found = packages(home, resolve(home, f"channels: ['{channel.as_uri()}']\ndependencies: [python]\n"))

    assert found["python"].url.startswith(channel.as_uri() + "/")


def test_the_environment_of_a_project_without_one_is_the_newest_python(home: Home) -> None:
    environment = resolve_environment(environment_request("none", "", FileTree({}), SOURCE), home=home)

    assert "python" in packages(home, environment)
    # Who found the project has told that it names none.
    assert environment.notes == ()


def test_variables_are_text(home: Home) -> None:
    environment = resolve(home, "variables:\n  A: 1\n  B: 'x y'\n  C:\n" + SIX)

    assert environment.variables == {"A": "1", "B": "x y", "C": ""}


def test_a_lock_that_needs_a_gpu_says_so(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = {"name": "net", "version": "1", "build": "0", "build_number": 0, "depends": ["__cuda >=12"]}
    index |= {"subdir": "noarch", "sha256": "a" * 64, "md5": "b" * 32, "size": 1}
    (tmp_path / "gpu/noarch").mkdir(parents=True)
    repodata = {"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": {"net-1-0.conda": index}}
    (tmp_path / "gpu/noarch/repodata.json").write_text(json.dumps(repodata))
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.4")
    environment = resolve(home, f"channels: ['{(tmp_path / 'gpu').as_uri()}']\ndependencies: [net]\n")

    assert environment.notes == ("the environment is solved for CUDA 12.4: a machine without it can't use it.",)


@pytest.mark.parametrize("ignored", ["name: null\n", "prefix: /home/ada/envs/x\n", "name: x\n", ""])
def test_what_says_nothing_about_packages_is_passed_over(home: Home, ignored: str) -> None:
    assert "six" in packages(home, resolve(home, ignored + SIX))


def test_sixteen_processes_that_want_the_same_solve_once(home: Home) -> None:
    with multiprocessing.get_context("spawn").Pool(16) as pool:
        found = pool.map(_resolve_six, [str(home.root)] * 16)

    assert sorted(solved for _, solved in found) == [False] * 15 + [True]
    assert len({lock_id for lock_id, _ in found}) == 1


def _resolve_six(root: str) -> tuple[str, bool]:
    environment = resolve(open_home({"ORCH_HOME": root}), SIX)
    return environment.lock_id, environment.solved


def test_a_warm_environment_loads_nothing_heavy(home: Home) -> None:
    resolve(home, SIX)
    script = (
        "import sys\n"
        "from made_trees import SOURCE, FileTree\n"
        "from orchestrator.environment import environment_request, resolve_environment\n"
        "from orchestrator.paths import open_home\n"
        f"tree = FileTree({{'environment.yml': {SIX!r}}})\n"
        "request = environment_request('conda', 'environment.yml', tree, SOURCE)\n"
        "assert not resolve_environment(request, home=open_home()).solved\n"
        "heavy = {'rattler', 'conda_lock', 'yaml', 'filelock', 'packaging', 'asyncio', 'http'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": "tests:.", "ORCH_HOME": str(home.root), "HOME": str(home.root), "PATH": "/usr/bin:/bin"},
    )

    assert done.stdout.strip() == "[]"


# --- what can't be solved ---------------------------------------------------------------------------------------


def refused(home: Home, text: str, kind: Kind = "conda", **files: str) -> str:
    with pytest.raises(OrchError) as caught:
        resolve(home, text, kind=kind, **files)
    assert not list(home.locks.glob("*/conda-lock.yml"))
    return str(caught.value)


def test_a_contradiction_is_explained_by_the_solver(home: Home) -> None:
    said = refused(home, "dependencies: [python, 'six=1.16', 'six=1.17']\n")

    assert said.splitlines()[0].startswith("the environment environment.yml can't be solved for ")
    assert "six" in "".join(said.splitlines()[1:])
    assert said == said.strip()


def test_what_contradicts_itself_is_told_in_the_words_of_the_file(home: Home) -> None:
    said = refused(home, "dependencies: [python, six=1.16, 'six>=1.17', pip]\n")

    assert said.splitlines()[-1] == "environment.yml asks for six=1.16, six>=1.17."


def test_a_version_that_is_not_there_is_told_with_those_that_are(home: Home) -> None:
    said = refused(home, "dependencies: [python, six=9]\n")

    assert said.startswith("environment.yml asks for six=9, which no channel has for ")
    assert "Versions that are there: 1.16.0, 1.17.0.\n" in said


def test_an_unknown_package_is_named_with_its_neighbours(home: Home) -> None:
    said = refused(home, "dependencies: [python, nunpy]\n")

    assert said.startswith("environment.yml asks for nunpy, which no channel has for ")
    assert "Names that come near: numpy." in said


def test_builds_of_another_platform_are_explained_in_one_sentence(home: Home) -> None:
    said = refused(home, "dependencies: [python, 'six=1.16.0=h1_osx', 'numpy=1.26.4=py311_9']\nprefix: /Users/ada/x\n")

    assert said.count("\n") == 0
    assert "six 1.16.0 in the build h1_osx" in said
    assert "--from-history" in said


def test_a_package_of_another_platform_in_an_export_is_explained(home: Home) -> None:
    said = refused(home, "dependencies: [python=3.11, ucrt=10.0, vc=14]\nprefix: C:/x\n")

    assert "ucrt, which no channel has for" in said
    assert "--from-history" in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: x\n", "environment.yml lists no dependencies"),
        ("dependencies: []\n", "environment.yml lists no dependencies"),
        ("dependencies: {python: 3.11}\n", "dependencies must be a list"),
        ("dependencies: [python, 3.11]\n", "3.11 in dependencies is neither"),
        ("dependencies:\n- python\n- a: [\n", "environment.yml, line 4: not valid YAML"),
        ("", "environment.yml is empty"),
        ("- python\n", "must be a mapping"),
        ("channels: conda-forge\ndependencies: [python]\n", "channels must be a list"),
        ("variables: [a]\ndependencies: [python]\n", "variables must be a mapping"),
        ("dependencies: ['python >>= 3']\n", "'python >>= 3' is not a package specification"),
        ("channels: ['file:///no/such']\ndependencies: [python]\n", "file:///no/such is not there: no such folder"),
    ],
)
def test_a_wrong_environment_file_is_refused_with_a_sentence(home: Home, text: str, sentence: str) -> None:
    assert sentence in refused(home, text)


def test_text_that_is_not_utf8_is_refused(home: Home) -> None:
    tree = FileTree({"environment.yml": b"dependencies: [\xff]\n"})
    with pytest.raises(OrchError, match=r"environment\.yml is not UTF-8 text"):
        resolve_environment(environment_request("conda", "environment.yml", tree, SOURCE), home=home)


def test_a_home_that_can_not_be_written_is_told(home: Home) -> None:
    (home.locks / "by-source").write_text("in the way")

    assert f"the environment can't be locked in {home.root}: " in refused(home, SIX)


# --- a channel over the network ---------------------------------------------------------------------------------


@pytest.fixture
def served(home: Home, channel_server: Callable[..., ChannelServer]) -> ChannelServer:
    server = channel_server()
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{server.url}"]\n')
    return server


def test_a_server_that_recovers_is_asked_again(home: Home, served: ChannelServer) -> None:
    served.fail("*/repodata*", "unavailable", times=2)

    assert "six" in packages(home, resolve(home, SIX))


def test_a_channel_that_does_not_exist_is_told(home: Home, served: ChannelServer) -> None:
    served.fail("*", "missing")

    assert f"the channel {CONDA_FORGE} is not there (404)" in refused(home, SIX)


def test_where_credentials_go_is_told_and_they_are_used_there(
    home: Home, served: ChannelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.fail("*", "unauthorized")
    said = refused(home, SIX)
    # A mirror is asked with the credentials of the channel that it stands for.
    example = re.search(r'\{"conda\.anaconda\.org": \{"BearerToken": "\.\.\."\}\}', said)
    assert example is not None and "RATTLER_AUTH_FILE" in said and "\n" not in said
    (tmp_path / "auth.json").write_text(example[0])
    monkeypatch.setenv("RATTLER_AUTH_FILE", str(tmp_path / "auth.json"))

    assert "six" in packages(home, resolve(home, SIX))


def test_a_server_that_stays_broken_is_told(home: Home, served: ChannelServer) -> None:
    served.fail("*", "unavailable")

    assert "its server fails. Try again later" in refused(home, SIX)


def test_a_dead_mirror_is_passed_over_for_the_next(home: Home, served: ChannelServer) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["http://127.0.0.1:9", "{served.url}"]\n')

    assert "six" in packages(home, resolve(home, SIX))


def test_no_network_is_told(home: Home) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["http://127.0.0.1:9"]\n')

    assert refused(home, SIX) == (
        "the channel http://127.0.0.1:9 can't be reached: there is no network, or no such host. "
        f"A mirror or a folder with a channel is named in [mirrors] of {home.config}."
    )


def test_what_rattler_says_of_a_channel_is_told_to_who_asks(
    home: Home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["http://127.0.0.1:9"]\n')
    refused(home, SIX)
    assert "Caused by" not in capfd.readouterr().err
    monkeypatch.setenv("ORCH_LOG", "debug")
    refused(home, SIX)

    assert "Caused by: tcp connect error" in capfd.readouterr().err


@pytest.mark.parametrize("address", ["ada:s3cret@conda.example.org/x", "conda.example.org/t/s3cret/x"])
def test_credentials_in_a_channel_url_do_not_reach_the_lock(home: Home, channel: Path, address: str) -> None:
    home.config.write_text(f'[mirrors]\n"https://conda.example.org/x" = ["{channel.as_uri()}"]\n')
    environment = resolve(home, f"channels: ['https://{address}']\n{SIX}")

    kept = [path.read_text() for path in home.locks.rglob("*") if path.is_file()]
    assert not any("s3cret" in text for text in kept)
    assert packages(home, environment)["six"].channel == "https://conda.example.org/x"


# --- python_env.yaml --------------------------------------------------------------------------------------------


def test_python_env_takes_its_python(home: Home) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = packages(home, resolve(home, f"python: '{version}'\ndependencies: []\n", kind="python_env"))

    assert found["python"].version.startswith(f"{version}.")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("python: 3.11\nchannels: [x]\n", "unknown key 'channels'; it takes python, build_dependencies, dependencies"),
        ("python: latest\n", "python takes a version as 3.11"),
        ("dependencies: six\n", "dependencies must be a list"),
    ],
)
def test_a_wrong_python_env_is_refused_with_a_sentence(home: Home, text: str, sentence: str) -> None:
    assert sentence in refused(home, text, kind="python_env")


def test_packages_json_of_a_newer_orch_is_refused(home: Home) -> None:
    environment = resolve(home, SIX)
    path = lock_path(home, environment.lock_id).with_name("packages.json")
    path.write_text(json.dumps({"version": 99, "packages": []}))

    with pytest.raises(OrchError, match="version 99"):
        locked_packages(home, environment.lock_id)


# --- variables in channels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "channels: ['http://127.0.0.1:9/$MY_SECRET_KEY']\ndependencies: [python]\n",
        "dependencies: ['http://127.0.0.1:9/${MY_SECRET_KEY}::six']\n",
    ],
)
def test_a_variable_in_a_channel_of_a_project_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MY_SECRET_KEY", "s3cret")
    with pytest.raises(OrchError, match=r"^environment.yml has a variable in the channel .* rattler's auth file"):
        resolve(home, text)


def test_a_variable_in_a_channel_of_the_configuration_is_used(
    home: Home, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_CHANNELS", str(channel.parent))
    home.config.write_text(f'default-channels = ["$MY_CHANNELS/{channel.name}"]\n')

    assert resolve(home, "dependencies: [python]\n").solved
