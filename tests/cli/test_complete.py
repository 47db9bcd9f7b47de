"""What is proposed where, asked as a shell asks: by variables."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_records import made_home
from tui.made_runs import add, ended, fill, id_at, live

from orchestrator.execute.identity import identify
from orchestrator.model import Output
from orchestrator.paths import Home

ORCH = Path(sys.executable).with_name("orch")

MLPROJECT = """\
name: tried
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      fast: {type: bool, default: true}
      data: path
    command: touch {alpha}-was-run
  other:
    parameters:
      beta: string
    command: "true"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that `orch` uses; the current folder is empty."""
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return made_home(tmp_path / "home")


@pytest.fixture
def project(home: Home) -> Path:
    """A folder with a project, `tried`, below the current one; it is no repository."""
    folder = Path("tried").absolute()
    folder.mkdir()
    (folder / "MLproject").write_text(MLPROJECT)
    (folder / "step.py").touch()
    (folder / "data.csv").touch()
    return folder


def proposed(line: str, **environ: str) -> list[str]:
    """The words that a shell is given for the end of a line."""
    return list(explained(line, **environ))


def explained(line: str, **environ: str) -> dict[str, str]:
    """The words with their help texts."""
    return {word: text for word, text in answered(line, **environ).items() if text != "NOTHING"}


def answered(line: str, **environ: str) -> dict[str, str]:
    """All that a shell is told: words with their texts, or that nothing fits and files neither."""
    asked = {
        "_ORCH_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
    }
    done = subprocess.run([ORCH], env={**os.environ, **asked, **environ}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    pairs = [line.partition("\t") for line in done.stdout.splitlines() if line]
    return {word: text for word, _, text in pairs}


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")


def files_below(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["show", "logs", "get", "rm", "rm x", "diff", "diff x", "replay", "bundle create", "env show"]
)
def test_a_run_is_an_id_a_name_or_the_latest(home: Home, command: str) -> None:
    add(home, ended(1))
    add(home, ended(2, name="best"))
    assert proposed(f"orch {command} ") == ["latest", id_at(2)[:16], id_at(1)[:16], "best"]
    assert proposed(f"orch {command} b") == ["best"]


def test_a_run_is_told_by_its_status_age_and_source(home: Home) -> None:
    add(home, ended(1, name="best"))
    assert explained("orch show 0") == {id_at(1)[:16]: "best: finished, 60 min ago, wine"}
    assert explained("orch show b") == {"best": "finished, 60 min ago, wine"}


def test_ids_that_begin_alike_are_long_enough(home: Home) -> None:
    twins = [id_at(1)[:20] + end * 12 for end in "ab"]
    for twin in twins:
        add(home, replace(ended(1), run_id=twin))
    assert proposed("orch show 0") == [twin[:21] for twin in reversed(twins)]


def test_only_what_lives_can_be_stopped_or_attached_to(home: Home) -> None:
    me = identify(os.getpid())
    assert me is not None
    add(home, ended(1, name="over"))
    add(home, live(2, replace(me, start=me.start + 1)))  # its supervisor was killed
    add(home, live(3, me))
    assert proposed("orch stop ") == proposed("orch attach ") == [id_at(3)[:16]]
    assert explained("orch stop ") == {id_at(3)[:16]: "running, wine"}
    assert proposed(f"orch stop {id_at(3)[:16]} ") == []
    assert proposed("orch logs -f ")[0] == id_at(3)[:16]
    assert proposed("orch logs ")[0] == "latest"


def test_a_program_whose_supervisor_was_killed_can_be_stopped(home: Home) -> None:
    me = identify(os.getpid())
    assert me is not None
    add(home, live(1, replace(me, start=me.start + 1)))
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "ORCH_RUN_ID": id_at(1)}) as orphan:
        assert explained("orch stop ") == {id_at(1)[:16]: "orphaned, wine"}
        orphan.kill()


def test_get_knows_the_outputs_of_the_run(home: Home) -> None:
    outputs = tuple(Output(path, "f" * 64, 2048, 0o644) for path in ("model.pkl", "plots/a b.png", "$(id).txt", "-rf"))
    add(home, ended(1, outputs=outputs))
    assert explained("orch get latest ") == {"model.pkl": "2.0 KiB", "plots/a b.png": "2.0 KiB"}
    assert proposed("orch get latest model.pkl plots/") == ["plots/a b.png"]


def test_names_that_a_shell_or_terminal_would_obey_are_left_out(home: Home) -> None:
    evil = [
        "$(touch x)",
        "`id`",
        "a;b",
        "a\nb",
        "a\x1b[2Jb",
        "'",
        '"',
        "*",
        "-x",
        "a\\",
        "~",
        "a\tb",
        " a",
        "a|b",
        "!!",
    ]
    for number, name in enumerate([*evil, "plain-1.0", "größe"]):
        add(home, ended(number, name=name))
    found = [word for word in proposed("orch show ") if word != "latest" and not word.startswith("018f")]
    assert found == ["größe", "plain-1.0"]
    assert all(text.isprintable() for text in explained("orch show ").values())


def test_the_fixed_words(home: Home) -> None:
    add(home, ended(1, experiment="tuning"))
    assert proposed("orch run . --experiment-name ") == ["tuning"]
    assert proposed("orch list --experiment-name t") == ["tuning"]
    assert proposed("orch list --status f") == ["finished", "failed"]
    assert proposed("orch list --status r") == ["running", "reproduced"]
    assert proposed("orch run . --platform osx") == ["osx-64", "osx-arm64"]
    assert "win-64" in proposed("orch env lock --platform ")
    assert proposed("orch env export --format c") == ["conda-lock", "channel"]


def test_an_environment_is_a_run_a_lock_or_a_path(home: Home, project: Path) -> None:
    (home.locks / ("ab" * 32)).mkdir()
    (home.locks / "by-source").mkdir(exist_ok=True)
    assert proposed("orch env show ") == ["ab" * 8, "tried/"]
    assert proposed("orch env diff . tried/s") == ["tried/step.py"]


def test_a_bundle_can_be_replayed(home: Home, project: Path) -> None:
    Path("one.zip").touch()
    Path("notes.txt").touch()
    add(home, ended(1))
    assert proposed("orch replay ") == ["latest", id_at(1)[:16], "one.zip", "tried/"]
    assert proposed("orch replay n") == ["notes.txt"]


# --- the project --------------------------------------------------------------------------------------------------


def test_entry_points_and_scripts_of_a_folder(project: Path) -> None:
    assert proposed("orch run tried -e ") == ["main", "other", "step.py"]
    assert proposed("orch run tried --entry-point=o") == ["other"]
    assert explained("orch run tried -e m") == {"main": "alpha=0.5 fast=True data="}


def test_parameters_with_type_and_default_but_for_those_that_are_given(project: Path) -> None:
    assert explained("orch run tried -P ") == {
        "alpha=": "float, default 0.5",
        "fast=": "bool, default True",
        "data=": "path, required",
    }
    assert proposed("orch run tried -P alpha=1 -P ") == ["fast=", "data="]
    assert proposed("orch run tried -e other -P ") == ["beta="]
    assert proposed("orch run -e other tried -P ") == ["beta="]


def test_values_of_a_parameter(project: Path) -> None:
    assert proposed("orch run tried -P alpha=") == ["alpha=0.5"]
    assert proposed("orch run tried -P fast=") == ["fast=True", "fast=False"]
    assert proposed("orch run tried -P data=tried/d") == ["data=tried/data.csv"]


def test_the_project_may_lie_deeper_and_be_named_in_several_ways(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(project.parent)
    for name in (".#tried", "./tried", str(project), project.as_uri()):
        assert proposed(f"orch run {name} -e o") == ["other"], name
    assert proposed(f"orch run {project.parent.as_uri()}#tried -e o") == ["other"]
    monkeypatch.chdir(project)
    assert proposed("orch run . -e o") == ["other"]


def test_a_revision_has_its_own_entry_points(project: Path) -> None:
    commit(project)
    git(project, "tag", "v1")
    git(project, "branch", "trial")
    (project / "MLproject").write_text("entry_points: {fresh: {command: 'true'}}")
    assert sorted(proposed("orch run tried --version ")) == ["main", "trial", "v1"]
    assert proposed("orch run tried -e ") == ["fresh", "step.py"]
    assert proposed("orch run tried --version v1 -e ") == ["main", "other", "step.py"]
    assert proposed("orch run tried --version=gone -e ") == []
    assert proposed(f"orch run {project.as_uri()} -e o") == ["other"]  # of the last commit


def test_of_a_remote_repository_the_mirror_is_asked_and_nobody_else(project: Path, home: Home) -> None:
    from orchestrator.source.mirror import make_mirror

    url = "https://git.example.org/lab/tried.git"
    assert proposed(f"orch run {url} -e ") == []
    assert not list(home.sources.iterdir())
    commit(project)
    mirror = make_mirror(home, url)
    git(mirror, "fetch", "-q", str(project), "+refs/heads/*:refs/heads/*")
    head = subprocess.run(["git", "-C", project, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    (mirror / "orch" / "names").mkdir()
    for name in ("HEAD", "refs%2Fheads%2Fmain"):
        (mirror / "orch" / "names" / name).write_text(head)
    (mirror / "orch" / "asked").touch()
    before = files_below(home.root)
    assert proposed(f"orch run {url} --version ") == ["main"]
    assert proposed(f"orch run {url} --version main -P b") == []
    assert proposed(f"orch run {url} --version main -e ") == ["main", "other", "step.py"]
    assert files_below(home.root) == before


def test_nothing_of_a_project_is_executed_or_read_outside_of_it(project: Path, home: Home) -> None:
    (project / "MLproject").rename(project.parent / "elsewhere")
    (project / "MLproject").symlink_to("../elsewhere")
    assert proposed("orch run tried -e ") == ["step.py"]
    (project / "MLproject").unlink()
    os.mkfifo(project / "MLproject")
    assert proposed("orch run tried -e m") == []
    (project / "MLproject").unlink()
    (project / "MLproject").write_text("entry_points: [")
    assert proposed("orch run tried -e ") == []
    commit(project)
    git(project, "config", "core.fsmonitor", "touch was-run; true")
    git(project, "config", "core.pager", "touch was-run; true")
    assert proposed("orch run tried --version ") == ["main"]
    assert not (project / "was-run").exists()


def test_a_wrong_line_or_an_eager_option_prints_nothing(home: Home) -> None:
    assert proposed("orch run --bogus x") == []
    assert "orch 0" not in " ".join(proposed("orch --version "))
    assert "replay" in proposed("orch --version ")


@pytest.mark.parametrize("line", ["orch show zz", "orch run tried -e zz", "orch run tried --version zz", "orch stop "])
def test_where_nothing_fits_that_can_be_no_file_the_shell_is_told(project: Path, line: str) -> None:
    assert answered(line) == {line.rpartition(" ")[2]: "NOTHING"}


@pytest.mark.parametrize("line", ["orch replay zz", "orch run zz", "orch env show zz", "orch run tried -P zz"])
def test_what_may_be_a_file_is_left_to_the_shell(project: Path, line: str) -> None:
    assert answered(line) == {}


# --- nothing to go by ---------------------------------------------------------------------------------------------

LINES = ["orch show ", "orch stop ", "orch get latest ", "orch list --experiment-name ", "orch env show x"]


@pytest.mark.parametrize("line", [*LINES, "orch run https://git.example.org/x -e ", "orch run nowhere -P "])
def test_without_a_home_there_is_nothing_and_none_is_made(tmp_path: Path, line: str) -> None:
    gone = tmp_path / "gone"
    assert proposed(line, ORCH_HOME=str(gone)) == []
    assert not gone.exists()


def test_a_damaged_older_or_strange_ledger_is_left_alone(home: Home) -> None:
    home.ledger.write_bytes(b"no ledger" * 1000)
    assert all(proposed(line) == [] for line in LINES)
    home.ledger.unlink()
    assert all(proposed(line) == [] for line in LINES)
    assert not home.ledger.exists()
    add(home, ended(1))
    with sqlite3.connect(home.ledger) as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    assert proposed("orch show ") == []


def test_a_ledger_that_is_being_written_is_read_and_a_locked_one_not_waited_for(home: Home) -> None:
    add(home, ended(1))
    writer = sqlite3.connect(home.ledger, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE runs SET name = 'later'")
    assert proposed("orch show ") == ["latest", id_at(1)[:16]]
    writer.execute("ROLLBACK")
    writer.execute("PRAGMA journal_mode = DELETE")
    writer.execute("BEGIN EXCLUSIVE")
    begin = time.monotonic()
    assert proposed("orch show ") == []
    assert time.monotonic() - begin < 5
    writer.close()


def test_asking_changes_nothing_in_the_home(home: Home) -> None:
    add(home, ended(1))
    before = files_below(home.root)
    assert all(isinstance(proposed(line), list) for line in LINES)
    assert files_below(home.root) == before


@pytest.mark.parametrize("count", [10_000])
def test_many_runs_are_no_wait(home: Home, count: int) -> None:
    fill(home, count)
    assert len(proposed("orch show ")) == 101  # latest, fifty ids, fifty names
    assert len(proposed("orch show 018")) == 50
    times = [elapsed(lambda: proposed("orch show 018")) for _ in range(5)]
    assert min(times) < 0.6  # 0.09 s on an idle machine


def elapsed(action: Callable[[], object]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin
