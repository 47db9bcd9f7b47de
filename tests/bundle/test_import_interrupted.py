"""An import that is killed, or finds the disk full: the run is there whole, or not at all."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle.attacked import listing
from bundle.made_bundle import ORCH, Parts, parts_of, shared_bundle
from made_disk import small_disk

from orchestrator import source, store
from orchestrator.bundle.land import import_bundle
from orchestrator.bundle.layout import METRICS, RECORD, SPEC, STDOUT, source_member
from orchestrator.bundle.run_json import run_json
from orchestrator.environment import locked_packages
from orchestrator.environment.kept import kept_whole
from orchestrator.execute.rundir import RunDirectory
from orchestrator.ledger import read_run
from orchestrator.paths import Home, open_home

KILLS = 30


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Path:
    return shared_bundle(tmp_path_factory, channel)


def orch(home: Path, *arguments: object, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [ORCH, *map(str, arguments)],
        env={**os.environ, "ORCH_HOME": str(home), **options.pop("env", {})},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
        **options,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def shown(home: Path) -> list[Any]:
    return json.loads(orch(home, "list", "--json").stdout)  # type: ignore[no-any-return]


def is_whole(home: Home, parts: Parts) -> bool:
    """Whether the run of the bundle is in the home; then all of it must be."""
    record = read_run(home, parts.run_id)
    if record is None:
        assert not home.run(parts.run_id).exists()
        return False
    assert run_json(record) == (parts.members[SPEC], parts.members[RECORD], parts.members[METRICS])
    for name in parts.members:
        if name.startswith("blobs/"):
            assert store.verify_blob(home, Path(name).name)
    assert RunDirectory(home.run(parts.run_id)).stdout.read_bytes() == parts.members[STDOUT]
    for url, commit in source.commits_of(record.spec.source):
        out = io.BytesIO()
        source.write_objects(url, commit, out, home=replace(home, offline=True))
        assert out.getvalue() == parts.members[source_member(commit)]
    packages = locked_packages(home, record.spec.environment.lock_id)
    assert len(kept_whole(home, packages)) == len([name for name in parts.members if name.startswith("packages/")])
    return True


def test_a_killed_import_leaves_the_run_whole_or_not_at_all(real: Path, tmp_path: Path) -> None:
    parts, place = parts_of(real), tmp_path / "home"
    began = time.monotonic()
    import_bundle(real, home=open_home({"ORCH_HOME": str(tmp_path / "other")}))
    longest = time.monotonic() - began
    chosen, came = random.Random(7), []
    for number in range(KILLS):
        home = open_home({"ORCH_HOME": str(place)})
        process = _importing(real, home)
        time.sleep(longest * chosen.uniform(0.0, 1.2))
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        came.append(is_whole(home, parts))
        if came[-1] or number % 4 == 3:  # the others begin with what killed ones have left
            assert import_bundle(real, home=home).new is not came[-1]
            assert is_whole(home, parts)
            shutil.rmtree(place)
    assert {*came} == {False, True}


def _importing(file: Path, home: Home) -> int:
    """A process that imports a bundle, and leads its group; it has begun."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.setsid()
        os.close(writer)
        os.close(reader)
        try:
            import_bundle(file, home=home)
        finally:
            os._exit(0)
    os.close(writer)
    os.read(reader, 1)  # its end tells of the group
    os.close(reader)
    return process


def test_a_home_in_which_an_import_was_killed_is_as_good_as_any(real: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for seconds in (0.6, 0.8, 1.0):
        process = subprocess.Popen(
            [ORCH, "bundle", "import", real], env={**os.environ, "ORCH_HOME": str(home)}, start_new_session=True
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        orch(home, "list")
    run_id = orch(home, "bundle", "import", real).stdout.strip()
    before = shown(home)
    assert [run["run_id"] for run in before] == [run_id]
    orch(home, "ledger", "rebuild")
    assert shown(home) == before
    orch(home, "get", run_id, "-o", tmp_path / "brought")
    assert (tmp_path / "brought" / "last").read_text() == "nested 5.1"
    orch(home, "bundle", "create", run_id, "-o", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == real.read_bytes()


def test_an_import_that_fills_the_disk_leaves_nothing_half(real: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "640k") as disk:
        home = disk / "home"
        orch(home, "list")
        before = listing(home)
        for left in (8, 40, 80, 120, 160, 200):
            filled = disk / "filled"
            with filled.open("wb") as file:
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                file.write(bytes(max(0, free - left * 1024)))
            done = subprocess.run(
                [ORCH, "bundle", "import", real],
                env={**os.environ, "ORCH_HOME": str(home)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            filled.unlink()
            if done.returncode == 0:
                break
            said = done.stderr.strip().splitlines()[-1]
            assert done.returncode == 125, done.stderr
            assert said.startswith("orch: "), done.stderr
            assert str(home) in said or "No space left on device" in said, done.stderr  # git tells nothing of the disk
            assert "Traceback" not in done.stderr
            print(left, said)
            # Where only the ledger, an index, could not be written, the run is there.
            came = is_whole(open_home({"ORCH_HOME": str(home)}), parts_of(real))
            assert [run["run_id"] for run in shown(home)] == [parts_of(real).run_id] * came
            assert not [name for name in listing(home).keys() - before.keys() if name.startswith("store/incoming")]
        orch(home, "bundle", "import", real)
        assert is_whole(open_home({"ORCH_HOME": str(home)}), parts_of(real))


def test_a_bundle_that_does_not_fit_on_the_disk_is_not_left_half(real: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    orch(home, "bundle", "import", real)
    with small_disk(tmp_path / "disk", "24k") as disk:
        done = orch(home, "bundle", "create", "latest", "-o", disk / "b.zip", code=125)
        assert "No space left on device" in done.stderr
        assert list(disk.iterdir()) == []
