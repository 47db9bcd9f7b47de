"""Locks for another platform, for another day, and for another machine's virtual packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from made_channel import make_channel, record
from made_index import Index, project_files
from made_trees import SOURCE, FileTree

from orchestrator.environment import Environment, environment_request, lock_path, locked_packages, resolve_environment
from orchestrator.environment.lock import read_lock
from orchestrator.environment.wheel_tags import platform_tags
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

HERE = "linux-64"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    return open_home()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A channel with python for three platforms, and a package `net` that changes with the day and the platform."""
    platforms = (HERE, "osx-arm64", "win-64")
    return make_channel(
        tmp_path / "channel",
        *(record("python", "3.11.7", subdir, built="2021-01-01") for subdir in platforms),
        *(record("pip", "24.0", subdir, ["python"], built="2021-01-01") for subdir in platforms),
        *(record("net", "1.0", subdir, ["python"], built="2021-03-01") for subdir in platforms),
        *(record("net", "2.0", subdir, ["python"], built="2023-03-01") for subdir in platforms),
        record("only-here", "1.0", HERE),
        record("gpu", "1.0", HERE, ["__cuda >=12"]),
        record("modern", "1.0", "osx-arm64", ["__osx >=11"]),
        record("too-modern", "1.0", "osx-arm64", ["__osx >=99"]),
    )


def resolve(
    home: Home,
    text: str,
    *,
    platform: str | None = None,
    as_of: str | None = None,
    cuda: str | None = None,
    **files: str,
) -> Environment:
    tree = FileTree({"environment.yml": text, **{name.replace("__", "."): data for name, data in files.items()}})
    request = environment_request("conda", "environment.yml", tree, SOURCE)
    return resolve_environment(replace(request, as_of=as_of, cuda=cuda), home=home, platform=platform)


def versions(home: Home, environment: Environment) -> dict[str, str]:
    return {package.name: package.version for package in locked_packages(home, environment.lock_id)}


def wish(url: str, *names: str) -> str:
    return f"channels: ['{url}']\ndependencies: [{', '.join(names)}]\n"


def test_another_platform_has_a_lock_of_its_own(home: Home, url: str) -> None:
    here = resolve(home, wish(url, "net"))
    there = resolve(home, wish(url, "net"), platform="osx-arm64")

    assert (here.platform, there.platform) == (HERE, "osx-arm64")
    assert here.lock_id != there.lock_id
    assert {package.subdir for package in locked_packages(home, there.lock_id)} == {"osx-arm64"}
    assert not resolve(home, wish(url, "net"), platform="osx-arm64").solved


def test_another_platform_is_solved_with_the_virtual_packages_that_conda_lock_supposes(home: Home, url: str) -> None:
    there = resolve(home, wish(url, "modern"), platform="osx-arm64")

    assert read_lock(home, there.lock_id).virtual_packages == ("__archspec=1=arm64", "__osx=11.0=0", "__unix=0=0")
    with pytest.raises(OrchError, match=r"__osx >=99"):
        resolve(home, wish(url, "too-modern"), platform="osx-arm64")


def test_what_another_platform_lacks_is_told_by_name(home: Home, url: str) -> None:
    with pytest.raises(OrchError, match=r"only-here, which no channel has for osx-arm64"):
        resolve(home, wish(url, "only-here"), platform="osx-arm64")


def test_only_what_existed_on_a_day_is_let_in(home: Home, url: str) -> None:
    old = resolve(home, wish(url, "net"), as_of="2021-06-30T23:59:59Z")
    new = resolve(home, wish(url, "net"))

    assert versions(home, old)["net"] == "1.0"
    assert versions(home, new)["net"] == "2.0"
    assert read_lock(home, old.lock_id).as_of == "2021-06-30T23:59:59Z"
    assert not resolve(home, wish(url, "net"), as_of="2021-06-30T23:59:59Z").solved


def test_a_day_before_everything_is_explained(home: Home, url: str) -> None:
    with pytest.raises(OrchError, match=r"net, which no channel has for linux-64 as of 2020-01-01\. Its first"):
        resolve(home, wish(url, "net"), as_of="2020-01-01T23:59:59Z")


def test_a_day_passes_over_the_projects_own_lock(home: Home, url: str) -> None:
    text = wish(url, "net")
    lock = lock_path(home, resolve(home, text).lock_id).read_text()

    assert versions(home, resolve(home, text, conda_lock__yml=lock, as_of="2021-06-30T23:59:59Z"))["net"] == "1.0"


def test_a_day_changes_nothing_in_a_lock_and_is_refused(home: Home, url: str) -> None:
    lock = lock_path(home, resolve(home, wish(url, "net")).lock_id).read_text()
    request = environment_request("conda-lock", "conda-lock.yml", FileTree({"conda-lock.yml": lock}), SOURCE)

    with pytest.raises(OrchError, match=r"conda-lock\.yml is a lock: no day changes what is in it"):
        resolve_environment(replace(request, as_of="2021-06-30T23:59:59Z"), home=home)


def test_cuda_can_be_solved_for_without_having_it(home: Home, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "")
    environment = resolve(home, wish(url, "gpu"), cuda="12.4")

    assert "__cuda=12.4=0" in read_lock(home, environment.lock_id).virtual_packages
    assert environment.notes == (
        "the environment is solved for CUDA 12.4: a machine without it can't use it.",
        "gpu of the environment needs __cuda >=12, and this machine has none: the program may not start here.",
    )


def test_pip_packages_are_those_of_the_other_platform(home: Home, url: str, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.wheel("pure", "1.0")
    for tag in ("manylinux_2_17_x86_64", "macosx_11_0_arm64", "win_amd64"):
        index.wheel("native", "1.0", tag=f"cp311-cp311-{tag}")
    home.config.write_text(f'[pypi]\nindex = "{index.url}"\n')
    text = f"channels: ['{url}']\ndependencies: [python, {{pip: [pure, native]}}]\n"

    for platform, tag in ((HERE, "x86_64"), ("osx-arm64", "macosx_11_0_arm64"), ("win-64", "win_amd64")):
        packages = locked_packages(home, resolve(home, text, platform=platform).lock_id)
        names = {package.name: package.file_name for package in packages if package.manager == "pip"}
        assert names["pure"] == "pure-1.0-py3-none-any.whl"
        assert tag in names["native"]


def test_a_pip_package_without_a_wheel_for_the_other_platform_is_named(home: Home, url: str, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.source("sourced", "1.0")
    home.config.write_text(f'[pypi]\nindex = "{index.url}"\n')

    with pytest.raises(OrchError, match="sourced"):
        resolve(home, f"channels: ['{url}']\ndependencies: [python, {{pip: [sourced]}}]\n", platform="osx-arm64")


def test_the_project_itself_is_locked_for_another_platform_when_its_wheel_is_pure(
    home: Home, url: str, tmp_path: Path
) -> None:
    text = f"channels: ['{url}']\ndependencies: [python, {{pip: [.]}}]\n"
    tree = FileTree({"environment.yml": text, **project_files("mine")})
    request = environment_request("conda", "environment.yml", tree, SOURCE)
    there = resolve_environment(
        request, home=home, platform="osx-arm64", build_source=lambda: tree.check_out(tmp_path / "checkout")
    )

    files = {package.name: package.file_name for package in locked_packages(home, there.lock_id)}
    assert files["mine"] == "mine-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("platform", "first", "holds"),
    [
        ("linux-64", "manylinux_2_28_x86_64", "manylinux2014_x86_64"),
        ("linux-aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64"),
        ("osx-arm64", "macosx_13_0_arm64", "macosx_11_0_universal2"),
        ("win-64", "win_amd64", "win_amd64"),
    ],
)
def test_wheel_tags_are_the_most_specific_first(platform: str, first: str, holds: str) -> None:
    tags = platform_tags(platform)
    assert tags[0] == first
    assert holds in tags


def test_a_projects_lock_for_several_platforms_is_kept_for_all(home: Home, channel: Path) -> None:
    text = wish(channel.as_uri(), "six")
    table = yaml.safe_load(lock_path(home, resolve(home, text).lock_id).read_text())
    mac = [{**row, "platform": "osx-arm64"} for row in table["package"] if row["url"].rsplit("/", 2)[1] == "noarch"]
    python = next(row for row in table["package"] if row["name"] == "python")
    mac.append({**python, "platform": "osx-arm64", "hash": {"sha256": "a" * 64}})
    table["package"] += mac
    table["metadata"]["platforms"].append("osx-arm64")
    (home.locks / "by-source").rename(home.locks / "aside")

    environment = resolve(home, text, **{"conda-lock__yml": yaml.safe_dump(table)})

    assert not environment.solved
    (other,) = environment.others.items()
    assert other[0] == "osx-arm64"
    assert {"python", "six"} <= {package.name for package in locked_packages(home, other[1])}
    assert read_lock(home, other[1]).platform == "osx-arm64"


def test_a_platform_of_a_lock_that_names_no_platform_is_passed_over(home: Home, channel: Path) -> None:
    text = wish(channel.as_uri(), "six")
    table = yaml.safe_load(lock_path(home, resolve(home, text).lock_id).read_text())
    table["package"].append({**table["package"][0], "platform": "../../escaped"})
    (home.locks / "by-source").rename(home.locks / "aside")

    assert resolve(home, text, **{"conda-lock__yml": yaml.safe_dump(table)}).others == {}
