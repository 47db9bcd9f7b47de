"""`orch bundle`: a run in one file, done again where nothing of it was known."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import CONDA_YAML, ORCH, git, mlproject, orch, orch_json

Make = Callable[..., Path]

PROGRAM = """
import os, pathlib, sys
data = pathlib.Path("inputs/data.csv")
rows = data.read_text().splitlines() if data.exists() else []
pathlib.Path("out").mkdir()
pathlib.Path("out/sum.txt").write_text(str(float(sys.argv[1]) + sum(map(float, rows))))
os.symlink("out/sum.txt", "last")
print("done")
"""


@pytest.fixture
def project(make_project: Make, orch_home: Path) -> Path:
    """A project of one Python program, with a parameter."""
    files = {"MLproject": mlproject("python main.py {alpha}", "alpha: {type: float, default: 1}")}
    return make_project(files | {"conda.yaml": CONDA_YAML, "main.py": PROGRAM})


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """A function that gives the environment of another machine, by its name: an empty `ORCH_HOME`."""

    def machine(name: str = "elsewhere") -> dict[str, str]:
        return {"ORCH_HOME": str(tmp_path / name)}

    return machine


def bundled(tmp_path: Path, *options: object, name: str = "run.zip") -> Path:
    orch("bundle", "create", *options, "-o", tmp_path / name)
    return tmp_path / name


def without_network(*arguments: object, env: Mapping[str, str], code: int = 0) -> subprocess.CompletedProcess[str]:
    """`orch` in a network namespace of its own, that has a loopback and no other way out."""
    script = (
        "import fcntl, os, socket, struct, sys\n"
        "link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "fcntl.ioctl(link, 0x8914, struct.pack('16sH14x', b'lo', 1))  # SIOCSIFFLAGS: up\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    command = ["unshare", "--user", "--map-current-user", "--net", sys.executable, "-c", script]
    if os.geteuid() == 0:
        command[1:3] = []
    if subprocess.run([*command[: command.index(sys.executable)], "true"], capture_output=True).returncode:
        pytest.skip("this machine makes no network namespaces")
    done = subprocess.run(
        [*command, ORCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_a_bundle_is_all_it_takes_without_network_and_repository(
    project: Path, tmp_path: Path, elsewhere: Callable[[str], dict[str, str]]
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1\n2\n")
    run = orch_json("run", project, "-P", "alpha=5.1", "--input", data, "-q")
    file = bundled(tmp_path, "--offline")
    shutil.rmtree(project)
    data.unlink()

    there = elsewhere("there")
    done = without_network("replay", file, "--yes", "--json", env=there)
    record = json.loads(done.stdout)
    assert record["verdict"]["result"] == "reproduced"
    assert record["replay_of"] == run["run_id"]
    assert {item["path"]: item["result"] for item in record["verdict"]["outputs"]} == {
        "last": "identical",
        "out/sum.txt": "identical",
    }
    first = orch_json("show", run["run_id"], env=there)
    assert first["bundle"] is not None
    for key in ("spec_id", "outputs", "metrics", "params", "started_at", "ended_at", "exit_code", "status", "usage"):
        assert first[key] == run[key]
    assert orch("logs", run["run_id"], env=there).stdout == "done\n"
    orch("get", run["run_id"], "-o", tmp_path / "got", env=there)
    assert (tmp_path / "got/out/sum.txt").read_text() == "8.1"
    assert (tmp_path / "got/last").is_symlink()


def test_the_same_run_gives_the_same_bytes_here_and_where_it_was_imported(
    project: Path, tmp_path: Path, elsewhere: Callable[[str], dict[str, str]]
) -> None:
    orch("run", project)
    one, two = bundled(tmp_path, name="one.zip"), bundled(tmp_path, name="two.zip")
    assert one.read_bytes() == two.read_bytes()
    there = elsewhere("there")
    run_id = orch("bundle", "import", one, env=there).stdout.strip()
    orch("bundle", "create", run_id, "-o", tmp_path / "three.zip", env=there)
    assert (tmp_path / "three.zip").read_bytes() == one.read_bytes()
    full = bundled(tmp_path, "--offline", name="full.zip")
    orch("bundle", "import", full, env=there)
    orch("bundle", "create", "--offline", "-o", tmp_path / "again.zip", env=there)
    assert (tmp_path / "again.zip").read_bytes() == full.read_bytes()


def test_verify_says_whose_run_it_is_and_keeps_nothing(
    project: Path, tmp_path: Path, elsewhere: Callable[[str], dict[str, str]]
) -> None:
    (project / "main.py").write_text(PROGRAM + "print('more')\n")
    run = orch_json("run", project, "-P", "alpha=2.5", "-q")
    there = elsewhere("there")
    said = orch("bundle", "verify", bundled(tmp_path), env=there).stdout
    assert "whole and undamaged" in said
    for text in (run["run_id"], run["spec"]["source"]["commit"], "not committed", "python main.py {alpha}", "2.5"):
        assert text in said
    assert not Path(there["ORCH_HOME"]).exists()


def test_a_run_of_somebody_else_is_replayed_only_with_consent(
    project: Path, tmp_path: Path, warm_elsewhere: dict[str, str]
) -> None:
    run = orch_json("run", project, "-q")
    file = bundled(tmp_path)
    done = orch("replay", file, code=2, env=warm_elsewhere)
    assert "--yes" in done.stderr
    assert run["spec"]["source"]["commit"] in done.stderr
    for _ in range(2):  # it is there now, and it is still somebody else's
        assert "nothing of it was run" in answered("n\n", "replay", file, code=125, env=warm_elsewhere)
    assert [row["run_id"] for row in orch_json("list", env=warm_elsewhere)] == [run["run_id"]]
    assert "somebody agrees" in orch("replay", run["run_id"], code=2, env=warm_elsewhere).stderr
    said = answered("y\n", "replay", file, code=0, env=warm_elsewhere)
    assert "reproduced: run " in said
    orch("replay", run["run_id"], "--yes", env=warm_elsewhere)
    assert "somebody agrees" not in orch("replay", run["run_id"]).stderr  # at home it is one's own


def test_a_replay_travels_too_and_stands_for_itself(
    project: Path, tmp_path: Path, warm_elsewhere: dict[str, str]
) -> None:
    run = orch_json("run", project, "-q")
    replayed = json.loads(orch("replay", "--json").stdout)
    file = bundled(tmp_path)
    record = json.loads(orch("replay", "--yes", "--json", file, env=warm_elsewhere).stdout)
    assert record["replay_of"] == replayed["run_id"]
    assert "of somebody else" in orch("replay", "--compare", replayed["run_id"], code=125, env=warm_elsewhere).stderr
    imported = orch_json("show", replayed["run_id"], env=warm_elsewhere)
    assert (imported["replay_of"], imported["verdict"]) == (run["run_id"], None)
    assert "not compared" not in orch("list", env=warm_elsewhere).stdout


def test_a_replay_that_comes_home_is_held_against_itself_and_asked_about(
    project: Path, tmp_path: Path, orch_home: Path, warm_elsewhere: dict[str, str]
) -> None:
    run = orch_json("run", project, "-q")
    orch("bundle", "import", bundled(tmp_path), env=warm_elsewhere)
    replayed = json.loads(orch("replay", "--yes", "--json", run["run_id"], env=warm_elsewhere).stdout)
    assert replayed["replay_of"] == run["run_id"]
    file = tmp_path / "back.zip"
    orch("bundle", "create", replayed["run_id"], "-o", file, env=warm_elsewhere)
    assert "somebody agrees" in orch("replay", file, code=2).stderr
    assert json.loads(orch("replay", file, "--yes", "--json").stdout)["replay_of"] == replayed["run_id"]


def test_what_a_program_says_of_its_own_place_comes_out_again(
    make_project: Make, orch_home: Path, tmp_path: Path, elsewhere: Callable[[str], dict[str, str]]
) -> None:
    with (orch_home / "config.toml").open("a") as config:
        config.write(f'work = "{tmp_path / "scratch" / "jobs"}"\n')
    command = "pwd > place.txt; echo $HOME > home.txt; echo run $ORCH_RUN_ID in $HOME > run.txt"
    orch("run", make_project({"MLproject": mlproject(command), "conda.yaml": CONDA_YAML}))
    file = bundled(tmp_path, "--offline")
    for name, home in (("same", {}), ("other", {"HOME": str(tmp_path / "another user")})):
        done = orch("replay", "--yes", "--json", file, env=elsewhere(name) | home, code=None)
        found = json.loads(done.stdout)["verdict"]["outputs"]
        assert {item["path"]: item["result"] for item in found}.items() >= {"place.txt": "equivalent"}.items(), name
        assert {item["result"] for item in found} <= {"identical", "equivalent"}, (name, found)


def test_an_imported_run_takes_nothing_over(
    project: Path, tmp_path: Path, orch_home: Path, warm_elsewhere: dict[str, str]
) -> None:
    own = orch_json("run", project, "--run-name", "best", "-q", env=warm_elsewhere)
    orch("run", project, "--run-name", "best")
    orch("bundle", "import", bundled(tmp_path), env=warm_elsewhere)
    for name in ("latest", "best"):
        assert orch_json("show", name, env=warm_elsewhere)["run_id"] == own["run_id"]


@pytest.mark.parametrize("command", [["exec", "-y"], ["exec"], ["shell"]])
def test_the_environment_of_an_imported_run_is_used_with_consent(
    project: Path, tmp_path: Path, warm_elsewhere: dict[str, str], command: list[str]
) -> None:
    run = orch_json("run", project, "--env", f"BASH_ENV={tmp_path}/evil", "-q")
    (tmp_path / "evil").write_text(f"touch {tmp_path}/executed\n")
    orch("bundle", "import", bundled(tmp_path), env=warm_elsewhere)
    program = ["--", "bash", "-c", "true"] if command[0] == "exec" else []
    done = orch("env", *command, run["run_id"], *program, code=0 if "-y" in command else 2, env=warm_elsewhere)
    assert f"BASH_ENV = {tmp_path}/evil" in done.stderr
    assert (tmp_path / "executed").exists() == ("-y" in command)


def test_imports_of_one_bundle_at_once_all_succeed(
    project: Path, tmp_path: Path, warm_elsewhere: dict[str, str]
) -> None:
    run = orch_json("run", project, "-q")
    file = bundled(tmp_path)
    environ = {**os.environ, **warm_elsewhere}
    for _ in range(3):
        imports = [
            subprocess.Popen([ORCH, "bundle", "import", file], env=environ, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        assert [process.communicate()[0] for process in imports] == [run["run_id"] + "\n"] * 4
        assert [process.returncode for process in imports] == [0] * 4
        assert list(Path(warm_elsewhere["ORCH_HOME"]).glob("runs/.imported*")) == []
        orch("rm", run["run_id"], env=warm_elsewhere)


def test_runs_of_the_same_id_that_tell_something_else_are_refused(
    make_project: Make, orch_home: Path, tmp_path: Path
) -> None:
    program = "import os\nopen(os.environ['ORCH_EVENTS'], 'a').write('{\"metric\": \"acc\", \"value\": 0.5}\\n')\n"
    files = {"MLproject": mlproject("python main.py"), "conda.yaml": CONDA_YAML, "main.py": program}
    run = orch_json("run", make_project(files), "-q")
    file = bundled(tmp_path)
    journal = orch_home / "runs" / run["run_id"] / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"value":0.5', '"value":0.6'))
    assert "is not the one of" in orch("bundle", "import", file, code=125).stderr


def test_a_run_with_a_folder_that_is_not_there_does_not_keep_others_from_being_removed(
    project: Path, tmp_path: Path, warm_elsewhere: dict[str, str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("1\n")
    orch("run", project, "--input", folder)
    orch("bundle", "create", "--no-inputs", "-o", tmp_path / "bare.zip")
    orch("bundle", "import", tmp_path / "bare.zip", env=warm_elsewhere)
    imported = orch_json("list", env=warm_elsewhere)[0]
    (listing,) = [item["sha256"] for item in imported["spec"]["inputs"]]
    blob = Path(warm_elsewhere["ORCH_HOME"]) / "store" / listing[:2] / listing[2:]
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(b"no listing at all")
    other = orch_json("run", project, "-q", env=warm_elsewhere)
    orch("rm", other["run_id"], env=warm_elsewhere)
    orch("rm", imported["run_id"], env=warm_elsewhere)
    assert orch_json("list", env=warm_elsewhere) == []


def test_who_opens_a_bundle_without_orch_finds_what_it_is(project: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1\n")
    run = orch_json("run", project, "-P", "alpha=2.5", "--input", data, "-q")
    with zipfile.ZipFile(bundled(tmp_path)) as archive:
        text = archive.read("README.txt").decode()
        assert archive.namelist()[0] == "README.txt"
        named = [line.rpartition(": ")[2] for line in text.splitlines() if line.startswith(("  output", "  input"))]
        assert [archive.read(name) for name in named if name.startswith("blobs/")] == [b"3.5", b"1\n"]
    for part in (
        run["run_id"],
        run["spec"]["source"]["commit"],
        "python main.py {alpha}",
        "alpha = 2.5",
        "orch replay",
    ):
        assert part in text


def test_an_imported_run_is_no_answer_for_cached(project: Path, tmp_path: Path, warm_elsewhere: dict[str, str]) -> None:
    orch("run", project)
    orch("bundle", "import", bundled(tmp_path), env=warm_elsewhere)
    done = orch("run", project, "--cached", env=warm_elsewhere)
    assert "cached" not in done.stderr
    assert "cached" in orch("run", project, "--cached", env=warm_elsewhere).stderr


def test_importing_again_changes_nothing_and_brings_what_is_lost(
    project: Path, tmp_path: Path, warm_elsewhere: dict[str, str]
) -> None:
    run = orch_json("run", project, "-q")
    file = bundled(tmp_path)
    orch("bundle", "import", file, env=warm_elsewhere)
    home = Path(warm_elsewhere["ORCH_HOME"])
    (output,) = [o for o in run["outputs"] if "link" not in o]
    blob = home / "store" / output["sha256"][:2] / output["sha256"][2:]
    blob.unlink()
    done = orch("bundle", "import", file, env=warm_elsewhere)
    assert "is here already" in done.stderr
    assert blob.exists()
    assert len(orch_json("list", env=warm_elsewhere)) == 1
    orch("rm", run["run_id"], env=warm_elsewhere)
    assert not blob.exists()
    assert orch_json("list", env=warm_elsewhere) == []
    orch("bundle", "import", file, env=warm_elsewhere)
    assert orch_json("list", env=warm_elsewhere)[0]["run_id"] == run["run_id"]


def test_a_folder_of_inputs_travels_or_is_named_again(
    project: Path, tmp_path: Path, warm_elsewhere: dict[str, str]
) -> None:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/a.csv").write_text("1\n")
    (folder / "b.csv").write_text("2\n")
    orch("run", project, "--input", folder)
    whole, bare = bundled(tmp_path, name="whole.zip"), tmp_path / "bare.zip"
    assert "it lacks 1 input" in orch("bundle", "create", "--no-inputs", "-o", bare).stderr
    assert not any(zipfile.ZipFile(bare).read(name) == b"1\n" for name in zipfile.ZipFile(bare).namelist())
    moved = folder.rename(tmp_path / "moved")
    said = orch("bundle", "import", bare, env=warm_elsewhere).stderr
    assert "came without inputs/data" in said
    assert "not in the bundle" in orch("replay", "--yes", "latest", code=125, env=warm_elsewhere).stderr
    orch("replay", "--yes", "latest", "--input", f"{moved}=inputs/data", env=warm_elsewhere)
    shutil.rmtree(moved)
    orch("bundle", "import", whole, env=warm_elsewhere)
    run_id = orch_json("list", env=warm_elsewhere)[-1]["run_id"]
    orch("replay", "--yes", run_id, env=warm_elsewhere)


def test_what_a_bundle_needs_and_is_gone_is_said(project: Path, tmp_path: Path, orch_home: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1\n")
    run = orch_json("run", project, "--input", data, "-q")
    data.write_text("2\n")
    done = orch("bundle", "create", "-o", tmp_path / "x.zip", code=125)
    assert "has changed: sha256" in done.stderr
    data.write_text("1\n")
    output = next(o for o in run["outputs"] if "link" not in o)
    blob = orch_home / "store" / output["sha256"][:2] / output["sha256"][2:]
    blob.chmod(0o600)
    blob.write_bytes(b"9.9")
    done = orch("bundle", "create", "-o", tmp_path / "x.zip", code=125)
    assert output["sha256"] in done.stderr
    blob.unlink()
    assert "out/sum.txt" in orch("bundle", "create", "-o", tmp_path / "x.zip", code=125).stderr
    assert [path.name for path in tmp_path.glob("*x.zip*")] == []


def test_a_killed_create_leaves_no_bundle_and_the_next_one_makes_it(project: Path, tmp_path: Path) -> None:
    orch("run", project)
    chance = random.Random(5)  # the same times in each run of the tests
    file, aside = tmp_path / "run.zip", tmp_path / ".run.zip.part"
    killed = 0
    for _ in range(8):
        process = subprocess.Popen(
            [ORCH, "bundle", "create", "--offline", "-o", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.2, 0.9))
        process.kill()
        if process.wait() == 0:
            file.unlink()
            continue
        killed += 1
        assert not file.exists()
    assert killed
    aside.write_bytes(b"what a killed one left")
    orch("bundle", "create", "--offline", "-o", file)
    orch("bundle", "verify", file)
    assert not aside.exists()


def test_wrong_use_is_said(project: Path, tmp_path: Path) -> None:
    orch("run", project)
    file = bundled(tmp_path)
    before = file.read_bytes()
    assert "is there already" in orch("bundle", "create", "-o", file, code=2).stderr
    assert file.read_bytes() == before
    assert "no such file" in orch("bundle", "verify", tmp_path / "none.zip", code=2).stderr
    assert "is no file" in orch("bundle", "import", tmp_path, code=2).stderr
    assert "name a file in it" in orch("bundle", "create", "-o", tmp_path, code=2).stderr
    assert "not written to standard output" in orch("bundle", "create", "-o", "-", code=2).stderr
    assert "is for --offline" in orch("bundle", "create", "--platform", "linux-64", "-o", "o.zip", code=2).stderr
    assert (
        "osx-arm64"
        in orch("bundle", "create", "--offline", "--platform", "osx-arm64", "-o", tmp_path / "o.zip", code=2).stderr
    )
    assert "no folder" in orch("bundle", "create", "-o", tmp_path / "no" / "x.zip", code=2).stderr
    (tmp_path / "text.zip").write_text("PK is how it begins")
    assert "no bundle" in orch("replay", tmp_path / "text.zip", "--yes", code=125).stderr


def test_a_running_run_is_not_bundled(make_project: Make, orch_home: Path, tmp_path: Path) -> None:
    folder = make_project({"MLproject": mlproject("sleep 30"), "conda.yaml": CONDA_YAML})
    viewer = subprocess.Popen([ORCH, "run", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not orch_json("list"):
            pass
        assert "is running" in orch("bundle", "create", "-o", tmp_path / "x.zip", code=125).stderr
    finally:
        viewer.terminate()
        viewer.wait()
    orch("bundle", "create", "-o", tmp_path / "x.zip")


@pytest.fixture
def warm_elsewhere(warm: Path, tmp_path: Path, elsewhere: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """The environment of another machine, which has the usual environments installed."""
    machine = elsewhere("warm-elsewhere")
    home = Path(machine["ORCH_HOME"])
    home.mkdir(mode=0o700)
    shutil.copytree(warm / "locks", home / "locks")
    paths = "".join(f'{name} = "{warm / name}"\n' for name in ("envs", "cache"))
    (home / "config.toml").write_text((warm / "config.toml").read_text() + f"[paths]\n{paths}")
    return machine


def answered(answer: str, *arguments: object, env: Mapping[str, str], code: int) -> str:
    """What `orch` says on a terminal on which somebody types `answer`."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [ORCH, *map(str, arguments)], stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, **env}
    )
    os.close(terminal)
    os.write(main, answer.encode())
    said = b""
    try:
        while chunk := os.read(main, 4096):
            said += chunk
    except OSError:  # the other end is closed
        pass
    os.close(main)
    assert process.wait() == code, said.decode()
    return said.decode()


def test_a_dirty_run_and_a_built_wheel_travel(
    make_project: Make, orch_home: Path, tmp_path: Path, elsewhere: Callable[[str], dict[str, str]]
) -> None:
    setup = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    folder = make_project(
        {
            "MLproject": mlproject("python -c 'import ours; print(ours.NAME)'"),
            "conda.yaml": "channels: [conda-forge]\ndependencies: [python, pip, setuptools, {pip: ['.']}]\n",
            "pyproject.toml": setup + '[project]\nname = "ours"\nversion = "1"\n[tool.setuptools]\npackages=["ours"]\n',
            "ours/__init__.py": "NAME = 'first'\n",
        }
    )
    (folder / "ours/__init__.py").write_text("NAME = 'second'\n")
    orch("run", folder)
    file = bundled(tmp_path, "--offline")
    shutil.rmtree(folder)
    there = elsewhere("there")
    without_network("replay", "--yes", file, env=there)
    assert "second\n" in orch("logs", "latest", env=there).stdout


def test_submodules_travel(make_project: Make, orch_home: Path, tmp_path: Path, warm_elsewhere: dict[str, str]) -> None:
    inner = make_project({"data.txt": "from inside\n"}, "inner")
    folder = make_project({"MLproject": mlproject("cp sub/data.txt out.txt"), "conda.yaml": CONDA_YAML})
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    git(folder, "commit", "-qam", "with a submodule")
    run = orch_json("run", folder, "-q")
    file = bundled(tmp_path)
    shutil.rmtree(folder)
    shutil.rmtree(inner)
    record: dict[str, Any] = json.loads(orch("replay", "--yes", "--json", file, env=warm_elsewhere).stdout)
    assert record["spec_id"] == run["spec_id"]
    assert [item["result"] for item in record["verdict"]["outputs"]] == ["identical"]
