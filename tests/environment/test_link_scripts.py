"""Post-link scripts run only for the packages that are named, in the final place, and wholly or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import CHECKOUT, CONDA_FORGE
from made_locks import conda_packages, small_package, write_lock

from orchestrator.environment.lock import LockedPackage
from orchestrator.environment.package import Member
from orchestrator.environment.prefix import use_prefix, verify_prefix
from orchestrator.errors import OrchError
from orchestrator.paths import Home, open_home

TELL = 'echo "$PREFIX|$PKG_NAME|$PKG_VERSION|$PKG_BUILDNUM|$(pwd)" > $PREFIX/told\n'
USER = """
import sys
from orchestrator.environment.prefix import use_prefix
from orchestrator.paths import open_home
with use_prefix(sys.argv[1], home=open_home(), link_scripts=("slow",)) as prefix:
    print(prefix.path)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A channel for packages of a test."""
    return tmp_path / "own"


@pytest.fixture
def home(orch_home: Path, own: Path) -> Home:
    home = open_home()
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{own.as_uri()}"]\n')
    return home


def scripted(own: Path, name: str, script: str, *more: Member, url: str = CONDA_FORGE) -> LockedPackage:
    post_link = Member(f"bin/.{name}-post-link.sh", script.encode(), executable=True)
    return small_package(own, name, [post_link, *more], url=url)


def left(home: Home) -> list[str]:
    folders = [path.name for path in home.envs.iterdir() if path.name not in (".locks", ".building")]
    return folders + [path.name for path in home.envs.glob(".building/*")]


def test_the_script_of_a_named_package_runs_in_a_prefix_of_its_own(
    home: Home, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    say = "echo printed\necho read me >> $PREFIX/.messages.txt\necho ${MY_TOKEN:-nothing} > $PREFIX/token\n"
    packages = [scripted(own, "chatty", TELL + say), scripted(own, "quiet", "touch $PREFIX/quiet\n")]
    lock_id = write_lock(home, packages)
    with use_prefix(lock_id, home=home, link_scripts=("chatty",)) as prefix:
        path = prefix.path
        assert path.name.startswith(f"{lock_id}-") and len(path.name) == 64 + 1 + 16
        assert (path / "told").read_text() == f"{path}|chatty|1.0|0|{path}/bin\n"
        assert (path / "token").read_text() == "nothing\n"
        assert not (path / "quiet").exists() and not (path / ".messages.txt").exists()
        assert prefix.notes == (
            "the post-link script of chatty says: read me / printed",
            "link scripts were not run, of quiet; only `orch run --link-scripts NAME` runs one.",
        )
        assert {p.stat().st_mode & 0o222 for p in [path, *path.rglob("*")]} == {0}
        assert verify_prefix(path) == ()
    with use_prefix(lock_id, home=home, link_scripts=("chatty", "chatty"), verify="full") as again:
        assert not again.installed and again.path == path and again.notes == prefix.notes
    with use_prefix(lock_id, home=home, link_scripts=("quiet", "chatty")) as both:
        assert both.path not in (path, home.envs / lock_id) and (both.path / "quiet").exists()
    with use_prefix(lock_id, home=home) as plain:
        assert plain.path == home.envs / lock_id and not (plain.path / "told").exists()


def test_scripts_run_in_the_order_in_which_packages_need_each_other(home: Home, own: Path) -> None:
    say = "echo $PKG_NAME >> $PREFIX/order\n"
    packages = [
        replace(scripted(own, "alpha", say), depends=("beta >=1",)),
        replace(scripted(own, "beta", say), depends=("middle",)),
        replace(small_package(own, "middle", []), depends=("zeta", "alpha")),
        scripted(own, "zeta", say),
    ]
    with use_prefix(write_lock(home, packages), home=home, link_scripts=("alpha", "beta", "zeta")) as prefix:
        assert (prefix.path / "order").read_text().split() == ["zeta", "beta", "alpha"]


def test_python_files_that_a_script_makes_or_changes_are_compiled_as_they_are(
    home: Home, own: Path, channel: Path
) -> None:
    home.config.write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel}"]\n')
    script = (
        'site=$("$PREFIX/bin/python" -c "import six, sysconfig; print(sysconfig.get_path(\'purelib\'))")\n'
        'echo "print(42)" > "$site/made.py"\necho "__version__ = \'changed\'" >> "$site/six.py"\n'
    )
    packages = [
        *conda_packages(channel, "python", "python_abi", "six"),
        scripted(own, "maker", script, url=own.as_uri()),
    ]
    lock_id = write_lock(home, [*packages[:3], replace(packages[3], depends=("six",))])
    with use_prefix(lock_id, home=home, link_scripts=("maker",)) as prefix:
        python = prefix.path / "bin/python"
        said = subprocess.run(
            [python, "-c", "import made, six; print(six.__version__)"], capture_output=True, text=True
        )
        assert said.stdout.split() == ["42", "changed"]
        compiled = list(prefix.path.rglob("__pycache__/*.pyc"))
        assert {path.read_bytes()[4:8] for path in compiled} == {b"\1\0\0\0"}
        assert any(path.name.startswith("made.") for path in compiled)
    with use_prefix(lock_id, home=home, verify="full") as plain:
        said = subprocess.run(
            [plain.path / "bin/python", "-c", "import six; print(six.__version__)"], capture_output=True
        )
        assert said.stdout and b"changed" not in said.stdout


def test_a_script_that_writes_into_its_package_changes_no_other_prefix(home: Home, own: Path) -> None:
    data = Member("share/data.txt", b"as packed\n")
    lock_id = write_lock(home, [scripted(own, "writer", "echo changed > ../share/data.txt\n", data)])
    with use_prefix(lock_id, home=home) as plain, use_prefix(lock_id, home=home, link_scripts=("writer",)) as linked:
        assert (linked.path / "share/data.txt").read_text() == "changed\n"
        assert (plain.path / "share/data.txt").read_text() == "as packed\n"
        assert verify_prefix(plain.path) == () and verify_prefix(linked.path) == ()


def test_a_script_that_fails_is_told_with_its_last_lines_and_nothing_stays(home: Home, own: Path) -> None:
    script = "touch $PREFIX/half\necho no display for you\ncat /no/such/file\nexit 7\n"
    lock_id = write_lock(home, [scripted(own, "broken", script)])
    with pytest.raises(OrchError) as caught, use_prefix(lock_id, home=home, link_scripts=("broken",)):
        pass
    said = str(caught.value)
    assert said.startswith("the post-link script of broken failed with exit code 7.\n")
    assert "no display for you" in said and "/no/such/file" in said and "+ exit 7" in said
    assert left(home) == []
    with use_prefix(lock_id, home=home) as prefix:
        assert prefix.installed


def test_a_package_without_a_script_is_refused_with_those_that_have_one(home: Home, own: Path) -> None:
    packages = [small_package(own, "plain", []), scripted(own, "chatty", TELL)]
    with (
        pytest.raises(OrchError, match="plain: the package has no post-link script; only chatty has one"),
        use_prefix(write_lock(home, packages), home=home, link_scripts=("plain",)),
    ):
        pass
    assert left(home) == []


@pytest.mark.parametrize("victim", ["installer", "worker"])
def test_a_kill_while_a_script_runs_leaves_nothing_that_is_taken_for_a_prefix(
    home: Home, own: Path, tmp_path: Path, victim: str
) -> None:
    began, go_on = tmp_path / "began", tmp_path / "go-on"
    script = f"touch $PREFIX/early {began}\nuntil [ -e {go_on} ]; do sleep 0.02; done\ntouch $PREFIX/late\n"
    lock_id = write_lock(home, [scripted(own, "slow", script)])
    process = start(lock_id)
    wait_for(began)
    worker = psutil.Process(process.pid).children()[0]
    bash = worker.children()[0]
    (worker if victim == "worker" else process).kill()
    process.communicate(timeout=30)
    for gone in (bash, worker):  # while one lives, what it built is not swept
        gone.wait(10)
    assert left(home) == [] or victim == "installer"
    go_on.touch()
    with use_prefix(lock_id, home=home, link_scripts=("slow",)) as prefix:
        assert prefix.installed and prefix.mended is None and "." not in prefix.path.name
        assert (prefix.path / "late").exists() and verify_prefix(prefix.path) == ()
    assert left(home) == [prefix.path.name]


def start(lock_id: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, lock_id],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
