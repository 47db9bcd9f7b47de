"""`orch log`: programs without a library of any language say what they have to say of their run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import CONDA_YAML, mlproject, orch

SCRIPT = """\
set -e
orch log metric loss 0.5
orch log metric loss -0.25 --step 3
orch log metric worst nan
orch log param depth 7
orch log param "of two words" "a b"
orch log tag stage trial
mkdir -p made/deeper
echo one > made/one.txt
echo two > made/deeper/two.txt
orch log artifact made
orch log artifact made/one.txt --as notes/first.txt
cd made
PATH=/usr/bin "$ORCH_EXE" log metric cut 1
env -i ORCH_EVENTS="$ORCH_EVENTS" "$ORCH_EXE" log metric bare 2
"$ORCH_EXE" log metric 2>&1 | head -1 > ../usage
env -u ORCH_EVENTS orch log metric lost 1 2>../refused || echo "exit $?" >> ../refused
orch log metric loss many 2>>../refused || echo "exit $?" >> ../refused
orch log artifact ../made/one.txt --as ../outside 2>>../refused || echo "exit $?" >> ../refused
"""


def test_a_script_logs_metrics_parameters_tags_and_files(
    orch_home: Path, make_project: Callable[..., Path], tmp_path: Path
) -> None:
    files = {"MLproject": mlproject("bash log.sh"), "conda.yaml": CONDA_YAML, "log.sh": SCRIPT}
    record = json.loads(orch("run", make_project(files), "--json").stdout)
    assert record["metrics"] == {"bare": 2, "cut": 1, "loss": -0.25, "worst": "NaN"}
    assert record["params"] == {"depth": "7", "of two words": "a b"}
    assert record["tags"] == {"stage": "trial"}
    assert record["notes"] == []

    orch("get", record["run_id"], "-o", tmp_path / "out")
    artifacts = tmp_path / "out" / "artifacts"
    found = {str(path.relative_to(artifacts)): path.read_text() for path in artifacts.rglob("*") if path.is_file()}
    assert found == {"made/one.txt": "one\n", "made/deeper/two.txt": "two\n", "notes/first.txt": "one\n"}
    assert (tmp_path / "out" / "usage").read_text() == "Usage: orch log metric [OPTIONS] {NAME} {VALUE}\n"
    assert (tmp_path / "out" / "refused").read_text().splitlines() == [
        "orch: orch log is for the program of a run, and $ORCH_EVENTS is not set: it runs in none.",
        "exit 2",
        "orch: the value of a metric is a number, as 0.8 or 1e-3 or nan, not 'many'.",
        "exit 2",
        "orch: --as takes a path below the run's artifacts, not '../outside'.",
        "exit 2",
    ]


@pytest.mark.parametrize("what", [("metric", "loss", "1"), ("param", "a", "1"), ("tag", "a", "1"), ("artifact", ".")])
def test_outside_of_a_run_nothing_is_logged(cold_home: Path, what: tuple[str, ...]) -> None:
    done = orch("log", *what, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("orch: orch log is for the program of a run, and $ORCH_")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def artifacts(tmp_path: Path, cold_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run's artifacts, as a program finds it, beside the folder where it works."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("ORCH_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "artifacts"


def below(folder: Path) -> dict[str, str]:
    """The text of each file, and where each link leads."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in paths
    }


def test_what_is_logged_again_takes_the_place_of_what_was(artifacts: Path) -> None:
    made = artifacts.parent / "work" / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "a.txt").write_text("one")
    (made / "last").symlink_to("deep/a.txt")
    (made / "deep" / "a.txt").chmod(0o440)
    orch("log", "artifact", "made")
    orch("log", "artifact", "made/deep/a.txt")
    (made / "deep" / "a.txt").unlink()
    (made / "deep" / "a.txt").write_text("two")
    (made / "b.txt").write_text("b")
    (made / "last").unlink()
    (made / "last").symlink_to("b.txt")
    orch("log", "artifact", "made")
    orch("log", "artifact", "made/deep/a.txt")
    orch("log", "artifact", artifacts / "a.txt")  # in its own place
    assert below(artifacts) == {"made/deep/a.txt": "two", "made/b.txt": "b", "made/last": "-> b.txt", "a.txt": "two"}


def test_nothing_is_written_through_a_link(artifacts: Path) -> None:
    work = artifacts.parent / "work"
    outside = artifacts.parent / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    (work / "a.txt").write_text("new")
    (work / "folder").mkdir()
    (work / "folder" / "a.txt").write_text("new")
    (artifacts / "a.txt").symlink_to(outside / "kept.txt")
    (artifacts / "folder").symlink_to(outside)
    (work / "through").symlink_to("a.txt")

    orch("log", "artifact", "a.txt")
    orch("log", "artifact", "through", "--as", "followed.txt")
    for what in (("folder",), ("a.txt", "--as", "folder/x.txt")):
        done = orch("log", "artifact", *what, code=125)
        assert "is a link, and nothing is written through one." in " ".join(done.stderr.split())
    assert below(artifacts) == {"a.txt": "new", "followed.txt": "new", "folder": f"-> {outside}"}
    assert below(outside) == {"kept.txt": "kept"}


def test_what_can_be_no_artifact_is_refused_and_nothing_is_left(artifacts: Path) -> None:
    work = artifacts.parent / "work"
    os.mkfifo(work / "pipe")
    (work / "a.txt").write_text("a")
    (artifacts / "folder").mkdir()
    for what, code, said in (
        (("pipe",), 125, "is no regular file."),
        (("gone",), 2, "Path 'gone' does not exist."),
        (("a.txt", "--as", "folder"), 125, "Is a directory."),
        (("..",), 2, "holds the run's artifacts: name what is to be one."),
    ):
        done = orch("log", "artifact", *what, code=code)
        assert " ".join(done.stderr.split()).endswith(said), done.stderr
    assert below(artifacts) == {}


def test_an_events_file_that_is_gone_is_told(cold_home: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "events.jsonl"
    done = orch("log", "metric", "loss", "1", code=125, env={"ORCH_EVENTS": str(gone)})
    assert done.stderr == f"orch: the events file {gone} can't be written: No such file or directory.\n"
