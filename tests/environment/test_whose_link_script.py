"""A link script is a package's own: it runs, and is told of, by what the package's record says, not by its name."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CONDA_FORGE
from made_locks import conda_packages, keep, make_wheel, pip_package, small_package, write_lock

from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.package import Member
from orchestrator.environment.prefix import use_prefix, verify_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SCRIPT = "bin/.trusted-post-link.sh"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A channel for packages of a test."""
    return tmp_path / "own"


@pytest.fixture
def home(orch_home: Path, own: Path) -> Home:
    home = open_home()
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{own.as_uri()}"]\n')
    return home


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What exists when a foreign script has run."""
    return tmp_path / "ran"


def foreign(ran: Path) -> Member:
    """A script with the name of another package's, which would run if names decided."""
    return Member(SCRIPT, f"touch {ran}\n".encode(), executable=True)


def linked_package(own: Path, name: str, members: Sequence[Member], link: str, target: Path) -> LockedPackage:
    """As `small_package`, with a link to a place that no package has, which orch itself refuses to pack."""
    index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": [], "subdir": "noarch"}
    entries = [{"_path": m.path, "path_type": "hardlink", "sha256": sha256(m.data)} for m in members]
    paths = {"paths": [*entries, {"_path": link, "path_type": "softlink", "sha256": sha256(b"")}], "paths_version": 1}
    files = {member.path: member.data for member in members}
    files |= {"info/index.json": json.dumps(index).encode(), "info/paths.json": json.dumps(paths).encode()}
    archive = own / "noarch" / f"{name}-1.0-0.tar.bz2"
    with tarfile.open(archive, "w:bz2") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo(link)
        info.type, info.linkname = tarfile.SYMTYPE, str(target)
        tar.addfile(info)
    like = small_package(own, f"{name}-as", [])
    url = like.url.replace(like.file_name, archive.name)
    return replace(like, name=name, url=url, file_name=archive.name, sha256=sha256(archive.read_bytes()), size=None)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refusal(home: Home, packages: list[LockedPackage]) -> str:
    """What is said when the script of `trusted` is wanted."""
    lock_id = write_lock(home, packages)
    with pytest.raises(OrchError) as caught, use_prefix(lock_id, home=home, link_scripts=("trusted",)):
        pass
    return str(caught.value)


def test_a_script_that_another_package_brings_is_not_run_and_not_told_as_the_named_ones(
    home: Home, own: Path, ran: Path
) -> None:
    packages = [small_package(own, "trusted", []), small_package(own, "evil", [foreign(ran)])]
    said = refusal(home, packages)
    assert said == f"--link-scripts trusted: {SCRIPT} is no script of that package; it comes with evil."
    assert not ran.exists()
    with use_prefix(write_lock(home, packages), home=home) as plain:
        assert plain.notes == ("link scripts were not run, of evil; only `orch run --link-scripts NAME` runs one.",)


def test_a_script_that_two_packages_bring_runs_only_when_the_own_one_is_in_place(
    home: Home, own: Path, ran: Path, tmp_path: Path
) -> None:
    honest = tmp_path / "honest"
    trusted = small_package(own, "trusted", [Member(SCRIPT, f"touch {honest}\n".encode(), executable=True)])
    outcomes = []
    for name in ("a-evil", "z-evil"):
        lock_id = write_lock(home, [trusted, small_package(own, name, [foreign(ran)])])
        try:
            with use_prefix(lock_id, home=home, link_scripts=("trusted",)):
                outcomes.append("ran")
        except OrchError as error:
            assert f"{SCRIPT} is no script of that package; it comes with {name}." in str(error)
            outcomes.append("refused")
        assert honest.exists() == (outcomes[-1] == "ran") and not ran.exists()
        honest.unlink(missing_ok=True)
    assert "refused" in outcomes


@pytest.mark.parametrize("has_one", [False, True])
def test_a_script_that_a_wheel_brings_is_not_run(
    home: Home, own: Path, channel: Path, ran: Path, tmp_path: Path, has_one: bool
) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel}"]\n')
    wheel = make_wheel(tmp_path, "evil", {"evil-1.0.data/scripts/.trusted-post-link.sh": f"touch {ran}\n"})
    keep(home, wheel)
    members = [Member(SCRIPT, b"true\n", executable=True)] if has_one else []
    packages = [
        *conda_packages(channel, "python", "python_abi"),
        small_package(own, "trusted", members, url=own.as_uri()),
        pip_package(wheel, "git+https://example.org/evil@" + "0" * 40),
    ]
    said = refusal(home, packages)
    if has_one:
        assert said == f"--link-scripts trusted: {SCRIPT} is not as the package has it; something replaced it."
    else:
        assert said == "--link-scripts trusted: the package has no post-link script; none has one here."
    assert not ran.exists()


def test_a_record_that_a_wheel_replaces_gives_it_no_script(
    home: Home, own: Path, channel: Path, ran: Path, tmp_path: Path
) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel}"]\n')
    script = f"touch {ran}\n"
    entry = {"_path": SCRIPT, "path_type": "hardlink", "sha256": sha256(script.encode())}
    forged: dict[str, Any] = {"name": "trusted", "fn": "trusted-1.0-0.conda", "paths_data": {"paths": [entry]}}
    forged["extracted_package_dir"] = str(home.packages / "trusted-1.0-0")
    files = {
        "evil-1.0.data/scripts/.trusted-post-link.sh": script,
        "evil-1.0.data/data/conda-meta/trusted-1.0-0.json": json.dumps(forged),
    }
    wheel = make_wheel(tmp_path, "evil", files)
    keep(home, wheel)
    packages = [
        *conda_packages(channel, "python", "python_abi"),
        small_package(own, "trusted", [], url=own.as_uri()),
        pip_package(wheel, "git+https://example.org/evil@" + "0" * 40),
    ]
    assert "trusted: the package has no post-link script" in refusal(home, packages)
    assert not ran.exists()


def test_a_package_that_brings_the_record_of_another_is_refused(home: Home, own: Path, ran: Path) -> None:
    trusted = small_package(own, "trusted", [])
    row: dict[str, Any] = {"name": "trusted", "version": "1.0", "build": "0", "build_number": 0, "depends": []}
    row |= {"subdir": "noarch", "noarch": "generic", "sha256": trusted.sha256, "size": trusted.size}
    row |= {"fn": trusted.file_name, "url": trusted.url, "channel": trusted.channel, "requested_specs": []}
    row |= {"extracted_package_dir": str(home.packages / "trusted-1.0-0"), "files": [SCRIPT]}
    entry = {"_path": SCRIPT, "path_type": "hardlink", "sha256": sha256(foreign(ran).data)}
    row["paths_data"] = {"paths_version": 1, "paths": [entry]}
    record = Member("conda-meta/trusted-1.0-0.json", json.dumps(row).encode())
    assert refusal(home, [trusted, small_package(own, "evil", [foreign(ran), record])]) == (
        "the package evil brings conda-meta/trusted-1.0-0.json, a record of what is installed, which is not a "
        "package's to bring; its environment can't be installed."
    )
    assert not ran.exists()


def test_a_script_that_is_made_for_its_prefix_runs(home: Home, own: Path) -> None:
    script = Member(SCRIPT, b"touch /PLACEHOLDER/made\n", executable=True, placeholder="/PLACEHOLDER")
    with use_prefix(
        write_lock(home, [small_package(own, "trusted", [script])]), home=home, link_scripts=("trusted",)
    ) as prefix:
        assert (prefix.path / "made").exists() and verify_prefix(prefix.path) == ()


def test_a_script_that_another_script_changed_is_not_run(home: Home, own: Path, ran: Path) -> None:
    meddle = Member("bin/.first-post-link.sh", f"echo touch {ran} > .trusted-post-link.sh\n".encode(), executable=True)
    trusted = small_package(own, "trusted", [Member(SCRIPT, b"true\n", executable=True)])
    packages = [small_package(own, "first", [meddle]), replace(trusted, depends=("first",))]
    with (
        pytest.raises(OrchError, match=r"trusted: .* is not as the package has it"),
        use_prefix(write_lock(home, packages), home=home, link_scripts=("first", "trusted")),
    ):
        pass
    assert not ran.exists()


def test_no_file_of_a_package_leads_a_build_out_of_its_prefix(home: Home, own: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    tool = Member("bin/tool", b"#!/bin/sh\necho theirs\n", executable=True)
    beside = [Member("bin/other", b"as packed\n"), Member("bin/other.orch", b"a file of its own\n")]
    packages = [
        small_package(own, "trusted", [Member(SCRIPT, b"true\n", executable=True)]),
        linked_package(own, "evil", [tool, *beside], "bin/tool.orch", outside),
    ]
    with use_prefix(write_lock(home, packages), home=home, link_scripts=("trusted",)) as prefix:
        assert outside.read_text() == "mine\n"
        assert (prefix.path / "bin/tool.orch").readlink() == outside
        assert (prefix.path / "bin/other.orch").read_text() == "a file of its own\n"
        assert (prefix.path / "bin/tool").stat().st_mode & 0o777 == 0o555
        names = {path.name for path in (prefix.path / "bin").iterdir()}
        assert names == {".trusted-post-link.sh", "tool", "tool.orch", "other", "other.orch"}
        assert (prefix.path / "bin/tool").stat().st_nlink == 1
