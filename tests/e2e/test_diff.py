"""`orch diff`: what differs between two runs, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from made_records import finished, write_journal

from e2e.conftest import CONDA_YAML, ORCH, SIX_YAML, git, mlproject, orch, orch_json
from orchestrator.model import Metric
from orchestrator.paths import open_home

Make = Callable[..., Path]

TRAIN = """\
import json, os, sys
alpha = float(sys.argv[1])
with open(os.environ["ORCH_EVENTS"], "a") as events:
    print(json.dumps({"metric": "loss", "value": alpha / 3}), file=events)
    print(json.dumps({"param": "depth", "value": str(alpha * 2)}), file=events)
open("model.txt", "w").write(f"{alpha}\\n")
open("always.txt", "w").write("same")
"""

PROJECT = {
    "MLproject": mlproject("python train.py {alpha}", "alpha: {type: float, default: 0.5}"),
    "conda.yaml": CONDA_YAML,
    "train.py": TRAIN,
}


@pytest.fixture
def project(make_project: Make, orch_home: Path) -> Path:
    return make_project(PROJECT)


def sections(text: str) -> dict[str, list[str]]:
    """The printed sections: title -> lines."""
    found = {}
    for block in text.rstrip("\n").split("\n\n"):
        title, *lines = block.split("\n")
        assert all(line.startswith("  ") for line in lines), text
        found[title] = [line[2:] for line in lines]
    return found


def on_terminal(*arguments: str) -> bytes:
    """What `orch` prints on a terminal; it must find differences."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(ORCH, [str(ORCH), *arguments])
    shown = b""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    return shown


def test_two_runs_of_the_same_do_not_differ(project: Path) -> None:
    for _ in range(2):
        run = orch_json("run", project.as_uri(), "-q")
    first = orch_json("list")[-1]["run_id"]
    assert first != run["run_id"]
    assert orch("diff", first, "latest").stdout == ""
    assert orch("diff", "latest", "latest", "--patch").stdout == ""
    found = orch_json("diff", first, "latest")
    assert (found["from"], found["to"]) == (first, run["run_id"])
    assert found["code"] == {"files": [], "submodules": {}, "patch": None}
    assert found["packages"] == {"added": [], "removed": [], "changed": []}
    assert not any(found[name] for name in ("result", "source", "parameters", "metrics", "outputs", "host", "notes"))


def test_a_parameter_and_what_it_changed(project: Path) -> None:
    orch("run", project.as_uri(), "--run-name", "old")
    orch("run", project.as_uri(), "-P", "alpha=1.5", "--run-name", "new")
    hashes = [{o["path"]: o["sha256"] for o in orch_json("show", name)["outputs"]} for name in ("old", "new")]
    assert sections(orch("diff", "old", "new", code=1).stdout) == {
        "parameters": ["~ alpha  0.5 -> 1.5"],
        "logged parameters": ["~ depth  1.0 -> 3.0"],
        "metrics": ["~ loss  0.166667 -> 0.5"],
        "outputs": [f"~ model.txt  sha256 {hashes[0]['model.txt'][:16]} -> {hashes[1]['model.txt'][:16]}"],
    }
    found = orch_json("diff", "old", "new", code=1)
    assert found["parameters"] == {"alpha": {"from": "0.5", "to": "1.5"}}
    assert found["metrics"]["loss"]["to"] == 0.5
    assert list(found["outputs"]) == ["model.txt"]
    assert set(found["outputs"]["model.txt"]["from"]) == {"sha256", "size", "mode"}


def test_a_metric_that_came_to_the_same_by_another_way(make_project: Make, orch_home: Path) -> None:
    program = """\
import json, os, sys
with open(os.environ["ORCH_EVENTS"], "a") as events:
    for step, value in enumerate([0.9, float(sys.argv[1]), 0.25]):
        print(json.dumps({"metric": "loss", "value": value, "step": step}), file=events)
"""
    folder = make_project({**PROJECT, "train.py": program})
    orch("run", folder, "--run-name", "old")
    orch("run", folder, "-P", "alpha=0.75", "--run-name", "new")
    lines = sections(orch("diff", "old", "new", code=1).stdout)
    assert lines["metrics"] == ["~ loss  0.25, same last value, history differs from step 1"]
    note = "same last value, history differs from step 1"
    assert orch_json("diff", "old", "new", code=1)["metrics"] == {"loss": {"from": 0.25, "to": 0.25, "note": note}}


def test_a_host_that_tells_more_is_not_another_one(project: Path, orch_home: Path) -> None:
    def recorded(name: str, *swaps: tuple[str, str]) -> None:
        """A run in whose record the host is made another one; the ledger has it from there."""
        journal = (
            orch_home / "runs" / orch_json("run", project.as_uri(), "--run-name", name)["run_id"] / "journal.jsonl"
        )
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        lines[0]["host"] |= {"cpu_flags": "avx avx2 fma sse"}
        for fact, value in swaps:
            lines[0]["host"][fact] = value
            if value == "":
                del lines[0]["host"][fact]
        journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    recorded("old", ("cpu_flags", ""), ("gpus", ""))
    recorded("new")
    recorded("other", ("cpu_flags", "avx avx512f clzero sse"))
    orch("ledger", "rebuild")
    assert orch("diff", "old", "new").stdout == ""
    lines = sections(orch("diff", "new", "other", code=1).stdout)
    assert lines == {"host": ["~ cpu_flags  without avx2, fma; with avx512f, clzero"]}
    flags = {"from": ["avx2", "fma"], "to": ["avx512f", "clzero"]}
    assert orch_json("diff", "new", "other", code=1)["host"] == {"cpu_flags": flags}
    assert orch_json("show", "other")["host"]["cpu_flags"] == "avx avx512f clzero sse"


def test_code_environment_command_and_outputs_of_two_commits(project: Path) -> None:
    orch("run", project.as_uri(), "--version", "main", "--run-name", "old")
    (project / "conda.yaml").write_text(SIX_YAML)
    (project / "train.py").write_text(TRAIN + "open('more.txt', 'w').write('more')\nos.remove('always.txt')\n")
    (project / "MLproject").write_text(PROJECT["MLproject"].replace("python train.py", "python -u train.py"))
    orch("run", project, "--run-name", "new")
    lines = sections(orch("diff", "old", "new", code=1).stdout)
    old, new = (orch_json("show", name)["spec"] for name in ("old", "new"))
    commits = [spec["source"]["commit"][:12] for spec in (old, new)]
    assert lines["code"] == [
        f"~ commit  {commits[0]} (main) -> {commits[1]} (work tree)",
        "~ 3 files  +4 -2",
        "~ MLproject  +1 -1",
        "~ conda.yaml  +1 -1",
        "~ train.py  +2 -0",
    ]
    assert lines["command"] == ["~ command  python train.py {alpha} -> python -u train.py {alpha}"]
    assert lines["environment"][0].startswith(f"~ lock id  {old['environment']['lock_id'][:16]} -> ")
    assert [line.split()[:2] for line in lines["environment"][1:]] == [["+", "six"]]
    assert lines["outputs"] == ["- always.txt  4 B", "+ more.txt  4 B"]
    packages = orch_json("diff", "new", "old", code=1)["packages"]
    assert [package["name"] for package in packages["removed"]] == ["six"]


def test_the_patch_can_be_applied(project: Path) -> None:
    orch("run", project.as_uri(), "--run-name", "old")
    (project / "train.py").write_text(TRAIN + "# café \x1b[31m\n")
    orch("run", project, "--run-name", "new")
    git(project, "checkout", "-q", "--", ".")
    done = subprocess.run([ORCH, "diff", "old", "new", "--patch"], capture_output=True)
    subprocess.run(["git", "apply"], cwd=project, input=done.stdout, check=True)
    assert (project / "train.py").read_text() == TRAIN + "# café \x1b[31m\n"
    assert "+# café" in orch_json("diff", "old", "new", "--patch", code=1)["code"]["patch"]


def test_another_commit_of_the_same_files_is_told_in_one_line(project: Path) -> None:
    orch("run", project.as_uri(), "--run-name", "old")
    git(project, "commit", "-q", "--allow-empty", "-m", "nothing")
    orch("run", project.as_uri(), "--run-name", "new")
    lines = sections(orch("diff", "old", "new", code=1).stdout)
    assert len(lines["code"]) == 1
    assert lines["code"][0].endswith(", the same files")


def test_inputs_variables_host_and_exit_code(make_project: Make, orch_home: Path, tmp_path: Path) -> None:
    program = "import os, sys; sys.exit(int(os.environ.get('CODE', '0')))\n"
    folder = make_project({**PROJECT, "train.py": program})
    for name, text in (("a.csv", "1\n"), ("b.csv", "2\n")):
        (tmp_path / name).write_text(text)
    orch("run", folder, "--run-name", "old", "--input", f"{tmp_path / 'a.csv'}=data.csv")
    options = ["--input", f"{tmp_path / 'b.csv'}=data.csv", "--input", tmp_path / "a.csv", "--env", "CODE=3"]
    orch("run", folder, "--run-name", "new", *options, env={"OMP_NUM_THREADS": "7"}, code=3)
    lines = sections(orch("diff", "old", "new", code=1).stdout)
    assert lines["result"] == ["~ status  finished -> failed", "~ exit code  0 -> 3"]
    assert [line.split()[0] for line in lines["inputs"]] == ["~", "+"]
    assert "sha256" in lines["inputs"][0]
    assert lines["variables"] == ["+ CODE  3"]
    assert lines["host variables"] == ["+ OMP_NUM_THREADS  7"]


def test_secrets_are_told_by_name_and_nothing_more(make_project: Make, orch_home: Path) -> None:
    folder = make_project(PROJECT)
    orch("run", folder, "--run-name", "old", "--env", "API_KEY=hunter-one")
    orch("run", folder, "--run-name", "new", "--env", "API_KEY=hunter-two")
    orch("run", folder, "--run-name", "none")
    done = orch("diff", "old", "new")
    assert sections(done.stdout) == {"variables": ["? API_KEY  (not recorded) in either run"]}
    assert orch_json("diff", "old", "new")["not_recorded"]["variables"] == ["API_KEY"]
    assert sections(orch("diff", "old", "none", code=1).stdout) == {"variables": ["- API_KEY  (not recorded)"]}


def test_two_projects_that_have_nothing_in_common(project: Path, make_project: Make) -> None:
    other = make_project({"MLproject": mlproject("true"), "conda.yaml": CONDA_YAML}, "other")
    orch("run", project.as_uri(), "--run-name", "old")
    orch("run", other.as_uri(), "--run-name", "new")
    lines = sections(orch("diff", "old", "new", code=1).stdout)
    assert lines["code"][0] == f"~ url  {project.as_uri()} -> {other.as_uri()}"
    assert any(line.startswith("- train.py  +0 -") for line in lines["code"])
    assert lines["parameters"] == ["- alpha  0.5"]


def test_what_is_gone_is_said_and_the_rest_compared(project: Path, orch_home: Path) -> None:
    orch("run", project.as_uri(), "--run-name", "old")
    (project / "conda.yaml").write_text(SIX_YAML)
    git(project, "commit", "-q", "-a", "-m", "six")
    orch("run", project.as_uri(), "-P", "alpha=7", "--run-name", "new")
    shutil.rmtree(orch_home / "sources")
    shutil.rmtree(orch_home / "locks")
    project.rename(project.with_name("away"))
    done = orch("diff", "old", "new", "--patch", code=1)
    assert "the files of the two commits are not compared: " in done.stderr
    assert "the packages of the two environments are not compared: " in done.stderr
    lines = sections(done.stdout)
    assert lines["parameters"] == ["~ alpha  0.5 -> 7"]
    assert len(lines["code"]) == len(lines["environment"]) == 1
    found = orch_json("diff", "old", "new", code=1)
    assert (found["code"], found["packages"], len(found["notes"])) == (None, None, 2)


def test_a_terminal_gets_no_escape_sequences_of_others(make_project: Make, orch_home: Path) -> None:
    red = "\x1b]0;owned\x07\x1b[31mred"
    folder = make_project({**PROJECT, "train.py": "", "MLproject": mlproject("true {v}", "v: string")})
    orch("run", folder, "-P", "v=1", "--run-name", "old")
    (folder / "train.py").write_text(f"# {red}\n")
    (folder / f"{red}.txt").write_text("1")
    orch("run", folder, "-P", f"v={red}", "--run-name", "new")
    shown = on_terminal("diff", "old", "new", "--patch")
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert b"+# \\x1b]0;owned\\x07\\x1b[31mred" in shown
    assert "\x1b" not in json.dumps(orch_json("diff", "old", "new", code=1))


def test_a_terminal_gets_the_beginning_of_a_long_section(make_project: Make, orch_home: Path) -> None:
    folder = make_project({**PROJECT, "train.py": ""})
    orch("run", folder, "--run-name", "old")
    for number in range(100):
        (folder / f"file-{number:02}").touch()
    orch("run", folder, "--run-name", "new")
    assert len(sections(orch("diff", "old", "new", code=1).stdout)["code"]) == 102
    shown = on_terminal("diff", "old", "new").decode()
    assert shown.count("+ file-") == 18
    assert "  and 82 more; --json has all\r\n" in shown


def test_wrong_names_are_told(project: Path) -> None:
    orch("run", project.as_uri(), "-q")
    assert "no run has an id that begins with 'nothing'" in orch("diff", "latest", "nothing", code=125).stderr
    orch("diff", "latest", code=2)


def test_nested_runs_are_of_the_program_of_their_run(project: Path, orch_home: Path) -> None:
    run_id = orch_json("run", project, "-q")["run_id"]
    home = open_home()
    children = []
    for depth, loss in (("1", 0.5), ("2", 0.25)):
        point = Metric("loss", loss, 0, 1)
        nested = finished(
            pinned=None, exit_code=None, parent=run_id, params={"depth": depth}, metrics=(point,), outputs=(), host={}
        )
        write_journal(home, nested)
        children.append(nested.run_id)
    orch("list")
    assert sections(orch("diff", *children, code=1).stdout) == {
        "logged parameters": ["~ depth  1 -> 2"],
        "metrics": ["~ loss  0.5 -> 0.25"],
    }


def test_what_was_only_logged_outside_of_any_run_has_no_program(project: Path, orch_home: Path) -> None:
    home = open_home()
    alone = finished(pinned=None, exit_code=None, outputs=())
    write_journal(home, alone)
    orch("list")
    assert "was only logged" in orch("diff", alone.run_id, alone.run_id, code=125).stderr
