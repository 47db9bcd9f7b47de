"""Fixtures that all tests share: a machine of their own, a conda channel, and an `ORCH_HOME` that uses it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from channel_server import ChannelServer, serve_channel
from filelock import FileLock

CHECKOUT = Path(__file__).parents[1]
SPECS = CHECKOUT / "tests" / "fixtures"

CONDA_FORGE = "https://conda.anaconda.org/conda-forge"
DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")

FOREIGN = ("ORCH_", "CONDA_", "MAMBA_", "MLFLOW_", "GIT_", "XDG_", "SLURM_", "RATTLER_", "PYTHON")
"""Beginnings of variables of the developer's session that no test may see."""


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory and a git configuration of the test's own; the home is returned."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)
    config = home / ".gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
        monkeypatch.setenv(f"GIT_{role}_DATE", "2024-05-01T12:00:00+00:00")
    return home


@pytest.fixture(scope="session")
def channel() -> Path:
    """A small conda channel: python, pip, setuptools, idna, and numpy, click and six in two versions."""
    return _built(SPECS / "channel.yml")


@pytest.fixture(scope="session")
def science_channel() -> Path:
    """A conda channel with scikit-learn, pandas, scipy and what they need, for the few tests that need real work."""
    return _built(SPECS / "science.yml")


@pytest.fixture(scope="session")
def mlflow_channel() -> Path:
    """A conda channel with MLflow 2 and 3 and what they need to log a scikit-learn model."""
    return _built(SPECS / "mlflow.yml")


@pytest.fixture
def cold_home(tmp_path: Path, channel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh `ORCH_HOME`, set in the environment, whose conda-forge and defaults are the small channel."""
    return make_home(tmp_path / "orch-home", channel.as_uri(), monkeypatch)


@pytest.fixture
def orch_home(cold_home: Path) -> Path:
    """The `ORCH_HOME` of most tests; some folders have a quicker one."""
    return cold_home


@pytest.fixture
def science_home(tmp_path: Path, science_channel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `orch_home`, with the channel `science_channel`."""
    return make_home(tmp_path / "orch-home", science_channel.as_uri(), monkeypatch)


@pytest.fixture
def channel_server(channel: Path) -> Iterator[Callable[..., ChannelServer]]:
    """A function that serves a channel (default: the small one) over HTTP on loopback, faults at will."""
    with ExitStack() as servers:
        yield lambda directory=channel: servers.enter_context(serve_channel(directory))


def make_home(root: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ORCH_HOME` in `root` whose mirror of every channel is `url`, set in the environment."""
    root.mkdir(mode=0o700)
    mirrors = "".join(f'"{channel}" = ["{url}"]\n' for channel in (CONDA_FORGE, *DEFAULTS))
    (root / "config.toml").write_text(f"[mirrors]\n{mirrors}")
    monkeypatch.setenv("ORCH_HOME", str(root))
    return root


def _built(spec: Path) -> Path:
    """The channel of `spec`, kept between sessions and shared by the workers of one."""
    from compiled_channel import compile_packages

    from orchestrator.environment.channel import build_channel

    room = CHECKOUT / "orchestrator" / "environment"
    sources = [
        spec,
        CHECKOUT / "tests" / "compiled_channel.py",
        *(
            room / f"{name}.py"
            for name in ("channel", "channel_wheels", "package", "repodata", "wheel", "wheel_tags", "interpreter")
        ),
    ]
    key = hashlib.sha256(b"\0".join([sys.version.encode(), *(path.read_bytes() for path in sources)])).hexdigest()[:12]
    cache = CHECKOUT / ".cache" / "test-channel"
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / f"{spec.stem}-{key}"
    with FileLock(cache / f"{directory.name}.lock"):
        if not directory.exists():
            aside = directory.with_suffix(".new")
            shutil.rmtree(aside, ignore_errors=True)
            build_channel(aside, spec)
            compile_packages(aside)
            aside.rename(directory)
    return directory
