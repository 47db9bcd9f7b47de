"""Folders that several users point `[paths]` at: each works, and nobody reaches what another one runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONDA_FORGE

from orchestrator.errors import OrchError
from orchestrator.paths import open_home

ADA, BOB = 61001, 61002
"""Users that need no entry in any list."""

ORCH = Path(sys.executable).with_name("orch")
ONE_YAML = "channels: [conda-forge]\ndependencies: [python, six]\n"


def home_with(root: Path, channel: Path, **moved: Path) -> Path:
    """An `ORCH_HOME` with folders moved."""
    root.mkdir(mode=0o700)
    paths = "".join(f'{name} = "{folder}"\n' for name, folder in moved.items())
    (root / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel.as_uri()}"]\n[paths]\n{paths}')
    return root


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder in which everybody can write, as /tmp is."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be several users")
    folder = tmp_path / "lab"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def start(user: int, home: Path, *command: object, umask: int = 0o022) -> subprocess.Popen[str]:
    """A program as another user: one who may read everything, for Python and orch may be root's own, and write no more
    than others."""
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return subprocess.Popen(
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *reads, *map(str, command)],
        env={**os.environ, "ORCH_HOME": str(home), "HOME": str(home), "USER": str(user)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        umask=umask,
    )


def as_user(user: int, home: Path, *command: object, umask: int = 0o022) -> str:
    process = start(user, home, *command, umask=umask)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out


def home_of(user: int, folder: Path, channel: Path, lab: Path, *names: str) -> Path:
    home = home_with(folder / f"home-{user}", channel, **dict.fromkeys(names, lab))
    for path in (home, home / "config.toml"):
        os.chown(path, user, user)
    return home


def test_a_folder_of_ones_own_is_used_as_it_is_and_one_that_others_write_to_in_a_part(
    tmp_path: Path, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {name: tmp_path / name for name in ("cache", "store")}
    monkeypatch.setenv("ORCH_HOME", str(home_with(tmp_path / "home", channel, **moved)))
    assert (open_home().cache, open_home().store) == (moved["cache"], moved["store"])

    moved["cache"].chmod(0o1777)
    home = open_home()
    assert (home.cache, home.store) == (moved["cache"] / str(os.geteuid()), moved["store"])
    assert home.cache.stat().st_mode & 0o777 == 0o700


def test_a_part_that_is_a_link_is_refused(tmp_path: Path, channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCH_HOME", str(home_with(tmp_path / "home", channel, cache=tmp_path / "cache")))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o1777)
    (tmp_path / "cache" / str(os.geteuid())).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OrchError, match=r"belongs to another user\. Name a folder of your own"):
        open_home()


def test_users_who_share_folders_install_at_once_whatever_their_umask(lab: Path, tmp_path: Path, channel: Path) -> None:
    (tmp_path / "environment.yml").write_text(ONE_YAML)
    users = {ADA: 0o077, BOB: 0o022}
    homes = {user: home_of(user, tmp_path, channel, lab, "cache") for user in users}
    exec_ = (ORCH, "env", "exec", tmp_path / "environment.yml", "printenv", "CONDA_PREFIX")
    running = {user: start(user, homes[user], *exec_, umask=umask) for user, umask in users.items()}
    for user, process in running.items():
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert out.startswith(str(homes[user]))

    parts = sorted(lab.iterdir())
    assert [(part.name, part.stat().st_uid, part.stat().st_mode & 0o777) for part in parts] == [
        (str(user), user, 0o700) for user in users
    ]
    # Nobody has made a file in another one's part, or writes to one of theirs.
    for part in parts:
        assert {path.lstat().st_uid for path in part.rglob("*")} == {int(part.name)}
    victim = next((lab / str(ADA)).rglob("info/index.json"))
    script = f"import sys\ntry: open({str(victim)!r}, 'a')\nexcept PermissionError: print('refused')"
    assert as_user(BOB, homes[BOB], sys.executable, "-c", script) == "refused\n"


def test_a_part_that_another_user_made_is_refused(lab: Path, tmp_path: Path, channel: Path) -> None:
    home = home_of(ADA, tmp_path, channel, lab, "cache", "envs")
    trap = lab / str(ADA)
    trap.mkdir(mode=0o777)
    os.chown(trap, BOB, BOB)

    process = start(ADA, home, ORCH, "env", "list")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 125
    assert f"{trap}, where orch would keep what is yours of the shared folder {lab}, belongs to another user" in errors
    assert list(trap.iterdir()) == []
