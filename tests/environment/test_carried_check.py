"""What is refused of a lock that a bundle brings, which may be anybody's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CONDA_FORGE

from orchestrator.bundle import layout
from orchestrator.canonical import canonical_json
from orchestrator.environment.carried import PACKAGE_NAME, adopt_lock, check_lock
from orchestrator.environment.lock import LOCK_VERSION, LockedPackage, lock_id_of
from orchestrator.environment.offline import NO_ADDRESS
from orchestrator.errors import OrchError
from orchestrator.paths import open_home

PYTHON = LockedPackage(
    "conda",
    "python",
    "3.11.7",
    "h1_0",
    f"{CONDA_FORGE}/linux-64/python-3.11.7-h1_0.conda",
    "python-3.11.7-h1_0.conda",
    "1" * 64,
    md5="1" * 32,
    size=10,
    subdir="linux-64",
    channel=CONDA_FORGE,
    depends=("libz >=1",),
    timestamp=1,
)
SIXTEEN = replace(
    PYTHON,
    name="six",
    version="1.16.0",
    build="pyh_0",
    url=f"{CONDA_FORGE}/noarch/six-1.16.0-pyh_0.conda",
    file_name="six-1.16.0-pyh_0.conda",
    sha256="2" * 64,
    subdir="noarch",
    noarch="python",
)
ALPHA = LockedPackage(
    "pip",
    "alpha",
    "1.0",
    None,
    f"{NO_ADDRESS}/pypi/alpha-1.0-py3-none-any.whl",
    "alpha-1.0-py3-none-any.whl",
    "3" * 64,
)
PACKAGES = (PYTHON, SIXTEEN, ALPHA)


def files_of(packages: Sequence[LockedPackage], **table: Any) -> dict[str, bytes]:
    """The two files of a lock of any packages."""
    rows = [
        {
            "name": package.name,
            "version": package.version,
            "manager": package.manager,
            "platform": "linux-64",
            "dependencies": {},
            "url": package.url,
            "hash": {"sha256": package.sha256},
            "category": "main",
            **({"build": package.build} if package.build else {}),
        }
        for package in packages
    ]
    told = {"version": 1, "metadata": {}, "package": rows}
    asked: dict[str, Any] = {key: [] for key in ("channels", "virtual_packages", "conda", "pip")}
    full = {"version": LOCK_VERSION, "platform": "linux-64", "solved": False, "as_of": None, **asked}
    full |= {"packages": [asdict(package) for package in packages], **table}
    return {"conda-lock.yml": yaml.safe_dump(told).encode(), "packages.json": canonical_json(full)}


def test_a_good_lock_is_taken() -> None:
    assert check_lock(lock_id_of(PACKAGES), "linux-64", files_of(PACKAGES)) == PACKAGES


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (0, {"name": "notpython"}, "its name is 'notpython', its file python-3.11.7"),
        (0, {"name": "pyth on"}, "its name is 'pyth on'"),
        (0, {"name": "python\x1b[2J"}, "has control characters"),
        (0, {"version": "3.12.0"}, "its version is '3.12.0', its file python-3.11.7"),
        (0, {"build": "other_0"}, "its build is 'other_0', its file"),
        (0, {"build": None}, "it has no build"),
        (0, {"file_name": "../python-3.11.7-h1_0.conda"}, "which is no conda package"),
        (0, {"file_name": "python-3.11.7-h1_0.whl"}, "which is no conda package"),
        (0, {"file_name": "python-3.11.7-h1_0.conda\n"}, "which is no conda package"),
        (0, {"file_name": "other-3.11.7-h1_0.conda"}, "its url is not that of its file on a server"),
        (0, {"file_name": f"{'p' * 250}.conda"}, "which is no conda package"),
        (0, {"url": "file:///srv/linux-64/python-3.11.7-h1_0.conda"}, "its url is not that of its file on a server"),
        (0, {"url": "/srv/linux-64/python-3.11.7-h1_0.conda"}, "its url is not that of its file on a server"),
        (0, {"url": "s3://bucket/linux-64/python-3.11.7-h1_0.conda"}, "its url is not that of its file on a server"),
        (0, {"url": "https:///linux-64/python-3.11.7-h1_0.conda"}, "its url is not that of its file on a server"),
        (0, {"url": "https://[::1/linux-64/python-3.11.7-h1_0.conda"}, "its url is not that of its file on a server"),
        (0, {"url": f"{CONDA_FORGE} /linux-64/python-3.11.7-h1_0.conda"}, "its url is not that of its file"),
        (0, {"url": f"https://ada:pw@example.org/linux-64/{PYTHON.file_name}"}, "has credentials"),
        (0, {"url": f"https://example.org/t/token/linux-64/{PYTHON.file_name}"}, "has credentials"),
        (0, {"channel": "file:///srv"}, "its channel is not on a server"),
        (0, {"channel": None}, "its channel is not on a server"),
        (0, {"channel": "https://ada:pw@example.org"}, "has credentials"),
        (0, {"sha256": "A" * 64}, "its sha256 is none"),
        (0, {"sha256": "1" * 63}, "its sha256 is none"),
        (0, {"md5": "x" * 32}, "its md5 is none"),
        (0, {"size": -1}, "its size is -1"),
        (0, {"timestamp": 1 << 50}, "its timestamp is"),
        (0, {"subdir": "../linux-64"}, "is for no platform that conda knows"),
        (0, {"subdir": None}, "is for no platform that conda knows"),
        (0, {"site_packages": "../../lib"}, "has its packages outside of the environment"),
        (0, {"site_packages": "/lib"}, "has its packages outside of the environment"),
        (0, {"source_sha256": "4" * 64}, "has to be built"),
        (0, {"depends": ("libz\x00",)}, "has control characters"),
        (0, {"depends": ("x",) * 5000}, "a list of 5000 texts"),
        (0, {"license": "x" * 5000}, "too long"),
        (1, {"name": "python", "file_name": PYTHON.file_name, "url": PYTHON.url}, "twice"),
        (2, {"url": "git+https://example.org/alpha@" + "0" * 40}, "its url is not that of its file on a server"),
        (2, {"file_name": "alpha-1.0.tar.gz"}, "which is no pip package"),
        (2, {"file_name": "alpha.whl", "url": "https://example.org/alpha.whl"}, "not that of a wheel"),
        (2, {"version": "2.0"}, "its version is '2.0', its file alpha-1.0"),
        (2, {"name": "beta"}, "its name is 'beta', its file alpha-1.0"),
        (2, {"subdir": "noarch"}, "it is of pip, and has what only conda packages have"),
    ],
)
def test_a_package_that_is_not_what_it_is_said_to_be_is_refused(
    number: int, change: dict[str, Any], words: str
) -> None:
    rows = list(PACKAGES)
    rows[number] = replace(rows[number], **change)
    with pytest.raises(OrchError) as caught:
        check_lock(lock_id_of(tuple(rows)), "linux-64", files_of(rows))
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.update(version=99), "version 99"),
        (lambda table: table.update(version=True), "packages.json, version:"),
        (lambda table: table.update(version="1"), "packages.json, version:"),
        (lambda table: table.update(platform="plan9-64"), "platform plan9-64"),
        (lambda table: table.update(platform="osx-64"), "it is for osx-64, not for linux-64"),
        (lambda table: table.update(solved=True), "solved here"),
        (lambda table: table.update(more=1), "packages.json, more:"),
        (lambda table: table.update(as_of=3), "packages.json, as_of:"),
        (lambda table: table.update(channels="conda-forge"), "packages.json, channels:"),
        (lambda table: table.update(channels=["file:///srv"]), "places of the machine"),
        (lambda table: table.update(pip=["-r /home/ada/x.txt"]), "places of the machine"),
        (lambda table: table.update(conda=["six\x1b"]), "control characters"),
        (lambda table: table.pop("solved"), "packages.json, solved:"),
        (lambda table: table.update(packages=[]), "it has 0 packages"),
        (lambda table: table.update(packages={}), "packages.json, packages:"),
        (lambda table: table["packages"].reverse(), "not sorted"),
        (lambda table: table["packages"].append(table["packages"][-1]), "twice"),
        (lambda table: table["packages"].pop(), "are those of the lock"),
        (lambda table: table["packages"][0].update(more=1), "packages.json, packages.0.more"),
        (lambda table: table["packages"][0].update(size="1"), "packages.json, packages.0.size"),
        (lambda table: table["packages"][0].update(size=True), "packages.json, packages.0.size"),
        (lambda table: table["packages"][0].update(depends="libz"), "packages.json, packages.0.depends"),
        (lambda table: table["packages"][0].update(manager="apt"), "packages.json, packages.0.manager"),
        (lambda table: table["packages"][0].update(noarch="yes"), "packages.json, packages.0.noarch"),
        (lambda table: table["packages"][0].pop("url"), "packages.json, packages.0.url"),
        (lambda table: table["packages"].insert(0, "x"), "packages.json, packages.0"),
    ],
)
def test_a_table_that_is_malformed_is_refused(change: Callable[[dict[str, Any]], object], words: str) -> None:
    files = files_of(PACKAGES)
    table = json.loads(files["packages.json"])
    change(table)
    with pytest.raises(OrchError) as caught:
        check_lock(lock_id_of(PACKAGES), "linux-64", files | {"packages.json": canonical_json(table)})
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("packages.json", lambda data: data + b"\n", "not canonical"),
        ("packages.json", lambda data: data[:-1] + b',"version":1}', "not canonical"),
        ("packages.json", lambda data: data[:-1], "Invalid JSON"),
        ("packages.json", lambda data: b"[" * 100_000, "Invalid JSON"),
        ("packages.json", lambda data: b"\xff" + data, "Invalid JSON"),
        ("packages.json", lambda data: b" " * ((8 << 20) + 1), "more than"),
        ("packages.json", lambda data: data.replace(b'"size":10', b'"size":1e1'), "packages.0.size"),
        ("packages.json", lambda data: data.replace(b'"size":10', b'"size":' + b"9" * 30), "safe integer"),
        ("packages.json", lambda data: b'{"packages":[' + b'"",' * 400_000 + b'""]}', "too many values"),
        ("conda-lock.yml", lambda data: b"[" + b"a," * 400_000 + b"]", "too many values"),
        ("conda-lock.yml", lambda data: b"package: [", "not valid YAML"),
        ("conda-lock.yml", lambda data: b"\xff", "not valid YAML"),
        ("conda-lock.yml", lambda data: b"[]", "not a conda-lock file"),
        ("conda-lock.yml", lambda data: b"version: 2\npackage: []\n", "has version 2"),
        ("conda-lock.yml", lambda data: b"version: 1\npackage: []\n", "do not say the same for linux-64"),
        ("conda-lock.yml", lambda data: b"a: &a [x, x]\nb: [*a, *a]\n" + data, "which no lock needs"),
        ("conda-lock.yml", lambda data: b"a: !!python/name:os.system x\n" + data, "which no lock needs"),
        ("conda-lock.yml", lambda data: b"a: " + b"[" * 100_000, "which no lock needs"),
        ("conda-lock.yml", lambda data: b"a: https://ada:pw@example.org\n" + data, "has credentials"),
        ("conda-lock.yml", lambda data: data.replace(b"1" * 64, b"4" * 64), "do not say the same"),
        ("conda-lock.yml", lambda data: data.replace(b"manager: pip", b"manager: conda"), "do not say the same"),
        ("conda-lock.yml", lambda data: data.replace(b"conda-forge", b"other"), "do not say the same"),
        ("conda-lock.yml", lambda data: data.replace(b"platform: linux-64", b"platform: osx-64"), "not say the same"),
        ("conda-lock.yml", lambda data: data.replace(b"platform: linux-64", b"platform: plan9"), "no platform that"),
        ("conda-lock.yml", lambda data: data.replace(b"platform: linux-64", b"platform: [linux-64]"), "no platform"),
        ("conda-lock.yml", lambda data: data.replace(b"version: 1.16.0", b"version: 1.16"), "do not say the same"),
        ("conda-lock.yml", lambda data: data + b"- x\n", "not valid YAML"),
        ("conda-lock.yml", lambda data: data.replace(b"package:\n", b"package:\n- x\n"), "package 1: it is for no"),
    ],
)
def test_files_that_are_malformed_or_do_not_agree_are_refused(
    name: str, data: Callable[[bytes], bytes], words: str
) -> None:
    files = files_of(PACKAGES)
    files[name] = data(files[name])
    with pytest.raises(OrchError) as caught:
        check_lock(lock_id_of(PACKAGES), "linux-64", files)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("names", [(), ("packages.json",), ("packages.json", "conda-lock.yml", "more")])
def test_a_lock_of_other_files_is_refused(names: tuple[str, ...]) -> None:
    files = {name: files_of(PACKAGES).get(name, b"") for name in names}
    with pytest.raises(OrchError, match=r"packages\.json make one"):
        check_lock(lock_id_of(PACKAGES), "linux-64", files)


def test_an_id_and_a_platform_that_are_none_are_refused() -> None:
    for lock_id, platform in (("../x", "linux-64"), (lock_id_of(PACKAGES), "plan9-64"), ("A" * 64, "linux-64")):
        with pytest.raises(OrchError, match="is refused"):
            check_lock(lock_id, platform, files_of(PACKAGES))


def test_the_names_of_packages_are_those_that_a_bundle_has_room_for() -> None:
    assert PACKAGE_NAME == layout.PACKAGE_NAME


def test_names_that_a_channel_writes_in_other_letters_are_taken() -> None:
    package = replace(SIXTEEN, file_name="Six-1.16.0RC1-PyH_0.conda", version="1.16.0rc1", build="PyH_0", name="six")
    rows = (PYTHON, replace(package, url=f"{CONDA_FORGE}/noarch/{package.file_name}"))
    assert check_lock(lock_id_of(rows), "linux-64", files_of(rows)) == rows


def test_a_lock_that_is_refused_leaves_nothing(cold_home: Path) -> None:
    home = open_home()
    with pytest.raises(OrchError, match="is refused: the packages that it has are those of the lock"):
        adopt_lock(home, "0" * 64, "linux-64", files_of(PACKAGES))
    assert list(home.locks.iterdir()) == []
