"""`orch env prune`: what no run needs goes, whole; what a run needs or uses stays, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_locks import keep, make_wheel, pip_package, small_package, write_lock

from e2e.conftest import CONDA_FORGE, ORCH, mlproject, orch, orch_json
from orchestrator.environment.package import Member
from orchestrator.environment.repodata import write_indexes
from orchestrator.paths import Home, open_home

Make = Callable[..., Path]

DAY = 86400


@pytest.fixture
def home(cold_home: Path, tmp_path: Path) -> Home:
    """A home whose channel has the packages `base`, `one` and `two`, of 600 kB each."""
    channel = tmp_path / "own"
    for name in ("base", "one", "two"):
        members = [Member(f"share/{name}/{n}", f"{name} {n}\n".encode() * 10_000) for n in range(10)]
        small_package(channel, name, members)
    write_indexes(channel)
    (cold_home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel}"]\n')
    return open_home()


@pytest.fixture
def project(make_project: Make, home: Home) -> Callable[..., Path]:
    """A function that makes a project with a package of that name, whose run prints what the package has."""

    def make(name: str, command: str = "", **options: Any) -> Path:
        yaml = f"channels: [conda-forge]\ndependencies: [base, {name}]\n"
        command = command or f"ls $CONDA_PREFIX/share/{name}"
        return make_project({"MLproject": mlproject(command), "conda.yaml": yaml}, name, **options)

    return make


def let_pass(home: Home, days: float) -> None:
    """Make all that tells of use so much older. The inside of prefixes is left: a change there is a drift."""
    places = [*home.locks.rglob("*"), *home.envs.glob(".locks/*"), *home.cache.rglob("*")]
    for mirror in home.sources.glob("*.git"):
        places += [mirror, *mirror.iterdir()]
    for place in places:
        if not place.is_symlink():
            then = place.stat().st_mtime - days * DAY
            os.utime(place, (then, then))


def installed(home: Home) -> set[str]:
    return {path.name for path in home.envs.iterdir() if not path.name.startswith(".")}


def mirrors(home: Home) -> set[str]:
    return {path.name.rpartition("-")[0] for path in home.sources.glob("*.git")}


def extracted(home: Home) -> set[str]:
    return {path.name.partition("-")[0] for path in (home.cache / "pkgs").iterdir() if path.is_dir()}


def disk_use(*folders: Path) -> int:
    done = subprocess.run(["du", "-s", "-B1", *folders, "--total"], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1].split()[0])


def lock_of(run: dict[str, Any]) -> str:
    return str(run["spec"]["environment"]["lock_id"])


def test_what_a_removed_run_needed_goes_and_what_a_kept_one_needs_stays(home: Home, project: Make) -> None:
    kept, removed = project("one"), project("two")
    kept_lock, removed_lock = lock_of(orch_json("run", kept)), lock_of(orch_json("run", removed))
    orch("rm", "latest")
    let_pass(home, 2)
    before = disk_use(home.root)

    gone = orch_json("env", "prune")

    assert {(thing["kind"], thing["name"][:16]) for thing in gone} == {
        ("environment", removed_lock[:16]),
        ("lock", removed_lock[:16]),
        ("package", "two-1.0-0"),
        ("mirror", next(t["name"] for t in gone if t["kind"] == "mirror")[:16]),
    }
    assert installed(home) == {kept_lock}
    assert extracted(home) == {"base", "one"}
    assert mirrors(home) == {"one"}
    freed = sum(thing["bytes"] for thing in gone)
    assert freed > 600_000
    assert abs(before - disk_use(home.root) - freed) < 64 * 1024
    again = orch("run", kept)
    assert "solving" not in again.stderr
    assert "installing" not in again.stderr
    assert orch("run", removed).stdout.split() == [str(n) for n in range(10)]
    assert orch("env", "prune").stdout == "nothing to remove.\n"


def test_what_was_used_today_stays(home: Home, project: Make) -> None:
    orch("env", "exec", project("one"), "true")
    assert orch("env", "prune").stdout == "nothing to remove.\n"
    let_pass(home, 0.9)
    assert orch("env", "prune").stdout == "nothing to remove.\n"
    let_pass(home, 0.2)
    assert {thing["kind"] for thing in orch_json("env", "prune")} == {"environment", "lock", "package", "mirror"}


def test_a_dry_run_removes_nothing_and_says_what_would_go(home: Home, project: Make) -> None:
    orch("run", project("one"))
    orch("rm", "latest")
    let_pass(home, 2)
    before = disk_use(home.root)
    planned = orch_json("env", "prune", "--dry-run")
    assert orch("env", "prune", "--dry-run").stdout.endswith(" would be freed\n")
    assert abs(disk_use(home.root) - before) < 64 * 1024
    done = orch_json("env", "prune")
    assert [(t["kind"], t["name"]) for t in planned] == [(t["kind"], t["name"]) for t in done]
    assert abs(sum(t["bytes"] for t in planned) - sum(t["bytes"] for t in done)) < 64 * 1024


def test_with_days_what_a_run_needs_goes_and_is_installed_again(home: Home, project: Make) -> None:
    folder = project("one")
    run = orch_json("run", folder)
    let_pass(home, 10)
    orch("env", "prune", "--days", 11)
    assert installed(home) == {lock_of(run)}
    said = orch("env", "prune", "--days", 9).stdout
    assert said.splitlines()[0].split()[:2] == ["environment", lock_of(run)[:16]]
    assert "  package      2 packages" in said
    assert installed(home) == set()
    assert extracted(home) == set()
    assert (home.locks / lock_of(run)).is_dir()
    assert mirrors(home) == {"one"}
    again = orch("run", folder)
    assert "solving" not in again.stderr
    assert "installing 2 packages" in again.stderr


def test_what_only_the_environment_still_links_to_frees_nothing(home: Home, project: Make) -> None:
    orch("run", project("one"))
    with using(home):
        let_pass(home, 10)
        before = disk_use(home.root)
        gone = orch_json("env", "prune", "--days", 5)
        assert {thing["kind"] for thing in gone} == {"package", "cache"}
        freed = sum(thing["bytes"] for thing in gone)
        assert freed < 500_000
        assert abs(before - disk_use(home.root) - freed) < 64 * 1024


@contextmanager
def using(home: Home) -> Iterator[None]:
    """Every installed environment in use, as a live run has it."""
    files = [(home.envs / ".locks" / name).open() for name in installed(home)]
    try:
        for file in files:
            fcntl.flock(file, fcntl.LOCK_SH)
        yield
    finally:
        for file in files:
            file.close()


def test_the_environment_of_a_live_run_is_left(home: Home, project: Make, tmp_path: Path) -> None:
    go = tmp_path / "go"
    folder = project("one", f"echo begun; until [ -e {go} ]; do sleep 0.05; done; ls $CONDA_PREFIX/share/one")
    run = subprocess.Popen([ORCH, "run", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "begun\n"
    let_pass(home, 40)
    assert "environment" not in orch("env", "prune", "--days", 0).stdout
    go.touch()
    assert len(run.communicate(timeout=60)[0].split()) == 10
    assert run.returncode == 0


def test_a_mirror_with_uncommitted_work_of_a_run_stays(home: Home, project: Make) -> None:
    kept, removed = project("one", commit=False), project("two", commit=False)
    run = orch_json("run", kept)
    orch("run", removed)
    orch("rm", "latest")
    shutil.rmtree(kept)
    let_pass(home, 400)
    orch("env", "prune", "--days", 0)
    assert mirrors(home) == {"one"}
    mirror = next(home.sources.glob("*.git"))
    subprocess.run(["git", "-C", mirror, "cat-file", "-e", run["spec"]["source"]["commit"]], check=True)


def test_a_wheel_that_was_built_here_stays_with_its_lock(home: Home, tmp_path: Path) -> None:
    for name in ("kept", "dropped"):
        wheel = make_wheel(tmp_path, name, {f"{name}.py": "x = 1\n"})
        keep(home, wheel)
        lock_id = write_lock(home, [pip_package(wheel, "git+https://example.org/it@" + "a" * 40)])
        if name == "dropped":
            shutil.rmtree(home.locks / lock_id)
    (home.cache / "uv" / "archive-v0").mkdir(parents=True)
    orch("env", "prune")
    assert (home.cache / "uv").exists()
    assert [path.name for path in home.cache.glob("wheels/*/*")] == ["kept-1.0-py3-none-any.whl"]
    let_pass(home, 0.5)
    assert {thing["kind"] for thing in orch_json("env", "prune", "--days", 0)} == {"wheel", "lock", "cache"}
    assert list(home.cache.glob("wheels/*/*")) == []


def test_locks_for_other_platforms_stay_with_the_run_or_the_lock_that_they_came_with(
    home: Home, project: Make, tmp_path: Path
) -> None:
    locks = [write_lock(home, [pip_package(make_wheel(tmp_path, name, {}), "")]) for name in "abcd"]
    of_run, lock_id, of_lock, of_none = locks
    orch("run", project("one"))
    journal = next(home.runs.iterdir()) / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"others":{}', f'"others":{{"osx-arm64":"{of_run}"}}'))
    let_pass(home, 3)
    entry = {"lock_id": lock_id, "others": {"osx-arm64": of_lock}}
    (home.locks / "by-source" / "now.json").write_text(json.dumps(entry))
    assert [thing["name"] for thing in orch_json("env", "prune") if thing["kind"] == "lock"] == [of_none]
    let_pass(home, 3)
    gone = {thing["name"] for thing in orch_json("env", "prune") if thing["kind"] == "lock"}
    assert gone == {lock_id, of_lock}
    assert not (home.locks / "by-source" / "now.json").exists()


def test_in_a_folder_that_was_moved_what_another_home_may_need_stays(home: Home, project: Make, tmp_path: Path) -> None:
    with home.config.open("a") as config:
        config.write(f'[paths]\nenvs = "{tmp_path / "envs"}"\ncache = "{tmp_path / "cache"}"\n')
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    shutil.copy(home.config, other)
    orch("run", project("one"))
    shared = open_home()
    wheel = shared.cache / "wheels" / ("a" * 64) / "built-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    let_pass(shared, 5)
    orch("env", "prune", "--days", 0, env={"ORCH_HOME": str(other)})
    assert len(installed(shared)) == 1
    assert wheel.exists()
    orch("env", "prune", "--days", 0)
    assert installed(shared) == set()
    assert wheel.exists()
    assert orch("run", project("two")).stdout


def test_all_variants_and_generations_of_an_environment_are_known(home: Home) -> None:
    lock_id = "ab" * 32
    for name in (lock_id, f"{lock_id}.2", f"{lock_id}-{'c' * 16}", f"{lock_id}-{'c' * 16}.1", "not-ours"):
        (home.envs / name).mkdir()
        os.utime(home.envs / name, (1e9, 1e9))
    (home.envs / ("cd" * 32)).mkdir()
    orch("env", "prune")
    assert installed(home) == {"cd" * 32, "not-ours"}


@pytest.mark.parametrize("line", ['{"event": "created", "spec": {}}', '{"event": "created", "spec'])
def test_a_run_whose_record_is_damaged_keeps_all_locks_and_mirrors(home: Home, project: Make, line: str) -> None:
    orch("run", project("one"))
    orch("env", "exec", project("two"), "true")
    run = next(home.runs.iterdir())
    (run / "journal.jsonl").write_text(f'{line}\n{{"event": "ended", "status": "finished"}}\n')
    home.ledger.unlink()
    let_pass(home, 5)
    done = orch("env", "prune")
    assert f"what run {run.name} needs is not known: " in done.stderr
    assert done.stdout == "nothing to remove.\n"
    assert len(installed(home)) == 2
    assert mirrors(home) == {"one", "two"}


def test_a_run_that_the_ledger_does_not_know_is_kept(home: Home, project: Make) -> None:
    orch("run", project("one"))
    home.ledger.unlink()
    let_pass(home, 5)
    assert orch("env", "prune").stdout == "nothing to remove.\n"


def test_a_run_whose_directory_is_gone_is_kept_for_the_ledger(home: Home, project: Make) -> None:
    orch("run", project("one"))
    shutil.rmtree(next(home.runs.iterdir()))
    let_pass(home, 5)
    assert orch("env", "prune").stdout == "nothing to remove.\n"


def test_of_two_generations_the_one_that_is_as_it_was_built_stays(home: Home, project: Make) -> None:
    folder = project("one")
    orch("run", folder)
    first = home.envs / next(iter(installed(home)))
    with using(home):
        (first / "share/one").chmod(0o755)
        (first / "share/one/new").touch()
        orch("run", folder)
    assert installed(home) == {first.name, f"{first.name}.1"}
    let_pass(home, 2)
    assert [thing["name"] for thing in orch_json("env", "prune")] == [first.name]
    assert "installing" not in orch("run", folder).stderr


def test_while_a_run_is_prepared_locks_and_mirrors_stay(home: Home, project: Make) -> None:
    orch("run", project("one"))
    orch("rm", "latest")
    let_pass(home, 5)
    (home.runs / ("0" * 31 + "1")).mkdir()
    done = orch("env", "prune", "--days", 0)
    assert "a run is being prepared" in done.stderr
    assert "lock " not in done.stdout
    assert "mirror " not in done.stdout
    assert "environment " in done.stdout


def test_while_packages_are_fetched_the_caches_stay(home: Home, project: Make) -> None:
    orch("run", project("one"))
    let_pass(home, 5)
    job = home.cache / "jobs" / "of-another"
    job.mkdir()
    fd = os.open(job, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    done = orch("env", "prune", "--days", 0)
    os.close(fd)
    assert "the caches stay as they are" in done.stderr
    assert "package " not in done.stdout
    assert extracted(home) == {"base", "one"}


def test_runs_succeed_while_all_that_can_go_goes(home: Home, project: Make) -> None:
    folders = [project("one"), project("two")]
    for folder in folders:
        orch("run", folder)
    runs: list[subprocess.Popen[str]] = []
    while len(runs) < 6:
        for folder in folders:
            command = [str(ORCH), "run", str(folder)]
            runs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        prunes = [subprocess.Popen([ORCH, "env", "prune", "--days", "0"], stdout=subprocess.DEVNULL) for _ in "ab"]
        assert [prune.wait(timeout=60) for prune in prunes] == [0, 0]
    for run in runs:
        out, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        assert len(out.split()) == 10


def test_killed_at_any_moment_a_thing_is_whole_or_gone(home: Home, project: Make) -> None:
    folder = project("one")
    chance = random.Random(1)
    deadline = time.monotonic() + 60
    killed = 0
    while killed < 3:
        assert time.monotonic() < deadline
        orch("run", folder)
        orch("rm", "latest")
        let_pass(home, 2)
        prune = subprocess.Popen([ORCH, "env", "prune"], stdout=subprocess.DEVNULL)
        while prune.poll() is None and not list(home.root.glob("*/.pruned")):
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
        prune.kill()
        killed += prune.wait() != 0
    assert len(orch("run", folder).stdout.split()) == 10
    orch("rm", "latest")
    let_pass(home, 2)
    orch("env", "prune")
    assert installed(home) == extracted(home) == mirrors(home) == set()
    assert list(home.root.glob("*/.pruned")) == []


def test_what_a_killed_prune_left_is_removed_and_counted(home: Home) -> None:
    left = home.envs / ".pruned" / "something" / "inside"
    left.mkdir(parents=True)
    (left / "file").write_bytes(b"x" * 100_000)
    left.chmod(0o555)
    thing = json.loads(orch("env", "prune", "--json").stdout)[0]
    assert (thing["kind"], thing["bytes"] >= 100_000) == ("left over", True)
    assert not (home.envs / ".pruned").exists()


def test_what_killed_writers_and_imports_left_is_removed_when_it_is_old(home: Home) -> None:
    left = [home.store / "incoming" / "bundle-1", home.store / "incoming" / "2-ab", home.runs / ".imported-3"]
    for place in (left[0], left[2]):
        (place / "blobs").mkdir(parents=True)
    left[1].write_bytes(b"part of a file")
    orch("env", "prune")
    assert all(place.exists() for place in left)  # they may be of an import that is at work
    let_pass(home, 2)
    for place in left:
        os.utime(place, (time.time() - 2 * 86400,) * 2)
    orch("env", "prune")
    assert not any(place.exists() for place in left)


def test_what_cannot_be_removed_is_a_failure_and_the_rest_goes(home: Home, project: Make) -> None:
    orch("env", "exec", project("one"), "true")
    let_pass(home, 2)
    (home.envs / ".pruned").write_text("in the way")
    done = orch("env", "prune", "--days", 1, code=125)
    (environment,) = installed(home)
    assert f"orch: {home.envs / environment} can't be moved aside: " in done.stderr
    assert extracted(home) == mirrors(home) == set()

    (home.envs / ".pruned").unlink()
    orch("env", "prune")
    assert installed(home) == set()


def test_wrong_days_are_refused(home: Home) -> None:
    orch("env", "prune", "--days", "-1", code=2)
    orch("env", "prune", "--days", "soon", code=2)
