"""No space left: which folder, and what can be done, whatever was being done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_disk import small_disk
from made_index import project_files
from made_trees import SOURCE, FileTree

from orchestrator.environment import environment_request, resolve_environment
from orchestrator.environment.prefix import use_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SIX = "dependencies:\n- python\n- six\n"


@pytest.fixture
def home(cold_home: Path) -> Home:
    return open_home()


def said_of(home: Home, purpose: str) -> str:
    return (
        f"No space is left in {home.cache} to {purpose} the environment; "
        f"free some, or move `cache` with [paths] in {home.config}."
    )


def lock(home: Home) -> str:
    request = environment_request("conda", "environment.yml", FileTree({"environment.yml": SIX}), SOURCE)
    return resolve_environment(request, home=home).lock_id


def install(home: Home) -> None:
    with use_prefix(lock(home), home=home):
        pass


@pytest.mark.parametrize(
    ("action", "size"),
    # No room for the question to the worker or for its answer, for what channels have, for packages.
    [(lock, "4k"), (lock, "8k"), (lock, "32k"), (install, "4m")],
)
def test_a_full_cache_is_named_with_what_can_be_done(home: Home, action: Callable[[Home], object], size: str) -> None:
    with small_disk(home.cache, size):
        with pytest.raises(OrchError) as caught:
            action(home)
        assert str(caught.value) in [said_of(home, purpose) for purpose in ("lock", "make", "install")]
    assert [path.name for path in home.envs.glob("[0-9a-f]*")] == []

    install(home)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_what_a_program_finds_full_is_said_with_what_can_be_done(home: Home, tmp_path: Path) -> None:
    backend = "def build_wheel(*_, **options):\n    with open('/dev/full', 'w') as file:\n        file.write('x')\n"
    section = {"environment.yml": "dependencies:\n- python\n- pip:\n  - .\n"}
    tree = FileTree(section | project_files("mine") | {"backend.py": backend})
    request = environment_request("conda", "environment.yml", tree, SOURCE)
    with pytest.raises(OrchError) as caught:
        resolve_environment(request, home=home, build_source=lambda: tree.check_out(tmp_path / "checkout"))
    assert str(caught.value) == said_of(home, "make")
