"""What the tests of sources share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from source.repositories import make_repository

from orchestrator.paths import Home, open_home
from orchestrator.source import Resolved, checkout, resolve_source


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A fresh `ORCH_HOME`."""
    return open_home({"ORCH_HOME": str(tmp_path / "orch-home")})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a commit."""
    return make_repository(tmp_path / "project")


@pytest.fixture
def resolve(home: Home) -> Callable[..., Resolved]:
    """`resolve_source` in the home."""
    return lambda text, revision=None, *, offline=False: resolve_source(
        str(text), revision, home=replace(home, offline=offline)
    )


@pytest.fixture
def check_out(home: Home, tmp_path: Path) -> Callable[[Resolved], Path]:
    """Check out what was resolved into a fresh folder, which is returned."""
    places = iter(range(1000))

    def act(resolved: Resolved) -> Path:
        into = tmp_path / f"checkout-{next(places)}"
        checkout(resolved.source, into, home=home)
        return into

    return act
