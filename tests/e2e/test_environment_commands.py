"""`orch env`: looking into environments and using them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made_index import project_files

from e2e.conftest import CONDA_FORGE, CONDA_YAML, ORCH, SIX_YAML, mlproject, orch, orch_json

Make = Callable[..., Path]


@pytest.fixture
def python(make_project: Make, orch_home: Path) -> Path:
    return make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML}, "python")


@pytest.fixture
def six(make_project: Make, orch_home: Path) -> Path:
    return make_project({"MLproject": mlproject("true"), "conda.yaml": SIX_YAML}, "six")


def test_a_run_its_lock_its_project_and_its_file_are_one_environment(six: Path) -> None:
    run = orch_json("run", six, "--run-name", "mine", "-q")
    shown = [orch_json("env", "show", name) for name in (run["run_id"][:16], "mine", "latest", six, six / "conda.yaml")]
    lock_id = run["spec"]["environment"]["lock_id"]
    shown.append(orch_json("env", "show", lock_id[:12]))
    assert {item["lock_id"] for item in shown} == {lock_id}
    assert shown[0]["run_id"] == run["run_id"]
    assert shown[-1]["run_id"] is None
    assert {"python", "six"} <= {package["name"] for package in shown[0]["packages"]}
    assert all(len(package["sha256"]) == 64 for package in shown[0]["packages"])


def test_what_is_both_a_run_and_a_lock_is_ambiguous(six: Path) -> None:
    lock_id = orch_json("env", "show", six)["lock_id"]
    orch("run", six, "--run-name", lock_id[:6], "-q")
    assert "is ambiguous: run " in orch("env", "show", lock_id[:6], code=125).stderr
    orch("env", "show", lock_id[:7])


def test_show_has_the_facts_and_a_table_of_packages(six: Path) -> None:
    lines = orch("env", "show", six).stdout.splitlines()
    assert any(line.startswith("channels     conda-forge") for line in lines)
    assert any(line.split()[:1] == ["six"] and line.endswith("conda-forge") for line in lines)


def test_list_has_every_lock_with_its_runs(six: Path) -> None:
    run = orch_json("run", six, "-q")
    rows = {row["lock_id"]: row for row in orch_json("env", "list")}
    row = rows.pop(run["spec"]["environment"]["lock_id"])
    assert (row["runs"], row["installed"], row["packages"] > 1, row["size"] > 1000) == (1, True, True, True)
    assert [other["runs"] for other in rows.values()] == [0]
    assert row["lock_id"][:16] in orch("env", "list").stdout


def test_a_damaged_lock_does_not_hide_the_others(six: Path, orch_home: Path) -> None:
    lock_id = orch_json("env", "show", six)["lock_id"]
    (orch_home / "locks" / lock_id / "packages.json").write_text("{")
    assert "is damaged" in orch("env", "list").stderr
    assert {row["lock_id"]: row["problem"] is None for row in orch_json("env", "list")}[lock_id] is False


def test_diff_names_what_was_added_and_removed(python: Path, six: Path) -> None:
    there = orch("env", "diff", python, six, code=1).stdout.splitlines()
    assert any(line.startswith("+ six ") for line in there)
    back = orch("env", "diff", six, python, "--json", code=1).stdout
    assert '"removed"' in back
    assert orch("env", "diff", six, six).stdout == ""


def test_diff_names_what_changed(make_project: Make, orch_home: Path) -> None:
    for name, spec in (("old", "six<1.17"), ("new", "six")):
        make_project({"environment.yml": f"channels: [conda-forge]\ndependencies: ['{spec}']\n"}, name)
    folder = orch_home.parent
    found = orch("env", "diff", folder / "old", folder / "new", code=1).stdout
    assert found.startswith("~ six 1.16")
    assert " -> 1.17" in found


def test_diff_needs_something_to_compare_with(six: Path) -> None:
    orch("env", "diff", six, code=2)
    orch("env", "show", six, "--platform", "amiga", code=2)


def test_exec_runs_a_program_in_the_environment_and_has_its_exit_code(six: Path) -> None:
    code = "import six, sys, os; print(os.environ['CONDA_PREFIX'] == sys.prefix); sys.exit(7)"
    assert orch("env", "exec", six, "--", "python", "-c", code, code=7).stdout == "True\n"


def test_options_of_the_program_reach_it_without_dashes(python: Path) -> None:
    said = orch(
        "env", "exec", python, "python", "-c", "import sys; print(sys.argv[1:])", "--offline", "--", "-h"
    ).stdout
    assert said == "['--offline', '--', '-h']\n"


def test_exec_sets_the_variables_of_the_environment_file(make_project: Make, orch_home: Path) -> None:
    folder = make_project({"conda.yaml": CONDA_YAML + "variables: {COLOUR: 'deep blue'}\n"})
    for named in (folder, folder / "conda.yaml"):
        assert orch("env", "exec", named, "printenv", "COLOUR").stdout == "deep blue\n"


def test_exec_tells_that_the_lock_of_the_project_does_not_match(make_project: Make, orch_home: Path) -> None:
    folder = make_project({"environment.yml": CONDA_YAML})
    orch("env", "lock", folder, "--platform", "linux-64", "--virtual-package", "__glibc=2.39")
    (folder / "environment.yml").write_text(SIX_YAML)
    assert "conda-lock.yml does not match environment.yml" in orch("env", "exec", folder, "true").stderr


def test_a_program_that_is_not_there_is_127_and_one_that_cannot_run_126(python: Path, tmp_path: Path) -> None:
    assert "can't be run: it is neither" in orch("env", "exec", python, "nonesuch", code=127).stderr
    (tmp_path / "plain").write_text("")
    orch("env", "exec", python, tmp_path / "plain", code=126)


def test_a_package_that_vanished_is_told_with_the_run(make_project: Make, cold_home: Path, tmp_path: Path) -> None:
    folder = make_project({"MLproject": mlproject("true"), "conda.yaml": SIX_YAML})
    run_id = orch_json("run", folder, "-q")["run_id"]
    for prefix in (cold_home / "envs").iterdir():
        prefix.rename(tmp_path / prefix.name)
    (cold_home / "cache").rename(tmp_path / "cache")
    (tmp_path / "empty" / "noarch").mkdir(parents=True)
    (cold_home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{(tmp_path / "empty").as_uri()}"]\n')
    said = orch("env", "exec", "latest", "true", code=125).stderr
    assert f"the environment of run {run_id} can't be used: " in said
    assert "Traceback" not in said


def test_the_prefix_is_in_use_while_the_program_runs_and_a_closed_pipe_ends_it(python: Path) -> None:
    code = "import os; print(any('.locks' in os.readlink(f'/proc/self/fd/{n}') for n in range(3, 20) " + (
        "if os.path.lexists(f'/proc/self/fd/{n}')))"
    )
    assert orch("env", "exec", python, "python", "-c", code).stdout == "True\n"
    ignored = orch("env", "exec", python, "grep", "SigIgn", "/proc/self/status").stdout.split()[1]
    assert not int(ignored, 16) & 1 << 12  # SIGPIPE


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_is_activated_whatever_its_own_files_do_to_path(
    python: Path, isolated: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    (tmp_path / "own").mkdir()
    fake = tmp_path / "own" / "python"
    fake.write_text("#!/bin/sh\necho fake\n")
    fake.chmod(stat.S_IRWXU)
    (isolated / ".config/fish").mkdir(parents=True)
    for rc in (".bashrc", ".zshrc"):
        (isolated / rc).write_text(f"export PATH={tmp_path}/own:$PATH MINE=read CONDA_PREFIX=other\nPS1='prompt> '\n")
    (isolated / ".config/fish/config.fish").write_text(f"set -gx PATH {tmp_path}/own $PATH; set -gx MINE read\n")
    (tmp_path / "temp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    monkeypatch.setenv("SHELL", program)
    lock_id = orch_json("env", "show", python)["lock_id"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(ORCH, [str(ORCH), "env", "shell", str(python)])
    shown = _until(terminal, b"(orch " + lock_id[:8].encode() + b") ")
    os.write(
        terminal, b'python -c \'import os, sys; print("in", sys.prefix, os.environ["CONDA_PREFIX"])\'; echo $MINE\n'
    )
    shown = _until(terminal, b"read\r\n")
    prefix = next(line.split()[1:] for line in shown.decode().splitlines() if line.startswith("in "))
    assert prefix[0] == prefix[1]
    assert prefix[0].endswith(lock_id)
    assert not list((tmp_path / "temp").glob("orch-shell-*"))
    os.write(terminal, b"exit 3\n")
    _until(terminal, None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_another_shell_is_started_plainly(python: Path, tmp_path: Path) -> None:
    (tmp_path / "said").write_text("command -v python\n")
    with (tmp_path / "said").open() as said:
        done = orch("env", "shell", python, env={"SHELL": "/bin/sh"}, stdin=said)
    assert "/envs/" in done.stdout


def test_export_writes_to_stdout_or_a_whole_file(six: Path, tmp_path: Path) -> None:
    text = orch("env", "export", six, "--format", "explicit").stdout
    assert "@EXPLICIT" in text
    orch("env", "export", six, "--format", "explicit", "-o", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == text
    assert "conda-lock" in orch("env", "export", six, "--format", "word", code=2).stderr
    orch("env", "export", six, "-f", "explicit", "-o", tmp_path / "none" / "out.txt", code=125)


def _until(terminal: int, text: bytes | None, seconds: float = 60) -> bytes:
    """What the terminal shows up to `text`, or to the end."""
    shown, end = b"", time.monotonic() + seconds
    while text is None or text not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                data = b""
            if not data:
                assert text is None, shown
                break
            shown += data
    return shown


def test_exec_has_the_folders_of_editable_projects_on_the_import_path(make_project: Make, orch_home: Path) -> None:
    lines = "channels: [conda-forge]\ndependencies: [python, {pip: [-e .]}]\n"
    folder = make_project({"conda.yaml": lines, **project_files("mine")})
    program = ("--", "python", "-c", "import mine; print(mine.__file__)")
    for environment in (folder, folder / "conda.yaml"):
        assert orch("env", "exec", environment, *program).stdout == f"{folder}/src/mine/__init__.py\n"

    orch("run", folder, "-e", "try.sh", code=125)
    (folder / "try.sh").write_text("true\n")
    run = orch_json("run", folder, "-e", "try.sh", "-q")
    said = orch("env", "exec", run["run_id"], "--", "true").stderr
    assert "the project of the run, a `-e` line of it, is not on the import path" in said
