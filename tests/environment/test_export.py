"""Exports of a lock: each read by the tool, or the tool's own library, that it is for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made_locks import CONDA_FORGE, conda_packages
from packaging.requirements import Requirement

from orchestrator.environment.export import FORMATS, export
from orchestrator.environment.export.plain import depends_first
from orchestrator.environment.export.public import published
from orchestrator.environment.lock import Lock, LockedPackage, lock_id_of, lock_path
from orchestrator.errors import OrchError, UsageError
from orchestrator.paths import Home, open_home

PYPI = "https://files.example.org/alpha-1.0-py3-none-any.whl"
GIT = "git+https://git.example.org/beta@0123456789abcdef0123456789abcdef01234567"
PIP = (
    LockedPackage("pip", "alpha", "1.0", None, PYPI, "alpha-1.0-py3-none-any.whl", "a" * 64),
    LockedPackage("pip", "beta", "2.0", None, GIT, "beta-2.0-py3-none-any.whl", "b" * 64),
    LockedPackage(
        "pip",
        "gamma",
        "3.0",
        None,
        "pkg:pypi/gamma@3.0?file_name=gamma-3.0-py3-none-any.whl",
        "gamma-3.0-py3-none-any.whl",
        "c" * 64,
    ),
    LockedPackage(
        "pip",
        "delta",
        "4.0",
        None,
        "https://files.example.org/delta-4.0.tar.gz",
        "delta-4.0-py3-none-any.whl",
        "d" * 64,
        source_sha256="e" * 64,
    ),
)


@pytest.fixture
def home(orch_home: Path) -> Home:
    return open_home()


@pytest.fixture
def linux(channel: Path) -> Lock:
    conda = conda_packages(channel, "python", "pip", "setuptools", "six", "click", "numpy")
    conda = (replace(conda[0], license="PSF-2.0"), replace(conda[1], license="MIT AND ISC"), *conda[2:])
    packages = (*conda, *PIP)
    return Lock(
        lock_id_of(packages),
        "linux-64",
        packages,
        solved=True,
        channels=("conda-forge",),
        conda=("python 3.*", "six"),
        pip=("alpha>=1",),
    )


@pytest.fixture
def mac(linux: Lock) -> Lock:
    def moved(package: LockedPackage) -> LockedPackage:
        if package.subdir != "linux-64":
            return package
        url = package.url.replace("linux-64", "osx-arm64")
        return replace(package, subdir="osx-arm64", url=url, sha256=package.sha256[::-1])

    packages = tuple(map(moved, linux.packages))
    return replace(linux, lock_id=lock_id_of(packages), platform="osx-arm64", packages=packages)


def conda_of(lock: Lock) -> list[LockedPackage]:
    return [package for package in lock.packages if package.manager == "conda"]


def python(program: str, *arguments: object) -> str:
    """What a program prints, in a process of its own: rattler may crash one at its end."""
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.stdout


# --- conda-lock -------------------------------------------------------------------------------------------------

READ_BY_CONDA_LOCK = """
import json, pathlib, sys
from conda_lock.conda_lock import render_lockfile_for_platform
from conda_lock.lockfile import parse_conda_lock_file
found = {}
for platform in ("linux-64", "osx-arm64"):
    for kind in ("explicit", "env"):
        lock = parse_conda_lock_file(pathlib.Path(sys.argv[1]))
        found[platform + " " + kind] = render_lockfile_for_platform(
            lockfile=lock, include_dev_dependencies=False, extras=None, kind=kind, platform=platform)
print(json.dumps(found))
"""


def test_conda_lock_reads_and_renders_its_format_for_every_platform(
    home: Home, linux: Lock, mac: Lock, tmp_path: Path
) -> None:
    file = tmp_path / "conda-lock.yml"
    file.write_text(export("conda-lock", [linux, mac], name="demo", home=home))
    rendered: Mapping[str, list[str]] = json.loads(python(READ_BY_CONDA_LOCK, file))

    for lock in (linux, mac):
        explicit = [line for line in rendered[f"{lock.platform} explicit"] if line.startswith("https:")]
        assert sorted(explicit) == sorted(f"{package.url}#{package.md5}" for package in conda_of(lock))
        env = yaml.safe_load("\n".join(rendered[f"{lock.platform} env"]))
        assert env["channels"] == ["conda-forge"]
        *conda, pip = env["dependencies"]
        assert sorted(conda) == sorted(f"{p.name}={p.version}={p.build}" for p in conda_of(lock))
        assert f"alpha == 1.0 --hash=sha256:{'a' * 64}" in pip["pip"]


def test_conda_lock_keeps_the_content_hash_and_the_names_of_its_sources(home: Home, linux: Lock) -> None:
    kept = lock_path(home, linux.lock_id)
    kept.parent.mkdir(parents=True)
    metadata = {"content_hash": {"linux-64": "f" * 64}, "sources": ["/home/ada/demo/environment.yml", "../dev.yml"]}
    kept.write_text(yaml.safe_dump({"version": 1, "metadata": metadata, "package": []}))
    found = yaml.safe_load(export("conda-lock", [linux], name="demo", home=home))["metadata"]

    assert found["content_hash"] == {"linux-64": "f" * 64}
    assert found["sources"] == ["environment.yml", "../dev.yml"]


# --- explicit ---------------------------------------------------------------------------------------------------

READ_BY_RATTLER = """
import json, sys
from rattler import explicit_environment
spec = explicit_environment.ExplicitEnvironmentSpec.from_str(open(sys.argv[1]).read())
print(json.dumps([str(spec.platform), [entry.url for entry in spec.packages]]), flush=True)
"""


def test_explicit_is_read_by_rattler_with_every_url_and_hash(home: Home, linux: Lock, tmp_path: Path) -> None:
    file = tmp_path / "explicit.txt"
    file.write_text(export("explicit", [linux], name="demo", home=home))
    platform, urls = json.loads(python(READ_BY_RATTLER, file))

    assert platform == "linux-64"
    assert sorted(urls) == sorted(f"{package.url}#sha256:{package.sha256}" for package in conda_of(linux))


def test_explicit_says_which_pip_packages_it_has_no_room_for(home: Home, linux: Lock) -> None:
    comments = [line for line in export("explicit", [linux], name="demo", home=home).splitlines() if line[0] == "#"]

    assert any("alpha==1.0, beta==2.0" in line for line in comments)


def test_explicit_puts_what_is_needed_before_what_needs_it(home: Home, linux: Lock) -> None:
    text = export("explicit", [linux], name="demo", home=home)

    assert text.index("/python-3") < min(text.index("/six-"), text.index("/numpy-"), text.index("/pip-"))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_depends_first_keeps_every_package_and_every_order_that_is_possible(pairs: list[tuple[int, int]]) -> None:
    edges = {(one, other) for one, other in pairs if one < other}
    packages = [package(f"p{n}", *(f"p{one} >=1" for one, other in edges if other == n)) for n in range(10)]
    order = [found.name for found in depends_first(packages)]

    assert sorted(order) == [f"p{n}" for n in range(10)]
    assert all(order.index(f"p{one}") < order.index(f"p{other}") for one, other in edges)


def test_packages_that_need_each_other_are_all_there() -> None:
    packages = [package("a", "b"), package("b", "a"), package("c", "__glibc >=2.17")]

    assert {found.name for found in depends_first(packages)} == {"a", "b", "c"}


def package(name: str, *depends: str, url: str = CONDA_FORGE) -> LockedPackage:
    file = f"{name}-1-0.conda"
    digest = name.encode().hex().ljust(64, "0")
    address = f"{url}/noarch/{file}"
    return LockedPackage(
        "conda", name, "1", "0", address, file, digest, subdir="noarch", channel=url, depends=depends, noarch="generic"
    )


# --- environment ------------------------------------------------------------------------------------------------


def test_environment_pins_every_package_as_conda_env_export_does(home: Home, linux: Lock) -> None:
    text = export("environment", [linux], name="demo", home=home)
    table = yaml.safe_load(text)
    *conda, pip = table["dependencies"]

    assert list(table) == ["name", "channels", "dependencies"]
    assert table["name"] == "demo" and table["channels"] == ["conda-forge"]
    assert conda == sorted(f"{p.name}={p.version}={p.build}" for p in conda_of(linux))
    assert pip == {"pip": ["alpha==1.0", f"beta @ {GIT}", "delta==4.0"]}
    assert "# Not here: gamma==3.0" in text
    assert "\n  - pip:\n      - alpha==1.0\n" in text


def test_environment_without_builds_pins_versions_only(home: Home, linux: Lock) -> None:
    table = yaml.safe_load(export("environment", [linux], name="demo", home=home, no_builds=True))

    assert all(spec.count("=") == 1 for spec in table["dependencies"] if isinstance(spec, str))


def test_environment_from_history_is_what_was_asked_for(home: Home, linux: Lock) -> None:
    table = yaml.safe_load(export("environment", [linux], name="demo", home=home, from_history=True))

    assert table["dependencies"] == ["python 3.*", "six", {"pip": ["alpha>=1"]}]


def test_a_lock_that_does_not_know_what_was_asked_for_has_no_history(home: Home, linux: Lock) -> None:
    with pytest.raises(OrchError, match="does not know what was asked for"):
        export("environment", [replace(linux, conda=(), pip=())], name="demo", home=home, from_history=True)


# --- requirements -----------------------------------------------------------------------------------------------


def test_requirements_have_the_hash_of_what_the_index_has(home: Home, linux: Lock) -> None:
    lines = export("requirements", [linux], name="demo", home=home).splitlines()
    wanted = [line.partition(" --hash=") for line in lines if not line.startswith("#")]

    assert {str(Requirement(line)): digest for line, _, digest in wanted} == {
        "alpha==1.0": "sha256:" + "a" * 64,
        "delta==4.0": "sha256:" + "e" * 64,
    }
    assert any("gamma==3.0 is on no index" in line for line in lines)
    assert any(GIT in line for line in lines if line.startswith("#"))


# --- pixi -------------------------------------------------------------------------------------------------------

READ_PIXI = """
import json, sys, rattler
file = rattler.LockFile.from_path(sys.argv[1])
environment = file.default_environment()
found = {}
for platform in environment.platforms():
    conda = environment.conda_repodata_records_for_platform(platform) or []
    pypi = environment.pypi_packages_for_platform(platform) or []
    hashed = lambda p: p.hashes.sha256.hex() if p.location.startswith("https:") else None
    found[platform.name] = {
        "conda": {r.url: [r.name.normalized, str(r.version), r.sha256.hex(), list(r.depends)] for r in conda},
        "pypi": {p.location: [p.name, hashed(p)] for p in pypi},
    }
print(json.dumps(found), flush=True)
"""


def test_pixi_lock_is_read_by_rattler_with_every_package_and_hash(
    home: Home, linux: Lock, mac: Lock, tmp_path: Path
) -> None:
    file = tmp_path / "pixi.lock"
    file.write_text(export("pixi", [linux, mac], name="demo", home=home))
    found = json.loads(python(READ_PIXI, file))

    for lock in (linux, mac):
        there = found[lock.platform]
        assert there["conda"] == {p.url: [p.name, p.version, p.sha256, list(p.depends)] for p in conda_of(lock)}
        assert there["pypi"][PYPI] == ["alpha", "a" * 64]
        assert {name for name, _ in there["pypi"].values()} == {"alpha", "beta", "gamma", "delta"}


@pytest.mark.parametrize("needs", ["python", "python >=3.8", "python>=3.8", "conda-forge::python >=3.8", "python[x]"])
def test_an_old_package_for_all_platforms_is_known_by_its_need_of_python(home: Home, linux: Lock, needs: str) -> None:
    old = replace(package("old", needs), noarch=None)
    assert "noarch: python" in export("pixi", [replace(linux, packages=(old,))], name="demo", home=home)


# --- sbom -------------------------------------------------------------------------------------------------------


def test_sbom_is_valid_cyclonedx_with_purls_hashes_and_licences(home: Home, linux: Lock, mac: Lock) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = export("sbom", [linux, mac], name="demo", home=home)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None

    table = json.loads(text)
    by_hash = {row["hashes"][0]["content"]: row for row in table["components"]}
    assert by_hash.keys() == {package.sha256 for lock in (linux, mac) for package in lock.packages}
    python = next(package for package in linux.packages if package.name == "python")
    purl = by_hash[python.sha256]["purl"]
    assert purl.startswith(
        f"pkg:conda/python@{python.version}?build={python.build}&channel=conda-forge&subdir=linux-64"
    )
    assert by_hash[python.sha256]["licenses"] == [{"license": {"id": "PSF-2.0"}}]
    assert by_hash["a" * 64]["purl"] == "pkg:pypi/alpha@1.0"
    assert "timestamp" not in table["metadata"]


def test_sbom_says_who_needs_whom(home: Home, linux: Lock) -> None:
    table = json.loads(export("sbom", [linux], name="demo", home=home))
    needs = {row["ref"].split("-")[0]: row.get("dependsOn", []) for row in table["dependencies"]}

    assert any(ref.startswith("python-") for ref in needs["six"])
    assert len(needs["environment"]) == len(linux.packages)


# --- all --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_lock_gives_the_same_text(home: Home, linux: Lock, kind: str) -> None:
    assert export(kind, [linux], name="demo", home=home) == export(kind, [linux], name="demo", home=home)


@pytest.mark.parametrize("kind", FORMATS)
def test_neither_a_folder_nor_a_credential_is_in_an_export(home: Home, tmp_path: Path, kind: str) -> None:
    folder = (tmp_path / "secret-place" / "chan").as_uri()
    wheel = f"{folder}/omega-1.0-py3-none-any.whl"
    token = "https://ada:s3cret@host.example.org/t/tk-12345/lab"
    packages = (
        package("one", url=folder),
        package("two", "one", url=token),
        LockedPackage("pip", "omega", "1.0", None, wheel, "omega-1.0-py3-none-any.whl", "d" * 64),
        LockedPackage("pip", "psi", "1.0", None, "git+https://ada:s3cret@h.example.org/psi@1", "psi.whl", "e" * 64),
        LockedPackage("pip", "phi", "1.0", None, f"git+{folder}/phi@1", "phi-1.0-py3-none-any.whl", "f" * 64),
    )
    lock = Lock(
        lock_id_of(packages),
        "linux-64",
        packages,
        channels=(folder, str(tmp_path / "secret-place"), token),
        conda=(f"{folder}::one", f"{token}::two"),
        pip=(f"omega @ {wheel}", f"--find-links={tmp_path}/secret-place/x", f"-e {tmp_path}/secret-place/project"),
    )
    variants = [{}, {"no_builds": True}, {"from_history": True}] if kind == "environment" else [{}]

    for variant in variants:
        text = export(kind, [lock], name="demo", home=home, **variant)
        assert not [word for word in ("secret-place", str(tmp_path), "s3cret", "tk-12345") if word in text], text
        assert "left out" in text or variant


def test_a_folder_that_the_environment_file_calls_by_a_name_keeps_that_name() -> None:
    lock = Lock("0" * 64, "linux-64", (package("one", url="file:///srv/lab"),), channels=("lab",))
    shown, notes = published(lock)

    assert shown.packages[0].url == "lab/noarch/one-1-0.conda"
    assert notes


@pytest.mark.parametrize("kind", ["explicit", "environment", "requirements"])
def test_a_format_of_one_platform_asks_which(home: Home, linux: Lock, mac: Lock, kind: str) -> None:
    with pytest.raises(UsageError, match="--platform"):
        export(kind, [linux, mac], name="demo", home=home)


def test_a_name_with_a_line_break_stays_in_its_comment(home: Home) -> None:
    wheel = "omega-1.0\nevil-py3-none-any.whl"
    omega = LockedPackage("pip", "omega", "1.0", None, "file:///srv/x.whl", wheel, "d" * 64)
    lines = export("requirements", [Lock("0" * 64, "linux-64", (omega,))], name="demo", home=home).splitlines()

    assert all(line.startswith("#") for line in lines)


def test_a_format_or_variant_that_does_not_exist_is_refused(home: Home, linux: Lock) -> None:
    with pytest.raises(UsageError, match="--format toml is unknown; there are conda-lock,"):
        export("toml", [linux], name="demo", home=home)
    with pytest.raises(UsageError, match="--no-builds is for --format environment"):
        export("explicit", [linux], name="demo", home=home, no_builds=True)
    with pytest.raises(UsageError, match="same platform"):
        export("sbom", [linux, linux], name="demo", home=home)
