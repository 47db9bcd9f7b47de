"""`orch env export --format channel`, and a machine that has nothing but the folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channel_server import ChannelServer
from made_index import Index, project_files

from e2e.conftest import CONDA_FORGE, ORCH, git, mlproject, orch, orch_json
from orchestrator.environment.export.folder_channel import PLACE

YAML = "name: tried\nchannels: [conda-forge]\ndependencies:\n- python\n- six\n- pip:\n"
PROGRAM = "python -c 'import alpha, six; print(alpha.VERSION)'"


@pytest.fixture
def index(tmp_path: Path, orch_home: Path) -> Index:
    """An index with `alpha`, set for this machine."""
    index = Index(tmp_path / "index")
    index.wheel("alpha", "1.0")
    with (orch_home / "config.toml").open("a") as config:
        config.write(f'[pypi]\nindex = "{index.url}"\n')
    return index


@pytest.fixture
def other_machine(tmp_path: Path) -> Callable[[Path], dict[str, str]]:
    """A function that gives the variables of a machine with nothing but an exported folder, and its config.toml."""

    def make(folder: Path) -> dict[str, str]:
        home = tmp_path / "other-home"
        home.mkdir(mode=0o700)
        (home / "config.toml").write_text((folder / "config.toml").read_text().replace(PLACE, str(folder)))
        return {"ORCH_HOME": str(home)}

    return make


def exported(project: object, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return orch("env", "export", project, "--format", "channel", "-o", folder, **options)


def lock_id(run: str, env: dict[str, str] | None = None) -> str:
    return str(orch_json("show", run, env=env or {})["spec"]["environment"]["lock_id"])


@pytest.mark.parametrize("with_lock", [True, False])
def test_the_folder_is_all_that_another_machine_needs(
    make_project: Callable[..., Path],
    index: Index,
    other_machine: Callable[[Path], dict[str, str]],
    tmp_path: Path,
    with_lock: bool,
) -> None:
    project = make_project({"MLproject": mlproject(PROGRAM), "conda.yaml": YAML + "  - alpha\n"})
    orch("run", project)
    index.wheel("alpha", "2.0")
    mine = lock_id("latest")
    out = tmp_path / "made" / "out"
    said = exported("latest", out).stderr
    assert "conda packages, 1 wheel, " in said
    assert said.endswith((out / "config.toml").read_text())
    moved = tmp_path / "stick"
    shutil.copytree(out, moved)
    shutil.rmtree(tmp_path / "made")
    shutil.rmtree(index.folder)
    if with_lock:
        shutil.copyfile(moved / "conda-lock.yml", project / "conda-lock.yml")
    there = other_machine(moved)
    done = orch("run", "--offline", project, env=there)
    assert done.stdout == "1.0\n"
    assert lock_id("latest", there) == mine


def test_the_lock_in_the_folder_is_an_environment_there(
    make_project: Callable[..., Path], index: Index, other_machine: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    """Also when a wheel was built: from a source archive, from a commit, from the project itself."""
    index.source("beta", "1.0")
    gamma = make_project(project_files("gamma"), "gamma")
    wish = f"  - alpha\n  - beta\n  - gamma @ git+{gamma.as_uri()}@{git(gamma, 'rev-parse', 'HEAD')}\n  - .\n"
    files = {"MLproject": mlproject("true"), "conda.yaml": YAML + wish, **project_files("delta")}
    project = make_project(files)
    out = tmp_path / "out"
    exported(project, out)
    for folder in (gamma, index.folder, project):
        shutil.rmtree(folder)
    program = "import six, alpha, beta, gamma, delta; print('all there')"
    there = other_machine(out)
    done = orch("env", "exec", "--offline", out / "conda-lock.yml", "--", "python", "-c", program, env=there)
    assert done.stdout == "all there\n"
    assert sorted(p.name for p in (out / "pypi").glob("*.whl")) == [
        f"{name}-1.0-py3-none-any.whl" for name in ("alpha", "beta", "delta", "gamma")
    ]
    for path in out.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path


def test_the_folder_is_a_plain_channel(
    make_project: Callable[..., Path], orch_home: Path, other_machine: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    project = make_project({"environment.yml": "channels: [conda-forge]\ndependencies: [python, six]\n"})
    out = tmp_path / "out"
    exported(project, out)
    there = other_machine(out)
    (Path(there["ORCH_HOME"]) / "config.toml").unlink()
    file = tmp_path / "environment.yml"
    file.write_text(f"channels: ['{out.as_uri()}']\ndependencies: [six]\n")
    code = "import six; print('there')"
    assert orch("env", "exec", "--offline", file, "--", "python", "-c", code, env=there).stdout == "there\n"


def test_an_export_that_was_killed_is_completed(
    make_project: Callable[..., Path],
    orch_home: Path,
    channel_server: Callable[..., ChannelServer],
    tmp_path: Path,
) -> None:
    project = make_project({"environment.yml": "channels: [conda-forge]\ndependencies: [python, six]\n"})
    server = channel_server()
    config = orch_home / "config.toml"
    paths = config.read_text().partition("[paths]")[2]
    config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{server.url}"]\n[paths]{paths}')
    orch("env", "show", project)
    server.fail("linux-64/python-*", "slow")
    out = tmp_path / "out"
    started = subprocess.Popen(
        [ORCH, "env", "export", project, "--format", "channel", "-o", out],
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not list(out.glob("noarch/six-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert list(out.glob("noarch/six-*"))
    assert not (out / "conda-lock.yml").exists()
    server.heal()
    exported(project, out)
    exported(project, tmp_path / "whole")
    compared = subprocess.run(["diff", "-r", out, tmp_path / "whole"], capture_output=True, text=True, check=False)
    assert (compared.returncode, compared.stdout) == (0, "")


def test_wrong_use_is_said(make_project: Callable[..., Path], orch_home: Path, tmp_path: Path) -> None:
    project = make_project({"environment.yml": "channels: [conda-forge]\ndependencies: [python]\n"})
    done = orch("env", "export", project, "--format", "channel", code=2)
    assert "--format channel writes a folder: name it with -o DIR." in done.stderr
    done = exported(project, tmp_path, code=2)
    assert f"{tmp_path} has files and is no conda channel" in done.stderr
    done = orch("env", "export", project, "--format", "channel", "-o", tmp_path / "o", "--no-builds", code=2)
    assert "--no-builds is for --format environment" in done.stderr
    done = orch("env", "export", project, "--format", "folder", code=2)
    assert "sbom, channel." in done.stderr
