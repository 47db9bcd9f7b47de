"""`export --format channel`: what is in the folder, where it comes from, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from channel_server import ChannelServer
from made_disk import small_disk
from made_index import Index, served
from made_locks import CONDA_FORGE, conda_packages, keep, make_wheel, pip_package, write_lock

from orchestrator.environment.export.folder_channel import PLACE, Exported, export_channel
from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.offline import NO_ADDRESS
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import Home, open_home

MAIN = "https://repo.anaconda.com/pkgs/main"
GIT = "git+https://git.example.org/beta@0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def small(channel: Path) -> tuple[LockedPackage, ...]:
    """Two packages, each of another channel."""
    return *conda_packages(channel, "six"), *conda_packages(channel, "idna", url=MAIN)


def exported(home: Home, folder: Path, *packages: LockedPackage, **asked: object) -> Exported:
    """Export a lock of these packages; `asked` are more fields of its table."""
    lock_id = write_lock(home, packages)
    table = home.locks / lock_id / "packages.json"
    table.write_text(json.dumps({**json.loads(table.read_bytes()), **asked}))
    platform = json.loads(table.read_bytes())["platform"]
    return export_channel(folder, {platform: lock_id}, home=home)


def index(folder: Path, subdir: str = "noarch") -> dict[str, dict[str, object]]:
    table = json.loads((folder / subdir / "repodata.json").read_bytes())
    return {**table["packages"], **table["packages.conda"]}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def configure(home: Home, text: str) -> None:
    home.config.write_text(re.sub(r"\[pypi\][^\[]*", "", home.config.read_text()) + text)


def test_packages_of_all_channels_lie_in_one_channel(
    home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]
) -> None:
    done = exported(home, tmp_path / "out", *small)
    assert (done.packages, done.wheels, done.size) == (2, 0, sum(package.size or 0 for package in small))
    for package in small:
        data = (tmp_path / "out/noarch" / package.file_name).read_bytes()
        entry = index(tmp_path / "out")[package.file_name]
        assert hashlib.sha256(data).hexdigest() == package.sha256 == entry["sha256"]
        assert (entry["size"], entry["name"], entry["md5"]) == (len(data), package.name, package.md5)
    assert index(tmp_path / "out", "linux-64") == {}
    config = (tmp_path / "out/config.toml").read_text()
    assert config == done.config
    assert tomllib.loads(config) == {"mirrors": {CONDA_FORGE: [PLACE], MAIN: [PLACE]}}


def test_the_channels_that_were_asked_are_mirrored_too(
    home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]
) -> None:
    done = exported(home, tmp_path / "out", small[0], channels=["conda-forge", "bioconda", "/srv/mine"])
    assert list(tomllib.loads(done.config)["mirrors"]) == [
        "https://conda.anaconda.org/bioconda",
        CONDA_FORGE,
    ]


def test_the_same_lock_gives_the_same_bytes(home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]) -> None:
    wheel = make_wheel(tmp_path, "alpha", {"alpha.py": ""})
    keep(home, wheel)
    for name in ("one", "two"):
        exported(home, tmp_path / name, *small, pip_package(wheel, GIT))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*") if path.name != ".lock"}
    exported(home, tmp_path / "one", *small, pip_package(wheel, GIT))
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_a_channel_grows(home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]) -> None:
    for package in small:
        exported(home, tmp_path / "out", package)
    assert sorted(index(tmp_path / "out")) == sorted(package.file_name for package in small)
    assert set(tomllib.loads((tmp_path / "out/config.toml").read_text())["mirrors"]) == {CONDA_FORGE, MAIN}
    rows = yaml.safe_load((tmp_path / "out/conda-lock.yml").read_text())["package"]
    assert [row["name"] for row in rows] == [small[1].name]


def test_packages_of_the_old_form_are_listed(home: Home, tmp_path: Path) -> None:
    facts = {"name": "old", "version": "1.0", "build": "0", "build_number": 0, "depends": ["six"], "subdir": "noarch"}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:bz2") as archive:
        for name, text in (("info/index.json", json.dumps(facts)), ("info/paths.json", '{"paths": []}')):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    source = tmp_path / "source/noarch/old-1.0-0.tar.bz2"
    source.parent.mkdir(parents=True)
    source.write_bytes(data.getvalue())
    configure(home, f'"https://example.invalid/mine" = ["{tmp_path / "source"}"]\n')
    url = f"https://example.invalid/mine/noarch/{source.name}"
    digest = hashlib.sha256(data.getvalue()).hexdigest()
    package = LockedPackage(
        "conda", "old", "1.0", "0", url, source.name, digest, subdir="noarch", channel="https://example.invalid/mine"
    )
    exported(home, tmp_path / "out", package)
    table = json.loads((tmp_path / "out/noarch/repodata.json").read_bytes())
    assert table["packages"][source.name]["depends"] == ["six"]
    assert table["packages"][source.name]["sha256"] == digest


def test_what_a_channel_corrects_is_kept_of_a_solve_and_not_of_a_lock_that_was_brought(
    home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]
) -> None:
    mended = replace(small[0], depends=("python >=3.8",), constrains=("other <2",))
    exported(home, tmp_path / "brought", mended, solved=False)
    exported(home, tmp_path / "solved", mended, solved=True)
    entry = index(tmp_path / "solved")[mended.file_name]
    assert (entry["depends"], entry["constrains"]) == (["python >=3.8"], ["other <2"])
    own = index(tmp_path / "brought")[mended.file_name]
    assert own["depends"] != entry["depends"]
    assert own.get("constrains", []) == []


def test_a_package_of_a_folder_has_an_address_that_only_the_export_stands_for(
    home: Home, tmp_path: Path, channel: Path
) -> None:
    (package,) = conda_packages(channel, "six", url=channel.as_uri())
    done = exported(home, tmp_path / "out", package, channels=[channel.as_uri()])
    assert tomllib.loads(done.config)["mirrors"] == {NO_ADDRESS: [PLACE]}
    lock = (tmp_path / "out/conda-lock.yml").read_text()
    assert f"{NO_ADDRESS}/noarch/{package.file_name}" in lock
    assert str(channel) not in lock


# --- wheels -----------------------------------------------------------------------------------------------------


def test_wheels_come_from_what_is_kept_and_from_an_index_in_a_folder(
    home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]
) -> None:
    built = make_wheel(tmp_path, "beta", {"beta.py": ""})
    keep(home, built)
    shelf = Index(tmp_path / "index")
    digest = shelf.wheel("Gam.ma", "1.0")
    file = "Gam.ma-1.0-py3-none-any.whl"
    gamma = LockedPackage("pip", "gam-ma", "1.0", None, f"https://files.invalid/{file}", file, digest)
    (tmp_path / "index/simple/Gam.ma").rename(tmp_path / "index/simple/gam-ma")
    configure(home, f'[pypi]\nindex = "{shelf.url}"\n')
    home = replace(home, offline=True)
    done = exported(home, tmp_path / "out", *small, pip_package(built, GIT), gamma)
    assert done.wheels == 2
    config = tomllib.loads(done.config)
    assert config["pypi"] == {"index": f"file://{PLACE}/pypi/simple"}
    page = (tmp_path / "out/pypi/simple/gam-ma/index.html").read_text()
    assert f'<a href="../../{file}#sha256={digest}">{file}</a>' in page
    rows = yaml.safe_load((tmp_path / "out/conda-lock.yml").read_text())["package"]
    urls = {row["name"]: row["url"] for row in rows}
    assert urls["gam-ma"] == gamma.url
    assert urls["beta"] == f"{NO_ADDRESS}/pypi/{built.name}"


def test_the_day_of_an_upload_is_on_the_page_and_stays(home: Home, tmp_path: Path, channel: Path) -> None:
    wheel = make_wheel(tmp_path, "alpha", {"alpha.py": ""})
    keep(home, wheel)
    (python,) = conda_packages(channel, "python")
    package = pip_package(wheel, "pkg:pypi/alpha@1.0")
    exported(home, tmp_path / "out", python, replace(package, timestamp=1577836800000))
    exported(home, tmp_path / "out", python, package)
    page = (tmp_path / "out/pypi/simple/alpha/index.html").read_text()
    assert page.count("<a ") == page.count('data-upload-time="2020-01-01T00:00:00+00:00"') == 1


def test_credentials_reach_the_index_and_no_file(home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]) -> None:
    shelf = Index(tmp_path / "index")
    digest = shelf.wheel("alpha", "1.0")
    file = "alpha-1.0-py3-none-any.whl"
    asked: list[str] = []
    with served(shelf.folder, credentials="ada:secret", asked=asked) as url:
        alpha = LockedPackage("pip", "alpha", "1.0", None, f"{url}/files/{file}", file, digest)
        with pytest.raises(OrchError, match=r"401.*put credentials for its host into the URL of \[pypi\] index"):
            exported(home, tmp_path / "out", *small, alpha)
        known = url.replace("//", "//ada:secret@")
        configure(home, f'[pypi]\nindex = "{known}/simple"\n')
        exported(home, tmp_path / "out", *small, alpha)
    assert asked == ["/simple/alpha/", f"/files/{file}"]
    for path, data in tree(tmp_path / "out").items():
        assert b"secret" not in data, path
        assert str(tmp_path).encode() not in data, path


def test_offline_all_that_is_missing_is_named(home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]) -> None:
    wheels = [
        LockedPackage("pip", name, "1.0", None, f"https://files.invalid/{name}-1.0-py3-none-any.whl", file, "a" * 64)
        for name, file in (("alpha", "alpha-1.0-py3-none-any.whl"), ("beta", "beta-1.0-py3-none-any.whl"))
    ]
    home = replace(home, offline=True)
    with pytest.raises(OrchError, match=r"alpha-1.0-py3-none-any.whl, beta-1.0-py3-none-any.whl are not here, and"):
        exported(home, tmp_path / "out", *small, *wheels)
    home.config.write_text("")
    names = ", ".join(sorted(package.file_name for package in small))
    with pytest.raises(OrchError, match=f"{re.escape(names)} are not here, and --offline"):
        exported(home, tmp_path / "other", *small)


# --- faults -----------------------------------------------------------------------------------------------------


def behind(server: ChannelServer, home: Home) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{server.url}"]\n')


def test_an_export_that_failed_is_completed(
    home: Home, tmp_path: Path, channel: Path, channel_server: Callable[..., ChannelServer]
) -> None:
    packages = conda_packages(channel, "six", "idna", "click")
    server = channel_server()
    behind(server, home)
    server.fail("*/idna*", "missing")
    with pytest.raises(
        OrchError, match=r"the package idna-[^ ]*conda is not there \(404\): its channel has it no more"
    ):
        exported(home, tmp_path / "out", *packages)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".new-")]
    (tmp_path / "out/.new-left").mkdir()
    server.heal()
    exported(home, tmp_path / "out", *packages)
    exported(home, tmp_path / "whole", *packages)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert not (tmp_path / "out/.new-left").exists()


def test_a_download_that_is_cut_off_is_made_again(
    home: Home, tmp_path: Path, channel: Path, channel_server: Callable[..., ChannelServer]
) -> None:
    (package,) = conda_packages(channel, "six")
    server = channel_server()
    behind(server, home)
    server.fail("*/six*", "truncated", times=2)
    exported(home, tmp_path / "out", package)
    assert server.requests[f"noarch/{package.file_name}"] == 3


def test_another_archive_than_that_of_the_lock_is_refused_with_both_hashes(
    home: Home, tmp_path: Path, channel: Path, channel_server: Callable[..., ChannelServer]
) -> None:
    (package,) = conda_packages(channel, "six")
    server = channel_server()
    behind(server, home)
    server.fail("*/six*", "altered")
    with pytest.raises(OrchError, match=rf"{package.file_name} does not match.*{package.sha256}.* has [0-9a-f]{{64}}"):
        exported(home, tmp_path / "out", package)
    assert index(tmp_path / "out") == {}
    assert not (tmp_path / "out/noarch" / package.file_name).exists()


def test_a_server_that_is_not_there_is_said(home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["http://127.0.0.1:1"]\n')
    with pytest.raises(
        OrchError, match=r"the package six-[^ ]*conda can't be reached: there is no network, or no such host"
    ):
        exported(home, tmp_path / "out", small[0])


# --- what is refused --------------------------------------------------------------------------------------------


def test_two_packages_of_one_name_are_refused(home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]) -> None:
    other = replace(small[0], sha256="a" * 64, channel=MAIN, url=f"{MAIN}/noarch/{small[0].file_name}")
    with pytest.raises(OrchError, match=rf"two packages are called noarch/six-.*{CONDA_FORGE} .*{MAIN} \(sha256 aaaa"):
        exported(home, tmp_path / "out", small[0], other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("subdir", "name"), [("../up", "six-1-0.conda"), ("noarch", "../six-1-0.conda"), ("noarch", "six")]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(
    home: Home, tmp_path: Path, small: tuple[LockedPackage, ...], subdir: str, name: str
) -> None:
    with pytest.raises(OrchError, match="which is no"):
        exported(home, tmp_path / "out", replace(small[0], subdir=subdir, file_name=name))
    assert not (tmp_path / "out").exists()


def test_another_file_of_that_name_in_the_folder_is_refused(
    home: Home, tmp_path: Path, small: tuple[LockedPackage, ...]
) -> None:
    exported(home, tmp_path / "out", small[1])
    (tmp_path / "out/noarch" / small[0].file_name).write_text("other")
    with pytest.raises(OrchError, match=small[0].file_name):
        exported(home, tmp_path / "out", small[0])
    assert (tmp_path / "out/noarch" / small[0].file_name).read_text() == "other"


def test_a_folder_with_other_files_a_file_and_a_channel_of_another_tool_are_refused(
    home: Home, tmp_path: Path, channel: Path, small: tuple[LockedPackage, ...]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("notes")
    for folder, words in (
        (tmp_path / "mine", "has files and is no conda channel"),
        (tmp_path / "mine/notes.txt", "is a file; --format channel writes a folder"),
        (channel, r"is a channel that something else keeps \(channel.json\)"),
    ):
        with pytest.raises(UsageError, match=words):
            exported(home, folder, *small)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["notes.txt"]


def test_a_full_disk_is_said(home: Home, tmp_path: Path, channel: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "1m"):
        with pytest.raises(OrchError, match=f"the channel {disk}/out can't be written: No space left"):
            exported(home, disk / "out", *conda_packages(channel, "python"))
        assert index(disk / "out") == {}
