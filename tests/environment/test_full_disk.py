"""No space left: which folder, and what can be done, whatever was being done."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_trees import SOURCE, FileTree

from orchestrator.environment import environment_request, resolve_environment
from orchestrator.environment.prefix import use_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

SIX = "dependencies:\n- python\n- six\n"


@pytest.fixture
def home(cold_home: Path) -> Home:
    return open_home()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of a given size, mounted on a folder for the time of the block."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


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
        said = str(caught.value)
        assert said.startswith(f"No space is left in {home.cache} to ")
        assert said.endswith(f" the environment; free some, or move `cache` with [paths] in {home.config}.")
    assert [path.name for path in home.envs.glob("[0-9a-f]*")] == []

    install(home)
