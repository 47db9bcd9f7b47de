"""`orch env lock`: a project's lock for every platform, written, updated, checked, and taken by others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_channel import make_channel, record
from made_index import Index, project_files, served

from e2e.conftest import CONDA_FORGE, mlproject, orch, orch_json

Make = Callable[..., Path]
PLATFORMS = ("linux-64", "osx-64", "osx-arm64", "win-64")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ORCH_HOME` whose conda-forge is a channel of records for every platform."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("ORCH_HOME", str(home))
    publish(tmp_path, home, "first")
    monkeypatch.chdir(tmp_path)
    return home


def publish(tmp_path: Path, home: Path, name: str, *more: dict[str, Any]) -> None:
    """Make a channel be conda-forge: the usual packages, and `more`."""
    records = [
        *(record("python", "3.11.7", subdir, built="2021-01-01") for subdir in PLATFORMS),
        *(record("base", version, subdir, built="2021-01-01") for subdir in PLATFORMS for version in ("1.0", "2.0")),
        *(record(f"of-{subdir}", "1.0", subdir) for subdir in PLATFORMS),
        record("pip", "24.0", depends=["python"], built="2021-01-01"),
        record("net", "1.0", depends=["base >=1", "python"], built="2021-01-01"),
        record("net", "1.5", depends=["base >=1", "python"], built="2023-01-01"),
        record("other", "1.0", depends=["python"], built="2021-01-01"),
        record("tool", "1.0", depends=["base", "gears"], built="2021-01-01"),
        record("gears", "1.0", built="2021-01-01"),
        record("boa", "1.0", "linux-64"),
        *more,
    ]
    url = make_channel(tmp_path / f"channel-{name}", *records)
    (home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{url}"]\n')


@pytest.fixture
def index(tmp_path: Path, home: Path) -> Iterator[Index]:
    """A package index over HTTP, with a wheel for every platform."""
    made = Index(tmp_path / "index")
    made.wheel("pure", "1.0")
    made.wheel("tester", "1.0", requires=["pure"])
    for tag in ("manylinux_2_17_x86_64", "macosx_10_9_x86_64", "macosx_11_0_arm64", "win_amd64"):
        made.wheel("native", "1.0", tag=f"cp311-cp311-{tag}")
    with served(made.folder) as url:
        with (home / "config.toml").open("a") as config:
            config.write(f'[pypi]\nindex = "{url}/simple"\n')
        yield made


def write(path: Path, *dependencies: str, **keys: Any) -> Path:
    """An environment file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"channels": ["conda-forge"], "dependencies": list(dependencies), **keys}))
    return path


def rows(path: Path, **wanted: str) -> dict[str, dict[str, Any]]:
    """The packages of a lock, by name, that have the wanted values."""
    table = yaml.safe_load(path.read_text())
    return {row["name"]: row for row in table["package"] if all(row[key] == value for key, value in wanted.items())}


def versions(path: Path, platform: str = "linux-64") -> dict[str, str]:
    return {name: row["version"] for name, row in rows(path, platform=platform).items()}


def test_a_lock_for_the_main_platforms_is_written_beside_the_file(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "p/environment.yml", "net")
    done = orch("env", "lock", "p")

    lock = tmp_path / "p/conda-lock.yml"
    assert done.stdout.splitlines()[-1] == "wrote p/conda-lock.yml"
    assert all(versions(lock, platform).keys() == {"net", "base", "python"} for platform in PLATFORMS)
    assert rows(lock, platform="osx-arm64")["base"]["url"] == f"{CONDA_FORGE}/osx-arm64/base-2.0-0.conda"
    before = lock.read_bytes()
    orch("env", "lock", tmp_path / "p/environment.yml")
    assert lock.read_bytes() == before


def test_platforms_are_those_that_the_file_names_or_the_user(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net", platforms=["win-64", "osx-64"])
    orch("env", "lock")
    assert yaml.safe_load((tmp_path / "conda-lock.yml").read_text())["metadata"]["platforms"] == ["win-64", "osx-64"]

    orch("env", "lock", "--platform", "linux-64")
    assert yaml.safe_load((tmp_path / "conda-lock.yml").read_text())["metadata"]["platforms"] == ["linux-64"]
    assert "--platform vax is unknown" in orch("env", "lock", "--platform", "vax", code=2).stderr
    write(tmp_path / "environment.yml", "net", platforms=["vax"])
    assert "environment.yml: platforms has 'vax'" in orch("env", "lock", code=125).stderr


def test_a_line_with_a_selector_counts_on_its_platform(home: Path, tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text(
        "channels: [conda-forge]\ndependencies:\n  - net\n  - of-linux-64  # [linux]\n  - of-win-64  # [win]\n"
    )
    orch("env", "lock", "--platform", "linux-64", "--platform", "win-64")
    assert "of-linux-64" in versions(tmp_path / "conda-lock.yml")
    assert "of-win-64" in versions(tmp_path / "conda-lock.yml", "win-64")


def test_conda_locks_own_reader_hash_and_renderer_take_the_lock(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    write(tmp_path / "dev.yml", "tool", category="dev")
    orch("env", "lock", "environment.yml", "dev.yml")

    read = json.loads(subprocess.run([sys.executable, "-c", READ], check=True, capture_output=True).stdout)
    assert read["sources"] == ["environment.yml", "dev.yml"]
    assert read["categories"] == [["dev"], ["dev", "main"], ["main"]]
    assert read["has"] == read["computed"]
    conda_lock = Path(sys.executable).with_name("conda-lock")
    subprocess.run([conda_lock, "render", "--kind", "explicit", "-p", "osx-64"], check=True, capture_output=True)
    explicit = (tmp_path / "conda-osx-64.lock").read_text().splitlines()
    assert f"{CONDA_FORGE}/osx-64/base-2.0-0.conda" in [line.partition("#")[0] for line in explicit]


READ = """
import json
from pathlib import Path
from conda_lock.content_hash import compute_content_hashes
from conda_lock.lockfile import parse_conda_lock_file
from conda_lock.src_parser import make_lock_spec
from conda_lock.virtual_package import default_virtual_package_repodata

lock = parse_conda_lock_file(Path("conda-lock.yml"))
Path("names.json").write_text("{}")
spec = make_lock_spec(
    src_files=[Path(name).resolve() for name in lock.metadata.sources],
    mapping_url="names.json",
    platform_overrides=lock.metadata.platforms,
)
print(json.dumps({
    "sources": lock.metadata.sources,
    "categories": sorted({tuple(sorted(package.categories)) for package in lock.package}),
    "has": lock.metadata.content_hash,
    "computed": compute_content_hashes(spec, default_virtual_package_repodata()),
}))
"""


def test_several_files_are_merged_and_each_package_knows_its_categories(
    home: Path, tmp_path: Path, index: Index
) -> None:
    write(tmp_path / "environment.yml", "python", "net", {"pip": ["pure"]})
    write(tmp_path / "more/dev.yml", "net <1.5", "tool", {"pip": ["tester"]}, category="dev")
    orch("env", "lock", "environment.yml", "more/dev.yml", "--platform", "linux-64", "--platform", "osx-arm64")

    lock = tmp_path / "conda-lock.yml"
    assert versions(lock)["net"] == "1.0"  # what the later file says
    main, dev = (set(rows(lock, platform="osx-arm64", category=category)) for category in ("main", "dev"))
    assert main == {"python", "pip", "net", "base", "pure"}
    assert dev == {"python", "pip", "net", "base", "pure", "tool", "gears", "tester"}


def test_channels_without_a_common_order_are_refused(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net", channels=["conda-forge", "bioconda"])
    write(tmp_path / "dev.yml", "tool")
    said = orch("env", "lock", "environment.yml", "dev.yml", code=125).stderr
    assert "the channels of dev.yml (conda-forge) and of environment.yml (conda-forge, bioconda) have no" in said


def test_an_update_moves_only_what_must_move(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net", "other")
    orch("env", "lock", "--platform", "linux-64", "--platform", "win-64", "--virtual-package", "__glibc=2.17")
    news = [record("net", "2.0", depends=["gears", "python"]), record("other", "2.0", depends=["python"])]
    publish(tmp_path, home, "second", *news, record("base", "3.0", "linux-64"))

    done = orch("env", "lock", "--update", "net")
    assert versions(tmp_path / "conda-lock.yml") == {"net": "2.0", "gears": "1.0", "other": "1.0", "python": "3.11.7"}
    assert done.stdout.splitlines()[:3] == ["- base 2.0", "+ gears 1.0", "~ net 1.5 -> 2.0"]
    assert set(versions(tmp_path / "conda-lock.yml", "win-64")) == {"net", "gears", "other", "python"}
    orch("env", "lock", "--check")  # what it was made with is remembered

    assert "no such package. Names that come near: net" in orch("env", "lock", "--update", "nett", code=2).stderr
    (tmp_path / "conda-lock.yml").unlink()
    assert "conda-lock.yml, which is not there" in orch("env", "lock", "--update", "net", code=2).stderr


def test_an_update_moves_pip_packages_too(home: Path, tmp_path: Path, index: Index) -> None:
    write(tmp_path / "environment.yml", "python", {"pip": ["pure", "tester"]})
    orch("env", "lock", "--platform", "linux-64")
    index.wheel("pure", "2.0")
    index.wheel("tester", "2.0", requires=["pure"])

    orch("env", "lock", "--update", "tester")
    assert versions(tmp_path / "conda-lock.yml").items() >= {"pure": "1.0", "tester": "2.0"}.items()
    orch("env", "lock", "--update", "pure")
    assert versions(tmp_path / "conda-lock.yml").items() >= {"pure": "2.0", "tester": "2.0"}.items()


def test_check_says_what_does_not_match(home: Path, tmp_path: Path) -> None:
    environment = write(tmp_path / "environment.yml", "net")
    assert orch("env", "lock", "--check", code=1).stdout == "there is no conda-lock.yml.\n"
    orch("env", "lock")
    assert orch("env", "lock", "--check").stdout == "conda-lock.yml matches its sources.\n"

    environment.write_text("# a comment\n" + environment.read_text())
    orch("env", "lock", "--check")
    write(environment, "net", "other")
    said = orch("env", "lock", "--check", code=1).stdout
    platforms = f"{', '.join(PLATFORMS[:3])} and win-64"
    assert said == f"conda-lock.yml does not match environment.yml any more, for {platforms}.\n"
    write(environment, "net", platforms=["linux-64", "linux-aarch64"])
    assert orch("env", "lock", "--check", code=1).stdout == "conda-lock.yml has nothing for linux-aarch64.\n"
    write(environment, "net")
    write(tmp_path / "dev.yml", "tool")
    said = orch("env", "lock", "--check", "environment.yml", "dev.yml", code=1).stdout
    assert said == "conda-lock.yml was made from environment.yml, not from environment.yml and dev.yml.\n"
    assert "was made with other --as-of" in orch("env", "lock", "--check", "--cuda", "12", code=1).stdout
    assert "nothing to --update" in orch("env", "lock", "--check", "--update", "net", code=2).stderr


def test_a_folder_is_locked_again_from_all_files_its_lock_was_made_from(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    write(tmp_path / "dev.yml", "tool", category="dev")
    orch("env", "lock", "environment.yml", "dev.yml", "--platform", "linux-64")
    orch("env", "lock", "--check")

    write(tmp_path / "dev.yml", "tool", "other", category="dev")
    orch("env", "lock", "--check", code=1)
    orch("env", "lock", "--platform", "linux-64")
    assert rows(tmp_path / "conda-lock.yml", category="dev").keys() >= {"tool", "other"}


def test_what_machines_have_can_be_said(home: Path, tmp_path: Path) -> None:
    publish(
        tmp_path,
        home,
        "virtual",
        record("old", "1.0", "linux-64"),
        record("old", "2.0", "linux-64", ["__glibc >=2.20"]),
        record("gpu", "1.0", "linux-64", ["__cuda >=12"]),
    )
    write(tmp_path / "environment.yml", "old")
    one = ("--platform", "linux-64")
    lock = tmp_path / "conda-lock.yml"

    orch("env", "lock", *one)
    assert versions(lock) == {"old": "2.0"}
    orch("env", "lock", *one, "--virtual-package", "linux-64:__glibc=2.17")
    assert versions(lock) == {"old": "1.0"}
    (tmp_path / "virtual-packages.yml").write_text("subdirs: {linux-64: {packages: {__glibc: '2.12'}}}\n")
    orch("env", "lock", *one)
    assert versions(lock) == {"old": "1.0"}
    (tmp_path / "virtual-packages.yml").write_text("subdirs: nothing\n")
    assert "virtual-packages.yml does not list virtual" in orch("env", "lock", *one, code=125).stderr
    (tmp_path / "virtual-packages.yml").unlink()

    write(tmp_path / "environment.yml", "gpu")
    assert "__cuda >=12" in orch("env", "lock", *one, code=125).stderr
    orch("env", "lock", *one, "--cuda", "12.4")
    assert versions(lock) == {"gpu": "1.0"}
    for wrong in ("glibc=2", "__glibc", "moon-64:__glibc=2"):
        orch("env", "lock", "--virtual-package", wrong, code=2)


def test_a_day_is_remembered_and_kept_by_an_update(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    orch("env", "lock", "--platform", "linux-64", "--as-of", "2022-01-01")
    assert versions(tmp_path / "conda-lock.yml")["net"] == "1.0"

    orch("env", "lock", "--update", "net")
    assert versions(tmp_path / "conda-lock.yml")["net"] == "1.0"
    assert "not 'monday'" in orch("env", "lock", "--as-of", "monday", code=2).stderr


def test_what_all_platforms_have_against_it_is_told_and_nothing_written(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    orch("env", "lock")
    before = (tmp_path / "conda-lock.yml").read_bytes()
    write(tmp_path / "environment.yml", "net", "boa")

    said = orch("env", "lock", code=125).stderr
    assert "environment.yml asks for boa, which no channel has for osx-64, osx-arm64 and win-64." in said
    assert said.endswith(
        "conda-lock.yml was not written.\nIt can be locked for linux-64: name those with --platform.\n"
    )
    assert (tmp_path / "conda-lock.yml").read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("*conda-lock*")) == ["conda-lock.yml"]


def test_pip_packages_are_locked_for_each_platform(home: Path, tmp_path: Path, index: Index) -> None:
    write(tmp_path / "environment.yml", "python", {"pip": ["native", "tester"]})
    orch("env", "lock")

    names = {p: rows(tmp_path / "conda-lock.yml", platform=p)["native"]["url"].rpartition("-")[2] for p in PLATFORMS}
    assert names == {
        "linux-64": "manylinux_2_17_x86_64.whl",
        "osx-64": "macosx_10_9_x86_64.whl",
        "osx-arm64": "macosx_11_0_arm64.whl",
        "win-64": "win_amd64.whl",
    }
    assert rows(tmp_path / "conda-lock.yml", platform="win-64", manager="pip").keys() == {"native", "tester", "pure"}


PEP_621 = """
[project]
name = "x"
version = "1"
requires-python = ">=3.11"
dependencies = ["tester"]
[tool.conda-lock]
channels = ["conda-forge"]
default-non-conda-source = "pip"
platforms = ["linux-64"]
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "-r more.txt\n"),
        ("python_env.yaml", "python: '3.11'\ndependencies: [-r more.txt]\n"),
        ("pyproject.toml", PEP_621),
    ],
)
def test_other_files_can_be_locked(home: Path, tmp_path: Path, index: Index, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "more.txt").write_text("tester\n")
    orch("env", "lock", "--platform", "linux-64")

    assert versions(tmp_path / "conda-lock.yml").items() >= {"python": "3.11.7", "tester": "1.0", "pure": "1.0"}.items()
    orch("env", "lock", "--check")
    changed = tmp_path / ("pyproject.toml" if name == "pyproject.toml" else "more.txt")
    changed.write_text(changed.read_text().replace("tester", "pure"))
    orch("env", "lock", "--check", code=1)


def test_a_pyproject_is_read_as_conda_lock_reads_it(home: Path, tmp_path: Path, index: Index) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
        '[tool.poetry.dependencies]\npython = "^3.11"\nnet = "^1.0"\npure = {version = "1.0", source = "pypi"}\n'
        '[tool.poetry.group.dev.dependencies]\ntool = "*"\n'
        '[tool.conda-lock]\nchannels = ["conda-forge"]\nplatforms = ["linux-64", "osx-64"]\n'
        '[tool.conda-lock.dependencies]\nof-linux-64 = {source = "pypi"}\n'
    )
    orch("env", "lock")

    lock = tmp_path / "conda-lock.yml"
    assert set(rows(lock, platform="osx-64", category="main")) == {"python", "net", "base", "pure"}
    assert rows(lock, platform="osx-64")["pure"]["manager"] == "pip"
    assert set(rows(lock, platform="osx-64", category="dev")) == {"tool", "gears", "base"}
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\ndynamic = ["dependencies"]\n')
    assert "leaves its dependencies to its build" in orch("env", "lock", code=125).stderr
    (tmp_path / "pyproject.toml").write_text("[project\n")
    assert "pyproject.toml is not valid TOML" in orch("env", "lock", code=125).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.yml"], "there is no nowhere.yml"),
        (["conda-lock.yml"], "conda-lock.yml is one of the sources"),
        (["empty"], "empty has nothing to lock"),
        (["data.yml"], "data.yml is no environment file"),
        (["environment.yml", "../outside.yml"], "outside.yml is outside of the repository"),
        (["environment.yml", "-o", "../lock.yml"], "lock.yml is outside of the repository"),
        (["--update", "net"], "--update net: conda-lock.yml has no such package"),
        (["--as-of", "0001-01-01T00:00+14:00"], "--as-of takes a day"),
    ],
)
def test_what_can_not_be_locked_is_wrong_usage(home: Path, make_project: Make, arguments: list[str], said: str) -> None:
    files = {"environment.yml": "dependencies: [other]\n", "data.yml": "a: 1\n", "empty/x": ""}
    folder = make_project(files | {"conda-lock.yml": "version: 1\nmetadata: {}\npackage: []\n"})
    (folder.parent / "outside.yml").write_text("dependencies: [net]\n")
    assert said in orch("env", "lock", *arguments, code=2, cwd=folder).stderr


@pytest.mark.parametrize("day", ["2022-06-30", "20220630", "2022-W26-4"])
def test_a_day_lasts_until_its_last_second(home: Path, tmp_path: Path, day: str) -> None:
    publish(tmp_path, home, "day", record("late", "1.0", built="2022-06-30"))
    write(tmp_path / "environment.yml", "late")
    orch("env", "lock", "--platform", "linux-64", "--as-of", day)


def test_a_lock_is_updated_and_merged_without_network(home: Path, tmp_path: Path, index: Index) -> None:
    write(tmp_path / "environment.yml", "python", {"pip": ["tester"]})
    write(tmp_path / "dev.yml", "tool", category="dev")
    for _ in range(2):
        orch("env", "lock", "environment.yml", "dev.yml", "--platform", "linux-64")
        orch("env", "lock", "environment.yml", "dev.yml", "--platform", "linux-64", "--offline")
        orch("env", "lock", "--offline", "--update", "tester")


def test_a_package_that_a_wheel_of_main_needs_is_in_main(home: Path, tmp_path: Path, index: Index) -> None:
    index.wheel("wheely", "1.0", requires=["net"])
    write(tmp_path / "environment.yml", "python", {"pip": ["wheely"]})
    write(tmp_path / "dev.yml", "net", "tool", category="dev")
    orch("env", "lock", "environment.yml", "dev.yml", "--platform", "linux-64")

    main, dev = (set(rows(tmp_path / "conda-lock.yml", category=category)) for category in ("main", "dev"))
    assert main == {"python", "pip", "wheely", "net", "base"}
    assert dev == {"net", "base", "python", "tool", "gears"}


def test_an_update_keeps_the_platforms(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    orch("env", "lock")
    said = orch("env", "lock", "--update", "net", "--platform", "linux-64", code=2).stderr
    assert "--update keeps the platforms of the lock" in said


@pytest.mark.parametrize("glibc", ["2.17", "2.34"])
def test_wheels_are_those_for_the_machines_not_for_the_one_that_locks(
    home: Path, tmp_path: Path, index: Index, glibc: str
) -> None:
    for tag in ("manylinux_2_17_x86_64", "manylinux_2_34_x86_64"):
        index.wheel("glib", "1.0", tag=f"cp311-cp311-{tag}")
    write(tmp_path / "environment.yml", "python", {"pip": ["glib"]})
    orch("env", "lock", "--platform", "linux-64", "--virtual-package", f"__glibc={glibc}")
    assert glibc.replace(".", "_") in rows(tmp_path / "conda-lock.yml")["glib"]["url"]


def test_check_sees_what_conda_locks_own_hash_passes_over(home: Path, make_project: Make, index: Index) -> None:
    files = {"environment.yml": "dependencies: [python, 'base >=1', base <3, {pip: [-e .]}]\n"}
    folder = make_project({**files, **project_files("mine", requires=["pure"])})
    one = ("env", "lock", "--platform", "linux-64")
    orch(*one, cwd=folder)
    orch("env", "lock", "--check", cwd=folder)

    for path, before, after in (
        ("pyproject.toml", "'pure'", "'pure', 'tester'"),
        ("environment.yml", "base >=1", "base >=2"),
    ):
        text = (folder / path).read_text()
        (folder / path).write_text(text.replace(before, after))
        assert "does not match" in orch("env", "lock", "--check", code=1, cwd=folder).stdout
        (folder / path).write_text(text)


def test_check_sees_a_lock_that_a_merge_has_damaged(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    orch("env", "lock", "--platform", "linux-64")
    lock = tmp_path / "conda-lock.yml"
    whole = lock.read_text()

    lock.write_text(whole[: whole.index("package:")] + "package: []\n")
    assert orch("env", "lock", "--check", code=1).stdout == "conda-lock.yml has no packages.\n"
    table = yaml.safe_load(whole)
    table["package"] = [row for row in table["package"] if row["name"] != "base"]
    lock.write_text(yaml.safe_dump(table))
    assert "conda-lock.yml is incomplete: net needs base" in orch("env", "lock", "--check", code=1).stdout
    lock.write_text(f"<<<<<<< HEAD\n{whole}")
    assert "not valid YAML" in orch("env", "lock", "--check", code=1).stdout
    assert "the lock that was there is replaced" in orch("env", "lock", "--platform", "linux-64").stderr
    orch("env", "lock", "--check")


def test_a_name_may_be_written_as_pip_takes_it(home: Path, tmp_path: Path, index: Index) -> None:
    index.wheel("two-words", "1.0")
    write(tmp_path / "environment.yml", "python", {"pip": ["two_words"]})
    write(tmp_path / "more.yml", {"pip": ["Two.Words>=1"]})
    orch("env", "lock", "environment.yml", "more.yml", "--platform", "linux-64")
    index.wheel("two-words", "2.0")
    orch("env", "lock", "--update", "two_words")
    assert versions(tmp_path / "conda-lock.yml")["two-words"] == "2.0"


def test_no_file_outside_of_the_repository_is_written_or_read(home: Path, make_project: Make) -> None:
    folder = make_project({"environment.yml": "dependencies: [net]\n"})
    (folder / "conda-lock.yml").symlink_to("../outside.yml")
    assert "is a link out of" in orch("env", "lock", code=125, cwd=folder).stderr
    assert not (folder.parent / "outside.yml").exists()


def test_credentials_of_a_channel_are_in_no_message(home: Path, tmp_path: Path) -> None:
    with served(tmp_path / "channel-first") as url:
        channel = url.replace("//", "//ada:s3cret@")
        write(tmp_path / "environment.yml", "nosuch", channels=[channel])
        done = orch("env", "lock", "--platform", "linux-64", code=125)
    assert "nosuch, which no channel has" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


def test_packages_of_no_platform_are_shown_and_exported_for_each(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "gears")
    both = ("linux-64", "osx-arm64")
    for platform in (*both, *both):
        assert orch_json("env", "show", "environment.yml", "--platform", platform)["platform"] == platform
    exported = orch("env", "export", "environment.yml", "--platform", both[0], "--platform", both[1]).stdout
    assert {row["platform"] for row in yaml.safe_load(exported)["package"]} == set(both)


def test_a_lock_is_made_anew_on_the_same_terms_unless_others_are_given(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    given = ("--platform", "linux-64", "--virtual-package", "__glibc=2.17", "--as-of", "2022-01-01", "--cuda", "12")
    orch("env", "lock", *given)
    first = (tmp_path / "conda-lock.yml").read_bytes()

    done = orch("env", "lock")
    assert (tmp_path / "conda-lock.yml").read_bytes() == first
    said = "as the lock before: --as-of 2022-01-01T23:59:59Z --cuda 12 --virtual-package __glibc=2.17."
    assert said in " ".join(done.stderr.split())
    orch("env", "lock", "--as-of", "2024-01-01")
    assert versions(tmp_path / "conda-lock.yml")["net"] == "1.5"


def test_hashes_of_pip_lines_hold(home: Path, tmp_path: Path, index: Index) -> None:
    good = index.wheel("hashed", "1.0")
    lines = tmp_path / "requirements.txt"
    lines.write_text(f"hashed==1.0 --hash=sha256:{'0' * 64} \\\n  --hash=sha256:{good}\n")
    orch("env", "lock", "--platform", "linux-64")
    lines.write_text(f"hashed==1.0 --hash=sha256:{'0' * 64}\n")
    said = orch("env", "lock", "--platform", "linux-64", code=125).stderr
    assert "requirements.txt allows hashed only with other hashes than the index has for 1.0: sha256 000" in said
    lines.write_text(f"hashed==1.0 --hash=md5:{'0' * 32}\n")
    assert "no sha256 among them" in orch("env", "lock", "--platform", "linux-64", code=125).stderr


def test_what_was_supposed_of_the_machines_is_told(home: Path, tmp_path: Path) -> None:
    publish(tmp_path, home, "needy", record("needy", "1.0", "linux-64", ["__glibc >=2.99"]))
    write(tmp_path / "environment.yml", "needy")
    said = orch("env", "lock", "--platform", "linux-64", code=125).stderr
    assert "Machines with __glibc 2.28 (linux-64) were supposed" in said
    assert "--virtual-package linux-64:__glibc=" in said


def test_small_mistakes_are_answered(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "environment.yml", "net")
    orch("env", "lock", "--platform", "linux-64")
    assert "nothing moved: net" in orch("env", "lock", "--update", "net").stdout
    assert "clone the repository" in orch("env", "lock", "https://example.org/x.git", code=2).stderr
    orch("env", "lock", "--virtual-package", "__glibc=abc", code=2)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    assert "lists no dependencies" in orch("env", "lock", "pyproject.toml", "-o", "x.yml", code=125).stderr


# --- with a real channel, so that the lock can be used ----------------------------------------------------------

HERE = ("--platform", "linux-64", "--virtual-package", "__glibc=2.99")
"""The channel's Python is of this machine, and may need more of it than machines usually have."""


def test_a_run_uses_the_lock_and_no_channel_decides_again(orch_home: Path, make_project: Make) -> None:
    folder = make_project({"MLproject": mlproject("python -c 'import six'"), "conda.yaml": SIX})
    orch("env", "lock", *HERE, cwd=folder)

    assert "solving" not in orch("run", folder).stderr
    shown = {p["name"]: (p["version"], p["sha256"]) for p in orch_json("env", "show", folder)["packages"]}
    locked = rows(folder / "conda-lock.yml")
    assert shown == {name: (row["version"], row["hash"]["sha256"]) for name, row in locked.items()}

    (folder / "conda.yaml").write_text(SIX.replace("six", "click"))
    assert "conda-lock.yml does not match conda.yaml" in orch("run", folder, code=1).stderr


SIX = "channels: [conda-forge]\ndependencies: [python, six]\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conda.yaml", "channels: [conda-forge]\ndependencies:\n  - python\n  - pip:\n    - {line}\n"),
        ("python_env.yaml", "dependencies: ['{line}']\n"),
        ("requirements.txt", "{line}\n"),
    ],
)
@pytest.mark.parametrize("line", [".", "-e ."])
def test_the_project_itself_comes_from_the_commit_beside_its_lock(
    orch_home: Path, make_project: Make, tmp_path: Path, name: str, text: str, line: str
) -> None:
    index = Index(tmp_path / "index")
    index.wheel("pure", "1.0")
    program = "import pure, mine; print(pure.VERSION, mine.VERSION)"
    files = {**project_files("mine", requires=["pure"]), "try.py": program, name: text.format(line=line)}
    folder = make_project(files)
    with served(index.folder) as url:
        with (orch_home / "config.toml").open("a") as config:
            config.write(f'[pypi]\nindex = "{url}/simple"\n')
        orch("env", "lock", *HERE, cwd=folder)
        assert rows(folder / "conda-lock.yml", manager="pip").keys() == {"pure"}
        orch("env", "lock", "--check", cwd=folder)
        index.wheel("pure", "2.0")

        assert orch("run", folder, "-e", "try.py", "-q").stdout == "1.0 1.0\n"
        (folder / "src/mine/__init__.py").write_text("VERSION = '1.1'\n")
        assert orch("run", folder, "-e", "try.py", "-q").stdout == "1.0 1.1\n"


def test_a_lock_of_several_files_brings_the_projects_and_variables_of_all(orch_home: Path, make_project: Make) -> None:
    files = {f"sub/{path}": text for path, text in project_files("subby").items()}
    more = "channels: [conda-forge]\ndependencies: [python, {pip: [./sub]}]\nvariables: {SAID: hello}\n"
    program = "import os, six, subby; print(os.environ['SAID'])"
    folder = make_project({"conda.yaml": SIX, "more.yml": more, "try.py": program, **files})
    orch("env", "lock", "conda.yaml", "more.yml", *HERE, cwd=folder)
    orch("env", "lock", "--check", cwd=folder)
    assert orch("run", folder, "-e", "try.py", "-q").stdout == "hello\n"


def test_a_file_of_another_category_alone_is_installed_from_its_lock(orch_home: Path, make_project: Make) -> None:
    folder = make_project({"conda.yaml": f"{SIX}category: dev\n", "try.py": "import six; print('there')"})
    assert orch("run", folder, "-e", "try.py", "-q").stdout == "there\n"
    orch("env", "lock", *HERE, cwd=folder)
    assert orch("run", folder, "-e", "try.py", "-q").stdout == "there\n"


def test_sources_outside_of_the_commit_are_not_read(orch_home: Path, make_project: Make, tmp_path: Path) -> None:
    (tmp_path / "outside.yml").write_text(f"{SIX}variables: {{SAID: from outside}}\n")
    folder = make_project({"conda.yaml": SIX, "try.py": "import os; print(os.environ.get('SAID'))"})
    orch("env", "lock", "conda.yaml", *HERE, cwd=folder)
    (folder / "conda.yaml").unlink()
    lock = (folder / "conda-lock.yml").read_text()
    for name in (str(tmp_path / "outside.yml"), "../outside.yml"):
        (folder / "conda-lock.yml").write_text(lock.replace("- conda.yaml", f"- {name}"))
        assert orch("run", folder, "-e", "try.py", "-q").stdout == "None\n"


def test_a_lock_that_does_not_match_its_file_any_more_is_solved_anew(orch_home: Path, make_project: Make) -> None:
    files = {"python_env.yaml": "dependencies: [-r requirements.txt]\n", "requirements.txt": "", "try.py": "import six"}
    folder = make_project(files)
    orch("env", "lock", *HERE, cwd=folder)
    (folder / "python_env.yaml").unlink()
    lock = (folder / "conda-lock.yml").read_text()
    (folder / "conda-lock.yml").write_text(lock.replace("- python_env.yaml", "- conda.yaml"))
    (folder / "conda.yaml").write_text(SIX)
    (folder / "MLproject").write_text("name: x\nconda_env: conda-lock.yml\n")

    said = orch("run", folder, "-e", "try.py").stderr
    assert "conda-lock.yml does not match conda.yaml: the environment was solved anew." in said


def test_as_of_commit_needs_a_commit(orch_home: Path, make_project: Make) -> None:
    folder = make_project({"conda.yaml": SIX, "try.py": "print(1)"}, commit=False)
    assert "has no commit" in orch("run", folder, "-e", "try.py", "--as-of", "commit", code=2).stderr
