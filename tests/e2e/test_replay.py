"""`orch replay`: the same run again, compared output by output."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import CONDA_YAML, ORCH, git, mlproject, orch, orch_json

Make = Callable[..., Path]


@pytest.fixture
def make(make_project: Make, orch_home: Path) -> Callable[..., Path]:
    """A function that makes a project of one Python program."""

    def project(program: str, parameters: str = "", **more: str) -> Path:
        command = "python main.py" + "".join(f" {{{line.partition(':')[0]}}}" for line in parameters.splitlines())
        files = {"MLproject": mlproject(command, parameters), "conda.yaml": CONDA_YAML, "main.py": program}
        return make_project(files | more)

    return project


def replayed(run: dict[str, Any], *options: str, code: int = 0) -> dict[str, Any]:
    """The record of a replay."""
    return json.loads(orch("replay", run["run_id"], "--json", *options, code=code).stdout)  # type: ignore[no-any-return]


def results(record: dict[str, Any]) -> dict[str, str]:
    return {item["path"]: item["result"] for item in record["verdict"]["outputs"]}


def test_a_deterministic_run_is_reproduced(make: Make) -> None:
    folder = make("import sys\nopen('sum.txt', 'w').write(str(float(sys.argv[1]) * 2))\n", "alpha: float")
    run = orch_json("run", folder, "-P", "alpha=5.1", "-q")
    shutil.rmtree(folder)  # orch has the commit

    record = replayed(run)
    assert record["replay_of"] == run["run_id"]
    assert record["spec_id"] == run["spec_id"]
    assert record["verdict"]["result"] == "reproduced"
    assert results(record) == {"sum.txt": "identical"}
    assert record["params"] == {"alpha": "5.1"}
    said = orch("replay", run["run_id"]).stdout
    assert "reproduced: run " in said
    assert "1 output identical" in said
    assert "reproduced" in orch("list").stdout
    assert "reproduced" in orch("show", "latest").stdout
    again = json.loads(orch("show", "latest", "--json").stdout)
    assert again["verdict"]["result"] == "reproduced"


def test_the_verdict_survives_a_rebuild_of_the_ledger(make: Make, orch_home: Path) -> None:
    run = orch_json("run", make("open('x', 'w').write('1')\n"), "-q")
    record = replayed(run)
    orch("ledger", "rebuild")
    assert json.loads(orch("show", record["run_id"], "--json").stdout) == record


def test_a_clock_in_an_output_differs_and_the_place_is_told(make: Make) -> None:
    program = "import time, json\njson.dump({'same': 1, 'when': time.time()}, open('out.json', 'w'))\n"
    run = orch_json("run", make(program), "-q")
    record = replayed(run, code=1)
    (output,) = record["verdict"]["outputs"]
    assert (output["result"], output["place"]) == ("different", "/when")
    said = orch("replay", run["run_id"], code=1).stdout
    assert "differs: run " in said
    assert "  different   out.json\n              first at /when: " in said
    assert "largest error " in said


def test_repeating_tells_chance_from_a_real_difference(make: Make) -> None:
    run = orch_json("run", make("import os\nopen('x.txt', 'w').write(os.urandom(4).hex())\n"), "-q")
    said = orch("replay", run["run_id"], "--repeat", "3", code=1).stdout
    assert "x.txt: not the same in 3 replays, so the program itself is not deterministic." in said


def test_a_real_difference_is_told_from_chance(make: Make, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("then")
    run = orch_json("run", make(f"open('x.txt', 'w').write(open({str(outside)!r}).read())\n"), "-q")
    outside.write_text("now")
    said = orch("replay", run["run_id"], "--repeat", "2", code=1).stdout
    assert "the 2 replays agree with each other and not with the record: a real difference." in said


def test_one_that_comes_out_right_after_one_that_did_not_is_no_success(make: Make, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    program = (
        f"from pathlib import Path\nplace = Path({str(counter)!r})\nnumber = int(place.read_text())\n"
        "place.write_text(str(number + 1))\nPath('a.txt').write_text(str(number % 2))\n"
    )
    run = orch_json("run", make(program), "-q")
    done = orch("replay", run["run_id"], "--repeat", "3", code=1)
    assert "differs: run " in done.stdout
    assert "a.txt: not the same in 3 replays" in done.stdout


def test_a_replay_of_a_replay_is_one_of_the_original(make: Make, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("then")
    run = orch_json("run", make(f"open('x.txt', 'w').write(open({str(outside)!r}).read())\n"), "-q")
    outside.write_text("now")
    for _ in range(2):
        record = json.loads(orch("replay", "--json", code=1).stdout)
        assert record["replay_of"] == run["run_id"]


def test_a_run_with_nothing_to_compare_says_so(make: Make) -> None:
    orch("run", make("print(1)\n"), "-q")
    assert "there are no outputs and no metrics: only the exit code was compared" in orch("replay").stdout


def test_what_the_project_declares_wrongly_does_not_keep_it_from_being_replayed(make: Make) -> None:
    folder = make("open('a.txt', 'w').write('1')\n")
    with (folder / "MLproject").open("a") as file:
        file.write("outputs:\n  a.txt: {tolerence: 1e-6}\n")
    run = orch_json("run", folder, "-q")
    record = replayed(run)
    assert any("what the project declares for its outputs and metrics has no say" in note for note in record["notes"])


def test_only_what_was_not_recorded_is_given_again(make: Make) -> None:
    run = orch_json("run", make("open('a.txt', 'w').write('1')\n"), "-q")
    for option in (("-P", "alpha=6"), ("--env", "FOO=1")):
        assert "has the recorded values" in orch("replay", run["run_id"], *option, code=2).stderr


def test_a_replay_that_is_stopped_has_no_verdict(make: Make) -> None:
    program = "import time\nopen('x', 'w').write('1')\ntime.sleep(3)\n"
    run = orch_json("run", make(program), "-q")
    with subprocess.Popen(
        [ORCH, "replay", run["run_id"], "--repeat", "3"], stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not orch_json("list", "--status", "running") and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 125
    assert "the replay was stopped" in said
    assert [row["status"] for row in orch_json("list")] == ["stopped", "finished"]


def test_what_a_rule_calls_equivalent_is_not_said_to_vary(make: Make) -> None:
    run = orch_json("run", make("import os\nopen('id.txt', 'w').write(os.environ['ORCH_RUN_ID'])\n"), "-q")
    assert results(replayed(run)) == {"id.txt": "equivalent"}
    assert "varies" not in orch("list").stdout
    assert "own-run-id-1" in orch("show").stdout


def test_the_ledger_knows_what_varies_without_running_anything(make: Make) -> None:
    folder = make("import os\nopen('x.txt', 'w').write(os.urandom(4).hex())\nopen('same.txt', 'w').write('1')\n")
    orch("run", folder, "-q")
    assert "varies" not in orch("list").stdout
    orch("run", folder, "-q")
    assert orch("list").stdout.count("finished, varies") == 2
    assert "not deterministic: runs of this spec have different x.txt\n" in orch("show").stdout


def test_a_tolerance_makes_numbers_equivalent_and_is_recorded(make: Make) -> None:
    program = "import time\nopen('n.txt', 'w').write(f'error {1 + time.time() % 1 * 1e-9:.15f}')\n"
    run = orch_json("run", make(program), "-q")
    assert results(replayed(run, code=1)) == {"n.txt": "different"}
    record = replayed(run, "-t", "1e-6")
    assert results(record) == {"n.txt": "equivalent"}
    orch("replay", run["run_id"], "-t", "nonsense=", code=2)


def test_the_project_declares_what_may_differ(make: Make) -> None:
    program = "import time, json\njson.dump({'same': 1, 'when': time.time()}, open('out.json', 'w'))\n"
    folder = make(program)
    with (folder / "MLproject").open("a") as file:
        file.write("outputs:\n  out.json: {ignore: [when]}\n")
    run = orch_json("run", folder, "-q")
    record = replayed(run)
    (output,) = record["verdict"]["outputs"]
    assert output["result"] == "equivalent"
    assert "when" in output["rules"][0]


def test_an_input_that_changed_is_refused_with_both_hashes(make: Make, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1,2\n")
    folder = make("print(open('inputs/data.csv').read())\n")
    run = orch_json("run", folder, "--input", data, "-q")
    assert replayed(run)["verdict"]["result"] == "reproduced"
    (recorded,) = run["spec"]["inputs"]
    data.rename(tmp_path / "moved.csv")
    assert "data.csv" in orch("replay", run["run_id"], code=125).stderr
    record = replayed(run, "--input", f"{tmp_path / 'moved.csv'}=inputs/data.csv")
    assert record["verdict"]["result"] == "reproduced"
    data.write_text("1,3\n")
    said = orch("replay", run["run_id"], code=125).stderr
    assert "has changed: sha256" in said
    assert recorded["sha256"] in said
    assert (
        "no input at inputs/other" in orch("replay", run["run_id"], "--input", f"{data}=inputs/other", code=125).stderr
    )


def test_uncommitted_work_is_replayed_as_it_was(make: Make) -> None:
    folder = make("open('x', 'w').write('committed')\n")
    (folder / "main.py").write_text("open('x', 'w').write('not committed')\n")
    run = orch_json("run", folder, "-q")
    assert run["spec"]["source"]["dirty"]
    git(folder, "checkout", "-q", ".")
    record = replayed(run)
    assert record["verdict"]["result"] == "reproduced"


def test_a_program_that_failed_fails_again(make: Make) -> None:
    run = orch_json("run", make("import sys\nsys.exit(3)\n"), "-q", code=3)
    record = replayed(run)
    assert record["verdict"]["exit_code"] == [3, 3]


def test_a_secret_is_asked_for_again(make: Make) -> None:
    folder = make("import sys\nopen('n', 'w').write(str(len(sys.argv[1])))\n", "api_key: string")
    run = orch_json("run", folder, "-P", "api_key=s3cret", "-q")
    assert "give it again with -P api_key=VALUE" in orch("replay", run["run_id"], code=125).stderr
    assert replayed(run, "-P", "api_key=s3cret")["verdict"]["result"] == "reproduced"
    assert replayed(run, "-P", "api_key=other!!", code=1)["verdict"]["result"] == "differs"


def test_a_run_of_another_platform_needs_a_lock_for_this_one(make: Make, orch_home: Path) -> None:
    run = orch_json("run", make("open('x', 'w').write('1')\n"), "-q")
    journal = orch_home / "runs" / run["run_id"] / "journal.jsonl"
    text = journal.read_text()
    journal.write_text(text.replace('"platform":"linux-64"', '"platform":"osx-arm64"'))
    said = orch("replay", run["run_id"], code=125).stderr
    assert "recorded on osx-arm64 and is locked for osx-arm64; this machine is linux-64" in said


def test_what_did_not_end_can_not_be_replayed(make: Make) -> None:
    assert "no run" in orch("replay", "abcdef12", code=125).stderr
    folder = make("import time\nopen('begun', 'w')\ntime.sleep(60)\n")
    with subprocess.Popen([ORCH, "run", folder, "-q"]) as process:
        deadline = time.monotonic() + 60
        while not (running := orch_json("list", "--status", "running")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "is running" in orch("replay", running[0]["run_id"], code=125).stderr
        process.send_signal(signal.SIGTERM)
    assert "is stopped" in orch("replay", running[0]["run_id"], code=125).stderr


def test_a_replay_that_is_killed_leaves_the_original_to_be_replayed_again(make: Make) -> None:
    program = "import os, time\nopen('x', 'w').write('1')\ntime.sleep(float(os.environ.get('WAIT', '0')))\n"
    run = orch_json("run", make(program), "-q", "--env", "WAIT=3")
    with subprocess.Popen([ORCH, "replay", run["run_id"], "-q"]) as process:
        deadline = time.monotonic() + 60
        while not orch_json("list", "--status", "running") and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
    assert process.returncode != 0
    assert replayed(run)["verdict"]["result"] == "reproduced"
