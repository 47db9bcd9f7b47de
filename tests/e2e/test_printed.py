"""What every command prints, and where: results on stdout, progress only on a terminal, JSON for scripts."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import termios
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import CONDA_FORGE, CONDA_YAML, ORCH, mlproject, orch

SCRIPT = """echo '{"metric": "rmse", "value": 0.8}' >>$ORCH_EVENTS; echo $1 >result.txt; echo said"""
LOCKING = ["--platform", "linux-64", "--virtual-package", "__glibc=2.39"]
NAMED = "a-name-that-is-long-enough-to-fill-half-a-line"


@dataclass(frozen=True)
class Scene:
    """A home that has two runs and a replay, made once for all tests here; each test gets a fresh `scratch`."""

    home: Path
    project: Path
    bundle: Path
    scratch: Path

    @property
    def locked(self) -> Path:
        return self.project.with_name("locked")

    def words(self, command: str) -> list[str]:
        return [
            word.format(project=self.project, locked=self.locked, bundle=self.bundle, out=self.scratch)
            for word in command.split()
        ]

    @property
    def environ(self) -> dict[str, str]:
        return {"ORCH_HOME": str(self.home)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, warm: Path, channel: Path) -> Scene:
    root = tmp_path_factory.mktemp("printed")
    scene = Scene(root / "home", root / "project", root / "run.zip", root)
    scene.home.mkdir(mode=0o700)
    shutil.copytree(warm / "locks", scene.home / "locks")
    paths = "".join(f'{name} = "{warm / name}"\n' for name in ("envs", "cache"))
    (scene.home / "config.toml").write_text(f'[mirrors]\n"{CONDA_FORGE}" = ["{channel.as_uri()}"]\n[paths]\n{paths}')
    scene.project.mkdir()
    (scene.project / "MLproject").write_text(mlproject("bash go.sh {alpha}", "alpha: {type: float, default: 1}"))
    (scene.project / "go.sh").write_text(SCRIPT)
    (scene.project / "conda.yaml").write_text(CONDA_YAML)
    shutil.copytree(scene.project, scene.locked)
    for words in (
        ["run", scene.project, "--run-name", "one"],
        ["run", scene.project, "-P", "alpha=2", "--run-name", NAMED],
        ["replay", "one"],
        ["bundle", "create", "one", "-o", scene.bundle],
        ["env", "lock", scene.locked, *LOCKING],
    ):
        orch(*words, env=scene.environ)
    return scene


@pytest.fixture
def scene(made: Scene, tmp_path: Path) -> Scene:
    return Scene(made.home, made.project, made.bundle, tmp_path)


FACTS = [
    "list",
    "show",
    "ps",
    f"diff one {NAMED}",
    "doctor --offline",
    "replay --compare latest",
    "env list",
    "env show latest",
    "env diff one latest",
    "env search six",
    "env prune --dry-run",
    "env lock --check {locked}",
    "bundle verify {bundle}",
    "ledger rebuild",
]
"""They look at something, and change nothing."""

SILENT = ("list", "show", "ps", "doctor", "env list", "ledger rebuild")
"""They have no progress to tell, and no --quiet."""

DOING = [
    "run {project} --cached",
    "run -d {project} --cached",
    "replay one",
    "env lock {project} -o {out}/conda-lock.yml " + " ".join(LOCKING),
    "bundle create one -o {out}/run.zip",
    "bundle import {bundle}",
    "get latest -o {out}",
    "stop one",
]

WITHOUT_JSON = ["logs", "attach one", "env export latest", "env exec {project} -- true"]

RUNNING = ["run {project}", "replay one", "env exec {project} -- true"]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

FAILING = [
    "show nope",
    "diff one nope",
    "run {out}/nowhere",
    "run -d {out}/nowhere",
    "replay nope",
    "replay --compare nope",
    "env show nope",
    "env diff one nope",
    "env search no-package-has-this-name",
    "env lock {out}/nowhere",
    "env lock --check {out}/nowhere",
    "bundle create nope -o {out}/run.zip",
    "bundle verify {out}/nowhere.zip",
    "bundle import {out}/nowhere.zip",
    "get nope",
    "stop nope",
    "rm nope",
]


def on_terminal(scene: Scene, command: str, columns: int, **variables: str) -> str:
    """What a terminal of so many columns gets of a command."""
    return pseudo_terminal(scene, [ORCH, *scene.words(command)], columns, **variables)


def pseudo_terminal(scene: Scene, words: list[str | Path], columns: int, **variables: str) -> str:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    environ = {"TERM": "xterm", **os.environ, **scene.environ, "COLUMNS": "", **variables}
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environ)
    os.close(slave)
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(master, 65536) or b"")
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    process.wait(60)
    reader.join()
    os.close(master)
    return shown.decode().replace("\r\n", "\n")


def plain(shown: str) -> list[str]:
    return COLOUR.sub("", shown).splitlines()


@pytest.mark.parametrize("command", [*FACTS, *DOING, *WITHOUT_JSON])
def test_a_pipe_gets_nothing_that_is_for_terminals(scene: Scene, command: str) -> None:
    done = orch(*scene.words(command), code=None, env=scene.environ)
    assert done.returncode in (0, 1)
    assert not re.search(r"[\x1b\r]|…", done.stdout + done.stderr)
    assert "orch: " not in done.stderr


@pytest.mark.parametrize("command", [*FACTS, *DOING])
def test_with_json_stdout_is_one_document_and_quiet_leaves_nothing_else(scene: Scene, command: str) -> None:
    quiet = [] if command.startswith(SILENT) else ["--quiet"]
    done = orch(*scene.words(command), "--json", *quiet, code=None, env=scene.environ)
    assert done.returncode in (0, 1)
    assert done.stderr == ""
    json.loads(done.stdout)
    assert done.stdout.endswith("\n")


@pytest.mark.parametrize("command", FAILING)
def test_an_error_is_one_sentence_on_stderr_and_nothing_on_stdout_also_with_json(scene: Scene, command: str) -> None:
    done = orch(*scene.words(command), "--json", code=None, env=scene.environ)
    assert done.returncode in (125, 2)
    assert done.stdout == ""
    assert [line.startswith("orch: ") for line in done.stderr.splitlines()].count(True) == 1
    assert os.listdir(scene.scratch) == []


@pytest.mark.parametrize("command", ["list", "ps", "env list", "env show latest", "env search six -q"])
def test_tables_fit_a_narrow_terminal_and_use_a_wide_one(scene: Scene, command: str) -> None:
    whole = orch(*scene.words(command), env=scene.environ).stdout.splitlines()
    narrow, wide = (plain(on_terminal(scene, command, columns)) for columns in (80, max(map(len, whole)) + 8))
    assert max(map(len, narrow)) <= 80
    assert [line.split() for line in wide[:1]] == [line.split() for line in whole[:1]]
    assert abs(max(map(len, wide)) - max(map(len, whole))) < 8  # a time may have grown by a digit
    assert not any("…" in line for line in [*wide, *whole])


def test_a_long_name_hides_no_status(scene: Scene) -> None:
    shown = plain(on_terminal(scene, "list", 80))
    assert any(re.search(r" a-name-[a-z-]+…  finished", line) for line in shown), shown


def test_a_narrow_list_has_what_runs_were_for_and_says_what_it_left_out(scene: Scene) -> None:
    *_, one, said = plain(on_terminal(scene, "list", 80))
    assert re.match(r"[0-9a-f]{16}  one +finished .* rmse=0.8 +alpha=1$", one), one
    assert re.fullmatch(r"no room for .*TOOK.*, commits \(--json or `\| cat` shows all\)", said), said
    assert "reproduced" in "".join(plain(on_terminal(scene, "list", 80)))
    assert "no room" not in on_terminal(scene, "list", 250)
    assert "no room" not in orch("list", env=scene.environ).stdout


def test_a_list_of_what_came_out_again(scene: Scene) -> None:
    lines = orch("list", "--status", "reproduced", env=scene.environ).stdout.splitlines()
    assert lines
    assert all(" reproduced " in line for line in lines[1:])
    wrong = orch("list", "--status", "differ", code=2, env=scene.environ).stderr
    assert wrong.rstrip().endswith("reproduced, differs, not 'differ'.")


def test_a_long_path_stands_alone_and_other_lines_go_on_below_their_value(scene: Scene) -> None:
    shown = plain(on_terminal(scene, "show one", 70))
    assert shown[shown.index("lock") + 1].endswith("/conda-lock.yml")
    assert all(len(line) <= 70 or " " not in line.strip() for line in shown)


def test_what_is_told_is_not_cut_by_a_dumb_terminal(scene: Scene) -> None:
    lines = on_terminal(scene, "top", 60, TERM="dumb").splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60


def test_the_advice_of_doctor_fits_the_terminal_behind_a_pipe(scene: Scene) -> None:
    (scene.scratch / "go.sh").write_text(f"{ORCH} doctor --offline | cat\n")
    shown = pseudo_terminal(scene, ["bash", str(scene.scratch / "go.sh")], 60).splitlines()
    advice = [line for line in shown if line.startswith(" ")]
    assert all(len(line) <= 60 or " " not in line.strip() for line in advice)


def test_runs_of_one_name_are_told_apart(scene: Scene) -> None:
    for value in ("3", "4"):
        orch("run", scene.project, "-P", f"alpha={value}", "--run-name", "twice", env=scene.environ)
    error = orch("show", "twice", code=125, env=scene.environ).stderr
    assert re.search(r"several runs are named 'twice': \w{16} \(finished, \d+ s ago, alpha=4\), \w{16} \(", error)
    for run in json.loads(orch("list", "--json", env=scene.environ).stdout):
        if run["name"] == "twice":
            orch("rm", run["run_id"], env=scene.environ)


@pytest.mark.parametrize("command", [*FACTS, *RUNNING])
def test_a_dumb_terminal_gets_text_and_nothing_to_obey(scene: Scene, command: str) -> None:
    assert "\x1b" not in on_terminal(scene, command, 100, TERM="dumb")


@pytest.mark.parametrize("command", ["list", "doctor --offline", "replay --compare latest", *RUNNING])
def test_colours_are_for_terminals_whose_user_wants_them(scene: Scene, command: str) -> None:
    assert COLOUR.search(on_terminal(scene, command, 100)) or command.startswith(("replay --compare", "env exec"))
    assert not COLOUR.search(on_terminal(scene, command, 100, NO_COLOR="1"))
