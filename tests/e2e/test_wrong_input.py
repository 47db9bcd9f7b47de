"""Wrong input: one clear sentence, the right exit code, nothing half-done."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import made_disk
import pytest

from e2e.conftest import CONDA_YAML, ORCH, mlproject, orch, orch_json

Make = Callable[..., Path]


def refused(orch_home: Path, *arguments: object, code: int = 125, **options: object) -> str:
    """Run `orch run` with them; it must fail with one sentence and leave no run. Returns the sentence."""
    done = orch("run", *arguments, code=code, **options)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert list((orch_home / "runs").iterdir()) == []
    assert list((orch_home / "work").iterdir()) == []
    message = done.stderr[done.stderr.index("orch: ") + 6 :]
    assert message.count("\n") == 1, message
    return message


@pytest.fixture
def project(make_project: Make, orch_home: Path) -> Path:
    parameters = "alpha: float\ndata: {type: path, default: x}\nn: {type: int, default: 1}"
    return make_project({"MLproject": mlproject("echo {alpha} {n}", parameters), "conda.yaml": CONDA_YAML})


def test_no_such_repository(orch_home: Path, tmp_path: Path) -> None:
    assert "nowhere" in refused(orch_home, tmp_path / "nowhere", code=2)
    assert "nowhere" in refused(orch_home, (tmp_path / "nowhere").as_uri())


def test_unknown_revision(project: Path, orch_home: Path) -> None:
    assert "v9" in refused(orch_home, project.as_uri(), "--version", "v9")


@pytest.mark.parametrize("url", ["--upload-pack=touch x", "ext::sh -c touch% x", "-oProxyCommand=x"])
def test_a_repository_that_would_be_an_option_or_a_remote_helper(orch_home: Path, url: str) -> None:
    assert url.split("=", maxsplit=1)[0] in refused(orch_home, "--", url, code=2)


def test_a_revision_that_would_be_an_option(project: Path, orch_home: Path) -> None:
    assert "--upload-pack" in refused(orch_home, project.as_uri(), "--version=--upload-pack=touch x", code=2)


def test_a_subdirectory_that_leaves_or_is_not_there(project: Path, orch_home: Path) -> None:
    assert "../up" in refused(orch_home, f"{project.as_uri()}#../up", code=None)
    assert "gone" in refused(orch_home, f"{project.as_uri()}#gone", code=None)


def test_unknown_entry_points_are_answered_with_those_that_are(project: Path, orch_home: Path) -> None:
    assert "main" in refused(orch_home, project.as_uri(), "-e", "mian")


def test_missing_unknown_and_mistyped_parameters(project: Path, orch_home: Path) -> None:
    assert "alpha" in refused(orch_home, project.as_uri(), code=None)
    assert "abc" in refused(orch_home, project.as_uri(), "-P", "alpha=abc", code=2)
    assert "1.5" in refused(orch_home, project.as_uri(), "-P", "alpha=1", "-P", "n=1.5", code=2)
    assert "alpha" in orch("run", project.as_uri(), "-P", "alpha=1", "-P", "alpha=2", code=2).stderr
    assert "gone.csv" in refused(orch_home, project.as_uri(), "-P", "alpha=1", "-P", "data=gone.csv", code=None)


def test_broken_yaml_is_named_with_its_line(make_project: Make, orch_home: Path) -> None:
    broken = make_project({"MLproject": "name: x\nentry_points:\n  main: [\n"}, "broken")
    message = refused(orch_home, broken)
    assert "MLproject" in message
    assert "line" in message
    broken = make_project({"MLproject": mlproject("true"), "conda.yaml": "dependencies:\n - a\n b: ["}, "broken2")
    message = refused(orch_home, broken)
    assert "conda.yaml" in message
    assert "line" in message


def test_an_environment_that_can_not_be_solved_explains_itself(make_project: Make, orch_home: Path) -> None:
    yaml = "channels: [conda-forge]\ndependencies: [python, numpy=99]\n"
    project = make_project({"MLproject": mlproject("true"), "conda.yaml": yaml})
    done = orch("run", project, code=125)
    assert "numpy" in done.stderr
    assert "99" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((orch_home / "runs").iterdir()) == []


def test_an_empty_environment_file_is_said_to_be_empty(make_project: Make, orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("true"), "conda.yaml": "dependencies: []\n"})
    assert "conda.yaml" in refused(orch_home, project)


def test_docker_projects_are_recognised(make_project: Make, orch_home: Path) -> None:
    text = "name: x\ndocker_env:\n  image: y\nentry_points:\n  main:\n    command: 'true'\n"
    assert "docker" in refused(orch_home, make_project({"MLproject": text}))


def test_a_missing_input_or_one_that_would_leave_the_project(project: Path, orch_home: Path) -> None:
    assert "gone.csv" in orch("run", project, "-P", "alpha=1", "--input", "gone.csv", code=2).stderr
    assert "below" in orch("run", project, "-P", "alpha=1", "--input", "/etc/hostname=../x", code=2).stderr


def test_a_command_that_does_not_exist_is_the_programs_own_failure(make_project: Make, orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("no-such-command-here"), "conda.yaml": CONDA_YAML})
    assert "no-such-command-here" in orch("run", project, code=127).stderr
    assert orch_json("show")["status"] == "failed"


def test_a_ledger_that_is_no_ledger_or_a_newer_one(project: Path, orch_home: Path) -> None:
    orch("list")
    with sqlite3.connect(orch_home / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    assert "999" in orch("list", code=125).stderr
    for path in orch_home.glob("ledger.db*"):
        path.unlink()
    (orch_home / "ledger.db").write_text("this is no database, but it is long enough to look like one\n" * 100)
    for arguments in (("list",), ("run", project, "-P", "alpha=1")):
        message = orch(*arguments, code=125).stderr
        assert "ledger.db" in message
        assert "rebuild" in message
    assert list((orch_home / "runs").iterdir()) == []


def test_a_failing_run_says_what_git_ignored(make_project: Make, orch_home: Path) -> None:
    files = {"MLproject": mlproject("cat data/train.csv"), "conda.yaml": CONDA_YAML, ".gitignore": "data/\n"}
    project = make_project(files)
    (project / "data").mkdir()
    (project / "data" / "train.csv").write_text("1")
    done = orch("run", project, code=1)
    assert "data/" in done.stderr
    assert "--input" in done.stderr


def test_unknown_commands_and_options_are_wrong_usage(orch_home: Path) -> None:
    orch("runn", code=2)
    orch("run", code=2)
    orch("run", "--no-such-option", "x", code=2)
    assert "no run" in orch("show", "deadbeef", code=125).stderr


def test_an_orch_home_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = orch("list", code=125, env={"ORCH_HOME": str(tmp_path / "file" / "home")})
    assert "ORCH_HOME" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB; needs the right to mount."""
    with made_disk.small_disk(tmp_path / "small", "40m") as place:
        yield place


def test_a_full_disk_while_installing(make_project: Make, cold_home: Path, small_disk: Path) -> None:
    project = make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML})
    with (cold_home / "config.toml").open("a") as config:
        config.write(f'[paths]\nenvs = "{small_disk / "envs"}"\n')
    message = refused(cold_home, project)
    assert "space" in message
    assert [p for p in (small_disk / "envs").iterdir() if not p.name.startswith(".")] == []


def test_a_full_disk_while_storing_keeps_the_record_and_the_outputs(
    make_project: Make, orch_home: Path, small_disk: Path
) -> None:
    with (orch_home / "config.toml").open("a") as config:
        config.write(f'store = "{small_disk / "store"}"\n')
    project = make_project({"MLproject": mlproject("head -c 60000000 /dev/urandom >big"), "conda.yaml": CONDA_YAML})
    done = orch("run", project, code=125)
    assert "space" in done.stderr
    run = orch_json("show")
    assert run["exit_code"] == 0
    big = orch_home / "work" / run["run_id"] / "checkout" / "big"
    assert big.stat().st_size == 60_000_000
    assert str(big.parent.parent) in done.stderr
    assert os.listdir(small_disk / "store" / "incoming") == []


def test_a_home_on_a_read_only_disk(small_disk: Path) -> None:
    home = small_disk / "home"
    home.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = orch("run", ".", code=125, env={"ORCH_HOME": str(home)})
    assert "Read-only file system" in done.stderr
    assert "ORCH_HOME" in done.stderr
    assert "no runs yet" in orch("list", env={"ORCH_HOME": str(home)}).stdout  # who only reads makes nothing


def test_a_value_that_is_no_text_is_refused_before_anything_runs(project: Path, orch_home: Path) -> None:
    done = subprocess.run([ORCH, "run", project, "-P", b"alpha=\xff"], capture_output=True)
    assert done.returncode == 2
    assert b"alpha" in done.stderr
    assert list((orch_home / "runs").iterdir()) == []


def test_an_output_folder_that_can_be_none_is_refused_before_anything_runs(
    project: Path, orch_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "no folder" in refused(orch_home, project, "-P", "alpha=1", "-o", folder, code=2)


def test_outputs_that_are_in_the_way_are_kept_and_the_run_is_too(
    make_project: Make, orch_home: Path, tmp_path: Path
) -> None:
    project = make_project({"MLproject": mlproject("echo new >result"), "conda.yaml": CONDA_YAML})
    (tmp_path / "result").write_text("mine")
    done = orch("run", project, "-o", tmp_path, code=125)
    assert "orch get" in done.stderr
    assert (tmp_path / "result").read_text() == "mine"
    assert orch_json("show")["status"] == "finished"


@pytest.mark.parametrize("name", ["", " ", "a\nb"])
def test_a_name_that_nobody_could_read_or_type_is_refused(project: Path, orch_home: Path, name: str) -> None:
    assert "--run-name" in refused(orch_home, project, "-P", "alpha=1", "--run-name", name, code=2)


def test_lists_and_outputs_that_are_not_there(project: Path, make_project: Make, orch_home: Path) -> None:
    assert "finished" in orch("list", "--status", "nope", code=2).stderr
    assert "latest" in orch("run", project, "-P", "alpha=1", "--run-name", "latest", code=2).stderr
    orch("run", make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML}, "plain"))
    assert "no output" in orch("get", "latest", "*.gone", code=125).stderr


def test_a_disk_that_takes_no_output(orch_home: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([ORCH, "list", "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 125
    assert done.stderr == "orch: No space left on device: standard output.\n"


def test_control_characters_do_not_reach_the_terminal(make_project: Make, orch_home: Path) -> None:
    project = make_project({"MLproject": mlproject("true {v}", "v: string"), "conda.yaml": CONDA_YAML})
    done = orch("run", project, "-P", "v=a\nb\x1b[31mred")
    assert "\x1b" not in done.stderr + orch("list").stdout + orch("show").stdout
    assert len(orch("list").stdout.splitlines()) == 2


def test_a_disk_that_fills_while_the_program_logs_loses_no_run(
    make_project: Make, orch_home: Path, small_disk: Path
) -> None:
    """Here `runs` itself stands on the small disk, and the program fills it, waits, and makes room again."""
    shutil.rmtree(orch_home / "runs", ignore_errors=True)
    (small_disk / "runs").mkdir()
    (orch_home / "runs").symlink_to(small_disk / "runs")
    script = (
        f"head -c 100000000 /dev/zero >{small_disk}/filler; "
        'for i in 1 2 3; do echo \'{"metric": "m", "value": 1}\' >>$ORCH_EVENTS; sleep 0.6; done 2>/dev/null; '
        f"rm {small_disk}/filler; "
        'echo \'{"metric": "n", "value": 2}\' >>$ORCH_EVENTS; echo x >out'
    )
    project = make_project({"MLproject": mlproject("bash go.sh"), "conda.yaml": CONDA_YAML, "go.sh": script})
    orch("run", project)
    run = orch_json("show")
    assert run["status"] == "finished"
    assert run["metrics"]["n"] == 2
    assert [o["path"] for o in run["outputs"]] == ["out"]
