"""The channel builder: what it makes can be solved and installed, is the same each time, and is never half there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path

import pytest
import rattler
from dated_index import dated_index
from hypothesis import given
from hypothesis import strategies as st
from made_index import Index
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from orchestrator.environment.channel import build_channel, main, read_spec
from orchestrator.environment.package import write_package
from orchestrator.environment.repodata import write_indexes
from orchestrator.environment.wheel import match_spec, read_wheel, requirements_of, wheel_recipe
from orchestrator.errors import OrchError, UsageError

INSTALL = """
import asyncio, os, sys
import rattler

async def main(channel, prefix, cache, *specs):
    gateway = rattler.Gateway(cache_dir=cache + "/repodata")
    records = await rattler.solve(
        [rattler.Channel(channel)], [rattler.MatchSpec(s, strict=False) for s in specs], gateway=gateway,
        virtual_packages=rattler.VirtualPackage.detect(),
    )
    await rattler.install(records, prefix, cache_dir=cache + "/pkgs", show_progress=False)
    print(*sorted(f"{r.name.normalized}={r.version}" for r in records))

asyncio.run(main(*sys.argv[1:]))
sys.stdout.flush()
os._exit(0)  # rattler's threads can crash an interpreter that ends in the ordinary way
"""


def install(channel: Path, prefix: Path, cache: Path, *specs: str) -> list[str]:
    command = [sys.executable, "-c", INSTALL, str(channel), str(prefix), str(cache), *specs]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SOLVE = """
import asyncio, os, sys
import rattler

async def main(channel, platform, *specs):
    system = platform.split("-")[0]
    virtual = [
        rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString("0"))
        for name, version in ((f"__{system}", "13"), ("__glibc", "2.40"))
    ]
    records = await rattler.solve(
        [rattler.Channel(channel)], [rattler.MatchSpec(s) for s in specs], platforms=[platform, "noarch"],
        gateway=rattler.Gateway(cache_dir=channel + "/.cache"), virtual_packages=virtual,
    )
    print(*sorted(f"{r.name.normalized}:{r.subdir}" for r in records))

asyncio.run(main(*sys.argv[1:]))
sys.stdout.flush()
os._exit(0)  # as above
"""


def solve(channel: Path, platform: str, *specs: str) -> list[tuple[str, ...]]:
    """The packages for a platform, each as name and subdirectory, sorted."""
    done = subprocess.run([sys.executable, "-c", SOLVE, str(channel), platform, *specs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(item.split(":")) for item in done.stdout.split()]


def in_prefix(prefix: Path, *command: str) -> str:
    environ = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([f"{prefix}/bin/{command[0]}", *command[1:]], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def prefix(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("installed")
    prefix = work / "a rather long name so that it can not be the one that was built in"
    install(channel, prefix, work / "cache", "python", "numpy", "click", "pip")
    return prefix


def test_the_channel_solves_to_the_version_that_is_asked_for(channel: Path, tmp_path: Path) -> None:
    found = install(channel, tmp_path / "p", tmp_path / "c", "numpy=1.26", "six<1.17", "click >=8.2")
    versions = dict(item.split("=") for item in found)
    assert versions["numpy"].startswith("1.26.")
    assert versions["six"] == "1.16.0"
    assert versions["click"] >= "8.2"
    assert versions["python"] == "{}.{}.{}".format(*sys.version_info[:3])


def test_the_installed_python_knows_only_its_prefix(prefix: Path) -> None:
    show = "import sys, sysconfig, json; print(json.dumps([sys.prefix, sys.path, sysconfig.get_config_vars()]))"
    found, path, variables = json.loads(in_prefix(prefix, "python", "-c", show))
    assert found == str(prefix)
    assert all(entry == "" or entry.startswith(str(prefix)) for entry in path)
    assert sys.base_prefix not in json.dumps(variables)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which libraries are loaded")
def test_the_installed_python_loads_no_library_of_the_one_it_was_built_from(prefix: Path) -> None:
    show = "import ssl, sqlite3, ctypes, lzma, readline; print(open('/proc/self/maps').read())"
    assert f"{sys.base_prefix}/" not in in_prefix(prefix, "python", "-c", show).replace("/usr/", "")


def test_entry_points_of_pure_and_binary_wheels_run(prefix: Path) -> None:
    assert str(prefix) in in_prefix(prefix, "pip", "--version")
    assert in_prefix(prefix, "f2py", "-v")


def test_packages_import_and_are_known_to_pip(prefix: Path) -> None:
    assert in_prefix(prefix, "python", "-c", "import numpy, click; print(numpy.arange(3).sum())") == "3"
    listed = {package["name"] for package in json.loads(in_prefix(prefix, "pip", "list", "--format", "json"))}
    assert {"numpy", "click", "pip"} <= listed
    assert "No broken requirements" in in_prefix(prefix, "pip", "check")


def test_the_installed_python_makes_virtual_environments(prefix: Path, tmp_path: Path) -> None:
    in_prefix(prefix, "python", "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    assert (tmp_path / "venv/bin/python").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux which libraries are loaded")
def test_an_installed_python_can_be_the_one_that_builds(prefix: Path, tmp_path: Path) -> None:
    spec = tmp_path / "channel.yml"
    spec.write_text("dependencies: []\n")
    command = [f"{prefix}/bin/python", "-m", "orchestrator.environment.channel", str(tmp_path / "channel"), str(spec)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(command, check=True, env=environ, capture_output=True)
    assert install(tmp_path / "channel", tmp_path / "second", tmp_path / "cache", "python")
    loaded = in_prefix(tmp_path / "second", "python", "-c", "print(open('/proc/self/maps').read())")
    assert str(prefix) not in loaded
    assert sys.base_prefix not in loaded


# --- building ---------------------------------------------------------------------------------------------------


def write_wheel(folder: Path, name: str = "demo", *, requires: tuple[str, ...] = (), **files: str) -> Path:
    """A pure wheel of version 1.0. `files` are by path, with `__` for `/` in the keyword's name."""
    info = f"{name}-1.0.dist-info"
    needed = "".join(f"Requires-Dist: {line}\n" for line in requires)
    content = {
        f"{name}.py": "def run():\n    print('demo runs')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: >=3.8\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    } | files
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in content.items():
            archive.writestr(member, text)
    return path


@pytest.fixture
def only_local_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip finds wheels in."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def spec_file(folder: Path, *requirements: str) -> Path:
    path = folder / "channel.yml"
    path.write_text("dependencies:\n" + "".join(f'  - "{line}"\n' for line in requirements))
    return path


def contents(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_two_builds_are_the_same_bytes(tmp_path: Path, only_local_wheels: Path) -> None:
    write_wheel(only_local_wheels)
    spec = spec_file(tmp_path, "demo")
    for name in ("one", "two"):
        build_channel(tmp_path / name, spec)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_build_downloads_nothing_and_changes_nothing(tmp_path: Path, only_local_wheels: Path) -> None:
    wheel = write_wheel(only_local_wheels)
    spec = spec_file(tmp_path, "demo")
    first = build_channel(tmp_path / "channel", spec)
    before = contents(tmp_path / "channel")
    wheel.unlink()
    assert build_channel(tmp_path / "channel", spec) == first
    assert contents(tmp_path / "channel") == before


def test_what_is_missing_damaged_or_left_by_a_killed_build_is_mended(tmp_path: Path, only_local_wheels: Path) -> None:
    write_wheel(only_local_wheels)
    spec, directory = spec_file(tmp_path, "demo"), tmp_path / "channel"
    build_channel(directory, spec)
    before = contents(directory)
    next(directory.glob("noarch/demo-*.conda")).unlink()
    (directory / "noarch/repodata.json").write_text('{"packages.conda": {')
    (directory / ".new-killed").mkdir()
    (directory / ".new-killed/half.conda").write_bytes(b"PK")
    build_channel(directory, spec)
    assert contents(directory) == before


def test_another_spec_adds_its_packages(tmp_path: Path, only_local_wheels: Path) -> None:
    write_wheel(only_local_wheels, "demo")
    write_wheel(only_local_wheels, "other")
    build_channel(tmp_path / "channel", spec_file(tmp_path, "demo"))
    build_channel(tmp_path / "channel", spec_file(tmp_path, "other"))
    listed = json.loads((tmp_path / "channel/noarch/repodata.json").read_text())["packages.conda"]
    assert {entry["name"] for entry in listed.values()} == {"demo", "other", "python_abi"}


def listed(directory: Path, subdir: str = "noarch") -> dict[str, dict]:
    """The records of a subdirectory's index by name; the newest of several."""
    table = json.loads((directory / subdir / "repodata.json").read_text())["packages.conda"]
    return {entry["name"]: entry for entry in sorted(table.values(), key=lambda entry: entry.get("timestamp", 0))}


def day(entry: dict) -> str:
    return datetime.fromtimestamp(entry["timestamp"] / 1000, UTC).date().isoformat()


def test_packages_of_an_older_kind_stay_for_locks_and_are_not_listed(
    tmp_path: Path, only_local_wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(only_local_wheels)
    spec, directory = spec_file(tmp_path, "demo"), tmp_path / "channel"
    with monkeypatch.context() as older:
        older.setattr("orchestrator.environment.package.REVISION", 0)
        old = set(build_channel(directory, spec))
    new = set(build_channel(directory, spec))
    table = json.loads((directory / "noarch/repodata.json").read_text())
    assert not old & new
    assert all(path.exists() for path in old | new)
    assert set(table["packages.conda"]) == {path.name for path in new if path.parent.name == "noarch"}
    assert set(table["removed"]) == {path.name for path in old if path.parent.name == "noarch"}


def test_every_package_tells_when_it_came_to_be(channel: Path) -> None:
    tables = [json.loads(path.read_text())["packages.conda"] for path in channel.glob("*/repodata.json")]
    entries = [entry for table in tables for entry in table.values()]
    assert all("timestamp" in entry for entry in entries)
    (six,) = (entry for entry in entries if (entry["name"], entry["version"]) == ("six", "1.16.0"))
    assert day(six) == "2021-05-05"


def test_a_time_in_the_wheel_counts_unless_build_tools_make_it_up(
    tmp_path: Path, only_local_wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, date in (("demo", (2022, 3, 4, 5, 6, 8)), ("other", (2020, 2, 2, 0, 0, 0))):
        wheel = write_wheel(tmp_path, name)
        with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(only_local_wheels / wheel.name, "w") as target:
            for member in source.infolist():
                target.writestr(zipfile.ZipInfo(member.filename, date), source.read(member))
    assert main([str(tmp_path / "channel"), str(spec_file(tmp_path, "demo", "other"))]) == 0
    entries = listed(tmp_path / "channel")
    assert day(entries["demo"]) == "2022-03-04"
    assert "timestamp" not in entries["other"]
    assert "--as-of passes them over): other-1.0-py3-none-any.whl" in capsys.readouterr().err


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index in a folder, which tells no times, and as the main index the same files with their times."""
    index = Index(tmp_path / "index")
    with dated_index(index.folder / "files", lambda _: "2021-06-30") as url:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url)
        yield index


def test_the_time_of_the_upload_counts_also_when_another_index_has_the_wheel_first(
    tmp_path: Path, index: Index
) -> None:
    index.wheel("demo", "1.0")
    build_channel(tmp_path / "channel", spec_file(tmp_path, "demo"))
    assert day(listed(tmp_path / "channel")["demo"]) == "2021-06-30"


def test_another_platform_has_its_own_wheels_and_requirements(tmp_path: Path, index: Index) -> None:
    for tag in ("manylinux_2_17_x86_64", "macosx_11_0_arm64", "win_amd64"):
        index.wheel("native", "1.0", tag=f"py3-none-{tag}")
    index.wheel(
        "pure", "1.0", ["native", "for-windows; sys_platform == 'win32'", "for-arm; platform_machine == 'arm64'"]
    )
    index.wheel("for-windows", "1.0")
    index.wheel("for-arm", "1.0")
    spec = spec_file(tmp_path, "pure", "for-windows; os_name == 'nt'")
    build_channel(tmp_path / "channel", spec, platforms=("osx-arm64", "win-64"))

    expected = {
        "linux-64": {"native", "pure", "python", "python_abi"},
        "osx-arm64": {"for-arm", "native", "pure", "python", "python_abi"},
        "win-64": {"for-windows", "native", "pure", "python", "python_abi"},
    }
    for platform, names in expected.items():
        found = solve(tmp_path / "channel", platform, "pure")
        assert {name for name, _ in found} == names
        assert {subdir for name, subdir in found if name in ("native", "pure", "python")} == {platform}


def test_a_pure_package_with_other_requirements_elsewhere_is_one_for_each_system(tmp_path: Path, index: Index) -> None:
    index.wheel("demo", "1.0", ["for-windows; sys_platform == 'win32'"])
    index.wheel("for-windows", "1.0")
    build_channel(tmp_path / "channel", spec_file(tmp_path, "demo"), platforms=("win-64", "osx-arm64"))
    assert [name for name, _ in solve(tmp_path / "channel", "win-64", "demo")] == ["demo", "for-windows", "python"]
    assert [name for name, _ in solve(tmp_path / "channel", "osx-arm64", "demo")] == ["demo", "python"]


def test_a_channel_of_other_platforms_grows_like_any_other(tmp_path: Path, index: Index) -> None:
    index.wheel("demo", "1.0")
    spec, directory = spec_file(tmp_path, "demo"), tmp_path / "channel"
    here = build_channel(directory, spec)
    both = build_channel(directory, spec, platforms=("osx-arm64",))
    before = contents(directory)
    assert {path.parent.name for path in set(both) - set(here)} == {"osx-arm64"}
    assert build_channel(directory, spec, platforms=("osx-arm64",)) == both
    assert contents(directory) == before


def test_a_platform_that_pypi_has_no_wheels_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no wheels for the platform osx-65; there are for linux-64, .*win-64"):
        build_channel(tmp_path / "channel", spec_file(tmp_path, "six"), platforms=("osx-65",))
    assert not (tmp_path / "channel").exists()


def test_a_requirement_without_a_wheel_ends_with_one_sentence_and_nothing_half_done(
    tmp_path: Path, only_local_wheels: Path
) -> None:
    with pytest.raises(OrchError, match="there are no wheels of demo"):
        build_channel(tmp_path / "channel", spec_file(tmp_path, "demo"))
    assert not list((tmp_path / "channel").glob(".new-*"))
    assert not list((tmp_path / "channel").glob("*/demo-*"))


def test_a_damaged_wheel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(b"PK\3\4 no zip")
    with pytest.raises(OrchError, match=r"demo-1\.0-py3-none-any\.whl can't be read as a wheel"):
        read_wheel(path)


@pytest.mark.parametrize("path", ["../../outside.py", "/tmp/outside.py"])
def test_a_wheel_that_reaches_outside_is_refused(tmp_path: Path, path: str) -> None:
    file = write_wheel(tmp_path, **{path: "x = 1\n"})
    (tmp_path / "out").mkdir()
    with pytest.raises(OrchError, match=r"can't hold the path|be read as a wheel"):
        write_package(wheel_recipe(read_wheel(file), {}), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_entry_point_that_is_no_command_name_is_refused(tmp_path: Path) -> None:
    text = "[console_scripts]\n../evil = demo:run\n"
    file = write_wheel(tmp_path, **{"demo-1.0.dist-info/entry_points.txt": text})
    with pytest.raises(OrchError, match=r"'\.\./evil', which can't be a command"):
        read_wheel(file)


def test_scripts_and_data_of_a_wheel_find_their_places(channel: Path, tmp_path: Path) -> None:
    files = {
        "demo-1.0.data/scripts/demo-script": "#!python\nimport demo\ndemo.run()\n",
        "demo-1.0.data/data/share/demo/notes.txt": "notes\n",
        "demo-1.0.dist-info/entry_points.txt": "[console_scripts]\ndemo = demo:run [extra]\n",
    }
    wheel = read_wheel(write_wheel(tmp_path, **files))
    grown = tmp_path / "channel"
    subprocess.run(["cp", "-rl", str(channel), str(grown)], check=True)
    write_package(wheel_recipe(wheel, {}), grown / "noarch")
    (grown / "noarch/repodata.json").unlink()
    write_indexes(grown)
    install(grown, tmp_path / "prefix", tmp_path / "cache", "demo")
    assert in_prefix(tmp_path / "prefix", "demo") == "demo runs"
    assert in_prefix(tmp_path / "prefix", "demo-script") == "demo runs"
    assert (tmp_path / "prefix/share/demo/notes.txt").read_text() == "notes\n"


# --- requirements -----------------------------------------------------------------------------------------------

releases = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
clauses = st.one_of(
    st.tuples(st.sampled_from(["==", "!=", "<=", ">=", "<", ">", "==="]), releases).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), releases).map(lambda parts: f"{parts[0]}{parts[1]}.*"),
    releases.filter(lambda release: "." in release).map(lambda release: f"~={release}"),
)


@given(st.lists(clauses, max_size=3), releases)
def test_a_match_spec_means_what_the_requirement_means(parts: list[str], version: str) -> None:
    requirement = Requirement("Some_Package " + ",".join(parts))
    spec = rattler.MatchSpec(match_spec(requirement))
    record = rattler.PackageRecord("some-package", version, rattler.BuildString("0"), 0, "noarch")
    # PEP 440's === compares text, which a conda version can't: 1.0 is 1.0.0 there.
    meaning = SpecifierSet(",".join(parts).replace("===", "=="))
    assert spec.matches(record) == meaning.contains(version)


def metadata(*requires: str) -> Message:
    message = Message()
    message["Name"], message["Version"] = "demo", "1.0"
    for line in requires:
        message["Requires-Dist"] = line
    return message


def test_requirements_of_other_systems_and_unasked_extras_are_left_out() -> None:
    lines = ("colorama; sys_platform == 'win32'", "tomli; python_version < '3'", "pytest; extra == 'test'", "Idna>=3")
    assert requirements_of(metadata(*lines), {}, "linux-64") == (["idna >=3"], {"python", "system"})


def test_what_an_extra_asks_for_becomes_a_requirement(tmp_path: Path) -> None:
    web = read_wheel(
        write_wheel(tmp_path, "web", requires=("six", "click; extra == 'cli'", "web[cli]; extra == 'all'"))
    )
    assert requirements_of(metadata("pandas; extra == 'x' and os_name == 'nt'"), {}, "win-64") == ([], set())
    assert requirements_of(metadata("web[all]"), {"web": web}, "linux-64")[0] == ["six", "web"]
    assert requirements_of(metadata("web[cli]"), {"web": web}, "linux-64")[0] == ["click", "six", "web"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dependencies: [", "is not valid YAML"),
        ("name: x\n", "has no list `dependencies`"),
        ("dependencies:\n  - numpy=1.26\n", "'numpy=1.26' is no PyPI requirement"),
        ("dependencies:\n  - pip: [six]\n", "is no PyPI requirement"),
        ("dependencies:\n  - six @ https://example.org/six.whl\n", "names a URL"),
        ("dependencies:\n  - python <3\n", "a channel has the Python that builds it"),
    ],
)
def test_a_wrong_spec_is_named_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "channel.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)


def test_a_line_of_a_spec_can_not_be_an_option_of_pip(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no PyPI requirement"):
        read_spec(spec_file(tmp_path, "--index-url=https://example.org"))


def test_the_command_says_how_to_use_the_channel(
    tmp_path: Path, only_local_wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wheel(only_local_wheels)
    assert main([str(tmp_path / "channel"), str(spec_file(tmp_path, "demo"))]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3 packages in" in captured.err
    assert f'= ["file://{tmp_path}/channel"]' in captured.err
    assert main([str(tmp_path / "channel"), str(tmp_path / "absent.yml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- served over HTTP -------------------------------------------------------------------------------------------


def test_the_test_server_fails_as_it_is_told(channel_server) -> None:
    import urllib.error
    import urllib.request

    server = channel_server()
    url = f"{server.url}/noarch/repodata.json"
    whole = urllib.request.urlopen(url).read()
    server.fail("noarch/*", "unavailable", times=1)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(url)
    assert urllib.request.urlopen(url).read() == whole
    assert server.requests["noarch/repodata.json"] == 3
    server.fail("noarch/repodata.json", "truncated")
    assert len(urllib.request.urlopen(url).read()) < len(whole)
