"""Locks and packages that a bundle carries: made in one home, checked, adopted and installed in another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from channel_server import ChannelServer
from conftest import CONDA_FORGE
from e2e.conftest import orch, orch_json
from made_index import project_files, served
from made_locks import conda_packages, keep, make_wheel, pip_package, small_package, write_lock
from made_trees import SOURCE, FileTree

from orchestrator.environment import Environment, environment_request, locked_packages, resolve_environment
from orchestrator.environment.carried import (
    CarriedLock,
    adopt_lock,
    carried_locks,
    check_lock,
    fetch_packages,
    keep_packages,
    without_address,
)
from orchestrator.environment.export.folder_channel import export_channel
from orchestrator.environment.host import current_subdir
from orchestrator.environment.kept import kept_place
from orchestrator.environment.lock import LockedPackage, lock_path
from orchestrator.environment.offline import NO_ADDRESS
from orchestrator.environment.package import Member
from orchestrator.environment.prefix import use_prefix
from orchestrator.environment.repodata import write_indexes
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

PLATFORM = current_subdir()
SIX = "dependencies:\n- python\n- six\n"


@pytest.fixture
def home(cold_home: Path) -> Home:
    """The machine that the run was made on."""
    return open_home()


@dataclass
class Carried:
    """What a bundle has of environments."""

    locks: tuple[CarriedLock, ...]
    places: Mapping[str, Path]


def carry(home: Home, folder: Path, *, everything: bool = True, **locks: str) -> Carried:
    """Carry locks, by platform (`_` for `-`), and their packages."""
    carried = carried_locks(home, {name.replace("_", "-"): lock_id for name, lock_id in locks.items()})
    packages = [package for lock in carried for package in lock.packages]
    packages = [package for package in packages if everything or without_address(package)]
    return Carried(carried, fetch_packages(packages, folder, home=home))


def arrive(home: Home, carried: Carried) -> None:
    for lock in carried.locks:
        for platform in lock.platforms:
            adopt_lock(home, lock.lock_id, platform, lock.files)
            keep_packages(home, check_lock(lock.lock_id, platform, lock.files), carried.places)


def elsewhere(home: Home, *, offline: bool = True) -> Home:
    """A new home in the place of another, which moves away: prefixes hold their own paths."""
    home.root.rename(home.root.with_name("moved"))
    home.root.mkdir(mode=0o700)
    return open_home({"ORCH_HOME": str(home.root)}, offline=offline)


def resolve(home: Home, text: str = SIX, **files: str) -> Environment:
    tree = FileTree({"environment.yml": text, **files})
    request = environment_request("conda", "environment.yml", tree, SOURCE)
    folder = home.root.parent / "checkout"
    return resolve_environment(request, home=home, build_source=lambda: tree.check_out(folder))


def manifest(home: Home, lock_id: str) -> dict[str, Any]:
    with use_prefix(lock_id, home=home) as prefix:
        table: dict[str, Any] = json.loads((prefix.path / ".orch/files.json").read_bytes())
    return table


# --- from one home to another -------------------------------------------------------------------------------------


def test_an_environment_comes_out_again_byte_for_byte_without_network_and_configuration(
    home: Home, tmp_path: Path, channel_server: Callable[..., ChannelServer]
) -> None:
    server = channel_server()
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{server.url}"]\n')
    lock_id = resolve(home, f"{SIX}- pip:\n  - .\n", **project_files("proj")).lock_id
    before = manifest(home, lock_id)
    carried = carry(home, tmp_path / "packages", **{PLATFORM.replace("-", "_"): lock_id})
    there = elsewhere(home)
    arrive(there, carried)
    asked = server.requests.total()
    shutil.rmtree(tmp_path / "packages")

    assert manifest(there, lock_id) == before
    assert any(name.endswith("/proj/__init__.py") for name in before["files"])
    assert server.requests.total() == asked
    assert [package.url for package in locked_packages(there, lock_id) if package.name == "proj"] == [
        f"{NO_ADDRESS}/pypi/proj-1.0-py3-none-any.whl"
    ]


def test_what_has_no_address_is_carried_without_asking_for_more(home: Home, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "alpha", {"alpha.py": ""})
    keep(home, wheel)
    own = small_package(tmp_path / "own", "one", [], url=(tmp_path / "own").as_uri())
    write_indexes(tmp_path / "own")
    known = small_package(tmp_path / "never", "two", [], url="https://example.invalid/two")
    python = replace(known, name="python", file_name="python-1.0-0.conda", sha256="1" * 64)
    python = replace(python, url="https://example.invalid/two/noarch/python-1.0-0.conda")
    built = replace(pip_package(wheel, "https://example.org/alpha-1.0.tar.gz"), source_sha256="2" * 64)
    lock_id = write_lock(home, [own, known, python, built])

    carried = carry(home, tmp_path / "packages", everything=False, linux_64=lock_id)

    assert sorted(carried.places) == sorted([own.sha256, built.sha256])
    for package in (own, built):
        place = tmp_path / "packages" / package.sha256 / package.file_name
        assert carried.places[package.sha256] == place
        assert place.is_file()


def test_no_path_and_no_credential_of_the_machine_is_in_the_files(home: Home, tmp_path: Path) -> None:
    own = small_package(tmp_path / "own", "one", [], url=(tmp_path / "own").as_uri())
    secret = small_package(tmp_path / "own", "two", [], url="https://ada:secret@example.org/t/secret-token/mine")
    lock_id = write_lock(home, [own, secret])
    place = home.locks / lock_id / "packages.json"
    asked = {
        "channels": [(tmp_path / "own").as_uri(), "https://ada:secret@example.org/mine"],
        "pip": [f"-r {tmp_path}/requirements.txt", f"x @ file://{tmp_path}/x.whl"],
        "conda": [f"{tmp_path}/own::one"],
        "solved": True,
    }
    place.write_text(json.dumps(json.loads(place.read_bytes()) | asked))
    (lock,) = carried_locks(home, {"linux-64": lock_id})

    for data in lock.files.values():
        assert str(tmp_path).encode() not in data
        assert b"secret" not in data
    table = json.loads(lock.files["packages.json"])
    assert table["solved"] is False
    assert [row["url"].rpartition("/")[0] for row in table["packages"]] == [
        f"{NO_ADDRESS}/noarch",
        "https://example.org/mine/noarch",
    ]


def test_the_same_lock_is_carried_as_the_same_bytes_and_again_from_where_it_came_to(
    home: Home, tmp_path: Path, channel: Path
) -> None:
    wheel = make_wheel(tmp_path, "alpha", {"alpha.py": ""})
    keep(home, wheel)
    lock_id = write_lock(home, [*conda_packages(channel, "python", "six"), pip_package(wheel, "pkg:pypi/alpha@1.0")])
    carried = carry(home, tmp_path / "one", linux_64=lock_id)
    again = carry(home, tmp_path / "two", linux_64=lock_id)
    there = elsewhere(home)
    arrive(there, carried)
    third = carry(there, tmp_path / "three", linux_64=lock_id)

    assert carried.locks[0].files == again.locks[0].files == third.locks[0].files
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == tree(tmp_path / "three")
    assert len(tree(tmp_path / "one")) == 3


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_imported_lock_is_exported_as_a_channel_without_network(home: Home, tmp_path: Path) -> None:
    own = small_package(tmp_path / "own", "one", [], url=(tmp_path / "own").as_uri())
    lock_id = write_lock(home, [own])
    carried = carry(home, tmp_path / "packages", linux_64=lock_id)
    shutil.rmtree(tmp_path / "own")
    there = elsewhere(home)
    arrive(there, carried)

    export_channel(tmp_path / "out", {"linux-64": lock_id}, home=there)
    assert (tmp_path / "out/noarch" / own.file_name).is_file()


def test_conda_lock_reads_the_file_of_a_carried_lock(home: Home, tmp_path: Path, channel: Path) -> None:
    lock_id = write_lock(home, conda_packages(channel, "python", "six"))
    (lock,) = carried_locks(home, {"linux-64": lock_id})
    place = tmp_path / "conda-lock.yml"
    place.write_bytes(lock.files["conda-lock.yml"])
    program = (
        "import sys, pathlib, conda_lock; from conda_lock.lockfile import parse_conda_lock_file as parse; "
        "print(*sorted(p.name for p in parse(pathlib.Path(sys.argv[1])).package))"
    )
    done = subprocess.run([sys.executable, "-c", program, place], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["python", "six"]


def test_a_channel_in_a_folder_is_no_longer_needed(home: Home, tmp_path: Path, channel: Path) -> None:
    folder = shutil.copytree(channel, tmp_path / "channel")
    lock_id = resolve(home, f"channels: ['{folder.as_uri()}']\n{SIX}").lock_id
    before = manifest(home, lock_id)
    carried = carry(home, tmp_path / "packages", everything=False, **{PLATFORM.replace("-", "_"): lock_id})
    folder.rename(tmp_path / "gone")
    there = elsewhere(home)
    arrive(there, carried)
    after = manifest(there, lock_id)

    changed = {name for name in before["files"] if before["files"][name] != after["files"].get(name)}
    assert before["files"].keys() == after["files"].keys()
    assert all(name.startswith("conda-meta/") for name in changed)
    with use_prefix(lock_id, home=there) as prefix:
        (meta,) = prefix.path.glob("conda-meta/six-*.json")
        row = json.loads(meta.read_bytes())
    assert (row["url"], row["channel"].rstrip("/")) == (f"{NO_ADDRESS}/noarch/{row['fn']}", NO_ADDRESS)


def test_a_home_whose_channel_folder_is_gone_gets_its_packages_back(home: Home, tmp_path: Path) -> None:
    one, two = (small_package(tmp_path / "own", name, [], url=(tmp_path / "own").as_uri()) for name in ("one", "two"))
    lock_id = write_lock(home, [one, two])
    carried = carry(home, tmp_path / "packages", linux_64=lock_id)
    (tmp_path / "own").rename(tmp_path / "gone")
    with pytest.raises(OrchError, match="is not there: no such folder"), use_prefix(lock_id, home=home):
        pass
    keep_packages(home, [one], carried.places)
    with pytest.raises(OrchError, match="is not there: no such folder"), use_prefix(lock_id, home=home):
        pass
    arrive(home, carried)
    with use_prefix(lock_id, home=home) as prefix:
        rows = [json.loads(path.read_bytes()) for path in prefix.path.glob("conda-meta/*.json")]
    assert {row["url"] for row in rows} == {one.url, two.url}


def test_a_lock_of_no_platform_is_carried_once_for_all(home: Home, tmp_path: Path) -> None:
    lock_id = write_lock(home, [small_package(tmp_path / "own", "one", [], url=(tmp_path / "own").as_uri())])
    carried = carry(home, tmp_path / "packages", linux_64=lock_id, osx_arm64=lock_id)
    (lock,) = carried.locks

    assert lock.platforms == ("linux-64", "osx-arm64")
    rows = yaml.safe_load(lock.files["conda-lock.yml"])["package"]
    assert sorted(row["platform"] for row in rows) == ["linux-64", "osx-arm64"]
    with pytest.raises(OrchError, match="do not say the same for win-64"):
        check_lock(lock_id, "win-64", lock.files)
    there = elsewhere(home)
    arrive(there, carried)
    with use_prefix(lock_id, home=there) as prefix:
        assert prefix.packages == 1


def test_packages_of_the_same_name_in_two_locks_are_both_kept(home: Home, tmp_path: Path) -> None:
    locks = {}
    for number, platform in enumerate(("linux_64", "osx_arm64")):
        folder = tmp_path / f"own-{number}"
        own = small_package(folder, "one", [Member("share/one", b"%d" % number)], url=folder.as_uri())
        locks[platform] = write_lock(home, [own])
    carried = carry(home, tmp_path / "packages", **locks)
    there = elsewhere(home)
    arrive(there, carried)
    for number, lock_id in enumerate(locks.values()):
        with use_prefix(lock_id, home=there) as prefix:
            assert (prefix.path / "share/one").read_text() == str(number)
    again = carry(there, tmp_path / "again", **locks)
    assert tree(tmp_path / "again") == tree(tmp_path / "packages")
    assert [lock.files for lock in again.locks] == [lock.files for lock in carried.locks]


def test_wheels_of_the_same_name_are_carried_side_by_side(home: Home, tmp_path: Path) -> None:
    packages = []
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        wheel = make_wheel(tmp_path / str(number), "alpha", {"alpha.py": f"x = {number}\n"})
        keep(home, wheel)
        packages.append(pip_package(wheel, "pkg:pypi/alpha@1.0"))
    places = fetch_packages(packages, tmp_path / "packages", home=home)
    with served(tmp_path) as url:
        asked = [replace(package, url=f"{url}/{n}/{package.file_name}") for n, package in enumerate(packages)]
        there = elsewhere(home, offline=False)
        again = fetch_packages(asked, tmp_path / "again", home=there)
    assert len(places) == len(again) == 8
    assert tree(tmp_path / "again") == tree(tmp_path / "packages")


# --- some packages are kept, and others are not -------------------------------------------------------------------


@pytest.fixture
def two(home: Home, tmp_path: Path) -> tuple[LockedPackage, LockedPackage]:
    """Two packages of conda-forge, which is the folder `own`."""
    one, other = (small_package(tmp_path / "own", name, [Member(f"share/{name}", b"x")]) for name in ("one", "two"))
    write_indexes(tmp_path / "own")
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{tmp_path}/own"]\n')
    return one, other


def test_what_is_not_kept_comes_from_its_channel(
    home: Home, tmp_path: Path, two: tuple[LockedPackage, ...], channel_server: Callable[..., ChannelServer]
) -> None:
    server = channel_server(tmp_path / "own")
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{server.url}"]\n')
    lock_id = write_lock(home, two)
    keep_packages(home, two, {two[0].sha256: tmp_path / "own/noarch" / two[0].file_name})
    with use_prefix(lock_id, home=home) as prefix:
        rows = [json.loads(path.read_bytes()) for path in prefix.path.glob("conda-meta/*.json")]

    assert list(server.requests) == [f"noarch/{two[1].file_name}"]
    assert {row["url"] for row in rows} == {package.url for package in two}


def test_offline_what_is_neither_kept_nor_in_a_folder_is_named(
    home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]
) -> None:
    home.config.unlink()
    lock_id = write_lock(home, two)
    keep_packages(home, two, {two[0].sha256: tmp_path / "own/noarch" / two[0].file_name})
    with pytest.raises(OrchError) as caught, use_prefix(lock_id, home=replace(home, offline=True)):
        pass
    assert str(caught.value).startswith(f"{two[1].file_name} ({two[1].url}) is not here, and --offline asks no network")


def test_a_damaged_package_that_is_kept_is_not_used(home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]) -> None:
    lock_id = write_lock(home, two)
    arrive(home, carry(home, tmp_path / "packages", linux_64=lock_id))
    place = kept_place(home, two[0])
    shutil.rmtree(tmp_path / "packages")
    place.write_bytes(place.read_bytes()[:-1] + b"!")
    offline = replace(home, offline=True)
    home.config.write_text("")
    with pytest.raises(OrchError, match=rf"^{two[0].file_name} .*is not here"), use_prefix(lock_id, home=offline):
        pass
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{tmp_path}/own"]\n')
    with use_prefix(lock_id, home=offline) as prefix:
        assert (prefix.path / "share/one").is_file()


@pytest.mark.parametrize("offline", [True, False])
def test_a_package_that_only_the_bundle_had_and_that_is_gone_is_said_to_be_lost(
    home: Home, tmp_path: Path, offline: bool
) -> None:
    lock_id = write_lock(home, [small_package(tmp_path / "own", "one", [], url=(tmp_path / "own").as_uri())])
    carried = carry(home, tmp_path / "packages", linux_64=lock_id)
    there = elsewhere(home, offline=offline)
    arrive(there, carried)
    shutil.rmtree(there.cache)
    with pytest.raises(OrchError) as caught, use_prefix(lock_id, home=there):
        pass
    assert "is not kept here any more, and no server has it: import the bundle again that brought it" in str(
        caught.value
    )
    assert str(there.config) in str(caught.value)


def test_a_damaged_wheel_that_is_kept_is_not_used(home: Home, tmp_path: Path, channel: Path) -> None:
    wheel = make_wheel(tmp_path, "alpha", {"alpha.py": ""})
    keep(home, wheel)
    package = pip_package(wheel, "https://example.invalid/alpha-1.0-py3-none-any.whl")
    lock_id = write_lock(home, [*conda_packages(channel, "python", "python_abi"), package])
    kept_place(home, package).write_bytes(b"damaged")
    with (
        pytest.raises(OrchError, match=r"alpha-1\.0-py3-none-any\.whl is not here"),
        use_prefix(lock_id, home=replace(home, offline=True)),
    ):
        pass


def test_offline_every_package_that_can_not_be_carried_is_named(home: Home, tmp_path: Path) -> None:
    home.config.unlink()
    conda = [small_package(tmp_path / "own", name, []) for name in ("one", "two")]
    wheels = [make_wheel(tmp_path, name, {}) for name in ("alpha", "beta")]
    pip = [pip_package(wheel, f"https://example.invalid/{wheel.name}") for wheel in wheels]
    with pytest.raises(OrchError) as caught:
        fetch_packages([*conda, *pip], tmp_path / "packages", home=replace(home, offline=True))
    for package in (*conda, *pip):
        assert package.file_name in str(caught.value)
    assert tree(tmp_path / "packages") == {}


def test_a_package_that_is_another_than_that_of_the_lock_is_not_carried(
    home: Home, tmp_path: Path, two: tuple[LockedPackage, ...], channel_server: Callable[..., ChannelServer]
) -> None:
    server = channel_server(tmp_path / "own")
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{server.url}"]\n')
    server.fail("*/one-*", "altered")
    with pytest.raises(OrchError, match=f"{two[0].file_name} does not match its hash"):
        fetch_packages(two, tmp_path / "packages", home=home)
    assert two[0].file_name not in str(tree(tmp_path / "packages"))


def test_the_cache_may_be_in_a_folder_of_any_name(home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]) -> None:
    odd = replace(home, cache=tmp_path / "100% my 'caché' [1] #2?")
    lock_id = write_lock(odd, two)
    keep_packages(odd, two, {package.sha256: tmp_path / "own/noarch" / package.file_name for package in two})
    home.config.unlink()
    with use_prefix(lock_id, home=replace(odd, offline=True)) as prefix:
        rows = [json.loads(path.read_bytes()) for path in prefix.path.glob("conda-meta/*.json")]
    assert {row["url"] for row in rows} == {package.url for package in two}


# --- keeping and adopting -----------------------------------------------------------------------------------------


def test_a_package_with_other_bytes_is_not_kept(home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]) -> None:
    wrong = tmp_path / "own/noarch" / two[1].file_name
    with pytest.raises(
        OrchError, match=f"{two[0].file_name} is not the package of the lock: its sha256 is {two[1].sha256}"
    ):
        keep_packages(home, two, {two[0].sha256: wrong})
    assert tree(home.archives) == {}
    assert wrong.is_file()


def test_a_package_that_is_kept_damaged_is_replaced(home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]) -> None:
    places = {package.sha256: tmp_path / "own/noarch" / package.file_name for package in two}
    place = kept_place(home, two[0])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half")
    left = place.with_name(f".{place.name}.ab12.keeping")
    left.write_bytes(b"of one that was killed")
    os.utime(left, (0, 0))
    keep_packages(home, two, places)
    keep_packages(home, two, places)
    assert tree(home.archives) == {f"{sha256}/{path.name}": path.read_bytes() for sha256, path in places.items()}


def test_killed_at_any_moment_nothing_half_is_kept(home: Home, tmp_path: Path) -> None:
    members = [Member(f"share/{n}", os.urandom(1 << 16)) for n in range(200)]
    package = small_package(tmp_path / "own", "big", members)
    program = (
        "import sys, pathlib; from orchestrator.environment.kept import keep_packages; "
        "from orchestrator.environment.lock import LockedPackage; from orchestrator.paths import open_home; "
        "home = open_home(); file = pathlib.Path(sys.argv[1]); "
        "p = LockedPackage('conda', 'big', '1.0', '0', '', file.name, sys.argv[2]); print(1, flush=True); "
        "keep_packages(home, [p], {p.sha256: file})"
    )
    # On another disk it is copied.
    other_disk = Path("/dev/shm" if Path("/dev/shm").is_dir() else tmp_path) / f"orch-{os.getpid()}"
    source = shutil.copytree(tmp_path / "own/noarch", other_disk) / package.file_name
    try:
        for wait in range(12):
            keeper = subprocess.Popen(
                [sys.executable, "-c", program, source, package.sha256], stdout=subprocess.PIPE, text=True
            )
            assert keeper.stdout is not None
            keeper.stdout.readline()
            time.sleep(wait * 0.002)
            keeper.send_signal(signal.SIGKILL)
            keeper.communicate()
            place = kept_place(home, package)
            if place.exists():
                assert place.read_bytes() == source.read_bytes()
                place.unlink()
        for left in kept_place(home, package).parent.iterdir():
            os.utime(left, (0, 0))
        keep_packages(home, [package], {package.sha256: source})
        (kept,) = kept_place(home, package).parent.iterdir()
        assert kept.name == package.file_name
        assert kept.read_bytes() == source.read_bytes()
    finally:
        shutil.rmtree(other_disk)


def test_a_lock_that_is_there_stays_and_a_damaged_one_is_completed(
    home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]
) -> None:
    lock_id = write_lock(home, two)
    (lock,) = carried_locks(home, {"linux-64": lock_id})
    packages = home.locks / lock_id / "packages.json"
    as_it_was = packages.read_bytes()
    assert as_it_was != lock.files["packages.json"]

    adopt_lock(home, lock_id, "linux-64", lock.files)
    assert packages.read_bytes() == as_it_was
    assert lock_path(home, lock_id).read_bytes() == lock.files["conda-lock.yml"]

    for damage in (b"", b"{}", as_it_was[:-3], as_it_was.replace(two[0].sha256.encode(), b"a" * 64)):
        packages.write_bytes(damage)
        adopt_lock(home, lock_id, "linux-64", lock.files)
        assert packages.read_bytes() == lock.files["packages.json"]
    lock_path(home, lock_id).write_text("package: [")
    adopt_lock(home, lock_id, "linux-64", lock.files)
    assert lock_path(home, lock_id).read_bytes() == lock.files["conda-lock.yml"]
    assert [path.name for path in home.locks.iterdir()] == [lock_id]


# --- removing what is not needed ----------------------------------------------------------------------------------


def let_pass(home: Home, days: float) -> None:
    for place in (*home.locks.rglob("*"), *home.envs.glob(".locks/*"), *home.cache.rglob("*")):
        then = place.stat().st_mtime - days * 86400
        os.utime(place, (then, then))


def test_what_is_kept_goes_with_the_last_lock_that_names_it_and_not_before(
    home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]
) -> None:
    wheel = make_wheel(tmp_path, "alpha", {"alpha.py": ""})
    keep(home, wheel)
    big = small_package(tmp_path / "own", "big", [Member("share/big", os.urandom(300_000))])
    both = write_lock(home, [*two, big, pip_package(wheel, "pkg:pypi/alpha@1.0")])
    one = write_lock(home, [two[0]])
    places = {package.sha256: tmp_path / "own/noarch" / package.file_name for package in (*two, big)}
    for place in places.values():
        shutil.copy(place, tmp_path / place.name)
    places = {sha256: tmp_path / place.name for sha256, place in places.items()}
    keep_packages(home, [*two, big], places)
    for place in places.values():
        place.unlink()
    let_pass(home, 2)
    os.utime(home.locks / one)
    os.utime(home.locks / both)
    assert orch("env", "prune", "--days", 1).stdout == "nothing to remove.\n"

    let_pass(home, 2)
    os.utime(home.locks / one)
    gone = orch_json("env", "prune")
    assert sorted((thing["kind"], thing["name"]) for thing in gone) == [
        ("lock", both),
        ("package", big.file_name),
        ("package", two[1].file_name),
        ("wheel", wheel.name),
    ]
    assert sum(thing["bytes"] for thing in gone) > 300_000
    assert list(tree(home.archives)) == [f"{two[0].sha256}/{two[0].file_name}"]
    assert tree(home.wheels) == {}


# --- a machine whose loopback interface is down -------------------------------------------------------------------

INSTALL = """
import sys
from orchestrator.environment.prefix import use_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import open_home
try:
    with use_prefix(sys.argv[1], home=open_home(offline=True)) as prefix:
        print(prefix.packages)
except OrchError as error:
    print(error)
"""


def without_loopback(program: str, *arguments: str) -> str:
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-c", program, *arguments]
    if shutil.which("unshare") is None or subprocess.run([*command[:3], "true"], check=False).returncode:
        pytest.skip("there are no network namespaces here")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_without_loopback_what_is_kept_is_installed(home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]) -> None:
    lock_id = write_lock(home, two)
    arrive(home, carry(home, tmp_path / "packages", linux_64=lock_id))
    assert without_loopback(INSTALL, lock_id) == "2"


def test_without_loopback_a_folder_can_not_be_read_and_that_is_said(
    home: Home, tmp_path: Path, two: tuple[LockedPackage, ...]
) -> None:
    lock_id = write_lock(home, two)
    said = without_loopback(INSTALL, lock_id)
    assert said.endswith(
        "folders are read through 127.0.0.1, which can't be reached here (Network is unreachable): bring the loopback "
        "interface up (ip link set lo up)."
    )
